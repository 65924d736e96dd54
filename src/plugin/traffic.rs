//! Counts what goes through, for the report about this server.
//!
//! Written by the broker's thread alone, so that a count costs two moves and no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use midge_core::gate::Gate;
use midge_store::node::Fact;
use midge_store::push::PushCounters;

use crate::border::Status;
use crate::{abi, host::Level};

/// What has gone through since the start.
#[derive(Default)]
pub(super) struct Traffic {
    published: AtomicU64,
    delivered: AtomicU64,
    connects: AtomicU64,
    clients: AtomicU64,
}

impl Traffic {
    /// Counts an access that was allowed.
    #[inline]
    pub(super) fn count(&self, access: i32, status: Status) {
        if status == Status::SUCCESS {
            match u32::try_from(access) {
                Ok(abi::MIDGE_ACL_READ) => add_one(&self.delivered),
                Ok(abi::MIDGE_ACL_WRITE) => add_one(&self.published),
                _ => {}
            }
        }
    }

    /// Notes how many clients there are, and how many have come.
    pub(super) fn clients(&self, connected: usize, entered: u64) {
        self.clients.store(connected as u64, Ordering::Relaxed);
        self.connects.store(entered, Ordering::Relaxed);
    }

    /// Returns what there is to report.
    pub(super) fn facts(&self, gate: &Gate, level: Level, pushes: Option<PushCounters>) -> Vec<(&'static str, Fact)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let denied = gate.denials().counts();
        let mut facts = vec![
            ("published", Fact::Counter(count(&self.published))),
            ("delivered", Fact::Counter(count(&self.delivered))),
            ("connects", Fact::Counter(count(&self.connects))),
            ("denied_logins", Fact::Counter(denied.all_logins())),
            ("denied_publish", Fact::Counter(denied.publish)),
            ("denied_receive", Fact::Counter(denied.receive)),
            ("denied_subscribe", Fact::Counter(denied.subscribe)),
        ];
        // Mosquitto 1.x doesn't tell when a client goes.
        if level > Level::Auth {
            facts.push(("clients", Fact::Gauge(count(&self.clients))));
        }
        if let Some(pushes) = pushes {
            facts.extend([
                ("pushed", Fact::Counter(pushes.taken)),
                ("pushes_waiting", Fact::Gauge(pushes.waiting)),
                ("pushes_malformed", Fact::Counter(pushes.malformed)),
                ("pushes_repeated", Fact::Counter(pushes.repeated)),
                ("pushes_expired", Fact::Counter(pushes.expired)),
                ("pushes_dropped", Fact::Counter(pushes.dropped)),
            ]);
        }
        facts
    }
}

/// Adds without the lock of the processor's bus: there is one writer.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}
