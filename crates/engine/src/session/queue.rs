//! Messages that wait for a client, within bounds.

use std::collections::VecDeque;

use super::Pending;
use crate::limits::WhenFull;

/// What a waiting message takes beside its content.
const OVERHEAD: usize = size_of::<Pending>();

/// Messages in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Pending>,
    bytes: usize,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) when_full: WhenFull,
}

fn weight(entry: &Pending) -> usize {
    OVERHEAD + entry.message.len()
}

impl Queue {
    /// Adds a message; what has to give way for it, perhaps itself, goes to `dropped`.
    pub(crate) fn push(&mut self, entry: Pending, room: Room, mut dropped: impl FnMut(Pending)) {
        let weight = weight(&entry);
        while self.entries.len() >= room.messages || self.bytes + weight > room.bytes {
            let oldest = if room.when_full == WhenFull::DropOldest { self.pop() } else { None };
            match oldest {
                Some(oldest) => dropped(oldest),
                None => return dropped(entry),
            }
        }
        self.restore(entry);
    }

    /// Adds a message that was there before, whatever the bounds say now.
    pub(crate) fn restore(&mut self, entry: Pending) {
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
    }

    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let entry = self.entries.pop_front()?;
        self.bytes -= weight(&entry);
        if self.entries.is_empty() {
            // A queue that was long once would keep its memory for ever.
            self.entries.shrink_to(16);
        }
        Some(entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use midge_core::topic::TopicName;
    use midge_mqtt::QoS;

    use super::*;
    use crate::message::Publication;
    use crate::session::Identifiers;

    fn entry(order: u64, size: usize) -> Pending {
        let topic = TopicName::new("t").unwrap();
        let payload = vec![0; size - 1];
        let publication = Publication {
            topic,
            properties: &[],
            payload: &payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            expires: None,
            stamp: 0,
        };
        let message: Arc<_> = publication.to_message();
        Pending { order, message, qos: QoS::AtLeastOnce, retain: false, identifiers: Identifiers::None, shared: None }
    }

    #[test]
    fn the_oldest_or_the_newest_give_way() {
        let bytes = 3 * OVERHEAD + 30;
        for (when_full, messages, sizes, expected) in [
            (WhenFull::DropOldest, 2, &[1, 1, 1][..], "+2 +3 -1"),
            (WhenFull::DropNew, 2, &[1, 1, 1], "+1 +2 -3"),
            (WhenFull::DropOldest, 9, &[10, 10, 10, 20], "+3 +4 -1 -2"),
            (WhenFull::DropNew, 9, &[10, 10, 11], "+1 +2 -3"),
            (WhenFull::DropOldest, 9, &[10, 1000], "-1 -2"),
            (WhenFull::DropOldest, 0, &[1], "-1"),
        ] {
            let room = Room { messages, bytes, when_full };
            let (mut queue, mut dropped) = (Queue::default(), Vec::new());
            for (order, &size) in (1..).zip(sizes) {
                queue.push(entry(order, size), room, |entry| dropped.push(format!("-{}", entry.order)));
            }
            let mut kept: Vec<String> = std::iter::from_fn(|| queue.pop()).map(|entry| format!("+{}", entry.order)).collect();
            kept.extend(dropped);
            assert_eq!((kept.join(" ").as_str(), queue.bytes()), (expected, 0));
        }
    }
}
