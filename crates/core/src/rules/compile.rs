//! Builds the tree of levels from a list of rules.
//!
//! The rules are sorted by level, so that siblings stand side by side and each slot is one stretch of the list.
//! Takes time `O(n log n)` in the rules, and memory for at most 2⅔ slots per level.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::Stored;
use super::level::{Level, between};
use super::mask::Mask;
use super::template::{Part, parts};
use super::trie::{NONE, Piece, Slot, Trie};

/// A rule that waits to be compiled.
pub(super) struct Draft {
    /// The filter, its levels ended by U+0000, which no filter holds and which sorts before every other character.
    pub(super) key: String,
    pub(super) rule: u32,
    pub(super) mask: Mask,
}

/// Compiles the drafts; rules for the same filter are chained in `rules`, whose filters are in `text`.
pub(super) fn compile(mut drafts: Vec<Draft>, rules: &mut [Stored], text: &str) -> Trie {
    if drafts.is_empty() {
        return Trie::default();
    }
    // Equal filters are ordered by how they are written, as the order of a hash's fields means nothing.
    drafts.sort_unstable_by(|a, b| {
        let written = |draft: &Draft| rules[draft.rule as usize].filter(text);
        a.key.cmp(&b.key).then_with(|| written(a).cmp(written(b)))
    });
    let random = RandomState::new();
    let trie = Trie { seed: [random.hash_one(0), random.hash_one(1)], ..Trie::default() };
    let mut compiler = Compiler { drafts: &drafts, rules, trie, waiting: VecDeque::new() };
    compiler.trie.slots.push(Slot { below: compiler.says(&(0..drafts.len())), ..Slot::FREE });
    compiler.waiting.push_back(Stretch { slot: 0, range: 0..drafts.len(), offset: 0, depth: 0 });
    while let Some(stretch) = compiler.waiting.pop_front() {
        compiler.fill(&stretch);
    }
    let mut trie = compiler.trie;
    trie.slots.shrink_to_fit();
    trie
}

/// The rules below one slot, whose next level begins at `offset` of their keys.
struct Stretch {
    slot: usize,
    range: Range<usize>,
    offset: usize,
    depth: usize,
}

struct Compiler<'a> {
    drafts: &'a [Draft],
    rules: &'a mut [Stored],
    trie: Trie,
    waiting: VecDeque<Stretch>,
}

impl<'a> Compiler<'a> {
    fn fill(&mut self, stretch: &Stretch) {
        self.trie.depth = self.trie.depth.max(stretch.depth);
        let (mut literals, mut templates) = (Vec::new(), Vec::new());
        let mut at = stretch.range.start;
        while at < stretch.range.end {
            let level = self.level(at, stretch.offset);
            let same =
                self.drafts[at..stretch.range.end].iter().take_while(|draft| level_of(&draft.key, stretch.offset) == level).count();
            let range = at..at + same;
            at = range.end;
            match level {
                None => {
                    let (mask, rule) = (self.says(&range), self.chain(&range));
                    let slot = &mut self.trie.slots[stretch.slot];
                    (slot.ends, slot.end_rule) = (mask, rule);
                }
                Some("#") => {
                    let (mask, rule) = (self.says(&range), self.chain(&range));
                    let slot = &mut self.trie.slots[stretch.slot];
                    (slot.opens, slot.open_rule) = (mask, rule);
                }
                Some("+") => {
                    let first = self.reserve(1);
                    self.trie.slots[stretch.slot].plus = first;
                    self.occupy(first as usize, &Slot::FREE, range, stretch, 1);
                }
                Some(text) if parts(text).any(|part| matches!(part, Part::Name(_))) => templates.push((text, range)),
                Some(text) => literals.push((text, range)),
            }
        }
        self.place_templates(stretch, templates);
        self.place_literals(stretch, literals);
    }

    fn place_templates(&mut self, stretch: &Stretch, templates: Vec<(&'a str, Range<usize>)>) {
        if templates.is_empty() {
            return;
        }
        let first = self.reserve(templates.len() + 1);
        self.trie.slots[stretch.slot].templates = first;
        for (index, (text, range)) in templates.into_iter().enumerate() {
            let tail = self.trie.pieces.len();
            for part in parts(text) {
                let piece = match part {
                    Part::Text(text) => Piece::Text(self.keep(text.as_bytes()), number(text.len())),
                    Part::Name(placeholder) => Piece::Name(placeholder),
                };
                self.trie.pieces.push(piece);
            }
            let len = u16::try_from(self.trie.pieces.len() - tail).expect("a filter has at most 65,535 bytes");
            let slot = Slot { tail: number(tail), len, ..Slot::FREE };
            self.occupy(first as usize + index, &slot, range, stretch, text.len());
        }
    }

    fn place_literals(&mut self, stretch: &Stretch, literals: Vec<(&'a str, Range<usize>)>) {
        let places = match literals.len() {
            0 => return,
            1 => 1,
            // At least a quarter stays free, which keeps searches short and ends them.
            n => (n * 4 / 3 + 1).next_power_of_two(),
        };
        let first = self.reserve(places);
        let parent = &mut self.trie.slots[stretch.slot];
        parent.kids = first;
        parent.kids_log2 = u8::try_from(places.trailing_zeros()).expect("a number of places has fewer than 256 bits");
        for (text, range) in literals {
            let level = Level::of(text.as_bytes());
            let mut at = level.hash(|| text.as_bytes(), self.trie.seed) & (places - 1);
            while !self.trie.slots[first as usize + at].below.is_empty() {
                at = (at + 1) & (places - 1);
            }
            let tail = self.keep(between(text.as_bytes()));
            let slot = Slot { text: level.ends(), tail, len: level.len(), ..Slot::FREE };
            self.occupy(first as usize + at, &slot, range, stretch, text.len());
        }
    }

    fn occupy(&mut self, index: usize, slot: &Slot, range: Range<usize>, parent: &Stretch, level_bytes: usize) {
        self.trie.slots[index] = Slot { below: self.says(&range), ..slot.clone() };
        self.waiting.push_back(Stretch { slot: index, range, offset: parent.offset + level_bytes + 1, depth: parent.depth + 1 });
    }

    fn reserve(&mut self, places: usize) -> u32 {
        let first = self.trie.slots.len();
        self.trie.slots.resize(first + places, Slot::FREE);
        number(first)
    }

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let start = number(self.trie.tails.len());
        self.trie.tails.extend_from_slice(bytes);
        start
    }

    fn says(&self, range: &Range<usize>) -> Mask {
        self.drafts[range.clone()].iter().fold(Mask::NONE, |mask, draft| mask.or(draft.mask))
    }

    /// Chains the rules of equal filters and returns the first.
    fn chain(&mut self, range: &Range<usize>) -> u32 {
        self.drafts[range.clone()].iter().rev().fold(NONE, |next, draft| {
            self.rules[draft.rule as usize].next = next;
            draft.rule
        })
    }

    fn level(&self, at: usize, offset: usize) -> Option<&'a str> {
        level_of(&self.drafts[at].key, offset)
    }
}

/// Returns the level that begins at `offset`; behind the last one there is none.
fn level_of(key: &str, offset: usize) -> Option<&str> {
    key.get(offset..).and_then(|rest| rest.split('\0').next())
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("MAX_TEXT_BYTES keeps everything that is counted below 2^32")
}
