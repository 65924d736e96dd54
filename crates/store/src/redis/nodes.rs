//! The servers behind one store, and who has what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use midge_core::key::KeySpace;

use super::{Shared, classify, is_away};
use crate::url::{Address, Login, Place};
use crate::{Part, StoreError};

/// How many hash slots a cluster has (Redis Cluster specification).
const SLOTS: u16 = 16_384;

/// The least time that one of several named servers gets to answer.
const LEAST_SHARE: Duration = Duration::from_millis(500);

/// A run of hash slots, and the server that has them.
struct Range {
    first: u16,
    last: u16,
    node: usize,
}

/// Connections to the servers of one store.
pub(super) struct Nodes {
    shared: Arc<Shared>,
    addresses: Vec<ConnectionAddr>,
    connections: Vec<Connection>,
    /// Empty where one server has all keys.
    ranges: Vec<Range>,
}

impl Nodes {
    /// Connects to all servers that take writes.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (addresses, ranges) = find(&shared)?;
        let mut connections = addresses.iter().map(|address| shared.open(address)).collect::<Result<Vec<_>, _>>()?;
        for (address, connection) in addresses.iter().zip(&mut connections) {
            shared.lives.see(address, connection, shared.settings.response_timeout)?;
        }
        Ok(Self { shared, addresses, connections, ranges })
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns whether servers have different keys.
    pub(super) fn is_cluster(&self) -> bool {
        !self.ranges.is_empty()
    }

    pub(super) fn keys(&self) -> &KeySpace {
        &self.shared.settings.keys
    }

    pub(super) fn max_fields(&self) -> usize {
        self.shared.settings.max_fields
    }

    /// Finds out anew who has what.
    pub(super) fn look_again(&mut self) -> Result<(), StoreError> {
        *self = Self::open(self.shared.clone())?;
        Ok(())
    }

    /// Sorts the keys at `wanted` by the server that has them.
    pub(super) fn group(&self, keys: &[String], wanted: &[usize]) -> Result<BTreeMap<usize, Vec<usize>>, StoreError> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in wanted {
            groups.entry(self.of(&keys[*at])?).or_default().push(*at);
        }
        Ok(groups)
    }

    /// Returns the server that has `key`.
    pub(super) fn of(&self, key: &str) -> Result<usize, StoreError> {
        if self.ranges.is_empty() {
            return Ok(0);
        }
        let slot = slot_of(key.as_bytes());
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        Ok(range.ok_or_else(|| StoreError::Away(format!("the cluster has nobody for slot {slot}")))?.node)
    }

    /// Returns the part that has `key`: in a cluster its server, otherwise everything.
    pub(super) fn part_of(&self, key: &str) -> Part {
        let server = if self.ranges.is_empty() { None } else { self.of(key).ok().and_then(|node| self.addresses.get(node)) };
        server.map_or_else(Part::default, |address| Part::of_server(&address.to_string()))
    }

    /// Returns the server that has `part`; `None` where it has none any more.
    pub(super) fn find(&self, part: &Part) -> Option<usize> {
        if self.ranges.is_empty() {
            return (*part == Part::default()).then_some(0);
        }
        self.addresses.iter().position(|address| Part::of_server(&address.to_string()) == *part)
    }

    /// Returns how often any of the servers was found to have begun anew.
    pub(super) fn beginnings(&self) -> u64 {
        self.shared.lives.beginnings()
    }

    /// Runs a pipeline that doesn't stop at errors about keys.
    pub(super) fn query(&mut self, node: usize, pipeline: &Pipeline) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let within = self.shared.settings.response_timeout;
        exchange(self.connection(node)?, &pipeline.get_packed_pipeline(), pipeline.len(), within)
    }

    /// Runs one command.
    pub(super) fn query_one<T: FromRedisValue>(&mut self, node: usize, command: &Cmd) -> Result<T, StoreError> {
        let within = self.shared.settings.response_timeout;
        ask_one(self.connection(node)?, command, within)
    }

    /// Runs one command that waits by itself, for `wait` at most.
    pub(super) fn query_waiting(&mut self, node: usize, command: &Cmd, wait: Duration) -> Result<Value, StoreError> {
        let within = self.shared.settings.response_timeout + wait;
        ask_one(self.connection(node)?, command, within)
    }

    /// Asks each server for a sign of life, to be given within `most` or the time that an answer may take.
    pub(super) fn ping(&mut self, most: Duration) -> Result<(), StoreError> {
        let within = self.shared.settings.response_timeout.min(most);
        self.connections.iter_mut().try_for_each(|connection| ask_one::<Value>(connection, &::redis::cmd("PING"), within).map(drop))
    }

    /// Runs a pipeline on the server that a key is moving to, as `redirect` says; `None` where that server isn't known yet.
    pub(super) fn query_importing(
        &mut self,
        redirect: &RedisError,
        pipeline: &Pipeline,
    ) -> Result<Option<Vec<RedisResult<Value>>>, StoreError> {
        let named = redirect.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
        let Some((host, port)) = named.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))) else {
            return Ok(None);
        };
        let address = self.shared.address(&Address { host, port });
        let Some(node) = self.addresses.iter().position(|known| *known == address) else { return Ok(None) };
        let mut asking = ::redis::pipe();
        for command in pipeline.cmd_iter() {
            asking.cmd("ASKING").add_command(command.clone());
        }
        let answers = self.query(node, &asking)?;
        Ok(Some(answers.into_iter().skip(1).step_by(2).collect()))
    }

    fn connection(&mut self, node: usize) -> Result<&mut Connection, StoreError> {
        self.connections.get_mut(node).ok_or_else(|| StoreError::Away("other servers have the keys now".to_owned()))
    }
}

/// Sends commands and returns an answer to each, or the first failure of the connection, all within a time.
///
/// The client library's own way reads on after a failure, and waits the whole time again for each command.
pub(super) fn exchange(
    connection: &mut Connection,
    commands: &[u8],
    count: usize,
    within: Duration,
) -> Result<Vec<RedisResult<Value>>, StoreError> {
    let end = Instant::now() + within;
    let late = || StoreError::Away("no answer in time".to_owned());
    let broken = |error: RedisError| classify(&error);
    connection.set_write_timeout(Some(within)).map_err(broken)?;
    connection.send_packed_command(commands).map_err(broken)?;
    let mut answers = Vec::with_capacity(count);
    let mut allowed = Duration::MAX;
    while answers.len() < count {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        // Set again only where it makes a difference: it costs a call of the system.
        if left < allowed - within / 16 {
            connection.set_read_timeout(Some(left)).map_err(broken)?;
            allowed = left;
        }
        match connection.recv_response() {
            // Announcements reach the connection's own receiver.
            Ok(Value::Push { .. }) => {}
            Ok(Value::ServerError(error)) => answers.push(Err(error.into())),
            Ok(value) => answers.push(Ok(value)),
            Err(error) => return Err(classify(&error)),
        }
    }
    Ok(answers)
}

/// Runs one command whose error is an error.
pub(super) fn ask_one<T: FromRedisValue>(connection: &mut Connection, command: &Cmd, within: Duration) -> Result<T, StoreError> {
    let answer = exchange(connection, &command.get_packed_command(), 1, within)?.swap_remove(0);
    let value = answer.map_err(|error| classify(&error))?;
    T::from_redis_value(value).map_err(|error| StoreError::Away(error.to_string()))
}

/// Returns the servers that take writes, and in a cluster which of them has which slots.
fn find(shared: &Shared) -> Result<(Vec<ConnectionAddr>, Vec<Range>), StoreError> {
    match &shared.url.place {
        Place::Single(address) => Ok((vec![shared.address(address)], Vec::new())),
        Place::Unix(path) => Ok((vec![ConnectionAddr::Unix(path.clone())], Vec::new())),
        Place::Sentinel { sentinels, service } => Ok((vec![shared.address(&master(shared, sentinels, service)?)], Vec::new())),
        Place::Cluster(seeds) => cluster(shared, seeds),
        Place::Directory(_) => Err(StoreError::Refused("a directory is no Redis".to_owned())),
    }
}

/// Returns the addresses of all servers that take writes.
pub(super) fn masters(shared: &Shared) -> Result<Vec<ConnectionAddr>, StoreError> {
    find(shared).map(|(addresses, _)| addresses)
}

/// Asks servers that the URL names, one after the other, from the one that answered last.
fn ask_around<T>(
    shared: &Shared,
    seeds: &[Address],
    ask: impl Fn(&Address, Duration) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let count = seeds.len().max(1);
    let first = shared.seed.load(Ordering::Relaxed);
    let share = shared.settings.connect_timeout / u32::try_from(count).unwrap_or(u32::MAX);
    let share = share.max(LEAST_SHARE).min(shared.settings.connect_timeout);
    let mut last = StoreError::Away("no server is named".to_owned());
    for at in (0..seeds.len()).map(|step| (first + step) % count) {
        match ask(&seeds[at], share) {
            Ok(answer) => {
                shared.seed.store(at, Ordering::Relaxed);
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns whom the sentinels call the master; an answer counts when that server says so itself.
fn master(shared: &Shared, sentinels: &[Address], service: &str) -> Result<Address, StoreError> {
    ask_around(shared, sentinels, |sentinel, share| ask_sentinel(shared, sentinel, service, share)).map_err(|error| match error {
        StoreError::Away(last) => StoreError::Away(format!("no sentinel knows a master of {service}: {last}")),
        refused => refused,
    })
}

fn ask_sentinel(shared: &Shared, sentinel: &Address, service: &str, within: Duration) -> Result<Address, StoreError> {
    let mut connection = shared.open_as(&shared.address(sentinel), &shared.url.sentinel_login, 0, within)?;
    let mut command = ::redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let answer: Option<(String, u16)> = ask_one(&mut connection, &command, within)?;
    let (host, port) = answer.ok_or_else(|| StoreError::Away(format!("sentinel {sentinel} doesn't know {service}")))?;
    let address = Address { host, port };
    let mut master = shared.open_as(&shared.address(&address), &shared.url.login, 0, within)?;
    let role: Vec<Value> = ask_one(&mut master, &::redis::cmd("ROLE"), within)?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(address),
        _ => Err(StoreError::Away(format!("{address} is not the master yet"))),
    }
}

fn cluster(shared: &Shared, seeds: &[Address]) -> Result<(Vec<ConnectionAddr>, Vec<Range>), StoreError> {
    ask_around(shared, seeds, |seed, share| slots(shared, seed, share))
}

type SlotRow = (u16, u16, Vec<Value>);

fn slots(shared: &Shared, seed: &Address, within: Duration) -> Result<(Vec<ConnectionAddr>, Vec<Range>), StoreError> {
    let mut connection = shared.open_as(&shared.address(seed), &shared.url.login, 0, within)?;
    let mut command = ::redis::cmd("CLUSTER");
    let rows: Vec<Vec<Value>> = ask_one(&mut connection, command.arg("SLOTS"), within)?;
    let mut addresses: Vec<Address> = Vec::new();
    let mut ranges = Vec::new();
    for row in rows {
        let (first, last, server) =
            slot_row(&row).ok_or_else(|| StoreError::Away("CLUSTER SLOTS is of an unknown form".to_owned()))?;
        let address = server_address(&server, seed).ok_or_else(|| StoreError::Away("CLUSTER SLOTS names no address".to_owned()))?;
        let node = addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
            addresses.push(address);
            addresses.len() - 1
        });
        ranges.push(Range { first, last, node });
    }
    if ranges.is_empty() {
        return Err(StoreError::Away("the cluster has no slots yet".to_owned()));
    }
    Ok((addresses.iter().map(|address| shared.address(address)).collect(), ranges))
}

fn slot_row(row: &[Value]) -> Option<SlotRow> {
    match row {
        [Value::Int(first), Value::Int(last), Value::Array(server), ..] => {
            Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, server.clone()))
        }
        _ => None,
    }
}

fn server_address(server: &[Value], seed: &Address) -> Option<Address> {
    let (host, port) = match server {
        [Value::BulkString(host), Value::Int(port), ..] => (String::from_utf8(host.clone()).ok()?, *port),
        // A server that doesn't know its own address means the one it was asked at.
        [Value::Nil, Value::Int(port), ..] => (String::new(), *port),
        _ => return None,
    };
    let host = if host.is_empty() || host == "?" { seed.host.clone() } else { host };
    Some(Address { host, port: u16::try_from(port).ok()? })
}

/// Returns the slot of a key: CRC16 of what stands in its first braces, or of all of it (Redis Cluster specification).
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// Returns the CRC-16/XMODEM of `bytes`: polynomial 0x1021, start 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

impl Shared {
    fn address(&self, address: &Address) -> ConnectionAddr {
        match self.certificates {
            Some(_) => ConnectionAddr::TcpTls { host: address.host.clone(), port: address.port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(address.host.clone(), address.port),
        }
    }

    /// Connects to one server as the URL says.
    pub(super) fn open(&self, address: &ConnectionAddr) -> Result<Connection, StoreError> {
        self.open_as(address, &self.url.login, self.url.database, self.settings.connect_timeout)
    }

    /// Connects to one server in a way that can carry announcements.
    pub(super) fn open_for_announcements(&self, address: &ConnectionAddr) -> Result<Connection, StoreError> {
        let within = self.settings.connect_timeout;
        match self.try_open(address, &self.url.login, self.url.database, within, ProtocolVersion::RESP3) {
            Err(Opening::NoResp3) => Err(StoreError::Refused("announcements need a server that speaks RESP3".to_owned())),
            Err(Opening::Failed(error)) => Err(error),
            Ok(connection) => Ok(connection),
        }
    }

    fn open_as(&self, address: &ConnectionAddr, login: &Login, database: u32, within: Duration) -> Result<Connection, StoreError> {
        let open = |protocol| self.try_open(address, login, database, within, protocol);
        match open(ProtocolVersion::RESP3) {
            Err(Opening::NoResp3) => open(ProtocolVersion::RESP2),
            other => other,
        }
        .map_err(|error| match error {
            Opening::Failed(error) => error,
            Opening::NoResp3 => StoreError::Refused("the server speaks neither RESP3 nor RESP2".to_owned()),
        })
    }

    fn try_open(
        &self,
        address: &ConnectionAddr,
        login: &Login,
        database: u32,
        within: Duration,
        protocol: ProtocolVersion,
    ) -> Result<Connection, Opening> {
        let end = Instant::now() + within;
        let mut info = RedisConnectionInfo::default().set_protocol(protocol).set_skip_set_lib_name();
        if let Some(user) = &login.user {
            info = info.set_username(user);
        }
        if let Some(password) = &login.password {
            info = info.set_password(password);
        }
        let info = address.clone().into_connection_info()?.set_redis_settings(info);
        let client = match &self.certificates {
            Some(certificates) if matches!(address, ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates.clone())?
            }
            _ => Client::open(info)?,
        };
        let mut connection = client.get_connection_with_timeout(within)?;
        if database != 0 {
            let mut select = ::redis::cmd("SELECT");
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let answer = exchange(&mut connection, &select.arg(database).get_packed_command(), 1, left)?.swap_remove(0);
            answer.map_err(|error| match is_away(&error) {
                true => classify(&error),
                false => StoreError::Refused(format!("database {database}: {}", error.detail().unwrap_or("refused"))),
            })?;
        }
        Ok(connection)
    }
}

/// Why a connection could not be opened.
enum Opening {
    NoResp3,
    Failed(StoreError),
}

impl From<StoreError> for Opening {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<RedisError> for Opening {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::RESP3NotSupported => Self::NoResp3,
            _ => Self::Failed(classify(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // The specification's check value, and what `CLUSTER KEYSLOT` answers.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in
            [("foo", 12182), ("{user1000}.following", 3443), ("{user1000}.followers", 3443), ("foo{}{bar}", 8363), ("", 0)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }
}
