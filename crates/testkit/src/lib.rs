//! What the tests stand on: real servers, fake host, faults.
//!
//! Everything listens on loopback only, on a port from the operating system, in a temporary folder of its own, and dies
//! with its guard. What a server logged is shown when a test panics.
//! Waiting is always for a condition, with a deadline; what is missing is an error that says how to get it.

mod certs;
mod clients;
pub mod fake_host;
mod mosquitto;
mod mqtt;
mod paths;
mod process;
mod proxy;
mod redis;
mod stall;
mod wait;

pub use certs::{Certs, Identity};
pub use clients::{MosquittoSub, Printed, mosquitto_passwd, mosquitto_pub, python};
pub use fake_host::{Answer, Bench, FakeHost, HostKind};
pub use mosquitto::{Builder as MosquittoBuilder, Mosquitto, MosquittoVersion};
pub use mqtt::client::{Event, RawClient};
pub use mqtt::packet::{Connect, Message, Packet, Property, Protocol, Value, Will};
pub use paths::{peer, plugin, workspace};
pub use process::{Finished, Process, free_port};
pub use proxy::{FaultProxy, Mode};
pub use redis::cluster::RedisCluster;
pub use redis::sentinel::RedisSentinel;
pub use redis::{Builder as RedisBuilder, RedisServer, RedisVersion};
pub use stall::{Stall, stall};
pub use wait::{Deadline, until};
