//! Learns of changes in Redis: by client tracking, else by keyspace notifications, else by reading all again.
//!
//! Each server that takes writes has a connection of its own. It is asked for a sign of life several times a second:
//! the answer brings what was announced before it, and its absence tells that the server is away.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ::redis::{Connection, PushInfo, PushKind, Value};

use super::{Shared, classify, commands, nodes};
use crate::{Change, StoreError, Watch, WatchMode, WatchPolicy};

/// How often a server is asked for a sign of life; announcements come no later than this.
const BEAT: Duration = Duration::from_millis(50);
/// How often the servers of a cluster, or the master behind Sentinel, are found out anew.
const TOPOLOGY: Duration = Duration::from_secs(10);
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
            WatchMode::Polling => return Ok(Box::new(Polling { shared, last: None })),
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
}

/// A watch whose servers announce changes.
struct Followed {
    shared: Arc<Shared>,
    mode: WatchMode,
    nodes: Vec<Node>,
    topology: Vec<String>,
    looked_at: Instant,
}

impl Followed {
    fn open(shared: Arc<Shared>, mode: WatchMode) -> Result<Self, StoreError> {
        let addresses = nodes::masters(&shared)?;
        let mut followed = Vec::new();
        for address in &addresses {
            let mut connection = shared.open(address)?;
            let (sender, announced) = channel();
            connection.set_push_sender(sender);
            match mode {
                WatchMode::Tracking => track(&shared, &mut connection)?,
                _ => subscribe(&shared, &mut connection)?,
            }
            followed.push(Node { connection, announced });
        }
        let topology = names(&addresses);
        Ok(Self { shared, mode, nodes: followed, topology, looked_at: Instant::now() })
    }

    fn check_topology(&mut self) -> Result<(), StoreError> {
        let fixed = matches!(self.shared.url.place, crate::url::Place::Single(_) | crate::url::Place::Unix(_));
        if fixed || self.looked_at.elapsed() < TOPOLOGY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        if names(&nodes::masters(&self.shared)?) == self.topology {
            Ok(())
        } else {
            Err(StoreError::Away("other servers have the keys now".to_owned()))
        }
    }

    fn beat(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for node in &mut self.nodes {
            ::redis::cmd("PING").query::<Value>(&mut node.connection).map_err(|error| classify(&error))?;
            while let Ok(push) = node.announced.try_recv() {
                read_push(&self.shared, push, &mut changes)?;
            }
        }
        if changes.len() > MAX_CHANGES {
            changes = vec![Change::Everything];
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
    command.query::<Value>(connection).map(drop).map_err(|error| refused("client tracking", &error))
}

fn subscribe(shared: &Shared, connection: &mut Connection) -> Result<(), StoreError> {
    if shared.settings.watch == WatchPolicy::Auto {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg("notify-keyspace-events");
        let answer: std::collections::HashMap<String, String> =
            command.query(connection).map_err(|error| refused("keyspace notifications", &error))?;
        let flags = answer.values().next().cloned().unwrap_or_default();
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
    command.set_no_response(true);
    command.query::<Value>(connection).map(drop).map_err(|error| refused("keyspace notifications", &error))
}

fn refused(what: &str, error: &::redis::RedisError) -> StoreError {
    match classify(error) {
        StoreError::Away(text) if error.is_io_error() => StoreError::Away(text),
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
        (PushKind::Invalidate, _) => changes.push(Change::Everything),
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
    shared: Arc<Shared>,
    last: Option<Instant>,
}

impl Watch for Polling {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        let interval = self.shared.settings.poll_interval;
        let due = self.last.map_or(Duration::ZERO, |last| interval.saturating_sub(last.elapsed()));
        std::thread::sleep(due.min(wait));
        if due > wait {
            return Ok(Vec::new());
        }
        self.last = Some(Instant::now());
        Ok(vec![Change::Everything])
    }

    fn mode(&self) -> WatchMode {
        WatchMode::Polling
    }
}
