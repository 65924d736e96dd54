//! What is subscribed to: a topic filter, perhaps shared.

use midge_core::topic::{TopicError, TopicFilter};

/// A topic filter as SUBSCRIBE carries it, with its share name apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionFilter<'a> {
    share_name: Option<&'a str>,
    filter: TopicFilter<'a>,
}

impl<'a> SubscriptionFilter<'a> {
    /// Checks `text` as a topic filter or as `$share/NAME/FILTER`.
    ///
    /// # Errors
    /// What of the standard's rules the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        let filter = TopicFilter::new(text)?;
        let before = &text[..text.len() - filter.as_str().len()];
        Ok(Self { share_name: before.strip_prefix("$share/").map(|name| name.trim_end_matches('/')), filter })
    }

    /// Returns the filter as a subscription that is not shared.
    #[must_use]
    pub fn ordinary(filter: TopicFilter<'a>) -> Self {
        Self { share_name: None, filter }
    }

    /// Returns the name under which the subscription is shared.
    #[must_use]
    pub fn share_name(self) -> Option<&'a str> {
        self.share_name
    }

    /// Returns the topic filter, without `$share/NAME/`.
    #[must_use]
    pub fn filter(self) -> TopicFilter<'a> {
        self.filter
    }
}

/// Returns whether `filter` matches `topic`; both have been checked before.
///
/// The same answer as `TopicFilter::matches`, for text that is kept without its type.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let (mut filter, mut topic) = (filter.as_bytes(), topic.as_bytes());
    loop {
        match (filter.first(), topic.first()) {
            (Some(b'#'), _) => return true,
            (Some(b'+'), _) => {
                filter = &filter[1..];
                let level = topic.iter().position(|&byte| byte == b'/').unwrap_or(topic.len());
                topic = &topic[level..];
            }
            (Some(wanted), Some(found)) if wanted == found => {
                filter = &filter[1..];
                topic = &topic[1..];
            }
            // `a/#` matches `a` too.
            (rest, None) => return rest.is_none() || filter == b"/#",
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use midge_core::topic::TopicName;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn share_names_are_told() {
        let check = |text, share_name, filter| {
            let parsed = SubscriptionFilter::new(text).unwrap();
            assert_eq!((parsed.share_name(), parsed.filter().as_str()), (share_name, filter), "{text}");
        };
        check("a/+", None, "a/+");
        check("$share/g/a/+", Some("g"), "a/+");
        check("$share/g//a", Some("g"), "/a");
        check("$share/g/$share/h/x", Some("g"), "$share/h/x");
        check("$SYS/#", None, "$SYS/#");
        check("$shared/g/a", None, "$shared/g/a");
        assert_eq!(SubscriptionFilter::new("$share/g"), Err(TopicError::Share));
    }

    proptest! {
        #[test]
        fn text_matches_as_the_types_do(
            filter in "(\\$?[ab]?|\\+)(/([ab]{0,2}|\\+)){0,4}(/#)?|#|\\$[a+/#]{0,3}",
            topic in "\\$?[ab]{0,2}(/[ab]{0,2}){0,4}",
        ) {
            if let (Ok(typed), Ok(name)) = (TopicFilter::new(&filter), TopicName::new(&topic)) {
                prop_assert_eq!(matches(&filter, &topic), typed.matches(name), "{} {}", filter, topic);
            }
        }
    }
}
