//! Finds rules that match a name or cover a filter.
//!
//! The tree has each filter once, so a search visits each slot at most once, and only those that say something wanted:
//! at most the tree's size, however `+` and placeholders branch. It allocates nothing.

use super::Stored;
use super::level::{Level, Levels};
use super::mask::{Mask, THINGS};
use super::template::Who;
use super::trie::{NONE, Slot, Trie};

/// What a search found: of each access that was asked about one denial, or else one allowance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'r> {
    rules: &'r [Stored],
    chains: Chains,
    /// Whether the client's names had a part in it; if not, others find the same.
    pub(crate) personal: bool,
}

/// For each thing that can be said the chain of rules that was found to say it, or [`NONE`].
type Chains = [u32; THINGS];

impl Found<'_> {
    /// Returns the number of a rule that was found to say `thing`, which is one alone.
    #[inline]
    pub(crate) fn rule(&self, thing: Mask) -> Option<u32> {
        let chain = *self.chains.get(thing.things().next()?)?;
        if chain == NONE { None } else { first_of(self.rules, chain, thing) }
    }
}

/// Looks in `trie` for what rules say of `want`; once an access is denied, for nothing more about it.
///
/// `FILTER` says whether `levels` are those of a topic filter, which may have wildcards.
/// Without `who` the first placeholder ends the search: what was found is `personal`, and decides nothing.
#[inline]
pub(super) fn search<'r, const N: usize, const FILTER: bool>(
    trie: &Trie,
    rules: &'r [Stored],
    levels: &mut Levels<'_, N>,
    who: Option<&Who<'_>>,
    want: Mask,
) -> Found<'r> {
    let chains = [NONE; THINGS];
    let Some(root) = trie.root() else { return Found { rules, chains, personal: false } };
    let mut search = Search::<N, FILTER> { trie, levels, who, want, chains, personal: false };
    let reserved = search.levels.is_reserved();
    search.visit(root, 0, !reserved);
    Found { rules, chains: search.chains, personal: search.personal }
}

/// Returns the first rule of a chain that says something of `want`.
pub(super) fn first_of(rules: &[Stored], chain: u32, want: Mask) -> Option<u32> {
    let next = |number: &u32| rules.get(*number as usize).map(|stored| stored.next).filter(|next| *next != NONE);
    std::iter::successors(Some(chain), next)
        .find(|number| rules.get(*number as usize).is_some_and(|stored| Mask::of(stored.rights).meets(want)))
}

struct Search<'s, 'a, 'l, const N: usize, const FILTER: bool> {
    trie: &'s Trie,
    levels: &'l mut Levels<'a, N>,
    who: Option<&'s Who<'s>>,
    /// What is still looked for; once something is allowed, whether it is denied.
    want: Mask,
    chains: Chains,
    /// Whether placeholders were met.
    personal: bool,
}

impl<'s, const N: usize, const FILTER: bool> Search<'s, '_, '_, N, FILTER> {
    /// Searches below `slot`, whose next level is at `depth`; returns whether the search is over.
    ///
    /// `wild` says whether wildcards reach that level.
    fn visit(&mut self, mut slot: &'s Slot, mut depth: usize, mut wild: bool) -> bool {
        let trie = self.trie;
        loop {
            if slot.opens.meets(self.want) && wild && self.hit(slot.opens, slot.open_rule) {
                return true;
            }
            let Some(level) = self.levels.at(depth) else {
                return slot.ends.meets(self.want) && self.hit(slot.ends, slot.end_rule);
            };
            // What a filter asks for by `#` is covered by a rule's `#` only, by `+` not by a literal.
            if FILTER && level.is_hash() {
                return false;
            }
            let plus = trie.slot(slot.plus).filter(|plus| wild && plus.below.meets(self.want));
            let mut literal = None;
            if !(FILTER && level.is_plus()) {
                if slot.templates != NONE && self.visit_templates(slot, level, depth) {
                    return true;
                }
                literal = trie.literal(slot, level, self.levels).filter(|literal| literal.below.meets(self.want));
            }
            depth += 1;
            wild = true;
            slot = match (literal, plus) {
                (Some(literal), Some(plus)) => {
                    if self.visit(plus, depth, true) {
                        return true;
                    }
                    literal
                }
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return false,
            };
        }
    }

    #[inline(never)]
    fn visit_templates(&mut self, parent: &'s Slot, level: Level, depth: usize) -> bool {
        self.personal = true;
        let Some(who) = self.who else { return true };
        let (trie, bytes) = (self.trie, self.levels.text(level));
        trie.templates(parent)
            .any(|slot| slot.below.meets(self.want) && trie.fits(slot, bytes, who, depth == 0) && self.visit(slot, depth + 1, true))
    }

    /// Notes what the rules for one filter say; returns whether nothing else can be found.
    #[inline]
    fn hit(&mut self, says: Mask, chain: u32) -> bool {
        let news = says.and(self.want);
        for thing in news.things() {
            if let Some(place) = self.chains.get_mut(thing) {
                *place = chain;
            }
        }
        self.want = self.want.without(news.settled());
        !self.trie.root().is_some_and(|root| root.below.meets(self.want))
    }
}
