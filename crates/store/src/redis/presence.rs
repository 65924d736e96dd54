//! Who is online, in Redis.
//!
//! A change of one client is one script, which looks whether it is news, makes it, and where one server has all keys tells of it,
//! so that it is told of once and in order. In a cluster the keys of one user share a slot, and the event follows.

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use midge_core::entry::Fields;
use midge_core::key::Key;
use midge_core::name::{ClientId, NodeName, Username};

use super::nodes::Nodes;
use super::{Shared, classify, commands, incomplete, is_ask, is_away, is_move};
use crate::StoreError;
use crate::node::LEASE;
use crate::presence::{Beat, Bounds, Change, Entries, Outcome, PresenceLog, Who};

/// KEYS: the user's clients; when the user was there last, where there is a user; the stream of events, where it is to be told.
/// ARGV: what it is; client; entry; node; since when; when it ended; how long that is kept; 1 where it is to be told; how many
/// events are kept; the event.
///
/// An end removes an older entry of its node as well: that a newer one was written may have been an error.
const SCRIPT: &str = "
local held = redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[1] == 'online' then
  if held == ARGV[3] then return 0 end
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
else
  local node = ARGV[4] .. ' '
  if not held or string.sub(held, 1, #node) ~= node then return 0 end
  local since = tonumber(string.sub(held, #node + 1))
  if not since or since > tonumber(ARGV[5]) then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[2])
  if ARGV[7] ~= '0' then
    redis.call('HSET', KEYS[2], 'at', ARGV[6], 'client', ARGV[2], 'node', ARGV[4])
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
  end
end
if ARGV[8] == '1' then
  redis.call('XADD', KEYS[#KEYS], 'MAXLEN', '~', ARGV[9], '*', unpack(ARGV, 10))
end
return 1";

/// How many entries of a node one answer brings, about.
const PAGE: usize = 500;

/// A connection for presence.
pub(super) struct Log {
    nodes: Nodes,
    /// The script's name on the servers.
    script: String,
    /// Servers hold different keys.
    scattered: bool,
}

impl Log {
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let mut log = Self { nodes: Nodes::open(shared)?, script: String::new(), scattered: false };
        log.load()?;
        Ok(log)
    }

    /// Teaches all servers the script.
    fn load(&mut self) -> Result<(), StoreError> {
        let mut command = ::redis::cmd("SCRIPT");
        command.arg("LOAD").arg(SCRIPT);
        for node in 0..self.nodes.len() {
            self.script = self.nodes.query_one(node, &command)?;
        }
        self.scattered = self.nodes.is_cluster();
        Ok(())
    }

    fn render(&self, key: &Key) -> String {
        self.nodes.keys().render(key)
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.nodes.keys().prefix())
    }

    /// Runs commands that all concern `key`, and returns their answers.
    fn ask(&mut self, key: &str, pipeline: &Pipeline) -> Result<Vec<Result<Value, RedisError>>, StoreError> {
        let node = self.nodes.of(key)?;
        self.nodes.query(node, pipeline)
    }

    /// The same where an error of any is an error.
    fn ask_all(&mut self, key: &str, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.ask(key, pipeline)?.into_iter().map(|answer| answer.map_err(|error| classify(&error))).collect()
    }

    /// Adds the script with what it needs for `change`.
    fn add_script(&self, pipeline: &mut Pipeline, node: &NodeName, change: &Change, bounds: &Bounds) {
        let who = change.who();
        let mut keys = vec![self.render(&Key::Online(who.user.clone()))];
        keys.extend(who.user.clone().map(|user| self.render(&Key::Seen(user))));
        if !self.scattered {
            keys.push(self.key("events"));
        }
        let (kind, since, until) = match change {
            Change::Online { since, .. } => ("online", *since, 0),
            Change::Offline { since, until, .. } => ("offline", *since, *until),
        };
        // A client without a username is nobody who could be seen.
        let seen = if who.user.is_some() { u64::try_from(bounds.seen.as_millis()).unwrap_or(u64::MAX) } else { 0 };
        pipeline.cmd("EVALSHA").arg(&self.script).arg(keys.len()).arg(&keys);
        pipeline.arg(kind).arg(who.client.as_str()).arg(format!("{node} {since}")).arg(node.as_str());
        pipeline.arg(since).arg(until).arg(seen);
        pipeline.arg(u8::from(!self.scattered)).arg(bounds.events);
        for (name, value) in change.event(node) {
            pipeline.arg(name).arg(value);
        }
    }

    fn run_scripts(&mut self, node: &NodeName, changes: &[Change], bounds: &Bounds) -> Result<Vec<Outcome>, StoreError> {
        let keys: Vec<String> = changes.iter().map(|change| self.render(&Key::Online(change.who().user.clone()))).collect();
        let all: Vec<usize> = (0..keys.len()).collect();
        let mut outcomes = vec![Outcome::Again; changes.len()];
        for (server, of_server) in self.nodes.group(&keys, &all)? {
            let mut pipeline = ::redis::pipe();
            for at in &of_server {
                self.add_script(&mut pipeline, node, &changes[*at], bounds);
            }
            let answers = self.nodes.query(server, &pipeline)?;
            if answers.len() != of_server.len() {
                return Err(incomplete());
            }
            for (at, answer) in of_server.into_iter().zip(answers) {
                outcomes[at] = outcome(answer)?;
            }
        }
        Ok(outcomes)
    }

    /// Enters or removes whom a node has entered.
    fn write_entries(&mut self, key: &str, command: &str, changes: &[&Change]) -> Result<bool, StoreError> {
        if changes.is_empty() {
            return Ok(true);
        }
        let mut pipeline = ::redis::pipe();
        pipeline.cmd(command).arg(key);
        for change in changes {
            let who = change.who();
            let user = who.user.as_ref().map_or("", Username::as_str);
            pipeline.arg(format!("{user}\0{}", who.client));
            if let Change::Online { since, .. } = change {
                pipeline.arg(*since);
            }
        }
        match self.ask(key, &pipeline)?.pop().ok_or_else(incomplete)? {
            Ok(_) => Ok(true),
            Err(error) if is_move(&error) || is_ask(&error) => Ok(false),
            Err(error) => Err(classify(&error)),
        }
    }

    fn append(&mut self, key: &str, entries: &[Fields], most: usize) -> Result<(), StoreError> {
        let mut pipeline = ::redis::pipe();
        for entry in entries {
            pipeline.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(most).arg("*");
            for (name, value) in entry {
                pipeline.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        self.ask_all(key, &pipeline).map(drop)
    }
}

/// Returns what a script's answer says.
///
/// # Errors
/// It is not about this key alone.
fn outcome(answer: Result<Value, RedisError>) -> Result<Outcome, StoreError> {
    match answer {
        Ok(Value::Int(0)) => Ok(Outcome::Known),
        Ok(_) => Ok(Outcome::New),
        Err(error) if is_move(&error) || is_ask(&error) => Ok(Outcome::Again),
        Err(error) if error.detail().is_some_and(|detail| detail.contains("WRONGTYPE")) || error.code() == Some("WRONGTYPE") => {
            Ok(Outcome::Failed)
        }
        Err(error) if is_away(&error) => Err(classify(&error)),
        // The script is gone, or there is no room: another connection finds out.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            Err(StoreError::Away("the server has forgotten a script".to_owned()))
        }
        Err(error) => Err(classify(&error)),
    }
}

impl PresenceLog for Log {
    fn beat(&mut self, node: &NodeName, online: u64) -> Result<Beat, StoreError> {
        let (lease, index, nodes) =
            (self.render(&Key::Node(node.clone())), self.render(&Key::NodeOnline(node.clone())), self.key("online:nodes"));
        self.ask_all(&nodes, ::redis::pipe().cmd("SADD").arg(&nodes).arg(node.as_str()))?;
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("EXISTS").arg(&lease).cmd("HSET").arg(&lease).arg("online").arg(online);
        pipeline.cmd("PEXPIRE").arg(&lease).arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)).cmd("HLEN").arg(&index);
        match self.ask_all(&lease, &pipeline)?[..] {
            [Value::Int(there), _, _, Value::Int(entries)] => {
                Ok(Beat { lapsed: there == 0, entries: u64::try_from(entries).unwrap_or(0) })
            }
            _ => Err(unknown_form()),
        }
    }

    fn write(&mut self, node: &NodeName, changes: &[Change], bounds: &Bounds) -> Result<Vec<Outcome>, StoreError> {
        let index = self.render(&Key::NodeOnline(node.clone()));
        // Entered before and removed after, so that nobody is online whom the node's end would not find.
        let mut latest: HashMap<&Who, &Change> = HashMap::new();
        let coming: Vec<&Change> = changes.iter().filter(|change| matches!(change, Change::Online { .. })).collect();
        if !self.write_entries(&index, "HSET", &coming)? {
            self.nodes.look_again()?;
            self.load()?;
            return Ok(vec![Outcome::Again; changes.len()]);
        }
        let outcomes = self.run_scripts(node, changes, bounds)?;
        latest.extend(changes.iter().map(|change| (change.who(), change)));
        let settled = |outcome: &Outcome| matches!(outcome, Outcome::New | Outcome::Known | Outcome::Failed);
        let done: HashMap<&Who, bool> =
            changes.iter().zip(&outcomes).map(|(change, outcome)| (change.who(), settled(outcome))).collect();
        let going: Vec<&Change> = latest
            .into_values()
            .filter(|change| matches!(change, Change::Offline { .. }) && done.get(change.who()) == Some(&true))
            .collect();
        self.write_entries(&index, "HDEL", &going)?;
        if outcomes.contains(&Outcome::Again) {
            self.nodes.look_again()?;
            self.load()?;
        }
        Ok(outcomes)
    }

    fn tells(&self) -> bool {
        !self.scattered
    }

    fn tell(&mut self, events: &[Fields], bounds: &Bounds) -> Result<(), StoreError> {
        self.append(&self.key("events"), events, bounds.events)
    }

    fn tell_missed(&mut self, messages: &[Fields], bounds: &Bounds) -> Result<(), StoreError> {
        self.append(&self.key("offline"), messages, bounds.missed)
    }

    fn dead(&mut self) -> Result<Vec<NodeName>, StoreError> {
        let nodes = self.key("online:nodes");
        let answer = self.ask_all(&nodes, ::redis::pipe().cmd("SMEMBERS").arg(&nodes))?.pop().ok_or_else(incomplete)?;
        let (Value::Array(names) | Value::Set(names)) = answer else { return Err(unknown_form()) };
        let names = names.into_iter().filter_map(commands::bytes).filter_map(|name| NodeName::from_bytes(&name).ok());
        let mut dead = Vec::new();
        for name in names {
            let lease = self.render(&Key::Node(name.clone()));
            if let [Value::Int(0)] = self.ask_all(&lease, ::redis::pipe().cmd("EXISTS").arg(&lease))?[..] {
                dead.push(name);
            }
        }
        Ok(dead)
    }

    fn entries(&mut self, node: &NodeName, page: u64) -> Result<Entries, StoreError> {
        let (lease, index) = (self.render(&Key::Node(node.clone())), self.render(&Key::NodeOnline(node.clone())));
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("EXISTS").arg(&lease).cmd("HSCAN").arg(&index).arg(page).arg("COUNT").arg(PAGE);
        let answers = self.ask_all(&lease, &pipeline)?;
        let Ok([Value::Int(alive), Value::Array(scanned)]) = <[Value; 2]>::try_from(answers) else { return Err(unknown_form()) };
        let Ok([next, found]) = <[Value; 2]>::try_from(scanned) else { return Err(unknown_form()) };
        let next: u64 = number(next).ok_or_else(unknown_form)?;
        let found: Vec<(Value, Value)> = match found {
            Value::Map(pairs) => pairs,
            Value::Array(flat) => {
                let mut flat = flat.into_iter();
                std::iter::from_fn(|| flat.next().zip(flat.next())).collect()
            }
            _ => return Err(unknown_form()),
        };
        let entries = found.into_iter().filter_map(|(field, since)| Some((who(&commands::bytes(field)?)?, number(since)?)));
        Ok(Entries { alive: alive != 0, entries: entries.collect(), next: (next != 0).then_some(next) })
    }

    fn forget(&mut self, node: &NodeName) -> Result<(), StoreError> {
        let (lease, index) = (self.render(&Key::Node(node.clone())), self.render(&Key::NodeOnline(node.clone())));
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("EXISTS").arg(&lease).cmd("HLEN").arg(&index);
        if let [Value::Int(0), Value::Int(0)] = self.ask_all(&lease, &pipeline)?[..] {
            // A node that comes in between says so again within its next beat.
            let nodes = self.key("online:nodes");
            self.ask_all(&nodes, ::redis::pipe().cmd("SREM").arg(&nodes).arg(node.as_str()))?;
        }
        Ok(())
    }
}

fn unknown_form() -> StoreError {
    StoreError::Away("the answer is of an unknown form".to_owned())
}

fn number(value: Value) -> Option<u64> {
    std::str::from_utf8(&commands::bytes(value)?).ok()?.parse().ok()
}

fn who(field: &[u8]) -> Option<Who> {
    let at = field.iter().position(|byte| *byte == 0)?;
    let (user, client) = (&field[..at], &field[at + 1..]);
    let user = if user.is_empty() { None } else { Some(Username::from_bytes(user).ok()?) };
    Some(Who { user, client: ClientId::from_bytes(client).ok()? })
}
