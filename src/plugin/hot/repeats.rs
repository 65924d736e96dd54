//! QoS 2 messages that come again.
//!
//! A client sends what was not acknowledged again when it resumes its session, in order and before anything new
//! [MQTT 5.0 section 4.4], and the broker passes on none of it twice. Which these are is guessed from topic and payload:
//! an equal message counts once if it was sent in the last seconds of the connection before, and is among the first of this one.
//! A client that repeats itself within one connection, which the standard doesn't allow, counts each time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use midge_core::hot::Arrival;

use crate::events::Message;
use crate::host::SessionStart;

/// How many clients are watched; those of others count again.
const MAX_WATCHED: usize = 10_000;
/// How many messages of a client are: as many as it may have under way, unless it was granted more.
const MAX_UNDER_WAY: usize = 20;
/// How long before the end of a connection a message was sent that may have remained without an answer.
const UNANSWERED: Duration = Duration::from_secs(30);
/// How much of a payload is looked at, from its beginning and from its end.
const SAMPLE: usize = 256;

/// What may come again.
#[derive(Default)]
pub(super) struct Repeats {
    keys: RandomState,
    clients: HashMap<u64, Watched>,
    /// Who has gone, in order; some of them are back.
    gone: VecDeque<u64>,
}

#[derive(Default)]
struct Watched {
    /// What was sent in this connection and when, in order.
    sent: VecDeque<(u64, Duration)>,
    /// What was sent at the end of the one before.
    before: VecDeque<u64>,
    departed: bool,
}

impl Repeats {
    /// Says whether a QoS 2 message was there before.
    pub(super) fn see(&mut self, id: &[u8], message: &Message<'_>, now: Duration) -> Arrival {
        let print = self.print(message.topic, message.payload);
        self.note(self.keys.hash_one(id), print, now, || message.client.session_start())
    }

    /// Notes that a client's connection has ended.
    pub(super) fn departed(&mut self, id: &[u8], now: Duration) {
        if self.clients.is_empty() {
            return;
        }
        let key = self.keys.hash_one(id);
        let Some(client) = self.clients.get_mut(&key).filter(|client| !client.departed) else { return };
        let unanswered = client.sent.drain(..).filter(|(_, at)| now.saturating_sub(*at) < UNANSWERED);
        client.before = unanswered.map(|(print, _)| print).collect();
        client.departed = true;
        if client.before.is_empty() {
            self.clients.remove(&key);
        } else {
            self.gone.push_back(key);
        }
    }

    fn print(&self, topic: &[u8], payload: &[u8]) -> u64 {
        let (first, last) = (payload.get(..SAMPLE.min(payload.len())), payload.get(payload.len().saturating_sub(SAMPLE)..));
        self.keys.hash_one((topic, payload.len(), first, last))
    }

    fn note(&mut self, key: u64, print: u64, now: Duration, start: impl FnOnce() -> SessionStart) -> Arrival {
        if !self.clients.contains_key(&key) && !self.has_room() {
            return Arrival::First;
        }
        let client = self.clients.entry(key).or_default();
        if std::mem::take(&mut client.departed) && start() == SessionStart::Clean {
            client.before.clear();
        }
        if client.sent.len() == MAX_UNDER_WAY {
            client.sent.pop_front();
        }
        client.sent.push_back((print, now));
        match client.before.iter().position(|sent| *sent == print) {
            Some(at) => {
                client.before.drain(..=at);
                Arrival::Repeated
            }
            None => {
                client.before.clear();
                Arrival::First
            }
        }
    }

    /// Makes room for another client, from those who have gone.
    fn has_room(&mut self) -> bool {
        while self.clients.len() >= MAX_WATCHED || self.gone.len() >= 2 * MAX_WATCHED {
            let Some(key) = self.gone.pop_front() else { return false };
            if self.clients.get(&key).is_some_and(|client| client.departed) {
                self.clients.remove(&key);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESUMED: fn() -> SessionStart = || SessionStart::Resumed;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_under_way_counts_once() {
        for (name, sent, left, start, again, expected) in [
            ("all come again", [1, 2, 3], 10, SessionStart::Resumed, [1, 2, 3], [true, true, true]),
            ("the first was answered", [1, 2, 3], 10, SessionStart::Resumed, [2, 3, 4], [true, true, false]),
            ("something new ends it", [1, 2, 3], 10, SessionStart::Resumed, [4, 1, 2], [false, false, false]),
            ("a new session", [1, 2, 3], 10, SessionStart::Clean, [1, 2, 3], [false, false, false]),
            ("too long ago", [1, 2, 3], 40, SessionStart::Resumed, [1, 2, 3], [false, false, false]),
            ("the same message twice", [1, 1, 1], 10, SessionStart::Resumed, [1, 1, 1], [true, true, true]),
        ] {
            let mut repeats = Repeats::default();
            for print in sent {
                assert_eq!(repeats.note(7, print, at(5), RESUMED), Arrival::First, "{name}");
            }
            let key = repeats.keys.hash_one(b"c".as_slice());
            let watched = repeats.clients.remove(&7).unwrap();
            repeats.clients.insert(key, watched);
            repeats.departed(b"c", at(left));
            let found = again.map(|print| repeats.note(key, print, at(60), || start) == Arrival::Repeated);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn those_who_have_gone_make_room() {
        let mut repeats = Repeats::default();
        let id = |n: usize| n.to_string().into_bytes();
        for n in 0..3 * MAX_WATCHED {
            let key = repeats.keys.hash_one(id(n).as_slice());
            repeats.note(key, 1, at(1), RESUMED);
            repeats.departed(&id(n), at(2));
        }
        assert_eq!(repeats.clients.len(), MAX_WATCHED);
        assert!(repeats.gone.len() <= 2 * MAX_WATCHED);
        for n in 0..2 * MAX_WATCHED {
            let key = repeats.keys.hash_one(id(n).as_slice());
            repeats.note(key, 2, at(3), RESUMED);
        }
        assert_eq!(repeats.clients.len(), MAX_WATCHED);
    }

    #[test]
    fn messages_differ_by_topic_length_and_both_ends() {
        let repeats = Repeats::default();
        let long = |first: u8, last: u8| {
            let mut payload = vec![0; 1_000];
            (payload[0], payload[999]) = (first, last);
            payload
        };
        let cases = [
            repeats.print(b"a", b"x"),
            repeats.print(b"b", b"x"),
            repeats.print(b"a", b"xy"),
            repeats.print(b"a", &long(0, 0)),
            repeats.print(b"a", &long(1, 0)),
            repeats.print(b"a", &long(0, 1)),
        ];
        assert_eq!(cases.iter().collect::<std::collections::HashSet<_>>().len(), cases.len());
        assert_eq!(repeats.print(b"a", b"x"), repeats.print(b"a", b"x"));
    }
}
