//! Shows `midge serve` to clients and bytes from elsewhere.
//!
//! * [`malformed`]: what is no MQTT ends its own connection, says why, and costs nobody else anything.
//! * [`clients`]: clients that nobody here wrote work with a server that nobody configured.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "interop/served.rs"]
mod served;

#[path = "interop/clients.rs"]
mod clients;
#[path = "interop/malformed.rs"]
mod malformed;
