//! Bytes as stored passwords.
//!
//! The body is in `bodies/password.rs`, which the tests of `crates/broker` run too.

#![no_main]

#[path = "../bodies/password.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
