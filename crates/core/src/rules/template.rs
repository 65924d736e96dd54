//! Topic filters with placeholders for a client's names.
//!
//! A name never changes the shape of a filter, and never reaches topics that begin with `$` by itself.

use std::borrow::Cow;

use crate::name::expandable;
use crate::topic::{TopicError, TopicFilter};

/// Why a text is no filter template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is no topic filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
    /// The bytes are not UTF-8.
    #[error("the filter is not UTF-8")]
    NotUtf8,
    /// `${` begins something else than a known placeholder.
    #[error("an unknown placeholder: allowed are %u, ${{username}}, %c and ${{clientid}}")]
    Placeholder,
}

/// The names of a client, which stand in for placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The username; without one, `%u` stands for nothing.
    pub username: Option<&'a str>,
    /// The client identifier.
    pub client_id: &'a str,
}

/// A topic filter in which `%u` or `${username}` stands for the username, `%c` or `${clientid}` for the client identifier.
///
/// Placeholders may stand anywhere in a level, and several in one level.
/// There is no escape: a `%` in front of any other character is itself, and a literal `%u` can't be written.
/// For a client a template is the filter that it expands to, in one pass: a placeholder inside a name is text.
/// A template says nothing for a client, whether it would allow or deny, where
///
/// * a name that it needs is missing or not [`expandable`]: no filter could be written for this client;
/// * it begins with a placeholder and the name for it begins with `$`: a name opens `$SYS` as little as a wildcard does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    written: &'a str,
    judged: Cow<'a, str>,
}

impl<'a> Template<'a> {
    /// Checks `text` as a filter template.
    ///
    /// # Errors
    /// When it is no topic filter, or holds an unknown placeholder.
    pub fn new(text: &'a str) -> Result<Self, TemplateError> {
        let filter = TopicFilter::new(text)?.as_str();
        if !filter.contains("${") {
            return Ok(Self { written: text, judged: Cow::Borrowed(filter) });
        }
        let judged = filter.replace("${username}", "%u").replace("${clientid}", "%c");
        if judged.contains("${") { Err(TemplateError::Placeholder) } else { Ok(Self { written: text, judged: Cow::Owned(judged) }) }
    }

    /// Returns the template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.written
    }

    /// Returns the filter for the client, without a `$share/NAME/` that was written; `None` where it says nothing for it.
    #[must_use]
    pub fn expand(&self, who: &Who<'_>) -> Option<String> {
        let mut filter = String::with_capacity(self.judged.len());
        for part in parts(&self.judged) {
            let name = match part {
                Part::Text(text) => {
                    filter.push_str(text);
                    continue;
                }
                Part::Name(placeholder) => placeholder.name(who).filter(|name| expandable(name))?,
            };
            if filter.is_empty() && name.starts_with('$') {
                return None;
            }
            filter.push_str(name);
        }
        Some(filter)
    }

    /// Returns the filter without `$share/NAME/`, with `%u` and `%c` as the only placeholders.
    pub(crate) fn judged(&self) -> &str {
        &self.judged
    }
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Username,
    ClientId,
}

impl Placeholder {
    pub(crate) fn name<'a>(self, who: &Who<'a>) -> Option<&'a str> {
        match self {
            Self::Username => who.username,
            Self::ClientId => Some(who.client_id),
        }
    }
}

/// A stretch of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    Name(Placeholder),
}

/// Splits a template with `%u` and `%c` as the only placeholders; no text is empty.
pub(crate) fn parts(judged: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = judged;
    std::iter::from_fn(move || {
        let placeholder = |text: &str| match text.as_bytes() {
            [b'%', b'u', ..] => Some(Placeholder::Username),
            [b'%', b'c', ..] => Some(Placeholder::ClientId),
            _ => None,
        };
        if let Some(found) = placeholder(rest) {
            rest = &rest[2..];
            return Some(Part::Name(found));
        }
        let end = rest.match_indices('%').map(|(at, _)| at).find(|at| placeholder(&rest[*at..]).is_some()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(end);
        rest = tail;
        (!text.is_empty()).then_some(Part::Text(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_for_one_client() {
        let who = Who { username: Some("zoë"), client_id: "%u" };
        let (anonymous, sys) = (Who { username: None, ..who }, Who { username: Some("$SYS"), client_id: "$x" });
        for (template, who, expected) in [
            ("a/%u/b", who, Some("a/zoë/b")),
            ("a/%c", who, Some("a/%u")),
            ("%u-%c%u/${username}${clientid}", who, Some("zoë-%uzoë/zoë%u")),
            ("$share/%u/f/%u", who, Some("f/zoë")),
            ("%%u/50%/%x/$u", who, Some("%zoë/50%/%x/$u")),
            ("%u/#", anonymous, None),
            ("a/#", anonymous, Some("a/#")),
            ("%u/#", sys, None),
            ("%c%u/#", sys, None),
            ("a%u/%u", sys, Some("a$SYS/$SYS")),
            ("/%u", sys, Some("/$SYS")),
            ("%u", Who { username: Some("a/b"), ..who }, None),
            ("%u", Who { username: Some("+"), ..who }, None),
            ("x%c", Who { username: None, client_id: "" }, None),
        ] {
            assert_eq!(Template::new(template).unwrap().expand(&who).as_deref(), expected, "{template} {who:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, expected) in [
            ("", TemplateError::Filter(TopicError::Empty)),
            ("a/%u+", TemplateError::Filter(TopicError::WildcardNotAlone)),
            ("${user}/x", TemplateError::Placeholder),
            ("a/${", TemplateError::Placeholder),
            ("${a/b}", TemplateError::Placeholder),
        ] {
            assert_eq!(Template::new(text), Err(expected), "{text}");
        }
    }
}
