//! The secret that places topics and publishers in the tables.
//!
//! SipHash with a key that is drawn at the start: who doesn't know it can't choose topics that collide.

use super::distinct::Publisher;
use crate::sip::SipKey;

/// What a number is for, so that equal texts of two kinds have nothing in common.
const TOPIC: u64 = 0;
const PUBLISHER: u64 = 1;
const RUN: u64 = 2;

/// A random key; clones are the same key.
///
/// All counters of a process and its [`Ledger`](super::Ledger) share one.
#[derive(Clone, Debug)]
pub struct Seed(SipKey);

impl Seed {
    /// Returns a key that nobody has seen.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two defaults would be two different keys")]
    pub fn new() -> Self {
        Self(SipKey::random())
    }

    /// Returns the mark of a client, from what identifies it: its client identifier.
    #[must_use]
    pub fn publisher(&self, client: &str) -> Publisher {
        Publisher::from_hash(self.0.hash(PUBLISHER, client.as_bytes()))
    }

    /// Returns a number that no other run of this node has.
    pub(super) fn run(&self) -> u64 {
        self.0.hash(RUN, &[])
    }

    #[inline]
    pub(super) fn topic(&self, name: &str) -> u64 {
        self.0.hash(TOPIC, name.as_bytes())
    }
}
