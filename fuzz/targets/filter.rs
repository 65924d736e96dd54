//! Bytes as topic names and filters.
//!
//! The body is in `bodies/filter.rs`, which the tests of `crates/broker` run too.

#![no_main]

#[path = "../bodies/filter.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
