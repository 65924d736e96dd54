//! Slows down whoever guesses passwords.
//!
//! Failed logins are counted per user and per address in a table of bounded size, however long the names are.
//! An IPv6 client has a whole /64 at its command, so that is what it is counted under.
//! Past a number of free attempts, further ones are refused unheard for a time that doubles with each failure.
//! Nodes share their counts through the store; a lost store leaves each node with its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::key::ShieldTarget;
use crate::name::Username;
use crate::time::Now;

/// How the shield counts and how long it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShieldSettings {
    /// Failures of one user before the first back-off; 0 switches the shield for users off.
    pub user_attempts: u32,
    /// Failures from one address before the first back-off; 0 switches the shield for addresses off.
    pub address_attempts: u32,
    /// The first back-off.
    pub first: Duration,
    /// The longest back-off.
    pub longest: Duration,
    /// How long after its last failure a count is forgotten.
    pub window: Duration,
    /// How many users and addresses are counted at a time; at the bound, the one that failed longest ago is forgotten.
    pub entries: usize,
}

impl Default for ShieldSettings {
    fn default() -> Self {
        Self {
            user_attempts: 10,
            address_attempts: 50,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(15 * 60),
            window: Duration::from_secs(15 * 60),
            entries: 65_536,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    last: Duration,
}

/// Counts of failed logins.
#[derive(Debug)]
pub struct Shield {
    settings: ShieldSettings,
    /// By a keyed hash of the target: a name may have 64 KiB.
    counts: Mutex<HashMap<u64, Count>>,
    hasher: RandomState,
}

impl Shield {
    /// Returns a shield that has seen no failure.
    #[must_use]
    pub fn new(settings: ShieldSettings) -> Self {
        Self { settings, counts: Mutex::default(), hasher: RandomState::new() }
    }

    /// Returns what a login of `user` from `address` is counted under.
    #[must_use]
    pub fn targets(&self, user: Option<&Username>, address: Option<IpAddr>) -> Vec<ShieldTarget> {
        let user = user.filter(|_| self.settings.user_attempts > 0).cloned().map(ShieldTarget::User);
        let address = address.filter(|_| self.settings.address_attempts > 0).map(origin).map(ShieldTarget::Address);
        user.into_iter().chain(address).collect()
    }

    /// Returns how long a login under `targets` has to wait; `None` lets it be tried now.
    #[must_use]
    pub fn backing_off(&self, targets: &[ShieldTarget], now: Now) -> Option<Duration> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        targets
            .iter()
            .filter_map(|target| {
                let count = counts.get(&self.hasher.hash_one(target))?;
                let until = count.last + self.back_off(target, count.failures)?;
                until.checked_sub(now.monotonic).filter(|left| !left.is_zero())
            })
            .max()
    }

    /// Counts a failed login under each of `targets`.
    pub fn failed(&self, targets: &[ShieldTarget], now: Now) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for target in targets {
            let key = self.hasher.hash_one(target);
            self.make_room(&mut counts, key, now);
            let count = counts.entry(key).or_insert(Count { failures: 0, last: now.monotonic });
            if now.monotonic.saturating_sub(count.last) > self.settings.window {
                count.failures = 0;
            }
            *count = Count { failures: count.failures.saturating_add(1), last: now.monotonic };
        }
    }

    /// Takes over the number of failures that all nodes together have counted.
    ///
    /// A higher number than the own one means that another node saw the latest failure just now.
    pub fn learn(&self, target: &ShieldTarget, failures: u32, now: Now) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.hasher.hash_one(target);
        let recent = |count: &&Count| now.monotonic.saturating_sub(count.last) <= self.settings.window;
        let known = counts.get(&key).filter(recent).map_or(0, |count| count.failures);
        if failures > known {
            self.make_room(&mut counts, key, now);
            counts.insert(key, Count { failures, last: now.monotonic });
        }
    }

    /// Forgets the failures of `user`, who has just shown the right password.
    pub fn forgive(&self, user: &Username) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&self.hasher.hash_one(ShieldTarget::User(user.clone()))).is_some()
    }

    /// Returns how long counts live, here and in the store.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.settings.window
    }

    fn back_off(&self, target: &ShieldTarget, failures: u32) -> Option<Duration> {
        let free = match target {
            ShieldTarget::User(_) => self.settings.user_attempts,
            ShieldTarget::Address(_) => self.settings.address_attempts,
        };
        let doublings = failures.checked_sub(free)?.min(31);
        Some(self.settings.first.saturating_mul(1 << doublings).min(self.settings.longest))
    }

    /// Forgets what is out of the window, and one more if that is not enough; only done at the bound.
    fn make_room(&self, counts: &mut HashMap<u64, Count>, key: u64, now: Now) {
        if counts.len() < self.settings.entries || counts.contains_key(&key) {
            return;
        }
        let window = self.settings.window;
        counts.retain(|_, count| now.monotonic.saturating_sub(count.last) <= window);
        // A whole eighth at once, so that a flood of names costs one pass in thousands of failures.
        let surplus = (counts.len() + self.settings.entries / 8 + 1).saturating_sub(self.settings.entries);
        if surplus > 0 {
            let mut times: Vec<Duration> = counts.values().map(|count| count.last).collect();
            let at = surplus.min(times.len()) - 1;
            let (_, oldest, _) = times.select_nth_unstable(at);
            let oldest = *oldest;
            let mut left = surplus;
            counts.retain(|_, count| {
                let goes = left > 0 && count.last <= oldest;
                left -= usize::from(goes);
                !goes
            });
        }
    }
}

/// Returns what a client at `address` is counted under.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), unix: seconds }
    }

    fn settings() -> ShieldSettings {
        ShieldSettings { user_attempts: 2, address_attempts: 4, entries: 64, ..ShieldSettings::default() }
    }

    #[test]
    fn back_off_doubles_up_to_its_bound_and_is_forgotten() {
        let shield = Shield::new(settings());
        let user = "alice".parse().unwrap();
        let targets = shield.targets(Some(&user), None);
        let mut now = at(0);
        for expected in [None, Some(1), Some(2), Some(4), Some(8)] {
            shield.failed(&targets, now);
            assert_eq!(shield.backing_off(&targets, now), expected.map(Duration::from_secs));
            now = now.plus(Duration::from_secs(8));
        }
        for _ in 0..40 {
            shield.failed(&targets, now);
        }
        assert_eq!(shield.backing_off(&targets, now), Some(Duration::from_secs(900)));
        now = now.plus(Duration::from_secs(901));
        shield.failed(&targets, now);
        assert_eq!(shield.backing_off(&targets, now), None);
    }

    #[test]
    fn a_right_password_clears_the_user_but_not_the_address() {
        let shield = Shield::new(settings());
        let user: Username = "alice".parse().unwrap();
        let targets = shield.targets(Some(&user), Some("192.0.2.1".parse().unwrap()));
        for _ in 0..4 {
            shield.failed(&targets, at(0));
        }
        assert!(shield.forgive(&user));
        assert_eq!(shield.backing_off(&targets, at(0)), Some(Duration::from_secs(1)));
        assert_eq!(shield.backing_off(&targets[..1], at(0)), None);
    }

    #[test]
    fn other_nodes_counts_are_taken_over() {
        let shield = Shield::new(settings());
        let target = ShieldTarget::User("alice".parse().unwrap());
        shield.learn(&target, 3, at(5));
        assert_eq!(shield.backing_off(std::slice::from_ref(&target), at(5)), Some(Duration::from_secs(2)));
        shield.learn(&target, 1, at(6));
        assert!(shield.backing_off(&[target], at(6)).is_some());
    }

    #[test]
    fn a_flood_of_names_stays_within_the_bound() {
        let shield = Shield::new(settings());
        for n in 0..10_000 {
            shield.failed(&[ShieldTarget::User(format!("u{n}").parse().unwrap())], at(n));
            assert!(shield.counts.lock().unwrap().len() <= 64);
        }
    }
}
