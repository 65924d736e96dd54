//! Bytes as packets.
//!
//! The body is in `bodies/decode.rs`, which the tests of `crates/broker` run too.

#![no_main]

#[path = "../bodies/decode.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
