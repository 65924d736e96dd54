//! The steps from a client that asks to an answer.
//!
//! Bans, identity, account, and then the password: remembered, back-off, hash. Each step refuses or hands on.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Against;
use super::hello::Claim;
use super::{Admission, Asked, ClientPolicy, Effect, Gate, HashJob, Hello, LoginSettings, Proof, Refusal, StoreDown, Stranger};
use crate::directory::{Account, Seat, Standing};
use crate::name::Username;
use crate::password::StoredPassword;
use crate::time::Now;

/// For how long an account that was read for a login counts as just read: longer than a full hash queue takes.
const JUST_READ: Duration = Duration::from_secs(60);

/// A password that was found right.
pub(super) struct Verified {
    /// The stored text that it was held against.
    pub(super) text: Box<str>,
    pub(super) rehashed: Option<String>,
}

/// One call to decide.
pub(super) struct Login<'a> {
    pub(super) gate: &'a Gate,
    pub(super) settings: &'a LoginSettings,
    pub(super) asked: Asked,
    pub(super) now: Now,
    pub(super) verified: Option<Verified>,
}

/// Whether an account may be judged by what is known of it.
pub(super) enum Usable {
    Yes,
    Ask,
    No(Refusal),
}

impl Login<'_> {
    pub(super) fn decide(self, hello: Hello) -> Admission {
        match self.seat(&hello) {
            Ok((seat, claim)) => self.judge(hello, seat, &claim),
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// Returns the client's hold on its account, which from here on can't change unnoticed.
    fn seat(&self, hello: &Hello) -> Result<(Seat, Claim), Refusal> {
        let banned = |user| self.gate.banned(user, &hello.client, hello.address, self.now).map_or(Ok(()), Err);
        banned(hello.user.as_ref())?;
        let claim = Claim::of(hello, self.settings, self.now)?;
        if claim.identity.user != hello.user {
            banned(claim.identity.user.as_ref())?;
        }
        Ok((Seat::take(self.gate.directory.slot(&claim.identity, self.now)), claim))
    }

    fn judge(self, hello: Hello, seat: Seat, claim: &Claim) -> Admission {
        let slot = seat.slot().clone();
        let account = slot.account();
        match self.usable(&account) {
            // What the client is subscribed to has to be known when it is let in, so that it misses nothing.
            Usable::Yes if self.asked == Asked::Memory && self.gate.directory.wants_of_client(&hello.client).is_some() => {
                return Admission::Load(slot.clone());
            }
            Usable::Yes => {}
            Usable::Ask => return Admission::Load(slot.clone()),
            Usable::No(refusal) => return Admission::Refused(refusal),
        }
        if !claim.proven && hello.stranger == Stranger::Nameless && account.standing() == Standing::Missing {
            return self.decide(hello.without_name());
        }
        if !claim.proven {
            return self.judge_password(hello, seat, claim, &account);
        }
        match Refusal::of_standing(account.standing()) {
            Some(refusal) => Admission::Refused(refusal),
            None => let_in(hello, seat, claim, &account),
        }
    }

    fn judge_password(self, hello: Hello, seat: Seat, claim: &Claim, account: &Account) -> Admission {
        let (Proof::Password(password), Some(user)) = (&hello.proof, &hello.user) else {
            return Admission::Refused(Refusal::NoPassword);
        };
        let standing = Refusal::of_standing(account.standing());
        let stored = account.record().and_then(|record| record.password.as_deref()).filter(|_| standing.is_none());
        match (&self.verified, stored) {
            (Some(verified), Some(text)) if *verified.text == *text => {
                self.remember(user, password);
                return let_in(hello, seat, claim, account);
            }
            // It ended while the password was being hashed.
            (Some(_), None) => return Admission::Refused(standing.unwrap_or(Refusal::NoPassword)),
            _ => {}
        }
        let credentials = &self.gate.credentials;
        if let Some(text) = stored
            && credentials.knows(&credentials.digest(user.as_str(), text, password), self.now)
        {
            return let_in(hello, seat, claim, account);
        }
        self.try_password(hello, &seat, stored, standing)
    }

    /// Has the password hashed, unless others that were shown before were wrong too often.
    fn try_password(self, hello: Hello, seat: &Seat, stored: Option<&str>, standing: Option<Refusal>) -> Admission {
        let targets = self.gate.shield.targets(hello.user.as_ref(), hello.address);
        if let Some(wait) = self.gate.shield.backing_off(&targets, self.now) {
            return Admission::Refused(Refusal::BackOff(wait));
        }
        // It was read once, when the record was.
        let stored = stored.and_then(|text| Some((text.into(), StoredPassword::parse(text).ok()?)));
        let against = match stored {
            Some((text, stored)) => Against::Stored(text, stored),
            None if self.settings.hide_unknown => Against::Nobody(self.gate.dummy.clone()),
            None => {
                self.gate.failed(targets, self.now);
                return Admission::Refused(standing.unwrap_or(Refusal::NoPassword));
            }
        };
        Admission::Hash(Box::new(HashJob {
            slot: seat.slot().clone(),
            against,
            asked: self.asked,
            rehash: self.settings.rehash.clone(),
            shield: Arc::clone(&self.gate.shield),
            credentials: Arc::clone(&self.gate.credentials),
            at: self.now,
            hello,
        }))
    }

    /// Does what follows from a right password.
    fn remember(&self, user: &Username, password: &[u8]) {
        let Some(Verified { text, rehashed }) = &self.verified else { return };
        let credentials = &self.gate.credentials;
        credentials.remember(credentials.digest(user.as_str(), text, password), self.now);
        self.gate.passed_login(user);
        if let Some(new) = rehashed {
            credentials.remember(credentials.digest(user.as_str(), new, password), self.now);
            self.gate.effects.push(Effect::Rehash { user: user.clone(), old: text.clone(), new: new.clone() });
        }
    }

    pub(super) fn usable(&self, account: &Account) -> Usable {
        if self.gate.directory.is_fresh(account) {
            return Usable::Yes;
        }
        let age = self.gate.directory.age(account, self.now);
        match (self.asked, self.settings.store_down, age) {
            (Asked::Memory, _, _) => Usable::Ask,
            // Read a moment ago: newer than anything that an announcement could say about it.
            (Asked::Store, _, Some(age)) if age <= JUST_READ => Usable::Yes,
            (_, StoreDown::Deny, _) | (_, _, None) => Usable::No(Refusal::StoreAway),
            // That there was no such user is no reason to say so now.
            (_, _, Some(_)) if account.standing() == Standing::Missing => Usable::No(Refusal::StoreAway),
            (_, StoreDown::LastKnownGood(longest), Some(age)) if age <= longest => Usable::Yes,
            (_, StoreDown::LastKnownGood(_), Some(_)) => Usable::No(Refusal::TooOld),
        }
    }
}

fn let_in(hello: Hello, seat: Seat, claim: &Claim, account: &Account) -> Admission {
    match client_id_refusal(account, claim.identity.user.as_ref(), &hello) {
        Some(refusal) => Admission::Refused(refusal),
        None => Admission::Admitted(ClientPolicy::new(seat, claim.expires_unix, hello.client, hello.address)),
    }
}

fn client_id_refusal(account: &Account, user: Option<&Username>, hello: &Hello) -> Option<Refusal> {
    let pattern = account.record().and_then(|record| record.client_id.as_ref());
    let (pattern, user) = pattern.zip(user)?;
    (!pattern.matches(user, &hello.client)).then_some(Refusal::ClientId)
}
