//! The one table of settings.
//!
//! Options, the TOML file, the reference page and the messages about wrong values all come from it.
//! This file is long: it has a row for each setting, and nothing else of weight.

use std::sync::Arc;
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::gate::Anonymous;
use midge_core::hot::RollUp;
use midge_core::password::HashPolicy;
use midge_core::setting::{self, DURATION, SWITCH, duration_between as between, number, one_of, switch, text};

use super::{Mount, ReaderAddress, Settings, UnknownUsers};

/// One setting.
#[cfg_attr(not(test), expect(dead_code, reason = "default and purpose are for the reference page, which a test keeps"))]
pub(crate) struct Setting {
    /// Its name behind `auth_opt_`, and in the file.
    pub(crate) name: &'static str,
    /// What holds when it is not set.
    pub(crate) default: &'static str,
    /// What may be set.
    pub(crate) allowed: &'static str,
    /// Whether a reload takes a new value from the file.
    pub(crate) reloads: bool,
    /// Whether its value must not be shown.
    pub(crate) secret: bool,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
    /// Sets it; an error says what was found, or nothing where the allowed values say it all.
    pub(crate) set: fn(&mut Settings, &str) -> Result<(), String>,
}

/// Returns the setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns a hint at the setting that a misspelt name may mean.
pub(crate) fn nearest(name: &str) -> String {
    match setting::nearest(name, SETTINGS.iter().map(|setting| setting.name)) {
        Some(name) => format!("did you mean {name}?"),
        None => "docs/OPTIONS.md lists all".to_owned(),
    }
}

/// Reads `PREFIX`, or `PORT=PREFIX,PORT=PREFIX`.
fn mount(text: &str) -> Result<Mount, String> {
    let plain = |prefix: &str| !prefix.is_empty() && !prefix.contains(['+', '#', '$', ',', '=']);
    if !text.contains('=') {
        return if plain(text) { Ok(Mount::All(text.to_owned())) } else { Err(String::new()) };
    }
    let one = |part: &str| {
        let (port, prefix) = part.trim().split_once('=')?;
        Some((port.parse().ok()?, prefix.to_owned())).filter(|_| plain(prefix))
    };
    text.split(',').map(one).collect::<Option<Vec<_>>>().map(Mount::ByPort).ok_or_else(String::new)
}

fn reader(text: &str) -> Result<ReaderAddress, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(ReaderAddress::Unix(path.into())),
        Some(_) => Err(String::new()),
        None => {
            let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
            port.filter(|port| *port > 0).map(|_| ReaderAddress::Tcp(text.to_owned())).ok_or_else(String::new)
        }
    }
}

macro_rules! setting {
    ($name:literal, $default:literal, $allowed:expr, $about:literal, $set:expr $(, $flag:ident)*) => {
        Setting {
            name: $name,
            default: $default,
            allowed: $allowed,
            about: $about,
            set: $set,
            ..setting!(@flags $($flag)*)
        }
    };
    (@flags) => { NEITHER };
    (@flags reloads) => { RELOADS };
    (@flags secret) => { SECRET };
}

const NEITHER: Setting =
    Setting { name: "", default: "", allowed: "", reloads: false, secret: false, about: "", set: |_, _| Ok(()) };
const RELOADS: Setting = Setting { reloads: true, ..NEITHER };
const SECRET: Setting = Setting { secret: true, ..NEITHER };

/// All settings, in the order of the reference page.
pub(crate) const SETTINGS: &[Setting] = &[
    setting!(
        "store",
        "redis://127.0.0.1:6379",
        "a URL: redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://",
        "Where the users and rules are.",
        |s, v| text(v).map(|v| s.store = v),
        secret
    ),
    setting!("store_user", "none", "a name", "The name to log in to the store with, where it is not in the URL.", |s, v| text(v)
        .map(|v| s.store_user = Some(v))),
    setting!(
        "store_password",
        "none",
        "a text",
        "The password for the store, where it is not in the URL.",
        |s, v| text(v).map(|v| s.store_password = Some(v)),
        secret
    ),
    setting!(
        "store_password_file",
        "none",
        "a readable file",
        "A file with the password for the store; its last line end is not part of it.",
        |s, v| {
            let password = std::fs::read_to_string(v).map_err(|error| format!("it can't be read: {error}"))?;
            s.store_password = Some(password.trim_end_matches(['\r', '\n']).to_owned());
            Ok(())
        }
    ),
    setting!("schema", "midge", "midge", "Whose keys the store holds.", |_, v| one_of(v, &[("midge", ()), ("native", ())])),
    setting!("prefix", "midge:", "a text", "What every key begins with.", |s, v| {
        v.clone_into(&mut s.prefix);
        Ok(())
    }),
    setting!(
        "node",
        "the host's name",
        "a text",
        "What this broker is called among several, each of which needs another name: its state and its pushes are kept under this one.",
        |s, v| text(v).map(|v| s.node = v)
    ),
    setting!("connect_timeout", "3s", "a time from 10ms to 60s", "How long a connection to the store may take.", |s, v| between(
        v,
        Duration::from_millis(10),
        Duration::from_secs(60)
    )
    .map(|v| s.connect_timeout = v)),
    setting!(
        "response_timeout",
        "5s",
        "a time from 10ms to 60s",
        "How long the store may take for an answer, before it counts as away.",
        |s, v| between(v, Duration::from_millis(10), Duration::from_secs(60)).map(|v| s.response_timeout = v)
    ),
    setting!(
        "watch",
        "auto",
        "auto, tracking, keyspace or polling",
        "How changes in the store are followed; auto takes the first of the others that the store allows.",
        |s, v| {
            use midge_store::WatchPolicy::{Auto, Keyspace, Polling, Tracking};
            one_of(v, &[("auto", Auto), ("tracking", Tracking), ("keyspace", Keyspace), ("polling", Polling)]).map(|v| s.watch = v)
        }
    ),
    setting!(
        "store_down",
        "last-known-good",
        "last-known-good or deny",
        "Who may log in while the store can't be asked: users that are known, or nobody.",
        |s, v| one_of(v, &[("last-known-good", false), ("deny", true)]).map(|v| s.store_down_deny = v),
        reloads
    ),
    setting!(
        "store_max_age",
        "24h",
        "a time from 1s to 366d",
        "How long a user counts as known without the store's word.",
        |s, v| between(v, Duration::from_secs(1), Duration::from_secs(366 * 86_400)).map(|v| s.store_max_age = v),
        reloads
    ),
    setting!(
        "anonymous",
        "deny",
        "deny or allow",
        "Whether clients without a username get in, with everyone's rules and those of the group anonymous.",
        |s, v| one_of(v, &[("deny", Anonymous::Deny), ("allow", Anonymous::Allow)]).map(|v| s.anonymous = v),
        reloads
    ),
    setting!(
        "unknown_users",
        "deny",
        "deny or defer",
        "Who decides about users that the store doesn't have: this plugin, or the next one and the broker's own files.",
        |s, v| one_of(v, &[("deny", UnknownUsers::Deny), ("defer", UnknownUsers::Defer)]).map(|v| s.unknown_users = v),
        reloads
    ),
    setting!(
        "login_deadline",
        "250ms",
        "a time from 0ms to 10s",
        "How long the broker's thread may wait for a login that is not in memory and that the broker can't delay: every one before Mosquitto 2.1.",
        |s, v| between(v, Duration::ZERO, Duration::from_secs(10)).map(|v| s.login_deadline = v),
        reloads
    ),
    setting!(
        "delayed_login",
        "true",
        SWITCH,
        "Whether Mosquitto 2.1 is told to wait for logins that are not in memory; false suits clients that send before CONNACK.",
        |s, v| switch(v).map(|v| s.delayed_login = v),
        reloads
    ),
    setting!(
        "hide_unknown_users",
        "true",
        SWITCH,
        "Whether an unknown name costs as much hashing as a known one, so that time doesn't tell them apart.",
        |s, v| switch(v).map(|v| s.hide_unknown_users = v),
        reloads
    ),
    setting!(
        "rehash_on_login",
        "off",
        "off, argon2id or pbkdf2",
        "The encoding to which weaker stored passwords are upgraded when their user logs in.",
        |s, v| {
            s.rehash_on_login = match v {
                "off" | "false" => None,
                "argon2id" => Some(HashPolicy::default()),
                "pbkdf2" => Some(HashPolicy::mosquitto7(HashPolicy::MOSQUITTO7_ITERATIONS).map_err(|error| error.to_string())?),
                _ => return Err(String::new()),
            };
            Ok(())
        },
        reloads
    ),
    setting!(
        "tls_identity",
        "off",
        "off, cn, dns, email or uri",
        "Which field of a client's TLS certificate is its username, without a password.",
        |s, v| {
            let fields = [
                ("off", None),
                ("cn", Some(CertificateField::CommonName)),
                ("dns", Some(CertificateField::SanDns)),
                ("email", Some(CertificateField::SanEmail)),
                ("uri", Some(CertificateField::SanUri)),
            ];
            one_of(v, &fields).map(|v| s.tls_identity = v)
        },
        reloads
    ),
    setting!(
        "jwt_secret_file",
        "none",
        "a readable file of at least 32 bytes",
        "A file with the secret of HS256 tokens.",
        |s, v| text(v).map(|v| s.jwt_secret_file = Some(v)),
        reloads
    ),
    setting!(
        "jwt_key_file",
        "none",
        "a readable PEM file",
        "A file with the public key of RS256 or ES256 tokens.",
        |s, v| text(v).map(|v| s.jwt_key_file = Some(v)),
        reloads
    ),
    setting!(
        "jwt_jwks_file",
        "none",
        "a readable JWKS file",
        "A file with several keys, told apart by their kid.",
        |s, v| text(v).map(|v| s.jwt_jwks_file = Some(v)),
        reloads
    ),
    setting!(
        "jwt_issuer",
        "any",
        "a text",
        "The issuer (iss) that a token must name.",
        |s, v| text(v).map(|v| s.jwt.issuer = Some(v)),
        reloads
    ),
    setting!(
        "jwt_audience",
        "any",
        "a text",
        "The audience (aud) that a token must name.",
        |s, v| text(v).map(|v| s.jwt.audience = Some(v)),
        reloads
    ),
    setting!(
        "jwt_username_claim",
        "sub",
        "a text",
        "The claim with the username.",
        |s, v| text(v).map(|v| s.jwt.username_claim = v),
        reloads
    ),
    setting!(
        "jwt_groups_claim",
        "groups",
        "a text",
        "The claim with the groups.",
        |s, v| text(v).map(|v| s.jwt.groups_claim = v),
        reloads
    ),
    setting!(
        "jwt_require_expiry",
        "true",
        SWITCH,
        "Whether a token without an end (exp) is refused.",
        |s, v| switch(v).map(|v| s.jwt.require_expiry = v),
        reloads
    ),
    setting!(
        "jwt_leeway",
        "30s",
        "a time from 0s to 10m",
        "How far the clocks of token issuers may be apart from ours.",
        |s, v| between(v, Duration::ZERO, Duration::from_secs(600)).map(|v| s.jwt_leeway = v),
        reloads
    ),
    setting!(
        "shield_user_attempts",
        "10",
        "a number from 0 to 1000000; 0 switches it off",
        "Failed logins of one user before the first back-off.",
        |s, v| number(v, 0, 1_000_000).map(|v| s.gate.shield.user_attempts = v)
    ),
    setting!(
        "shield_address_attempts",
        "50",
        "a number from 0 to 1000000; 0 switches it off",
        "Failed logins from one address before the first back-off.",
        |s, v| number(v, 0, 1_000_000).map(|v| s.gate.shield.address_attempts = v)
    ),
    setting!("shield_first", "1s", DURATION, "The first back-off; it doubles with each further failure.", |s, v| between(
        v,
        Duration::from_millis(1),
        Duration::from_secs(86_400)
    )
    .map(|v| s.gate.shield.first = v)),
    setting!("shield_longest", "15m", DURATION, "The longest back-off.", |s, v| between(
        v,
        Duration::from_millis(1),
        Duration::from_secs(86_400)
    )
    .map(|v| s.gate.shield.longest = v)),
    setting!("shield_window", "15m", DURATION, "How long after the last failure they are forgotten.", |s, v| between(
        v,
        Duration::from_secs(1),
        Duration::from_secs(7 * 86_400)
    )
    .map(|v| s.gate.shield.window = v)),
    setting!(
        "shield_entries",
        "65536",
        "a number from 64 to 10000000",
        "Users and addresses counted at a time; at the bound the one that failed longest ago is forgotten.",
        |s, v| number(v, 64, 10_000_000).map(|v| s.gate.shield.entries = v)
    ),
    setting!(
        "credential_ttl",
        "1h",
        "a time from 0s to 7d; 0s switches it off",
        "How long a verified password spares the hashing at a reconnect.",
        |s, v| between(v, Duration::ZERO, Duration::from_secs(7 * 86_400)).map(|v| s.gate.credentials.time_to_live = v)
    ),
    setting!(
        "credential_entries",
        "200000",
        "a number from 0 to 10000000",
        "Verified passwords remembered; at the bound the older half is forgotten.",
        |s, v| number(v, 0, 10_000_000).map(|v| s.gate.credentials.entries = v)
    ),
    setting!(
        "accounts",
        "200000",
        "a number from 100 to 10000000",
        "Users kept in memory beyond those of connected clients; at the bound the longest unused go.",
        |s, v| number(v, 100, 10_000_000).map(|v| s.gate.directory.accounts = v)
    ),
    setting!(
        "unknown_accounts",
        "10000",
        "a number from 10 to 1000000",
        "Names the store doesn't have that are kept in memory; at the bound the longest unused go.",
        |s, v| number(v, 10, 1_000_000).map(|v| s.gate.directory.unknown = v)
    ),
    setting!(
        "offline_sessions",
        "100000",
        "a number from 0 to 10000000",
        "Sessions of disconnected clients whose rules are kept at hand; at the bound the longest gone are looked up by name.",
        |s, v| number(v, 0, 10_000_000).map(|v| s.offline_sessions = v)
    ),
    setting!("autosub", "true", SWITCH, "Whether clients are subscribed to what their lists in the store say.", |s, v| {
        let on = switch(v)?;
        (s.autosub.enabled, s.gate.directory.lists) = (on, on);
        Ok(())
    }),
    setting!(
        "autosub_per_client",
        "1000",
        "a number from 0 to 100000",
        "Automatic subscriptions of one client; those beyond, of the lists farthest from it, are not made, counted and logged.",
        |s, v| number(v, 0, 100_000).map(|v| s.autosub.per_client = v)
    ),
    setting!(
        "autosub_client_lists",
        "100000",
        "a number from 0 to 10000000",
        "Lists of single client identifiers that are held; further ones subscribe nobody, which the log says.",
        |s, v| number(v, 0, 10_000_000).map(|v| s.gate.directory.client_lists = v)
    ),
    setting!(
        "autosub_per_tick",
        "1000",
        "a number from 1 to 100000",
        "Subscriptions made or taken away because a list has changed, and retained messages sent for them, in one tick; the others wait for the next.",
        |s, v| number(v, 1, 100_000).map(|v| s.autosub.per_tick = v)
    ),
    setting!(
        "autosub_mount_point",
        "none",
        "a text, or PORT=TEXT,PORT=TEXT for listeners of Mosquitto 2.1 by their ports; without + # $",
        "The mount_point of the listeners, which Mosquitto doesn't tell: it is put before each filter of a list.",
        |s, v| mount(v).map(|v| s.autosub.mount = v)
    ),
    setting!(
        "autosub_retained",
        "10000",
        "a number from 0 to 10000000; 0 switches it off",
        "Retained messages held to be sent for automatic subscriptions; those beyond are not held, and counted.",
        |s, v| number(v, 0, 10_000_000).map(|v| s.autosub.retained = v)
    ),
    setting!(
        "autosub_retained_bytes",
        "67108864",
        "a number from 0 to 1099511627776",
        "Bytes of the retained messages held; those beyond are not held, and counted.",
        |s, v| number(v, 0, 1 << 40).map(|v| s.autosub.retained_bytes = v)
    ),
    setting!(
        "autosub_reader",
        "none",
        "HOST:PORT or unix:PATH",
        "A listener of this broker without TLS, websockets and mount_point, on loopback, through which messages retained before the start are read once.",
        |s, v| reader(v).map(|v| s.autosub.reader = Some(v))
    ),
    setting!(
        "autosub_copy_bytes",
        "268435456",
        "a number from 0 to 1099511627776",
        "Bytes of the copies made for automatic subscriptions in one pass of the broker, before Mosquitto 2.1; further copies are dropped and counted.",
        |s, v| number(v, 0, 1 << 40).map(|v| s.autosub.copy_bytes = v)
    ),
    setting!(
        "autosub_absence",
        "24h",
        "a time from 0s to 366d",
        "How long messages are copied for a client that is away, before Mosquitto 2.1, which doesn't tell when a session ends.",
        |s, v| between(v, Duration::ZERO, Duration::from_secs(366 * 86_400)).map(|v| s.autosub.absence = v)
    ),
    setting!(
        "control",
        "true",
        SWITCH,
        "Whether who may publish to `$CONTROL/midge/v1` gets answers about the server and rights there, and may disconnect clients.",
        |s, v| switch(v).map(|v| s.control = v)
    ),
    setting!(
        "report",
        "true",
        SWITCH,
        "Whether the store, unless it is a directory, is told every two seconds how this broker is, for `midge status`.",
        |s, v| switch(v).map(|v| s.report = v)
    ),
    setting!(
        "push",
        "true",
        SWITCH,
        "Whether pushes that applications write into the store are passed on; it takes a further thread and connection.",
        |s, v| switch(v).map(|v| s.push = v)
    ),
    setting!(
        "push_queue",
        "1000",
        "a number from 1 to 100000",
        "Pushes that wait in memory; at the bound the others wait in the store.",
        |s, v| number(v, 1, 100_000).map(|v| s.push_settings.queue = v)
    ),
    setting!(
        "push_queue_bytes",
        "16777216",
        "a number from 1 to 1073741824",
        "Bytes of the pushes that wait in memory; at the bound no further batch of up to 256 is read.",
        |s, v| number(v, 1, 1 << 30).map(|v| s.push_settings.queue_bytes = v)
    ),
    setting!(
        "push_backlog",
        "1000000",
        "a number from 1 to 1000000000",
        "Pushes kept in the store for brokers that have not read them; at the bound the oldest are dropped, counted and logged.",
        |s, v| number(v, 1, 1_000_000_000).map(|v| s.push_settings.backlog = v)
    ),
    setting!(
        "push_absence",
        "7d",
        "a time from 1m to 366d",
        "How long the store keeps pushes for a broker that doesn't come back.",
        |s, v| between(v, Duration::from_secs(60), Duration::from_secs(366 * 86_400)).map(|v| s.push_settings.absence = v)
    ),
    setting!(
        "push_id_ttl",
        "24h",
        "a time from 1s to 30d",
        "How long the identifier of a push makes a second one void.",
        |s, v| between(v, Duration::from_secs(1), Duration::from_secs(30 * 86_400)).map(|v| s.push_settings.id_ttl = v)
    ),
    setting!(
        "push_dead_letters",
        "10000",
        "a number from 1 to 10000000",
        "Entries kept of those that were no pushes; at the bound the oldest are dropped.",
        |s, v| number(v, 1, 10_000_000).map(|v| s.push_settings.dead_letters = v)
    ),
    setting!(
        "presence",
        "true",
        SWITCH,
        "Whether the store, unless it is a directory, is told who is online, with events; it takes `report`, a further thread and a connection.",
        |s, v| switch(v).map(|v| s.presence = v)
    ),
    setting!(
        "presence_events",
        "100000",
        "a number from 1 to 100000000",
        "About how many events the store keeps: who came, who went, what was denied; beyond, the oldest are dropped.",
        |s, v| number(v, 1, 100_000_000).map(|v| s.presence_settings.bounds.events = v)
    ),
    setting!(
        "presence_seen",
        "30d",
        "a time from 0s to 366d; 0s switches it off",
        "How long the store keeps when a user was there last.",
        |s, v| between(v, Duration::ZERO, Duration::from_secs(366 * 86_400)).map(|v| s.presence_settings.bounds.seen = v)
    ),
    setting!(
        "offline_stream",
        "false",
        SWITCH,
        "Whether messages that Mosquitto keeps for clients that are away are copied into the store's stream, for a service that reaches these otherwise.",
        |s, v| switch(v).map(|v| s.presence_settings.missed = v)
    ),
    setting!(
        "offline_stream_kept",
        "100000",
        "a number from 1 to 100000000",
        "About how many of these messages the store keeps; beyond, the oldest are dropped.",
        |s, v| number(v, 1, 100_000_000).map(|v| s.presence_settings.bounds.missed = v)
    ),
    setting!(
        "offline_stream_rate",
        "1000",
        "a number from 1 to 100000",
        "How many of these messages are copied in a second at most; further ones are counted.",
        |s, v| number(v, 1, 100_000).map(|v| s.presence_settings.missed_rate = v)
    ),
    setting!(
        "offline_stream_payload",
        "4096",
        "a number from 0 to 262144",
        "Bytes of the longest payload that is copied; of a longer one the size is told.",
        |s, v| number(v, 0, 262_144).map(|v| s.presence_settings.missed_payload = v)
    ),
    setting!(
        "hot",
        "true",
        SWITCH,
        "Whether publishes are counted by topic and added up in the store; it takes a further thread and connection.",
        |s, v| switch(v).map(|v| s.hot = v)
    ),
    setting!(
        "hot_patterns",
        "none",
        "up to 64 topic filters between commas, none of which begins with $",
        "Filters under which topics are counted together, such as `chat/+/msg`; the first that matches takes a topic.",
        |s, v| {
            let patterns = RollUp::new(v.split(',').map(str::trim)).map_err(|error| error.to_string())?;
            s.hot_settings.roll_up = Arc::new(patterns);
            Ok(())
        }
    ),
    setting!(
        "hot_list",
        "20",
        "a number from 0 to 1000; 0 publishes none",
        "How many topics each list below `$SYS/midge/hot/` has.",
        |s, v| number(v, 0, 1_000).map(|v| s.hot_settings.list = v)
    ),
    setting!("hot_interval", "10s", "a time from 1s to 1h", "How often these lists are published.", |s, v| between(
        v,
        Duration::from_secs(1),
        Duration::from_secs(3_600)
    )
    .map(|v| s.hot_settings.interval = v)),
    setting!(
        "metrics",
        "none",
        "none, or an IP address and a port, such as 127.0.0.1:9234",
        "Where Prometheus is answered, without a password.",
        |s, v| {
            s.metrics = if v == "none" { None } else { Some(v.parse().map_err(|_| String::new())?) };
            Ok(())
        }
    ),
    setting!("hash_threads", "half the cores, 1 to 8", "a number from 1 to 64", "Threads that hash passwords.", |s, v| number(
        v, 1, 64
    )
    .map(|v| s.service.hash_threads = v)),
    setting!(
        "hash_queue",
        "1000",
        "a number from 1 to 1000000",
        "Logins that may wait to be hashed; a further one is refused as busy.",
        |s, v| number(v, 1, 1_000_000).map(|v| s.service.hash_queue = v)
    ),
    setting!(
        "login_queue",
        "20000",
        "a number from 1 to 1000000",
        "Logins that may wait for the store; a further one is refused as busy.",
        |s, v| number(v, 1, 1_000_000).map(|v| s.service.login_queue = v)
    ),
    setting!(
        "log_level",
        "info",
        "error, warn, info or debug",
        "From which level on the plugin writes to the broker's log.",
        |s, v| {
            use log::LevelFilter::{Debug, Error, Info, Warn};
            one_of(v, &[("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug)]).map(|v| s.log_level = v)
        },
        reloads
    ),
    #[cfg(feature = "fault-injection")]
    setting!(
        "fault_panic_at",
        "none",
        "a place",
        "Raises a panic there; for tests.",
        |s, v| text(v).map(|v| s.fault_panic_at = Some(v)),
        reloads
    ),
];
