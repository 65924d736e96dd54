//! Serves MQTT: sockets, files and threads around the engine.
//!
//! [`config`] is all that can be set, [`control`] how the command changes the store of a server that runs,
//! [`mind`] who is let in and what they may, [`journal`] what survives a crash,
//! [`server`] the event loops that carry bytes between sockets and the engine.

pub mod config;
pub mod control;
pub mod journal;
pub mod mind;
pub mod server;
