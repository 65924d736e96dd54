//! The plugin itself: what each call of the broker leads to.
//!
//! All state that belongs to clients is touched on the broker's thread only; other threads answer from `midge-core`'s directory.
//! Nothing is borrowed and no lock is held while a broker function runs, since those call us back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use midge_core::gate::{Gate, Refusal};
use midge_core::name::{NodeName, Shown};
use midge_store::metrics::Metrics;
use midge_store::node::{Collect, Fact, Life, Report};
use midge_store::presence::Attendance;
use midge_store::service::{Clock, Service};

use crate::border::Status;
use crate::events::Message;
use crate::host::{BrokerCell, BrokerThread, Client, Level, begin_thread, forget_wake, host, leave_signals, prepare_wake};
use crate::logger;
use crate::options::{Given, OptionError, SETTINGS, Settings};

mod access;
mod autosub;
mod changes;
mod control;
pub(crate) mod faults;
mod hot;
mod load;
mod login;
mod patience;
mod presence;
mod push;
mod scram;
mod sessions;
mod traffic;
mod waker;

use autosub::Autosub;
use changes::Pending;
use control::Controlling;
use hot::Hot;
use load::Load;
use login::Delayed;
use patience::Patience;
use presence::Presenting;
use push::Pushing;
use scram::Exchanges;
use sessions::Sessions;
use traffic::Traffic;
use waker::Waker;

/// How soon the broker shall call again when nothing is waiting.
///
/// It takes this for the least time between two calls as well, so that an answer that comes in between waits for its end,
/// however often the broker is woken.
const IDLE_TICK: Duration = Duration::from_millis(10);
/// How soon it shall call again while logins wait.
const BUSY_TICK: Duration = Duration::from_millis(5);

/// One load of the plugin into a broker.
pub(crate) struct Plugin {
    /// First, so that it ends first: the service has files that must be closed on the broker's thread.
    _metrics: Option<Metrics>,
    given: Given,
    settings: ArcSwap<Settings>,
    level: Level,
    gate: Arc<Gate>,
    service: Arc<Service>,
    clock: Clock,
    sessions: BrokerCell<Sessions>,
    delayed: BrokerCell<Delayed>,
    exchanges: BrokerCell<Exchanges>,
    pending: BrokerCell<Pending>,
    patience: Patience,
    waker: Arc<Waker>,
    pushing: Pushing,
    presenting: Presenting,
    hot: Hot,
    autosub: Autosub,
    controlling: Controlling,
    traffic: Arc<Traffic>,
    _load: Load,
    busy: AtomicBool,
    reload: Reload,
}

impl Plugin {
    /// Starts with the broker's options; `None` after saying in the broker's log what is wrong with them.
    pub(crate) fn start(thread: &BrokerThread, given: Given) -> Option<Self> {
        logger::install(log::LevelFilter::Info);
        let started = Self::try_start(thread, given);
        if let Err(problem) = &started {
            log::error!("can't start: {problem}");
            logger::flush(thread);
        }
        started.ok()
    }

    fn try_start(thread: &BrokerThread, given: Given) -> Result<Self, String> {
        let (settings, warnings) = Settings::read(&given).map_err(|error| error.to_string())?;
        faults::arm(&settings);
        log::set_max_level(settings.log_level);
        for warning in warnings {
            log::warn!("{warning}");
        }
        let login = settings.login().map_err(|error| error.to_string())?;
        let level = host().level();
        let mut of_gate = settings.gate.clone();
        // What nobody acts on is not read.
        of_gate.directory.lists &= level > Level::Auth;
        let gate = Gate::new(of_gate, login).map_err(|error| error.to_string())?;
        let gate = Arc::new(gate);
        let url = settings.store_url().map_err(|error| error.to_string())?;
        let load = Load::begin();
        let node = load.name(&settings.node_name());
        log::info!("{} loaded at level {level:?} as node \"{}\"; store {url}", env!("CARGO_PKG_VERSION"), Shown(&node));
        if level == Level::Auth {
            log::warn!(
                "this broker can neither disconnect a client nor subscribe one; changes act on what connected clients may do, but don't cut them off"
            );
        }
        let clock = Clock::start();
        let backend = midge_store::open(&url, &settings.store_settings()).map_err(|error| format!("store {url}: {error}"))?;
        // A directory is opened here and used there.
        let begin = if url.is_directory() { leave_signals } else { begin_thread };
        let service = Service::start_in(gate.clone(), backend, settings.service.clone(), clock, begin)
            .map_err(|error| format!("no thread: {error}"))?;
        let waker = Arc::new(Waker::default());
        let autosub = Autosub::start(settings.autosub.clone(), level, load.is_first(), &waker)?;
        let reads_pushes = settings.push && level > Level::Auth && !url.is_directory();
        if level > Level::Auth {
            prepare_wake(thread);
            waker.start().map_err(|error| format!("no thread: {error}"))?;
        }
        let pushing = match reads_pushes {
            true => Pushing::start(&settings, &url, &load, waker.clone()).map_err(|error| format!("pushes: {error}"))?,
            false => Pushing::default(),
        };
        let hot = Hot::start(&settings, &url, &load, level).map_err(|error| format!("hot topics: {error}"))?;
        let traffic = Arc::new(Traffic::default());
        // Nobody else can look into a directory meanwhile.
        let reports = settings.report && !url.is_directory();
        let mut presenting = Presenting::default();
        let name = node.clone();
        if let Some(node) = NodeName::from_bytes(node.as_bytes()).ok().filter(|_| reports) {
            let life = Arc::new(Life::default());
            // Mosquitto 1.x doesn't tell when a client goes.
            if settings.presence && level > Level::Auth {
                presenting = Presenting::start(&settings, &url, node.clone(), life.clone(), gate.clone())
                    .map_err(|error| format!("presence: {error}"))?;
            }
            service.report(Report {
                node,
                life,
                collect: Self::reporting(&gate, &traffic, &pushing, &presenting, &hot, &autosub, level),
            });
        }
        let mut sessions = Sessions::new(settings.offline_sessions, level > Level::Auth, presenting.attendance());
        if autosub.has_index() {
            sessions.keep_left();
        }
        let service = Arc::new(service);
        let collect = || Self::reporting(&gate, &traffic, &pushing, &presenting, &hot, &autosub, level);
        let controlling = match settings.control && level > Level::Auth {
            true => Controlling::new(&settings.store_settings().keys, &name, collect()),
            false => Controlling::default(),
        };
        // One address serves one load.
        let metrics = settings.metrics.filter(|_| load.is_first());
        let health = service.clone();
        let health = Box::new(move || health.health());
        let metrics = metrics.map(|address| Metrics::start(address, &name, collect(), health, begin)).transpose();
        let metrics = metrics.map_err(|error| format!("no thread: {error}"))?;
        Ok(Self {
            _metrics: metrics,
            given,
            level,
            gate,
            service,
            clock,
            sessions: BrokerCell::new(sessions),
            delayed: BrokerCell::new(Delayed::default()),
            exchanges: BrokerCell::new(Exchanges::default()),
            pending: BrokerCell::new(Pending::default()),
            patience: Patience::default(),
            waker,
            pushing,
            presenting,
            hot,
            autosub,
            controlling,
            traffic,
            _load: load,
            busy: AtomicBool::new(false),
            reload: Reload::default(),
            settings: ArcSwap::from_pointee(settings),
        })
    }

    fn reporting(
        gate: &Arc<Gate>,
        traffic: &Arc<Traffic>,
        pushing: &Pushing,
        presenting: &Presenting,
        hot: &Hot,
        autosub: &Autosub,
        level: Level,
    ) -> Collect {
        let (gate, traffic, pushes, hot) = (gate.clone(), traffic.clone(), pushing.counters(), hot.facts());
        let autosub = autosub.counters();
        let attendance = presenting.attendance();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let collect = move || {
            let mut facts = vec![
                ("body", Fact::Text("mosquitto".to_owned())),
                ("version", Fact::Text(env!("CARGO_PKG_VERSION").to_owned())),
                ("level", Fact::Text(format!("{level:?}"))),
                ("pid", Fact::Gauge(std::process::id().into())),
                ("started", Fact::Gauge(started)),
            ];
            facts.extend(traffic.facts(&gate, level, pushes.as_ref().map(|pushes| pushes())));
            facts.extend(attendance.iter().flat_map(Attendance::facts));
            facts.extend(hot());
            if level > Level::Auth {
                facts.extend(autosub.facts());
            }
            facts
        };
        Arc::new(collect)
    }

    /// Returns whether the broker has to tell of each message.
    pub(crate) fn wants_messages(&self) -> bool {
        self.hot.wants_messages() || self.autosub.wants_messages()
    }

    /// Takes notice of a message that a client or a bridge has published, and that goes on to subscribers.
    pub(crate) fn message(&self, thread: &BrokerThread, message: &Message<'_>) -> Status {
        self.count_message(thread, message);
        self.copy_message(thread, message);
        Status::SUCCESS
    }

    /// Ends all threads, and waits for them.
    pub(crate) fn stop(self, thread: &BrokerThread) {
        self.waker.stop();
        self.hot.end(thread);
        if self.level > Level::Auth {
            forget_wake(thread);
        }
        drop(self);
        log::info!("stopped");
    }

    /// Reads the file again. What is wrong in it changes nothing.
    pub(crate) fn reload(&self, thread: &BrokerThread) -> Status {
        match self.try_reload() {
            Ok(()) => log::info!("configuration read again"),
            Err(error) => log::error!("the configuration stays as it was: {error}"),
        }
        logger::flush(thread);
        if self.level > Level::Auth {
            self.reload.begin();
        }
        Status::SUCCESS
    }

    fn try_reload(&self) -> Result<(), OptionError> {
        let (settings, warnings) = Settings::read(&self.given)?;
        let login = settings.login()?;
        for warning in warnings {
            log::warn!("{warning}");
        }
        let now = self.settings.load();
        if !settings.same_where_fixed(&now) {
            let fixed: Vec<&str> = SETTINGS.iter().filter(|setting| !setting.reloads).map(|setting| setting.name).collect();
            log::warn!("one of these has changed, which takes a restart: {}", fixed.join(", "));
        }
        log::set_max_level(settings.log_level);
        faults::arm(&settings);
        self.gate.reload(login);
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Does what waits for the broker's thread; returns how soon to be called again.
    pub(crate) fn tick(&self, thread: &BrokerThread) -> Duration {
        self.reload.end();
        self.waker.answered();
        self.catch_up_now(thread);
        if let Some((connected, entered)) = self.sessions.with(thread, |sessions| sessions.counts()) {
            self.traffic.clients(connected, entered);
        }
        self.hot.ticked();
        self.show_hot(thread);
        let pushes_wait = self.subscribe_some(thread) | self.push_some(thread);
        self.tell_missed(thread);
        let questions_wait = self.answer_questions(thread);
        if pushes_wait {
            self.waker.call();
        }
        if pushes_wait || questions_wait || self.is_waiting(thread) { BUSY_TICK } else { IDLE_TICK }
    }

    fn catch_up_now(&self, thread: &BrokerThread) {
        // One of these can lead to a call of this again, through a kick.
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let reset = Reset(&self.busy);
        self.complete_logins(thread);
        self.follow_changes(thread);
        self.forget_departed(thread);
        logger::flush(thread);
        drop(reset);
    }

    /// Does the same where the broker has no tick, or doesn't give it; called from logins only, where kicking is safe.
    ///
    /// It isn't during a reload, when the broker asks about one client after the other: the tick comes next.
    pub(crate) fn catch_up(&self, thread: &BrokerThread) {
        if self.level == Level::Auth {
            self.show_hot(thread);
        }
        if !(self.reload.is_under_way() && self.reload.has_an_end()) && self.gate.directory().has_changes() {
            self.catch_up_now(thread);
        }
    }

    /// Says in the log that a client is refused; once per refusal, limited by the shield and the queues before it.
    fn log_refusal(&self, user: Option<&[u8]>, id: &[u8], address: Option<&[u8]>, refusal: &Refusal) {
        let text = |bytes: Option<&[u8]>| Shown(&String::from_utf8_lossy(bytes.unwrap_or(b"-"))).to_string();
        if self.patience.may_log(self.clock.now().monotonic) {
            log::warn!("refused user \"{}\" client \"{}\" from {}: {refusal}", text(user), text(Some(id)), text(address));
        }
    }
}

/// Whether the broker has read its configuration again, and may ask about the clients it has before it does anything else.
#[derive(Default)]
struct Reload {
    under_way: AtomicBool,
    ticks: AtomicBool,
}

impl Reload {
    fn begin(&self) {
        self.under_way.store(true, Ordering::Release);
    }

    /// Called in each tick: the broker asks about no new client between a reload and the next.
    fn end(&self) {
        self.under_way.store(false, Ordering::Release);
        self.ticks.store(true, Ordering::Release);
    }

    fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    /// Returns whether this broker ticks; without, a reload once begun is under way for good.
    fn has_an_end(&self) -> bool {
        self.ticks.load(Ordering::Acquire)
    }
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Returns the address that a client connects from; none for a Unix socket.
fn address_of(client: Client<'_>) -> Option<std::net::IpAddr> {
    client.address().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.parse().ok())
}
