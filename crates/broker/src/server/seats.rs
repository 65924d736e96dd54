//! How many connections there are, counted under several names.
//!
//! A connection holds its [`Seat`] for as long as it is open, whichever loop it goes to.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::settings::Settings;

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    total: Bounded,
    listeners: Vec<Bounded>,
    addresses: Counted<IpAddr>,
    users: Counted<Arc<str>>,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    listener: usize,
    /// Only where somebody counts them.
    names: Option<Box<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    address: Option<IpAddr>,
    user: Option<Arc<str>>,
}

impl Seats {
    pub(super) fn new(settings: &Settings) -> Self {
        let limits = &settings.limits;
        let listener = |listen: &super::settings::Listen| Bounded::new(listen.max_connections.unwrap_or(usize::MAX));
        Self {
            total: Bounded::new(limits.max_connections),
            listeners: settings.listeners.iter().map(listener).collect(),
            addresses: Counted::new(limits.max_per_address),
            users: Counted::new(limits.max_per_user),
        }
    }

    /// Returns a seat for a connection of a listener, if there is one.
    pub(super) fn take(self: &Arc<Self>, listener: usize) -> Option<Seat> {
        if !self.total.take() {
            return None;
        }
        if self.listeners.get(listener).is_some_and(|listener| !listener.take()) {
            self.total.give();
            return None;
        }
        Some(Seat { seats: Arc::clone(self), listener, names: None })
    }
}

impl Seat {
    /// Counts the connection under its address; returns false where there are as many as may be.
    pub(super) fn set_address(&mut self, address: IpAddr) -> bool {
        if self.seats.addresses.bound.is_none() {
            return true;
        }
        let names = self.names.get_or_insert_default();
        if let Some(old) = names.address.take() {
            self.seats.addresses.give(&old);
        }
        let taken = self.seats.addresses.take(address, 0);
        names.address = taken.then_some(address);
        taken
    }

    /// Counts the connection under its user; returns false where there are as many as may be.
    ///
    /// A connection that `takes_over` another one of the user has that one's place.
    pub(super) fn set_user(&mut self, user: &Arc<str>, takes_over: bool) -> bool {
        if self.seats.users.bound.is_none() {
            return true;
        }
        let taken = self.seats.users.take(Arc::clone(user), usize::from(takes_over));
        self.names.get_or_insert_default().user = taken.then(|| Arc::clone(user));
        taken
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.total.give();
        if let Some(listener) = self.seats.listeners.get(self.listener) {
            listener.give();
        }
        let names = self.names.take().unwrap_or_default();
        names.address.iter().for_each(|address| self.seats.addresses.give(address));
        names.user.iter().for_each(|user| self.seats.users.give(user));
    }
}

#[derive(Debug)]
struct Bounded {
    bound: usize,
    taken: AtomicUsize,
}

impl Bounded {
    fn new(bound: usize) -> Self {
        Self { bound, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed) < self.bound;
        if !taken {
            self.give();
        }
        taken
    }

    fn give(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Counted<K> {
    bound: Option<NonZeroUsize>,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash> Counted<K> {
    fn new(bound: Option<NonZeroUsize>) -> Self {
        Self { bound, taken: Mutex::default() }
    }

    fn take(&self, key: K, more: usize) -> bool {
        let bound = self.bound.map_or(usize::MAX, NonZeroUsize::get).saturating_add(more);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(&key).is_some_and(|count| *count >= bound) {
            return false;
        }
        *taken.entry(key).or_default() += 1;
        true
    }

    fn give(&self, key: &K) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = taken.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::settings::{Limits, Listen};

    #[test]
    fn seats_are_given_back_under_every_name() {
        let limits = Limits {
            max_connections: 4,
            max_per_address: NonZeroUsize::new(2),
            max_per_user: NonZeroUsize::new(1),
            ..Limits::default()
        };
        let address = ([127, 0, 0, 1], 0).into();
        let listeners = vec![Listen { max_connections: Some(3), ..Listen::tcp(address) }, Listen::tcp(address)];
        let seats = Arc::new(Seats::new(&Settings { limits, listeners, ..Settings::default() }));
        let (here, there) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let alice: Arc<str> = "alice".into();
        for _ in 0..3 {
            let mut taken: Vec<Seat> = (0..3).map(|_| seats.take(0).unwrap()).collect();
            assert!(seats.take(0).is_none());
            taken.push(seats.take(1).unwrap());
            assert!(seats.take(1).is_none());
            assert_eq!([here, here, here, there].map(|address| taken[0].set_address(address)), [true; 4]);
            assert!(taken[1].set_address(here) && taken[2].set_address(here) && !taken[3].set_address(here));
            assert!(taken[0].set_user(&alice, false) && !taken[1].set_user(&alice, false) && taken[2].set_user(&alice, true));
            // The one that was taken over goes.
            taken.remove(0);
            assert!(!taken[0].set_user(&alice, false));
        }
        assert!(seats.addresses.taken.lock().unwrap().is_empty() && seats.users.taken.lock().unwrap().is_empty());
    }
}
