//! Who is banned: users, client identifiers, addresses and ranges.
//!
//! The list is an immutable snapshot in memory; a look-up costs one probe per kind and per prefix length in use.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::entry::Entry;
use crate::key::BanTarget;
use crate::name::{ClientId, Username};
use crate::time::Now;

/// How many bans are held; further ones are counted and reported, never taken silently.
pub const MAX_BANS: usize = 100_000;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// What the operator wrote.
    pub reason: String,
    /// When it ends, in seconds since 1970; `None` never does.
    pub until_unix: Option<u64>,
}

impl Ban {
    fn holds(&self, now: Now) -> bool {
        self.until_unix.is_none_or(|until| now.unix < until)
    }
}

/// All bans at one moment.
#[derive(Clone, Debug, Default)]
pub struct BanList {
    named: HashMap<BanTarget, Ban>,
    /// Prefix lengths in use, IPv6 apart, so that an address is looked up once per length.
    lengths: BTreeSet<(bool, u8)>,
}

impl BanList {
    /// Adds or replaces a ban; returns whether there was room.
    pub fn insert(&mut self, target: BanTarget, ban: Ban) -> bool {
        if self.named.len() >= MAX_BANS && !self.named.contains_key(&target) {
            return false;
        }
        if let BanTarget::Network(net) = target {
            self.lengths.insert((matches!(net, IpNet::V6(_)), net.prefix_len()));
        }
        self.named.insert(target, ban);
        true
    }

    /// Removes a ban; returns whether there was one.
    pub fn remove(&mut self, target: &BanTarget) -> bool {
        self.named.remove(target).is_some()
    }

    /// Returns whether a ban is here that `old` doesn't have, or has otherwise.
    pub(crate) fn adds_to(&self, old: &Self) -> bool {
        self.named.iter().any(|(target, ban)| old.named.get(target) != Some(ban))
    }

    /// Returns how many bans are held, ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Returns the bans that still hold at `now`.
    pub fn holding(&self, now: Now) -> impl Iterator<Item = (&BanTarget, &Ban)> {
        self.named.iter().filter(move |(_, ban)| ban.holds(now))
    }

    /// Returns whether no ban is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Returns the ban that keeps a client out, if one does.
    #[must_use]
    pub fn find(&self, user: Option<&Username>, client: &ClientId, address: Option<IpAddr>, now: Now) -> Option<(BanTarget, &Ban)> {
        if self.named.is_empty() {
            return None;
        }
        let user = user.cloned().map(BanTarget::User);
        let client = Some(BanTarget::Client(client.clone()));
        let networks = address.into_iter().flat_map(spellings).flat_map(|address| {
            self.lengths
                .iter()
                .filter(move |(six, _)| *six == address.is_ipv6())
                .filter_map(move |(_, length)| IpNet::new(address, *length).ok())
                .map(|net| BanTarget::Network(net.trunc()))
        });
        user.into_iter()
            .chain(client)
            .chain(networks)
            .find_map(|target| self.named.get(&target).filter(|ban| ban.holds(now)).map(|ban| (target, ban)))
    }
}

impl Ban {
    /// Returns the ban that a store's entry writes; whatever stands there, it is a ban.
    #[must_use]
    pub fn from_entry(entry: &Entry, now: Now) -> Self {
        match entry {
            Entry::Text { value, ttl } => {
                let until =
                    |ttl: Duration| now.unix.saturating_add(ttl.as_secs()).saturating_add(u64::from(ttl.subsec_nanos() > 0));
                let reason = String::from_utf8_lossy(value).chars().take(200).collect();
                Self { reason, until_unix: ttl.map(until) }
            }
            _ => Self { reason: String::new(), until_unix: None },
        }
    }
}

/// Returns the addresses that mean the same client: one of IPv4 is also one of IPv6, and a ban may be written either way.
fn spellings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (one, other) = match address.to_canonical() {
        IpAddr::V4(four) => (IpAddr::V4(four), Some(IpAddr::V6(four.to_ipv6_mapped()))),
        six @ IpAddr::V6(_) => (six, None),
    };
    std::iter::once(one).chain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_until_it_ends() {
        let mut list = BanList::default();
        for (target, until_unix) in [
            ("user:bob", None),
            ("client:c9", Some(50)),
            ("ip:10.0.0.0/8", None),
            ("ip:192.0.2.7", None),
            ("ip:2001:db8::/32", None),
            ("ip:::ffff:203.0.113.0/120", None),
        ] {
            assert!(list.insert(target.parse().unwrap(), Ban { reason: "abuse".into(), until_unix }));
        }
        let find = |user: &str, client: &str, address: &str, unix: u64| {
            let now = Now { monotonic: Duration::ZERO, unix };
            let user = user.parse().unwrap();
            list.find(Some(&user), &client.parse().unwrap(), address.parse().ok(), now).map(|(target, _)| target.to_string())
        };
        for (user, client, address, expected) in [
            ("bob", "x", "", Some("user:bob")),
            ("alice", "c9", "", Some("client:c9")),
            ("alice", "x", "10.20.30.40", Some("ip:10.0.0.0/8")),
            ("alice", "x", "::ffff:10.1.1.1", Some("ip:10.0.0.0/8")),
            ("alice", "x", "192.0.2.7", Some("ip:192.0.2.7")),
            ("alice", "x", "192.0.2.8", None),
            ("alice", "x", "203.0.113.9", Some("ip:::ffff:203.0.113.0/120")),
            ("alice", "x", "::ffff:203.0.113.9", Some("ip:::ffff:203.0.113.0/120")),
            ("alice", "x", "2001:db8:1::1", Some("ip:2001:db8::/32")),
            ("alice", "x", "", None),
        ] {
            assert_eq!(find(user, client, address, 10).as_deref(), expected, "{user} {client} {address}");
        }
        assert_eq!(find("alice", "c9", "", 50), None);
    }
}
