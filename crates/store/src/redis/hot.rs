//! The sorted sets of topics in Redis.
//!
//! All keys of a metric share a hash slot, so a transaction writes any of them together, in a cluster as well.

use std::sync::Arc;

use ::redis::{Pipeline, RedisError, Value};
use midge_core::hot::{BucketIncrements, HotTopic, Metric, Part, Window};

use super::nodes::Nodes;
use super::{Shared, classify, commands, incomplete, is_move};
use crate::StoreError;
use crate::hot::{Applied, HotLog, MAX_MEMBERS, MAX_MEMBERS_NOW};

/// How long the set of a whole window outlives the time in which it should have been made anew, in milliseconds.
const GRACE_MS: u64 = 10_000;

/// A connection for counts.
pub(super) struct Log {
    nodes: Nodes,
}

impl Log {
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self { nodes: Nodes::open(shared)? })
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.nodes.keys().prefix())
    }

    /// Runs commands about keys of the slot that `key` has; the first error counts.
    fn ask(&mut self, key: &str, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let node = self.nodes.of(key)?;
        let answers: Result<Vec<Value>, RedisError> = self.nodes.query(node, commands)?.into_iter().collect();
        answers.map_err(|error| self.refused(&error))
    }

    /// Runs commands as a transaction; returns the answers to them.
    fn transact(&mut self, key: &str, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("MULTI");
        commands.cmd_iter().for_each(|command| {
            pipeline.add_command(command.clone());
        });
        pipeline.cmd("EXEC");
        match self.ask(key, &pipeline)?.pop() {
            Some(Value::Array(answers)) => Ok(answers),
            _ => Err(incomplete()),
        }
    }

    /// Returns the scores of a bucket's members, 0 for those that aren't in the set.
    fn scores(&mut self, bucket: &BucketIncrements) -> Result<Vec<Option<i64>>, StoreError> {
        let key = self.key(&bucket.key.to_string());
        let mut commands = ::redis::pipe();
        for (topic, _) in &bucket.members {
            commands.cmd("ZSCORE").arg(&key).arg(&**topic);
        }
        Ok(self.ask(&key, &commands)?.iter().map(|score| figure(score).or((*score == Value::Nil).then_some(0))).collect())
    }

    fn refused(&mut self, error: &RedisError) -> StoreError {
        if is_move(error) {
            // Whoever has the key now is asked the next time.
            return self.nodes.look_again().err().unwrap_or_else(super::moving);
        }
        classify(error)
    }

    /// Returns what the whole window's set is made of.
    fn union(&self, window: Window, metric: Metric, unix: u64) -> Pipeline {
        let now = self.key(&window.now_key(metric));
        let keys: Vec<String> = window.keys(metric, unix).map(|key| self.key(&key.to_string())).collect();
        let mut commands = ::redis::pipe();
        commands.cmd("ZUNIONSTORE").arg(&now).arg(keys.len()).arg(&keys);
        commands.cmd("ZREMRANGEBYSCORE").arg(&now).arg("-inf").arg(0);
        keep_hottest(&mut commands, &now, MAX_MEMBERS_NOW);
        commands.cmd("PEXPIRE").arg(&now).arg(window.flush_seconds() * 1_000 + GRACE_MS);
        commands
    }
}

fn keep_hottest(commands: &mut Pipeline, key: &str, most: usize) {
    commands.cmd("ZREMRANGEBYRANK").arg(key).arg(0).arg(-i64::try_from(most).unwrap_or(i64::MAX) - 1);
}

impl HotLog for Log {
    fn apply(&mut self, node: &str, part: &Part) -> Result<Applied, StoreError> {
        let applied = self.key(&part.metric.applied_key(node));
        let mut commands = ::redis::pipe();
        commands.cmd("HINCRBY").arg(&applied).arg("parts").arg(1);
        commands.cmd("HSET").arg(&applied).arg("mark").arg(part.mark.to_string());
        commands.cmd("EXPIRE").arg(&applied).arg(Window::Week.time_to_live().as_secs());
        for BucketIncrements { key, members } in &part.buckets {
            let name = self.key(&key.to_string());
            for (topic, amount) in members {
                commands.cmd("ZINCRBY").arg(&name).arg(amount).arg(&**topic);
            }
            commands.cmd("EXPIRE").arg(&name).arg(key.window.time_to_live().as_secs());
            keep_hottest(&mut commands, &name, MAX_MEMBERS);
        }
        let mut answers = self.transact(&applied, &commands)?.into_iter();
        let parts = answers.next().as_ref().and_then(figure).ok_or_else(incomplete)?;
        let mut answers = answers.skip(2);
        let mut scores: Vec<Vec<Option<i64>>> = Vec::new();
        for bucket in &part.buckets {
            let of_bucket = answers.by_ref().take(bucket.members.len()).map(|answer| figure(&answer)).collect();
            // Where members fell out, they may be of those that have just come.
            let fell_out = answers.by_ref().take(2).last().as_ref().and_then(figure);
            scores.push(if fell_out.is_some_and(|count| count > 0) { self.scores(bucket)? } else { of_bucket });
        }
        Ok(Applied { scores, parts: u64::try_from(parts).unwrap_or(0) })
    }

    fn last(&mut self, node: &str, metric: Metric) -> Result<Option<(String, u64)>, StoreError> {
        let key = self.key(&metric.applied_key(node));
        let mut commands = ::redis::pipe();
        commands.cmd("HGET").arg(&key).arg("mark").cmd("HGET").arg(&key).arg("parts");
        let mut answers = self.ask(&key, &commands)?.into_iter();
        let (mark, parts) = answers.next().zip(answers.next()).ok_or_else(incomplete)?;
        let mark = commands::bytes(mark).and_then(|mark| String::from_utf8(mark).ok());
        Ok(mark.zip(figure(&parts).and_then(|parts| u64::try_from(parts).ok())))
    }

    fn refresh(&mut self, window: Window, unix: u64) -> Result<(), StoreError> {
        for metric in Metric::ALL {
            let now = self.key(&window.now_key(metric));
            let mut left = ::redis::pipe();
            left.cmd("PTTL").arg(&now);
            let left = self.ask(&now, &left)?.first().and_then(figure).and_then(|left| u64::try_from(left).ok());
            if left.is_none_or(|left| left <= GRACE_MS) {
                let commands = self.union(window, metric, unix);
                self.transact(&now, &commands)?;
            }
        }
        Ok(())
    }

    fn top(&mut self, window: Window, metric: Metric, count: usize) -> Result<Vec<HotTopic>, StoreError> {
        let Some(last) = count.checked_sub(1) else { return Ok(Vec::new()) };
        let now = self.key(&window.now_key(metric));
        let mut commands = ::redis::pipe();
        commands.cmd("ZREVRANGE").arg(&now).arg(0).arg(last).arg("WITHSCORES");
        let found = self.ask(&now, &commands)?.pop().ok_or_else(incomplete)?;
        let mut topics: Vec<HotTopic> = Vec::new();
        for (name, score) in pairs(found).ok_or_else(incomplete)? {
            let mut topic = HotTopic::new(name);
            topic.set(metric, score);
            topics.push(topic);
        }
        if topics.is_empty() {
            return Ok(topics);
        }
        for other in Metric::ALL.into_iter().filter(|other| *other != metric) {
            let now = self.key(&window.now_key(other));
            let mut commands = ::redis::pipe();
            for topic in &topics {
                commands.cmd("ZSCORE").arg(&now).arg(&topic.name);
            }
            let scores = self.ask(&now, &commands)?;
            for (topic, score) in topics.iter_mut().zip(&scores) {
                topic.set(other, figure(score).and_then(|score| u64::try_from(score).ok()).unwrap_or(0));
            }
        }
        Ok(topics)
    }
}

/// Reads members and scores, one after the other or in pairs, as the protocol's version has it.
fn pairs(value: Value) -> Option<Vec<(String, u64)>> {
    let Value::Array(values) = value else { return None };
    let flat = values.into_iter().flat_map(|value| match value {
        Value::Array(pair) => pair,
        other => vec![other],
    });
    let flat: Vec<Value> = flat.collect();
    let read = |pair: &[Value]| {
        let name = commands::bytes(pair.first()?.clone())?;
        let score = u64::try_from(figure(pair.get(1)?)?).ok()?;
        Some((String::from_utf8_lossy(&name).into_owned(), score))
    };
    flat.chunks(2).map(read).collect()
}

/// Reads a number, whichever of its forms the server chose.
#[expect(clippy::cast_possible_truncation, reason = "a cast from floating point saturates, and all scores are whole")]
fn figure(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Double(number) => Some(*number as i64),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<f64>().ok().map(|number| number as i64),
        _ => None,
    }
}
