//! Groups wildcard filters by where their wildcards stand.
//!
//! All filters of one shape (`a/+/c` and `x/+/z`, say) that match a topic name are found by one look-up: of the hash of the name's levels without those under a `+`.
//! As levels are hashed one by one and summed, that hash costs an addition and a subtraction for each `+`.
//! The number of shapes is bounded; what comes later goes to the [burst trie](super::burst).

use crate::hash::{HashKey, Levels, mix};

/// Shapes that may exist at a time: the most look-ups a topic name can cost beside its own.
pub(crate) const MAX_SHAPES: usize = 32;

/// Deeper wildcard filters have no shape.
const MAX_LEVELS: usize = 32;

/// Where the wildcards of a filter stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Levels before `#`, or all where there is none; at most 32.
    levels: u8,
    /// Whether the filter ends in `#`.
    open: bool,
    /// One bit for each level that is `+`.
    plus: u32,
}

impl Shape {
    /// The shape of `LEVEL/…/LEVEL/#` with this number of levels, at most 32, and no `+`.
    pub(crate) const fn prefix(levels: u8) -> Self {
        Self { levels, open: true, plus: 0 }
    }

    /// Returns the shape as a number other than 0.
    pub(crate) fn to_bits(self) -> u64 {
        (1 << 63) | (u64::from(self.open) << 40) | (u64::from(self.levels) << 32) | u64::from(self.plus)
    }

    /// Returns the shape that [`Self::to_bits`] made the number of.
    #[expect(clippy::cast_possible_truncation, reason = "each field was put there with its own width")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { levels: (bits >> 32) as u8, open: (bits >> 40) & 1 == 1, plus: bits as u32 }
    }

    /// Returns whether a topic name with `count` levels can match.
    #[inline]
    pub(crate) fn fits(self, count: usize) -> bool {
        let levels = usize::from(self.levels);
        if self.open { count >= levels } else { count == levels }
    }

    /// Returns the hash that matching filters of this shape have; the topic must [fit](Self::fits).
    #[inline]
    pub(crate) fn hash_topic(self, topic: &Levels) -> u64 {
        let mut sum = topic.sum(usize::from(self.levels));
        let mut plus = self.plus;
        while plus != 0 {
            sum = sum.wrapping_sub(topic.level(plus.trailing_zeros() as usize));
            plus &= plus - 1;
        }
        self.hash_sum(sum)
    }

    /// Returns the hash for a sum of the hashes of the literal levels.
    #[inline]
    pub(crate) fn hash_sum(self, sum: u64) -> u64 {
        mix(sum.wrapping_add(self.to_bits().wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

/// What kind of filter it is, and the hash it is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterKey {
    /// No wildcard: the hash is that of the whole text.
    Exact(u64),
    /// Wildcards within the first 32 levels of at most 32.
    Shaped(u64, Shape),
    /// A wildcard filter with more levels: the hash is that of the whole text.
    Deep(u64),
}

impl FilterKey {
    /// Returns the key of a checked filter.
    pub(crate) fn new(key: &HashKey, filter: &str) -> Self {
        if !filter.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            return Self::Exact(key.text(filter));
        }
        let mut shape = Shape { levels: 0, open: false, plus: 0 };
        let mut sum = 0u64;
        for (position, level) in filter.split('/').enumerate() {
            if level == "#" {
                shape.open = true;
                break;
            }
            if position == MAX_LEVELS {
                return Self::Deep(key.text(filter));
            }
            if level == "+" {
                shape.plus |= 1 << position;
            } else {
                sum = sum.wrapping_add(key.level(position, level));
            }
            shape.levels += 1;
        }
        Self::Shaped(shape.hash_sum(sum), shape)
    }

    /// Returns the hash the filter is found by.
    pub(crate) fn hash(self) -> u64 {
        match self {
            Self::Exact(hash) | Self::Shaped(hash, _) | Self::Deep(hash) => hash,
        }
    }
}

/// The shapes that exist, each with the number of its filters.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    slots: Vec<(Shape, u32)>,
    used: usize,
}

impl Shapes {
    /// Counts one more filter of `shape`; `None` where it is new and there are [`MAX_SHAPES`].
    pub(crate) fn add(&mut self, shape: Shape) -> Option<u8> {
        let known = self.slots.iter().position(|slot| slot.1 > 0 && slot.0 == shape);
        let at = known.or_else(|| self.slots.iter().position(|slot| slot.1 == 0)).unwrap_or(self.slots.len());
        if at == MAX_SHAPES {
            return None;
        }
        if at == self.slots.len() {
            self.slots.push((shape, 0));
        }
        let slot = &mut self.slots[at];
        self.used += usize::from(slot.1 == 0);
        *slot = (shape, slot.1 + 1);
        u8::try_from(at).ok()
    }

    /// Counts one filter less of the shape in `slot`; returns whether it was the last.
    pub(crate) fn remove(&mut self, slot: u8) -> bool {
        let count = &mut self.slots[usize::from(slot)].1;
        *count -= 1;
        self.used -= usize::from(*count == 0);
        *count == 0
    }

    /// Returns the shapes that a topic name of `count` levels can match, each with its slot.
    #[inline]
    pub(crate) fn fitting(&self, count: usize) -> impl Iterator<Item = (u8, Shape)> {
        (0u8..).zip(&self.slots).filter(move |(_, (shape, used))| *used > 0 && shape.fits(count)).map(|(at, slot)| (at, slot.0))
    }

    /// Returns the number of shapes that exist.
    pub(crate) fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use midge_core::topic::TopicName;

    use super::*;
    use crate::hash::HashedTopic;

    #[test]
    fn filters_and_names_meet_in_the_hash() {
        let key = HashKey::new([7, 8]);
        for (filter, topic, meets) in [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("+/+", "x/y", true),
            ("#", "x/y", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "b/a", false),
            ("a/+/#", "a/b/c/d", true),
            ("+/b/#", "a/c", false),
        ] {
            let FilterKey::Shaped(hash, shape) = FilterKey::new(&key, filter) else { panic!("{filter} has a shape") };
            let topic = HashedTopic::new(&key, TopicName::new(topic).unwrap());
            assert!(shape.fits(topic.levels().count()), "{filter}");
            assert_eq!(shape.hash_topic(topic.levels()) == hash, meets, "{filter}");
            assert_eq!(Shape::from_bits(shape.to_bits()), shape);
        }
        let deep = vec!["+"; 33].join("/");
        assert!(matches!(FilterKey::new(&key, &deep), FilterKey::Deep(_)));
        assert!(matches!(FilterKey::new(&key, "a/b"), FilterKey::Exact(_)));
    }

    #[test]
    fn shapes_are_bounded_and_freed() {
        let mut shapes = Shapes::default();
        for levels in 0..32 {
            assert_eq!(shapes.add(Shape::prefix(levels)), Some(levels));
        }
        assert_eq!(shapes.add(Shape::prefix(32)), None);
        assert_eq!(shapes.add(Shape::prefix(3)), Some(3));
        assert!(!shapes.remove(3));
        assert!(shapes.remove(3));
        assert_eq!((shapes.len(), shapes.add(Shape::prefix(32))), (31, Some(3)));
    }
}
