//! What the operator has set, checked.
//!
//! Options come from `auth_opt_*` and `plugin_opt_*` lines, and below them from the TOML file that the option `config` names.
//! One table, [`SETTINGS`], says for each its default, what is allowed, and whether a reload takes it.
//! A wrong value ends the start, an unknown name is a warning: somebody else's line shall not keep a broker down.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::gate::{Anonymous, GateSettings, LoginSettings, StoreDown};
use midge_core::jwt::{JwtKeys, JwtSettings};
use midge_core::key::KeySpace;
use midge_core::password::HashPolicy;
use midge_core::setting;
use midge_store::hot::HotSettings;
use midge_store::presence::PresenceSettings;
use midge_store::push::PushSettings;
use midge_store::service::ServiceSettings;
use midge_store::{StoreSettings, StoreUrl, WatchPolicy};

mod go_auth;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::SETTINGS;

/// The options as the broker gave them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given(Vec<(String, String)>);

impl Given {
    /// Takes options as they came, in order.
    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    #[cfg(test)]
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }
}

/// Why the plugin can't start with what is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionError {
    /// Where it was set: `auth_opt_NAME`, or file and line.
    pub(crate) place: String,
    /// What was found.
    pub(crate) value: String,
    /// What is wrong with it and what is allowed.
    pub(crate) problem: String,
}

impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value: String = self.value.chars().take(80).flat_map(char::escape_debug).collect();
        write!(f, "{}: \"{value}\": {}", self.place, self.problem)
    }
}

/// What stands before the topics of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Nothing.
    #[default]
    None,
    /// The same for all.
    All(String),
    /// By the port that a client came through.
    ByPort(Vec<(u16, String)>),
}

/// Where retained messages are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReaderAddress {
    /// A host with its port.
    Tcp(String),
    /// A socket of this machine.
    Unix(std::path::PathBuf),
}

impl std::fmt::Display for ReaderAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host) => f.write_str(host),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is set about automatic subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AutosubSettings {
    pub(crate) enabled: bool,
    pub(crate) per_client: usize,
    pub(crate) per_tick: usize,
    pub(crate) mount: Mount,
    pub(crate) retained: usize,
    pub(crate) retained_bytes: usize,
    pub(crate) reader: Option<ReaderAddress>,
    pub(crate) copy_bytes: usize,
    pub(crate) absence: Duration,
}

impl Default for AutosubSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            per_client: 1_000,
            per_tick: 1_000,
            mount: Mount::None,
            retained: 10_000,
            retained_bytes: 64 << 20,
            reader: None,
            copy_bytes: 256 << 20,
            absence: Duration::from_secs(24 * 3600),
        }
    }
}

/// What to answer about users that the store doesn't know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnknownUsers {
    /// They are refused.
    #[default]
    Deny,
    /// Other plugins and the broker's own files decide.
    Defer,
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) store: String,
    pub(crate) store_user: Option<String>,
    pub(crate) store_password: Option<String>,
    pub(crate) prefix: String,
    pub(crate) node: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) watch: WatchPolicy,
    pub(crate) anonymous: Anonymous,
    pub(crate) unknown_users: UnknownUsers,
    pub(crate) store_down_deny: bool,
    pub(crate) store_max_age: Duration,
    pub(crate) login_deadline: Duration,
    pub(crate) delayed_login: bool,
    pub(crate) hide_unknown_users: bool,
    pub(crate) rehash_on_login: Option<HashPolicy>,
    pub(crate) tls_identity: Option<CertificateField>,
    pub(crate) offline_sessions: usize,
    pub(crate) report: bool,
    pub(crate) push: bool,
    pub(crate) push_settings: PushSettings,
    pub(crate) presence: bool,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) presence_settings: PresenceSettings,
    pub(crate) hot: bool,
    pub(crate) hot_settings: HotSettings,
    pub(crate) autosub: AutosubSettings,
    pub(crate) control: bool,
    pub(crate) gate: GateSettings,
    pub(crate) service: ServiceSettings,
    pub(crate) jwt: JwtSettings,
    pub(crate) jwt_leeway: Duration,
    pub(crate) jwt_secret_file: Option<String>,
    pub(crate) jwt_key_file: Option<String>,
    pub(crate) jwt_jwks_file: Option<String>,
    pub(crate) log_level: log::LevelFilter,
    #[cfg(feature = "fault-injection")]
    pub(crate) fault_panic_at: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: "redis://127.0.0.1:6379".to_owned(),
            store_user: None,
            store_password: None,
            prefix: "midge:".to_owned(),
            node: String::new(),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            watch: WatchPolicy::Auto,
            anonymous: Anonymous::Deny,
            unknown_users: UnknownUsers::Deny,
            store_down_deny: false,
            store_max_age: Duration::from_secs(24 * 3600),
            login_deadline: Duration::from_millis(250),
            delayed_login: true,
            hide_unknown_users: true,
            rehash_on_login: None,
            tls_identity: None,
            offline_sessions: 100_000,
            report: true,
            push: true,
            push_settings: PushSettings::default(),
            presence: true,
            metrics: None,
            presence_settings: PresenceSettings::default(),
            hot: true,
            hot_settings: HotSettings::default(),
            autosub: AutosubSettings::default(),
            control: true,
            gate: GateSettings::default(),
            service: ServiceSettings::default(),
            jwt: JwtSettings::default(),
            jwt_leeway: Duration::from_secs(30),
            jwt_secret_file: None,
            jwt_key_file: None,
            jwt_jwks_file: None,
            log_level: log::LevelFilter::Info,
            #[cfg(feature = "fault-injection")]
            fault_panic_at: None,
        }
    }
}

impl Settings {
    /// Reads the file that `given` names, then `given`; returns what is set and warnings about what means nothing here.
    pub(crate) fn read(given: &Given) -> Result<(Self, Vec<String>), OptionError> {
        let mut settings = Self::default();
        let mut warnings = Vec::new();
        if let Some((_, path)) = given.0.iter().find(|(key, _)| key == "config") {
            settings.read_file(path, &mut warnings)?;
        }
        let mut go_auth = go_auth::Store::default();
        for (key, value) in given.0.iter().filter(|(key, _)| key != "config") {
            let place = format!("auth_opt_{key}");
            match table::find(key) {
                Some(setting) => settings.set(setting, &place, value)?,
                None if go_auth.take(key, value).map_err(|problem| OptionError {
                    place: place.clone(),
                    value: value.clone(),
                    problem,
                })? => {}
                None if go_auth::is_known(key) => warnings.push(format!("{place} has no meaning here and is ignored")),
                None => warnings.push(format!("{place} is unknown and is ignored; {}", table::nearest(key))),
            }
        }
        let store_given = given.0.iter().any(|(key, _)| key == "store");
        if let Some(url) = go_auth.url().filter(|_| !store_given) {
            settings.store = url;
            settings.store_password = settings.store_password.or(go_auth.password.clone());
            settings.store_user = settings.store_user.or(go_auth.user.clone());
        }
        settings.store_url()?;
        Ok((settings, warnings))
    }

    /// Returns where the store is.
    pub(crate) fn store_url(&self) -> Result<StoreUrl, OptionError> {
        let error = |problem: String| OptionError {
            place: "auth_opt_store".to_owned(),
            value: setting::without_password(&self.store),
            problem,
        };
        let url: StoreUrl = self.store.parse().map_err(|wrong: midge_store::StoreUrlError| error(wrong.to_string()))?;
        Ok(url.with_credentials(self.store_user.as_deref(), self.store_password.as_deref()))
    }

    /// Returns what this broker is called among several.
    pub(crate) fn node_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if self.node.is_empty() { host().trim().to_owned() } else { self.node.clone() };
        if name.is_empty() { "mosquitto".to_owned() } else { name }
    }

    /// Returns how the store is spoken to.
    pub(crate) fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            keys: KeySpace::new(&self.prefix),
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            watch: self.watch,
            ..StoreSettings::default()
        }
    }

    /// Returns whether nothing differs from `other` that only a restart takes.
    pub(crate) fn same_where_fixed(&self, other: &Self) -> bool {
        let fixed = |settings: &Self| {
            (
                [settings.store.clone(), settings.prefix.clone(), settings.node.clone()],
                settings.watch,
                [settings.store_user.clone(), settings.store_password.clone()],
                [settings.connect_timeout, settings.response_timeout],
                (settings.offline_sessions, settings.report, settings.push, settings.push_settings.clone()),
                (settings.presence, settings.presence_settings.clone(), settings.metrics),
                (settings.autosub.clone(), settings.control),
                (settings.gate.directory.clone(), settings.gate.shield.clone(), settings.gate.credentials.clone()),
                settings.service.clone(),
                (settings.hot, settings.hot_settings.list, settings.hot_settings.interval),
                settings.hot_settings.roll_up.patterns().map(str::to_owned).collect::<Vec<_>>(),
            )
        };
        fixed(self) == fixed(other)
    }

    /// Returns what decides about logins; reads the files with keys of tokens.
    pub(crate) fn login(&self) -> Result<LoginSettings, OptionError> {
        Ok(LoginSettings {
            anonymous: self.anonymous,
            store_down: if self.store_down_deny { StoreDown::Deny } else { StoreDown::LastKnownGood(self.store_max_age) },
            jwt: self.jwt_keys()?.map(|keys| (keys, self.jwt.clone())),
            jwt_leeway: self.jwt_leeway,
            hide_unknown: self.hide_unknown_users,
            rehash: self.rehash_on_login.clone(),
        })
    }

    fn jwt_keys(&self) -> Result<Option<JwtKeys>, OptionError> {
        type Parse = fn(&str) -> Result<JwtKeys, String>;
        let sources: [(&str, &Option<String>, Parse); 3] = [
            ("jwt_secret_file", &self.jwt_secret_file, |text| {
                JwtKeys::from_hs256_secret(text.trim_end_matches(['\r', '\n']).as_bytes()).map_err(|error| error.to_string())
            }),
            ("jwt_key_file", &self.jwt_key_file, |text| JwtKeys::from_pem(text).map_err(|error| error.to_string())),
            ("jwt_jwks_file", &self.jwt_jwks_file, |text| JwtKeys::from_jwks(text).map_err(|error| error.to_string())),
        ];
        let mut all: Option<JwtKeys> = None;
        for (name, path, parse) in sources {
            let Some(path) = path else { continue };
            let error = |problem: String| OptionError { place: format!("auth_opt_{name}"), value: path.clone(), problem };
            let text = std::fs::read_to_string(path).map_err(|wrong| error(format!("can't be read: {wrong}")))?;
            let keys = parse(&text).map_err(error)?;
            all = Some(match all {
                Some(others) => others.with(keys).map_err(|wrong| error(wrong.to_string()))?,
                None => keys,
            });
        }
        Ok(all)
    }

    fn set(&mut self, setting: &table::Setting, place: &str, value: &str) -> Result<(), OptionError> {
        (setting.set)(self, value).map_err(|found| OptionError {
            place: place.to_owned(),
            value: if setting.secret { "…".to_owned() } else { value.to_owned() },
            problem: if found.is_empty() {
                format!("allowed is {}", setting.allowed)
            } else {
                format!("{found}; allowed is {}", setting.allowed)
            },
        })
    }

    fn read_file(&mut self, path: &str, warnings: &mut Vec<String>) -> Result<(), OptionError> {
        let error = |place: String, value: &str, problem: String| OptionError { place, value: value.to_owned(), problem };
        let text = std::fs::read_to_string(Path::new(path))
            .map_err(|wrong| error("auth_opt_config".to_owned(), path, format!("can't be read: {wrong}")))?;
        let file: toml::Table =
            text.parse().map_err(|wrong: toml::de::Error| error(path.to_owned(), "", wrong.to_string().trim().to_owned()))?;
        for (key, value) in &file {
            let line = text.lines().position(|line| line.trim_start().starts_with(key.as_str())).map_or(0, |at| at + 1);
            let place = format!("{path}:{line}: {key}");
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                other => return Err(error(place, &other.to_string(), "a text, a whole number or a switch is expected".to_owned())),
            };
            match table::find(key) {
                Some(setting) => self.set(setting, &place, &value)?,
                None => warnings.push(format!("{place} is unknown and is ignored; {}", table::nearest(key))),
            }
        }
        Ok(())
    }
}
