//! JSON Web Tokens as passwords: signature, time, issuer, audience.
//!
//! Which algorithm may be used follows from the key and never from the token: a secret checks HS256, an RSA key RS256,
//! a P-256 key ES256, and nothing checks `none`. So a public key can't be abused as a secret.
//! The time is an argument; `jsonwebtoken` computes signatures here and nothing else.
//! Header members that ask the reader to fetch or trust a key (`jku`, `jwk`, `x5u`, `x5c`) are not looked at; `crit` is refused.

mod keys;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::keys::{JwtKeyError, JwtKeys, MAX_JWT_KEYS, MIN_SECRET_BYTES};

/// The longest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a token must say besides carrying a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The only accepted `iss`; none accepts any.
    pub issuer: Option<String>,
    /// A name that `aud` must hold; none accepts any.
    pub audience: Option<String>,
    /// The claim that holds the username.
    pub username_claim: String,
    /// The claim that holds the groups, as an array of texts or one text.
    pub groups_claim: String,
    /// Whether a token without `exp` is refused.
    pub require_expiry: bool,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            username_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            require_expiry: true,
        }
    }
}

/// What a verified token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtClaims {
    /// The username; never empty.
    pub subject: String,
    /// When the session has to end, in seconds since 1970.
    pub expires_unix: Option<u64>,
    /// Since when the token counts, in seconds since 1970.
    pub not_before: Option<u64>,
    /// The groups, in the token's order.
    pub groups: Vec<String>,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token has {0} bytes, at most {MAX_TOKEN_BYTES} are allowed")]
    TooLong(usize),
    /// The text is no signed token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// No key of the right name checks what the token asks for; `none` and everything but HS256, RS256 and ES256 ends here.
    #[error("the token's algorithm is not that of its key; allowed are HS256, RS256 and ES256, each with a key of its kind")]
    Algorithm,
    /// The token names a key that isn't there.
    #[error("the token's key (kid) is not known")]
    KeyUnknown,
    /// No key made this signature.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The token never expires, and [`JwtSettings::require_expiry`] is set.
    #[error("the token has no expiry (exp)")]
    NoExpiry,
    /// `iss` is missing or another one.
    #[error("the token's issuer (iss) is not the configured one")]
    Issuer,
    /// `aud` is missing or doesn't hold the configured name.
    #[error("the token's audience (aud) does not hold the configured one")]
    Audience,
    /// A claim is missing or of another type.
    #[error("the token's claim {name} {what}")]
    Claim {
        /// The name of the claim.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Returns whether a password has the outer form of a token: three parts of base64url, the first of which is a JSON object.
///
/// Says nothing about the contents; cheap enough to ask for every password.
#[must_use]
pub fn looks_like_jwt(password: &[u8]) -> bool {
    let base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut parts = password.split(|byte| *byte == b'.');
    // `{"` in base64 begins with eyJ; the third part is empty where `alg` is `none`, which verification then refuses.
    password.len() <= MAX_TOKEN_BYTES
        && parts.next().is_some_and(|header| header.starts_with(b"eyJ") && header.iter().all(base64url))
        && parts.next().is_some_and(|claims| !claims.is_empty() && claims.iter().all(base64url))
        && parts.next().is_some_and(|signature| signature.iter().all(base64url))
        && parts.next().is_none()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl JwtKeys {
    /// Returns what `token` says, once signature, time, issuer and audience are right.
    ///
    /// `now_unix` is in seconds since 1970; `leeway` is granted to clocks that differ, on both ends.
    ///
    /// # Errors
    /// The reason why the token is refused.
    pub fn verify(&self, token: &str, settings: &JwtSettings, now_unix: u64, leeway: Duration) -> Result<JwtClaims, JwtError> {
        let claims = Claims(self.authenticate(token)?);
        let (expires_unix, not_before) = (claims.time("exp")?, claims.time("nbf")?);
        match expires_unix {
            None if settings.require_expiry => return Err(JwtError::NoExpiry),
            Some(expires) if now_unix >= expires.saturating_add(leeway.as_secs()) => return Err(JwtError::Expired),
            _ => {}
        }
        if not_before.is_some_and(|not_before| now_unix.saturating_add(leeway.as_secs()) < not_before) {
            return Err(JwtError::NotYetValid);
        }
        if settings.issuer.as_deref().is_some_and(|issuer| claims.0.get("iss").and_then(Value::as_str) != Some(issuer)) {
            return Err(JwtError::Issuer);
        }
        if settings.audience.as_deref().is_some_and(|audience| !claims.is_for(audience)) {
            return Err(JwtError::Audience);
        }
        let subject = claims.subject(&settings.username_claim)?;
        Ok(JwtClaims { subject, expires_unix, not_before, groups: claims.groups(&settings.groups_claim)? })
    }

    fn authenticate(&self, token: &str) -> Result<Map<String, Value>, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong(token.len()));
        }
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| Some((signed, signature, signed.split_once('.')?)));
        let (signed, signature, (header, claims)) = parts.ok_or(JwtError::Malformed("it does not have three parts"))?;
        let header: Header =
            serde_json::from_slice(&part(header)?).map_err(|_| JwtError::Malformed("its header is not a JSON object with alg"))?;
        if header.crit.is_some() {
            return Err(JwtError::Malformed("its header holds crit, which nothing here understands"));
        }
        self.check_signature(&header.alg, header.kid.as_deref(), signed.as_bytes(), signature)?;
        serde_json::from_slice(&part(claims)?).map_err(|_| JwtError::Malformed("its claims are not a JSON object"))
    }
}

struct Claims(Map<String, Value>);

impl Claims {
    /// Returns a `NumericDate` (RFC 7519, section 2), whose fraction is cut off; before 1970 counts as 1970.
    fn time(&self, name: &str) -> Result<Option<u64>, JwtError> {
        #[expect(clippy::cast_possible_truncation, reason = "a cast from floating point saturates, and the fraction is not wanted")]
        let whole = |seconds: f64| seconds as u64;
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_u64().or_else(|| number.as_f64().map(whole))),
            Some(_) => Err(claim(name, "is not a number")),
        }
    }

    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    fn subject(&self, name: &str) -> Result<String, JwtError> {
        match self.0.get(name) {
            Some(Value::String(subject)) if subject.is_empty() => Err(claim(name, "is empty")),
            Some(Value::String(subject)) => Ok(subject.clone()),
            Some(_) => Err(claim(name, "is not a text")),
            None => Err(claim(name, "is missing")),
        }
    }

    fn groups(&self, name: &str) -> Result<Vec<String>, JwtError> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let groups = match self.0.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(groups)) => groups.iter().map(text).collect(),
            Some(one) => text(one).map(|group| vec![group]),
        };
        groups.ok_or_else(|| claim(name, "is neither a text nor an array of texts"))
    }
}

fn claim(name: &str, what: &'static str) -> JwtError {
    JwtError::Claim { name: name.to_owned(), what }
}

fn part(text: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed("a part is not base64url"))
}

#[cfg(test)]
mod tests;
