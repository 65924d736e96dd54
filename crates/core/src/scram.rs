//! The server's side of SCRAM-SHA-256, message by message.
//!
//! [`ClientFirst::parse`], [`ClientFirst::challenge`], [`ServerFirst::finish`]: each takes one message and gives the next state,
//! as RFC 5802 and RFC 7677 say. Malformed input is an error value and never a panic.
//! There is no channel binding: `n,` and `y,` are taken, `p=` is refused.
//! SASLprep is not applied: usernames and passwords count byte by byte, as in the rest of Midge.
//! An authorization identity is taken only where it repeats the username.

mod credential;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::credential::{FakeKey, ScramCredential};

/// The name of the mechanism, which is the authentication method of MQTT 5.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The longest message of a client in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// The fewest iterations of a new credential (RFC 7677, section 4).
pub const MIN_SCRAM_ITERATIONS: u32 = 4096;
/// The most iterations of a credential; the *client* has to compute them.
pub const MAX_SCRAM_ITERATIONS: u32 = 10_000_000;

type Sha256Bytes = [u8; 32];

/// Why an exchange ended without a login, or a credential can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramError {
    /// A message is longer than [`MAX_MESSAGE_BYTES`].
    #[error("the SCRAM message has {0} bytes, at most {MAX_MESSAGE_BYTES} are allowed")]
    TooLong(usize),
    /// A message doesn't follow the grammar of RFC 5802, section 7.
    #[error("the SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The client asks for channel binding.
    #[error("channel binding is not offered")]
    ChannelBinding,
    /// The client wants to act as somebody else.
    #[error("the authorization identity differs from the username")]
    AuthorizationIdentity,
    /// The client uses a mandatory extension; none is known.
    #[error("a mandatory SCRAM extension is not known")]
    Extension,
    /// The last message belongs to another exchange.
    #[error("the nonce or the channel binding of the last message is not that of the exchange")]
    OtherExchange,
    /// The client doesn't know the password, or the user is unknown.
    #[error("the proof is wrong")]
    Refused,
    /// A stored credential doesn't have PostgreSQL's form.
    #[error("the SCRAM credential is not SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
    Credential,
    /// The iterations of a credential are out of range.
    #[error(
        "a SCRAM credential with {0} iterations is refused, at most {MAX_SCRAM_ITERATIONS} and for a new one at least {MIN_SCRAM_ITERATIONS} are allowed"
    )]
    Iterations(u32),
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
}

/// The server's share of the nonce: printable ASCII without commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNonce(String);

impl ServerNonce {
    /// Returns a new nonce of 18 random bytes in base64.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn generate() -> Result<Self, ScramError> {
        let mut bytes = [0; 18];
        getrandom::fill(&mut bytes).map_err(ScramError::Random)?;
        Ok(Self(STANDARD.encode(bytes)))
    }

    /// Returns `text` as a nonce. For exchanges that must repeat; anyone else calls [`ServerNonce::generate`].
    ///
    /// # Errors
    /// The text is empty or holds something else than printable ASCII without commas.
    pub fn new(text: &str) -> Result<Self, ScramError> {
        printable(text).map(|text| Self(text.to_owned()))
    }
}

/// What the client's first message says.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFirst {
    username: String,
    header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads the client's first message, `n,,n=USER,r=NONCE`.
    ///
    /// # Errors
    /// The message is too long or malformed, or asks for something that is not offered here.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed("there is no header"))?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed("the header begins with none of n, y and p=")),
        }
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Malformed("the header has no end"))?;
        let header = &message[..message.len() - bare.len()];

        let mut attributes = bare.split(',');
        let username = match attributes.next() {
            Some(first) if first.starts_with("m=") => return Err(ScramError::Extension),
            first => unescape(attribute(first, "n=")?)?,
        };
        let nonce = printable(attribute(attributes.next(), "r=")?)?;
        extensions(attributes)?;
        if !identity.is_empty() && unescape(attribute(Some(identity), "a=")?)? != username {
            return Err(ScramError::AuthorizationIdentity);
        }
        Ok(Self { username, header: header.to_owned(), bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// Returns the username, with `=2C` and `=3D` undone; it is never empty and holds no NUL.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Returns the state that waits for the client's proof; its [`ServerFirst::message`] goes out.
    ///
    /// For an unknown user `credential` is [`ScramCredential::fake`]: the exchange then runs to its end and is refused there.
    #[must_use]
    pub fn challenge(self, credential: &ScramCredential, nonce: &ServerNonce) -> ServerFirst {
        let nonce = format!("{}{}", self.nonce, nonce.0);
        let message = format!("r={nonce},s={},i={}", STANDARD.encode(&credential.salt), credential.iterations);
        ServerFirst { client: self, nonce, message, stored_key: credential.stored_key, server_key: credential.server_key }
    }
}

impl fmt::Debug for ClientFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFirst").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An exchange that waits for the client's proof.
#[derive(Clone)]
pub struct ServerFirst {
    client: ClientFirst,
    nonce: String,
    message: String,
    stored_key: Sha256Bytes,
    server_key: Sha256Bytes,
}

impl ServerFirst {
    /// Returns the username whose password is to be proved.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.client.username
    }

    /// Returns the server's first message, `r=…,s=…,i=…`.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Checks the client's last message and returns the server's, `v=…`, which proves the server in turn.
    ///
    /// # Errors
    /// The message is malformed, belongs to another exchange, or its proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed("there is no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = base64(attribute(attributes.next(), "c=")?)?;
        let nonce = attribute(attributes.next(), "r=")?;
        extensions(attributes)?;
        if binding != self.client.header.as_bytes() || nonce != self.nonce {
            return Err(ScramError::OtherExchange);
        }
        let proof = Sha256Bytes::try_from(base64(proof)?).map_err(|_| ScramError::Malformed("the proof does not have 32 bytes"))?;

        let signed = format!("{},{},{without_proof}", self.client.bare, self.message);
        let mut client_key = hmac_sha256(&self.stored_key, &[signed.as_bytes()]);
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        if !bool::from(Sha256::digest(client_key).as_slice().ct_eq(&self.stored_key)) {
            return Err(ScramError::Refused);
        }
        let signature = hmac_sha256(&self.server_key, &[signed.as_bytes()]);
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

impl fmt::Debug for ServerFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFirst").field("client", &self.client).finish_non_exhaustive()
    }
}

fn hmac_sha256(key: &Sha256Bytes, parts: &[&[u8]]) -> Sha256Bytes {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(ScramError::TooLong(message.len()));
    }
    match std::str::from_utf8(message) {
        Ok(text) if text.contains('\0') => Err(ScramError::Malformed("it holds U+0000")),
        Ok(text) => Ok(text),
        Err(_) => Err(ScramError::Malformed("it is not UTF-8")),
    }
}

fn attribute<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    field.and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed("an attribute is missing or out of order"))
}

/// Optional extensions are passed over, as RFC 5802, section 5.1, wants it; they must still look like attributes.
fn extensions<'a>(mut attributes: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    attributes.try_for_each(|attribute| match attribute.as_bytes() {
        [b'm', b'=', ..] => Err(ScramError::Extension),
        [name, b'=', _, ..] if name.is_ascii_alphabetic() => Ok(()),
        _ => Err(ScramError::Malformed("something follows that is no attribute")),
    })
}

fn printable(nonce: &str) -> Result<&str, ScramError> {
    let allowed = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if allowed { Ok(nonce) } else { Err(ScramError::Malformed("a nonce is empty or not printable")) }
}

fn unescape(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed("a name holds = without 2C or 3D")),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    if plain.is_empty() { Err(ScramError::Malformed("a name is empty")) } else { Ok(plain) }
}

fn base64(text: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| ScramError::Malformed("an attribute is not base64"))
}

#[cfg(test)]
mod tests;
