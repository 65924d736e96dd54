//! The levels of a topic as numbers that compare quickly.
//!
//! Levels are read as far as rules ask for them, each once however many sets of rules look.

/// The ends of a level; up to sixteen bytes, they and the length are all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The first eight bytes, the first one lowest, filled up with zeros.
    head: u64,
    /// The last eight bytes of a longer level, otherwise zero.
    last: u64,
}

/// The longest level that its ends and its length tell whole.
pub(crate) const ENDS_BYTES: u16 = 16;

impl Ends {
    /// The ends of the empty level.
    pub(crate) const NONE: Self = Self { head: 0, last: 0 };

    /// Returns whether the level begins with `$`.
    pub(crate) fn is_reserved(self) -> bool {
        self.head & 0xff == u64::from(b'$')
    }
}

/// One level: its ends and its length are most of what comparing takes.
///
/// Whole words, because a processor stalls on a wide load of what was just stored in narrow parts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    ends: Ends,
    /// The length, and above it the start in the topic; a topic has at most 65,535 bytes.
    place: u64,
}

impl Level {
    /// Reads the level that `bytes` are.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::new(word(bytes), bytes, 0)
    }

    /// Reads the level `bytes`, of which `head` are the first eight, that begins at `start`.
    #[inline]
    fn new(head: u64, bytes: &[u8], start: usize) -> Self {
        let last = bytes.last_chunk().filter(|_| bytes.len() > 8).map_or(0, |last| u64::from_le_bytes(*last));
        Self { ends: Ends { head, last }, place: (start as u64) << 16 | (bytes.len() as u64 & 0xffff) }
    }

    #[inline]
    pub(crate) fn ends(self) -> Ends {
        self.ends
    }

    /// Returns a hash of the level, whose whole text is seldom asked for; unknown to whoever doesn't know `seed`.
    #[inline]
    pub(crate) fn hash<'b>(self, bytes: impl FnOnce() -> &'b [u8], seed: [u64; 2]) -> usize {
        let mut hash = fold(self.ends.head ^ seed[0], self.ends.last ^ u64::from(self.len()) ^ seed[1]);
        if self.len() > ENDS_BYTES {
            for chunk in between(bytes()).chunks(8) {
                hash = fold(hash ^ word(chunk), seed[1]);
            }
        }
        (hash >> 32) as usize
    }

    /// Returns the length in bytes.
    pub(crate) fn len(self) -> u16 {
        (self.place & 0xffff) as u16
    }

    pub(crate) fn is_plus(self) -> bool {
        self.ends.head == u64::from(b'+') && self.len() == 1
    }

    pub(crate) fn is_hash(self) -> bool {
        self.ends.head == u64::from(b'#') && self.len() == 1
    }

    fn start(self) -> usize {
        (self.place >> 16) as usize & 0xffff
    }
}

/// The levels of one topic name or filter, of which the first `N` can be read.
pub(crate) struct Levels<'a, const N: usize> {
    text: &'a [u8],
    known: usize,
    /// Where the next level begins; beyond the text's length there is none.
    next: usize,
    levels: [Level; N],
}

impl<'a, const N: usize> Levels<'a, N> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), known: 0, next: 0, levels: [Level::default(); N] }
    }

    /// Returns whether the topic begins with `$`.
    pub(crate) fn is_reserved(&self) -> bool {
        self.text.first() == Some(&b'$')
    }

    /// Returns the level at `depth`, counted from zero; all before it must have been asked for.
    #[inline]
    pub(crate) fn at(&mut self, depth: usize) -> Option<Level> {
        debug_assert!(depth <= self.known && depth < N, "levels are asked for in order, up to the rules' depth");
        if depth < self.known { Some(self.levels[depth]) } else { self.read() }
    }

    /// Returns the text of a level.
    pub(crate) fn text(&self, level: Level) -> &'a [u8] {
        &self.text[level.start()..level.start() + usize::from(level.len())]
    }

    #[inline]
    fn read(&mut self) -> Option<Level> {
        let rest = self.text.get(self.next..)?;
        let head = match (rest.first_chunk(), self.text.last_chunk()) {
            (Some(first), _) => u64::from_le_bytes(*first),
            (None, Some(last)) if !rest.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
            _ => word(rest),
        };
        let found = slashes(head);
        let (head, len) = if found != 0 {
            let below = (found & found.wrapping_neg()).wrapping_sub(1) >> 7;
            (head & below, found.trailing_zeros() as usize / 8)
        } else if rest.len() <= 8 {
            (head, rest.len())
        } else {
            (head, 8 + slash(&rest[8..]))
        };
        let level = Level::new(head, &rest[..len], self.next);
        self.next += len + 1;
        self.levels[self.known] = level;
        self.known += 1;
        Some(level)
    }
}

/// Returns the bytes of a level that its ends leave out.
pub(crate) fn between(level: &[u8]) -> &[u8] {
    level.get(8..level.len().saturating_sub(8)).unwrap_or_default()
}

/// Returns the folded product of two numbers, which mixes all bits of both.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is folded")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

/// Returns the first eight bytes as a number, the first one lowest, filled up with zeros.
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Returns a number whose lowest bit stands at the top of the lowest byte that is a slash; zero where none is.
#[inline]
fn slashes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zeros = word ^ (ONES * u64::from(b'/'));
    // A borrow reaches only bytes above the lowest that is zero.
    zeros.wrapping_sub(ONES) & !zeros & (ONES << 7)
}

/// Returns where the first slash stands, or the length where there is none.
fn slash(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let found = slashes(u64::from_le_bytes(*chunk));
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
                prop_assert_eq!((level.ends(), level.len()), (alone.ends(), alone.len()));
                let mut padded = [0; 8];
                let n = text.len().min(8);
                padded[..n].copy_from_slice(&text.as_bytes()[..n]);
                prop_assert_eq!(level.ends().head, u64::from_le_bytes(padded));
            }
            prop_assert!(levels.at(topic.split('/').count()).is_none());
        }
    }
}
