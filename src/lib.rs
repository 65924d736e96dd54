//! Midge inside a Mosquitto that people already run.
//!
//! One shared library for Mosquitto 1.5 to 2.1. It decides nothing itself: `midge-core` does, from what `midge-store` reads.
//! What crosses the C border is in `abi`, `host`, `border`, `events` and `legacy`, the only files with `unsafe`;
//! everything else is ordinary Rust. `docs/SAFETY.md` says who guarantees what.

#[cfg(panic = "abort")]
compile_error!("the guard around every C entry needs panic = \"unwind\"");

mod abi;
mod border;
mod events;
mod host;
mod legacy;
mod logger;
mod options;
mod plugin;
