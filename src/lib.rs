//! Midge inside a Mosquitto that people already run.
//!
//! One shared library for Mosquitto 1.5 to 2.1. It decides nothing itself: `midge-core` does, from what `midge-store` reads.
//! What crosses the C border is in `abi`, `host`, `border`, `events` and `legacy`, the only files with `unsafe`;
//! everything else is ordinary Rust. `docs/SAFETY.md` says who guarantees what.

#[cfg(panic = "abort")]
compile_error!("the guard around every C entry needs panic = \"unwind\"");

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "32-bit systems are not supported: the layout of Mosquitto's tick depends there on the size that its builder chose for times"
);

mod abi;
mod border;
mod events;
mod host;
mod legacy;
mod logger;
mod options;
mod plugin;
