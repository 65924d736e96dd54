//! Answers to clients that ask to be let in.

use std::sync::Arc;
use std::time::Duration;

use super::{Asked, ClientPolicy, Hello, Proof, Refusal};
use crate::credentials::Credentials;
use crate::directory::Slot;
use crate::name::Username;
use crate::password::{HashPolicy, StoredPassword};
use crate::shield::Shield;
use crate::time::Now;

/// The answer to a client that asks to be let in.
#[derive(Debug)]
pub enum Admission {
    /// It is let in, with this policy.
    Admitted(ClientPolicy),
    /// It is not.
    Refused(Refusal),
    /// The account has to be read first: see [`crate::directory::Directory::wants`].
    Load(Arc<Slot>),
    /// The password has to be hashed first.
    Hash(Box<HashJob>),
}

/// What a password is held against.
#[derive(Debug)]
pub(super) enum Against {
    /// What stands in the store.
    Stored(Box<str>, StoredPassword),
    /// Nothing: an unknown user takes as long as a known one.
    Nobody(Arc<StoredPassword>),
}

/// A password that has to be hashed; [`HashJob::run`] is the one costly step of a login.
#[derive(Debug)]
pub struct HashJob {
    pub(super) hello: Hello,
    pub(super) slot: Arc<Slot>,
    pub(super) against: Against,
    pub(super) asked: Asked,
    pub(super) rehash: Option<HashPolicy>,
    pub(super) shield: Arc<Shield>,
    pub(super) credentials: Arc<Credentials>,
    /// When it was made.
    pub(super) at: Now,
}

/// What came of a [`HashJob`].
#[derive(Debug)]
pub struct Hashed {
    pub(super) job: HashJob,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// It was not tried: while it waited, others of the same user or address failed too often.
    BackOff(Duration),
    Wrong,
    Right {
        rehashed: Option<String>,
    },
}

impl HashJob {
    /// Returns the client that waits for it.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Hashes: takes milliseconds to seconds of one core, as the stored encoding says.
    ///
    /// Of many jobs that wait at once, only the first guesses are tried, and one right password serves all who show it.
    #[must_use]
    pub fn run(self) -> Hashed {
        let outcome = self.outcome();
        Hashed { job: self, outcome }
    }

    fn outcome(&self) -> Outcome {
        let Proof::Password(password) = &self.hello.proof else { return Outcome::Wrong };
        if let Against::Stored(text, _) = &self.against {
            let user = self.hello.user.as_ref().map_or("", Username::as_str);
            if self.credentials.knows(&self.credentials.digest(user, text, password), self.at) {
                return Outcome::Right { rehashed: None };
            }
        }
        let targets = self.shield.targets(self.hello.user.as_ref(), self.hello.address);
        if let Some(wait) = self.shield.backing_off(&targets, self.at) {
            return Outcome::BackOff(wait);
        }
        match &self.against {
            Against::Nobody(dummy) => {
                std::hint::black_box(dummy.verify(password));
                Outcome::Wrong
            }
            Against::Stored(_, stored) if stored.verify(password) => {
                let upgrade = self.rehash.as_ref().filter(|policy| stored.needs_rehash(policy));
                Outcome::Right { rehashed: upgrade.and_then(|policy| policy.hash(password).ok()) }
            }
            Against::Stored(..) => Outcome::Wrong,
        }
    }
}
