//! Holds the journal to what it promises.

mod bounds;
mod codec;
mod crash;
mod damage;
mod samples;
mod sim;
