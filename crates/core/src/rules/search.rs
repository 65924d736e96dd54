//! Finds the rules that match a topic name, or cover a topic filter.
//!
//! The tree has each filter once, so a search visits each slot at most once, and only those that say something wanted:
//! at most the tree's size, however `+` and placeholders branch. It allocates nothing.

use super::Stored;
use super::level::{Level, Levels};
use super::mask::Mask;
use super::template::Who;
use super::trie::{NONE, Slot, Trie};

/// What a search found, by the rules' numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) allow: Option<u32>,
    pub(crate) deny: Option<u32>,
}

/// Looks for one denial among `want`, or else for one allowance.
pub(super) fn search<const N: usize>(
    trie: &Trie,
    rules: &[Stored],
    levels: &mut Levels<'_, N>,
    who: &Who<'_>,
    want: Mask,
) -> Found {
    let mut search = Search { trie, rules, levels, who, want, found: Found::default() };
    if let Some(root) = trie.root() {
        search.visit(root, 0);
    }
    search.found
}

/// Returns the first rule of a chain that says something of `want`.
pub(super) fn first_of(rules: &[Stored], chain: u32, want: Mask) -> Option<u32> {
    let next = |number: &u32| rules.get(*number as usize).map(|stored| stored.next).filter(|next| *next != NONE);
    std::iter::successors(Some(chain), next)
        .find(|number| rules.get(*number as usize).is_some_and(|stored| Mask::of(stored.rights).meets(want)))
}

struct Search<'s, 'a, 'l, const N: usize> {
    trie: &'s Trie,
    rules: &'s [Stored],
    levels: &'l mut Levels<'a, N>,
    who: &'s Who<'s>,
    /// What is still looked for; once something is allowed, only denials.
    want: Mask,
    found: Found,
}

impl<'s, const N: usize> Search<'s, '_, '_, N> {
    /// Searches below `slot`, whose next level is at `depth`; returns whether the search is over.
    fn visit(&mut self, mut slot: &'s Slot, mut depth: usize) -> bool {
        loop {
            let wild = depth > 0 || !self.levels.is_reserved();
            if wild && self.hit(slot.opens, slot.open_rule) {
                return true;
            }
            let Some(level) = self.levels.at(depth) else { return self.hit(slot.ends, slot.end_rule) };
            // A filter's `#` is covered by a rule's `#` only.
            if level.is_hash() {
                return false;
            }
            let plus = if wild { self.wanted(self.trie.slot(slot.plus)) } else { None };
            let mut literal = None;
            if !level.is_plus() {
                if slot.templates != NONE && self.visit_templates(slot, level, depth) {
                    return true;
                }
                literal = self.wanted(self.trie.literal(slot, level, self.levels.text(level)));
            }
            depth += 1;
            slot = match (literal, plus) {
                (Some(literal), Some(plus)) => {
                    if self.visit(plus, depth) {
                        return true;
                    }
                    literal
                }
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return false,
            };
        }
    }

    fn visit_templates(&mut self, parent: &'s Slot, level: Level, depth: usize) -> bool {
        let (trie, who, bytes) = (self.trie, self.who, self.levels.text(level));
        trie.templates(parent).any(|slot| {
            self.wanted(Some(slot)).is_some_and(|slot| trie.fits(slot, bytes, who, depth == 0)) && self.visit(slot, depth + 1)
        })
    }

    fn wanted(&self, slot: Option<&'s Slot>) -> Option<&'s Slot> {
        slot.filter(|slot| slot.below.meets(self.want))
    }

    /// Notes what rules for one filter say; returns whether nothing else can be found.
    fn hit(&mut self, says: Mask, chain: u32) -> bool {
        let hit = says.and(self.want);
        if hit.is_empty() {
            return false;
        }
        let denied = hit.and(Mask::DENY);
        if !denied.is_empty() {
            self.found.deny = first_of(self.rules, chain, denied);
            return true;
        }
        self.found.allow = first_of(self.rules, chain, hit);
        self.want = self.want.and(Mask::DENY);
        !self.trie.root().is_some_and(|root| root.below.meets(self.want))
    }
}
