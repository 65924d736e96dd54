//! What `serve` needs of the event loops, translated.
//!
//! The configuration is translated into what mind, journal and event loops are told; nothing is decided here.

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use midge_broker::config::{self, Address, AnonymousPolicy, Config, Listener, Protocol};
use midge_broker::journal::{Journal, Settings as JournalSettings};
use midge_broker::mind::{self, Anonymity, Door, Mind, Observers};
use midge_broker::server::{self, Beginning, Limits, Listen, PushSource, Resident, Server, TlsFiles, WebSocketSettings};
use midge_core::gate::Anonymous;
use midge_core::name::NodeName;
use midge_engine::record::State;
use midge_store::Backend;
use midge_store::hot::{HotSettings, HotTopics};
use midge_store::metrics::Metrics;
use midge_store::node::{Fact, Life, Report};
use midge_store::presence::{Attendance, Presence, PresenceSettings};
use midge_store::push::PushCounters;

use super::systemd::{Bound, Inherited};
use crate::failure::cannot_serve;

/// What the event loops are made of, beside the configuration.
pub(crate) struct Parts {
    /// The sockets that somebody else has bound for them.
    pub(crate) inherited: Inherited,
    /// The store, open.
    pub(crate) backend: Arc<dyn Backend>,
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
pub(crate) struct Broker {
    server: Server,
    journal: Option<Journal>,
    mind: Mind,
    addresses: Vec<Address>,
    _metrics: Option<Metrics>,
    /// Enters all clients as gone when it goes, which is after the event loops.
    _presence: Option<Presence>,
}

impl Body for Broker {
    fn addresses(&self) -> Vec<Address> {
        self.addresses.clone()
    }

    fn reload(&mut self, config: &Config) -> Result<()> {
        let (login, doors) = (config.users.login(Anonymous::Deny).map_err(|error| anyhow!(error))?, doors(config));
        let files: Vec<_> = config.listeners.iter().map(tls_files).collect();
        self.server.handle().reload_certificates(&files)?;
        self.mind.reload(login, doors);
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.server.stop();
        self.journal.map(Journal::close).transpose().map_err(cannot_serve)?;
        Ok(())
    }
}

/// Starts the event loops.
///
/// # Errors
/// A listener can't be bound, or what was kept can't be read.
pub(crate) fn start(config: &Config, parts: Parts) -> Result<Broker> {
    let mind = Mind::start(mind_settings(config)?, Arc::clone(&parts.backend)).map_err(cannot_serve)?;
    let node = NodeName::from_bytes(config.node.as_bytes());
    let node = node.with_context(|| format!("the server can't be called {:?}", config.node)).map_err(cannot_serve)?;
    let life = Arc::new(Life::default());
    let presence = presence(config, &mind, &node, &life, &parts.backend).map_err(cannot_serve)?;
    let hot = hot(config, &parts.backend).map_err(cannot_serve)?;
    let observers = Observers { hot, attendance: presence.as_ref().map(Presence::attendance) };
    let mind = mind.observed_by(observers.clone());
    let (journal, state) = open_journal(config)?;
    let source = |settings| PushSource { backend: Arc::clone(&parts.backend), settings };
    let pushes = config.pushes.clone().map(source);
    let settings = server::Settings { pushes, ..server_settings(config, parts.inherited) };
    let beginning = Beginning { state: &state, journal: journal.as_ref(), clock: mind.clock() };
    let server = Server::start(settings, &beginning, |place, handle| Box::new(Resident::new(&mind, handle, place.event_loop)));
    let server = server.map_err(cannot_serve)?;
    let name = node.to_string();
    let report = report(node, life, &mind, &server, observers);
    let metrics = config.metrics.map(|address| {
        let (collect, mind) = (Arc::clone(&report.collect), mind.clone());
        Metrics::start(address, &name, collect, Box::new(move || mind.service().health()), || {})
    });
    let metrics = metrics.transpose().map_err(cannot_serve)?;
    if config.report {
        mind.service().report(report);
    }
    let addresses = server.addresses().iter().zip(&config.listeners).map(|(bound, listener)| shown(bound, listener)).collect();
    Ok(Broker { server, journal, mind, addresses, _presence: presence, _metrics: metrics })
}

/// Starts to show who is online, unless nobody shall know.
fn presence(
    config: &Config,
    mind: &Mind,
    node: &NodeName,
    life: &Arc<Life>,
    backend: &Arc<dyn Backend>,
) -> std::io::Result<Option<Presence>> {
    let start = |settings: &PresenceSettings| {
        let (backend, gate) = (Box::new(Arc::clone(backend)), Arc::clone(mind.gate()));
        Presence::start_in(backend, node.clone(), Arc::clone(life), gate, settings.clone(), || {})
    };
    // It rests on the lease that the report renews.
    config.presence.as_ref().filter(|_| config.report).map(start).transpose()
}

/// Starts to count topics, unless nobody wants that.
fn hot(config: &Config, backend: &Arc<dyn Backend>) -> std::io::Result<Option<Arc<HotTopics>>> {
    let start = |settings: &HotSettings| {
        let shared: Option<Box<dyn Backend>> = match config.store_directory() {
            Some(_) => None,
            None => Some(Box::new(Arc::clone(backend))),
        };
        HotTopics::start_in(shared, settings.clone(), || {}).map(Arc::new)
    };
    config.hot.as_ref().map(start).transpose()
}

fn mind_settings(config: &Config) -> Result<mind::Settings> {
    Ok(mind::Settings {
        gate: config.users.gate.clone(),
        login: config.users.login(Anonymous::Deny).map_err(|error| anyhow!(error))?,
        service: config.users.service.clone(),
        doors: doors(config),
        max_automatic: config.users.max_automatic,
    })
}

/// Returns who gets in at which listener.
fn doors(config: &Config) -> Vec<Door> {
    let only_users_log_in = !config.listeners.iter().any(|listener| config.has_identities(listener));
    let door = |listener: &Listener| {
        // Before the first user there is one way in for those on this machine only.
        let until_first = listener.allow_anonymous.is_none() && config.users.anonymous == AnonymousPolicy::Auto;
        let anonymous = match config.anonymous(listener, false) {
            Anonymous::Allow if until_first => Anonymity::WhileNoUsers,
            Anonymous::Allow if only_users_log_in => Anonymity::Open,
            Anonymous::Allow => Anonymity::Allow,
            Anonymous::Deny => Anonymity::Deny,
        };
        Door { anonymous, identity: listener.identity() }
    };
    config.listeners.iter().map(door).collect()
}

/// Opens the journal and reads what has survived; without persistence there is neither.
fn open_journal(config: &Config) -> Result<(Option<Journal>, State)> {
    if !config.engine.persistence {
        return Ok((None, State::default()));
    }
    let config::Journal { directory, queue_bytes, compact_bytes, compact_percent, compact_age, retry } = config.journal.clone();
    let settings = JournalSettings { queue_bytes, compact_bytes, compact_percent, compact_age, retry };
    let (journal, recovered) = Journal::open(&directory, &settings).context("the journal can't be used").map_err(cannot_serve)?;
    let report = recovered.report;
    if let Some(torn) = report.torn {
        let (file, bytes, offset) = (torn.file.display(), torn.bytes, torn.offset);
        log::warn!("{file}: the last {bytes} bytes, from {offset} on, were not written to their end and never confirmed: cut off");
    }
    if report.records > 0 {
        let how = if report.clean { "in order" } else { "by a crash" };
        log::info!("read {} records in {} ms; the last run ended {how}", report.records, report.took.as_millis());
    }
    Ok((Some(journal), recovered.state))
}

fn server_settings(config: &Config, inherited: Inherited) -> server::Settings {
    let mut listeners: Vec<Listen> = config.listeners.iter().map(listen).collect();
    for (place, bound) in inherited.into_sockets() {
        let socket: OwnedFd = match bound {
            Bound::Tcp(socket) => socket.into(),
            Bound::Unix(socket) => socket.into(),
        };
        if let Some(listen) = listeners.get_mut(place) {
            listen.inherited = Some(Arc::new(socket));
        }
    }
    let connections = &config.connections;
    server::Settings {
        loops: config.threads,
        engine: config.engine.clone(),
        listeners,
        limits: Limits {
            max_connections: connections.max,
            max_per_address: connections.max_per_address,
            max_per_user: connections.max_per_user,
            connect_rate: connections.rate.map_or(0, NonZero::get),
            backlog: connections.backlog,
            connect_timeout: connections.login_timeout,
            max_connect_size: connections.max_connect_size,
            close_timeout: connections.close_timeout,
        },
        sys_interval: config.sys_interval,
        pushes: None,
    }
}

fn listen(listener: &Listener) -> Listen {
    let address = match &listener.address {
        Address::Tcp(address) => server::Address::Tcp(*address),
        Address::Unix { path, .. } => server::Address::Unix(path.clone()),
    };
    let websocket = match &listener.protocol {
        Protocol::Mqtt => None,
        Protocol::WebSocket { path, origins } => Some(WebSocketSettings { path: path.clone(), origins: origins.clone() }),
    };
    let unix_mode = match &listener.address {
        Address::Tcp(_) => None,
        Address::Unix { mode, .. } => Some(*mode),
    };
    let (proxy, max_connections) = (listener.proxy_protocol, listener.max_connections);
    Listen { proxy, tls: tls_files(listener), websocket, max_connections, unix_mode, ..Listen::at(address) }
}

fn tls_files(listener: &Listener) -> Option<TlsFiles> {
    let tls = listener.tls.as_ref()?;
    Some(TlsFiles {
        certificates: tls.certificate.clone(),
        key: tls.key.clone(),
        client_authorities: tls.clients.as_ref().map(|clients| clients.authorities.clone()),
        client_certificate_required: tls.clients.as_ref().is_some_and(|clients| clients.required),
    })
}

/// Returns where a listener is, with the port that the operating system chose.
fn shown(bound: &server::Address, listener: &Listener) -> Address {
    match bound {
        server::Address::Tcp(address) => Address::Tcp(*address),
        server::Address::Unix(_) => listener.address.clone(),
    }
}

/// Returns what the server says of itself in the store.
fn report(node: NodeName, life: Arc<Life>, mind: &Mind, server: &Server, seen: Observers) -> Report {
    let (gate, handle) = (Arc::clone(mind.gate()), server.handle().clone());
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (pushes, hot) = (server.push_counting(), seen.hot.as_deref().map(HotTopics::facts));
    let collect = move || {
        let server::Report { engine, traffic, .. } = handle.report();
        let denied = gate.denials().counts();
        let mut facts = vec![
            ("body", Fact::Text("midge".to_owned())),
            ("version", Fact::Text(env!("CARGO_PKG_VERSION").to_owned())),
            ("pid", Fact::Gauge(std::process::id().into())),
            ("started", Fact::Gauge(started)),
            ("published", Fact::Counter(engine.received)),
            ("delivered", Fact::Counter(engine.sent)),
            ("connects", Fact::Counter(traffic.connects)),
            ("denied_logins", Fact::Counter(denied.all_logins())),
            ("denied_publish", Fact::Counter(denied.publish)),
            ("denied_receive", Fact::Counter(denied.receive)),
            ("denied_subscribe", Fact::Counter(denied.subscribe)),
            ("clients", Fact::Gauge(engine.connections as u64)),
            ("sessions", Fact::Gauge(engine.sessions as u64)),
            ("queued", Fact::Gauge(engine.queued_messages as u64)),
            ("retained", Fact::Gauge(engine.retained_messages as u64)),
        ];
        facts.extend(pushes.iter().flat_map(|pushes| push_facts(&pushes())));
        facts.extend(seen.attendance.iter().flat_map(Attendance::facts));
        facts.extend(hot.iter().flat_map(|hot| hot()));
        facts
    };
    Report { node, life, collect: Arc::new(collect) }
}

/// Returns what the server says of pushes, in the plugin's words.
fn push_facts(pushes: &PushCounters) -> [(&'static str, Fact); 6] {
    [
        ("pushed", Fact::Counter(pushes.taken)),
        ("pushes_waiting", Fact::Gauge(pushes.waiting)),
        ("pushes_malformed", Fact::Counter(pushes.malformed)),
        ("pushes_repeated", Fact::Counter(pushes.repeated)),
        ("pushes_expired", Fact::Counter(pushes.expired)),
        ("pushes_dropped", Fact::Counter(pushes.dropped)),
    ]
}
