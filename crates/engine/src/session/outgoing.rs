//! What waits to be written to one connection.
//!
//! Small things are copied one behind the other; long tails of messages are referred to where they lie, for a vectored write.
//! An idle connection has none of this: buffers go round among the connections of a loop.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::message::Message;

/// Tails up to this size are copied: cheaper than one more element of a vectored write.
pub(crate) const COPY_LIMIT: usize = 1024;

/// Consumed bytes in front that are worth moving the rest for.
const COMPACT: usize = 16 * 1024;

/// Bytes in their order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    own: Vec<u8>,
    read: usize,
    tails: VecDeque<Tail>,
    tail_bytes: usize,
}

/// The rest of a message that stands behind `own[..at]`.
#[derive(Debug)]
struct Tail {
    at: usize,
    message: Arc<Message>,
    offset: usize,
}

impl Outgoing {
    /// Returns the buffer to append to.
    #[inline]
    pub(crate) fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends the end of a message from `offset` on without a copy.
    pub(crate) fn push_tail(&mut self, message: Arc<Message>, offset: usize) {
        self.tail_bytes += message.len().saturating_sub(offset);
        self.tails.push_back(Tail { at: self.own.len(), message, offset });
    }

    /// Returns how many bytes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.own.len() - self.read + self.tail_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes that the buffer itself takes.
    pub(crate) fn capacity(&self) -> usize {
        self.own.capacity()
    }

    /// Fills `slices` from the front with what is to be written next and returns how many it used.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut put = |bytes: &'a [u8]| {
            let Some(slice) = slices.get_mut(used).filter(|_| !bytes.is_empty()) else { return };
            *slice = IoSlice::new(bytes);
            used += 1;
        };
        let mut read = self.read;
        for tail in &self.tails {
            put(&self.own[read..tail.at]);
            read = tail.at;
            put(tail.message.rest(tail.offset));
        }
        put(&self.own[read..]);
        used
    }

    /// Forgets the first `count` bytes, which were written.
    pub(crate) fn consume(&mut self, mut count: usize) {
        while count > 0 {
            let end = self.tails.front().map_or(self.own.len(), |tail| tail.at);
            let step = count.min(end - self.read);
            self.read += step;
            count -= step;
            let Some(tail) = self.tails.front_mut().filter(|tail| tail.at == self.read) else {
                // More than there was can't have been written.
                if step == 0 {
                    break;
                }
                continue;
            };
            let left = tail.message.len().saturating_sub(tail.offset);
            let step = count.min(left);
            tail.offset += step;
            self.tail_bytes -= step;
            count -= step;
            if step == left {
                self.tails.pop_front();
            }
        }
        if self.is_empty() {
            self.clear();
        } else if self.read >= COMPACT && self.read * 2 > self.own.len() {
            self.own.drain(..self.read);
            self.tails.iter_mut().for_each(|tail| tail.at -= self.read);
            self.read = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.own.clear();
        self.tails.clear();
        (self.read, self.tail_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use midge_core::topic::TopicName;
    use midge_mqtt::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Publication;

    fn message(payload: &[u8]) -> Arc<Message> {
        let topic = TopicName::new("t").unwrap();
        Publication { topic, properties: &[], payload, qos: QoS::AtMostOnce, retain: false, expires: None, stamp: 0 }.to_message()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn bytes_come_out_as_they_went_in(steps in prop::collection::vec((any::<bool>(), 0..9000usize, 0..20_000usize, 1..5usize), 1..40)) {
            let (mut outgoing, mut model) = (Outgoing::default(), VecDeque::new());
            let mut next = 0u8;
            for (shared, size, written, slots) in steps {
                let bytes: Vec<u8> = std::iter::repeat_with(|| { next = next.wrapping_add(1); next }).take(size).collect();
                model.extend(bytes.iter().copied());
                if shared {
                    outgoing.push_tail(message(&bytes), 1);
                } else {
                    outgoing.own().extend_from_slice(&bytes);
                }
                let mut slices = vec![IoSlice::new(&[]); slots];
                let used = outgoing.slices(&mut slices);
                let front: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(model.iter().copied().take(front.len()).eq(front.iter().copied()));
                prop_assert!(used == slots || front.len() == model.len());
                let written = written.min(front.len());
                outgoing.consume(written);
                model.drain(..written);
                prop_assert_eq!(outgoing.len(), model.len());
            }
        }
    }
}
