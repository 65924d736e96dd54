//! Who gets in, as it is set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::gate::{Anonymous, GateSettings, LoginSettings, StoreDown};
use midge_core::jwt::{JwtKeys, JwtSettings};
use midge_core::password::HashPolicy;
use midge_store::service::ServiceSettings;

/// Who gets in without a username.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// Whoever can't come from another machine, as long as there is no way to log in; nobody afterwards.
    #[default]
    Auto,
    /// Nobody.
    Deny,
    /// Anybody.
    Allow,
}

/// Who gets in.
#[derive(Clone, Debug)]
pub struct Users {
    /// Who gets in without a username; [`super::Config::anonymous`] says it of one listener.
    pub anonymous: AnonymousPolicy,
    /// Which field of a client's certificate is its username.
    pub identity: Option<CertificateField>,
    /// What is fixed for the life of a gate.
    pub gate: GateSettings,
    /// The bounds of the service behind it.
    pub service: ServiceSettings,
    /// Automatic subscriptions of one client, at most.
    pub max_automatic: usize,
    pub(super) store_down_deny: bool,
    pub(super) store_max_age: Duration,
    pub(super) hide_unknown: bool,
    pub(super) rehash: Option<HashPolicy>,
    pub(super) tokens: Tokens,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            anonymous: AnonymousPolicy::Auto,
            identity: None,
            gate: GateSettings::default(),
            service: ServiceSettings::default(),
            max_automatic: 1_000,
            store_down_deny: false,
            store_max_age: Duration::from_secs(24 * 3600),
            hide_unknown: true,
            rehash: None,
            tokens: Tokens::default(),
        }
    }
}

/// With which keys tokens are checked, and what they must say.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) secret_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) checks: JwtSettings,
    pub(super) leeway: Duration,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { secret_file: None, key_file: None, jwks_file: None, checks: JwtSettings::default(), leeway: Duration::from_secs(30) }
    }
}

/// What is in a file with keys of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyFile {
    Secret,
    Pem,
    Jwks,
}

impl KeyFile {
    /// Reads the keys.
    pub(super) fn read(self, path: &Path) -> Result<JwtKeys, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        match self {
            Self::Secret => JwtKeys::from_hs256_secret(text.trim_end_matches(['\r', '\n']).as_bytes()),
            Self::Pem => JwtKeys::from_pem(&text),
            Self::Jwks => JwtKeys::from_jwks(&text),
        }
        .map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Users {
    /// Returns what decides about logins, with `anonymous` as decided for them; reads the files with keys of tokens.
    ///
    /// # Errors
    /// A file can't be read, or its keys can't be used together; the text names it.
    pub fn login(&self, anonymous: Anonymous) -> Result<LoginSettings, String> {
        Ok(LoginSettings {
            anonymous,
            store_down: if self.store_down_deny { StoreDown::Deny } else { StoreDown::LastKnownGood(self.store_max_age) },
            jwt: self.tokens.keys()?.map(|keys| (keys, self.tokens.checks.clone())),
            jwt_leeway: self.tokens.leeway,
            hide_unknown: self.hide_unknown,
            rehash: self.rehash.clone(),
        })
    }

    /// Returns whether clients may show tokens.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        self.tokens.files().next().is_some()
    }
}

impl Tokens {
    fn files(&self) -> impl Iterator<Item = (KeyFile, &Path)> {
        let all = [(KeyFile::Secret, &self.secret_file), (KeyFile::Pem, &self.key_file), (KeyFile::Jwks, &self.jwks_file)];
        all.into_iter().filter_map(|(kind, path)| path.as_deref().map(|path| (kind, path)))
    }

    fn keys(&self) -> Result<Option<JwtKeys>, String> {
        self.files().try_fold(None, |all: Option<JwtKeys>, (kind, path)| {
            let keys = kind.read(path)?;
            match all {
                Some(others) => others.with(keys).map(Some).map_err(|error| format!("{}: {error}", path.display())),
                None => Ok(Some(keys)),
            }
        })
    }
}
