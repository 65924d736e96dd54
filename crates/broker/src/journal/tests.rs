//! Tests of the journal: what it promises, and what ends the world.

mod bounds;
mod codec;
mod crash;
mod damage;
mod samples;
mod sim;
