//! Whether a client is let in.

use midge_core::gate::{ClientPolicy, Refusal};
use midge_core::name::Username;
use midge_core::scram::MECHANISM;
use midge_mqtt::{Property, ReasonCode};
use midge_store::presence::Who;

use super::table::Guest;

/// Whether a client is let in.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// It is: [`super::LoopMind::let_in`] is next; [`super::LoopMind::proved`] for one that was let in before.
    Admitted(Admitted),
    /// It isn't; the reason code of CONNACK, or of DISCONNECT for a client that was let in before.
    Refused(ReasonCode),
    /// That isn't known yet: [`super::LoopMind::next_answer`] will say, unless the client is forgotten first.
    Later,
    /// The client has to answer this: the authentication data of AUTH, whose method is [`MECHANISM`].
    Challenge(Box<[u8]>),
}

/// A client that is let in.
#[derive(Debug)]
pub struct Admitted {
    pub(super) policy: ClientPolicy,
    pub(super) guest: Guest,
    /// What proves the server to the client, behind an exchange.
    pub(super) data: Option<Box<[u8]>>,
}

impl Admitted {
    /// Returns the username that the client has proved.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.policy.user().map(Username::as_str)
    }

    /// Returns whose client it is, and which.
    #[must_use]
    pub fn who(&self) -> Who {
        Who { user: self.policy.user().cloned(), client: self.policy.client().clone() }
    }

    /// Returns the authentication data that ends an exchange; `None` where there was none.
    #[must_use]
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }
}

/// Returns the properties that say in CONNACK how an exchange ended [MQTT-4.12.0-5].
pub(super) fn properties(data: Option<&[u8]>) -> Vec<Property<'_>> {
    let both = |data| [Property::AuthenticationMethod(MECHANISM), Property::AuthenticationData(data)];
    data.map(both).into_iter().flatten().collect()
}

/// Returns the reason code of CONNACK, from which nobody learns which users there are.
pub(super) fn of_login(refusal: &Refusal) -> ReasonCode {
    match refusal {
        Refusal::NoSuchUser
        | Refusal::Disabled
        | Refusal::Unreadable
        | Refusal::NoPassword
        | Refusal::BadPassword
        | Refusal::BadName(_)
        | Refusal::Token(_)
        | Refusal::TokenExpired => ReasonCode::BadUserNameOrPassword,
        Refusal::Banned { .. } => ReasonCode::Banned,
        Refusal::ClientId => ReasonCode::ClientIdentifierNotValid,
        Refusal::BackOff(_) | Refusal::Busy => ReasonCode::ServerBusy,
        Refusal::StoreAway | Refusal::TooOld => ReasonCode::ServerUnavailable,
        Refusal::Internal => ReasonCode::UnspecifiedError,
        _ => ReasonCode::NotAuthorized,
    }
}

/// Returns the reason code of DISCONNECT.
pub(super) fn of_end(refusal: &Refusal) -> ReasonCode {
    match refusal {
        Refusal::TokenExpired => ReasonCode::MaximumConnectTime,
        Refusal::Banned { .. } => ReasonCode::AdministrativeAction,
        Refusal::Busy | Refusal::BackOff(_) => ReasonCode::ServerBusy,
        Refusal::Internal => ReasonCode::UnspecifiedError,
        _ => ReasonCode::NotAuthorized,
    }
}
