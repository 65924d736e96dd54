//! Bytes as conversations with a server.
//!
//! The body is in `bodies/engine.rs`, which the tests of `crates/broker` run too.

#![no_main]

#[path = "../bodies/engine.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
