//! A server in this process, on a port of its own.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use midge_broker::journal::Journal;
use midge_broker::server::{Address, Beginning, Handle, Limits, Listen, Mind, OpenDoor, Report, Server, Settings};
use midge_engine::record::State;
use midge_store::service::Clock;
use midge_testkit::until;

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is stopped with its guard.
pub(crate) struct Running(Option<Server>);

impl Running {
    pub(crate) fn new(server: Server) -> Self {
        Self(Some(server))
    }

    /// Starts a server with one plain listener and so many loops.
    pub(crate) fn plain(loops: u8) -> Result<Self> {
        Self::start(Settings { loops, ..Settings::default() })
    }

    /// Starts a server with these listeners.
    pub(crate) fn listening(loops: u8, listeners: Vec<Listen>) -> Result<Self> {
        Self::start(Settings { loops, listeners, ..Settings::default() })
    }

    /// Starts a server with one plain listener and limits.
    pub(crate) fn limited(limits: Limits) -> Result<Self> {
        Self::start(Settings { loops: 2, limits, ..Settings::default() })
    }

    /// Starts a server; where it has no listener, it gets a plain one.
    pub(crate) fn start(settings: Settings) -> Result<Self> {
        Self::with_minds(settings, |_| Box::new(OpenDoor))
    }

    /// Starts a server whose loops have other minds.
    pub(crate) fn with_minds(mut settings: Settings, mut mind: impl FnMut(&Handle) -> Box<dyn Mind>) -> Result<Self> {
        if settings.listeners.is_empty() {
            settings.listeners.push(local());
        }
        let beginning = Beginning { state: &State::default(), journal: None, clock: Clock::start() };
        Ok(Self(Some(Server::start(settings, &beginning, |_, handle| mind(handle))?)))
    }

    /// Starts a server with one plain listener and what a journal has kept.
    pub(crate) fn with_journal(settings: Settings, journal: &Journal, state: &State) -> Result<Self> {
        let settings = Settings { listeners: vec![local()], ..settings };
        let beginning = Beginning { state, journal: Some(journal), clock: Clock::start() };
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

    /// Waits until the server says of itself what is `expected`; loops do once in a second.
    pub(crate) fn reported(&self, what: &str, expected: impl Fn(&Report) -> bool) -> Result<()> {
        let report = || self.handle().report();
        until(what, PATIENCE, || Ok(expected(&report()).then_some(()))).map_err(|error| error.context(format!("{:?}", report())))
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

/// Returns a plain listener on loopback.
pub(crate) fn local() -> Listen {
    Listen::tcp((Ipv4Addr::LOCALHOST, 0).into())
}
