//! The one table of wire vectors: bytes, meaning, clause.
//!
//! Codec, engine, broker and fuzz seeds read this table and keep none of their own. The files are
//! in `vectors/`; one row is
//!
//! ```text
//! VERSION SENDER EXPECTED [CLAUSE] | BYTES | NOTE
//! ```
//!
//! * `VERSION` is `3`, `4` or `5`, the protocol level.
//! * `SENDER` is `new` (a client before CONNECT), `client` or `server`.
//! * `EXPECTED` is `ok`; `ok~` for a valid packet that this crate would write in other bytes; or
//!   the reason code, a colon and the name of the [`DecodeError`], followed by the clause.
//! * `BYTES` are hexadecimal digits, with `"text"` for text, `'text'` for text with its length in
//!   two bytes in front, `{ … }` for a group with its length as a variable byte integer in front,
//!   `( … )` for a group with its length in two bytes, and `xx*N` for a byte N times.
//!
//! Empty lines and lines that begin with `#` are skipped.

use crate::{DecodeError, Peer, ProtocolVersion, ReasonCode, Rules};

const FILES: &[(&str, &str)] = &[
    ("fixed-header.txt", include_str!("../vectors/fixed-header.txt")),
    ("connect.txt", include_str!("../vectors/connect.txt")),
    ("connack.txt", include_str!("../vectors/connack.txt")),
    ("publish.txt", include_str!("../vectors/publish.txt")),
    ("acknowledge.txt", include_str!("../vectors/acknowledge.txt")),
    ("subscribe.txt", include_str!("../vectors/subscribe.txt")),
    ("suback.txt", include_str!("../vectors/suback.txt")),
    ("ping-disconnect-auth.txt", include_str!("../vectors/ping-disconnect-auth.txt")),
    ("properties.txt", include_str!("../vectors/properties.txt")),
];

/// One row: bytes and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// File and line, for messages.
    pub origin: String,
    /// The version that the connection speaks, or that CONNECT asks for.
    pub version: ProtocolVersion,
    /// Who sends.
    pub peer: Peer,
    /// What decoding must say.
    pub expected: Expected,
    /// The packet.
    pub bytes: Vec<u8>,
    /// What the row shows.
    pub note: String,
}

/// What decoding must say of a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A packet; `canonical` if encoding it gives the same bytes.
    Packet {
        /// Whether encoding gives the same bytes.
        canonical: bool,
    },
    /// A refusal.
    Refused {
        /// The reason code to answer with.
        reason_code: ReasonCode,
        /// The name of the [`DecodeError`].
        error: String,
        /// The clause that is broken; `None` where the version has none.
        clause: Option<String>,
    },
}

impl Vector {
    /// Returns the rules under which the vector is to be decoded.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules::new(self.peer)
    }

    /// Returns whether the packet is valid.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self.expected, Expected::Packet { .. })
    }

    /// Returns whether an error is the expected one: reason code, name and clause.
    #[must_use]
    pub fn expects(&self, found: &DecodeError) -> bool {
        let Expected::Refused { reason_code, error, clause } = &self.expected else { return false };
        let debug = format!("{found:?}");
        let name = debug.split(['(', ' ']).next().unwrap_or_default();
        found.reason_code() == *reason_code && name == error && found.clause(self.version) == clause.as_deref()
    }
}

/// Returns all vectors, in the order of the files.
///
/// # Panics
/// Where a row of the table is not in the notation: it is part of this crate.
#[must_use]
pub fn all() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (file, text) in FILES {
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let origin = format!("{file}:{}", index + 1);
            match parse_row(origin.clone(), line) {
                Some(vector) => vectors.push(vector),
                None => panic!("{origin}: not in the notation: {line}"),
            }
        }
    }
    vectors
}

/// Returns the bytes that a text in the notation of the table stands for, or `None`.
#[must_use]
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut chars = text.chars().collect::<Vec<_>>();
    chars.reverse();
    let bytes = group(&mut chars, None)?;
    chars.is_empty().then_some(bytes)
}

fn parse_row(origin: String, line: &str) -> Option<Vector> {
    let (head, rest) = line.split_once('|')?;
    let (packet, note) = rest.rsplit_once('|')?;
    let mut words = head.split_whitespace();
    let version = match words.next()? {
        "3" => ProtocolVersion::V31,
        "4" => ProtocolVersion::V311,
        "5" => ProtocolVersion::V5,
        _ => return None,
    };
    let peer = match words.next()? {
        "new" => Peer::NewClient,
        "client" => Peer::Client(version),
        "server" => Peer::Server(version),
        _ => return None,
    };
    let expected = match words.next()? {
        "ok" => Expected::Packet { canonical: true },
        "ok~" => Expected::Packet { canonical: false },
        refused => {
            let (code, error) = refused.strip_prefix("0x")?.split_once(':')?;
            let reason_code = ReasonCode::new(u8::from_str_radix(code, 16).ok()?)?;
            let clause = words.next().map(str::to_owned);
            Expected::Refused { reason_code, error: error.to_owned(), clause }
        }
    };
    let note = note.trim().to_owned();
    Some(Vector { origin, version, peer, expected, bytes: bytes(packet)?, note })
}

/// Reads from the end of `chars`, which are reversed, up to the bracket that closes the group.
fn group(chars: &mut Vec<char>, close: Option<char>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(next) = chars.pop() {
        match next {
            ' ' => {}
            '{' => {
                let inner = group(chars, Some('}'))?;
                crate::wire::put_variable_byte_integer(&mut bytes, inner.len().try_into().ok()?);
                bytes.extend(inner);
            }
            '(' => {
                let inner = group(chars, Some(')'))?;
                crate::wire::put_binary(&mut bytes, &inner).ok()?;
            }
            '"' => bytes.extend_from_slice(quoted(chars, '"')?.as_bytes()),
            '\'' => {
                let text = quoted(chars, '\'')?;
                crate::wire::put_binary(&mut bytes, text.as_bytes()).ok()?;
            }
            _ if Some(next) == close => return Some(bytes),
            _ => hexadecimal(next, chars, &mut bytes)?,
        }
    }
    close.is_none().then_some(bytes)
}

fn quoted(chars: &mut Vec<char>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.pop()? {
            end if end == quote => return Some(text),
            other => text.push(other),
        }
    }
}

/// Reads the second digit of a byte and a repetition, if there is one.
fn hexadecimal(first: char, chars: &mut Vec<char>, bytes: &mut Vec<u8>) -> Option<()> {
    let digits = [first, chars.pop()?].iter().collect::<String>();
    let byte = u8::from_str_radix(&digits, 16).ok()?;
    let mut count = 1;
    if chars.last() == Some(&'*') {
        chars.pop();
        let mut number = String::new();
        while chars.last().is_some_and(char::is_ascii_digit) {
            number.extend(chars.pop());
        }
        count = number.parse().ok()?;
    }
    bytes.resize(bytes.len() + count, byte);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation() {
        let check = |text, expected: Option<&[u8]>| {
            assert_eq!(bytes(text).as_deref(), expected, "{text}");
        };
        check("", Some(&[]));
        check("30 0a0B", Some(&[0x30, 0x0A, 0x0B]));
        check("{ 'ab' \"c\" }", Some(&[5, 0, 2, b'a', b'b', b'c']));
        check("(01*3)", Some(&[0, 3, 1, 1, 1]));
        check("{ 00*128 } 7", None);
        check("{ 00", None);
        check("00 }", None);
        check("'a", None);
        check("0g", None);
    }
}
