//! The digests that stored passwords are made with.
//!
//! A digest is chosen by name, so that no caller carries a type parameter; MD4 and RIPEMD-160 are not known here.

use hmac::EagerHash;
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::Key;

/// A digest function by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// MD5, RFC 1321.
    Md5,
    /// SHA-1, FIPS 180-4.
    Sha1,
    /// SHA-224, FIPS 180-4.
    Sha224,
    /// SHA-256, FIPS 180-4.
    Sha256,
    /// SHA-384, FIPS 180-4.
    Sha384,
    /// SHA-512, FIPS 180-4.
    Sha512,
}

macro_rules! with_digest {
    ($digest:expr, $function:ident($($argument:expr),*)) => {
        match $digest {
            Digest::Md5 => $function::<Md5>($($argument),*),
            Digest::Sha1 => $function::<Sha1>($($argument),*),
            Digest::Sha224 => $function::<Sha224>($($argument),*),
            Digest::Sha256 => $function::<Sha256>($($argument),*),
            Digest::Sha384 => $function::<Sha384>($($argument),*),
            Digest::Sha512 => $function::<Sha512>($($argument),*),
        }
    };
}

impl Digest {
    /// Returns the digest of a name in either case; `sha` is EMQX's name of SHA-1.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "md5" => Some(Self::Md5),
            "sha" | "sha1" => Some(Self::Sha1),
            "sha224" => Some(Self::Sha224),
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the digest whose hex form has `digits` characters.
    #[must_use]
    pub const fn from_hex_len(digits: usize) -> Option<Self> {
        match digits {
            32 => Some(Self::Md5),
            40 => Some(Self::Sha1),
            56 => Some(Self::Sha224),
            64 => Some(Self::Sha256),
            96 => Some(Self::Sha384),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the length of the output in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    pub(super) fn hash(self, parts: &[&[u8]]) -> Key {
        with_digest!(self, hash(parts))
    }

    /// Returns PBKDF2 with HMAC of this digest (RFC 8018, section 5.2).
    pub(super) fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: u32, bytes: usize) -> Key {
        with_digest!(self, pbkdf2(password, salt, iterations, bytes))
    }
}

fn hash<D: sha2::Digest>(parts: &[&[u8]]) -> Key {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    Zeroizing::new(digest.finalize().to_vec())
}

fn pbkdf2<D: EagerHash>(password: &[u8], salt: &[u8], iterations: u32, bytes: usize) -> Key {
    let mut key = Zeroizing::new(vec![0; bytes]);
    pbkdf2::pbkdf2_hmac::<D>(password, salt, iterations, &mut key);
    key
}
