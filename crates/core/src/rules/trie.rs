//! Compiled rules as a tree of levels in three arrays.
//!
//! A slot is one level of one or more filters together with what may follow it, so that a step costs one look into memory.
//! The literal children of a slot are a hash table of their own, with free places unless there is only one child;
//! comparing decides, never the hash alone.

use super::level::Level;
use super::mask::Mask;
use super::template::{Placeholder, Who};
use crate::name::expandable;

/// No rule, or no slot: the root is nobody's child, and rules are fewer.
pub(super) const NONE: u32 = u32::MAX;

/// One level and its children.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Of a literal: its first eight bytes, as in [`Level`].
    pub(super) head: u64,
    /// Of a literal: where in `tails` its further bytes begin. Of a template: its first piece.
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
        head: 0,
        tail: 0,
        len: 0,
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

    /// Returns whether a literal level begins with `$`.
    pub(super) fn is_reserved(&self) -> bool {
        self.head & 0xff == u64::from(b'$')
    }
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
}

impl Trie {
    pub(super) fn root(&self) -> Option<&Slot> {
        self.slots.first()
    }

    /// Returns how many levels the deepest rule has, a trailing `#` not counted.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns a slot; [`NONE`] and free places are none.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize).filter(|slot| !slot.below.is_empty())
    }

    /// Returns the literal child for a level, whose whole text is `bytes`.
    pub(super) fn literal(&self, parent: &Slot, level: Level, bytes: &[u8]) -> Option<&Slot> {
        let table = self.kids(parent);
        let last = table.len().wrapping_sub(1);
        let home = level.hash as usize;
        for step in 0..table.len() {
            let slot = &table[(home + step) & last];
            if slot.below.is_empty() {
                return None;
            }
            if slot.head == level.head && slot.len == level.len && (level.len <= 8 || self.tail(slot) == &bytes[8..]) {
                return Some(slot);
            }
        }
        None
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

    fn tail(&self, slot: &Slot) -> &[u8] {
        &self.tails[slot.tail as usize..slot.tail as usize + usize::from(slot.len) - 8]
    }
}
