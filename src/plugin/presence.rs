//! Tells the store who is online, and who misses messages.
//!
//! The table of sessions tells of each coming and going as it notes it. A message that Mosquitto keeps for a client that is away
//! shows as a permission to receive that is asked for then; it is put aside here and handed over in the tick, since a check takes
//! no lock.

use std::sync::Arc;

use midge_core::gate::{ClientPolicy, Gate};
use midge_core::name::NodeName;
use midge_store::node::Life;
use midge_store::presence::{Attendance, Missed, Presence, Who};
use midge_store::{StoreError, StoreUrl};

use super::Plugin;
use crate::host::{BrokerCell, BrokerThread, begin_thread};
use crate::options::Settings;

/// How many messages may be put aside between two ticks; further ones are counted only.
const MAX_ASIDE: usize = 1_000;

/// What there is of presence in one load.
#[derive(Default)]
pub(super) struct Presenting {
    attendance: Option<Attendance>,
    aside: BrokerCell<Aside>,
    _thread: Option<Presence>,
}

#[derive(Default)]
struct Aside {
    messages: Vec<Missed>,
    dropped: u64,
}

impl Presenting {
    /// Starts to show who is online; the store need not be reachable.
    pub(super) fn start(
        settings: &Settings,
        url: &StoreUrl,
        node: NodeName,
        life: Arc<Life>,
        gate: Arc<Gate>,
    ) -> Result<Self, StoreError> {
        let backend = midge_store::open(url, &settings.store_settings())?;
        let presence = Presence::start_in(backend, node, life, gate, settings.presence_settings.clone(), begin_thread)
            .map_err(|error| StoreError::Away(format!("no thread: {error}")))?;
        Ok(Self { attendance: Some(presence.attendance()), aside: BrokerCell::default(), _thread: Some(presence) })
    }

    /// Returns what comings and goings are told to.
    pub(super) fn attendance(&self) -> Option<Attendance> {
        self.attendance.clone()
    }

    /// Returns whether messages for clients that are away are told of.
    pub(super) fn wants_missed(&self) -> bool {
        self.attendance.as_ref().is_some_and(Attendance::wants_missed)
    }

    /// Puts a message aside that found its client away.
    pub(super) fn put_aside(&self, thread: &BrokerThread, who: Who, topic: &str, payload: &[u8], qos: u8) {
        let Some(attendance) = &self.attendance else { return };
        self.aside.with(thread, |aside| {
            if aside.messages.len() >= MAX_ASIDE {
                aside.dropped += 1;
                return;
            }
            let told = payload.len() <= attendance.payload_bound();
            let payload_told = told.then(|| payload.to_vec());
            aside.messages.push(Missed { who, topic: topic.into(), payload: payload_told, size: payload.len(), qos });
        });
    }
}

impl Plugin {
    /// Hands over what was put aside.
    pub(super) fn tell_missed(&self, thread: &BrokerThread) {
        let Some(attendance) = self.presenting.attendance.as_ref().filter(|attendance| attendance.wants_missed()) else { return };
        let aside = self.presenting.aside.with(thread, std::mem::take).unwrap_or_default();
        if !aside.messages.is_empty() {
            attendance.missed(aside.messages);
        }
        if aside.dropped > 0 {
            attendance.missed_more(aside.dropped);
        }
    }
}

/// Returns whose client a policy is for, and which.
pub(super) fn who(policy: &ClientPolicy) -> Who {
    Who { user: policy.user().cloned(), client: policy.client().clone() }
}
