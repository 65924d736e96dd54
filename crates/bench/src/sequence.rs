//! Which messages of a stream one receiver has had.
//!
//! Exact, whatever the order: memory grows with the holes, not with the messages.

use std::collections::BTreeMap;

/// What a message is beside those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one, or one after a hole.
    InOrder,
    /// The first of its number, after one with a greater number.
    Late,
    /// Its number has been there.
    Duplicate,
}

/// The numbers of one stream that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    next: u64,
    /// Numbers below `next` that are missing: where a hole begins, and where it ends.
    holes: BTreeMap<u64, u64>,
}

impl Sequence {
    /// Takes note of a number.
    pub(crate) fn take(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            if number > self.next {
                self.holes.insert(self.next, number);
            }
            self.next = number.saturating_add(1);
            return Arrival::InOrder;
        }
        let Some((&start, &end)) = self.holes.range(..=number).next_back().filter(|&(_, &end)| number < end) else {
            return Arrival::Duplicate;
        };
        self.holes.remove(&start);
        if start < number {
            self.holes.insert(start, number);
        }
        if number + 1 < end {
            self.holes.insert(number + 1, end);
        }
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_what_a_set_says(numbers in prop::collection::vec(0_u64..40, 0..200)) {
            let (mut sequence, mut set) = (Sequence::default(), BTreeSet::new());
            for number in numbers {
                let greatest = set.last().copied();
                let expected = match (set.insert(number), greatest) {
                    (false, _) => Arrival::Duplicate,
                    (true, Some(greatest)) if greatest > number => Arrival::Late,
                    (true, _) => Arrival::InOrder,
                };
                prop_assert_eq!(sequence.take(number), expected);
            }
            let missing = sequence.next - set.len() as u64;
            prop_assert_eq!(sequence.holes.iter().map(|(start, end)| end - start).sum::<u64>(), missing);
        }
    }
}
