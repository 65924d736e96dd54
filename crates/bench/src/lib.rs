//! Loads any MQTT broker, and counts what becomes of it.
//!
//! A [`Plan`] says what is done; [`run`] does it and returns a [`Report`].
//!
//! * Each message carries its stream, its number, and when it should have been sent: lost, duplicated and misordered
//!   messages are counted in every run, and a latency begins where the schedule put the message, so that a broker that
//!   stalls can't hide it by keeping the load from being sent (coordinated omission).
//! * A run may have several processes, each with one event loop; on one machine they share the monotonic clock.
//! * Nothing is taken from the broker's word: what counts is what arrived.

mod clock;
mod error;
mod payload;
mod plan;
mod plot;
mod recorder;
mod report;
mod run;
mod sequence;
mod share;
mod target;
mod transport;
mod wire;
mod worker;

pub use error::BenchError;
pub use payload::Sizes;
pub use plan::{Pace, Plan, Protocol, Ramp, Scenario, Tls};
pub use recorder::{Recorder, Snapshot};
pub use report::{Latency, Process, Report};
pub use run::{Fleet, Progress, obey, run};
pub use target::Target;
