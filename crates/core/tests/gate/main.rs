//! Holds the gate against a store made by hand.
//!
//! One binary; each module is about one promise.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod autosub;
mod bans;
mod bounds;
mod changes;
mod denials;
mod explain;
mod groups;
mod guessing;
mod kit;
mod logins;
mod model;
mod outage;
mod races;
mod tokens;
