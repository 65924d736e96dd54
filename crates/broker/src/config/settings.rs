//! The one table of settings, and what they are written into.
//!
//! The file, the variables, the reference page and the messages about wrong values all come from it.

mod functions;
mod limits;
mod listener;
mod place;
mod users;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use midge_core::setting;
use midge_store::StoreSettings;
use midge_store::hot::HotSettings;
use midge_store::presence::PresenceSettings;
use midge_store::push::PushSettings;

use super::machine;
use super::section::{Section, Setting};
use super::{Connections, Journal, Log, LogFormat, Users};

pub(super) use listener::{Draft as ListenerDraft, LISTENER};

/// All settings but those of listeners.
pub(super) const SECTIONS: [Section<Draft>; 13] = [
    Section { title: "Server", settings: place::SERVER },
    Section { title: "Connections", settings: limits::CONNECTIONS },
    Section { title: "Messages and sessions", settings: limits::ENGINE },
    Section { title: "Journal", settings: place::JOURNAL },
    Section { title: "Store", settings: place::STORE },
    Section { title: "Automatic subscriptions", settings: functions::AUTOSUB },
    Section { title: "Pushes", settings: place::PUSHES },
    Section { title: "Presence", settings: functions::PRESENCE },
    Section { title: "Hot topics", settings: functions::HOT },
    Section { title: "Users", settings: users::USERS },
    Section { title: "Tokens", settings: users::TOKENS },
    Section { title: "Guessing, and what is remembered", settings: users::GUARD },
    Section { title: "Log", settings: place::LOG },
];

/// The plugin's options that mean nothing here, and why.
pub(super) const PLUGIN_ONLY: [(&str, &str); 13] = [
    ("config", "this is the file itself"),
    ("delayed_login", "logins never hold anything up here"),
    ("login_deadline", "no thread waits for a login here"),
    ("control", "the broker is asked by the command"),
    ("autosub_per_tick", "there are no ticks here"),
    ("autosub_mount_point", "listeners have no mount points here"),
    ("autosub_retained", "the broker has the retained messages itself"),
    ("autosub_retained_bytes", "the broker has the retained messages itself"),
    ("autosub_reader", "the broker has the retained messages itself"),
    ("autosub_copy_bytes", "nothing is copied here"),
    ("autosub_absence", "sessions are the broker's own here"),
    ("offline_sessions", "sessions are the broker's own here: max_sessions bounds them"),
    ("unknown_users", "nobody else decides about them here"),
];

/// Returns all settings but those of listeners, in order.
pub(super) fn all() -> impl Iterator<Item = &'static Setting<Draft>> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// What settings are written into before it is known where everything is.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) data: Option<PathBuf>,
    pub(super) node: Option<String>,
    pub(super) threads: u8,
    pub(super) sys_interval: Option<Duration>,
    pub(super) connections: Connections,
    pub(super) engine: midge_engine::limits::Settings,
    pub(super) journal: Journal,
    pub(super) store: Option<String>,
    pub(super) store_user: Option<String>,
    pub(super) store_password: Option<String>,
    pub(super) store_settings: StoreSettings,
    pub(super) report: bool,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) push: bool,
    pub(super) push_settings: PushSettings,
    pub(super) presence: bool,
    pub(super) presence_settings: PresenceSettings,
    pub(super) hot: bool,
    pub(super) hot_settings: HotSettings,
    pub(super) users: Users,
    pub(super) log: Log,
}

impl Default for Draft {
    fn default() -> Self {
        let memory_max = machine::memory().map_or(usize::MAX, |bytes| bytes / 2);
        let engine = midge_engine::limits::Settings { memory_max, ..midge_engine::limits::Settings::default() };
        Self {
            data: None,
            node: None,
            threads: std::thread::available_parallelism().map_or(1, |cores| u8::try_from(cores.get()).unwrap_or(u8::MAX)),
            sys_interval: Some(Duration::from_secs(10)),
            connections: Connections {
                max: 1_000_000,
                max_per_user: None,
                max_per_address: None,
                rate: None,
                backlog: 4096,
                login_timeout: Duration::from_secs(10),
                // Five fields of 64 KiB and a little for properties.
                max_connect_size: 384 << 10,
                close_timeout: Duration::from_secs(5),
            },
            // A push message is small; who needs more has to say so, as each client may send one at a time.
            engine: midge_engine::limits::Settings { persistence: true, max_packet_size: 1 << 20, ..engine },
            journal: Journal {
                directory: PathBuf::new(),
                queue_bytes: 64 << 20,
                compact_bytes: 64 << 20,
                compact_percent: 100,
                compact_age: Duration::from_secs(3600),
                retry: Duration::from_secs(1),
            },
            store: None,
            store_user: None,
            store_password: None,
            store_settings: StoreSettings::default(),
            report: true,
            metrics: None,
            push: true,
            push_settings: PushSettings::default(),
            presence: true,
            presence_settings: PresenceSettings::default(),
            hot: true,
            hot_settings: HotSettings::default(),
            users: Users::default(),
            log: Log { level: log::LevelFilter::Info, format: LogFormat::Auto },
        }
    }
}

const SWITCH: &str = setting::SWITCH;

/// Makes a bound of a number of which 0 is none.
fn at_most_per_second(number: u32) -> Option<NonZero<u32>> {
    NonZero::new(number)
}
