//! What `serve` needs of the event loops.

use anyhow::Result;
use midge_broker::config::{Address, Config};
use midge_broker::control::SharedBackend;

use super::systemd::Inherited;
use crate::failure::cannot_serve;

/// What the event loops are made of, beside the configuration.
pub(crate) struct Parts {
    /// The sockets that somebody else has bound for them.
    pub(crate) inherited: Inherited,
    /// The store, open.
    pub(crate) backend: SharedBackend,
    /// Whether there is any user in it.
    pub(crate) any_user: bool,
}

/// A server that runs.
pub(crate) trait Body {
    /// Returns where it listens, in the order of the configuration, with the ports that the operating system chose.
    fn addresses(&self) -> Vec<Address>;

    /// Acts on what a reload takes; `config` differs from what it began with in nothing else.
    ///
    /// # Errors
    /// Something can't be used, such as a certificate; what holds goes on holding.
    fn reload(&mut self, config: &Config) -> Result<()>;

    /// Sends clients away, writes what has to survive and ends.
    ///
    /// # Errors
    /// Not everything could be written.
    fn stop(self) -> Result<()>;
}

/// The server of `midge-broker`.
pub(crate) enum Broker {}

impl Body for Broker {
    fn addresses(&self) -> Vec<Address> {
        match *self {}
    }

    fn reload(&mut self, _: &Config) -> Result<()> {
        match *self {}
    }

    fn stop(self) -> Result<()> {
        match self {}
    }
}

/// Starts the event loops.
///
/// # Errors
/// A listener can't be bound, or what was kept can't be read.
pub(crate) fn start(_: &Config, parts: Parts) -> Result<Broker> {
    let Parts { inherited, backend, any_user } = parts;
    drop((inherited, backend, any_user));
    Err(cannot_serve(anyhow::anyhow!("this build has everything but the event loops: nothing is served")))
}
