//! Decides who a client is and what it may do.
//!
//! No I/O, no threads, no clock: time is an argument ([`time::Now`]), records come from `midge-store`, answers are values.
//! Both bodies, the Mosquitto plugin and the broker, call the same [`gate::Gate`]; nothing else decides.

pub mod access;
pub mod certificate;
pub mod entry;
pub mod jwt;
pub mod key;
pub mod name;
pub mod password;
pub mod scram;
pub mod time;
pub mod topic;
