//! Settings of who gets in: the plugin's, under the same names.

use std::path::PathBuf;
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::password::HashPolicy;
use midge_core::setting::DURATION;

use super::super::section::Setting;
use super::super::users::{AnonymousPolicy, KeyFile};
use super::super::value::{Read, Value};
use super::{Draft, SWITCH};

/// The fields of a certificate that can be a username.
pub(super) const IDENTITIES: &str = "off, cn, dns, email or uri";
pub(super) const IDENTITY_FIELDS: [(&str, Option<CertificateField>); 5] = [
    ("off", None),
    ("cn", Some(CertificateField::CommonName)),
    ("dns", Some(CertificateField::SanDns)),
    ("email", Some(CertificateField::SanEmail)),
    ("uri", Some(CertificateField::SanUri)),
];

const DAY: u64 = 86_400;

pub(super) const USERS: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "anonymous",
        "auto",
        "deny, allow or auto",
        "Whether clients without a username get in, with everyone's rules and those of the group anonymous; \
         auto lets them in from this machine as long as there is no user, token key or client certificate to log in with. \
         As long as there is nothing to log in with and no rule for them, they may do everything but publish below $SYS.",
        |s, v| {
            use AnonymousPolicy::{Allow, Auto, Deny};
            v.one_of(&[("deny", Deny), ("allow", Allow), ("auto", Auto)]).map(|v| s.users.anonymous = v)
        },
    )
    .reloads(),
    Setting::<Draft>::new(
        "store_down",
        "last-known-good",
        "last-known-good or deny",
        "Who may log in while the store can't be asked: users that are known, or nobody.",
        |s, v| v.one_of(&[("last-known-good", false), ("deny", true)]).map(|v| s.users.store_down_deny = v),
    )
    .reloads(),
    Setting::<Draft>::new(
        "store_max_age",
        "24h",
        "a time from 1s to 366d",
        "How long a user counts as known without the store's word.",
        |s, v| v.duration(Duration::from_secs(1), Duration::from_secs(366 * DAY)).map(|v| s.users.store_max_age = v),
    )
    .reloads(),
    Setting::<Draft>::new(
        "hide_unknown_users",
        "true",
        SWITCH,
        "Whether an unknown name costs as much hashing as a known one, so that time doesn't tell them apart.",
        |s, v| v.switch().map(|v| s.users.hide_unknown = v),
    )
    .reloads(),
    Setting::<Draft>::new(
        "rehash_on_login",
        "off",
        "off, argon2id or pbkdf2",
        "The encoding to which weaker stored passwords are upgraded when their user logs in.",
        |s, v| {
            s.users.rehash = match v.text {
                "off" | "false" => None,
                "argon2id" => Some(HashPolicy::default()),
                "pbkdf2" => Some(HashPolicy::mosquitto7(HashPolicy::MOSQUITTO7_ITERATIONS).map_err(|error| error.to_string())?),
                _ => return Err(String::new()),
            };
            Ok(())
        },
    )
    .reloads(),
    Setting::<Draft>::new(
        "tls_identity",
        "off",
        IDENTITIES,
        "Which field of a client's TLS certificate is its username, without a password; a listener may say another.",
        |s, v| v.one_of(&IDENTITY_FIELDS).map(|v| s.users.identity = v),
    )
    .reloads(),
];

pub(super) const TOKENS: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "jwt_secret_file",
        "none",
        "a readable file of at least 32 bytes",
        "A file with the secret of HS256 tokens.",
        |s, v| keys(v, KeyFile::Secret).map(|v| s.users.tokens.secret_file = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "jwt_key_file",
        "none",
        "a readable PEM file",
        "A file with the public key of RS256 or ES256 tokens.",
        |s, v| keys(v, KeyFile::Pem).map(|v| s.users.tokens.key_file = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "jwt_jwks_file",
        "none",
        "a readable JWKS file",
        "A file with several keys, told apart by their kid.",
        |s, v| keys(v, KeyFile::Jwks).map(|v| s.users.tokens.jwks_file = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new("jwt_issuer", "any", "a text", "The issuer (iss) that a token must name.", |s, v| {
        v.text().map(|v| s.users.tokens.checks.issuer = Some(v))
    })
    .in_words()
    .reloads(),
    Setting::<Draft>::new("jwt_audience", "any", "a text", "The audience (aud) that a token must name.", |s, v| {
        v.text().map(|v| s.users.tokens.checks.audience = Some(v))
    })
    .in_words()
    .reloads(),
    Setting::<Draft>::new("jwt_username_claim", "sub", "a text", "The claim with the username.", |s, v| {
        v.text().map(|v| s.users.tokens.checks.username_claim = v)
    })
    .reloads(),
    Setting::<Draft>::new("jwt_groups_claim", "groups", "a text", "The claim with the groups.", |s, v| {
        v.text().map(|v| s.users.tokens.checks.groups_claim = v)
    })
    .reloads(),
    Setting::<Draft>::new("jwt_require_expiry", "true", SWITCH, "Whether a token without an end (exp) is refused.", |s, v| {
        v.switch().map(|v| s.users.tokens.checks.require_expiry = v)
    })
    .reloads(),
    Setting::<Draft>::new(
        "jwt_leeway",
        "30s",
        "a time from 0s to 10m",
        "How far the clocks of token issuers may be apart from ours.",
        |s, v| v.duration(Duration::ZERO, Duration::from_secs(600)).map(|v| s.users.tokens.leeway = v),
    )
    .reloads(),
];

pub(super) const GUARD: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "shield_user_attempts",
        "10",
        "a number from 0 to 1000000; 0 switches it off",
        "Failed logins of one user before the first back-off.",
        |s, v| v.number(0, 1_000_000).map(|v| s.users.gate.shield.user_attempts = v),
    ),
    Setting::<Draft>::new(
        "shield_address_attempts",
        "50",
        "a number from 0 to 1000000; 0 switches it off",
        "Failed logins from one address before the first back-off.",
        |s, v| v.number(0, 1_000_000).map(|v| s.users.gate.shield.address_attempts = v),
    ),
    Setting::<Draft>::new("shield_first", "1s", DURATION, "The first back-off; it doubles with each further failure.", |s, v| {
        v.duration(Duration::from_millis(1), Duration::from_secs(DAY)).map(|v| s.users.gate.shield.first = v)
    }),
    Setting::<Draft>::new("shield_longest", "15m", DURATION, "The longest back-off.", |s, v| {
        v.duration(Duration::from_millis(1), Duration::from_secs(DAY)).map(|v| s.users.gate.shield.longest = v)
    }),
    Setting::<Draft>::new("shield_window", "15m", DURATION, "How long after the last failure they are forgotten.", |s, v| {
        v.duration(Duration::from_secs(1), Duration::from_secs(7 * DAY)).map(|v| s.users.gate.shield.window = v)
    }),
    Setting::<Draft>::new(
        "shield_entries",
        "65536",
        "a number from 64 to 10000000",
        "Users and addresses counted at a time; at the bound the one that failed longest ago is forgotten.",
        |s, v| v.number(64, 10_000_000).map(|v| s.users.gate.shield.entries = v),
    ),
    Setting::<Draft>::new(
        "credential_ttl",
        "1h",
        "a time from 0s to 7d; 0s switches it off",
        "How long a verified password spares the hashing at a reconnect.",
        |s, v| v.duration(Duration::ZERO, Duration::from_secs(7 * DAY)).map(|v| s.users.gate.credentials.time_to_live = v),
    ),
    Setting::<Draft>::new(
        "credential_entries",
        "200000",
        "a number from 0 to 10000000",
        "Verified passwords remembered; at the bound the older half is forgotten.",
        |s, v| v.number(0, 10_000_000).map(|v| s.users.gate.credentials.entries = v),
    ),
    Setting::<Draft>::new(
        "accounts",
        "200000",
        "a number from 100 to 10000000",
        "Users kept in memory beyond those of connected clients; at the bound the longest unused go.",
        |s, v| v.number(100, 10_000_000).map(|v| s.users.gate.directory.accounts = v),
    ),
    Setting::<Draft>::new(
        "unknown_accounts",
        "10000",
        "a number from 10 to 1000000",
        "Names the store doesn't have that are kept in memory; at the bound the longest unused go.",
        |s, v| v.number(10, 1_000_000).map(|v| s.users.gate.directory.unknown = v),
    ),
    Setting::<Draft>::new(
        "hash_threads",
        "half the cores, 1 to 8",
        "a number from 1 to 64",
        "Threads that hash passwords.",
        |s, v| v.number(1, 64).map(|v| s.users.service.hash_threads = v),
    )
    .in_words(),
    Setting::<Draft>::new(
        "hash_queue",
        "1000",
        "a number from 1 to 1000000",
        "Logins that may wait to be hashed; a further one is refused as busy.",
        |s, v| v.number(1, 1_000_000).map(|v| s.users.service.hash_queue = v),
    ),
    Setting::<Draft>::new(
        "login_queue",
        "20000",
        "a number from 1 to 1000000",
        "Logins that may wait for the store; a further one is refused as busy.",
        |s, v| v.number(1, 1_000_000).map(|v| s.users.service.login_queue = v),
    ),
];

/// Returns the path of a file whose keys can be used.
fn keys(value: Value<'_>, kind: KeyFile) -> Read<PathBuf> {
    let path = value.path()?;
    kind.read(&path).map(|_| path)
}
