//! The list of automatic subscriptions under one key.
//!
//! Each entry is judged by itself: one that can't be read is reported and makes no subscription.

use std::sync::{Arc, LazyLock};

use super::AutoSubscription;
use crate::entry::{Entry, Fields};
use crate::name::Shown;
use crate::rules::MAX_FLAWS;

/// How many entries of one list count; of a longer one, the first by their filters' bytes.
pub const MAX_ENTRIES: usize = 10_000;

/// What one key says, in the order of the filters' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionList(Box<[AutoSubscription]>);

impl SubscriptionList {
    /// Parses the fields of a list's hash; also returns the first [`MAX_FLAWS`] that can't be read.
    #[must_use]
    pub fn parse(fields: &Fields) -> (Self, Vec<String>) {
        let (mut list, mut flaws) = (Vec::new(), Vec::new());
        for (field, value) in fields {
            match parse(field, value) {
                Ok(entry) => list.push(entry),
                Err(flaw) if flaws.len() < MAX_FLAWS => {
                    let field = String::from_utf8_lossy(&field[..field.len().min(260)]);
                    flaws.push(format!("filter \"{}\": {flaw}, so it makes no subscription", Shown(&field)));
                }
                Err(_) => {}
            }
        }
        list.sort_unstable_by(|one, other| one.filter().cmp(other.filter()));
        if list.len() > MAX_ENTRIES {
            flaws.push(format!("has {} entries; only the first {MAX_ENTRIES} count", list.len()));
            list.truncate(MAX_ENTRIES);
        }
        (Self(list.into()), flaws)
    }

    /// Returns what a key with that content says; a key that can't be read says nothing.
    pub(crate) fn of_entry(entry: &Entry) -> (Arc<Self>, Vec<String>) {
        // Most users have no list of their own, so all of them share this one.
        static NONE: LazyLock<Arc<SubscriptionList>> = LazyLock::new(Arc::default);
        let nothing = |flaw: String| (NONE.clone(), vec![format!("{flaw}, so nobody is subscribed by it")]);
        match entry {
            Entry::Missing => (NONE.clone(), Vec::new()),
            Entry::Hash(fields) => {
                let (list, flaws) = Self::parse(fields);
                (Arc::new(list), flaws)
            }
            Entry::Text { .. } => nothing("is a string; a hash is expected".to_owned()),
            Entry::Unreadable(reason) => nothing(reason.clone()),
        }
    }

    /// Returns the entries, in the order of their filters' bytes.
    pub fn iter(&self) -> impl Iterator<Item = &AutoSubscription> {
        self.0.iter()
    }

    /// Returns whether it makes no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse(field: &[u8], value: &[u8]) -> Result<AutoSubscription, String> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned());
    AutoSubscription::parse(text(field)?, text(value)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&[u8], &[u8])]) -> Fields {
        pairs.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn what_cannot_be_read_makes_no_subscription_and_spoils_no_other() {
        let (list, flaws) =
            SubscriptionList::parse(&fields(&[(b"z", b"1"), (b"a#", b"1"), (b"b", b"9"), (b"\xff", b"1"), (b"a", b"0,rap")]));
        let read: Vec<_> = list.iter().map(|entry| format!("{} {}", entry.filter(), entry.options)).collect();
        assert_eq!(read, ["a 0,rap", "z 1"]);
        assert_eq!(flaws.len(), 3, "{flaws:?}");
    }

    #[test]
    fn other_types_subscribe_nobody() {
        for entry in [Entry::Text { value: b"a".to_vec(), ttl: None }, Entry::Unreadable("is a list".to_owned())] {
            let (list, flaws) = SubscriptionList::of_entry(&entry);
            assert!(list.is_empty() && flaws.len() == 1, "{flaws:?}");
        }
        assert_eq!(SubscriptionList::of_entry(&Entry::Missing).1, Vec::<String>::new());
    }

    #[test]
    fn a_long_list_is_cut_in_a_fixed_order() {
        let many = (0..MAX_ENTRIES + 5).rev().map(|n| (format!("t/{n:05}").into_bytes(), b"1".to_vec())).collect();
        let (list, flaws) = SubscriptionList::parse(&many);
        assert_eq!((list.iter().count(), flaws.len()), (MAX_ENTRIES, 1));
        assert_eq!(list.iter().next().map(AutoSubscription::filter), Some("t/00000"));
    }
}
