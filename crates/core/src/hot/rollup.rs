//! Patterns that stand for all topics they match.
//!
//! The first pattern in the list that matches a topic takes it: the topic itself is then not counted.
//! A look at a topic costs nothing for patterns whose first byte differs, and for the others a comparison up to where they differ.

use crate::topic::{TopicError, TopicFilter, TopicName};

use super::name::MAX_NAME_BYTES;

/// The most patterns that are taken.
pub const MAX_PATTERNS: usize = 64;

/// Why a list of patterns is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RollUpError {
    /// A pattern is no topic filter; it is held escaped and cut.
    #[error("\"{0}\" can't be a roll-up pattern: {1}")]
    Filter(String, TopicError),
    /// A pattern is longer than a name that is kept; its beginning is held.
    #[error("\"{0}…\" can't be a roll-up pattern: it has more than {MAX_NAME_BYTES} bytes")]
    TooLong(String),
    /// A pattern begins with `$`: such topics aren't counted, and shares don't publish.
    #[error("\"{0}\" can't be a roll-up pattern: topics that begin with $ are not counted")]
    Reserved(String),
    /// There are more patterns than are taken.
    #[error("{0} roll-up patterns, at most {MAX_PATTERNS} are allowed")]
    TooMany(usize),
}

/// The patterns under which topics are counted together, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct RollUp {
    patterns: Vec<Pattern>,
    /// For each first byte of a topic the patterns that may match, one bit each, the first in the lowest.
    candidates: Box<[u64; 256]>,
}

impl Default for RollUp {
    /// Returns no patterns.
    fn default() -> Self {
        Self { patterns: Vec::new(), candidates: Box::new([0; 256]) }
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    text: Box<str>,
    /// What every matching topic begins with.
    beginning: Box<[u8]>,
    /// For each `+` what comes behind it.
    behind: Box<[Box<[u8]>]>,
    end: End,
}

/// What may follow behind the last literal part.
#[derive(Clone, Copy, Debug)]
enum End {
    Nothing,
    /// Behind `/#`, which stands for nothing as well [MQTT 5.0 section 4.7.1.2].
    Levels,
    /// The pattern is `#`.
    Anything,
}

impl RollUp {
    /// Checks a list of topic filters; one that is there twice counts once.
    ///
    /// # Errors
    /// The first pattern that is none, or that there are too many.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, RollUpError> {
        let mut checked: Vec<Pattern> = Vec::new();
        for pattern in patterns {
            let pattern = Pattern::new(pattern.as_ref())?;
            if checked.iter().all(|known| known.text != pattern.text) {
                checked.push(pattern);
            }
        }
        if checked.len() > MAX_PATTERNS {
            return Err(RollUpError::TooMany(checked.len()));
        }
        let mut candidates = Box::new([0; 256]);
        for (number, pattern) in checked.iter().enumerate() {
            match pattern.beginning.first() {
                Some(first) => candidates[usize::from(*first)] |= 1 << number,
                None => candidates.iter_mut().for_each(|mask| *mask |= 1 << number),
            }
        }
        Ok(Self { patterns: checked, candidates })
    }

    /// Returns the patterns as they were written.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.patterns.iter().map(|pattern| &*pattern.text)
    }

    /// Returns the number of the first pattern that matches.
    #[inline]
    pub(super) fn find(&self, topic: TopicName<'_>) -> Option<usize> {
        let first = topic.as_str().as_bytes().first()?;
        let mut left = self.candidates[usize::from(*first)];
        while left != 0 {
            let number = left.trailing_zeros() as usize;
            if self.patterns[number].matches(topic) {
                return Some(number);
            }
            left &= left - 1;
        }
        None
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, RollUpError> {
        let shown = || text.chars().take(40).collect::<String>().escape_debug().to_string();
        TopicFilter::new(text).map_err(|error| RollUpError::Filter(shown(), error))?;
        if text.len() > MAX_NAME_BYTES {
            return Err(RollUpError::TooLong(shown()));
        }
        if text.starts_with('$') {
            return Err(RollUpError::Reserved(shown()));
        }
        let (parts, end) = match text.strip_suffix('#') {
            Some("") => ("", End::Anything),
            Some(levels) => (levels.strip_suffix('/').unwrap_or(levels), End::Levels),
            None => (text, End::Nothing),
        };
        let mut parts = parts.split('+').map(|part| part.as_bytes().into());
        let beginning = parts.next().unwrap_or_default();
        Ok(Self { text: text.into(), beginning, behind: parts.collect(), end })
    }

    /// Answers as [`TopicFilter::matches`] does, for a topic that doesn't begin with `$`.
    fn matches(&self, topic: TopicName<'_>) -> bool {
        let Some(mut rest) = topic.as_str().as_bytes().strip_prefix(&*self.beginning) else { return false };
        for part in &self.behind {
            let level = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            match rest[level..].strip_prefix(&**part) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        match self.end {
            End::Nothing => rest.is_empty(),
            End::Levels => rest.first().is_none_or(|byte| *byte == b'/'),
            End::Anything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_pattern_takes_a_topic() {
        let roll_up = RollUp::new(["site/+/temperature", "site/#", "+/status", "chat/+/msg", "exact/topic", "site/#"]).unwrap();
        assert_eq!(roll_up.patterns().len(), 5);
        for (topic, expected) in [
            ("site/berlin/temperature", Some("site/+/temperature")),
            ("site/berlin/humidity", Some("site/#")),
            ("site", Some("site/#")),
            ("sites", None),
            ("site2/status", Some("+/status")),
            ("chat/alice/msg", Some("chat/+/msg")),
            ("chat/alice/msg/x", None),
            ("exact/topic", Some("exact/topic")),
            ("exact/topic2", None),
            ("a", None),
        ] {
            let found = roll_up.find(TopicName::new(topic).unwrap()).and_then(|number| roll_up.patterns().nth(number));
            assert_eq!(found, expected, "{topic}");
        }
        assert_eq!(RollUp::default().find(TopicName::new("a").unwrap()), None);
    }

    #[test]
    fn lists_that_cannot_be_used_are_refused() {
        let long = format!("{}/+", "x".repeat(254));
        for (patterns, part) in [
            (vec!["a", "b#"], "\"b#\" can't be a roll-up pattern: a wildcard"),
            (vec![long.as_str()], "more than 255 bytes"),
            (vec!["$share/g/a"], "begin with $"),
            (vec![""], "empty"),
        ] {
            let error = RollUp::new(patterns).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(RollUp::new((0..64).map(|n| format!("p{n}/#"))).is_ok());
        assert_eq!(RollUp::new((0..65).map(|n| format!("p{n}/#"))).unwrap_err(), RollUpError::TooMany(65));
    }

    proptest! {
        #[test]
        fn patterns_match_as_filters_do(patterns in proptest::collection::vec("[ab+#/]{1,6}", 1..8), topic in "[ab/]{1,6}") {
            let filters: Vec<&str> = patterns.iter().map(String::as_str).filter(|text| TopicFilter::new(text).is_ok()).collect();
            let roll_up = RollUp::new(&filters).unwrap();
            let topic = TopicName::new(&topic).unwrap();
            let expected = filters.iter().find(|filter| TopicFilter::new(filter).unwrap().matches(topic));
            let found = roll_up.find(topic).and_then(|number| roll_up.patterns().nth(number));
            prop_assert_eq!(found, expected.copied());
        }
    }
}
