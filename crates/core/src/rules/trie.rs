//! Compiled rules as a tree of levels in three arrays.
//!
//! A slot is one level of one or more filters together with what may follow it, so that a step costs one look into memory.
//! The literal children of a slot are a hash table of their own, with free places unless there is only one child;
//! comparing decides, never the hash alone.

use super::level::{ENDS_BYTES, Ends, Level, Levels, between};
use super::mask::Mask;
use super::template::{Placeholder, Who};
use crate::name::expandable;

/// No rule, or no slot: the root is nobody's child, and rules are fewer.
pub(super) const NONE: u32 = u32::MAX;

/// One level and its children.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Of a literal: its first and last bytes.
    pub(super) text: Ends,
    /// Of a literal: where in `tails` the bytes between begin. Of a template: its first piece.
    pub(super) tail: u32,
    /// Of a literal: its length in bytes. Of a template: how many pieces it has.
    pub(super) len: u16,
    /// What any rule at or below this level says; a place without a rule is free.
    pub(crate) below: Mask,
    /// What rules say that end with this level.
    pub(super) ends: Mask,
    /// What rules say that go on with `#`, which matches this level as well [MQTT-4.7.1-2].
    pub(super) opens: Mask,
    /// The table of literal children has two to the power of this many places.
    pub(super) kids_log2: u8,
    pub(super) end_rule: u32,
    pub(super) open_rule: u32,
    /// The child for `+`.
    pub(super) plus: u32,
    /// The first place of the table of literal children.
    pub(super) kids: u32,
    /// The first child with placeholders; the others follow, up to a free place.
    pub(super) templates: u32,
}

impl Slot {
    pub(super) const FREE: Self = Self {
        text: Ends::NONE,
        tail: 0,
        // No level of this length has such ends.
        len: u16::MAX,
        below: Mask::NONE,
        ends: Mask::NONE,
        opens: Mask::NONE,
        kids_log2: 0,
        end_rule: NONE,
        open_rule: NONE,
        plus: NONE,
        kids: NONE,
        templates: NONE,
    };
}

/// A stretch of a level with placeholders.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// Where in `tails` the text begins, and its length.
    Text(u32, u32),
    Name(Placeholder),
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Trie {
    pub(super) slots: Vec<Slot>,
    pub(super) pieces: Vec<Piece>,
    pub(super) tails: Vec<u8>,
    pub(super) depth: usize,
    /// Random, so that nobody can choose levels whose hashes collide.
    pub(super) seed: [u64; 2],
}

impl Trie {
    pub(super) fn root(&self) -> Option<&Slot> {
        self.slots.first()
    }

    /// Returns how many levels the deepest rule has, a trailing `#` not counted.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns a slot; [`NONE`] is none.
    #[inline]
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    /// Returns the literal child for a level of the topic that is read by `levels`.
    #[inline]
    pub(super) fn literal<const N: usize>(&self, parent: &Slot, level: Level, levels: &Levels<'_, N>) -> Option<&Slot> {
        let is = |slot: &Slot| {
            slot.text == level.ends()
                && slot.len == level.len()
                && (slot.len <= ENDS_BYTES || self.between(slot) == between(levels.text(level)))
        };
        // Most slots have one literal child at most, and then nothing is to be hashed.
        if parent.kids_log2 == 0 {
            return self.slots.get(parent.kids as usize).filter(|slot| is(slot));
        }
        let last = (1_usize << parent.kids_log2) - 1;
        let mut at = level.hash(|| levels.text(level), self.seed);
        loop {
            let slot = self.slots.get(parent.kids as usize + (at & last))?;
            if is(slot) {
                return Some(slot);
            }
            if slot.below.is_empty() {
                return None;
            }
            at += 1;
        }
    }

    /// Returns the table of literal children, free places included.
    pub(super) fn kids(&self, parent: &Slot) -> &[Slot] {
        if parent.kids == NONE {
            return &[];
        }
        &self.slots[parent.kids as usize..parent.kids as usize + (1 << parent.kids_log2)]
    }

    /// Returns the children with placeholders.
    pub(super) fn templates(&self, parent: &Slot) -> impl Iterator<Item = &Slot> {
        self.slots.get(parent.templates as usize..).unwrap_or_default().iter().take_while(|slot| !slot.below.is_empty())
    }

    /// Returns whether a level with placeholders expands to `bytes` for the client; the first level of a filter is special.
    pub(super) fn fits(&self, template: &Slot, bytes: &[u8], who: &Who<'_>, first: bool) -> bool {
        let mut rest = bytes;
        for piece in self.pieces_of(template) {
            let text = match piece {
                Piece::Text(start, len) => &self.tails[*start as usize..(*start + *len) as usize],
                Piece::Name(placeholder) => match placeholder.name(who) {
                    Some(name) => name.as_bytes(),
                    None => return false,
                },
            };
            match rest.strip_prefix(text) {
                Some(tail) => rest = tail,
                None => return false,
            }
        }
        rest.is_empty() && self.expands(template, who, first)
    }

    /// Returns whether a level with placeholders expands to anything for the client.
    pub(super) fn expands(&self, template: &Slot, who: &Who<'_>, first: bool) -> bool {
        self.pieces_of(template).iter().enumerate().all(|(index, piece)| match piece {
            Piece::Text(..) => true,
            Piece::Name(placeholder) => {
                placeholder.name(who).is_some_and(|name| expandable(name) && !(first && index == 0 && name.starts_with('$')))
            }
        })
    }

    /// Returns whether what a level with placeholders expands to begins with `$`, given that a first name doesn't.
    pub(super) fn is_reserved(&self, template: &Slot) -> bool {
        matches!(self.pieces_of(template).first(), Some(Piece::Text(start, _)) if self.tails.get(*start as usize) == Some(&b'$'))
    }

    fn pieces_of(&self, template: &Slot) -> &[Piece] {
        &self.pieces[template.tail as usize..template.tail as usize + usize::from(template.len)]
    }

    fn between(&self, slot: &Slot) -> &[u8] {
        &self.tails[slot.tail as usize..slot.tail as usize + usize::from(slot.len - ENDS_BYTES)]
    }
}
