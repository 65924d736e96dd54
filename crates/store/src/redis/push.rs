//! The streams and tables of pushes in Redis.
//!
//! Each command concerns one key, so all of it works in a cluster as well.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, RedisResult, Value};
use midge_core::entry::Fields;

use super::nodes::Nodes;
use super::{Shared, classify, commands, incomplete};
use crate::StoreError;
use crate::push::{Entry, EntryId, NodeResult, PushLog, PushWriter, Reader};

/// A connection for pushes.
pub(super) struct Log {
    nodes: Nodes,
}

impl Log {
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self { nodes: Nodes::open(shared)? })
    }

    fn key(&self, rest: &str) -> String {
        format!("{}push{rest}", self.nodes.keys().prefix())
    }

    fn ask<T: FromRedisValue>(&mut self, key: &str, command: &Cmd) -> Result<T, StoreError> {
        let node = self.nodes.of(key)?;
        self.nodes.query_one(node, command)
    }

    /// Returns what a hash says of each node: two words.
    fn of_nodes(&mut self, key: &str) -> Result<Vec<(String, String, String)>, StoreError> {
        let fields: Fields = self.ask(key, ::redis::cmd("HGETALL").arg(key))?;
        let read = |(node, value): (Vec<u8>, Vec<u8>)| {
            let (node, value) = (String::from_utf8(node).ok()?, String::from_utf8(value).ok()?);
            value.split_once(' ').map(|(first, second)| (node, first.to_owned(), second.to_owned()))
        };
        Ok(fields.into_iter().filter_map(read).collect())
    }
}

fn unknown_form() -> StoreError {
    StoreError::Away("the answer is of an unknown form".to_owned())
}

fn entry_id(value: Value) -> Result<EntryId, StoreError> {
    let text = commands::bytes(value).and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(unknown_form)
}

/// Reads the answer of XRANGE: entries, each its id and its fields in one list.
fn entries(value: Value) -> Result<Vec<Entry>, StoreError> {
    let Value::Array(entries) = value else { return Err(unknown_form()) };
    entries.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry, StoreError> {
    let Value::Array(parts) = value else { return Err(unknown_form()) };
    let Ok([id, fields]) = <[Value; 2]>::try_from(parts) else { return Err(unknown_form()) };
    let id = entry_id(id)?;
    // An entry that was deleted while it was read for somebody else has none.
    let flat = match fields {
        Value::Array(flat) => flat,
        Value::Nil => Vec::new(),
        _ => return Err(unknown_form()),
    };
    let flat: Option<Vec<Vec<u8>>> = flat.into_iter().map(commands::bytes).collect();
    let mut flat = flat.ok_or_else(unknown_form)?.into_iter();
    Ok(Entry { id, fields: std::iter::from_fn(|| flat.next().zip(flat.next())).collect() })
}

impl PushWriter for Log {
    fn add(&mut self, fields: &[(&str, Vec<u8>)]) -> Result<EntryId, StoreError> {
        let key = self.key("");
        let mut command = ::redis::cmd("XADD");
        command.arg(&key).arg("*");
        for (name, value) in fields {
            command.arg(*name).arg(value.as_slice());
        }
        let id: Value = self.ask(&key, &command)?;
        entry_id(id)
    }

    fn readers(&mut self) -> Result<Vec<Reader>, StoreError> {
        let key = self.key(":read");
        let read = |(node, position, unix): (String, String, String)| {
            Some(Reader { node, position: position.parse().ok()?, unix: unix.parse().ok()? })
        };
        Ok(self.of_nodes(&key)?.into_iter().filter_map(read).collect())
    }

    fn results(&mut self, entry: EntryId) -> Result<Vec<NodeResult>, StoreError> {
        let key = self.key(&format!(":result:{{{entry}}}"));
        let read = |(node, delivered, queued): (String, String, String)| {
            Some(NodeResult { node, delivered: delivered.parse().ok()?, queued: queued.parse().ok()? })
        };
        Ok(self.of_nodes(&key)?.into_iter().filter_map(read).collect())
    }
}

impl PushLog for Log {
    fn read(&mut self, after: EntryId, count: usize, wait: Duration) -> Result<Vec<Entry>, StoreError> {
        let key = self.key("");
        let node = self.nodes.of(&key)?;
        let mut command = ::redis::cmd("XREAD");
        // Zero would be without end.
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg("COUNT").arg(count).arg("BLOCK").arg(wait_ms).arg("STREAMS").arg(&key).arg(after.to_string());
        let stream = match self.nodes.query_waiting(node, &command, wait)? {
            Value::Nil => return Ok(Vec::new()),
            Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
            Value::Array(streams) => streams.into_iter().next().and_then(|stream| match stream {
                Value::Array(parts) => parts.into_iter().nth(1),
                _ => None,
            }),
            _ => None,
        };
        entries(stream.ok_or_else(unknown_form)?)
    }

    fn beginning(&mut self) -> Result<EntryId, StoreError> {
        let key = self.key("");
        let found = self.ask(&key, ::redis::cmd("XREVRANGE").arg(&key).arg("+").arg("-").arg("COUNT").arg(1))?;
        Ok(entries(found)?.first().map(|entry| entry.id).unwrap_or_default())
    }

    fn report(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let key = self.key(":read");
        let value = format!("{} {}", reader.position, reader.unix);
        self.ask::<Value>(&key, ::redis::cmd("HSET").arg(&key).arg(&reader.node).arg(value)).map(drop)
    }

    fn forget(&mut self, node: &str) -> Result<(), StoreError> {
        let key = self.key(":read");
        self.ask::<Value>(&key, ::redis::cmd("HDEL").arg(&key).arg(node)).map(drop)
    }

    fn claim(&mut self, identifiers: &[(&str, EntryId)], for_how_long: Duration) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<String> = identifiers.iter().map(|(id, _)| self.key(&format!(":id:{{{id}}}"))).collect();
        let all: Vec<usize> = (0..keys.len()).collect();
        let mut first = vec![false; keys.len()];
        for (node, of_node) in self.nodes.group(&keys, &all)? {
            let mut pipeline = ::redis::pipe();
            for at in &of_node {
                let entry = identifiers[*at].1.to_string();
                let end = u64::try_from(for_how_long.as_millis()).unwrap_or(u64::MAX).max(1);
                pipeline.cmd("SET").arg(&keys[*at]).arg(entry).arg("NX").arg("PX").arg(end).cmd("GET").arg(&keys[*at]);
            }
            let mut answers = self.nodes.query(node, &pipeline)?.into_iter();
            let mut next = || answers.next().ok_or_else(incomplete)?.map_err(|error| classify(&error));
            for at in of_node {
                let (_, holder) = (next()?, next()?);
                // One that has ended in between was held until now.
                first[at] = holder == Value::Nil || entry_id(holder)? == identifiers[at].1;
            }
        }
        Ok(first)
    }

    fn bury(&mut self, entry: &Entry, reason: &str, keep: usize) -> Result<(), StoreError> {
        let dead = self.key(":dead");
        let mut command = ::redis::cmd("XADD");
        command.arg(&dead).arg("MAXLEN").arg("~").arg(keep).arg(entry.id.to_string()).arg("reason").arg(reason);
        for (name, value) in &entry.fields {
            command.arg(name.as_slice()).arg(value.as_slice());
        }
        let node = self.nodes.of(&dead)?;
        let mut pipeline = ::redis::pipe();
        let answer = self.nodes.query(node, pipeline.add_command(command))?.pop().ok_or_else(incomplete)?;
        // Another node was faster where the id is not greater than the last.
        if let Err(error) = answer
            && !error.detail().is_some_and(|detail| detail.contains("equal or smaller"))
        {
            return Err(classify(&error));
        }
        let key = self.key("");
        self.ask::<Value>(&key, ::redis::cmd("XDEL").arg(&key).arg(entry.id.to_string())).map(drop)
    }

    fn trim(&mut self, keep_from: EntryId, most: usize) -> Result<u64, StoreError> {
        let key = self.key("");
        self.ask::<Value>(&key, ::redis::cmd("XTRIM").arg(&key).arg("MINID").arg(keep_from.to_string()))?;
        self.ask(&key, ::redis::cmd("XTRIM").arg(&key).arg("MAXLEN").arg(most))
    }

    fn put_result(&mut self, entry: EntryId, result: &NodeResult, for_how_long: Duration) -> Result<(), StoreError> {
        let key = self.key(&format!(":result:{{{entry}}}"));
        let node = self.nodes.of(&key)?;
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("HSET").arg(&key).arg(&result.node).arg(format!("{} {}", result.delivered, result.queued));
        pipeline.cmd("EXPIRE").arg(&key).arg(for_how_long.as_secs());
        let answers: RedisResult<Vec<Value>> = self.nodes.query(node, &pipeline)?.into_iter().collect();
        answers.map(drop).map_err(|error| classify(&error))
    }
}
