//! A server in this process, on a port of its own.

use std::net::Ipv4Addr;

use anyhow::Result;
use midge_broker::server::{Address, Beginning, Handle, Listen, OpenDoor, Server, Settings};
use midge_engine::record::State;

/// A server that is stopped with its guard.
pub(crate) struct Running(Option<Server>);

impl Running {
    /// Starts a server with one plain listener and so many loops.
    pub(crate) fn plain(loops: u8) -> Result<Self> {
        Self::start(Settings { loops, ..Settings::default() })
    }

    /// Starts a server; where it has no listener, it gets a plain one.
    pub(crate) fn start(mut settings: Settings) -> Result<Self> {
        if settings.listeners.is_empty() {
            settings.listeners.push(Listen::tcp((Ipv4Addr::LOCALHOST, 0).into()));
        }
        let beginning = Beginning { state: &State::default(), keeper: None };
        Ok(Self(Some(Server::start(settings, &beginning, |_, _| Box::new(OpenDoor))?)))
    }

    /// Returns the port of the first listener.
    pub(crate) fn port(&self) -> u16 {
        self.port_of(0)
    }

    pub(crate) fn port_of(&self, listener: usize) -> u16 {
        match self.server().addresses()[listener] {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.server().handle()
    }

    pub(crate) fn stop(mut self) {
        self.0.take().into_iter().for_each(Server::stop);
    }

    fn server(&self) -> &Server {
        self.0.as_ref().expect("it runs until it is stopped")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Server::stop);
    }
}
