//! Finds a rule that shares a topic with a topic filter.
//!
//! Visits each slot at most once and only those that say something wanted, and stops at the first rule found.

use super::Stored;
use super::level::Levels;
use super::mask::Mask;
use super::search::first_of;
use super::template::Who;
use super::trie::{Slot, Trie};

/// Returns a rule that says something of `want` and matches some topic which the filter in `levels` matches too.
pub(super) fn overlap<const N: usize>(
    trie: &Trie,
    rules: &[Stored],
    levels: &mut Levels<'_, N>,
    who: &Who<'_>,
    want: Mask,
) -> Option<u32> {
    let chain = Overlap { trie, levels, who, want }.visit(trie.root()?, 0)?;
    first_of(rules, chain, want)
}

struct Overlap<'s, 'a, 'l, const N: usize> {
    trie: &'s Trie,
    levels: &'l mut Levels<'a, N>,
    who: &'s Who<'s>,
    want: Mask,
}

impl<'s, const N: usize> Overlap<'s, '_, '_, N> {
    fn visit(&mut self, slot: &'s Slot, depth: usize) -> Option<u32> {
        if !slot.below.meets(self.want) {
            return None;
        }
        let wild = depth > 0 || !self.levels.is_reserved();
        if wild && slot.opens.meets(self.want) {
            return Some(slot.open_rule);
        }
        let Some(level) = self.levels.at(depth) else { return slot.ends.meets(self.want).then_some(slot.end_rule) };
        if level.is_hash() {
            return self.any(slot, depth);
        }
        let trie = self.trie;
        if level.is_plus() {
            return children(trie, slot, self.who, depth).find_map(|child| self.visit(child, depth + 1));
        }
        let (who, bytes) = (self.who, self.levels.text(level));
        let plus = if wild { trie.slot(slot.plus) } else { None };
        let fitting = trie.templates(slot).filter(|template| trie.fits(template, bytes, who, depth == 0));
        trie.literal(slot, level, self.levels).into_iter().chain(plus).chain(fitting).find_map(|child| self.visit(child, depth + 1))
    }

    /// Returns any rule at or below `slot` that stands for a filter for this client.
    fn any(&self, slot: &'s Slot, depth: usize) -> Option<u32> {
        if slot.opens.meets(self.want) {
            return Some(slot.open_rule);
        }
        if slot.ends.meets(self.want) {
            return Some(slot.end_rule);
        }
        let below = children(self.trie, slot, self.who, depth).filter(|child| child.below.meets(self.want));
        below.into_iter().find_map(|child| self.any(child, depth + 1))
    }
}

/// Returns the children that a wildcard at `depth` of a filter reaches.
fn children<'s>(trie: &'s Trie, slot: &'s Slot, who: &'s Who<'s>, depth: usize) -> impl Iterator<Item = &'s Slot> {
    let first = depth == 0;
    let literals = trie.kids(slot).iter().filter(move |kid| !(kid.below.is_empty() || first && kid.text.is_reserved()));
    let templates = trie.templates(slot).filter(move |kid| trie.expands(kid, who, first) && !(first && trie.is_reserved(kid)));
    trie.slot(slot.plus).into_iter().chain(literals).chain(templates)
}
