//! A user's record, parsed from the fields of its hash.
//!
//! Every field is judged by itself: one that can't be read is reported as a flaw and falls to its safe side
//! (no password, not a superuser, disabled, no login), never to the open one.

use std::sync::Arc;

use crate::entry::Fields;
use crate::name::{ClientId, GroupName, Shown, Username};
use crate::password::StoredPassword;
use crate::rules::MAX_FLAWS;
use crate::scram::ScramCredential;

/// How many groups one user may be in; a record with more is refused as a whole, since a group that is left out may deny.
pub const MAX_GROUPS: usize = 256;

/// What `midge:user:{NAME}` says.
#[derive(Clone, Debug, Default)]
pub struct UserRecord {
    /// The stored password as it stands in the store; it can be read as a [`StoredPassword`].
    pub password: Option<Box<str>>,
    /// Whether every topic is allowed.
    pub superuser: bool,
    /// Whether the user may log in.
    pub enabled: bool,
    /// The groups whose rules apply, in order, each once.
    pub groups: Arc<[GroupName]>,
    /// Which client identifiers the user may connect with.
    pub client_id: Option<ClientPattern>,
    /// What SCRAM-SHA-256 needs.
    pub scram: Option<Box<ScramCredential>>,
}

impl UserRecord {
    /// Parses the fields of a user's hash; also returns the first [`MAX_FLAWS`] that can't be read.
    #[must_use]
    pub fn parse(fields: &Fields) -> (Self, Vec<String>) {
        let mut record = Self { enabled: true, ..Self::default() };
        let mut flaws = Vec::new();
        let mut closed = false;
        for (field, value) in fields {
            if let Err(flaw) = record.set(field, value) {
                closed |= matches!(field.as_slice(), b"enabled" | b"groups" | b"client_id");
                if flaws.len() < MAX_FLAWS {
                    flaws.push(format!("field \"{}\": {flaw}", Shown(&String::from_utf8_lossy(&field[..field.len().min(260)]))));
                }
            }
        }
        record.enabled &= !closed;
        (record, flaws)
    }

    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_owned())?;
        match field {
            b"password" => {
                // Kept as text alone: of those who are known, few have their password hashed at a time.
                StoredPassword::parse(text).map_err(|error| error.to_string())?;
                self.password = Some(text.into());
            }
            b"scram" => self.scram = Some(text.parse::<ScramCredential>().map(Box::new).map_err(|error| error.to_string())?),
            b"superuser" => self.superuser = switch(text)?,
            b"enabled" => self.enabled = switch(text)?,
            b"groups" => self.groups = parse_groups(text)?,
            b"client_id" => self.client_id = Some(ClientPattern(text.into())),
            _ => return Err("unknown: allowed are password, superuser, enabled, groups, client_id, scram".to_owned()),
        }
        Ok(())
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        other => Err(format!("\"{}\" is no switch: allowed are 1, true, yes, on, 0, false, no, off", Shown(other))),
    }
}

fn parse_groups(text: &str) -> Result<Arc<[GroupName]>, String> {
    let mut groups: Vec<GroupName> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let group = name.parse().map_err(|error| format!("{error}"))?;
        if !groups.contains(&group) {
            groups.push(group);
        }
        if groups.len() > MAX_GROUPS {
            return Err(format!("more than {MAX_GROUPS} groups: the user is refused, since a group that is left out may deny"));
        }
    }
    Ok(groups.into())
}

/// Which client identifiers a user may have: `*` stands for any characters, `?` for one, `%u` for the username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPattern(Box<str>);

impl ClientPattern {
    /// Returns whether `user` may connect as `client`.
    #[must_use]
    pub fn matches(&self, user: &Username, client: &ClientId) -> bool {
        let pattern = &self.0;
        let mut parts: Vec<PatternPart> = Vec::with_capacity(pattern.len());
        for (at, literal) in pattern.split("%u").enumerate() {
            if at > 0 {
                parts.extend(user.as_str().chars().map(PatternPart::Literal));
            }
            parts.extend(literal.chars().map(|c| match c {
                '*' => PatternPart::Any,
                '?' => PatternPart::One,
                c => PatternPart::Literal(c),
            }));
        }
        glob(&parts, &client.as_str().chars().collect::<Vec<_>>())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PatternPart {
    Literal(char),
    One,
    Any,
}

/// Matches with one point of return, so that it takes at most `parts * text` steps.
fn glob(parts: &[PatternPart], text: &[char]) -> bool {
    let (mut part, mut at, mut back) = (0, 0, None);
    while at < text.len() {
        match parts.get(part) {
            Some(PatternPart::Any) => {
                back = Some((part, at));
                part += 1;
                continue;
            }
            Some(PatternPart::One) => {}
            Some(PatternPart::Literal(c)) if *c == text[at] => {}
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (part, at) = (star + 1, from + 1);
                    continue;
                }
                None => return false,
            },
        }
        part += 1;
        at += 1;
    }
    parts[part..].iter().all(|rest| *rest == PatternPart::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(&str, &str)]) -> (UserRecord, usize) {
        let fields = fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let (record, flaws) = UserRecord::parse(&fields);
        (record, flaws.len())
    }

    #[test]
    fn what_cannot_be_read_falls_to_the_safe_side() {
        let (record, flaws) = parse(&[("superuser", "maybe"), ("password", "plain text"), ("unknown", "1")]);
        assert!(!record.superuser && record.password.is_none() && record.enabled);
        assert_eq!(flaws, 3);
        for field in [("enabled", "maybe"), ("groups", "a,\0")] {
            assert!(!parse(&[field]).0.enabled, "{field:?}");
        }
        let many = (0..=MAX_GROUPS).map(|n| format!("g{n}")).collect::<Vec<_>>().join(",");
        assert!(!parse(&[("groups", &many), ("enabled", "1")]).0.enabled);
        assert!(!parse(&[("enabled", "1"), ("groups", &many)]).0.enabled);
    }

    #[test]
    fn groups_are_trimmed_and_counted_once() {
        let (record, flaws) = parse(&[("groups", " staff, ops ,,staff")]);
        assert_eq!(record.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(), ["staff", "ops"]);
        assert_eq!(flaws, 0);
    }

    #[test]
    fn client_patterns() {
        let user = "alice".parse().unwrap();
        for (pattern, id, expected) in [
            ("*", "x", true),
            ("alice-*", "alice-phone", true),
            ("alice-*", "bob-phone", false),
            ("%u-*", "alice-1", true),
            ("%u-?", "alice-12", false),
            ("*-%u", "a-b-alice", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "x", false),
            ("x", "x", true),
        ] {
            assert_eq!(ClientPattern(pattern.into()).matches(&user, &id.parse().unwrap()), expected, "{pattern} {id}");
        }
    }
}
