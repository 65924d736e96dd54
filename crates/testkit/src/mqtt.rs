//! A small MQTT client for tests that need exact packets.
//!
//! Shares nothing with the codec under test, so that both can't be wrong in the same way.

pub(crate) mod client;
pub(crate) mod packet;
