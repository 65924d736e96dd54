//! What an exchange of SCRAM-SHA-256 needs of the gate.

use std::net::IpAddr;
use std::sync::Arc;

use super::login::{Login, Usable};
use super::{Asked, Effect, Gate, Refusal};
use crate::directory::{Identity, Slot, Standing};
use crate::key::ShieldTarget;
use crate::name::Username;
use crate::scram::ScramCredential;
use crate::time::Now;

/// The next step of a SCRAM exchange.
#[derive(Debug)]
pub enum ScramStep {
    /// The account has to be read first.
    Load(Arc<Slot>),
    /// The credential; for a user without one a made-up one, with which the exchange goes on and fails at its end.
    Credential(ScramCredential),
}

impl Gate {
    /// Returns what SCRAM-SHA-256 needs of `user`, or the slot that has to be read first.
    ///
    /// # Errors
    /// The store can't be asked and nothing usable is known, or the user has to wait after failures.
    pub fn scram(&self, user: &Username, address: Option<IpAddr>, asked: Asked, now: Now) -> Result<ScramStep, Refusal> {
        self.scram_step(user, address, asked, now).inspect_err(|refusal| {
            self.denials.login(Some(user), None, address, refusal, now);
        })
    }

    /// Counts a failed login that was checked elsewhere, such as a SCRAM exchange.
    pub fn failed_login(&self, user: Option<&Username>, address: Option<IpAddr>, now: Now) {
        self.failed(self.shield.targets(user, address), now);
        self.denials.login(user, None, address, &Refusal::BadPassword, now);
    }

    /// Ends the count of a user's failures after a login that was checked elsewhere, such as a SCRAM exchange.
    pub fn passed_login(&self, user: &Username) {
        if self.shield.forgive(user) {
            self.effects.push(Effect::Forgiven(ShieldTarget::User(user.clone())));
        }
    }

    fn scram_step(&self, user: &Username, address: Option<IpAddr>, asked: Asked, now: Now) -> Result<ScramStep, Refusal> {
        let slot = self.directory.slot(&Identity::user(user), now);
        let account = slot.account();
        let settings = self.login.load();
        let login = Login { gate: self, settings: &settings, asked, now, verified: None };
        match login.usable(&account) {
            Usable::Yes => {}
            Usable::Ask => return Ok(ScramStep::Load(slot.clone())),
            Usable::No(refusal) => return Err(refusal),
        }
        if let Some(wait) = self.shield.backing_off(&self.shield.targets(Some(user), address), now) {
            return Err(Refusal::BackOff(wait));
        }
        let record = account.record().filter(|_| account.standing() == Standing::Active);
        let credential = record.and_then(|record| record.scram.as_deref().cloned());
        let iterations = ScramCredential::DEFAULT_ITERATIONS;
        let fake = || ScramCredential::fake(user.as_str(), &self.fake, iterations);
        Ok(ScramStep::Credential(credential.unwrap_or_else(fake)))
    }
}
