//! Hashes topics under a secret key, whole and by level.
//!
//! The key makes it useless to choose names that fall together: without it nobody can tell which do.
//! All loops of a server share one key, so that one [`HashedTopic`] serves the subscription trees and the summaries of all of them.

use std::cell::OnceCell;
use std::fmt;

use midge_core::sip::SipKey;
use midge_core::topic::TopicName;

/// Levels beyond this number are not hashed: they neither cost time nor tell filters apart before their text is compared.
pub(crate) const MAX_HASHED_LEVELS: usize = 128;

const INLINE: usize = 16;

/// The secret that all hashes depend on.
#[derive(Clone)]
pub struct HashKey(SipKey);

impl HashKey {
    /// Returns the key made of 128 random bits.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        Self(SipKey::new(secret))
    }

    pub(crate) fn text(&self, text: &str) -> u64 {
        self.0.hash(0, text.as_bytes())
    }

    /// Hashes a level together with its position, so that `a/b` and `b/a` differ in the sum of their levels.
    pub(crate) fn level(&self, position: usize, level: &str) -> u64 {
        self.0.hash(position as u64 + 1, level.as_bytes())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// A topic name with its hashes; made once for each message.
#[derive(Debug)]
pub struct HashedTopic<'a> {
    name: TopicName<'a>,
    key: &'a HashKey,
    text: u64,
    levels: OnceCell<Levels>,
}

impl<'a> HashedTopic<'a> {
    /// Hashes `name` as a whole; its levels are hashed when first asked for.
    #[must_use]
    pub fn new(key: &'a HashKey, name: TopicName<'a>) -> Self {
        Self { name, key, text: key.text(name.as_str()), levels: OnceCell::new() }
    }

    /// Returns the topic name.
    #[must_use]
    pub fn name(&self) -> TopicName<'a> {
        self.name
    }

    pub(crate) fn text(&self) -> u64 {
        self.text
    }

    #[inline]
    pub(crate) fn levels(&self) -> &Levels {
        self.levels.get_or_init(|| Levels::new(self.key, self.name.levels()))
    }
}

/// Running sums of the hashes of levels.
#[derive(Debug)]
pub(crate) struct Levels {
    count: usize,
    sums: [u64; INLINE + 1],
    /// Sums beyond the inline ones; few topics are that deep.
    more: Vec<u64>,
}

impl Levels {
    fn new<'a>(key: &HashKey, levels: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self { count: 0, sums: [0; INLINE + 1], more: Vec::new() };
        let mut sum = 0u64;
        for level in levels {
            if this.count < MAX_HASHED_LEVELS {
                sum = sum.wrapping_add(key.level(this.count, level));
                if this.count < INLINE {
                    this.sums[this.count + 1] = sum;
                } else {
                    this.more.push(sum);
                }
            }
            this.count += 1;
        }
        this
    }

    /// Returns how many levels there are.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns the sum of the hashes of the first `levels`, at most [`MAX_HASHED_LEVELS`] and [`Self::count`].
    #[inline]
    pub(crate) fn sum(&self, levels: usize) -> u64 {
        if levels <= INLINE { self.sums[levels] } else { self.more[levels - INLINE - 1] }
    }

    /// Returns the hash of one level.
    #[inline]
    pub(crate) fn level(&self, position: usize) -> u64 {
        self.sum(position + 1).wrapping_sub(self.sum(position))
    }
}

/// Spreads the bits of `value` over all 64: the finalizer of MurmurHash3.
#[inline]
pub(crate) fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_levels() {
        let key = HashKey::new([1, 2]);
        let text = (0..200).map(|level| level.to_string()).collect::<Vec<_>>().join("/");
        let topic = HashedTopic::new(&key, TopicName::new(&text).unwrap());
        assert_eq!(topic.levels().count(), 200);
        for position in 0..MAX_HASHED_LEVELS {
            assert_eq!(topic.levels().level(position), key.level(position, &position.to_string()));
        }
    }

    #[test]
    fn the_key_decides() {
        assert_ne!(HashKey::new([1, 2]).text("a"), HashKey::new([1, 3]).text("a"));
        assert_ne!(HashKey::new([1, 2]).level(0, "a"), HashKey::new([1, 2]).level(1, "a"));
        assert_eq!(format!("{:?}", HashKey::new([1, 2])), "HashKey(secret)");
    }
}
