//! The one table of settings.
//!
//! Options, the TOML file, the reference page and the messages about wrong values all come from it.

use std::str::FromStr;
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::gate::Anonymous;
use midge_core::password::HashPolicy;

use super::{Settings, UnknownUsers};

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
    let best = SETTINGS.iter().map(|setting| (distance(name, setting.name), setting.name)).min();
    match best {
        Some((distance, name)) if distance <= 3 => format!("did you mean {name}?"),
        _ => "docs/OPTIONS.md lists all".to_owned(),
    }
}

/// Levenshtein's distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (above, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Returns `url` with its password left out, for messages.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((credentials, rest)) => {
            let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
            format!("{scheme}://{user}:…@{rest}")
        }
        // What stands where a port should may be a password whose host is missing.
        None => match rest.split_once(':') {
            Some((host, port)) if !port.starts_with(|c: char| c.is_ascii_digit()) && !rest.starts_with('[') => {
                format!("{scheme}://{host}:…")
            }
            _ => url.to_owned(),
        },
    }
}

const DURATION: &str = "a time such as 250ms, 30s, 10m, 24h or 7d";
const SWITCH: &str = "true or false";

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| String::new())?;
    let seconds = |factor: u64| number.checked_mul(factor).filter(|seconds| *seconds <= 366 * 86_400).map(Duration::from_secs);
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)).filter(|time| *time <= Duration::from_secs(366 * 86_400)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
    .ok_or_else(String::new)
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = duration(text)?;
    if (least..=most).contains(&time) { Ok(time) } else { Err(String::new()) }
}

fn number<T: FromStr + PartialOrd>(text: &str, least: T, most: T) -> Result<T, String> {
    let number: T = text.parse().map_err(|_| String::new())?;
    if number >= least && number <= most { Ok(number) } else { Err(String::new()) }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(String::new()),
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("nothing is set".to_owned()) } else { Ok(text.to_owned()) }
}

fn one_of<T: Copy>(text: &str, allowed: &[(&str, T)]) -> Result<T, String> {
    allowed.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(String::new)
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
