//! Stored passwords: recognised from the text, verified, made anew.
//!
//! [`StoredPassword::parse`] knows every encoding below by its own marks; no configuration says which one it is.
//! A text without marks is refused, never taken for a plain password.
//! A stored cost beyond the limits of this module is refused, so that no record can freeze the host.
//! Keys are compared in constant time and wiped when dropped; passwords are bytes, of any value and any length.
//!
//! | text | written by |
//! |---|---|
//! | `$argon2id$v=19$m=19456,t=2,p=1$SALT$KEY` | Midge, Mosquitto 2.1, mosquitto-go-auth |
//! | `$7$ITERATIONS$SALT$KEY` | Midge, Mosquitto 1.6 and later: PBKDF2-HMAC-SHA512 |
//! | `$6$SALT$KEY` | Mosquitto: one SHA-512 of password and salt |
//! | `PBKDF2$sha512$ITERATIONS$SALT$KEY` | mosquitto-go-auth, mosquitto-auth-plug (`sha1`, `sha256`, `sha512`, …) |
//! | `$pbkdf2-sha512$i=ITERATIONS,l=BYTES$SALT$KEY` | ChirpStack, mosquitto-go-auth (also `-sha256`) |
//! | `pbkdf2_sha256$ITERATIONS$SALT$KEY` | Django (also `_sha1`, `_sha512`) |
//! | `$2a$`, `$2b$`, `$2y$` | bcrypt: mosquitto-go-auth, EMQX, VerneMQ |
//! | `{plain}TEXT` | native records only |
//! | `{sha256}HEX` | native records only; `md5`, `sha1` or `sha`, `sha224`, `sha256`, `sha384`, `sha512` |
//! | `{sha256:prefix:SALT}HEX`, `{sha256:suffix:SALT}HEX` | the same with the literal salt before or after the password |
//! | `{pbkdf2-sha256:ITERATIONS:SALT}HEX` | native records only: EMQX's `pbkdf2` with its literal salt |
//!
//! The forms in braces say what EMQX keeps in its configuration instead of in the record;
//! readers of EMQX data build the same values with [`StoredPassword::plain`], [`StoredPassword::digest`] and
//! [`StoredPassword::pbkdf2_hex`].
//!
//! The salt of `PBKDF2$…` is base64 for one writer and literal characters for another, and nothing in the text tells which:
//! verification tries both.
//!
//! bcrypt is computed as Go's `x/crypto/bcrypt` does: the key is the password and one NUL, cut to 72 bytes.
//! A NUL inside a password counts like any byte, and bytes after the 72nd don't count
//! (newer Go versions refuse to *make* such a hash, none refuses to verify it).

mod digest;
mod parse;
mod policy;

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use self::digest::Digest;
pub use self::policy::{HashError, HashPolicy};

/// The longest stored text in bytes.
pub const MAX_STORED_BYTES: usize = 4096;
/// The highest PBKDF2 cost: iterations times output blocks of the digest.
pub const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
/// The highest bcrypt cost, which is the binary logarithm of its rounds.
pub const MAX_BCRYPT_COST: u32 = 16;
/// The most memory of one argon2id computation, in KiB: 1 GiB.
pub const MAX_ARGON2_MEMORY_KIB: u32 = 1024 * 1024;
/// The most passes of argon2id over its memory.
pub const MAX_ARGON2_PASSES: u32 = 16;
/// The most lanes of argon2id; they are computed one after the other.
pub const MAX_ARGON2_LANES: u32 = 64;
/// The most argon2id work: memory in KiB times passes, 4 GiB in all.
pub const MAX_ARGON2_WORK_KIB: u64 = 4 * 1024 * 1024;
/// The shortest derived key in bytes; below, a cut-off record would match by chance.
pub const MIN_KEY_BYTES: usize = 16;

/// Why a stored text is no password, or a cost is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The text carries the marks of no encoding.
    #[error(
        "the stored password has no known encoding; allowed are $argon2id$, $7$, $6$, PBKDF2$, $pbkdf2-sha512$, \
         $pbkdf2-sha256$, pbkdf2_sha256$, $2a$, $2b$, $2y$, {{plain}}, {{sha256}}, {{sha256:prefix:SALT}}, \
         {{sha256:suffix:SALT}} and {{pbkdf2-sha256:ITERATIONS:SALT}}"
    )]
    Unknown,
    /// The text is longer than any encoding needs.
    #[error("the stored password has {0} bytes, at most {MAX_STORED_BYTES} are allowed")]
    TooLong(usize),
    /// The marks are known, what follows is not right.
    #[error("the stored password looks like {encoding}, but {what}")]
    Malformed {
        /// The encoding that the marks name.
        encoding: Encoding,
        /// What is wrong with the rest.
        what: &'static str,
    },
    /// The cost is out of the range that this host may be asked to compute.
    #[error("{encoding} with {what} {found} is refused, allowed is {min} to {max}")]
    Cost {
        /// The encoding whose cost it is.
        encoding: Encoding,
        /// Which cost.
        what: &'static str,
        /// The cost that was found.
        found: u64,
        /// The lowest allowed.
        min: u64,
        /// The highest allowed.
        max: u64,
    },
}

/// How a stored password is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// The password itself.
    Plain,
    /// A hex digest without salt.
    HexDigest,
    /// A hex digest with a salt before or after the password.
    SaltedHexDigest,
    /// Mosquitto's `$6$`.
    MosquittoSha512,
    /// Mosquitto's `$7$`.
    MosquittoPbkdf2,
    /// `PBKDF2$…` of mosquitto-go-auth and mosquitto-auth-plug.
    GoAuthPbkdf2,
    /// `$pbkdf2-…` of ChirpStack.
    PhcPbkdf2,
    /// Django's `pbkdf2_…`.
    DjangoPbkdf2,
    /// EMQX's PBKDF2 in hex.
    HexPbkdf2,
    /// bcrypt.
    Bcrypt,
    /// argon2id in PHC form.
    Argon2id,
}

impl Encoding {
    /// Returns the name that status pages and messages use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::HexDigest => "hex-digest",
            Self::SaltedHexDigest => "salted-hex-digest",
            Self::MosquittoSha512 => "mosquitto-sha512",
            Self::MosquittoPbkdf2 => "mosquitto-pbkdf2",
            Self::GoAuthPbkdf2 => "go-auth-pbkdf2",
            Self::PhcPbkdf2 => "phc-pbkdf2",
            Self::DjangoPbkdf2 => "django-pbkdf2",
            Self::HexPbkdf2 => "hex-pbkdf2",
            Self::Bcrypt => "bcrypt",
            Self::Argon2id => "argon2id",
        }
    }

    /// Returns the class of strength, which decides about `rehash_on_login`.
    #[must_use]
    pub const fn strength(self) -> Strength {
        match self {
            Self::Plain => Strength::Plain,
            Self::HexDigest => Strength::Digest,
            Self::SaltedHexDigest | Self::MosquittoSha512 => Strength::SaltedDigest,
            Self::MosquittoPbkdf2 | Self::GoAuthPbkdf2 | Self::PhcPbkdf2 | Self::DjangoPbkdf2 | Self::HexPbkdf2 => Strength::Pbkdf2,
            Self::Bcrypt => Strength::Bcrypt,
            Self::Argon2id => Strength::Argon2id,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much a stored password costs the thief of the records; the later, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// Nothing.
    Plain,
    /// One table for all records.
    Digest,
    /// One fast digest per guess and record.
    SaltedDigest,
    /// Many digests per guess and record.
    Pbkdf2,
    /// The same, and awkward for graphics cards.
    Bcrypt,
    /// Memory per guess and record.
    Argon2id,
}

/// On which side of the password a digest takes its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaltPosition {
    /// Salt, then password.
    Prefix,
    /// Password, then salt.
    Suffix,
}

/// A stored password that can be verified at a bounded cost.
#[derive(Clone)]
pub struct StoredPassword {
    encoding: Encoding,
    scheme: Scheme,
}

type Key = Zeroizing<Vec<u8>>;

#[derive(Clone)]
enum Scheme {
    Plain(Key),
    Digest { digest: Digest, position: SaltPosition, salt: Vec<u8>, key: Key },
    Pbkdf2 { digest: Digest, iterations: u32, salts: Vec<Vec<u8>>, key: Key },
    Bcrypt { cost: u32, salt: [u8; 16], key: Key },
    Argon2id { params: argon2::Params, salt: Vec<u8>, key: Key },
}

impl StoredPassword {
    /// Recognises a stored password by its own marks; see the table at the top of this module.
    ///
    /// # Errors
    /// The text has no known marks, is cut off or garbled, or asks for a cost beyond the limits.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        parse::parse(text)
    }

    /// Returns a stored password that is the password itself.
    #[must_use]
    pub fn plain(text: &[u8]) -> Self {
        Self { encoding: Encoding::Plain, scheme: Scheme::Plain(Zeroizing::new(text.to_vec())) }
    }

    /// Returns a stored digest of the password, in hex of either case, with an optional literal salt.
    ///
    /// # Errors
    /// `hex` is not hex, or not as long as the digest.
    pub fn digest(digest: Digest, salt: Option<(SaltPosition, &[u8])>, hex: &str) -> Result<Self, PasswordError> {
        let encoding = if salt.is_some() { Encoding::SaltedHexDigest } else { Encoding::HexDigest };
        let key = parse::hex(encoding, hex)?;
        if key.len() != digest.len() {
            return Err(PasswordError::Malformed { encoding, what: "its hex digits are not as many as the digest has" });
        }
        let (position, salt) = salt.unwrap_or((SaltPosition::Prefix, &[]));
        Ok(Self { encoding, scheme: Scheme::Digest { digest, position, salt: salt.to_vec(), key } })
    }

    /// Returns a stored PBKDF2 key in hex of either case, with its literal salt.
    ///
    /// # Errors
    /// `hex` is not hex, the key is shorter than [`MIN_KEY_BYTES`], or the cost is beyond [`MAX_PBKDF2_ITERATIONS`].
    pub fn pbkdf2_hex(digest: Digest, iterations: u32, salt: &[u8], hex: &str) -> Result<Self, PasswordError> {
        let key = parse::hex(Encoding::HexPbkdf2, hex)?;
        Self::pbkdf2(Encoding::HexPbkdf2, digest, iterations, vec![salt.to_vec()], key)
    }

    /// Returns whether `password` is the one that was stored.
    ///
    /// Takes as long as the stored cost says, up to about ten seconds at the limits: not for an event loop.
    /// Where memory for argon2id can't be had the answer is no.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.scheme {
            // Digests are compared instead of texts so that the time doesn't tell the length.
            Scheme::Plain(text) => Sha256::digest(password).as_slice().ct_eq(&Sha256::digest(text.as_slice())).into(),
            Scheme::Digest { digest, position, salt, key } => {
                let parts = match position {
                    SaltPosition::Prefix => [salt.as_slice(), password],
                    SaltPosition::Suffix => [password, salt.as_slice()],
                };
                equal(&digest.hash(&parts), key)
            }
            Scheme::Pbkdf2 { digest, iterations, salts, key } => {
                salts.iter().any(|salt| equal(&digest.pbkdf2(password, salt, *iterations, key.len()), key))
            }
            Scheme::Bcrypt { cost, salt, key } => equal(&bcrypt_key(*cost, *salt, password), key),
            Scheme::Argon2id { params, salt, key } => {
                argon2id_key(params, salt, password, key.len()).is_ok_and(|derived| equal(&derived, key))
            }
        }
    }

    /// Returns how the password is written.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns whether `policy` would make a stronger record.
    ///
    /// A class of [`Strength`] below the policy's does, and so does a lower cost within the class;
    /// a stronger class is never replaced by a weaker one.
    #[must_use]
    pub fn needs_rehash(&self, policy: &HashPolicy) -> bool {
        policy.improves(self)
    }

    fn pbkdf2(encoding: Encoding, digest: Digest, iterations: u32, salts: Vec<Vec<u8>>, key: Key) -> Result<Self, PasswordError> {
        if key.len() < MIN_KEY_BYTES {
            return Err(PasswordError::Malformed { encoding, what: "its key is shorter than 16 bytes" });
        }
        let blocks = key.len().div_ceil(digest.len()) as u64;
        let max = u64::from(MAX_PBKDF2_ITERATIONS) / blocks;
        bounded(encoding, "iterations", u64::from(iterations), 1, max)?;
        Ok(Self { encoding, scheme: Scheme::Pbkdf2 { digest, iterations, salts, key } })
    }

    fn argon2id(params: argon2::Params, salt: Vec<u8>, key: Key) -> Result<Self, PasswordError> {
        let encoding = Encoding::Argon2id;
        if key.len() < MIN_KEY_BYTES {
            return Err(PasswordError::Malformed { encoding, what: "its key is shorter than 16 bytes" });
        }
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err(PasswordError::Malformed { encoding, what: "its salt is shorter than 8 bytes" });
        }
        Ok(Self { encoding, scheme: Scheme::Argon2id { params, salt, key } })
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredPassword").field("encoding", &self.encoding).finish_non_exhaustive()
    }
}

fn equal(derived: &[u8], key: &[u8]) -> bool {
    derived.ct_eq(key).into()
}

fn bounded(encoding: Encoding, what: &'static str, found: u64, min: u64, max: u64) -> Result<(), PasswordError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(PasswordError::Cost { encoding, what, found, min, max }) }
}

fn argon2_params(memory_kib: u32, passes: u32, lanes: u32) -> Result<argon2::Params, PasswordError> {
    let encoding = Encoding::Argon2id;
    bounded(encoding, "lanes (p)", u64::from(lanes), 1, u64::from(MAX_ARGON2_LANES))?;
    let least = u64::from(argon2::Params::MIN_M_COST) * u64::from(lanes);
    bounded(encoding, "memory in KiB (m)", u64::from(memory_kib), least, u64::from(MAX_ARGON2_MEMORY_KIB))?;
    bounded(encoding, "passes (t)", u64::from(passes), 1, u64::from(MAX_ARGON2_PASSES))?;
    let work = u64::from(memory_kib) * u64::from(passes);
    bounded(encoding, "memory times passes (m·t)", work, 1, MAX_ARGON2_WORK_KIB)?;
    argon2::Params::new(memory_kib, passes, lanes, None)
        .map_err(|_| PasswordError::Malformed { encoding, what: "its parameters contradict each other" })
}

fn argon2id_key(params: &argon2::Params, salt: &[u8], password: &[u8], bytes: usize) -> Result<Key, argon2::Error> {
    let mut key = Zeroizing::new(vec![0; bytes]);
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params.clone())
        .hash_password_into(password, salt, &mut key)?;
    Ok(key)
}

fn bcrypt_key(cost: u32, salt: [u8; 16], password: &[u8]) -> Key {
    let mut terminated = Zeroizing::new([0_u8; 72]);
    let taken = password.len().min(72);
    terminated[..taken].copy_from_slice(&password[..taken]);
    let used = (taken + 1).min(72);
    Zeroizing::new(bcrypt::bcrypt(cost, salt, &terminated[..used])[..23].to_vec())
}

#[cfg(test)]
mod tests;
