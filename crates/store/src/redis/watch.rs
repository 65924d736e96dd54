//! Learns of changes in Redis.
//!
//! The ways, in their order: client tracking, keyspace notifications, reading all again and again.
//! Each server that takes writes has a connection of its own. It is asked for a sign of life several times a second:
//! the answer brings what was announced before it, and its absence tells that the server is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ::redis::{Cmd, Connection, FromRedisValue, PushInfo, PushKind, RedisError, RedisResult, Value};

use super::{Shared, classify, commands, is_away, nodes};
use crate::{Change, StoreError, Watch, WatchMode, WatchPolicy};

/// How often a server is asked for a sign of life; announcements come no later than this.
const BEAT: Duration = Duration::from_millis(50);
/// How often the servers of a cluster, or the master behind Sentinel, are found out anew.
const TOPOLOGY: Duration = Duration::from_secs(10);
/// How long a sign of life may take at most: shorter than an answer, since nothing counts as fresh until it is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// How often a server without client tracking is asked whether it was flushed, which no notification tells.
const FLUSH_CHECK: Duration = Duration::from_millis(400);
/// How many changes are handed out one by one; more at once count as everything.
const MAX_CHANGES: usize = 10_000;

/// Opens the best way that policy and servers allow.
pub(super) fn open(shared: Arc<Shared>) -> Result<Box<dyn Watch>, StoreError> {
    let ways: &[WatchMode] = match shared.settings.watch {
        WatchPolicy::Auto => &[WatchMode::Tracking, WatchMode::Keyspace, WatchMode::Polling],
        WatchPolicy::Tracking => &[WatchMode::Tracking],
        WatchPolicy::Keyspace => &[WatchMode::Keyspace],
        WatchPolicy::Polling => &[WatchMode::Polling],
    };
    let mut last = StoreError::Refused("no way of learning of changes is allowed".to_owned());
    for mode in ways {
        match *mode {
            WatchMode::Polling => return Ok(Box::new(Polling::open(shared)?)),
            mode => match Followed::open(shared.clone(), mode) {
                Ok(watch) => return Ok(Box::new(watch)),
                // Away is away for every way; only a refusal leads to the next.
                Err(error) if error.is_away() => return Err(error),
                Err(error) => last = error,
            },
        }
    }
    Err(last)
}

struct Node {
    connection: Connection,
    announced: Receiver<PushInfo>,
    /// How often the server was flushed; only where it doesn't announce that.
    flushes: Option<u64>,
    /// When that was asked.
    asked_at: Instant,
}

/// A watch whose servers announce changes.
struct Followed {
    shared: Arc<Shared>,
    mode: WatchMode,
    nodes: Vec<Node>,
    topology: Vec<String>,
    looked_at: Instant,
    /// When the last round of signs of life began.
    beat_at: Instant,
}

impl Followed {
    fn open(shared: Arc<Shared>, mode: WatchMode) -> Result<Self, StoreError> {
        let addresses = nodes::masters(&shared)?;
        let mut followed = Vec::new();
        for address in &addresses {
            let mut connection = shared.open_for_announcements(address)?;
            let (sender, announced) = channel();
            connection.set_push_sender(sender);
            let asked_at = Instant::now();
            let flushes = match mode {
                WatchMode::Tracking => track(&shared, &mut connection).map(|()| None)?,
                _ => {
                    subscribe(&shared, &mut connection)?;
                    Some(flushes(&shared, &mut connection)?)
                }
            };
            followed.push(Node { connection, announced, flushes, asked_at });
        }
        let topology = names(&addresses);
        let now = Instant::now();
        Ok(Self { shared, mode, nodes: followed, topology, looked_at: now, beat_at: now })
    }

    fn check_topology(&mut self) -> Result<(), StoreError> {
        let fixed = matches!(self.shared.url.place, crate::url::Place::Single(_) | crate::url::Place::Unix(_));
        if fixed || self.looked_at.elapsed() < TOPOLOGY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        match nodes::masters(&self.shared) {
            Ok(addresses) if names(&addresses) != self.topology => {
                Err(StoreError::Away("other servers have the keys now".to_owned()))
            }
            // Whom we follow still answers; who names them need not.
            _ => Ok(()),
        }
    }

    fn beat(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        let began = Instant::now();
        for node in &mut self.nodes {
            ask(&self.shared, &mut node.connection, &::redis::cmd("PING"))?.map_err(|error| classify(&error))?;
            while let Ok(push) = node.announced.try_recv() {
                read_push(&self.shared, push, &mut changes)?;
            }
            if node.flushes.is_some() && node.asked_at.elapsed() >= FLUSH_CHECK {
                node.asked_at = Instant::now();
                let now = Some(flushes(&self.shared, &mut node.connection)?);
                if std::mem::replace(&mut node.flushes, now) != now {
                    changes.push(Change::Flushed);
                }
            }
        }
        self.beat_at = began;
        if changes.len() > MAX_CHANGES {
            let flushed = changes.contains(&Change::Flushed);
            changes = vec![if flushed { Change::Flushed } else { Change::Everything }];
        }
        Ok(changes)
    }
}

impl Watch for Followed {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        let end = Instant::now() + wait;
        loop {
            self.check_topology()?;
            let changes = self.beat()?;
            let left = end.saturating_duration_since(Instant::now());
            if !changes.is_empty() || left.is_zero() {
                return Ok(changes);
            }
            std::thread::sleep(BEAT.min(left));
        }
    }

    fn heard_until(&self) -> Instant {
        // A flush that isn't announced is known of no later than it was asked for.
        let asked = self.nodes.iter().filter(|node| node.flushes.is_some()).map(|node| node.asked_at);
        asked.fold(self.beat_at, Instant::min)
    }

    fn mode(&self) -> WatchMode {
        self.mode
    }
}

fn names(addresses: &[::redis::ConnectionAddr]) -> Vec<String> {
    let mut names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

fn track(shared: &Shared, connection: &mut Connection) -> Result<(), StoreError> {
    let mut command = ::redis::cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in shared.settings.keys.policy_prefixes() {
        command.arg("PREFIX").arg(prefix);
    }
    ask(shared, connection, &command)?.map(drop).map_err(|error| refused("client tracking", &error))
}

fn subscribe(shared: &Shared, connection: &mut Connection) -> Result<(), StoreError> {
    if shared.settings.watch == WatchPolicy::Auto {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg("notify-keyspace-events");
        let answer = ask(shared, connection, &command)?.map_err(|error| refused("keyspace notifications", &error))?;
        let answer = HashMap::<String, String>::from_redis_value(answer).unwrap_or_default();
        let flags = answer.into_values().next().unwrap_or_default();
        let has = |flag: char| flags.contains(flag) || (flags.contains('A') && flag != 'K');
        if !['K', 'g', 'h', '$', 'x'].into_iter().all(has) {
            return Err(StoreError::Refused(format!("notify-keyspace-events is \"{flags}\", and needs Kghx$")));
        }
    }
    let database = shared.url.database;
    let mut command = ::redis::cmd("PSUBSCRIBE");
    for prefix in shared.settings.keys.policy_prefixes() {
        command.arg(format!("__keyspace@{database}__:{}*", commands::literal(&prefix)));
    }
    // A subscription is confirmed by announcements, its refusal is an answer: so the answer to a second command tells which.
    let mut commands = command.get_packed_command();
    commands.extend(::redis::cmd("PING").get_packed_command());
    let answer = nodes::exchange(connection, &commands, 1, deadline(shared))?.swap_remove(0);
    answer.map(drop).map_err(|error| refused("keyspace notifications", &error))
}

/// Returns how often the server was told to forget everything; another number than before means that it was.
fn flushes(shared: &Shared, connection: &mut Connection) -> Result<u64, StoreError> {
    let mut command = ::redis::cmd("INFO");
    command.arg("commandstats");
    let answer = ask(shared, connection, &command)?.map_err(|error| refused("keyspace notifications", &error))?;
    let text = commands::bytes(answer).unwrap_or_default();
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        matches!(name, "flushall" | "flushdb" | "swapdb").then_some(calls)
    };
    Ok(String::from_utf8_lossy(&text).lines().filter_map(calls).sum())
}

fn deadline(shared: &Shared) -> Duration {
    shared.settings.response_timeout.min(SIGN_OF_LIFE)
}

fn ask(shared: &Shared, connection: &mut Connection, command: &Cmd) -> Result<RedisResult<Value>, StoreError> {
    Ok(nodes::exchange(connection, &command.get_packed_command(), 1, deadline(shared))?.swap_remove(0))
}

fn refused(what: &str, error: &RedisError) -> StoreError {
    match classify(error) {
        away if is_away(error) => away,
        StoreError::Away(text) | StoreError::Refused(text) => StoreError::Refused(format!("{what}: {text}")),
    }
}

fn read_push(shared: &Shared, push: PushInfo, changes: &mut Vec<Change>) -> Result<(), StoreError> {
    let keys = &shared.settings.keys;
    match (push.kind, push.data.as_slice()) {
        (PushKind::Invalidate, [Value::Array(names)]) => changes.extend(
            names
                .iter()
                .filter_map(|name| match name {
                    Value::BulkString(name) => keys.parse(name),
                    _ => None,
                })
                .map(Change::Key),
        ),
        // The database was flushed.
        (PushKind::Invalidate, _) => changes.push(Change::Flushed),
        (PushKind::PMessage, [_, Value::BulkString(channel), _]) => {
            let name = channel.iter().position(|byte| *byte == b':').map(|colon| &channel[colon + 1..]);
            changes.extend(name.and_then(|name| keys.parse(name)).map(Change::Key));
        }
        (PushKind::Disconnection, _) => return Err(StoreError::Away("the connection was closed".to_owned())),
        _ => {}
    }
    Ok(())
}

/// A watch that can't tell, and says "everything" at each interval.
struct Polling {
    interval: Duration,
    nodes: nodes::Nodes,
    opened: Instant,
    last: Option<Instant>,
}

impl Polling {
    fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self { interval: shared.settings.poll_interval, opened: Instant::now(), nodes: nodes::Nodes::open(shared)?, last: None })
    }
}

impl Watch for Polling {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        let due = self.last.map_or(Duration::ZERO, |last| self.interval.saturating_sub(last.elapsed()));
        std::thread::sleep(due.min(wait));
        if due > wait {
            return Ok(Vec::new());
        }
        self.last = Some(Instant::now());
        self.nodes.ping(SIGN_OF_LIFE)?;
        Ok(vec![Change::Everything])
    }

    fn heard_until(&self) -> Instant {
        self.last.unwrap_or(self.opened)
    }

    fn mode(&self) -> WatchMode {
        WatchMode::Polling
    }
}
