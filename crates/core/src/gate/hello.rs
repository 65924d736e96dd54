//! A client that asks to be let in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Anonymous, LoginSettings, Refusal};
use crate::directory::Identity;
use crate::jwt::{JwtKeys, JwtSettings, looks_like_jwt};
use crate::name::{ClientId, GroupName, Username};
use crate::time::Now;

/// How a client shows who it is.
#[derive(Clone)]
pub enum Proof {
    /// It doesn't.
    None,
    /// By a password, or by a token in its place.
    Password(Zeroizing<Vec<u8>>),
    /// Somebody trusted has checked it: a TLS certificate, an enhanced authentication, or the host itself.
    Verified,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(..)",
            Self::Verified => "Verified",
        })
    }
}

/// What becomes of a name that no user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Who brings it is refused.
    Refused,
    /// Who brings it counts as one who brings none, whatever the password is: the account of nobody, `Identity::ANONYMOUS`, has to
    /// be read with that of the name.
    Nameless,
}

/// A client that asks to be let in.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The name it gives, or that its certificate gives it.
    pub user: Option<Username>,
    /// Its client identifier.
    pub client: ClientId,
    /// Where it connects from.
    pub address: Option<IpAddr>,
    /// How it shows who it is.
    pub proof: Proof,
    /// What becomes of it where no user has its name.
    pub stranger: Stranger,
}

impl Hello {
    /// Returns the same client as if it had brought no name.
    pub(super) fn without_name(self) -> Self {
        Self { user: None, proof: Proof::None, stranger: Stranger::Refused, ..self }
    }
}

/// What the caller has done since it asked for the same client before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: the first call.
    Memory,
    /// It has read what [`super::Admission::Load`] named and applied it.
    Store,
    /// It has tried to, and the store can't be asked, or has lost what it held.
    StoreAway,
}

/// Who a client says it is, and whether that is proven already.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) identity: Identity,
    pub(super) expires_unix: Option<u64>,
    pub(super) proven: bool,
}

impl Claim {
    /// Returns who `hello` says it is; a token is checked here.
    pub(super) fn of(hello: &Hello, settings: &LoginSettings, now: Now) -> Result<Self, Refusal> {
        if let (Some((keys, required)), Proof::Password(password)) = (&settings.jwt, &hello.proof)
            && looks_like_jwt(password)
        {
            return Self::of_token(password, hello.user.as_ref(), (keys, required), settings.jwt_leeway, now);
        }
        let (identity, proven) = match &hello.user {
            Some(user) => (Identity::user(user), matches!(hello.proof, Proof::Verified)),
            None if settings.anonymous == Anonymous::Allow => (Identity::ANONYMOUS, true),
            None => return Err(Refusal::Anonymous),
        };
        Ok(Self { identity, expires_unix: None, proven })
    }

    fn of_token(
        token: &[u8],
        given: Option<&Username>,
        (keys, required): (&JwtKeys, &JwtSettings),
        leeway: Duration,
        now: Now,
    ) -> Result<Self, Refusal> {
        let token = std::str::from_utf8(token).map_err(|_| Refusal::Token("not UTF-8".to_owned()))?;
        let claims = keys.verify(token, required, now.unix, leeway).map_err(|error| Refusal::Token(error.to_string()))?;
        let user: Username =
            claims.subject.parse().map_err(|error| Refusal::Token(format!("its subject is no username: {error}")))?;
        if given.is_some_and(|given| *given != user) {
            return Err(Refusal::Token("its subject is not the username of the client".to_owned()));
        }
        let groups: Result<Vec<GroupName>, _> = claims.groups.iter().map(|group| group.parse()).collect();
        let groups = groups.map_err(|error| Refusal::Token(format!("one of its groups: {error}")))?;
        let identity = Identity { user: Some(user), token: Some(groups.into()) };
        let expires_unix = claims.expires_unix.map(|at| at.saturating_add(leeway.as_secs()));
        Ok(Self { identity, expires_unix, proven: true })
    }
}
