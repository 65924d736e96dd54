//! Every function that C can enter, each one guarded.
//!
//! A panic inside ends at the guard: it is counted, logged once a minute, and answered with the value that fails closed.
//! Nothing else here decides anything; the one place that knows Mosquitto's return codes is [`Status`].

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{self, midge_opt, midge_plugin_id};
use crate::events::{self, Event};
use crate::host::{BrokerThread, Level, host};
use crate::logger;
use crate::options::Given;
use crate::plugin::Plugin;

/// A return code of Mosquitto's plugin interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(c_int);

impl Status {
    pub(crate) const SUCCESS: Self = Self(abi::MIDGE_ERR_SUCCESS);
    /// A login is refused.
    pub(crate) const AUTH: Self = Self(abi::MIDGE_ERR_AUTH);
    /// An access is refused: beside success and deferring, the only answer to an access check that cuts nobody off.
    pub(crate) const ACL_DENIED: Self = Self(abi::MIDGE_ERR_ACL_DENIED);
    pub(crate) const UNKNOWN: Self = Self(abi::MIDGE_ERR_UNKNOWN);
    /// Another plugin, or the broker's own files, shall decide.
    pub(crate) const DEFER: Self = Self(abi::MIDGE_ERR_PLUGIN_DEFER);
    /// The exchange of an enhanced authentication goes on.
    pub(crate) const AUTH_CONTINUE: Self = Self(abi::MIDGE_ERR_AUTH_CONTINUE);
    /// The answer comes later; 2.1 only.
    pub(crate) const AUTH_DELAYED: Self = Self(abi::MIDGE_ERR_AUTH_DELAYED);
    /// Sent to MQTT 5 clients as the reason; 2.1 only.
    pub(crate) const SERVER_UNAVAILABLE: Self = Self(abi::MIDGE_ERR_SERVER_UNAVAILABLE);
    /// Sent to MQTT 5 clients as the reason; 2.1 only.
    pub(crate) const SERVER_BUSY: Self = Self(abi::MIDGE_ERR_SERVER_BUSY);
    /// Sent to MQTT 5 clients as the reason; 2.1 only.
    pub(crate) const BANNED: Self = Self(abi::MIDGE_ERR_BANNED);

    pub(crate) fn code(self) -> c_int {
        self.0
    }
}

/// The places where C enters, by the names that logs and tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Init,
    Cleanup,
    Reload,
    AclCheck,
    BasicAuth,
    ExtAuthStart,
    ExtAuthContinue,
    Tick,
    Disconnect,
    Connect,
    Offline,
    Control,
    Message,
    MessageOut,
    Other,
}

impl Site {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Cleanup => "cleanup",
            Self::Reload => "reload",
            Self::AclCheck => "acl_check",
            Self::BasicAuth => "basic_auth",
            Self::ExtAuthStart => "ext_auth_start",
            Self::ExtAuthContinue => "ext_auth_continue",
            Self::Tick => "tick",
            Self::Disconnect => "disconnect",
            Self::Connect => "connect",
            Self::Offline => "offline",
            Self::Control => "control",
            Self::Message => "message",
            Self::MessageOut => "message_out",
            Self::Other => "other",
        }
    }

    fn of(event: c_int) -> Self {
        // bindgen makes enum constants unsigned where none is negative.
        match u32::try_from(event).unwrap_or(0) {
            abi::MIDGE_EVT_RELOAD => Self::Reload,
            abi::MIDGE_EVT_ACL_CHECK => Self::AclCheck,
            abi::MIDGE_EVT_BASIC_AUTH => Self::BasicAuth,
            abi::MIDGE_EVT_EXT_AUTH_START => Self::ExtAuthStart,
            abi::MIDGE_EVT_EXT_AUTH_CONTINUE => Self::ExtAuthContinue,
            abi::MIDGE_EVT_TICK => Self::Tick,
            abi::MIDGE_EVT_DISCONNECT => Self::Disconnect,
            abi::MIDGE_EVT_CONNECT => Self::Connect,
            abi::MIDGE_EVT_CLIENT_OFFLINE => Self::Offline,
            abi::MIDGE_EVT_CONTROL => Self::Control,
            abi::MIDGE_EVT_MESSAGE => Self::Message,
            abi::MIDGE_EVT_MESSAGE_OUT => Self::MessageOut,
            _ => Self::Other,
        }
    }

    /// What a panic at this place answers.
    fn fallback(self) -> Status {
        match self {
            Self::Init => Status::UNKNOWN,
            Self::AclCheck => Status::ACL_DENIED,
            Self::BasicAuth | Self::ExtAuthStart | Self::ExtAuthContinue => Status::AUTH,
            Self::Cleanup
            | Self::Reload
            | Self::Tick
            | Self::Disconnect
            | Self::Connect
            | Self::Offline
            | Self::Control
            | Self::Message
            | Self::MessageOut
            | Self::Other => Status::SUCCESS,
        }
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs `body`; where it panics, counts that and returns what fails closed at this place.
pub(crate) fn guard(site: Site, body: impl FnOnce() -> Status) -> c_int {
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        crate::plugin::faults::strike(site);
        body()
    }));
    match guarded {
        Ok(status) => status.code(),
        Err(payload) => {
            // Dropping what was thrown could throw again.
            std::mem::forget(payload);
            let count = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = catch_unwind(|| logger::panicked(site.name(), count));
            site.fallback().code()
        }
    }
}

/// The broker offers the versions of the interface that it speaks; we speak 5.
///
/// # Safety
/// The broker passes `count` readable numbers.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int {
    let offered = match usize::try_from(count) {
        // SAFETY: the broker passes `count` readable numbers.
        Ok(count) if !versions.is_null() => unsafe { std::slice::from_raw_parts(versions, count) },
        _ => &[],
    };
    if offered.contains(&5) { 5 } else { -1 }
}

/// What the broker keeps for us between init and cleanup.
struct Loaded {
    plugin: Plugin,
    handle: *mut midge_plugin_id,
    events: Vec<c_int>,
}

/// Starts and ends calls that are wanted for a while only.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    handle: *mut midge_plugin_id,
    data: *mut c_void,
}

// SAFETY: both pointers are only passed on to the broker, on its thread.
unsafe impl Send for Hooks {}

impl Hooks {
    /// Has the broker call us for each message that it sends; returns whether it will.
    pub(crate) fn hear_deliveries(&self, thread: &BrokerThread) -> bool {
        let event = c_int::try_from(abi::MIDGE_EVT_MESSAGE_OUT).unwrap_or(0);
        // SAFETY: the handle is the broker's; the data is what init left there, and stays until cleanup, which ends this.
        let code = unsafe { host().register(thread, self.handle, event, Some(on_event), self.data) };
        code == abi::MIDGE_ERR_SUCCESS
    }

    /// Ends what [`Self::hear_deliveries`] began. Not from inside such a call: the broker goes on in what would be freed.
    pub(crate) fn leave_deliveries(&self, thread: &BrokerThread) {
        let event = c_int::try_from(abi::MIDGE_EVT_MESSAGE_OUT).unwrap_or(0);
        // SAFETY: the handle is the broker's, valid until cleanup returns.
        unsafe { host().unregister(thread, self.handle, event, Some(on_event)) };
    }
}

const EVENTS: [u32; 7] = [
    abi::MIDGE_EVT_RELOAD,
    abi::MIDGE_EVT_ACL_CHECK,
    abi::MIDGE_EVT_BASIC_AUTH,
    abi::MIDGE_EVT_EXT_AUTH_START,
    abi::MIDGE_EVT_EXT_AUTH_CONTINUE,
    abi::MIDGE_EVT_TICK,
    abi::MIDGE_EVT_DISCONNECT,
];
const EVENTS_OF_2_1: [u32; 2] = [abi::MIDGE_EVT_CONNECT, abi::MIDGE_EVT_CLIENT_OFFLINE];

/// Loads the plugin into Mosquitto 2.x.
///
/// # Safety
/// The broker passes a handle that it keeps until cleanup, a place for our data, and `count` options.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_plugin_init(
    handle: *mut midge_plugin_id,
    user_data: *mut *mut c_void,
    options: *mut midge_opt,
    count: c_int,
) -> c_int {
    guard(Site::Init, || {
        if user_data.is_null() {
            return Status::UNKNOWN;
        }
        let thread = BrokerThread::claim();
        // SAFETY: the broker passes `count` options, or null.
        let given = unsafe { options_from_c(options, count) };
        let Some(plugin) = Plugin::start(&thread, given) else { return Status::UNKNOWN };
        let mut loaded = Box::new(Loaded { plugin, handle, events: Vec::new() });
        let data: *mut c_void = (&raw mut *loaded).cast();
        let of_2_1: &[u32] = if host().level() == Level::Delayed { &EVENTS_OF_2_1 } else { &[] };
        let messages = loaded.plugin.wants_messages().then_some(&abi::MIDGE_EVT_MESSAGE);
        loaded.plugin.attach(&thread, Hooks { handle, data });
        let control = loaded.plugin.wants_control().then_some(&abi::MIDGE_EVT_CONTROL);
        for event in EVENTS.iter().chain(of_2_1).chain(messages).chain(control) {
            let event = c_int::try_from(*event).unwrap_or(0);
            // SAFETY: the handle is the broker's; the box stays where it is until cleanup has unregistered.
            let code = unsafe { host().register(&thread, handle, event, Some(on_event), data) };
            match code {
                abi::MIDGE_ERR_SUCCESS => loaded.events.push(event),
                // Loaded twice into one broker: the first registration serves both.
                abi::MIDGE_ERR_ALREADY_EXISTS => {}
                _ => log::error!("the broker refused to call us on event {event}: code {code}"),
            }
        }
        // SAFETY: the handle is the broker's.
        unsafe { host().introduce(&thread, handle) };
        logger::flush(&thread);
        // SAFETY: checked above for null; the broker passes a place to write to.
        unsafe { *user_data = Box::into_raw(loaded).cast() };
        Status::SUCCESS
    })
}

/// Unloads the plugin from Mosquitto 2.x; our threads have ended when this returns.
///
/// # Safety
/// The broker passes what init left in its place.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mosquitto_plugin_cleanup(user_data: *mut c_void, _options: *mut midge_opt, _count: c_int) -> c_int {
    guard(Site::Cleanup, || {
        if user_data.is_null() {
            return Status::SUCCESS;
        }
        // SAFETY: init made this box and gave it to the broker, which gives it back once.
        let loaded = unsafe { Box::from_raw(user_data.cast::<Loaded>()) };
        if let Some(thread) = BrokerThread::current() {
            for event in &loaded.events {
                // SAFETY: the handle is the broker's, valid until cleanup returns.
                unsafe { host().unregister(&thread, loaded.handle, *event, Some(on_event)) };
            }
            loaded.plugin.detach(&thread);
            loaded.plugin.stop(&thread);
            logger::flush(&thread);
        }
        Status::SUCCESS
    })
}

/// Called by Mosquitto 2.x on every event that we have registered for.
unsafe extern "C" fn on_event(event: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    let site = Site::of(event);
    guard(site, || {
        if user_data.is_null() {
            return site.fallback();
        }
        // SAFETY: registered with this pointer in init; the box lives until cleanup, and nobody has it mutably.
        let plugin = unsafe { &(*user_data.cast::<Loaded>()).plugin };
        // SAFETY: the broker passes the data that belongs to the event's number, valid until we return.
        let Some(event) = (unsafe { Event::from_c(event, data) }) else { return site.fallback() };
        dispatch(plugin, event)
    })
}

fn dispatch(plugin: &Plugin, event: Event<'_>) -> Status {
    let thread = BrokerThread::current();
    match (event, thread) {
        (Event::Acl(check), Some(thread)) => plugin.acl(&thread, &check),
        (Event::Acl(check), None) => plugin.acl_elsewhere(&check),
        (Event::BasicAuth(login), Some(thread)) => plugin.basic_auth(&thread, &login),
        (Event::BasicAuth(login), None) => plugin.basic_auth_elsewhere(&login),
        (Event::ExtAuthStart(mut exchange), Some(thread)) => exchange.answer(|step| plugin.ext_auth_start(&thread, step)),
        (Event::ExtAuthContinue(mut exchange), Some(thread)) => exchange.answer(|step| plugin.ext_auth_continue(&thread, step)),
        (Event::Disconnect(client), Some(thread)) => plugin.disconnect(&thread, client),
        (Event::Connect(client), Some(thread)) => plugin.connect(&thread, client),
        (Event::Offline(client), Some(thread)) => plugin.offline(&thread, client),
        (Event::Control(control), Some(thread)) => plugin.control(&thread, &control),
        (Event::Message(message), Some(thread)) => plugin.message(&thread, &message),
        (Event::MessageOut(mut message), Some(thread)) => plugin.message_out(&thread, &mut message),
        (Event::Reload, Some(thread)) => plugin.reload(&thread),
        (Event::Tick(mut tick), Some(thread)) => {
            let next = plugin.tick(&thread);
            if host().level() == Level::Delayed {
                tick.ask_again_in(next);
            }
            Status::SUCCESS
        }
        (Event::ExtAuthStart(_) | Event::ExtAuthContinue(_), None) => Status::AUTH,
        (_, None) => Status::SUCCESS,
    }
}

/// Copies the broker's options.
///
/// # Safety
/// `options` is null or points to `count` options whose texts live during the call.
pub(crate) unsafe fn options_from_c(options: *const midge_opt, count: c_int) -> Given {
    let count = if options.is_null() { 0 } else { usize::try_from(count).unwrap_or(0) };
    let text = |pointer| {
        // SAFETY: the caller vouches for the texts.
        unsafe { bytes(pointer) }.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    // SAFETY: the caller vouches for `count` options.
    let options = (0..count).map(|at| unsafe { &*options.add(at) });
    Given::from_pairs(options.filter_map(|option| Some((text(option.key)?, text(option.value).unwrap_or_default()))))
}

/// Reads a C string that the broker owns during the call.
///
/// # Safety
/// `text` is null or points to a C string that lives for `'a`.
pub(crate) unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for the string.
    (!text.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes())
}

pub(crate) use events::ExtAuthStep;
