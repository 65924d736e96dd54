//! How new passwords are stored, and when old ones are replaced.
//!
//! A policy exists only within the limits of [`super`], so that what it writes can be read again everywhere.
//! The salt comes from the operating system; that is the only randomness here.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::{Digest, Encoding, Key, PasswordError, Scheme, StoredPassword, argon2_params, argon2id_key};

const ARGON2_KEY_BYTES: usize = 32;
const ARGON2_SALT_BYTES: usize = 16;
/// Mosquitto up to 2.0 reads no other length.
const MOSQUITTO_SALT_BYTES: usize = 12;

/// How new passwords are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Argon2id(argon2::Params),
    Mosquitto7 { iterations: u32 },
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The operating system gave no random bytes.
    #[error("no random bytes for a salt")]
    Random(#[source] getrandom::Error),
    /// The memory that the policy asks for can't be had.
    #[error("argon2id could not be computed: {0}")]
    Argon2(argon2::Error),
}

impl HashPolicy {
    /// The iterations of `$7$` when nothing else is set: OWASP Password Storage Cheat Sheet (2023) for PBKDF2-HMAC-SHA512.
    pub const MOSQUITTO7_ITERATIONS: u32 = 210_000;
    /// The memory of argon2id in KiB when nothing else is set: OWASP Password Storage Cheat Sheet (2023), 19 MiB.
    pub const ARGON2ID_MEMORY_KIB: u32 = 19 * 1024;
    /// The passes of argon2id when nothing else is set, from the same source.
    pub const ARGON2ID_PASSES: u32 = 2;
    /// The lanes of argon2id when nothing else is set, from the same source.
    pub const ARGON2ID_LANES: u32 = 1;

    /// Returns a policy that writes `$argon2id$` with this memory in KiB, these passes and lanes.
    ///
    /// # Errors
    /// A cost is out of the range that [`StoredPassword::parse`] accepts.
    pub fn argon2id(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, PasswordError> {
        Ok(Self(Kind::Argon2id(argon2_params(memory_kib, passes, lanes)?)))
    }

    /// Returns a policy that writes Mosquitto's `$7$`.
    ///
    /// # Errors
    /// The iterations are out of the range that [`StoredPassword::parse`] accepts.
    pub fn mosquitto7(iterations: u32) -> Result<Self, PasswordError> {
        let encoding = Encoding::MosquittoPbkdf2;
        super::bounded(encoding, "iterations", u64::from(iterations), 1, u64::from(super::MAX_PBKDF2_ITERATIONS))?;
        Ok(Self(Kind::Mosquitto7 { iterations }))
    }

    /// Returns the text to store for `password`, under a new salt.
    ///
    /// # Errors
    /// No random bytes, or no memory.
    pub fn hash(&self, password: &[u8]) -> Result<String, HashError> {
        match &self.0 {
            Kind::Argon2id(params) => {
                let salt = random::<ARGON2_SALT_BYTES>()?;
                let key = argon2id_key(params, &salt, password, ARGON2_KEY_BYTES).map_err(HashError::Argon2)?;
                let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
                let (salt, key) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(&key));
                Ok(format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${key}"))
            }
            Kind::Mosquitto7 { iterations } => {
                let salt = random::<MOSQUITTO_SALT_BYTES>()?;
                let key = Digest::Sha512.pbkdf2(password, &salt, *iterations, Digest::Sha512.len());
                Ok(format!("$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(&key)))
            }
        }
    }

    /// Returns a stored password that no password matches and that costs as much as a record of this policy.
    ///
    /// Verified in place of the record of an unknown user, it keeps the time from telling which users exist.
    #[must_use]
    pub fn dummy(&self) -> StoredPassword {
        // A key of zeros belongs to no password that anyone could find.
        let zeros = |bytes| -> Key { Zeroizing::new(vec![0; bytes]) };
        match &self.0 {
            Kind::Argon2id(params) => {
                let scheme =
                    Scheme::Argon2id { params: params.clone(), salt: vec![0; ARGON2_SALT_BYTES], key: zeros(ARGON2_KEY_BYTES) };
                StoredPassword { encoding: Encoding::Argon2id, scheme }
            }
            Kind::Mosquitto7 { iterations } => {
                let (digest, salts) = (Digest::Sha512, vec![vec![0; MOSQUITTO_SALT_BYTES]]);
                let scheme = Scheme::Pbkdf2 { digest, iterations: *iterations, salts, key: zeros(digest.len()) };
                StoredPassword { encoding: Encoding::MosquittoPbkdf2, scheme }
            }
        }
    }

    pub(super) fn improves(&self, stored: &StoredPassword) -> bool {
        let encoding = match self.0 {
            Kind::Argon2id(_) => Encoding::Argon2id,
            Kind::Mosquitto7 { .. } => Encoding::MosquittoPbkdf2,
        };
        if stored.encoding.strength() != encoding.strength() {
            return stored.encoding.strength() < encoding.strength();
        }
        match (&self.0, &stored.scheme) {
            (Kind::Argon2id(policy), Scheme::Argon2id { params, .. }) => {
                params.m_cost() < policy.m_cost() || params.t_cost() < policy.t_cost()
            }
            (Kind::Mosquitto7 { iterations: policy }, Scheme::Pbkdf2 { iterations, digest, .. }) => {
                iterations < policy || matches!(digest, Digest::Md5 | Digest::Sha1)
            }
            _ => false,
        }
    }
}

impl Default for HashPolicy {
    /// Returns argon2id with the costs of [`HashPolicy::ARGON2ID_MEMORY_KIB`] and its siblings.
    fn default() -> Self {
        Self::argon2id(Self::ARGON2ID_MEMORY_KIB, Self::ARGON2ID_PASSES, Self::ARGON2ID_LANES)
            .expect("the defaults lie within the limits, which a test checks")
    }
}

fn random<const N: usize>() -> Result<[u8; N], HashError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(HashError::Random)?;
    Ok(bytes)
}
