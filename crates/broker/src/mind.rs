//! Decides for the broker, with the core that the plugin uses.
//!
//! One [`Mind`] for the server: it has the gate, and the threads of the store's service. One [`LoopMind`] for each event loop,
//! touched by that loop's thread alone: it knows the policy of each session, so that a check is a look-up that shares no lock.
//! Nobody gets in, and nothing is delivered, because something failed.
//!
//! # How a loop drives it
//! The clock is [`Mind::clock`]: every `now` must be of it. `K` is the loop's own name for a socket, never the same twice.
//!
//! * **A CONNECT**: [`LoopMind::connect`]. [`Verdict::Later`] is followed by an answer, see below. [`Verdict::Challenge`] goes out
//!   as AUTH with reason code 0x18, and the client's AUTH goes to [`LoopMind::auth`]. [`Verdict::Refused`] goes out as CONNACK.
//!   [`Verdict::Admitted`] is followed by [`LoopMind::let_in`], in the same turn, in place of `Shard::connect`: it begins the
//!   connection, enters the client, and makes its automatic subscriptions before anything else can happen to it.
//! * **A socket that goes away** while its last verdict was [`Verdict::Later`] or [`Verdict::Challenge`]: [`LoopMind::forget`].
//! * **In each turn**, and soon after the loop was woken: [`LoopMind::work`], then [`LoopMind::next_answer`] until there is none.
//!   To be called again by [`LoopMind::next_deadline`].
//! * **AUTH of an open connection**: [`LoopMind::reauthenticate`] for reason code 0x19, [`LoopMind::auth`] for 0x18. A challenge
//!   goes out as before; [`Verdict::Refused`] as DISCONNECT, behind which the connection is closed; [`Verdict::Admitted`] is
//!   followed by [`LoopMind::proved`], and AUTH with reason code 0x00 and [`Admitted::data`].
//! * **`Event::SessionEnded`** of the shard: [`LoopMind::ended`].
//! * **After `Shard::restore`**: [`LoopMind::restored`], so that sessions of before are followed like all others.
//! * **Each [`Turn`](midge_engine::permission::Turn)** has the [`LoopMind`] as its permissions.

mod autosub;
mod counting;
mod follow;
mod hello;
mod house;
mod inbox;
mod lines;
mod login;
mod permissions;
mod restored;
mod scram;
mod table;
mod verdict;

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use midge_core::certificate::CertificateField;
use midge_core::gate::{Anonymous, Gate, GateSettings, LoginSettings};
use midge_core::scram::ScramError;
use midge_store::Backend;
use midge_store::hot::HotTopics;
use midge_store::presence::Attendance;
use midge_store::service::{Clock, Service, ServiceSettings};

pub use hello::Hello;
pub use login::LoopMind;
pub use verdict::{Admitted, Verdict};

use house::House;
use inbox::Bell;

/// What is decided by, for the life of the server.
#[derive(Debug)]
pub struct Settings {
    /// What is fixed for the life of the gate.
    pub gate: GateSettings,
    /// What decides about logins; who gets in without a username is said by `doors` alone.
    pub login: LoginSettings,
    /// Bounds of the store's service.
    pub service: ServiceSettings,
    /// The listeners, in the order of their numbers.
    pub doors: Vec<Door>,
    /// How many automatic subscriptions a client gets at most.
    pub max_automatic: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gate: GateSettings::default(),
            login: LoginSettings::default(),
            service: ServiceSettings::default(),
            doors: vec![Door::default()],
            max_automatic: 1_000,
        }
    }
}

/// What holds for the clients of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Who gets in without a username.
    pub anonymous: Anonymity,
    /// Which field of a client's certificate is its username; a client without a certificate needs a password.
    pub identity: Option<CertificateField>,
}

/// Who gets in without a username.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymity {
    /// Nobody.
    #[default]
    Deny,
    /// Anybody, with everyone's rules and those of the group `anonymous`.
    Allow,
    /// Anybody as well; as long as the store has been found without any user, and there are no rules for such clients,
    /// they may do everything but publish below `$SYS`.
    Open,
    /// Anybody, as long as the store has been found without any user; from the first user on nobody, until the server starts anew.
    ///
    /// For listeners that no other machine can reach. While there are no rules for such clients either, they may do everything
    /// but publish below `$SYS`.
    WhileNoUsers,
}

/// Why the mind can't begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random(#[from] ScramError),
    /// The operating system gave no thread.
    #[error("no thread")]
    Thread(#[from] std::io::Error),
}

/// What all loops share.
struct Shared {
    /// Before the gate, whose changes its threads tell.
    house: House,
    service: Service,
    gate: Arc<Gate>,
    doors: ArcSwap<Vec<Door>>,
    max_automatic: usize,
    bells: Arc<Mutex<Vec<Arc<Bell>>>>,
    observers: Observers,
}

/// Who hears of what clients do.
#[derive(Clone, Default)]
pub struct Observers {
    /// Counts what they publish.
    pub hot: Option<Arc<HotTopics>>,
    /// Shows who is online.
    pub attendance: Option<Attendance>,
}

/// Who is let in and what they may, for all loops of a server.
///
/// The last [`LoopMind`] that goes ends the threads.
#[derive(Clone)]
pub struct Mind(Arc<Shared>);

impl std::fmt::Debug for Mind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mind").finish_non_exhaustive()
    }
}

impl Mind {
    /// Starts the threads; the store need not be reachable.
    ///
    /// Where a door is [`Anonymity::WhileNoUsers`] or [`Anonymity::Open`], the store is asked for users first, which takes as long as its timeouts say.
    ///
    /// # Errors
    /// The operating system gave no thread, or no random bytes.
    pub fn start(settings: Settings, backend: Arc<dyn Backend>) -> Result<Self, StartError> {
        let login = LoginSettings { anonymous: anonymous(&settings.doors), ..settings.login };
        let gate = Arc::new(Gate::new(settings.gate, login)?);
        let bells: Arc<Mutex<Vec<Arc<Bell>>>> = Arc::default();
        let ring = {
            let bells = bells.clone();
            move || bells.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|bell| bell.ring())
        };
        gate.directory().on_changes(ring.clone());
        let asks = |door: &Door| matches!(door.anonymous, Anonymity::WhileNoUsers | Anonymity::Open);
        let watched = settings.doors.iter().any(asks);
        let house = if watched { House::watch(backend.clone(), ring)? } else { House::closed() };
        let service = Service::start(gate.clone(), Box::new(backend), settings.service, Clock::start())?;
        let (doors, max_automatic) = (ArcSwap::from_pointee(settings.doors), settings.max_automatic);
        let observers = Observers::default();
        Ok(Self(Arc::new(Shared { house, service, gate, doors, max_automatic, bells, observers })))
    }

    /// Has `observers` hear of what clients do; to be called before there is any [`LoopMind`].
    #[must_use]
    pub fn observed_by(self, observers: Observers) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => Self(Arc::new(Shared { observers, ..shared })),
            Err(shared) => Self(shared),
        }
    }

    /// Returns what comings and goings are told to.
    #[must_use]
    pub fn attendance(&self) -> Option<&Attendance> {
        self.0.observers.attendance.as_ref()
    }

    /// Returns the part of one event loop, which is the `first` or one of the others; `wake` has that loop call [`LoopMind::work`] soon, and is called by any thread.
    #[must_use]
    pub fn loop_mind<K: Copy + Eq + Hash + Send + 'static>(
        &self,
        first: bool,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> LoopMind<K> {
        let bell = Arc::new(Bell::new(wake));
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner).push(bell.clone());
        LoopMind::new(self.0.clone(), bell, first)
    }

    /// Returns the gate: for its counts, its denials and its explanations.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }

    /// Returns the store's side of the gate.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.0.service
    }

    /// Returns the clock that all times are measured on.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.service.clock()
    }

    /// Replaces the settings of logins and doors; connected clients stay.
    ///
    /// Where no door asked for users at the start, nobody has looked for any: then there count as being some.
    pub fn reload(&self, login: LoginSettings, doors: Vec<Door>) {
        self.0.gate.reload(LoginSettings { anonymous: anonymous(&doors), ..login });
        self.0.doors.store(Arc::new(doors));
    }
}

/// Returns what the gate has to bear; each door closes it for its own clients.
fn anonymous(doors: &[Door]) -> Anonymous {
    if doors.iter().all(|door| door.anonymous == Anonymity::Deny) { Anonymous::Deny } else { Anonymous::Allow }
}
