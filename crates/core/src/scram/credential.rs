//! What a server keeps of a SCRAM password.
//!
//! Neither the password nor what a client needs to log in can be read from a credential (RFC 5802, section 2.2).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{MAX_SCRAM_ITERATIONS, MECHANISM, MIN_SCRAM_ITERATIONS, ScramError, Sha256Bytes, hmac_sha256};

const SALT_BYTES: usize = 16;
const MAX_SALT_BYTES: usize = 1024;

/// A stored SCRAM credential, written as PostgreSQL writes it:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, with base64.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Sha256Bytes,
    pub(super) server_key: Sha256Bytes,
}

/// The key from which credentials of unknown users are made up.
///
/// Nodes that share it give the same answer for the same name.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FakeKey(Sha256Bytes);

impl FakeKey {
    /// Returns a new random key.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn generate() -> Result<Self, ScramError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(ScramError::Random)?;
        Ok(Self(key))
    }
}

impl From<[u8; 32]> for FakeKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl fmt::Debug for FakeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeKey(..)")
    }
}

impl ScramCredential {
    /// The iterations of a new credential when nothing else is set: RFC 7677's least, since a phone computes them.
    pub const DEFAULT_ITERATIONS: u32 = MIN_SCRAM_ITERATIONS;

    /// Returns the credential of `password` under a new salt.
    ///
    /// # Errors
    /// The iterations are out of range, or the operating system gave no random bytes.
    pub fn derive(password: &[u8], iterations: u32) -> Result<Self, ScramError> {
        if !(MIN_SCRAM_ITERATIONS..=MAX_SCRAM_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(ScramError::Random)?;
        Ok(Self::with_salt(password, &salt, iterations))
    }

    /// Returns a credential for a user that doesn't exist: the same at every call, like that of a user who does.
    ///
    /// `iterations` are those of the real credentials, or they would tell.
    #[must_use]
    pub fn fake(username: &str, key: &FakeKey, iterations: u32) -> Self {
        let part = |label: &[u8]| hmac_sha256(&key.0, &[label, username.as_bytes()]);
        let salt = part(b"salt:")[..SALT_BYTES].to_vec();
        Self { iterations, salt, stored_key: part(b"stored:"), server_key: part(b"server:") }
    }

    /// Returns the iterations that a client has to compute.
    #[must_use]
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Returns whether `password` belongs to this credential, for a login that shows the password itself.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        Self::with_salt(password, &self.salt, self.iterations).stored_key.ct_eq(&self.stored_key).into()
    }

    pub(super) fn with_salt(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, salted.as_mut());
        let client_key = Zeroizing::new(hmac_sha256(&salted, &[b"Client Key"]));
        let stored_key = Sha256::digest(client_key.as_slice()).into();
        Self { iterations, salt: salt.to_vec(), stored_key, server_key: hmac_sha256(&salted, &[b"Server Key"]) }
    }
}

impl FromStr for ScramCredential {
    type Err = ScramError;

    fn from_str(text: &str) -> Result<Self, ScramError> {
        let fields = || {
            let (costs, keys) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once('$')?;
            let (iterations, salt) = costs.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let decimal = !iterations.is_empty() && iterations.bytes().all(|byte| byte.is_ascii_digit());
            decimal.then_some((iterations, salt, stored_key, server_key))
        };
        let (iterations, salt, stored_key, server_key) = fields().ok_or(ScramError::Credential)?;
        let iterations = iterations.parse().unwrap_or(u32::MAX);
        if !(1..=MAX_SCRAM_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| ScramError::Credential);
        let key = |text: &str| Sha256Bytes::try_from(decode(text)?).map_err(|_| ScramError::Credential);
        let salt = decode(salt)?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(ScramError::Credential);
        }
        Ok(Self { iterations, salt, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }
}

impl fmt::Display for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored_key, server_key] = [&self.salt[..], &self.stored_key, &self.server_key].map(|part| STANDARD.encode(part));
        write!(f, "{MECHANISM}${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}
