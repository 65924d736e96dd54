//! Runs the fuzz bodies over kept inputs and random ones.
//!
//! The targets themselves are in `fuzz/`; each input that ever found a fault is kept in `fuzz/corpus`.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/bodies/decode.rs"]
mod decode;
#[path = "../../../fuzz/bodies/engine.rs"]
mod engine;
#[path = "../../../fuzz/bodies/filter.rs"]
mod filter;
#[path = "../../../fuzz/bodies/password.rs"]
mod password;
#[path = "../../../fuzz/bodies/seed.rs"]
mod seed;

/// Returns the kept inputs of a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!inputs.is_empty(), "no kept inputs of {target}");
    inputs
}

/// Runs the kept inputs, each also cut at every place and with each byte changed.
fn check(target: &str, run: fn(&[u8])) {
    for input in kept(target) {
        run(&input);
        for at in 0..input.len() {
            run(&input[..at]);
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = input.clone();
                changed[at] ^= flip;
                run(&changed);
            }
        }
    }
}

#[test]
fn kept_inputs() {
    check("decode", decode::run);
    check("engine", engine::run);
    check("filter", filter::run);
    check("password", password::run);
}

/// The wire vectors are the seeds of `decode`.
#[test]
fn wire_vectors() {
    for vector in midge_mqtt::vectors::all() {
        let input = seed::of(&vector);
        // Some rows have 64 KiB and more: the places of those that matter are at their beginning.
        decode::run(&input);
        for at in 0..input.len().min(64) {
            decode::run(&input[..at]);
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = input.clone();
                changed[at] ^= flip;
                decode::run(&changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_inputs(bytes in vec(any::<u8>(), 0..300), text in "[a-c/+#$\\n]{0,40}") {
        decode::run(&bytes);
        engine::run(&bytes);
        filter::run(text.as_bytes());
        password::run(text.as_bytes());
    }
}
