//! Topic names and topic filters: are they well-formed?
//!
//! Looks at the text alone. Nothing is normalised and no level is interned here.

use crate::error::DecodeError;

/// Checks a topic name: not empty, no wildcard character, no U+0000.
///
/// # Errors
/// [`DecodeError::EmptyTopicName`], [`DecodeError::TopicNameWildcard`],
/// [`DecodeError::NullCharacter`].
#[inline]
pub fn check_topic_name(name: &str) -> Result<(), DecodeError> {
    if name.is_empty() {
        return Err(DecodeError::EmptyTopicName);
    }
    check_no_wildcard(name, DecodeError::TopicNameWildcard)
}

/// Checks a topic filter: not empty, wildcards alone in their level, `#` last, no U+0000.
///
/// Says nothing about shared subscriptions; see [`SharedFilter::parse`].
///
/// # Errors
/// [`DecodeError::EmptyTopicFilter`], [`DecodeError::MultiLevelWildcard`],
/// [`DecodeError::SingleLevelWildcard`], [`DecodeError::NullCharacter`].
pub fn check_topic_filter(filter: &str) -> Result<(), DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::EmptyTopicFilter);
    }
    let bytes = filter.as_bytes();
    let mut level_start = true;
    for (index, &byte) in bytes.iter().enumerate() {
        let next = bytes.get(index + 1);
        match byte {
            0 => return Err(DecodeError::NullCharacter),
            b'#' if !level_start || next.is_some() => return Err(DecodeError::MultiLevelWildcard),
            b'+' if !level_start || next.is_some_and(|&next| next != b'/') => {
                return Err(DecodeError::SingleLevelWildcard);
            }
            _ => {}
        }
        level_start = byte == b'/';
    }
    Ok(())
}

/// A topic filter of the form `$share/NAME/FILTER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The share name: not empty, without `/`, `+` and `#`.
    pub share_name: &'a str,
    /// The topic filter that messages are matched against.
    pub filter: &'a str,
}

impl<'a> SharedFilter<'a> {
    /// Returns the parts of a shared subscription, or `None` for any other topic filter.
    ///
    /// The text must have passed [`check_topic_filter`]. 5.0 refuses what is neither; before 5.0
    /// shared subscriptions don't exist, and an error may be read as "an ordinary topic filter".
    ///
    /// # Errors
    /// [`DecodeError::ShareNameMissing`] and [`DecodeError::ShareNameInvalid`].
    pub fn parse(filter: &'a str) -> Result<Option<Self>, DecodeError> {
        let Some(rest) = filter.strip_prefix("$share/") else { return Ok(None) };
        let (share_name, filter) = rest.split_once('/').unwrap_or((rest, ""));
        if share_name.is_empty() {
            return Err(DecodeError::ShareNameMissing);
        }
        if filter.is_empty() || share_name.contains(['+', '#']) {
            return Err(DecodeError::ShareNameInvalid);
        }
        Ok(Some(Self { share_name, filter }))
    }
}

/// Checks a response topic, which may not contain wildcard characters (`[MQTT-3.3.2-14]`).
pub(crate) fn check_response_topic(topic: &str) -> Result<(), DecodeError> {
    check_no_wildcard(topic, DecodeError::ResponseTopicWildcard)
}

#[inline]
fn check_no_wildcard(topic: &str, error: DecodeError) -> Result<(), DecodeError> {
    if is_plain(topic.as_bytes()) {
        return Ok(());
    }
    Err(if topic.as_bytes().contains(&0) { DecodeError::NullCharacter } else { error })
}

/// Returns whether no byte is U+0000 or a wildcard; eight at a time, as each PUBLISH has a short name to be looked through.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Sets a high bit where a byte is zero, and nowhere if none is (Warren, Hacker's Delight, 6-1).
    let zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let special = |word: u64| zero(word) | zero(word ^ (LOW * u64::from(b'+'))) | zero(word ^ (LOW * u64::from(b'#')));
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| found | special(u64::from_ne_bytes(*word)));
    // Where fewer than eight are left, 0x01 stands before them.
    let last = rest.iter().fold(LOW, |last, byte| (last << 8) | u64::from(*byte));
    found | special(last) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use DecodeError as E;

    #[test]
    fn topic_names() {
        let check = |name, expected| assert_eq!(check_topic_name(name), expected, "{name:?}");
        for name in ["a", "/", "//", " ", "a/b c/d", "/finance", "$SYS/x", "ä/ö", "\u{feff}a"] {
            check(name, Ok(()));
        }
        check("", Err(E::EmptyTopicName));
        check("a/+", Err(E::TopicNameWildcard));
        check("a#", Err(E::TopicNameWildcard));
        check("a\0b", Err(E::NullCharacter));
    }

    #[test]
    fn what_no_name_has_is_found_anywhere() {
        for length in 1..=40 {
            let plain = "\u{1}\u{7f}\"$*,/\u{80}\u{ff}".chars().cycle().take(length).collect::<String>();
            assert_eq!(check_topic_name(&plain), Ok(()));
            for (at, _) in plain.char_indices() {
                for (found, error) in [('\0', E::NullCharacter), ('+', E::TopicNameWildcard), ('#', E::TopicNameWildcard)] {
                    let (before, after) = plain.split_at(at);
                    let name = format!("{before}{found}{after}");
                    assert_eq!(check_topic_name(&name), Err(error), "{name:?}");
                }
            }
        }
    }

    #[test]
    fn topic_filters() {
        let check = |filter, expected| assert_eq!(check_topic_filter(filter), expected, "{filter:?}");
        for filter in ["#", "+", "/", "a", "a/#", "+/#", "/+", "+/+", "a/+/b", "$share", "//#"] {
            check(filter, Ok(()));
        }
        check("", Err(E::EmptyTopicFilter));
        check("a\0", Err(E::NullCharacter));
        for filter in ["a#", "#/", "a/#/b", "##", "+#", "a/b#"] {
            check(filter, Err(if filter == "+#" { E::SingleLevelWildcard } else { E::MultiLevelWildcard }));
        }
        for filter in ["a+", "+a", "++", "a/+b", "a/b+/c"] {
            check(filter, Err(E::SingleLevelWildcard));
        }
    }

    #[test]
    fn shared_filters() {
        let shared = |share_name, filter| Ok(Some(SharedFilter { share_name, filter }));
        let check = |text, expected| assert_eq!(SharedFilter::parse(text), expected, "{text:?}");
        check("$share/g/a/+/#", shared("g", "a/+/#"));
        check("$share/g//a", shared("g", "/a"));
        check("$share/g/#", shared("g", "#"));
        check("$share/g/$share/h/x", shared("g", "$share/h/x"));
        check("$share", Ok(None));
        check("$shared/g/a", Ok(None));
        check("a/$share/b", Ok(None));
        check("$share/", Err(E::ShareNameMissing));
        check("$share//a", Err(E::ShareNameMissing));
        check("$share/g", Err(E::ShareNameInvalid));
        check("$share/g/", Err(E::ShareNameInvalid));
        check("$share/+/a", Err(E::ShareNameInvalid));
        check("$share/#", Err(E::ShareNameInvalid));
    }
}
