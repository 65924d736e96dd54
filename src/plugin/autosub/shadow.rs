//! Subscriptions that an ended session keeps from being made.
//!
//! Mosquitto 2.1 frees an ended session in the next pass of its loop. Until then a new session of the same identifier that
//! subscribes to the same filter counts as subscribed, by the identifier alone, and gets nothing. So the count of its
//! subscriptions is looked at, and where it doesn't grow the client gets copies, until a later try has succeeded.

use std::sync::atomic::Ordering;

use super::options_of;
use crate::host::{BrokerThread, host};
use crate::plugin::Plugin;

/// After how many ticks a subscription that the broker doesn't count is taken for one that it has.
const MOST_TRIES: u8 = 100;

/// A session, and filters that the broker has not subscribed it to.
pub(super) struct Shadowed {
    address: usize,
    id: Box<str>,
    filters: Vec<Box<str>>,
    tries: u8,
}

impl Shadowed {
    pub(super) fn new(address: usize, id: &str, filters: Vec<Box<str>>) -> Self {
        Self { address, id: id.into(), filters, tries: 0 }
    }
}

impl Plugin {
    /// Has a session get copies until it is subscribed.
    pub(super) fn enter_shadow(&self, thread: &BrokerThread, shadowed: Shadowed) {
        log::debug!("client \"{}\" gets copies for a moment", midge_core::name::Shown(&shadowed.id));
        self.autosub.state.with(thread, |state| {
            for filter in &shadowed.filters {
                state.index.insert(filter, shadowed.address);
            }
            self.autosub.copying.store(!state.index.is_empty(), Ordering::Relaxed);
            state.shadowed.push(shadowed);
        });
    }

    /// Forgets who was at `address` before.
    pub(super) fn forget_shadow(&self, thread: &BrokerThread, address: usize) {
        self.autosub.state.with(thread, |state| {
            for one in state.shadowed.extract_if(.., |one| one.address == address) {
                one.filters.iter().for_each(|filter| state.index.remove(filter, address));
            }
        });
    }

    /// Tries again to subscribe those who get copies.
    pub(super) fn leave_shadow(&self, thread: &BrokerThread) {
        let waiting = self.autosub.state.with(thread, |state| std::mem::take(&mut state.shadowed)).unwrap_or_default();
        for mut one in waiting {
            one.tries += 1;
            let (address, given_up) = (one.address, one.tries >= MOST_TRIES);
            let id = one.id.clone();
            let done: Vec<Box<str>> =
                one.filters.extract_if(.., |filter| given_up || self.is_subscribed(thread, address, &id, filter)).collect();
            self.autosub.state.with(thread, |state| {
                done.iter().for_each(|filter| state.index.remove(filter, address));
                self.autosub.copying.store(!state.index.is_empty(), Ordering::Relaxed);
                if !one.filters.is_empty() {
                    state.shadowed.push(one);
                }
            });
        }
    }

    /// Returns whether the session has been subscribed now, or needs it no more.
    fn is_subscribed(&self, thread: &BrokerThread, address: usize, id: &str, filter: &str) -> bool {
        let options = self.sessions.with(thread, |sessions| {
            // Whoever has taken the identifier over has a turn of its own.
            let session = sessions.latest_at(address).filter(|session| session.policy().client().as_str() == id)?;
            session.made_to(filter).map(options_of)
        });
        let Some(Some(options)) = options else { return true };
        let before = host().subscriptions_of(thread, id);
        host().subscribe(thread, id, filter, options);
        host().subscriptions_of(thread, id) != before
    }
}
