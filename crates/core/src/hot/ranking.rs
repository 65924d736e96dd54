//! A ranked list as servers publish it.

use serde::Serialize;

use super::{HotTopic, Window};

/// The hottest topics of a window at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ranking {
    /// The window, by its name.
    #[serde(serialize_with = "name")]
    pub window: Window,
    /// The moment, in seconds since 1970.
    pub at: u64,
    /// Who has seen these publishes; `None` for all nodes together.
    pub node: Option<String>,
    /// By messages, most first.
    pub topics: Vec<HotTopic>,
}

impl Ranking {
    /// Returns the list as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a form in JSON")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn name<S: serde::Serializer>(window: &Window, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(window.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_spelled_as_documented() {
        let topics = vec![HotTopic { name: "a/\"b\"".to_owned(), messages: 3, bytes: 60, deliveries: 6, publishers: 2 }];
        let ranking = Ranking { window: Window::Minute, at: 1_795_449_605, node: None, topics };
        let expected = concat!(
            r#"{"window":"1m","at":1795449605,"node":null,"topics":["#,
            r#"{"topic":"a/\"b\"","messages":3,"bytes":60,"deliveries":6,"publishers":2}]}"#
        );
        assert_eq!(ranking.to_json(), expected);
    }
}
