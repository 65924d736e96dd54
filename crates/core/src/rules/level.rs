//! The levels of a topic as numbers that compare quickly.
//!
//! Levels are read as far as rules ask for them, each once however many sets of rules look.
//! Hashes are keyed by a random number per process, so that nobody can choose levels that collide.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

static SEED: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let state = RandomState::new();
    [state.hash_one(0_u8), state.hash_one(1_u8) | 1]
});

/// One level: its first eight bytes and its length are most of what comparing takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    /// The first eight bytes, the first one lowest, filled up with zeros.
    pub(crate) head: u64,
    pub(crate) hash: u32,
    pub(crate) start: u16,
    pub(crate) len: u16,
}

impl Level {
    /// Reads the level that `bytes` are.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::new(bytes, 0, bytes.len(), *SEED)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a topic has at most 65,535 bytes")]
    fn new(text: &[u8], start: usize, len: usize, seed: [u64; 2]) -> Self {
        let level = &text[start..start + len];
        let head = head(level);
        let mut hash = fold(head ^ seed[0], len as u64 ^ seed[1]);
        for chunk in level.get(8..).unwrap_or_default().chunks(8) {
            hash = fold(hash ^ self::head(chunk), seed[1]);
        }
        Self { head, hash: (hash >> 32) as u32, start: start as u16, len: len as u16 }
    }

    pub(crate) fn is_plus(self) -> bool {
        self.len == 1 && self.head == u64::from(b'+')
    }

    pub(crate) fn is_hash(self) -> bool {
        self.len == 1 && self.head == u64::from(b'#')
    }
}

/// The levels of one topic name or filter, of which the first `N` can be read.
pub(crate) struct Levels<'a, const N: usize> {
    text: &'a [u8],
    seed: [u64; 2],
    known: usize,
    /// Where the next level begins; beyond the text's length there is none.
    next: usize,
    levels: [Level; N],
}

impl<'a, const N: usize> Levels<'a, N> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), seed: *SEED, known: 0, next: 0, levels: [Level::default(); N] }
    }

    /// Returns whether the topic begins with `$`.
    pub(crate) fn is_reserved(&self) -> bool {
        self.text.first() == Some(&b'$')
    }

    /// Returns the level at `depth`, counted from zero; all before it must have been asked for.
    pub(crate) fn at(&mut self, depth: usize) -> Option<Level> {
        debug_assert!(depth <= self.known && depth < N, "levels are asked for in order, up to the rules' depth");
        if depth < self.known { Some(self.levels[depth]) } else { self.read() }
    }

    /// Returns the text of a level.
    pub(crate) fn text(&self, level: Level) -> &'a [u8] {
        &self.text[usize::from(level.start)..usize::from(level.start) + usize::from(level.len)]
    }

    fn read(&mut self) -> Option<Level> {
        let rest = self.text.get(self.next..)?;
        let len = slash(rest);
        let level = Level::new(self.text, self.next, len, self.seed);
        self.next += len + 1;
        self.levels[self.known] = level;
        self.known += 1;
        Some(level)
    }
}

/// Returns the folded product of two numbers, which mixes all bits of both.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is folded")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

/// Returns the first eight bytes as a number, the first one lowest, filled up with zeros.
fn head(bytes: &[u8]) -> u64 {
    let byte = |at: usize| u64::from(bytes[at]);
    match bytes.len() {
        0 => 0,
        // Up to three bytes: the middle one of two is the last one of them, which changes nothing.
        n @ 1..=3 => byte(0) | byte(n / 2) << (8 * (n / 2)) | byte(n - 1) << (8 * (n - 1)),
        n @ 4..=7 => four(bytes, 0) | four(bytes, n - 4) << (8 * (n - 4)),
        _ => four(bytes, 0) | four(bytes, 4) << 32,
    }
}

fn four(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk::<4>().map_or(0, |four| u64::from(u32::from_le_bytes(*four)))
}

/// Returns where the first slash stands, or the length where there is none.
fn slash(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let zeros = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'/'));
        // The lowest byte that is zero is the lowest whose top bit this sets; a borrow reaches only higher ones.
        let found = zeros.wrapping_sub(ONES) & !zeros & (ONES << 7);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |end| at + end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn levels_are_those_of_a_split(topic in "[a/é\u{1}]{0,40}") {
            let mut levels = Levels::<41>::new(&topic);
            for (depth, text) in topic.split('/').enumerate() {
                let level = levels.at(depth).unwrap();
                prop_assert_eq!(levels.text(level), text.as_bytes());
                let alone = Level::of(text.as_bytes());
                prop_assert_eq!((level.head, level.hash, level.len), (alone.head, alone.hash, alone.len));
                let mut padded = [0; 8];
                let n = text.len().min(8);
                padded[..n].copy_from_slice(&text.as_bytes()[..n]);
                prop_assert_eq!(level.head, u64::from_le_bytes(padded));
            }
            prop_assert!(levels.at(topic.split('/').count()).is_none());
        }
    }
}
