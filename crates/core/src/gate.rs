//! Lets clients in, or says why not.
//!
//! [`Gate::admit`] answers from memory; where memory doesn't do, its answer says what is missing
//! ([`Admission::Load`], [`Admission::Hash`]), the caller has that done where it disturbs nobody, and asks again.
//! Every refusal is a value with its reason. Nothing here waits, reads a clock or fails open.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::credentials::Credentials;
use crate::denials::Denials;
use crate::directory::Directory;
use crate::key::ShieldTarget;
use crate::name::{ClientId, Username};
use crate::password::{HashPolicy, StoredPassword};
use crate::scram::{FakeKey, ScramError};
use crate::shield::Shield;
use crate::time::Now;

mod admission;
mod client_policy;
mod effect;
mod hello;
mod login;
mod refusal;
mod scram;
mod settings;

pub use admission::{Admission, HashJob, Hashed};
pub use client_policy::ClientPolicy;
pub use effect::{Effect, MAX_EFFECTS};
pub use hello::{Asked, Hello, Proof, Stranger};
pub use refusal::Refusal;
pub use scram::ScramStep;
pub use settings::{Anonymous, GateSettings, LoginSettings, StoreDown};

use admission::{Against, Outcome};
use effect::Effects;
use hello::Claim;
use login::{Login, Verified};

/// Decides about clients.
#[derive(Debug)]
pub struct Gate {
    login: ArcSwap<LoginSettings>,
    directory: Directory,
    shield: Arc<Shield>,
    credentials: Arc<Credentials>,
    denials: Denials,
    effects: Effects,
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
            shield: Arc::new(Shield::new(settings.shield)),
            credentials: Arc::new(Credentials::new(settings.credentials).map_err(ScramError::Random)?),
            denials: Denials::new(settings.denials),
            effects: Effects::default(),
        })
    }

    /// Replaces the settings of logins.
    pub fn reload(&self, login: LoginSettings) {
        self.login.store(Arc::new(login));
    }

    /// Returns why the settings, as they are now, refuse what `hello` shows; the store has no part in it.
    #[must_use]
    pub fn refusal_by_settings(&self, hello: &Hello, now: Now) -> Option<Refusal> {
        Claim::of(hello, &self.login.load(), now).err()
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

    /// Returns what was denied. Refused logins are noted by the gate, topics by its callers.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// Returns what waits to be written to the store.
    #[must_use]
    pub fn take_effects(&self) -> Vec<Effect> {
        self.effects.take()
    }

    /// Decides about `hello` from what is in memory.
    #[must_use]
    pub fn admit(&self, hello: Hello, asked: Asked, now: Now) -> Admission {
        self.decide(hello, asked, None, now)
    }

    /// Decides about the client whose password has been hashed.
    ///
    /// Account, bans and stored password may have changed meanwhile, so all is judged again but for the hash.
    #[must_use]
    pub fn conclude(&self, hashed: Hashed, now: Now) -> Admission {
        let Hashed { job, outcome } = hashed;
        let text = match job.against {
            Against::Stored(text, _) => Some(text),
            Against::Nobody(_) => None,
        };
        match (outcome, text) {
            (Outcome::Right { rehashed }, Some(text)) => self.decide(job.hello, job.asked, Some(Verified { text, rehashed }), now),
            (Outcome::BackOff(wait), _) => self.refuse(&job.hello, Refusal::BackOff(wait), now),
            (_, text) => {
                let account = job.slot.account();
                let password = account.record().and_then(|record| record.password.as_ref());
                if text.is_some() && password.is_some() && password != text.as_ref() {
                    // Wrong against what stood in the store before, which says nothing about what stands there now.
                    return self.decide(job.hello, job.asked, None, now);
                }
                self.failed(self.shield.targets(job.hello.user.as_ref(), job.hello.address), now);
                let wrong = if password.is_none() { Refusal::NoPassword } else { Refusal::BadPassword };
                self.refuse(&job.hello, Refusal::of_standing(account.standing()).unwrap_or(wrong), now)
            }
        }
    }

    /// Returns the ban that keeps a client out, if one does.
    #[must_use]
    pub fn banned(&self, user: Option<&Username>, client: &ClientId, address: Option<IpAddr>, now: Now) -> Option<Refusal> {
        let bans = self.directory.bans();
        let (target, ban) = bans.find(user, client, address, now)?;
        Some(Refusal::Banned { target, reason: ban.reason.clone() })
    }

    fn decide(&self, hello: Hello, asked: Asked, verified: Option<Verified>, now: Now) -> Admission {
        let settings = self.login.load();
        let (user, client, address) = (hello.user.clone(), hello.client.clone(), hello.address);
        let admission = Login { gate: self, settings: &settings, asked, now, verified }.decide(hello);
        if let Admission::Refused(refusal) = &admission {
            self.denials.login(user.as_ref(), Some(&client), address, refusal, now);
        }
        admission
    }

    fn refuse(&self, hello: &Hello, refusal: Refusal, now: Now) -> Admission {
        self.denials.login(hello.user.as_ref(), Some(&hello.client), hello.address, &refusal, now);
        Admission::Refused(refusal)
    }

    fn failed(&self, targets: Vec<ShieldTarget>, now: Now) {
        self.shield.failed(&targets, now);
        if !targets.is_empty() {
            self.effects.push(Effect::Failed(targets));
        }
    }
}
