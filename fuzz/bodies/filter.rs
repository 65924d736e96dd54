//! Bytes as filters: all ways to match agree.
//!
//! The first line is a topic name, the others are filters.

use midge_core::topic::{TopicFilter, TopicName};

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    let filters: Vec<&str> = lines.take(8).collect();
    let topic = TopicName::new(name);
    assert_eq!(topic.is_ok(), midge_mqtt::check_topic_name(name).is_ok(), "{name:?}");
    for filter in &filters {
        let parsed = TopicFilter::new(filter);
        let _ = midge_mqtt::check_topic_filter(filter);
        let (Ok(parsed), Ok(topic)) = (parsed, topic) else { continue };
        let plain = plainly(parsed.as_str(), name);
        assert_eq!(parsed.matches(topic), plain, "{filter:?} {name:?}");
        for other in &filters {
            let Ok(other) = TopicFilter::new(other) else { continue };
            if parsed.covers(other) && other.matches(topic) {
                assert!(parsed.matches(topic), "{parsed:?} covers {other:?}, but {name:?}");
            }
            if parsed.matches(topic) && other.matches(topic) {
                assert!(parsed.overlaps(other) && other.overlaps(parsed), "{parsed:?} {other:?} {name:?}");
            }
        }
    }
}

/// Section 4.7, word by word.
fn plainly(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && levels(filter, topic),
            _ => false,
        }
    }
    let split = |text| str::split(text, '/').collect::<Vec<_>>();
    levels(&split(filter), &split(topic))
}
