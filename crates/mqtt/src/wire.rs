//! The data representations of section 1.5, read in place and appended.

use crate::error::{DecodeError, EncodeError};
use crate::frame::MAX_REMAINING_LENGTH;
use crate::value::PacketId;

/// Reads fields from the front of a slice; a field that runs past the end is an error.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// Reads a variable byte integer, in no more bytes than it needs (`[MQTT-1.5.5-1]`).
    #[inline]
    pub(crate) fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let (value, len) = variable_byte_integer(self.rest)
            .map_err(|TooLong| DecodeError::VariableByteIntegerTooLong)?
            .ok_or(DecodeError::Truncated)?;
        if len != variable_byte_integer_len(value) {
            return Err(DecodeError::VariableByteIntegerNotMinimal);
        }
        self.take(len)?;
        Ok(value)
    }

    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Reads a UTF-8 encoded string: well-formed, without U+0000 and what section 1.5.4 of 5.0 disallows.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| DecodeError::IllFormedUtf8)?;
        check_characters(text)?;
        Ok(text)
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

/// Refuses U+0000, control characters and non-characters.
#[inline]
fn check_characters(text: &str) -> Result<(), DecodeError> {
    // One pass without an early exit, which the compiler can turn into vector instructions: only these
    // bytes begin what is disallowed. 0xC2 begins U+0080 to U+00BF, 0xEF U+F000 to U+FFFF, what is above
    // 0xEF the other planes, each of which ends in two non-characters.
    let begins = |byte| byte < 0x20 || byte == 0x7F || byte == 0xC2 || byte >= 0xEF;
    if text.bytes().fold(false, |found, byte| found | begins(byte)) { check_each_character(text) } else { Ok(()) }
}

#[cold]
fn check_each_character(text: &str) -> Result<(), DecodeError> {
    if text.contains('\0') {
        return Err(DecodeError::NullCharacter);
    }
    match text.chars().find(|&found| is_disallowed(found)) {
        Some(found) => Err(DecodeError::DisallowedCharacter(found)),
        None => Ok(()),
    }
}

/// The code points that make a packet malformed where the receiver wants that (5.0, section 1.5.4).
fn is_disallowed(found: char) -> bool {
    found.is_control() || matches!(found, '\u{FDD0}'..='\u{FDEF}') || u32::from(found) & 0xFFFE == 0xFFFE
}

/// A variable byte integer goes on after its fourth byte.
pub(crate) struct TooLong;

/// Returns value and length of the variable byte integer in front, `None` if it isn't complete.
#[inline]
pub(crate) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, TooLong> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(TooLong) }
}

/// Returns the number of bytes, 1 to 4, that a value up to 268,435,455 needs.
#[inline]
pub(crate) const fn variable_byte_integer_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Returns a length as a remaining length or property length.
pub(crate) fn checked_length(len: usize) -> Result<u32, EncodeError> {
    match u32::try_from(len) {
        Ok(value) if value <= MAX_REMAINING_LENGTH => Ok(value),
        _ => Err(EncodeError::PacketTooLarge(len)),
    }
}

#[inline]
pub(crate) fn put_variable_byte_integer(out: &mut Vec<u8>, mut value: u32) {
    debug_assert!(value <= MAX_REMAINING_LENGTH);
    loop {
        let [byte, ..] = (value & 0x7F).to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

#[inline]
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends binary data or a string, prefixed with its length.
#[inline]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(bytes.len()))?;
    put_u16(out, len);
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_at_their_limits() {
        // Source: table 1-1 of 5.0.
        let check = |value: u32, expected: &[u8]| {
            let mut out = Vec::new();
            put_variable_byte_integer(&mut out, value);
            assert_eq!(out, expected);
            assert_eq!(variable_byte_integer_len(value), expected.len());
            assert_eq!(Reader::new(expected).variable_byte_integer(), Ok(value));
        };
        check(0, &[0x00]);
        check(127, &[0x7F]);
        check(128, &[0x80, 0x01]);
        check(16_383, &[0xFF, 0x7F]);
        check(16_384, &[0x80, 0x80, 0x01]);
        check(2_097_151, &[0xFF, 0xFF, 0x7F]);
        check(2_097_152, &[0x80, 0x80, 0x80, 0x01]);
        check(268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]);
    }

    #[test]
    fn variable_byte_integers_that_are_none() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(Reader::new(bytes).variable_byte_integer(), Err(expected), "{bytes:02x?}");
        };
        check(&[], DecodeError::Truncated);
        check(&[0x80], DecodeError::Truncated);
        check(&[0xFF, 0xFF, 0xFF], DecodeError::Truncated);
        check(&[0x80, 0x00], DecodeError::VariableByteIntegerNotMinimal);
        check(&[0xFF, 0x80, 0x00], DecodeError::VariableByteIntegerNotMinimal);
        check(&[0xFF, 0xFF, 0xFF, 0xFF], DecodeError::VariableByteIntegerTooLong);
        check(&[0x80, 0x80, 0x80, 0x80, 0x00], DecodeError::VariableByteIntegerTooLong);
    }

    #[test]
    fn characters_of_strings() {
        for found in '\0'..=char::MAX {
            let expected = match u32::from(found) {
                0 => Err(DecodeError::NullCharacter),
                0x01..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF => Err(DecodeError::DisallowedCharacter(found)),
                value if value % 0x1_0000 >= 0xFFFE => Err(DecodeError::DisallowedCharacter(found)),
                _ => Ok(format!("a{found}b")),
            };
            let mut out = Vec::new();
            put_binary(&mut out, format!("a{found}b").as_bytes()).expect("a short string");
            assert_eq!(Reader::new(&out).string().map(str::to_owned), expected, "{found:?}");
        }
    }

    #[test]
    fn a_field_may_have_65535_bytes() {
        let mut out = Vec::new();
        assert_eq!(put_binary(&mut out, &[0; 65_535]), Ok(()));
        assert_eq!(put_binary(&mut out, &[0; 65_536]), Err(EncodeError::FieldTooLong(65_536)));
    }
}
