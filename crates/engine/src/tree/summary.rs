//! Tells other loops whether a loop can match a topic name.
//!
//! One loop writes its summary, all others read it without a lock and without waiting: atomic words that only ever say "perhaps" once too often, never once too little.
//! Blocked Bloom filters of the loop's topic filters: four bits of one 64 bit word are set for each, in layers that have 16 or 32 bits for each filter when full. A topic name is one look-up in each layer for itself and for each shape that fits it, and of these about one in a thousand is wrong.
//! A full layer is followed by one four times its size, so nothing is copied to grow; the owner counts in four bits how often each bit is set, so filters can leave.
//! Filters of rare shapes stand as their literal prefix of at most four levels; those that begin with a wildcard make the loop match everything.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::shape::{MAX_SHAPES, Shape};
use crate::hash::HashedTopic;

/// The longest prefix that stands for a filter of a rare shape.
pub(crate) const MAX_PREFIX: usize = 4;

const LAYERS: usize = 8;
const FIRST_LAYER: usize = 1 << 14;

/// Layers that get 32 bits for each filter: the small ones, which stay full while greater ones fill.
const THIN_LAYERS: usize = 3;

/// What a loop tells the others; shared by reference.
#[derive(Debug)]
pub struct Summary {
    layers: [OnceLock<Layer>; LAYERS],
    /// Shapes to look for, 0 where there is none; the last ones are the prefixes of 1 to 4 levels.
    shapes: [AtomicU64; MAX_SHAPES + MAX_PREFIX],
    /// Filters that may match any topic name.
    anything: AtomicU32,
}

#[derive(Debug)]
struct Layer {
    filters: AtomicU32,
    words: Box<[AtomicU64]>,
}

impl Summary {
    /// Returns whether the loop can have a subscription that matches; `false` is certain.
    ///
    /// All loops must hash with one key.
    #[must_use]
    pub fn may_match(&self, topic: &HashedTopic<'_>) -> bool {
        if self.anything.load(Ordering::Acquire) > 0 || self.holds(topic.text()) {
            return true;
        }
        let mut shapes = self.shapes.iter().map(|shape| shape.load(Ordering::Acquire)).filter(|&shape| shape != 0).peekable();
        if shapes.peek().is_none() {
            return false;
        }
        let levels = topic.levels();
        shapes.map(Shape::from_bits).any(|shape| shape.fits(levels.count()) && self.holds(shape.hash_topic(levels)))
    }

    fn holds(&self, hash: u64) -> bool {
        let layers = self.layers.iter().map_while(OnceLock::get);
        layers.filter(|layer| layer.filters.load(Ordering::Acquire) > 0).any(|layer| {
            let bits = bits(hash).fold(0, |bits, bit| bits | (1 << bit));
            layer.words[word(hash, layer.words.len())].load(Ordering::Acquire) & bits == bits
        })
    }
}

/// The owner's side of a summary.
#[derive(Debug)]
pub(crate) struct SummaryWriter {
    shared: Arc<Summary>,
    /// For each layer and bit, how often it was set, two counts to a byte.
    counts: Vec<Vec<u8>>,
    prefixes: [u32; MAX_PREFIX],
}

impl Default for SummaryWriter {
    fn default() -> Self {
        let shared = Summary {
            layers: [const { OnceLock::new() }; LAYERS],
            shapes: [const { AtomicU64::new(0) }; MAX_SHAPES + MAX_PREFIX],
            anything: AtomicU32::new(0),
        };
        Self { shared: Arc::new(shared), counts: Vec::new(), prefixes: [0; MAX_PREFIX] }
    }
}

impl SummaryWriter {
    pub(crate) fn shared(&self) -> Arc<Summary> {
        Arc::clone(&self.shared)
    }

    /// Adds a filter's hash; returns the layer to remove it from.
    pub(crate) fn add(&mut self, hash: u64) -> u8 {
        let at = (0..LAYERS - 1)
            .find(|&at| {
                let used = self.shared.layers[at].get().map_or(0, |layer| layer.filters.load(Ordering::Relaxed));
                (used as usize) < capacity(at)
            })
            .unwrap_or(LAYERS - 1);
        let layer = self.shared.layers[at].get_or_init(|| Layer::new(at));
        if self.counts.len() <= at {
            self.counts.push(vec![0; layer.words.len() * 32]);
        }
        let word = word(hash, layer.words.len());
        for bit in bits(hash) {
            let (count, shift) = (&mut self.counts[at][word * 32 + bit / 2], bit % 2 * 4);
            // A count that reached its limit stays, and so does the bit: too often "perhaps", never too seldom.
            if (*count >> shift) & 15 < 15 {
                *count += 1 << shift;
            }
            layer.words[word].fetch_or(1 << bit, Ordering::Release);
        }
        layer.filters.fetch_add(1, Ordering::Release);
        u8::try_from(at).unwrap_or(u8::MAX)
    }

    /// Removes a hash from the layer it was added to.
    pub(crate) fn remove(&mut self, hash: u64, at: u8) {
        let at = usize::from(at);
        let Some(layer) = self.shared.layers[at].get() else { return };
        let word = word(hash, layer.words.len());
        for bit in bits(hash) {
            let (count, shift) = (&mut self.counts[at][word * 32 + bit / 2], bit % 2 * 4);
            if (*count >> shift) & 15 < 15 {
                *count -= 1 << shift;
            }
            if (*count >> shift) & 15 == 0 {
                layer.words[word].fetch_and(!(1 << bit), Ordering::Release);
            }
        }
        layer.filters.fetch_sub(1, Ordering::Release);
    }

    /// Makes readers look for a shape, or no more.
    pub(crate) fn set_shape(&self, slot: u8, shape: Option<Shape>) {
        self.shared.shapes[usize::from(slot)].store(shape.map_or(0, Shape::to_bits), Ordering::Release);
    }

    /// Counts a filter that stands as a prefix of `levels`, 0 to 4.
    pub(crate) fn add_prefix(&mut self, levels: u8) {
        let Some(at) = usize::from(levels).checked_sub(1) else {
            self.shared.anything.fetch_add(1, Ordering::Release);
            return;
        };
        self.prefixes[at] += 1;
        self.shared.shapes[MAX_SHAPES + at].store(Shape::prefix(levels).to_bits(), Ordering::Release);
    }

    /// Undoes one [`Self::add_prefix`].
    pub(crate) fn remove_prefix(&mut self, levels: u8) {
        let Some(at) = usize::from(levels).checked_sub(1) else {
            self.shared.anything.fetch_sub(1, Ordering::Release);
            return;
        };
        self.prefixes[at] -= 1;
        if self.prefixes[at] == 0 {
            self.shared.shapes[MAX_SHAPES + at].store(0, Ordering::Release);
        }
    }
}

impl Layer {
    fn new(at: usize) -> Self {
        let words = capacity(at) / if at < THIN_LAYERS { 2 } else { 4 };
        Self { filters: AtomicU32::new(0), words: std::iter::repeat_with(AtomicU64::default).take(words).collect() }
    }
}

/// The filters that a layer is for.
fn capacity(layer: usize) -> usize {
    FIRST_LAYER << (2 * layer)
}

/// Words number a power of two; their bits of the hash are none of those that [`bits`] takes.
#[inline]
fn word(hash: u64, words: usize) -> usize {
    (hash >> 32) as usize & (words - 1)
}

#[inline]
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    [0, 6, 12, 18].into_iter().map(move |shift| ((hash >> shift) & 63) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    #[test]
    fn what_was_added_is_held_until_it_is_removed() {
        let mut writer = SummaryWriter::default();
        let layers: Vec<u8> = (0..300_000).map(|key| writer.add(mix(key))).collect();
        assert_eq!(layers.last(), Some(&2));
        assert!((0..300_000).all(|key| writer.shared.holds(mix(key))));
        let wrong = (300_000..400_000).filter(|&key| writer.shared.holds(mix(key))).count();
        assert!(wrong < 500, "{wrong} of 100,000 false");
        for (key, layer) in (0..).zip(layers) {
            writer.remove(mix(key), layer);
        }
        assert!(!(0..400_000).any(|key| writer.shared.holds(mix(key))));
        assert!(writer.shared.layers.iter().map_while(OnceLock::get).all(|layer| {
            layer.filters.load(Ordering::Relaxed) == 0 && layer.words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
        }));
    }
}
