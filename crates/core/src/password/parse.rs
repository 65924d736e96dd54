//! Tells the encoding of a stored password by its marks.
//!
//! Every reader here is strict about structure and lengths, since a record that is cut off must be an error and not a mismatch.
//! Nothing of the stored text appears in an error.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{
    Digest, Encoding, Key, MAX_BCRYPT_COST, MAX_STORED_BYTES, PasswordError, SaltPosition, Scheme, StoredPassword, argon2_params,
    bounded,
};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

type Parsed = Result<StoredPassword, PasswordError>;
type Reader = fn(&str) -> Parsed;

pub(super) fn parse(text: &str) -> Parsed {
    const READERS: [(&str, Reader); 10] = [
        ("$argon2id$", argon2id),
        ("$7$", mosquitto7),
        ("$6$", mosquitto6),
        ("PBKDF2$", go_auth),
        ("$pbkdf2-", phc_pbkdf2),
        ("pbkdf2_", django),
        ("$2a$", bcrypt),
        ("$2b$", bcrypt),
        ("$2y$", bcrypt),
        ("{", braces),
    ];
    if text.len() > MAX_STORED_BYTES {
        return Err(PasswordError::TooLong(text.len()));
    }
    READERS.iter().find_map(|(mark, reader)| text.strip_prefix(mark).map(reader)).unwrap_or(Err(PasswordError::Unknown))
}

pub(super) fn hex(encoding: Encoding, text: &str) -> Result<Key, PasswordError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let malformed = || PasswordError::Malformed { encoding, what: "its key is not hex" };
    if !text.len().is_multiple_of(2) {
        return Err(malformed());
    }
    let mut key = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks_exact(2) {
        let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(malformed)?;
        key.push(high << 4 | low);
    }
    Ok(key)
}

fn argon2id(rest: &str) -> Parsed {
    let encoding = Encoding::Argon2id;
    let [version, costs, salt, key] = fields(encoding, rest, '$')?;
    if version != "v=19" {
        return malformed(encoding, "its version is not v=19");
    }
    let [memory, passes, lanes] = fields(encoding, costs, ',')?;
    let params =
        argon2_params(assigned(encoding, memory, "m=")?, assigned(encoding, passes, "t=")?, assigned(encoding, lanes, "p=")?)?;
    let salt = base64(encoding, &BASE64, salt)?;
    StoredPassword::argon2id(params, salt.to_vec(), base64(encoding, &BASE64, key)?)
}

fn mosquitto7(rest: &str) -> Parsed {
    let encoding = Encoding::MosquittoPbkdf2;
    let [iterations, salt, key] = fields(encoding, rest, '$')?;
    let (salt, key) = mosquitto(encoding, salt, key)?;
    StoredPassword::pbkdf2(encoding, Digest::Sha512, number(encoding, iterations)?, vec![salt], key)
}

fn mosquitto6(rest: &str) -> Parsed {
    let encoding = Encoding::MosquittoSha512;
    let [salt, key] = fields(encoding, rest, '$')?;
    let (salt, key) = mosquitto(encoding, salt, key)?;
    let scheme = Scheme::Digest { digest: Digest::Sha512, position: SaltPosition::Suffix, salt, key };
    Ok(StoredPassword { encoding, scheme })
}

/// Padded base64 only: crypt(3) writes `$6$` as well, without padding and with another meaning.
fn mosquitto(encoding: Encoding, salt: &str, key: &str) -> Result<(Vec<u8>, Key), PasswordError> {
    let key = base64(encoding, &STANDARD, key)?;
    if key.len() != Digest::Sha512.len() {
        return malformed(encoding, "its key does not have 64 bytes");
    }
    Ok((base64(encoding, &STANDARD, salt)?.to_vec(), key))
}

fn go_auth(rest: &str) -> Parsed {
    let encoding = Encoding::GoAuthPbkdf2;
    let [name, iterations, salt, key] = fields(encoding, rest, '$')?;
    let mut salts: Vec<Vec<u8>> = STANDARD.decode(salt).into_iter().collect();
    salts.push(salt.as_bytes().to_vec());
    let key = base64(encoding, &BASE64, key)?;
    StoredPassword::pbkdf2(encoding, digest(encoding, name)?, number(encoding, iterations)?, salts, key)
}

fn phc_pbkdf2(rest: &str) -> Parsed {
    let encoding = Encoding::PhcPbkdf2;
    let [name, costs, salt, key] = fields(encoding, rest, '$')?;
    let [iterations, length] = fields(encoding, costs, ',')?;
    let key = base64(encoding, &BASE64, key)?;
    if usize::try_from(assigned(encoding, length, "l=")?) != Ok(key.len()) {
        return malformed(encoding, "its key is not as long as it says");
    }
    let salt = base64(encoding, &BASE64, salt)?.to_vec();
    StoredPassword::pbkdf2(encoding, digest(encoding, name)?, assigned(encoding, iterations, "i=")?, vec![salt], key)
}

fn django(rest: &str) -> Parsed {
    let encoding = Encoding::DjangoPbkdf2;
    let [name, iterations, salt, key] = fields(encoding, rest, '$')?;
    let key = base64(encoding, &BASE64, key)?;
    let salt = salt.as_bytes().to_vec();
    StoredPassword::pbkdf2(encoding, digest(encoding, name)?, number(encoding, iterations)?, vec![salt], key)
}

fn bcrypt(rest: &str) -> Parsed {
    let encoding = Encoding::Bcrypt;
    let [cost, body] = fields(encoding, rest, '$')?;
    if cost.len() != 2 || body.len() != 53 || !body.is_ascii() {
        return malformed(encoding, "it does not have 60 characters in bcrypt's order");
    }
    let cost = number(encoding, cost)?;
    bounded(encoding, "cost", u64::from(cost), 4, u64::from(MAX_BCRYPT_COST))?;
    let (salt, key) = body.split_at(22);
    let salt = base64(encoding, &BCRYPT_BASE64, salt)?;
    let salt = <[u8; 16]>::try_from(salt.as_slice())
        .map_err(|_| PasswordError::Malformed { encoding, what: "its salt does not have 16 bytes" })?;
    Ok(StoredPassword { encoding, scheme: Scheme::Bcrypt { cost, salt, key: base64(encoding, &BCRYPT_BASE64, key)? } })
}

fn braces(rest: &str) -> Parsed {
    if let Some(text) = rest.strip_prefix("plain}") {
        return Ok(StoredPassword::plain(text.as_bytes()));
    }
    // Hex has no brace, so a salt may have one.
    let (marks, hex) = rest.rsplit_once('}').ok_or(PasswordError::Unknown)?;
    let mut parts = marks.splitn(3, ':');
    let name = parts.next().unwrap_or_default();
    if let Some(name) = name.strip_prefix("pbkdf2-") {
        let encoding = Encoding::HexPbkdf2;
        let (Some(iterations), Some(salt)) = (parts.next(), parts.next()) else {
            return malformed(encoding, "iterations or salt are missing in its braces");
        };
        return StoredPassword::pbkdf2_hex(digest(encoding, name)?, number(encoding, iterations)?, salt.as_bytes(), hex);
    }
    let digest = Digest::from_name(name).ok_or(PasswordError::Unknown)?;
    let salt = match (parts.next(), parts.next()) {
        (None, _) => None,
        (Some("prefix"), Some(salt)) => Some((SaltPosition::Prefix, salt.as_bytes())),
        (Some("suffix"), Some(salt)) => Some((SaltPosition::Suffix, salt.as_bytes())),
        _ => return malformed(Encoding::SaltedHexDigest, "its braces hold neither prefix:SALT nor suffix:SALT"),
    };
    StoredPassword::digest(digest, salt, hex)
}

fn fields<const N: usize>(encoding: Encoding, text: &str, separator: char) -> Result<[&str; N], PasswordError> {
    let fields: Vec<&str> = text.split(separator).collect();
    <[&str; N]>::try_from(fields).map_err(|_| PasswordError::Malformed { encoding, what: "it has too few or too many fields" })
}

fn assigned(encoding: Encoding, field: &str, name: &str) -> Result<u32, PasswordError> {
    match field.strip_prefix(name) {
        Some(value) => number(encoding, value),
        None => malformed(encoding, "a parameter is missing or out of order"),
    }
}

/// Decimal digits only: no sign, no space; a number beyond 32 bits is beyond every limit.
fn number(encoding: Encoding, text: &str) -> Result<u32, PasswordError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return malformed(encoding, "a number is missing");
    }
    Ok(text.parse().unwrap_or(u32::MAX))
}

fn digest(encoding: Encoding, name: &str) -> Result<Digest, PasswordError> {
    Digest::from_name(name)
        .ok_or(PasswordError::Malformed { encoding, what: "its digest is none of md5, sha1, sha224, sha256, sha384 and sha512" })
}

fn base64(encoding: Encoding, engine: &GeneralPurpose, text: &str) -> Result<Key, PasswordError> {
    let decoded = engine.decode(text).map_err(|_| PasswordError::Malformed { encoding, what: "a field is not base64" })?;
    Ok(Zeroizing::new(decoded))
}

fn malformed<T>(encoding: Encoding, what: &'static str) -> Result<T, PasswordError> {
    Err(PasswordError::Malformed { encoding, what })
}
