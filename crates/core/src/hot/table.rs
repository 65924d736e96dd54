//! A table of fixed size that keeps the heaviest topics.
//!
//! Misra and Gries (Finding repeated elements, 1982) in the lazy form of Anderson et al.
//! (A high-performance algorithm for identifying frequent items in data streams, 2017), for three metrics at once.
//! A new topic takes a free slot; when there is none, one pass frees at least a quarter of them.
//! For each metric, D is the most that a topic may have lost; a slot whose topic had come within D of that is freed.
//! At every pass D rises to a value that at least a quarter of the k slots reach in that metric, so each rise by d takes d from
//! k/4 of them, and all that can be taken is the total T: **true − 4T/k ≤ true − D ≤ counted ≤ true**, for every topic and metric.
//! A topic that isn't there counts 0 in this. With at most k different topics nothing is lost, and D is 0.
//!
//! All memory is taken at the start. A slot is two cache lines: what every publish touches is in the first, and one byte in the second.

use super::distinct::Registers;
use super::name::MAX_NAME_BYTES;

/// How many metrics are added up: messages, bytes, deliveries.
pub(super) const SUMS: usize = 3;

/// Amounts of messages, bytes and deliveries.
pub(super) type Sums = [u64; SUMS];

/// Room for a name; one more than the longest, which keeps the rooms on cache lines.
const NAME_ROOM: usize = MAX_NAME_BYTES + 1;

/// What is known of one topic.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) sums: Sums,
    /// D at the time the topic was entered: what it may have lost before, and raised where D overtakes the topic.
    lost_before: Sums,
    name_bytes: u8,
    used: bool,
    pub(super) publishers: Registers,
}

impl Slot {
    fn level(&self, metric: usize) -> u64 {
        self.sums[metric].saturating_add(self.lost_before[metric])
    }
}

/// Where a topic is, and whether it has just been entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) fresh: bool,
}

/// The heaviest topics of a span of time.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    names: Vec<u8>,
    /// Open addressing, at most half full: 0, or 16 bits of the hash and one more than the slot.
    index: Vec<u32>,
    free: Vec<u16>,
    levels: Vec<u64>,
    lost: Sums,
    capacity: usize,
}

impl Table {
    /// Returns an empty table; `capacity` is between 16 and 32,768.
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!((16..=32_768).contains(&capacity), "slots are numbered with 16 bits");
        Self {
            slots: Vec::with_capacity(capacity),
            names: vec![0; capacity * NAME_ROOM],
            index: vec![0; (capacity * 2).next_power_of_two()],
            free: Vec::with_capacity(capacity),
            levels: Vec::with_capacity(capacity),
            lost: [0; SUMS],
            capacity,
        }
    }

    /// Adds `sums` to the topic `name` with `hash`, which is entered where it is missing.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, name: &str, sums: Sums) -> Place {
        let Some(slot) = self.find(hash) else { return Place { slot: self.enter(hash, name, sums), fresh: true } };
        self.add_at(slot, sums);
        Place { slot, fresh: false }
    }

    /// Adds `sums` to the topic in `slot`.
    #[inline]
    pub(super) fn add_at(&mut self, slot: usize, sums: Sums) {
        for (sum, more) in self.slots[slot].sums.iter_mut().zip(sums) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Returns the slot of the topic with `hash`.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        let mask = self.index.len() - 1;
        let mut at = place(hash) & mask;
        loop {
            let entry = self.index[at];
            if entry == 0 {
                return None;
            }
            let slot = (entry & 0xffff) as usize - 1;
            if entry >> 16 == tag(hash) && self.slots[slot].hash == hash {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Returns what is known of the topic in `slot`.
    pub(super) fn slot(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn publishers(&mut self, slot: usize) -> &mut Registers {
        &mut self.slots[slot].publishers
    }

    /// Returns the name of the topic in `slot`, or an empty one for a slot that is free.
    #[inline]
    pub(super) fn name(&self, slot: usize) -> &[u8] {
        let Some(Slot { name_bytes, .. }) = self.slots.get(slot) else { return &[] };
        &self.names[slot * NAME_ROOM..][..usize::from(*name_bytes)]
    }

    /// Returns all topics: slot, name, what is known.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, &str, &Slot)> {
        self.slots.iter().enumerate().filter(|(_, row)| row.used).map(|(slot, row)| {
            let name = std::str::from_utf8(self.name(slot)).expect("only whole names are stored");
            (slot, name, row)
        })
    }

    /// Returns D: the most that any topic may have more of each metric than was counted.
    pub(super) fn lost(&self) -> Sums {
        self.lost
    }

    /// Forgets everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.index.fill(0);
        self.lost = [0; SUMS];
    }

    /// Returns how many bytes the table has taken.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.names.capacity()
            + self.index.capacity() * size_of::<u32>()
            + self.free.capacity() * size_of::<u16>()
            + self.levels.capacity() * size_of::<u64>()
    }

    #[cold]
    #[inline(never)]
    fn enter(&mut self, hash: u64, name: &str, sums: Sums) -> usize {
        if self.slots.len() == self.capacity && self.free.is_empty() {
            self.make_room();
        }
        let name_bytes = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let row = Slot { hash, sums, lost_before: self.lost, name_bytes, used: true, publishers: Registers::EMPTY };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[usize::from(slot)] = row;
                usize::from(slot)
            }
            None => {
                self.slots.push(row);
                self.slots.len() - 1
            }
        };
        self.names[slot * NAME_ROOM..][..name.len()].copy_from_slice(name.as_bytes());
        self.put(hash, slot);
        slot
    }

    /// Raises D and frees what it has overtaken in every metric: at least a quarter of the slots, all of which are in use.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "there are at most 32,768 slots")]
    fn make_room(&mut self) {
        for metric in 0..SUMS {
            self.levels.clear();
            self.levels.extend(self.slots.iter().map(|slot| slot.level(metric)));
            let (_, level, _) = self.levels.select_nth_unstable(self.capacity - self.capacity.div_ceil(4));
            self.lost[metric] = self.lost[metric].max(*level);
        }
        self.index.fill(0);
        for slot in 0..self.slots.len() {
            let row = &mut self.slots[slot];
            row.used = (0..SUMS).any(|metric| row.level(metric) > self.lost[metric]);
            if row.used {
                for (metric, lost) in self.lost.into_iter().enumerate() {
                    row.lost_before[metric] = row.lost_before[metric].max(lost.saturating_sub(row.sums[metric]));
                }
                let hash = row.hash;
                self.put(hash, slot);
            } else {
                row.name_bytes = 0;
                self.free.push(slot as u16);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are at most 32,768 slots")]
    fn put(&mut self, hash: u64, slot: usize) {
        let mask = self.index.len() - 1;
        let mut at = place(hash) & mask;
        while self.index[at] != 0 {
            at = (at + 1) & mask;
        }
        self.index[at] = tag(hash) << 16 | (slot as u32 + 1);
    }
}

/// Returns where the search for a hash begins, before it is masked.
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is wanted")]
fn place(hash: u64) -> usize {
    hash as usize
}

fn tag(hash: u64) -> u32 {
    (hash >> 48) as u32
}
