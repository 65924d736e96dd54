//! Reads and checks all that can be set.
//!
//! What was typed in `midge.toml`, in `MIDGE_…` variables and as flags is put together by [`Sources`]; [`Config`] is what it means.
//! One table says for each setting its name, default, what is allowed, and whether a reload takes it;
//! the messages, `midge config show --defaults` and `docs/CONFIG.md` come from it.
//! All that is wrong is reported at once, and anything wrong stops the start: this is the broker's own file.

mod fault;
mod listener;
mod machine;
mod page;
mod reload;
mod section;
mod settings;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod users;
mod value;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use midge_core::gate::Anonymous;
use midge_store::hot::HotSettings;
use midge_store::presence::PresenceSettings;
use midge_store::push::PushSettings;
use midge_store::{StoreSettings, StoreUrl};

pub use fault::{Fault, Faults};
pub use listener::{Address, ClientCertificates, Listener, Protocol, Tls};
pub use page::{defaults, reference};
pub use reload::Changed;
pub use show::Shown;
pub use source::Sources;
pub use users::{AnonymousPolicy, Users};

use source::Given;

/// All that is set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of everything that outlives the process.
    pub data: PathBuf,
    /// What this node is called among several.
    pub node: String,
    /// Event loops, from 1 to 255.
    pub threads: u8,
    /// How often `$SYS` topics are published; `None` never.
    pub sys_interval: Option<Duration>,
    /// Where clients come in, at least one.
    pub listeners: Vec<Listener>,
    /// What the sockets bear.
    pub connections: Connections,
    /// What each event loop's engine offers and bears.
    pub engine: midge_engine::limits::Settings,
    /// Where and how that is kept which must survive.
    pub journal: Journal,
    /// Where the users and rules are.
    pub store: StoreUrl,
    /// How the store is spoken to.
    pub store_settings: StoreSettings,
    /// Whether the store is told how this node is.
    pub report: bool,
    /// Where Prometheus is answered.
    pub metrics: Option<SocketAddr>,
    /// How the store is told who is online, if it is.
    pub presence: Option<PresenceSettings>,
    /// How topics are counted, if they are.
    pub hot: Option<HotSettings>,
    /// How pushes are read from the store, if they are.
    pub pushes: Option<PushSettings>,
    /// Who gets in.
    pub users: Users,
    /// What is logged, and how.
    pub log: Log,
    /// What all of it was made of.
    given: Given,
}

/// The bounds of what comes from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections of all listeners together.
    pub max: usize,
    /// Connections of one user.
    pub max_per_user: Option<NonZero<usize>>,
    /// Connections from one address.
    pub max_per_address: Option<NonZero<usize>>,
    /// Connections accepted in a second.
    pub rate: Option<NonZero<u32>>,
    /// Connections that wait to be accepted, for each listener.
    pub backlog: i32,
    /// How long a client may take until it is logged in.
    pub login_timeout: Duration,
    /// The largest CONNECT, in bytes.
    pub max_connect_size: u32,
    /// How long a closing connection may take for its last bytes.
    pub close_timeout: Duration,
}

/// Where and how that is kept which must survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its folder.
    pub directory: PathBuf,
    /// Bytes that may wait for the disk.
    pub queue_bytes: usize,
    /// From which length on its log is compacted, in bytes.
    pub compact_bytes: u64,
    /// From which length on it is compacted, in per cent of the last snapshot.
    pub compact_percent: u32,
    /// After which time it is compacted at the latest.
    pub compact_age: Duration,
    /// How long to wait after a failed write.
    pub retry: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// From which level on.
    pub level: log::LevelFilter,
    /// What a line looks like.
    pub format: LogFormat,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As the journal of systemd wants it, where standard error is connected with it; text otherwise.
    #[default]
    Auto,
    /// Time, level and text.
    Text,
    /// The level as a number in angle brackets, and text: what systemd's journal takes apart itself.
    Journal,
    /// One JSON object.
    Json,
}

impl Config {
    /// Returns who gets in without a username at `listener`, where the store has `any_user` or none.
    ///
    /// Nobody, unless the setting `anonymous` or the listener's own `allow_anonymous` says so;
    /// with the former as `auto`, everybody who can't come from another machine, as long as there is no way to log in.
    #[must_use]
    pub fn anonymous(&self, listener: &Listener, any_user: bool) -> Anonymous {
        let allowed = match (listener.allow_anonymous, self.users.anonymous) {
            (Some(allowed), _) => allowed,
            (None, AnonymousPolicy::Allow) => true,
            (None, AnonymousPolicy::Deny) => false,
            (None, AnonymousPolicy::Auto) => listener.is_local() && !any_user && !self.has_identities(listener),
        };
        if allowed { Anonymous::Allow } else { Anonymous::Deny }
    }

    /// Returns the first listener that other machines may reach while nobody could get in by it.
    ///
    /// Whoever opens a port wants to let somebody in; what is missing is said before it is open.
    #[must_use]
    pub fn useless_listener(&self, any_user: bool) -> Option<&Listener> {
        // Who says by name that nobody gets in without a user waits for users that come later.
        let waits = self.users.anonymous == AnonymousPolicy::Deny;
        let nobody = |listener: &&Listener| {
            !any_user && !waits && !self.has_identities(listener) && self.anonymous(listener, any_user) == Anonymous::Deny
        };
        self.listeners.iter().filter(|listener| !listener.is_local()).find(nobody)
    }

    /// Returns the directory of the embedded store, if the store is one.
    #[must_use]
    pub fn store_directory(&self) -> Option<&Path> {
        self.store.directory()
    }

    /// Returns whether clients can prove who they are without a record in the store.
    #[must_use]
    pub fn has_identities(&self, listener: &Listener) -> bool {
        self.users.has_tokens() || listener.identity().is_some()
    }
}

/// Returns the directory that holds everything where none is set.
///
/// The one that systemd gives a service; `/var/lib/midge` for root; else below the user's own data.
#[must_use]
pub fn default_data_directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // Of several directories, systemd(1) lists the unit's first one first.
    let of_service = variable("STATE_DIRECTORY").and_then(|all| {
        let first = all.to_str()?.split(':').next()?.to_owned();
        Some(PathBuf::from(first))
    });
    let of_user = || {
        let shared = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
        shared.or_else(|| Some(variable("HOME")?.join(".local/share"))).map(|path| path.join("midge"))
    };
    let of_root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib/midge"));
    of_service.or_else(of_root).or_else(of_user).unwrap_or_else(|| PathBuf::from("midge-data"))
}
