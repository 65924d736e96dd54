//! Names of at most 255 bytes for topics of any length.

use crate::topic::TopicName;

/// The longest name that is kept, in bytes.
///
/// A longer topic counts under as many of its first levels as fit, with `/#` behind them; under `#` where none does.
/// No topic name holds `#`, so no other topic has that name.
pub const MAX_NAME_BYTES: usize = 255;

const REST: &str = "/#";

pub(super) type Buffer = [u8; MAX_NAME_BYTES];

pub(super) const BUFFER: Buffer = [0; MAX_NAME_BYTES];

/// Returns the name under which `topic` counts; `buffer` is only touched for a long one.
#[inline]
pub(super) fn bounded<'a>(topic: TopicName<'a>, buffer: &'a mut Buffer) -> &'a str {
    let text = topic.as_str();
    if text.len() <= MAX_NAME_BYTES { text } else { cut(text, buffer) }
}

#[cold]
fn cut<'a>(text: &str, buffer: &'a mut Buffer) -> &'a str {
    let fitting = text.char_indices().take_while(|(at, _)| at + REST.len() <= MAX_NAME_BYTES);
    let Some((end, _)) = fitting.filter(|(_, character)| *character == '/').last() else { return "#" };
    buffer[..end].copy_from_slice(&text.as_bytes()[..end]);
    buffer[end..end + REST.len()].copy_from_slice(REST.as_bytes());
    std::str::from_utf8(&buffer[..end + REST.len()]).expect("text that ends before a slash stays UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_topics_count_under_their_first_levels() {
        let x = |count: usize| "x".repeat(count);
        for (topic, expected) in [
            ("a/b".to_owned(), "a/b".to_owned()),
            (x(255), x(255)),
            (x(256), "#".to_owned()),
            (format!("a/b/{}", x(252)), "a/b/#".to_owned()),
            (format!("/{}", x(255)), "/#".to_owned()),
            (format!("{}/{}", x(253), x(2)), format!("{}/#", x(253))),
            (format!("{}/{}", x(254), x(2)), "#".to_owned()),
            (format!("{}/ü/{}", x(249), x(9)), format!("{}/ü/#", x(249))),
            (format!("a/{}", "ü".repeat(30_000)), "a/#".to_owned()),
        ] {
            let mut buffer = BUFFER;
            let name = bounded(TopicName::new(&topic).unwrap(), &mut buffer);
            assert_eq!(name, expected, "{} bytes", topic.len());
            assert!(name.len() <= MAX_NAME_BYTES);
        }
    }
}
