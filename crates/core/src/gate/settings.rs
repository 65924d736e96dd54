//! What an operator sets about logins.

use std::time::Duration;

use crate::credentials::CredentialSettings;
use crate::denials::DenialSettings;
use crate::directory::DirectorySettings;
use crate::jwt::{JwtKeys, JwtSettings};
use crate::password::HashPolicy;
use crate::shield::ShieldSettings;

/// What to do while the store can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreDown {
    /// Known accounts go on working for at most this long after they were last confirmed.
    LastKnownGood(Duration),
    /// Nobody gets in; who is connected stays.
    Deny,
}

/// Who gets in without a username.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody.
    #[default]
    Deny,
    /// Anybody, with everyone's rules and those of the group `anonymous`.
    Allow,
}

/// What decides about logins; a reload replaces it whole.
#[derive(Debug)]
pub struct LoginSettings {
    /// Who gets in without a username.
    pub anonymous: Anonymous,
    /// What to do while the store can't be asked.
    pub store_down: StoreDown,
    /// Keys that tokens are checked with, and what a token must say; without them a token is an ordinary password.
    pub jwt: Option<(JwtKeys, JwtSettings)>,
    /// How far the clocks of token issuers may be apart from ours.
    pub jwt_leeway: Duration,
    /// Whether a login of an unknown user costs as much time as one of a known user.
    pub hide_unknown: bool,
    /// The encoding to which weaker stored passwords are upgraded at login; `None` leaves them.
    pub rehash: Option<HashPolicy>,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::default(),
            store_down: StoreDown::LastKnownGood(Duration::from_secs(24 * 3600)),
            jwt: None,
            jwt_leeway: Duration::from_secs(30),
            hide_unknown: true,
            rehash: None,
        }
    }
}

/// What is fixed for the life of a gate.
#[derive(Clone, Debug, Default)]
pub struct GateSettings {
    /// Bounds of the directory.
    pub directory: DirectorySettings,
    /// How guessing is slowed down.
    pub shield: ShieldSettings,
    /// How verified passwords are remembered.
    pub credentials: CredentialSettings,
    /// How many denials are kept and written.
    pub denials: DenialSettings,
}
