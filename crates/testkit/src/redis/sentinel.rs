//! A master and a replica watched by sentinels.

use super::{RedisServer, RedisVersion};
use crate::wait::{Deadline, until};
use anyhow::{Context, Result};

/// One master, one replica, and one to three sentinels that know them as `mymaster`.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The server that was master at the start.
    pub master: RedisServer,
    /// The server that was replica at the start.
    pub replica: RedisServer,
    /// The sentinels.
    pub sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// The name under which the sentinels know the master.
    pub const NAME: &'static str = "mymaster";

    /// Starts everything and waits until every sentinel knows the replica and the other sentinels.
    ///
    /// A master that doesn't answer for half a second counts as down.
    ///
    /// # Errors
    /// When a server doesn't start or they don't find each other in time.
    pub fn start(version: RedisVersion, sentinels: usize) -> Result<Self> {
        let master = RedisServer::builder(version).start()?;
        let replica = RedisServer::builder(version).config(&format!("replicaof 127.0.0.1 {}", master.port())).start()?;
        let name = Self::NAME;
        let quorum = sentinels / 2 + 1;
        let watch = || {
            RedisServer::builder(version)
                .sentinel()
                .config(&format!("sentinel monitor {name} 127.0.0.1 {} {quorum}", master.port()))
                .config(&format!("sentinel down-after-milliseconds {name} 500"))
                .config(&format!("sentinel failover-timeout {name} 3000"))
                .start()
        };
        let sentinels = (0..sentinels).map(|_| watch()).collect::<Result<Vec<_>>>()?;
        let group = Self { master, replica, sentinels };
        group.wait_ready()?;
        Ok(group)
    }

    /// Returns the sentinels' ports.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(RedisServer::port).collect()
    }

    /// Returns the port of the master as the first sentinel names it.
    ///
    /// # Errors
    /// When the sentinel doesn't answer.
    pub fn master_port(&self) -> Result<u16> {
        let sentinel = self.sentinels.first().context("there is no sentinel")?;
        let answer = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME])?;
        let port = answer.lines().nth(1).context("the sentinel knows no master")?;
        Ok(port.trim().parse()?)
    }

    /// Ends the master at once and waits until the replica has taken its place.
    ///
    /// # Errors
    /// When the sentinels don't agree on it in time.
    pub fn fail_over(&mut self) -> Result<()> {
        self.master.crash()?;
        until("the failover", Deadline::START, || {
            // A server that changes its role drops the connections it has.
            let (Ok(role), Ok(port)) = (self.replica.cli(&["ROLE"]), self.master_port()) else {
                return Ok(None);
            };
            let promoted = role.starts_with("master") && port == self.replica.port();
            Ok(promoted.then_some(()))
        })
    }

    fn wait_ready(&self) -> Result<()> {
        until("the sentinels", Deadline::START, || {
            if !self.replica.cli(&["INFO", "replication"])?.contains("master_link_status:up") {
                return Ok(None);
            }
            for sentinel in &self.sentinels {
                let lines = sentinel.cli(&["SENTINEL", "MASTER", Self::NAME])?;
                let lines: Vec<&str> = lines.lines().map(str::trim).collect();
                let field = |name: &str| {
                    let at = lines.iter().position(|line| *line == name)?;
                    lines.get(at + 1)?.parse::<usize>().ok()
                };
                let known = field("num-slaves") == Some(1) && field("num-other-sentinels") == Some(self.sentinels.len() - 1);
                if !known {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }
}
