//! Decides who gets a message; no I/O, no clock, no threads.
//!
//! Time is an argument, randomness too: the same inputs give the same outputs.
//! [`tree`] finds the subscriptions that a topic name matches, [`retained`] the retained messages that a topic filter matches.
//! Both bound what one call can cost, and neither has a worst case that a client can choose.

pub mod hash;
pub mod retained;
mod slab;
mod sorted;
mod table;
pub mod tree;
