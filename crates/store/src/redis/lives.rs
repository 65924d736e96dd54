//! Notices servers that have begun anew.
//!
//! A server numbers its connections upwards for as long as it lives: a lower number than before is one of another life.
//! So much is told to every user by HELLO. A new life shows only while it has had fewer connections than the old one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::{Connection, ConnectionAddr, Value};

use super::commands;
use super::nodes::exchange;
use crate::StoreError;

/// What is known of the lives of one store's servers.
#[derive(Default)]
pub(super) struct Lives {
    /// The number of the last connection to each.
    numbers: Mutex<HashMap<String, i64>>,
    beginnings: AtomicU64,
}

impl Lives {
    /// Notes a connection that was just opened.
    pub(super) fn see(&self, server: &ConnectionAddr, connection: &mut Connection, within: Duration) -> Result<(), StoreError> {
        let hello = ::redis::cmd("HELLO").get_packed_command();
        let answer = exchange(connection, &hello, 1, within)?.swap_remove(0);
        // Servers that don't know the command, or give no number, are those whose new lives don't show.
        if let Some(number) = answer.ok().and_then(number_of) {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            if numbers.insert(server.to_string(), number).is_some_and(|before| number <= before) {
                self.beginnings.fetch_add(1, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Returns how often a server was found to have begun anew.
    pub(super) fn beginnings(&self) -> u64 {
        self.beginnings.load(Ordering::Acquire)
    }
}

fn number_of(answer: Value) -> Option<i64> {
    let pairs: Vec<(Value, Value)> = match answer {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| items.next().zip(items.next())).collect()
        }
        _ => return None,
    };
    pairs.into_iter().find_map(|(name, value)| match value {
        Value::Int(number) if commands::bytes(name).is_some_and(|name| name == b"id") => Some(number),
        _ => None,
    })
}
