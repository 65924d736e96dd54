//! The C types of `include/mosquitto_abi.h`, as bindgen reads them.
//!
//! Nothing here is called or dereferenced; that is for `host`, `border`, `events` and `legacy`.

#![allow(
    non_camel_case_types,
    non_upper_case_globals,
    unused,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/mosquitto_abi.rs"));
