//! The keys that tokens are checked with.
//!
//! Every key is bound to one algorithm when it is read; keys that are too weak, private or of another kind are refused by name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::JwtError;

/// The shortest HS256 secret in bytes (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The most keys at once, since a token without `kid` may be tried with each.
pub const MAX_JWT_KEYS: usize = 64;
/// The shortest RSA modulus in bytes (RFC 7518, section 3.3: 2048 bits).
const MIN_RSA_BYTES: usize = 256;
/// The longest RSA modulus in bytes that the signature check takes.
const MAX_RSA_BYTES: usize = 1024;
/// An uncompressed point of P-256 (SEC 1, section 2.3.3).
const P256_POINT_BYTES: usize = 65;

/// Why a text holds no key to check tokens with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtKeyError {
    /// The secret can be guessed.
    #[error("the HS256 secret has {0} bytes, at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret(usize),
    /// A PEM file was given as a secret.
    #[error("the HS256 secret is a PEM file; a public key is no secret")]
    PemAsSecret,
    /// The text is no PEM.
    #[error("the key is not PEM")]
    NotPem,
    /// The PEM holds something else than a public key.
    #[error("the PEM holds \"{0}\", needed is \"PUBLIC KEY\" or \"RSA PUBLIC KEY\"")]
    NotPublicKey(String),
    /// The public key is not one that RS256 or ES256 uses.
    #[error("the public key is {0}, needed is RSA with 2048 to 8192 bits or EC on P-256")]
    Unsuitable(&'static str),
    /// The text is no JWK set.
    #[error("the key set is not a JSON object with an array \"keys\"")]
    NotJwks,
    /// A JWK set has no key that can be used.
    #[error("the key set holds no key for HS256, RS256 or ES256")]
    NoKey,
    /// There are too many keys.
    #[error("there are {0} keys, at most {MAX_JWT_KEYS} are allowed")]
    TooMany(usize),
}

/// Keys that tokens are checked with, each bound to its algorithm.
#[derive(Clone)]
pub struct JwtKeys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl JwtKeys {
    /// Returns the key of an HS256 secret, which is taken byte by byte: a line end of its file counts unless the caller cuts it.
    ///
    /// # Errors
    /// The secret is shorter than [`MIN_SECRET_BYTES`], or is a PEM file.
    pub fn from_hs256_secret(secret: &[u8]) -> Result<Self, JwtKeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(JwtKeyError::ShortSecret(secret.len()));
        }
        if secret.windows(10).any(|window| window == b"-----BEGIN") {
            return Err(JwtKeyError::PemAsSecret);
        }
        Ok(Self(vec![Key { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }]))
    }

    /// Returns the public keys of a PEM text: RSA for RS256, EC on P-256 for ES256.
    ///
    /// # Errors
    /// The text is no PEM, or holds anything that is not such a key.
    pub fn from_pem(text: &str) -> Result<Self, JwtKeyError> {
        let pems: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text.as_bytes()).take(MAX_JWT_KEYS + 1).collect();
        let keys = pems.map_err(|_| JwtKeyError::NotPem)?.iter().map(pem_key).collect::<Result<Vec<_>, _>>()?;
        Self::checked(keys, JwtKeyError::NotPem)
    }

    /// Returns the keys of a JWK set (RFC 7517), each with its `kid`.
    ///
    /// Keys of other kinds, for other algorithms or for encryption are passed over, as section 5 of the RFC wants it.
    ///
    /// # Errors
    /// The text is no JWK set, or no key of it can be used.
    pub fn from_jwks(text: &str) -> Result<Self, JwtKeyError> {
        let set: RawSet = serde_json::from_str(text).map_err(|_| JwtKeyError::NotJwks)?;
        let keys = set.keys.into_iter().filter_map(|key| jwk_key(&serde_json::from_value(key).ok()?)).collect();
        Self::checked(keys, JwtKeyError::NoKey)
    }

    /// Returns these keys and `others` together.
    ///
    /// # Errors
    /// They are more than [`MAX_JWT_KEYS`].
    pub fn with(mut self, others: Self) -> Result<Self, JwtKeyError> {
        self.0.extend(others.0);
        Self::checked(self.0, JwtKeyError::NoKey)
    }

    /// Returns how many keys there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always a key")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A token that names a key is checked with that key, or with those that have no name; any other with all of its algorithm.
    pub(super) fn check_signature(&self, alg: &str, kid: Option<&str>, signed: &[u8], signature: &str) -> Result<(), JwtError> {
        let algorithm = match alg {
            "HS256" => Algorithm::HS256,
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            _ => return Err(JwtError::Algorithm),
        };
        let named = |kid: &str| self.0.iter().any(|key| key.id.as_deref() == Some(kid));
        let wanted = kid.map(|kid| named(kid).then_some(kid));
        let mut eligible = self.0.iter().filter(|key| wanted.is_none_or(|wanted| key.id.as_deref() == wanted)).peekable();
        if eligible.peek().is_none() {
            return Err(JwtError::KeyUnknown);
        }
        let mut right_kind = eligible.filter(|key| key.algorithm == algorithm).peekable();
        if right_kind.peek().is_none() {
            return Err(JwtError::Algorithm);
        }
        if right_kind.any(|key| crypto::verify(signature, signed, &key.key, key.algorithm).unwrap_or(false)) {
            Ok(())
        } else {
            Err(JwtError::Signature)
        }
    }

    fn checked(keys: Vec<Key>, empty: JwtKeyError) -> Result<Self, JwtKeyError> {
        match keys.len() {
            0 => Err(empty),
            1..=MAX_JWT_KEYS => Ok(Self(keys)),
            many => Err(JwtKeyError::TooMany(many)),
        }
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (key.algorithm, &key.id))).finish()
    }
}

fn pem_key(pem: &Pem) -> Result<Key, JwtKeyError> {
    match pem.label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| JwtKeyError::Unsuitable("garbled"))?;
            match info.parsed() {
                Ok(PublicKey::RSA(rsa)) => rsa_key(None, rsa.modulus, rsa.exponent),
                Ok(PublicKey::EC(point)) => {
                    let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
                    if curve != Some(OID_EC_P256) {
                        return Err(JwtKeyError::Unsuitable("on another curve"));
                    }
                    ec_key(None, point.data())
                }
                Ok(_) => Err(JwtKeyError::Unsuitable("of another kind")),
                Err(_) => Err(JwtKeyError::Unsuitable("garbled")),
            }
        }
        "RSA PUBLIC KEY" => match RSAPublicKey::from_der(&pem.contents) {
            Ok((_, rsa)) => rsa_key(None, rsa.modulus, rsa.exponent),
            Err(_) => Err(JwtKeyError::Unsuitable("garbled")),
        },
        other => Err(JwtKeyError::NotPublicKey(other.escape_debug().take(40).collect())),
    }
}

fn rsa_key(id: Option<String>, modulus: &[u8], exponent: &[u8]) -> Result<Key, JwtKeyError> {
    let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
    match modulus.len() {
        0..MIN_RSA_BYTES => Err(JwtKeyError::Unsuitable("RSA with too few bits")),
        MIN_RSA_BYTES..=MAX_RSA_BYTES => {
            Ok(Key { id, algorithm: Algorithm::RS256, key: DecodingKey::from_rsa_raw_components(modulus, exponent) })
        }
        _ => Err(JwtKeyError::Unsuitable("RSA with too many bits")),
    }
}

fn ec_key(id: Option<String>, point: &[u8]) -> Result<Key, JwtKeyError> {
    if point.len() != P256_POINT_BYTES || point.first() != Some(&4) {
        return Err(JwtKeyError::Unsuitable("not an uncompressed point of P-256"));
    }
    Ok(Key { id, algorithm: Algorithm::ES256, key: DecodingKey::from_ec_der(point) })
}

fn jwk_key(raw: &RawKey) -> Option<Key> {
    let decode = |field: &Option<String>| URL_SAFE_NO_PAD.decode(field.as_deref()?).ok();
    let is_for = |algorithm: &str| raw.alg.as_deref().is_none_or(|alg| alg == algorithm);
    if raw.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let id = raw.kid.clone();
    match raw.kty.as_str() {
        "RSA" if is_for("RS256") => rsa_key(id, &decode(&raw.n)?, &decode(&raw.e)?).ok(),
        "EC" if is_for("ES256") && raw.crv.as_deref() == Some("P-256") => {
            let (x, y) = (decode(&raw.x)?, decode(&raw.y)?);
            ec_key(id, &[&[4], x.as_slice(), y.as_slice()].concat()).ok()
        }
        "oct" if is_for("HS256") => {
            let [mut key] = <[Key; 1]>::try_from(JwtKeys::from_hs256_secret(&decode(&raw.k)?).ok()?.0).ok()?;
            key.id = id;
            Some(key)
        }
        _ => None,
    }
}

fn without_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}
