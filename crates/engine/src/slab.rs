//! Keeps values under small ids that are used again.
//!
//! Values lie in pages of a fixed size: growing never moves what is there, so no insertion stalls.
//! Pages are kept for reuse when they empty; memory is bounded by the most values there ever were.

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// Values under ids from 0 up.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Stores `value` and returns its id.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(id) = self.free.pop() {
            let (page, slot) = place(id);
            self.pages[page][slot] = Some(value);
            return id;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            // The first page grows like any vector, so that a small slab stays small.
            let capacity = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Vec::with_capacity(capacity));
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        page.push(Some(value));
        u32::try_from((number << PAGE_BITS) + page.len() - 1).expect("fewer than 2^32 values fit in memory")
    }

    /// Takes the value of `id` out; the id will be given out again.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.take(id)?;
        self.release(id);
        Some(value)
    }

    /// Takes the value of `id` out, which stays in use until [`Self::release`].
    pub(crate) fn take(&mut self, id: u32) -> Option<T> {
        let (page, slot) = place(id);
        let value = self.pages.get_mut(page)?.get_mut(slot)?.take()?;
        self.len -= 1;
        Some(value)
    }

    /// Gives an id out again that was [taken](Self::take), once.
    pub(crate) fn release(&mut self, id: u32) {
        self.free.push(id);
    }

    /// Returns the value of `id`.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (page, slot) = place(id);
        self.pages.get(page)?.get(slot)?.as_ref()
    }

    /// Returns the value of `id` for change.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (page, slot) = place(id);
        self.pages.get_mut(page)?.get_mut(slot)?.as_mut()
    }

    /// Returns an id that is greater than all that were given out.
    pub(crate) fn end(&self) -> u32 {
        let last = self.pages.len().saturating_sub(1);
        let ids = (last << PAGE_BITS) + self.pages.last().map_or(0, Vec::len);
        u32::try_from(ids).unwrap_or(u32::MAX)
    }

    /// Returns how many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[inline]
fn place(id: u32) -> (usize, usize) {
    ((id >> PAGE_BITS) as usize, id as usize & (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_reused_and_pages_filled() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..3000).map(|value| slab.insert(value)).collect();
        assert_eq!(ids, (0..3000).collect::<Vec<_>>());
        assert_eq!(slab.get(2999), Some(&2999));
        assert_eq!(slab.remove(7), Some(7));
        assert_eq!(slab.remove(7), None);
        assert_eq!(slab.get(7), None);
        assert_eq!(slab.len(), 2999);
        assert_eq!(slab.insert(1), 7);
        assert_eq!(slab.insert(2), 3000);
        assert_eq!((slab.end(), Slab::<u8>::default().end()), (3001, 0));
        assert_eq!(slab.get_mut(7).copied(), Some(1));
        assert_eq!((slab.take(7), slab.take(7), slab.insert(3)), (Some(1), None, 3001));
        slab.release(7);
        assert_eq!((slab.insert(4), slab.len()), (7, 3002));
        assert_eq!(slab.get(100_000), None);
    }
}
