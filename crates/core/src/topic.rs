//! Topic names and filters as two types, and how they relate.
//!
//! Matching follows MQTT 5.0 section 4.7: `#` and `+` at the first level never match a topic that begins with `$` [MQTT-4.7.2-1].

use std::fmt;

/// The longest topic name or filter in bytes: an MQTT string has a 16 bit length [MQTT-4.7.3-3].
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The text has no character [MQTT-4.7.3-1].
    #[error("the topic is empty")]
    Empty,
    /// The text is longer than an MQTT string can be.
    #[error("the topic has {0} bytes, at most {MAX_TOPIC_BYTES} are allowed")]
    TooLong(usize),
    /// The text holds U+0000 [MQTT-4.7.3-2].
    #[error("the topic holds the character U+0000")]
    Nul,
    /// A topic name holds `+` or `#` [MQTT-3.3.2-2].
    #[error("a topic name holds a wildcard")]
    WildcardInName,
    /// `+` or `#` shares its level with other characters [MQTT-4.7.1-1] [MQTT-4.7.1-2].
    #[error("a wildcard does not stand alone in its level")]
    WildcardNotAlone,
    /// `#` is followed by another level [MQTT-4.7.1-1].
    #[error("# is not the last level")]
    HashNotLast,
    /// `$share` without a share name and a filter behind it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    #[error("a shared subscription is not of the form $share/NAME/FILTER")]
    Share,
    /// The bytes are not UTF-8.
    #[error("the topic is not UTF-8")]
    NotUtf8,
}

fn check_text(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_TOPIC_BYTES if text.as_bytes().contains(&0) => Err(TopicError::Nul),
        1..=MAX_TOPIC_BYTES => Ok(()),
        long => Err(TopicError::TooLong(long)),
    }
}

/// Returns whether no byte is U+0000 or a wildcard; eight at a time, as names are short and checked for each message.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Sets a high bit where a byte is zero, and nowhere if none is (Warren, Hacker's Delight, 6-1).
    let zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let special = |word: u64| zero(word) | zero(word ^ (LOW * u64::from(b'+'))) | zero(word ^ (LOW * u64::from(b'#')));
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| found | special(u64::from_ne_bytes(*word)));
    let last = rest.iter().fold(LOW, |last, byte| (last << 8) | u64::from(*byte));
    found | special(last) == 0
}

/// The name of a topic that messages are published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text` as a topic name.
    ///
    /// # Errors
    /// What of the standard's rules for topic names the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        if is_plain(text.as_bytes()) && matches!(text.len(), 1..=MAX_TOPIC_BYTES) {
            return Ok(Self(text));
        }
        check_text(text)?;
        Err(TopicError::WildcardInName)
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns whether the name begins with `$`, where wildcards of the first level don't reach.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }

    /// Returns the levels, which may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A topic filter as a client or a rule writes it, without `$share/NAME/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks `text` as a topic filter; `$share/NAME/FILTER` stands for its `FILTER`.
    ///
    /// # Errors
    /// What of the standard's rules for topic filters the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        let filter = match text.strip_prefix("$share") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::inside_share(rest)?,
            _ => text,
        };
        let mut levels = filter.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "#" if levels.peek().is_some() => return Err(TopicError::HashNotLast),
                "#" | "+" => {}
                _ if level.bytes().any(|b| matches!(b, b'+' | b'#')) => return Err(TopicError::WildcardNotAlone),
                _ => {}
            }
        }
        Ok(Self(filter))
    }

    fn inside_share(rest: &'a str) -> Result<&'a str, TopicError> {
        let (name, filter) = rest.strip_prefix('/').and_then(|rest| rest.split_once('/')).ok_or(TopicError::Share)?;
        let named = !name.is_empty() && !name.bytes().any(|b| matches!(b, b'+' | b'#'));
        if named && !filter.is_empty() { Ok(filter) } else { Err(TopicError::Share) }
    }

    /// Returns the filter as text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns the levels: `+`, `#` or a literal, which may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Returns whether a message of `topic` is delivered to a subscription of this filter.
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (literal, Some(level)) if literal == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Returns whether every topic that `other` matches is matched by this filter too.
    #[must_use]
    pub fn covers(self, other: TopicFilter<'_>) -> bool {
        if other.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = other.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                (_, Some("#")) | (_, None) => return false,
                ("+", Some(_)) => {}
                (literal, Some(level)) if literal == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Returns whether some topic is matched by both filters.
    #[must_use]
    pub fn overlaps(self, other: TopicFilter<'_>) -> bool {
        let wild = |filter: TopicFilter<'_>| filter.0.starts_with(['+', '#']);
        if (self.0.starts_with('$') && wild(other)) || (other.0.starts_with('$') && wild(self)) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn names_and_filters_are_checked() {
        for (text, name, as_filter) in [
            ("", Err(TopicError::Empty), Err(TopicError::Empty)),
            ("a\0", Err(TopicError::Nul), Err(TopicError::Nul)),
            ("/", Ok(()), Ok(())),
            ("a//b", Ok(()), Ok(())),
            ("a/+", Err(TopicError::WildcardInName), Ok(())),
            ("#", Err(TopicError::WildcardInName), Ok(())),
            ("a/#/b", Err(TopicError::WildcardInName), Err(TopicError::HashNotLast)),
            ("a+/b", Err(TopicError::WildcardInName), Err(TopicError::WildcardNotAlone)),
            ("a/b#", Err(TopicError::WildcardInName), Err(TopicError::WildcardNotAlone)),
            ("$share", Ok(()), Err(TopicError::Share)),
            ("$share/g", Ok(()), Err(TopicError::Share)),
            ("$share/g/", Ok(()), Err(TopicError::Share)),
            ("$share//f", Ok(()), Err(TopicError::Share)),
            ("$share/+/f", Err(TopicError::WildcardInName), Err(TopicError::Share)),
            ("$share/g/f", Ok(()), Ok(())),
            ("$shared/g", Ok(()), Ok(())),
        ] {
            assert_eq!(TopicName::new(text).map(drop), name, "{text:?}");
            assert_eq!(TopicFilter::new(text).map(drop), as_filter, "{text:?}");
        }
        assert_eq!(filter("$share/g/a/#").as_str(), "a/#");
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (wanted, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("a", "A", false),
        ] {
            assert_eq!(filter(wanted).matches(TopicName::new(topic).unwrap()), expected, "{wanted} {topic}");
        }
    }

    #[test]
    fn filters_cover_and_overlap() {
        for (a, b, covers, overlaps) in [
            ("#", "a/b", true, true),
            ("#", "#", true, true),
            ("#", "$SYS/#", false, false),
            ("+/x", "$SYS/x", false, false),
            ("$SYS/#", "$SYS/broker/+", true, true),
            ("a/+", "a/#", false, true),
            ("a/#", "a/+", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/#", true, true),
            ("a/+", "a/+", true, true),
            ("a/+", "a/b/c", false, false),
            ("a/b", "a/+", false, true),
            ("+/b", "a/+", false, true),
            ("a/+/#", "a/#", false, true),
            ("a/b/#", "a", false, false),
            ("a/b/#", "a/+", false, true),
        ] {
            assert_eq!(filter(a).covers(filter(b)), covers, "{a} covers {b}");
            assert_eq!(filter(a).overlaps(filter(b)), overlaps, "{a} overlaps {b}");
            assert_eq!(filter(b).overlaps(filter(a)), overlaps, "{b} overlaps {a}");
        }
    }
}
