//! What processes of a run tell one another, as JSON lines.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Plan, Snapshot};

/// What a process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first: its part of a plan.
    Be { plan: Box<Plan>, process: u32 },
    /// Begin at this time of the monotonic clock, in nanoseconds.
    Go { start: u64 },
    /// End.
    End,
}

/// What a process has to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Told {
    /// All its clients are ready.
    Ready,
    /// How far it is.
    Counts(Counts),
    /// It sends nothing more.
    Sent(Counts),
    /// The last it says.
    Done(Box<Outcome>),
    /// It can't go on.
    Failed(String),
}

/// What a process has to say in the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) latencies: Snapshot,
    pub(crate) cpu: Duration,
    /// When the last thing measured happened, in nanoseconds of the monotonic clock.
    pub(crate) last: u64,
    /// The first few things that went wrong.
    pub(crate) troubles: Vec<String>,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) connected: u64,
    pub(crate) refused: u64,
    pub(crate) disconnected: u64,
    pub(crate) reconnected: u64,
    pub(crate) subscribed: u64,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) rejected: u64,
    pub(crate) received: u64,
    pub(crate) duplicated: u64,
    pub(crate) misordered: u64,
    pub(crate) foreign: u64,
    /// Messages, or steps where there are none, that the latencies and rates are of.
    pub(crate) measured: u64,
    pub(crate) backlog: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let pairs = [
            (&mut self.connected, other.connected),
            (&mut self.refused, other.refused),
            (&mut self.disconnected, other.disconnected),
            (&mut self.reconnected, other.reconnected),
            (&mut self.subscribed, other.subscribed),
            (&mut self.sent, other.sent),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.rejected, other.rejected),
            (&mut self.received, other.received),
            (&mut self.duplicated, other.duplicated),
            (&mut self.misordered, other.misordered),
            (&mut self.foreign, other.foreign),
            (&mut self.measured, other.measured),
            (&mut self.backlog, other.backlog),
        ];
        for (sum, part) in pairs {
            *sum += part;
        }
    }
}
