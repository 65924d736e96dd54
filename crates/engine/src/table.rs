//! Finds ids by hash, without ever stalling to grow.
//!
//! Extendible hashing: a directory leads to segments of at most 4,096 slots, and a full segment splits alone, so the longest insertion moves about 3,000 slots.
//! Within a segment: linear probing, deletion by shifting back, so churn leaves no tombstones; a segment that empties shrinks.
//! Which keys equal is the caller's to say; the hash must be keyed where clients choose the keys.

const SEGMENT: usize = 4096;
const SMALLEST: usize = 8;
const MAX_DEPTH: u32 = 20;
const EMPTY: u64 = u64::MAX;

/// Ids under 64 bit hashes.
#[derive(Debug)]
pub(crate) struct IdTable {
    /// The segment for each value of the upper `bits` bits of a tag.
    directory: Vec<u32>,
    bits: u32,
    segments: Vec<Segment>,
}

/// A slot holds a tag, the upper half of the hash, above an id.
#[derive(Debug)]
struct Segment {
    slots: Box<[u64]>,
    len: usize,
    depth: u32,
}

impl Default for IdTable {
    fn default() -> Self {
        Self { directory: vec![0], bits: 0, segments: vec![Segment::new(SMALLEST, 0)] }
    }
}

impl IdTable {
    /// Returns the first id under `hash` that `equal` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut equal: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let slots = &self.segments[self.directory[self.index(tag)] as usize].slots;
        let mask = slots.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let slot = slots[at];
            if slot == EMPTY {
                return None;
            }
            if tag_of(slot) == tag && equal(id_of(slot)) {
                return Some(id_of(slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds `id`, which must not be there and is at most `u32::MAX - 1`, under `hash`.
    pub(crate) fn insert(&mut self, hash: u64, id: u32) {
        let tag = tag(hash);
        loop {
            let number = self.directory[self.index(tag)] as usize;
            let segment = &mut self.segments[number];
            if segment.has_room() {
                segment.put((u64::from(tag) << 32) | u64::from(id));
                return;
            }
            // Beyond the greatest depth only chance could lead; the segment then grows instead.
            if segment.slots.len() < SEGMENT || segment.depth >= MAX_DEPTH {
                segment.resize(segment.slots.len() * 2);
            } else {
                self.split(number, tag);
            }
        }
    }

    /// Removes `id` from under `hash`; returns whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) -> bool {
        let tag = tag(hash);
        let number = self.directory[self.index(tag)] as usize;
        let segment = &mut self.segments[number];
        let removed = segment.take((u64::from(tag) << 32) | u64::from(id));
        if removed && segment.slots.len() > SMALLEST && segment.len < segment.slots.len() / 8 {
            segment.resize(segment.slots.len() / 2);
        }
        removed
    }

    #[inline]
    fn index(&self, tag: u32) -> usize {
        ((u64::from(tag) << self.bits) >> 32) as usize
    }

    fn split(&mut self, number: usize, tag: u32) {
        let old = &self.segments[number];
        let depth = old.depth + 1;
        if depth > self.bits {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.bits = depth;
        }
        let mut halves = [Segment::new(SEGMENT, depth), Segment::new(SEGMENT, depth)];
        for &slot in old.slots.iter().filter(|&&slot| slot != EMPTY) {
            halves[(tag_of(slot) >> (32 - depth)) as usize & 1].put(slot);
        }
        let [low, high] = halves;
        self.segments[number] = low;
        self.segments.push(high);
        let new = u32::try_from(self.segments.len() - 1).expect("segments number at most 2^20");
        let span = 1usize << (self.bits - depth);
        let start = ((self.index(tag) >> (self.bits - depth)) | 1) << (self.bits - depth);
        self.directory[start..start + span].fill(new);
    }
}

impl Segment {
    fn new(slots: usize, depth: u32) -> Self {
        Self { slots: vec![EMPTY; slots].into_boxed_slice(), len: 0, depth }
    }

    fn has_room(&self) -> bool {
        (self.len + 1) * 4 <= self.slots.len() * 3
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = tag_of(slot) as usize & mask;
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
        self.len += 1;
    }

    fn take(&mut self, slot: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut hole = tag_of(slot) as usize & mask;
        while self.slots[hole] != slot {
            if self.slots[hole] == EMPTY {
                return false;
            }
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let next = self.slots[at];
            if next == EMPTY {
                break;
            }
            // A slot may move into the hole if the hole lies on its way from its home.
            let home = tag_of(next) as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = next;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        self.len -= 1;
        true
    }

    fn resize(&mut self, slots: usize) {
        let mut new = Self::new(slots, self.depth);
        for &slot in self.slots.iter().filter(|&&slot| slot != EMPTY) {
            new.put(slot);
        }
        *self = new;
    }
}

#[inline]
fn tag(hash: u64) -> u32 {
    tag_of(hash)
}

#[inline]
fn tag_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half of 64 bits")]
fn id_of(slot: u64) -> u32 {
    slot as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::hash::mix;

    #[test]
    fn behaves_like_a_map_while_growing_and_shrinking() {
        let mut table = IdTable::default();
        let mut model = HashMap::new();
        let mut state = 1;
        for round in 0..400_000u64 {
            state = mix(state + 1);
            // Grows for the first half, then mostly removes.
            let key = state % 60_000;
            let remove = state >> 32 & 7 < if round < 200_000 { 2 } else { 7 };
            let id = u32::try_from(key).unwrap();
            if remove {
                assert_eq!(table.remove(mix(key), id), model.remove(&key).is_some());
            } else if model.insert(key, id).is_none() {
                table.insert(mix(key), id);
            }
        }
        for key in 0..60_000 {
            assert_eq!(table.find(mix(key), |id| u64::from(id) == key), model.get(&key).copied());
        }
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut table = IdTable::default();
        for id in 0..5000 {
            table.insert(0xABCD_EF01 << 32, id);
        }
        assert_eq!(table.find(0xABCD_EF01 << 32, |id| id == 4321), Some(4321));
        for id in 0..5000 {
            assert!(table.remove(0xABCD_EF01 << 32, id));
        }
        assert_eq!(table.find(0xABCD_EF01 << 32, |_| true), None);
    }
}
