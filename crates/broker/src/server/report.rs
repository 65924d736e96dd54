//! How the loops are, for those who ask.
//!
//! Each loop writes its own report when something has happened, at most once a second; nobody else waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midge_engine::limits::Counters;
use midge_engine::memory::Budget;

use super::traffic::Traffic;

/// The time between two reports of a loop.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What one loop, or all together, have and have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What its engine says.
    pub engine: Counters,
    /// What its sockets have done.
    pub traffic: Traffic,
    /// Bytes that peers take, all loops together.
    pub memory: usize,
}

/// The last report of each loop.
#[derive(Debug)]
pub(super) struct Reports {
    loops: Vec<Mutex<Report>>,
    memory: Arc<Budget>,
}

impl Reports {
    pub(super) fn new(loops: u8, memory: Arc<Budget>) -> Self {
        Self { loops: (0..loops).map(|_| Mutex::default()).collect(), memory }
    }

    pub(super) fn put(&self, event_loop: u8, report: Report) {
        if let Some(place) = self.loops.get(usize::from(event_loop)) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = report;
        }
    }

    /// Returns the sums of all loops.
    pub(super) fn total(&self) -> Report {
        let mut total = Report { memory: self.memory.used(), ..Report::default() };
        for place in &self.loops {
            total.add(&place.lock().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }
}

/// Adds up fields of the same names.
macro_rules! add {
    ($into:expr, $from:expr; $($field:ident)*) => { $($into.$field += $from.$field;)* };
}

impl Report {
    fn add(&mut self, other: &Self) {
        add!(self.engine, other.engine;
            sessions connections subscriptions shared_subscriptions queued_messages queued_bytes received received_bytes sent
            sent_bytes answers dropped_slow dropped_full expired too_large denied_publish denied_receive denied_subscribe
            refused_subscriptions refused_levels refused_sessions dropped_shared dropped_memory refused_memory keep_alive_timeouts takeovers expired_sessions wills);
        // Every loop keeps the same ones.
        self.engine.retained_messages = self.engine.retained_messages.max(other.engine.retained_messages);
        self.engine.retained_bytes = self.engine.retained_bytes.max(other.engine.retained_bytes);
        add!(self.traffic, other.traffic;
            bytes_received bytes_sent packets_received accepted connects refused_full refused_address refused_user rate_pauses exhausted connect_timeouts malformed
            refused_clients closed_memory);
    }
}
