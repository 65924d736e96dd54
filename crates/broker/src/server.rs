//! Carries bytes between sockets and the engine.
//!
//! One thread for each event loop, which owns its clients: their sockets, sessions and what waits for them.
//! Loops tell each other what concerns them in batches; they share no lock that is taken per message.

mod admission;
mod arrival;
mod deadlines;
mod door;
mod event_loop;
mod handshake;
mod input;
mod listen;
mod mailbox;
mod memory;
mod output;
mod peer;
mod pump;
mod records;
mod report;
mod resident;
mod seats;
mod seldom;
mod settings;
mod shared;
mod sys;
mod traffic;
mod transport;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use midge_core::time::Now;
use midge_engine::exchange::Place;
use midge_engine::hash::HashKey;
use midge_engine::memory::Budget;
use midge_engine::message::Message;
use midge_engine::permission::Turn;
use midge_engine::record::State;
use midge_engine::shard::Shard;
use midge_store::push::Pushes;
use midge_store::service::Clock;
use rustls::ServerConfig;

use crate::journal::Journal;

pub use door::{Admission, Authentication, Entering, Hello, Mind, OpenDoor, Verdict};
pub use peer::{Origin, PeerId};
pub use pump::PushSource;
pub use report::Report;
pub use resident::Resident;
pub use settings::{Address, Limits, Listen, Settings};
pub use traffic::Traffic;
pub use transport::tls::{TlsError, TlsFiles};
pub use transport::websocket::Settings as WebSocketSettings;

use event_loop::{EventLoop, MAILBOX};
use handshake::{Errand, Vestibule};
use listen::Listener;
use mailbox::{Mail, Mailbox};
use pump::Pump;
use records::Records;
use report::Reports;
use seats::Seats;
use shared::Shared;
use transport::Kind;

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener's address can't be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Address,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A listener's certificates can't be used.
    #[error("cannot use the certificates of {address}")]
    Certificates {
        /// The listener's address.
        address: Address,
        /// What is wrong with them.
        #[source]
        source: TlsError,
    },
    /// The operating system refuses something that every server needs.
    #[error("cannot start the event loops")]
    System(#[from] io::Error),
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    handle: Handle,
    addresses: Vec<Address>,
    threads: Vec<JoinHandle<()>>,
    vestibules: Vec<JoinHandle<()>>,
    drained: Receiver<()>,
    pushes: Option<Arc<Pushes>>,
}

/// Speaks to a server's loops, from any thread.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

/// What a server begins with.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// What was kept when it ended.
    pub state: &'a State,
    /// What keeps what must survive; without, nothing does, and nothing waits for it.
    pub journal: Option<&'a Journal>,
    /// What time is measured by; of all who measure it, the minds above all, the same.
    pub clock: Clock,
}

impl Server {
    /// Binds the listeners, restores the sessions and starts the loops, each with a mind of its own.
    ///
    /// # Errors
    /// When an address can't be bound or a thread can't be started.
    pub fn start(
        mut settings: Settings,
        beginning: &Beginning<'_>,
        mut mind: impl FnMut(Place, &Handle) -> Box<dyn Mind>,
    ) -> Result<Self, StartError> {
        settings.engine.persistence = beginning.journal.is_some();
        let of_listener = |listen: &Listen| certificates(&listen.address, listen.tls.as_ref());
        let certificates = settings.listeners.iter().map(of_listener).collect::<Result<Vec<_>, _>>()?;
        let listeners = bind(&settings, &certificates)?;
        let addresses: Vec<Address> = listeners.iter().map(Listener::address).collect::<io::Result<_>>()?;
        let loops = settings.loops.max(1);
        let (mailboxes, polls) = Mailbox::for_threads(loops, MAILBOX)?;
        let has_tls = certificates.iter().any(Option::is_some);
        let (vestibules, handshakes) = Mailbox::for_threads(if has_tls { loops } else { 0 }, MAILBOX)?;
        let memory = Arc::new(Budget::new(settings.engine.memory_max, loops));
        let shared = Arc::new(Shared {
            key: HashKey::new(random_key()),
            clock: beginning.clock,
            mailboxes,
            vestibules,
            certificates: certificates.into_iter().map(|config| config.map(ArcSwap::new)).collect(),
            reports: Reports::new(loops, Arc::clone(&memory)),
            memory,
            seats: Arc::new(Seats::new(&settings)),
            settings,
        });
        let handle = Handle(Arc::clone(&shared));
        let places = (0..loops).map(|event_loop| Place { event_loop, loops });
        let mut minds: Vec<Box<dyn Mind>> = places.clone().map(|place| mind(place, &handle)).collect();
        let shards = restore(&shared, beginning.state, &mut minds);
        let (sender, drained) = channel();
        let pushes = shared.settings.pushes.as_ref().map(|source| source.open(&handle)).transpose()?;
        let mut pump = pushes.clone().map(Pump::new);
        let mut server = Self { handle, addresses, threads: Vec::new(), vestibules: Vec::new(), drained, pushes };
        for (number, poll) in (0..).zip(handshakes) {
            let vestibule = Vestibule::new(number, poll, Arc::clone(&shared));
            let run = move || {
                if let Err(error) = vestibule.run() {
                    log::error!("a thread of TLS handshakes has ended: {error}");
                }
            };
            server.vestibules.push(std::thread::Builder::new().name(format!("midge-tls-{number}")).spawn(run)?);
        }
        let mut listeners = Some(listeners);
        for (((place, poll), shard), mind) in places.zip(polls).zip(shards).zip(minds) {
            let mut event_loop = EventLoop::new(place, poll, Arc::clone(&shared), shard, mind);
            event_loop.listeners.open(listeners.take().unwrap_or_default(), &shared.settings.limits, event_loop.poll.registry())?;
            event_loop.pump = pump.take();
            event_loop.journal = beginning.journal.map(|journal| {
                let handle = server.handle.clone();
                Records::new(journal.handle(Arc::new(move || handle.wake(place.event_loop))))
            });
            let sender = sender.clone();
            let run = move || {
                let drained = || {
                    // Nobody waits for it any more where the receiver is gone.
                    let _ = sender.send(());
                };
                if let Err(error) = event_loop.run(&drained) {
                    log::error!("an event loop has ended: {error}");
                }
            };
            let thread = std::thread::Builder::new().name(format!("midge-loop-{}", place.event_loop));
            server.threads.push(thread.spawn(run)?);
        }
        Ok(server)
    }

    /// Returns where the server listens, in the order of its settings.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns the way to speak to the loops.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends all clients away, keeps what is to be kept and ends.
    ///
    /// Clients of 5.0 are told that the server shuts down (0x8B); wills that are due at the end of a connection are published.
    pub fn stop(self) {
        self.handle.0.vestibules.iter().for_each(|vestibule| vestibule.send(Errand::Finish));
        self.handle.send_all(|| Mail::Stop);
        let patience = self.handle.0.settings.limits.close_timeout + Duration::from_secs(1);
        for _ in &self.threads {
            if self.drained.recv_timeout(patience).is_err() {
                break;
            }
        }
        self.handle.send_all(|| Mail::Finish);
        for thread in self.threads.into_iter().chain(self.vestibules) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                log::error!("the thread {name} had panicked");
            }
        }
    }
}

impl Handle {
    /// Has a loop ask its [`Mind::work`].
    pub fn wake(&self, event_loop: u8) {
        if let Some(mailbox) = self.0.mailboxes.get(usize::from(event_loop)) {
            mailbox.wake();
        }
    }

    /// Returns what all loops together have and have done, as of a second ago at most.
    #[must_use]
    pub fn report(&self) -> Report {
        self.0.reports.total()
    }

    /// Publishes a message of the server's own, asking nobody.
    pub fn publish(&self, message: Arc<Message>) {
        if let Some(mailbox) = self.0.mailboxes.first() {
            mailbox.send(Mail::Publish(message));
        }
    }

    /// Reads all certificates again, of each listener from its `files`; connections go on with what they began with.
    ///
    /// A listener that began without TLS stays without.
    ///
    /// # Errors
    /// What is wrong with the certificates of the first listener whose can't be used; all stay as they were then.
    pub fn reload_certificates(&self, files: &[Option<TlsFiles>]) -> Result<(), StartError> {
        let listeners = &self.0.settings.listeners;
        let read = listeners.iter().zip(files).map(|(listen, files)| certificates(&listen.address, files.as_ref()));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        for (known, config) in self.0.certificates.iter().zip(read) {
            known.iter().zip(config).for_each(|(known, config)| known.store(config));
        }
        Ok(())
    }

    fn send_all(&self, mail: impl Fn() -> Mail) {
        self.0.mailboxes.iter().for_each(|mailbox| mailbox.send(mail()));
    }
}

/// Reads the certificates of the listener at `address`, if it has some.
fn certificates(address: &Address, files: Option<&TlsFiles>) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let bad = |source| StartError::Certificates { address: address.clone(), source };
    files.map(TlsFiles::load).transpose().map_err(bad)
}

fn bind(settings: &Settings, certificates: &[Option<Arc<ServerConfig>>]) -> Result<Vec<Listener>, StartError> {
    let bind = |(listen, tls): (&Listen, &Option<Arc<ServerConfig>>)| {
        let refused = |source| StartError::Listen { address: listen.address.clone(), source };
        let kind = Kind { proxy: listen.proxy, tls: tls.clone(), websocket: listen.websocket.clone().map(Arc::new) };
        Listener::bind(listen, kind, &settings.limits).map_err(refused)
    };
    settings.listeners.iter().zip(certificates).map(bind).collect()
}

fn random_key() -> [u64; 2] {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes once it has started");
    let random = u128::from_ne_bytes(random);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    [random as u64, (random >> 64) as u64]
}

/// Makes the loops' shards, which begin with what was kept.
fn restore(shared: &Shared, state: &State, minds: &mut [Box<dyn Mind>]) -> Vec<Shard> {
    let loops = u8::try_from(minds.len()).unwrap_or(u8::MAX);
    let place = |event_loop| Place { event_loop, loops };
    let mut shards: Vec<Shard> =
        (0..loops).map(|event_loop| Shard::new(place(event_loop), shared.settings.engine.clone(), shared.key.clone())).collect();
    let summaries: Vec<_> = shards.iter().map(Shard::summary).collect();
    let now: Now = shared.clock.now();
    for (shard, mind) in shards.iter_mut().zip(minds.iter_mut()) {
        shard.share_memory(Arc::clone(&shared.memory));
        shard.join(summaries.clone());
        shard.restore(state, &Turn { now, permissions: mind.permissions() });
        mind.restored(state, shard);
    }
    // What they have to tell each other about it, they are told before time passes.
    let mut batch = Vec::new();
    loop {
        let mut quiet = true;
        for from in 0..shards.len() {
            for to in 0..loops {
                shards[from].take_outbox(to, &mut batch);
                for told in batch.drain(..) {
                    quiet = false;
                    let turn = Turn { now, permissions: minds[usize::from(to)].permissions() };
                    shards[usize::from(to)].receive(told, &turn);
                }
            }
        }
        if quiet {
            return shards;
        }
    }
}
