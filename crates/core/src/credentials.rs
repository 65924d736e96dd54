//! Remembers verified passwords, so that a reconnect costs no hashing.
//!
//! What is kept is a keyed digest under a random key of this process: neither password nor stored hash can be read from it.
//! The digest covers the stored password, so changing that forgets the old one by itself.
//! Only success is remembered; guesses leave no trace here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::time::Now;

/// How much is remembered and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSettings {
    /// How long a verified password spares the hashing; zero switches the cache off.
    pub time_to_live: Duration,
    /// How many are remembered; at the bound the older half is forgotten.
    pub entries: usize,
}

impl Default for CredentialSettings {
    fn default() -> Self {
        Self { time_to_live: Duration::from_secs(3600), entries: 200_000 }
    }
}

/// The keyed digest of one verified credential: the first 128 bits of an HMAC-SHA-256.
///
/// Nobody can try a guess against it without the key, so that half of it is as good as the whole, at half the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

#[derive(Debug, Default)]
struct Generations {
    /// When each was verified, in seconds of the monotonic clock, rounded down.
    young: HashMap<Digest, u32>,
    old: HashMap<Digest, u32>,
}

/// A bounded set of verified credentials.
#[derive(Debug)]
pub struct Credentials {
    settings: CredentialSettings,
    key: Hmac<Sha256>,
    verified: Mutex<Generations>,
}

impl Credentials {
    /// Returns an empty set under a new random key.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn new(settings: CredentialSettings) -> Result<Self, getrandom::Error> {
        let mut key = [0_u8; 64];
        getrandom::fill(&mut key)?;
        let key = Hmac::new(&key.into());
        Ok(Self { settings, key, verified: Mutex::default() })
    }

    /// Returns the digest of a user's stored and shown password; each part counts with its length.
    #[must_use]
    pub fn digest(&self, user: &str, stored: &str, password: &[u8]) -> Digest {
        let mut mac = self.key.clone();
        for part in [user.as_bytes(), stored.as_bytes(), password] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Digest(half)
    }

    /// Returns whether the credential was verified within the time to live.
    #[must_use]
    pub fn knows(&self, digest: &Digest, now: Now) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let since = verified.young.get(digest).or_else(|| verified.old.get(digest));
        since.is_some_and(|since| now.monotonic.saturating_sub(Duration::from_secs((*since).into())) < self.settings.time_to_live)
    }

    /// Remembers that the credential was verified now.
    pub fn remember(&self, digest: Digest, now: Now) {
        if self.settings.time_to_live.is_zero() || self.settings.entries == 0 {
            return;
        }
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.young.len() >= self.settings.entries.div_ceil(2) {
            verified.old = std::mem::take(&mut verified.young);
        }
        verified.young.insert(digest, u32::try_from(now.monotonic.as_secs()).unwrap_or(u32::MAX));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.verified.lock().unwrap_or_else(PoisonError::into_inner) = Generations::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), unix: seconds }
    }

    #[test]
    fn only_the_same_credential_is_known_and_only_for_its_time() {
        let set = Credentials::new(CredentialSettings { time_to_live: Duration::from_secs(10), entries: 8 }).unwrap();
        let digest = set.digest("alice", "$7$stored", b"secret");
        assert!(!set.knows(&digest, at(0)));
        set.remember(digest, at(0));
        assert!(set.knows(&set.digest("alice", "$7$stored", b"secret"), at(9)));
        assert!(!set.knows(&digest, at(10)));
        for other in [
            set.digest("alice", "$7$changed", b"secret"),
            set.digest("alic", "e$7$stored", b"secret"),
            set.digest("alice", "$7$stored", b"other"),
        ] {
            assert!(!set.knows(&other, at(1)));
        }
    }

    #[test]
    fn separators_cannot_be_confused() {
        let set = Credentials::new(CredentialSettings::default()).unwrap();
        assert_ne!(set.digest("a", "s", b"b-c"), set.digest("a-b", "s", b"c"));
    }

    #[test]
    fn the_set_is_bounded_and_keeps_the_younger() {
        let set = Credentials::new(CredentialSettings { entries: 100, ..CredentialSettings::default() }).unwrap();
        for n in 0..1000_u32 {
            set.remember(set.digest("u", "s", &n.to_le_bytes()), at(0));
            let verified = set.verified.lock().unwrap();
            assert!(verified.young.len() + verified.old.len() <= 100);
        }
        assert!(set.knows(&set.digest("u", "s", &999_u32.to_le_bytes()), at(1)));
        assert!(!set.knows(&set.digest("u", "s", &1_u32.to_le_bytes()), at(1)));
    }
}
