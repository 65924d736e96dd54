//! Keeps items in the order of their keys, however many.
//!
//! One item lies in the list itself, up to 512 in one vector, more in a vector of such chunks: reading is a walk over memory in order, and the longest change moves one chunk.

const CHUNK: usize = 512;

/// What can be kept in order; no two items of a list have the same key.
pub(crate) trait Keyed: Copy {
    /// Returns what the item is found by.
    fn key(&self) -> u32;
}

impl Keyed for u32 {
    fn key(&self) -> u32 {
        *self
    }
}

/// Items in ascending order of their keys.
#[derive(Debug, Default)]
pub(crate) enum SortedList<T> {
    /// No item, no memory.
    #[default]
    Empty,
    /// One item, in place.
    One(T),
    /// Up to [`CHUNK`] items.
    Few(Vec<T>),
    /// Chunks of at most [`CHUNK`] items, none empty.
    #[expect(clippy::box_collection, reason = "the list's head is part of each of a million filters")]
    Many(Box<Vec<Vec<T>>>),
}

impl<T: Keyed> SortedList<T> {
    /// Adds `item`, or replaces and returns the one with its key.
    pub(crate) fn insert(&mut self, item: T) -> Option<T> {
        match self {
            Self::Empty => {
                *self = Self::One(item);
                None
            }
            Self::One(one) if one.key() == item.key() => Some(std::mem::replace(one, item)),
            Self::One(one) => {
                let pair = if one.key() < item.key() { [*one, item] } else { [item, *one] };
                *self = Self::Few(pair.to_vec());
                None
            }
            Self::Few(few) => {
                let old = insert_sorted(few, item);
                if few.len() > CHUNK {
                    let upper = few.split_off(CHUNK / 2);
                    *self = Self::Many(Box::new(vec![std::mem::take(few), upper]));
                }
                old
            }
            Self::Many(chunks) => {
                let number = chunk_of(chunks, item.key());
                let chunk = &mut chunks[number];
                let old = insert_sorted(chunk, item);
                if chunk.len() > CHUNK {
                    let upper = chunk.split_off(CHUNK / 2);
                    chunks.insert(number + 1, upper);
                }
                old
            }
        }
    }

    /// Takes the item with `key` out.
    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        match self {
            Self::Empty => None,
            Self::One(one) if one.key() == key => {
                let item = *one;
                *self = Self::Empty;
                Some(item)
            }
            Self::One(_) => None,
            Self::Few(few) => {
                let item = remove_sorted(few, key)?;
                if let [one] = few[..] {
                    *self = Self::One(one);
                } else {
                    give_back(few);
                }
                Some(item)
            }
            Self::Many(chunks) => {
                let number = chunk_of(chunks, key);
                let item = remove_sorted(&mut chunks[number], key)?;
                merge_around(chunks, number);
                if let [one] = &mut chunks[..] {
                    *self = match one[..] {
                        [item] => Self::One(item),
                        _ => Self::Few(std::mem::take(one)),
                    };
                }
                Some(item)
            }
        }
    }

    /// Returns the item with `key`.
    pub(crate) fn find(&self, key: u32) -> Option<T> {
        let items = match self {
            Self::Empty => return None,
            Self::One(one) => return (one.key() == key).then_some(*one),
            Self::Few(few) => few,
            Self::Many(chunks) => &chunks[chunk_of(chunks, key)],
        };
        items.binary_search_by_key(&key, Keyed::key).ok().map(|at| items[at])
    }

    /// Returns runs of items which, one after the other, are the list in order.
    #[inline]
    pub(crate) fn runs(&self) -> impl Iterator<Item = &[T]> {
        let (run, chunks): (&[T], &[Vec<T>]) = match self {
            Self::Empty => (&[], &[]),
            Self::One(one) => (std::slice::from_ref(one), &[]),
            Self::Few(few) => (few, &[]),
            Self::Many(chunks) => (&[], chunks),
        };
        std::iter::once(run).chain(chunks.iter().map(Vec::as_slice))
    }

    /// Returns the items in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.runs().flatten().copied()
    }

    /// Returns the items whose keys are `key` or greater, in order.
    pub(crate) fn iter_from(&self, key: u32) -> impl Iterator<Item = T> {
        let runs = self.runs().skip_while(move |run| run.last().is_none_or(|last| last.key() < key));
        runs.flat_map(move |run| &run[run.partition_point(|item| item.key() < key)..]).copied()
    }

    /// Returns how many items there are.
    pub(crate) fn len(&self) -> usize {
        self.runs().map(<[T]>::len).sum()
    }

    /// Returns whether there is no item.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// Returns the number of the chunk where `key` is or belongs.
fn chunk_of<T: Keyed>(chunks: &[Vec<T>], key: u32) -> usize {
    chunks.partition_point(|chunk| chunk[0].key() <= key).saturating_sub(1)
}

fn insert_sorted<T: Keyed>(items: &mut Vec<T>, item: T) -> Option<T> {
    // Ids are mostly given out in order, so the end is tried first.
    if items.last().is_some_and(|last| last.key() < item.key()) {
        items.push(item);
        return None;
    }
    match items.binary_search_by_key(&item.key(), Keyed::key) {
        Ok(at) => Some(std::mem::replace(&mut items[at], item)),
        Err(at) => {
            items.insert(at, item);
            None
        }
    }
}

fn remove_sorted<T: Keyed>(items: &mut Vec<T>, key: u32) -> Option<T> {
    items.binary_search_by_key(&key, Keyed::key).ok().map(|at| items.remove(at))
}

/// Joins the chunk that lost an item with a neighbour, where the two are small enough.
fn merge_around<T>(chunks: &mut Vec<Vec<T>>, number: usize) {
    for first in [number, number.wrapping_sub(1)] {
        let Some([lower, upper]) = first.checked_add(2).and_then(|end| chunks.get_mut(first..end)) else { continue };
        if lower.is_empty() || upper.is_empty() || lower.len() + upper.len() <= CHUNK / 2 {
            lower.append(upper);
            chunks.remove(first + 1);
            return;
        }
    }
    give_back(&mut chunks[number]);
}

fn give_back<T>(items: &mut Vec<T>) {
    if items.capacity() > 8 && items.len() < items.capacity() / 4 {
        items.shrink_to(items.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..3000, 1u32..600), 1..40)) {
            let mut list = SortedList::default();
            let mut model = BTreeSet::new();
            for (add, start, count) in steps {
                for key in (start..start + count).map(|key| key * 7919 % 3001) {
                    if add {
                        prop_assert_eq!(list.insert(key).is_none(), model.insert(key));
                    } else {
                        prop_assert_eq!(list.remove(key).is_some(), model.remove(&key));
                    }
                }
                prop_assert!(list.iter().eq(model.iter().copied()));
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(list.find(start).is_some(), model.contains(&start));
            }
        }
    }
}
