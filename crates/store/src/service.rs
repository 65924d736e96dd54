//! Reads accounts and follows their changes on own threads.
//!
//! Three kinds of threads: one worker owns the connection for questions, one watcher the connection for announcements,
//! and a small pool hashes passwords. Nobody else touches the store, so nobody else waits for it.
//! All logins that wait when the worker is free go into one round trip.
//! A store that is away, slow or emptied by a restart changes nothing for accounts that are known: see [`worker`].

mod hashing;
mod queue;
mod reply;
mod watcher;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_core::gate::{Admission, Asked, ClientPolicy, Gate, HashJob, Hello, Refusal};
use midge_core::name::Username;
use midge_core::time::Now;

use crate::Backend;
use crate::node::Report;
use hashing::HashPool;
use queue::{Job, Queue};
use reply::Reply;

/// What a login came to.
pub type Verdict = Result<ClientPolicy, Refusal>;

/// Called once with what a login came to, on a thread of the service.
pub type Done = Box<dyn FnOnce(Verdict) + Send>;

/// Bounds of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Threads that hash passwords.
    pub hash_threads: usize,
    /// Passwords that may wait for one of them; a further login is refused as busy.
    pub hash_queue: usize,
    /// Logins that may wait for the store; a further one is refused as busy.
    pub login_queue: usize,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { hash_threads: (cores / 2).clamp(1, 8), hash_queue: 1_000, login_queue: 20_000 }
    }
}

/// How the service and its store are, as shown to operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the worker's last question was answered.
    pub connected: bool,
    /// Whether changes are announced to us.
    pub linked: bool,
    /// How they are announced, as [`crate::WatchMode`] names it.
    pub watch_mode: Option<&'static str>,
    /// Whether the store, or a server of a cluster, has lost what it held, and known accounts go on without it.
    pub emptied: bool,
    /// What the last failed question said.
    pub last_error: Option<String>,
    /// How long the last answered question took.
    pub round_trip: Duration,
    /// Questions asked, whole batches counted once.
    pub round_trips: u64,
    /// Questions that failed.
    pub failures: u64,
    /// Passwords hashed.
    pub hashed: u64,
    /// Logins refused because a queue was full.
    pub busy: u64,
}

/// What all threads of a service share.
struct Shared {
    gate: Arc<Gate>,
    backend: Box<dyn Backend>,
    settings: ServiceSettings,
    report: OnceLock<Report>,
    clock: Clock,
    queue: Queue,
    hashing: HashPool,
    health: Mutex<Health>,
    away: AtomicBool,
    round_trip_us: AtomicU64,
    busy: AtomicU64,
    hashed: AtomicU64,
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Returns a clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Returns this moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Now { monotonic: self.monotonic(), unix }
    }

    /// Returns the half of this moment that never goes back, at half the cost.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The store's side of a gate: threads that read, follow and hash.
pub struct Service {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts the threads; the store need not be reachable.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(gate: Arc<Gate>, backend: Box<dyn Backend>, settings: ServiceSettings, clock: Clock) -> std::io::Result<Self> {
        Self::start_in(gate, backend, settings, clock, || {})
    }

    /// Starts the threads as [`Self::start`] does, each of which calls `begin` before it does anything else.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start_in(
        gate: Arc<Gate>,
        backend: Box<dyn Backend>,
        settings: ServiceSettings,
        clock: Clock,
        begin: fn(),
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            gate,
            backend,
            report: OnceLock::new(),
            clock,
            queue: Queue::new(settings.login_queue),
            hashing: HashPool::new(settings.hash_queue),
            settings,
            health: Mutex::default(),
            // Nothing has been asked yet: the first logins wait for the first answer.
            away: AtomicBool::new(false),
            round_trip_us: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
        });
        let mut service = Self { shared, threads: Vec::new() };
        service.spawn("midge-store", begin, worker::run)?;
        service.spawn("midge-watch", begin, watcher::run)?;
        for _ in 0..service.shared.settings.hash_threads.max(1) {
            service.spawn("midge-hash", begin, hashing::run)?;
        }
        Ok(service)
    }

    /// Has `hello` decided, asking the store and hashing as needed; `done` is called exactly once, perhaps before this returns.
    pub fn login(&self, hello: Hello, done: Done) {
        let now = self.shared.clock.now();
        let admission = self.shared.gate.admit(hello.clone(), Asked::Memory, now);
        self.shared.go_on(admission, hello, Reply::new(done, || Err(Refusal::Internal)));
    }

    /// Goes on with an admission that the gate gave for `hello` just now.
    pub fn go_on(&self, admission: Admission, hello: Hello, done: Done) {
        self.shared.go_on(admission, hello, Reply::new(done, || Err(Refusal::Internal)));
    }

    /// Has the account of `user` read, as an enhanced authentication needs it before it can be asked for.
    pub fn prepare(&self, user: &Username, done: Box<dyn FnOnce(Asked) + Send>) {
        let reply = Reply::new(done, || Asked::StoreAway);
        if self.shared.away.load(Ordering::Acquire) {
            return reply.send(Asked::StoreAway);
        }
        if self.shared.queue.push(Job::Prepare { user: user.clone(), reply }).is_err() {
            self.shared.busy.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the worker write how this server is, from now on; only the first call counts.
    pub fn report(&self, report: Report) {
        let _ = self.shared.report.set(report);
        self.nudge();
    }

    /// Tells the worker that the gate has effects to write.
    pub fn nudge(&self) {
        self.shared.queue.nudge();
    }

    /// Returns whether a thread that has to wait may expect an answer of the store within `patience`.
    #[must_use]
    pub fn is_prompt(&self, patience: Duration) -> bool {
        !self.shared.away.load(Ordering::Acquire)
            && Duration::from_micros(self.shared.round_trip_us.load(Ordering::Acquire)) < patience
    }

    /// Returns how the service and its store are.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        health.busy = self.shared.busy.load(Ordering::Relaxed);
        health.hashed = self.shared.hashed.load(Ordering::Relaxed);
        health.linked = self.shared.gate.directory().is_linked();
        health
    }

    /// Returns the clock that all times are measured on.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    fn spawn(&mut self, name: &str, begin: fn(), body: fn(&Arc<Shared>)) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let body = move || {
            begin();
            body(&shared);
        };
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(())
    }
}

impl Drop for Service {
    /// Ends the threads and waits for them: a host may unmap this code afterwards.
    fn drop(&mut self) {
        self.shared.queue.stop();
        for reply in self.shared.hashing.stop() {
            self.shared.refuse_busy(reply);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn go_on(&self, admission: Admission, hello: Hello, reply: Reply<Verdict>) {
        match admission {
            Admission::Admitted(policy) => reply.send(Ok(policy)),
            Admission::Refused(refusal) => {
                self.queue.nudge();
                reply.send(Err(refusal));
            }
            // Nobody waits for a store that is known not to answer.
            Admission::Load(_) if self.away.load(Ordering::Acquire) => {
                self.finish(self.gate.admit(hello, Asked::StoreAway, self.clock.now()), reply);
            }
            Admission::Load(_) => self.queue_login(hello, reply),
            Admission::Hash(job) => self.hash(*job, reply),
        }
    }

    /// Ends the login of somebody the store was asked about.
    fn finish(&self, admission: Admission, reply: Reply<Verdict>) {
        match admission {
            Admission::Admitted(policy) => reply.send(Ok(policy)),
            Admission::Refused(refusal) => reply.send(Err(refusal)),
            Admission::Hash(job) => self.hash(*job, reply),
            // The gate never asks for what it was just given.
            Admission::Load(_) => reply.send(Err(Refusal::Internal)),
        }
    }

    fn queue_login(&self, hello: Hello, reply: Reply<Verdict>) {
        if let Err(Job::Login { reply, .. }) = self.queue.push(Job::Login { hello, reply }) {
            self.refuse_busy(reply);
        }
    }

    fn hash(&self, job: HashJob, reply: Reply<Verdict>) {
        if let Err(reply) = self.hashing.push(job, reply) {
            self.refuse_busy(reply);
        }
    }

    fn refuse_busy(&self, reply: Reply<Verdict>) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        reply.send(Err(Refusal::Busy));
    }

    fn note(&self, update: impl FnOnce(&mut Health)) {
        update(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
