//! Walks through matching retained messages, a step at a time.
//!
//! The cursor owns its place and borrows nothing, so that the store may change between two steps.

use std::time::Duration;

use midge_core::topic::TopicFilter;

use super::{Message, Retained, to_key};

/// The smallest character that may follow where a level's end did not: everything below a level sorts before it.
const PAST_LEVEL: char = '\u{1}';

/// The first text behind all that begin with `$`.
const PAST_RESERVED: &str = "%";

/// Whether a query has more to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The limit was reached.
    More,
    /// All messages that match were found.
    Done,
}

/// A query for the retained messages that a topic filter matches.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The filter, its levels ending as those of keys do.
    filter: String,
    /// All keys before this are dealt with.
    start: String,
    done: bool,
    topic: String,
}

/// What a key means for a filter.
enum Verdict {
    Match,
    /// The next key can match.
    Next,
    /// No key before this one matches.
    Seek(String),
    /// No key from here on matches.
    Done,
}

impl Cursor {
    /// Returns a query at its beginning.
    #[must_use]
    pub fn new(filter: TopicFilter<'_>) -> Self {
        let filter = to_key(filter.as_str());
        let literal = filter.find(['+', '#']).unwrap_or(filter.len());
        // `a/#` matches `a` too, which sorts before `a/`.
        let literal = if filter[literal..].starts_with('#') { literal.saturating_sub(1) } else { literal };
        Self { start: filter[..literal].to_owned(), filter, done: false, topic: String::new() }
    }

    /// Goes on: visits at most `limit` topics and calls `found` with each that matches and has not expired at `now`.
    ///
    /// A topic that is visited in vain costs as much as one that is found.
    pub fn next_batch<V>(
        &mut self,
        retained: &Retained<V>,
        limit: usize,
        now: Duration,
        mut found: impl FnMut(&str, &Message<V>),
    ) -> Progress {
        let mut visited = 0;
        while !self.done {
            let mut seek = None;
            for (key, message) in retained.from(&self.start) {
                if visited == limit {
                    self.start = key.to_string();
                    return Progress::More;
                }
                visited += 1;
                match self.judge(key) {
                    Verdict::Match if message.is_expired(now) => {}
                    Verdict::Match => {
                        self.topic.clear();
                        self.topic.extend(key.split('\0').flat_map(|level| ["/", level]).skip(1));
                        found(&self.topic, message);
                    }
                    Verdict::Next => {}
                    Verdict::Seek(to) => {
                        seek = Some(to);
                        break;
                    }
                    Verdict::Done => break,
                }
            }
            match seek {
                Some(start) => self.start = start,
                None => self.done = true,
            }
        }
        Progress::Done
    }

    fn judge(&self, key: &str) -> Verdict {
        if key.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return Verdict::Seek(PAST_RESERVED.to_owned()); // [MQTT-4.7.2-1]
        }
        // The end of the last level that a `+` stood for: what can still advance.
        let mut plus = None;
        let mut end = 0;
        let mut levels = key.split('\0');
        for wanted in self.filter.split('\0') {
            let level = match (wanted, levels.next()) {
                ("#", _) => return Verdict::Match,
                (_, None) if wanted == "+" => return Verdict::Next,
                (_, None) => return Verdict::Seek(format!("{key}\0{wanted}")),
                (_, Some(level)) => level,
            };
            let before = &key[..end];
            end += level.len();
            if wanted == "+" {
                plus = Some(end);
            } else if level < wanted {
                return Verdict::Seek(format!("{before}{wanted}"));
            } else if level > wanted {
                return plus.map_or(Verdict::Done, |plus| past(&key[..plus]));
            }
            // The separator belongs to what comes before the next level.
            end += 1;
        }
        if levels.next().is_none() { Verdict::Match } else { past(&key[..end - 1]) }
    }
}

/// Leads past everything below `level`.
fn past(level: &str) -> Verdict {
    Verdict::Seek(format!("{level}{PAST_LEVEL}"))
}

#[cfg(test)]
mod tests {
    use midge_core::topic::TopicName;

    use super::*;
    use crate::retained::Bounds;

    fn query(topics: &[&str], filter: &str) -> Vec<String> {
        let mut retained = Retained::new(Bounds { messages: 100, bytes: 10_000 });
        for topic in topics {
            let message = Message { value: (), bytes: 0, expires: None };
            retained.set(TopicName::new(topic).unwrap(), message, Duration::ZERO).unwrap();
        }
        let mut cursor = Cursor::new(TopicFilter::new(filter).unwrap());
        let mut found = Vec::new();
        while cursor.next_batch(&retained, 1, Duration::ZERO, |topic, _| found.push(topic.to_owned())) == Progress::More {}
        found
    }

    #[test]
    fn filters_find_their_topics_in_order() {
        let topics = ["a", "a!", "a/b", "a/b/c", "a/c", "b", "b/", "b//c", "$SYS/b", "$SYS", "/", "/c", "a\u{1}/b", "a b/c"];
        for (filter, expected) in [
            ("a", &["a"][..]),
            ("a/#", &["a", "a/b", "a/b/c", "a/c"]),
            ("#", &["/", "/c", "a", "a/b", "a/b/c", "a/c", "a\u{1}/b", "a b/c", "a!", "b", "b/", "b//c"]),
            ("+", &["a", "a!", "b"]),
            ("+/b", &["a/b", "a\u{1}/b"]),
            ("+/c", &["/c", "a/c", "a b/c"]),
            ("+/+/c", &["a/b/c", "b//c"]),
            ("$SYS/#", &["$SYS", "$SYS/b"]),
            ("$SYS/+", &["$SYS/b"]),
            ("/+", &["/", "/c"]),
            ("b/+/#", &["b/", "b//c"]),
            ("x/#", &[]),
            ("a/+/x", &[]),
        ] {
            assert_eq!(query(&topics, filter), expected, "{filter}");
        }
    }
}
