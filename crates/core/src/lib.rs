//! Decides who a client is and what it may do.
//!
//! No I/O, no threads, no clock: time is an argument ([`time::Now`]), records come from `midge-store`, answers are values.
//! Both bodies, the Mosquitto plugin and the broker, call the same [`gate::Gate`]; nothing else decides.

pub mod access;
pub mod autosub;
pub mod bans;
pub mod certificate;
pub mod control;
pub mod credentials;
pub mod denials;
pub mod directory;
pub mod entry;
pub mod explain;
pub mod gate;
pub mod hot;
pub mod jwt;
pub mod key;
pub mod name;
pub mod password;
pub mod policy;
pub mod push;
pub mod record;
pub mod rules;
pub mod scram;
pub mod setting;
pub mod shield;
pub mod sip;
pub mod time;
pub mod topic;
