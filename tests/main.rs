//! The whole system, in one binary.
//!
//! Its modules stand below, each with a reason.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on panics"
)]

/// Rights from several places, and the broker's own doings.
mod access;
/// Clients that never subscribe.
mod autosub;
/// A store that fails over, freezes, or is away while a broker restarts.
mod away;
/// What Redis may hold that makes no sense.
mod bad_input;
/// What C may do at the border.
mod border;
/// Clients that come, go and change places.
mod churn;
/// The compose file: the whole stack in containers.
mod compose;
/// What an operator sets.
mod config;
/// The ready configurations.
mod configurations;
/// Questions of operators over MQTT.
mod control;
/// Logins that 2.1 answers later.
mod delayed;
/// Which topics are hot, over several brokers.
mod hot;
/// What went wrong in other plugins, and doesn't here.
mod incumbents;
/// The entry points of Mosquitto 1.5 and 1.6.
mod legacy;
/// Rights and passwords that are taken from live clients.
mod live;
/// Who gets in on a real Mosquitto, and who doesn't.
mod logins;
/// What Prometheus reads of a broker.
mod metrics;
/// What clients notice while Redis is away: nothing.
mod outage;
/// Who is online, and who came and went.
mod presence;
/// What applications push through the store.
mod push;
/// The least rights of a broker's Redis user.
mod redis_rights;
/// Changes in the store, and live clients.
mod revocation;
/// What clients may do on a real Mosquitto, one right at a time.
mod rights;
/// Options against the file, and second starts.
mod settings;
/// A fake host with the plugin, over a real Redis.
mod stage;
/// What brokers say of themselves.
mod status;
/// Real brokers with the plugin over a real store.
mod support;
/// What the plugin's file exports and needs.
mod symbols;
