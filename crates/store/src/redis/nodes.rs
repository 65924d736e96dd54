//! The servers behind one store, and which of them has a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisResult, Value,
};
use midge_core::key::KeySpace;

use super::{Shared, classify};
use crate::StoreError;
use crate::url::{Address, Login, Place};

/// How many hash slots a cluster has (Redis Cluster specification).
const SLOTS: u16 = 16_384;

/// A run of hash slots, and the server that has them.
struct Range {
    first: u16,
    last: u16,
    node: usize,
}

/// Connections to the servers of one store.
pub(super) struct Nodes {
    shared: Arc<Shared>,
    connections: Vec<Connection>,
    /// Empty where one server has all keys.
    ranges: Vec<Range>,
}

impl Nodes {
    /// Connects to all servers that take writes.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (addresses, ranges) = find(&shared)?;
        let connections = addresses.iter().map(|address| shared.open(address)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared, connections, ranges })
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
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
            let node = match self.ranges.is_empty() {
                true => 0,
                false => {
                    let slot = slot_of(keys[*at].as_bytes());
                    let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
                    range.ok_or_else(|| StoreError::Away(format!("the cluster has nobody for slot {slot}")))?.node
                }
            };
            groups.entry(node).or_default().push(*at);
        }
        Ok(groups)
    }

    /// Runs a pipeline that doesn't stop at errors.
    pub(super) fn query(&mut self, node: usize, pipeline: &Pipeline) -> Result<Vec<RedisResult<Value>>, StoreError> {
        pipeline.query(&mut self.connections[node]).map_err(|error| classify(&error))
    }

    /// Runs one command.
    pub(super) fn query_one<T: FromRedisValue>(&mut self, node: usize, command: &Cmd) -> Result<T, StoreError> {
        command.query(&mut self.connections[node]).map_err(|error| classify(&error))
    }
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

/// Asks the sentinels, in their order, who the master is; an answer counts when that server says so itself.
fn master(shared: &Shared, sentinels: &[Address], service: &str) -> Result<Address, StoreError> {
    let mut last = StoreError::Away("no sentinel is named".to_owned());
    for sentinel in sentinels {
        match ask_sentinel(shared, sentinel, service) {
            Ok(address) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(StoreError::Away(format!("no sentinel knows a master of {service}: {last}")))
}

fn ask_sentinel(shared: &Shared, sentinel: &Address, service: &str) -> Result<Address, StoreError> {
    let mut connection = shared.open_as(&shared.address(sentinel), &shared.url.sentinel_login, 0)?;
    let mut command = ::redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let answer: Option<(String, u16)> = command.query(&mut connection).map_err(|error| classify(&error))?;
    let (host, port) = answer.ok_or_else(|| StoreError::Away(format!("sentinel {sentinel} doesn't know {service}")))?;
    let address = Address { host, port };
    let mut master = shared.open(&shared.address(&address))?;
    let role: Vec<Value> = ::redis::cmd("ROLE").query(&mut master).map_err(|error| classify(&error))?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(address),
        _ => Err(StoreError::Away(format!("{address} is not the master yet"))),
    }
}

fn cluster(shared: &Shared, seeds: &[Address]) -> Result<(Vec<ConnectionAddr>, Vec<Range>), StoreError> {
    let mut last = StoreError::Away("no server of the cluster is named".to_owned());
    for seed in seeds {
        match slots(shared, seed) {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

type SlotRow = (u16, u16, Vec<Value>);

fn slots(shared: &Shared, seed: &Address) -> Result<(Vec<ConnectionAddr>, Vec<Range>), StoreError> {
    let mut connection = shared.open(&shared.address(seed))?;
    let mut command = ::redis::cmd("CLUSTER");
    let rows: Vec<Vec<Value>> = command.arg("SLOTS").query(&mut connection).map_err(|error| classify(&error))?;
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
        self.open_as(address, &self.url.login, self.url.database)
    }

    fn open_as(&self, address: &ConnectionAddr, login: &Login, database: u32) -> Result<Connection, StoreError> {
        let connection = match self.try_open(address, login, database, ProtocolVersion::RESP3) {
            Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                self.try_open(address, login, database, ProtocolVersion::RESP2)
            }
            other => other,
        };
        connection.map_err(|error| classify(&error))
    }

    fn try_open(
        &self,
        address: &ConnectionAddr,
        login: &Login,
        database: u32,
        protocol: ProtocolVersion,
    ) -> RedisResult<Connection> {
        let mut info = RedisConnectionInfo::default().set_db(i64::from(database)).set_protocol(protocol).set_skip_set_lib_name();
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
        let connection = client.get_connection_with_timeout(self.settings.connect_timeout)?;
        connection.set_read_timeout(Some(self.settings.response_timeout))?;
        connection.set_write_timeout(Some(self.settings.response_timeout))?;
        Ok(connection)
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
