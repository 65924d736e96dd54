//! Commands for each kind of key, and their answers.

use std::time::Duration;

use ::redis::{Pipeline, RedisError, Value};
use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};

use super::classify;
use crate::{KeyKind, StoreError, Write, Written};

/// Adds the two commands that read `key`.
pub(super) fn read(pipeline: &mut Pipeline, key: &Key, rendered: &str) {
    if is_text(key) {
        pipeline.cmd("GET").arg(rendered).cmd("PTTL").arg(rendered);
    } else {
        // The second command adds nothing and keeps every item at two answers.
        pipeline.cmd("HGETALL").arg(rendered).cmd("EXISTS").arg(rendered);
    }
}

fn is_text(key: &Key) -> bool {
    matches!(key, Key::Ban(_) | Key::Shield(_))
}

/// Returns what the two answers of [`read`] say.
///
/// # Errors
/// The answer is not about this key: a server that refuses us has not said that a key can't be read.
pub(super) fn entry(key: &Key, values: Result<[Value; 2], RedisError>, most: usize) -> Result<Entry, StoreError> {
    let answer = match values {
        Err(error) => return unreadable(key, &error),
        Ok(answer) => answer,
    };
    Ok(match (is_text(key), answer) {
        // The second is the answer where the key has ended between the two questions.
        (true, [Value::Nil, _] | [_, Value::Int(-2)]) => Entry::Missing,
        (true, [Value::BulkString(value), Value::Int(ttl)]) => {
            Entry::Text { value, ttl: u64::try_from(ttl).ok().map(Duration::from_millis) }
        }
        (false, [Value::Map(pairs), _]) if pairs.len() > most => too_large(pairs.len(), most),
        (false, [Value::Map(pairs), _]) => fields(pairs.into_iter()),
        (false, [Value::Array(flat), _]) if flat.len() / 2 > most => too_large(flat.len() / 2, most),
        (false, [Value::Array(flat), _]) if flat.len() % 2 == 0 => {
            let mut flat = flat.into_iter();
            fields(std::iter::from_fn(|| flat.next().zip(flat.next())))
        }
        _ => return Err(StoreError::Away("the answer is of an unknown form".to_owned())),
    })
}

fn unreadable(key: &Key, error: &RedisError) -> Result<Entry, StoreError> {
    match error.code() {
        Some("WRONGTYPE") if is_text(key) => Ok(Entry::Unreadable("holds another type; a string is expected".to_owned())),
        Some("WRONGTYPE") => Ok(Entry::Unreadable("holds another type; a hash is expected".to_owned())),
        // Counts of failures decide about nobody who shows the right password.
        Some("NOPERM") if matches!(key, Key::Shield(_)) => Ok(Entry::Unreadable("may not be read".to_owned())),
        _ => Err(classify(error)),
    }
}

fn too_large(found: usize, most: usize) -> Entry {
    Entry::Unreadable(format!("has {found} fields, at most {most} are read"))
}

fn fields(pairs: impl Iterator<Item = (Value, Value)>) -> Entry {
    let fields: Option<Fields> = pairs.map(|(field, value)| Some((bytes(field)?, bytes(value)?))).collect();
    match fields {
        Some(fields) if fields.is_empty() => Entry::Missing,
        Some(fields) => Entry::Hash(fields),
        None => Entry::Unreadable("a field is of an unknown form".to_owned()),
    }
}

/// Returns the bytes of a string, whichever of its forms the server chose.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// Adds the two commands that make a change.
pub(super) fn write(pipeline: &mut Pipeline, write: &Write, rendered: &str) {
    match write {
        Write::SetFields(_, fields) => {
            pipeline.cmd("HSET").arg(rendered);
            for (field, value) in fields {
                pipeline.arg(field.as_slice()).arg(value.as_slice());
            }
        }
        Write::RemoveFields(_, fields) => {
            pipeline.cmd("HDEL").arg(rendered);
            for field in fields {
                pipeline.arg(field.as_slice());
            }
        }
        Write::Remove(_) => {
            pipeline.cmd("DEL").arg(rendered);
        }
        Write::SetText { value, ttl, .. } => {
            pipeline.cmd("SET").arg(rendered).arg(value.as_slice());
            if let Some(ttl) = ttl {
                pipeline.arg("PX").arg(milliseconds(*ttl));
            }
        }
        Write::Renew { fields, ttl, .. } => {
            pipeline.cmd("HSET").arg(rendered);
            for (field, value) in fields {
                pipeline.arg(field.as_slice()).arg(value.as_slice());
            }
            pipeline.cmd("PEXPIRE").arg(rendered).arg(milliseconds(*ttl));
            return;
        }
        Write::Increment { ttl, .. } => {
            pipeline.cmd("INCR").arg(rendered).cmd("PEXPIRE").arg(rendered).arg(milliseconds(*ttl));
            return;
        }
    }
    pipeline.cmd("EXISTS").arg(rendered);
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Returns what the two answers of [`write`] say.
pub(super) fn written(values: Result<[Value; 2], RedisError>) -> Written {
    match values {
        Ok([Value::Int(count), _]) => Written::Count(u64::try_from(count).unwrap_or(0)),
        Ok(_) => Written::Count(1),
        Err(error) => Written::Failed(said(&error)),
    }
}

/// Returns what a server said of a command that it refused.
pub(super) fn said(error: &RedisError) -> String {
    format!("{} {}", error.code().unwrap_or("error"), without_arguments(error.detail().unwrap_or_default()))
}

/// Returns `text` without the arguments of ours that a server repeats: a password may be among them.
pub(super) fn without_arguments(text: &str) -> &str {
    text.split_once(", with args beginning with").map_or(text, |(before, _)| before)
}

/// Returns the pattern of `SCAN` for the keys of a kind; what the prefix holds is literal.
pub(super) fn pattern(keys: &KeySpace, kind: KeyKind) -> String {
    format!("{}{}", literal(keys.prefix()), kind.pattern())
}

/// Returns `text` as a pattern that matches just that.
pub(super) fn literal(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | ']' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::BulkString(value.as_bytes().to_vec())
    }

    #[test]
    fn only_a_clear_answer_says_that_nothing_is_there() {
        let hash = |pairs: &[(&str, &str)]| {
            let fields = pairs.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec()));
            Some(Entry::Hash(fields.collect()))
        };
        let user = || Key::User("a".parse().unwrap());
        let ban = || Key::Ban("user:a".parse().unwrap());
        let why = |ttl: Option<u64>| Some(Entry::Text { value: b"why".to_vec(), ttl: ttl.map(Duration::from_millis) });
        for (key, first, second, expected) in [
            (user(), Value::Map(Vec::new()), Value::Int(0), Some(Entry::Missing)),
            (user(), Value::Array(Vec::new()), Value::Int(0), Some(Entry::Missing)),
            (user(), Value::Map(vec![(text("a"), text("1"))]), Value::Int(1), hash(&[("a", "1")])),
            (user(), Value::Array(vec![text("a"), text("1")]), Value::Int(1), hash(&[("a", "1")])),
            (user(), Value::Array(vec![text("a")]), Value::Int(1), None),
            (user(), Value::Nil, Value::Int(0), None),
            (user(), text("a"), Value::Int(1), None),
            (user(), Value::SimpleString("QUEUED".to_owned()), Value::SimpleString("QUEUED".to_owned()), None),
            (ban(), Value::Nil, Value::Int(-2), Some(Entry::Missing)),
            (ban(), text("why"), Value::Int(-1), why(None)),
            (ban(), text("why"), Value::Int(700), why(Some(700))),
            (ban(), text("why"), Value::Int(-2), Some(Entry::Missing)),
            (ban(), Value::Map(Vec::new()), Value::Int(-1), None),
            (ban(), Value::Okay, Value::Int(-1), None),
        ] {
            let shown = format!("{key:?}: {first:?}, {second:?}");
            assert_eq!(entry(&key, Ok([first, second]), 10).ok(), expected, "{shown}");
        }
    }

    #[test]
    fn a_server_that_repeats_our_arguments_is_not_quoted() {
        for (text, expected) in [
            ("unknown command `AUTH`, with args beginning with: `midge`, `geheim`, ", "unknown command `AUTH`"),
            ("unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'midge' 'geheim' ", "unknown command 'HELLO'"),
            ("no such key", "no such key"),
        ] {
            assert_eq!(without_arguments(text), expected);
        }
    }
}
