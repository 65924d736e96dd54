//! Lets clients in, or says why not.
//!
//! [`Gate::admit`] answers from memory; where memory doesn't do, its answer says what is missing
//! ([`Admission::Load`], [`Admission::Hash`]), the caller has that done where it disturbs nobody, and asks again.
//! Every refusal is a value with its reason. Nothing here waits, reads a clock or fails open.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use zeroize::Zeroizing;

use crate::access::Access;
use crate::credentials::{CredentialSettings, Credentials};
use crate::directory::{Account, Directory, DirectorySettings, Identity, Slot, Standing};
use crate::jwt::{JwtKeys, JwtSettings, looks_like_jwt};
use crate::key::{BanTarget, ShieldTarget};
use crate::name::{ClientId, GroupName, Username};
use crate::password::{HashPolicy, StoredPassword};
use crate::policy::{Decision, Who};
use crate::scram::{FakeKey, ScramCredential, ScramError};
use crate::shield::{Shield, ShieldSettings};
use crate::time::Now;
use crate::topic::{TopicFilter, TopicName};

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
}

/// How a client shows who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It doesn't.
    None,
    /// By a password, or by a token in its place.
    Password(Zeroizing<Vec<u8>>),
    /// Somebody trusted has checked it: a TLS certificate, an enhanced authentication, or the host itself.
    Verified,
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
}

/// What the caller has done since it asked for the same client before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: the first call.
    Memory,
    /// It has read what [`Admission::Load`] named and applied it.
    Store,
    /// It has tried to, and the store can't be asked, or has lost what it held.
    StoreAway,
}

/// The answer to a client that asks to be let in.
#[derive(Debug)]
pub enum Admission {
    /// It is let in, with this policy.
    Admitted(ClientPolicy),
    /// It is not.
    Refused(Refusal),
    /// The account has to be read first: see [`Directory::wants`].
    Load(Arc<Slot>),
    /// The password has to be hashed first.
    Hash(Box<HashJob>),
}

/// Why a client is not let in, or has to leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The name or client identifier can't be one.
    #[error("{0}")]
    BadName(String),
    /// A ban holds.
    #[error("banned by {target}: {reason}")]
    Banned {
        /// What is banned.
        target: BanTarget,
        /// What the operator wrote.
        reason: String,
    },
    /// Clients without a username are not let in.
    #[error("no username, and anonymous clients are not allowed")]
    Anonymous,
    /// The store has no such user.
    #[error("no such user")]
    NoSuchUser,
    /// The user is disabled.
    #[error("the user is disabled")]
    Disabled,
    /// The store's key can't be read as a user.
    #[error("the user's key can't be read")]
    Unreadable,
    /// The user has no password that could be checked, or the client shows none.
    #[error("no password")]
    NoPassword,
    /// The password is wrong.
    #[error("wrong password")]
    BadPassword,
    /// The token doesn't hold.
    #[error("token: {0}")]
    Token(String),
    /// The token's time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The user may not have this client identifier.
    #[error("the client identifier is not the user's")]
    ClientId,
    /// Too many failed logins; it may be tried again after this time.
    #[error("too many failed logins: next attempt in {} s", .0.as_secs() + 1)]
    BackOff(Duration),
    /// Too many logins wait already.
    #[error("busy: too many logins are waiting")]
    Busy,
    /// The store can't be asked, and the account isn't known.
    #[error("the store can't be reached, and nothing is known of this user")]
    StoreAway,
    /// The store can't be asked, and what is known is too old.
    #[error("the store can't be reached, and what is known of this user is too old")]
    TooOld,
    /// Something went wrong in the server itself.
    #[error("internal error")]
    Internal,
}

/// What a decision wants written to the store; losing it loses no promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A failed login, to be counted for all nodes.
    Failed(Vec<ShieldTarget>),
    /// A right password after failures: the user's count ends.
    Forgiven(ShieldTarget),
    /// A stored password to be replaced by a stronger encoding, unless it has changed meanwhile.
    Rehash {
        /// Whose it is.
        user: Username,
        /// What stood in the store.
        old: Box<str>,
        /// What shall stand there.
        new: String,
    },
}

/// How many effects wait for the store at most; further ones are dropped, which shares fewer counts between nodes.
const MAX_EFFECTS: usize = 4096;

/// A password that has to be hashed; [`HashJob::run`] is the one costly step of a login.
#[derive(Debug)]
pub struct HashJob {
    hello: Hello,
    slot: Arc<Slot>,
    /// `Err` hashes for nothing, so that an unknown user takes as long as a known one.
    stored: Result<(Box<str>, StoredPassword), Arc<StoredPassword>>,
    asked: Asked,
    rehash: Option<HashPolicy>,
}

/// What came of a [`HashJob`].
#[derive(Debug)]
pub struct Hashed {
    job: HashJob,
    matched: bool,
    rehashed: Option<String>,
}

impl HashJob {
    /// Returns the client that waits for it.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Hashes: takes milliseconds to seconds of one core, as the stored encoding says.
    #[must_use]
    pub fn run(self) -> Hashed {
        let Proof::Password(password) = &self.hello.proof else {
            return Hashed { job: self, matched: false, rehashed: None };
        };
        let matched = match &self.stored {
            Ok((_, stored)) => stored.verify(password),
            Err(dummy) => {
                std::hint::black_box(dummy.verify(password));
                false
            }
        };
        let upgrade = self
            .rehash
            .as_ref()
            .filter(|policy| matched && self.stored.as_ref().is_ok_and(|(_, stored)| stored.needs_rehash(policy)));
        let rehashed = upgrade.and_then(|policy| policy.hash(password).ok());
        Hashed { job: self, matched, rehashed }
    }
}

/// Decides about clients.
#[derive(Debug)]
pub struct Gate {
    login: ArcSwap<LoginSettings>,
    directory: Directory,
    shield: Shield,
    credentials: Credentials,
    effects: Mutex<Vec<Effect>>,
    dummy: Arc<StoredPassword>,
    fake: FakeKey,
}

impl Gate {
    /// Returns a gate that knows nobody yet.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn new(settings: GateSettings, login: LoginSettings) -> Result<Self, ScramError> {
        Ok(Self {
            dummy: Arc::new(HashPolicy::default().dummy()),
            fake: FakeKey::generate()?,
            login: ArcSwap::from_pointee(login),
            directory: Directory::new(settings.directory),
            shield: Shield::new(settings.shield),
            credentials: Credentials::new(settings.credentials).map_err(ScramError::Random)?,
            effects: Mutex::default(),
        })
    }

    /// Replaces the settings of logins.
    pub fn reload(&self, login: LoginSettings) {
        self.login.store(Arc::new(login));
    }

    /// Returns what to do while the store can't be asked.
    #[must_use]
    pub fn store_down(&self) -> StoreDown {
        self.login.load().store_down
    }

    /// Returns who gets in without a username.
    #[must_use]
    pub fn anonymous(&self) -> Anonymous {
        self.login.load().anonymous
    }

    /// Returns all that is known.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the counts of failed logins.
    #[must_use]
    pub fn shield(&self) -> &Shield {
        &self.shield
    }

    /// Returns what waits to be written to the store.
    #[must_use]
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.effects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides about `hello` from what is in memory.
    #[must_use]
    pub fn admit(&self, hello: Hello, asked: Asked, now: Now) -> Admission {
        if let Some(refusal) = self.banned(hello.user.as_ref(), &hello.client, hello.address, now) {
            return Admission::Refused(refusal);
        }
        let settings = self.login.load();
        match self.identify(&hello, &settings, now) {
            Ok(claim) => self.admit_known(hello, &claim, asked, &settings, now),
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// Decides about the client whose password has been hashed.
    #[must_use]
    pub fn conclude(&self, hashed: Hashed, now: Now) -> Admission {
        let Hashed { job, matched, rehashed } = hashed;
        let targets = self.shield.targets(job.hello.user.as_ref(), job.hello.address);
        let Some((text, _)) = job.stored.ok().filter(|_| matched) else {
            let account = job.slot.account();
            let passwordless = account.record().is_some_and(|record| record.password.is_none());
            let wrong = if passwordless { Refusal::NoPassword } else { Refusal::BadPassword };
            self.failed(targets, now);
            return Admission::Refused(refusal_of(account.standing()).unwrap_or(wrong));
        };
        let (Some(user), Proof::Password(password)) = (&job.hello.user, &job.hello.proof) else {
            return Admission::Refused(Refusal::Internal);
        };
        self.credentials.remember(self.credentials.digest(user.as_str(), &text, password), now);
        if self.shield.forgive(user) {
            self.effect(Effect::Forgiven(ShieldTarget::User(user.clone())));
        }
        if let Some(new) = rehashed {
            self.credentials.remember(self.credentials.digest(user.as_str(), &new, password), now);
            self.effect(Effect::Rehash { user: user.clone(), old: text, new });
        }
        // Asked again from the start: account, bans and password may have changed while the hash was running.
        self.admit(job.hello, job.asked, now)
    }

    /// Returns what SCRAM-SHA-256 needs of `user`, or the slot that has to be read first.
    ///
    /// # Errors
    /// The store can't be asked and nothing usable is known, or the user has to wait after failures.
    pub fn scram(&self, user: &Username, address: Option<IpAddr>, asked: Asked, now: Now) -> Result<ScramStep, Refusal> {
        let slot = self.directory.slot(&Identity::user(user), now);
        let account = slot.account();
        match self.usable(&account, asked, &self.login.load(), now) {
            Usable::Yes => {}
            Usable::Ask => return Ok(ScramStep::Load(slot.clone())),
            Usable::No(refusal) => return Err(refusal),
        }
        if let Some(wait) = self.shield.backing_off(&self.shield.targets(Some(user), address), now) {
            return Err(Refusal::BackOff(wait));
        }
        let record = account.record().filter(|_| account.standing() == Standing::Active);
        let credential = record.and_then(|record| record.scram.clone());
        let iterations = ScramCredential::DEFAULT_ITERATIONS;
        Ok(ScramStep::Credential(credential.unwrap_or_else(|| ScramCredential::fake(user.as_str(), &self.fake, iterations))))
    }

    /// Counts a failed login that was checked elsewhere, such as a SCRAM exchange.
    pub fn failed_login(&self, user: Option<&Username>, address: Option<IpAddr>, now: Now) {
        self.failed(self.shield.targets(user, address), now);
    }

    /// Returns the ban that keeps a client out, if one does.
    #[must_use]
    pub fn banned(&self, user: Option<&Username>, client: &ClientId, address: Option<IpAddr>, now: Now) -> Option<Refusal> {
        let bans = self.directory.bans();
        let (target, ban) = bans.find(user, client, address, now)?;
        Some(Refusal::Banned { target, reason: ban.reason.clone() })
    }

    fn identify(&self, hello: &Hello, settings: &LoginSettings, now: Now) -> Result<Claim, Refusal> {
        if let (Some((keys, required)), Proof::Password(password)) = (&settings.jwt, &hello.proof)
            && looks_like_jwt(password)
        {
            return identify_by_token(keys, required, password, hello, settings.jwt_leeway, now);
        }
        match &hello.user {
            Some(user) => {
                Ok(Claim { identity: Identity::user(user), expires_unix: None, proven: matches!(hello.proof, Proof::Verified) })
            }
            None if settings.anonymous == Anonymous::Allow => {
                Ok(Claim { identity: Identity::ANONYMOUS, expires_unix: None, proven: true })
            }
            None => Err(Refusal::Anonymous),
        }
    }

    fn admit_known(&self, hello: Hello, claim: &Claim, asked: Asked, settings: &LoginSettings, now: Now) -> Admission {
        let slot = self.directory.slot(&claim.identity, now);
        let account = slot.account();
        match self.usable(&account, asked, settings, now) {
            Usable::Yes => {}
            Usable::Ask => return Admission::Load(slot.clone()),
            Usable::No(refusal) => return Admission::Refused(refusal),
        }
        let standing = refusal_of(account.standing());
        if claim.proven {
            return match standing.map_or_else(|| allowed_client(&hello, &account), Err) {
                Ok(()) => Admission::Admitted(ClientPolicy::new(slot.clone(), claim, hello)),
                Err(refusal) => Admission::Refused(refusal),
            };
        }
        self.admit_by_password(hello, claim, asked, settings, &slot, &account, now)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of admit, split off for its length")]
    fn admit_by_password(
        &self,
        hello: Hello,
        claim: &Claim,
        asked: Asked,
        settings: &LoginSettings,
        slot: &Arc<Slot>,
        account: &Account,
        now: Now,
    ) -> Admission {
        let Proof::Password(password) = &hello.proof else {
            return Admission::Refused(Refusal::NoPassword);
        };
        let standing = refusal_of(account.standing());
        let stored = account.record().and_then(|record| record.password.as_ref()).filter(|_| standing.is_none());
        if let Some((text, _)) = stored
            && self
                .credentials
                .knows(&self.credentials.digest(hello.user.as_ref().map_or("", Username::as_str), text, password), now)
        {
            return match allowed_client(&hello, account) {
                Ok(()) => Admission::Admitted(ClientPolicy::new(slot.clone(), claim, hello)),
                Err(refusal) => Admission::Refused(refusal),
            };
        }
        let targets = self.shield.targets(hello.user.as_ref(), hello.address);
        if let Some(wait) = self.shield.backing_off(&targets, now) {
            return Admission::Refused(Refusal::BackOff(wait));
        }
        if stored.is_none() && !settings.hide_unknown {
            self.failed(targets, now);
            return Admission::Refused(standing.unwrap_or(Refusal::NoPassword));
        }
        let stored = stored.cloned().ok_or_else(|| self.dummy.clone());
        Admission::Hash(Box::new(HashJob { slot: slot.clone(), stored, asked, rehash: settings.rehash.clone(), hello }))
    }

    fn usable(&self, account: &Account, asked: Asked, settings: &LoginSettings, now: Now) -> Usable {
        if self.directory.is_fresh(account) {
            return Usable::Yes;
        }
        match (asked, settings.store_down) {
            (Asked::Memory, _) => Usable::Ask,
            // Read a moment ago: newer than anything that the next announcement could say about it.
            (Asked::Store, _) if account.standing() != Standing::Unknown && self.directory.age(account, now).is_some() => {
                Usable::Yes
            }
            (_, StoreDown::Deny) => Usable::No(Refusal::StoreAway),
            (_, StoreDown::LastKnownGood(longest)) => match self.directory.age(account, now) {
                Some(age) if age <= longest && account.standing() != Standing::Missing => Usable::Yes,
                Some(_) if account.standing() != Standing::Missing => Usable::No(Refusal::TooOld),
                _ => Usable::No(Refusal::StoreAway),
            },
        }
    }

    fn failed(&self, targets: Vec<ShieldTarget>, now: Now) {
        self.shield.failed(&targets, now);
        if !targets.is_empty() {
            self.effect(Effect::Failed(targets));
        }
    }

    fn effect(&self, effect: Effect) {
        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        if effects.len() < MAX_EFFECTS {
            effects.push(effect);
        }
    }
}

/// The next step of a SCRAM exchange.
#[derive(Debug)]
pub enum ScramStep {
    /// The account has to be read first.
    Load(Arc<Slot>),
    /// The credential; for a user without one a made-up one, with which the exchange goes on and fails at its end.
    Credential(ScramCredential),
}

enum Usable {
    Yes,
    Ask,
    No(Refusal),
}

/// Who a client says it is, and whether that is proven already.
#[derive(Debug)]
struct Claim {
    identity: Identity,
    expires_unix: Option<u64>,
    proven: bool,
}

fn identify_by_token(
    keys: &JwtKeys,
    required: &JwtSettings,
    token: &[u8],
    hello: &Hello,
    leeway: Duration,
    now: Now,
) -> Result<Claim, Refusal> {
    let token = std::str::from_utf8(token).map_err(|_| Refusal::Token("not UTF-8".to_owned()))?;
    let claims = keys.verify(token, required, now.unix, leeway).map_err(|error| Refusal::Token(error.to_string()))?;
    let user: Username = claims.subject.parse().map_err(|error| Refusal::Token(format!("its subject is no username: {error}")))?;
    if hello.user.as_ref().is_some_and(|given| *given != user) {
        return Err(Refusal::Token("its subject is not the username of the client".to_owned()));
    }
    let groups: Result<Vec<GroupName>, _> = claims.groups.iter().map(|group| group.parse()).collect();
    let groups = groups.map_err(|error| Refusal::Token(format!("one of its groups: {error}")))?;
    let identity = Identity { user: Some(user), token: Some(groups.into()) };
    let expires_unix = claims.expires_unix.map(|at| at.saturating_add(leeway.as_secs()));
    Ok(Claim { identity, expires_unix, proven: true })
}

fn refusal_of(standing: Standing) -> Option<Refusal> {
    match standing {
        Standing::Active => None,
        Standing::Disabled => Some(Refusal::Disabled),
        Standing::Missing => Some(Refusal::NoSuchUser),
        Standing::Unreadable => Some(Refusal::Unreadable),
        Standing::Unknown => Some(Refusal::StoreAway),
    }
}

fn allowed_client(hello: &Hello, account: &Account) -> Result<(), Refusal> {
    match (account.record().and_then(|record| record.client_id.as_ref()), &hello.user) {
        (Some(pattern), Some(user)) if !pattern.matches(user, &hello.client) => Err(Refusal::ClientId),
        _ => Ok(()),
    }
}

/// What one connected client may do, always as the store says now.
#[derive(Debug)]
pub struct ClientPolicy {
    slot: Arc<Slot>,
    client: ClientId,
    address: Option<IpAddr>,
    expires_unix: Option<u64>,
}

impl ClientPolicy {
    fn new(slot: Arc<Slot>, claim: &Claim, hello: Hello) -> Self {
        slot.enter();
        Self { slot, client: hello.client, address: hello.address, expires_unix: claim.expires_unix }
    }

    /// Returns the username; `None` for an anonymous client.
    #[must_use]
    pub fn user(&self) -> Option<&Username> {
        self.slot.identity().user.as_ref()
    }

    /// Returns the client identifier.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// Returns the place of the account, by which [`crate::directory::Change`] names it.
    #[must_use]
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Returns when the client's token ends, in seconds since 1970.
    #[must_use]
    pub fn expires_unix(&self) -> Option<u64> {
        self.expires_unix
    }

    /// Returns the account as it is now.
    #[must_use]
    pub fn account(&self) -> Guard<Arc<Account>> {
        self.slot.account()
    }

    /// Decides whether the client may publish to, or be delivered a message of, `topic`. Allocates nothing, waits for nobody.
    pub fn may(&self, access: Access, topic: TopicName<'_>) -> Decision {
        self.slot.account().policy().may(access, topic, &self.who())
    }

    /// Decides whether the client may hold a subscription to `filter`.
    pub fn may_subscribe(&self, filter: TopicFilter<'_>) -> Decision {
        self.slot.account().policy().may_subscribe(filter, &self.who())
    }

    /// Returns why the client has to leave, if it has to: the account ended, a ban came, the token is over.
    #[must_use]
    pub fn revoked(&self, gate: &Gate, now: Now) -> Option<Refusal> {
        if self.expires_unix.is_some_and(|end| now.unix >= end) {
            return Some(Refusal::TokenExpired);
        }
        let account = self.slot.account();
        let standing = refusal_of(account.standing()).filter(|_| account.standing() != Standing::Unknown);
        let pattern = account.record().and_then(|record| record.client_id.as_ref());
        let foreign = match (pattern, self.user()) {
            (Some(pattern), Some(user)) => !pattern.matches(user, &self.client),
            _ => false,
        };
        standing
            .or_else(|| foreign.then_some(Refusal::ClientId))
            .or_else(|| gate.banned(self.user(), &self.client, self.address, now))
    }

    fn who(&self) -> Who<'_> {
        Who { username: self.user().map(Username::as_str), client_id: self.client.as_str() }
    }
}

impl Drop for ClientPolicy {
    fn drop(&mut self) {
        self.slot.leave();
    }
}
