//! The fixed header, before the packet is there.

use std::fmt;

use crate::error::DecodeError;
use crate::value::ProtocolVersion;
use crate::wire::{TooLong, variable_byte_integer, variable_byte_integer_len};

/// The largest remaining length, in bytes.
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// The largest packet that can exist, in bytes, fixed header included.
pub const MAX_PACKET_SIZE: u32 = MAX_REMAINING_LENGTH + 5;

/// A packet type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// Returns the packet type of the first byte of a packet, or `None` for the reserved type 0.
    #[must_use]
    #[inline]
    pub const fn of_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// Returns the first byte of such a packet; for PUBLISH with all flags 0.
    #[must_use]
    #[inline]
    pub const fn first_byte(self) -> u8 {
        let reserved = match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        ((self as u8) << 4) | reserved
    }

    /// Returns the name as the standard writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fixed header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    first_byte: u8,
    header_len: u8,
    packet_type: PacketType,
    remaining_length: u32,
}

impl FrameHeader {
    /// Returns the fixed header in front of `input`, or `None` if it isn't complete (2 to 5 bytes).
    ///
    /// # Errors
    /// [`DecodeError::ReservedPacketType`] for type 0, as soon as there is one byte;
    /// [`DecodeError::RemainingLengthTooLong`].
    #[inline]
    pub fn peek(input: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some((&first_byte, rest)) = input.split_first() else { return Ok(None) };
        let packet_type = PacketType::of_first_byte(first_byte).ok_or(DecodeError::ReservedPacketType)?;
        let length = variable_byte_integer(rest).map_err(|TooLong| DecodeError::RemainingLengthTooLong)?;
        let Some((remaining_length, len)) = length else { return Ok(None) };
        let header_len = match len {
            1 => 2,
            2 => 3,
            3 => 4,
            _ => 5,
        };
        Ok(Some(Self { first_byte, header_len, packet_type, remaining_length }))
    }

    /// Returns the type of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// Returns the first byte: type and flags.
    #[must_use]
    pub const fn first_byte(&self) -> u8 {
        self.first_byte
    }

    /// Returns the lower four bits of the first byte.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.first_byte & 0x0F
    }

    /// Returns the size of the fixed header in bytes, 2 to 5.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Returns the size of what follows the fixed header, in bytes.
    #[must_use]
    pub const fn remaining_length(&self) -> u32 {
        self.remaining_length
    }

    /// Returns the size of the whole packet in bytes.
    #[must_use]
    pub const fn packet_len(&self) -> u32 {
        self.remaining_length + self.header_len as u32
    }

    /// Checks the remaining length and the flags against what a version demands.
    ///
    /// 3.1 gives no meaning to most flags of most packets and so they are ignored there, as its
    /// text asks; PUBREL, SUBSCRIBE and UNSUBSCRIBE have QoS 1 and may have DUP.
    #[inline]
    pub(crate) fn check(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        if version == ProtocolVersion::V5 && self.header_len() != 1 + variable_byte_integer_len(self.remaining_length) {
            return Err(DecodeError::VariableByteIntegerNotMinimal);
        }
        if self.packet_type == PacketType::Publish {
            return self.check_publish_flags(version);
        }
        let expected = self.packet_type.first_byte();
        let significant = match (version, self.packet_type) {
            (ProtocolVersion::V31, PacketType::Pubrel | PacketType::Subscribe)
            | (ProtocolVersion::V31, PacketType::Unsubscribe) => 0b1111_0110,
            (ProtocolVersion::V31, _) => 0b1111_0000,
            _ => 0b1111_1111,
        };
        if self.first_byte & significant != expected & significant {
            return Err(DecodeError::FixedHeaderFlags(self.packet_type));
        }
        Ok(())
    }

    #[inline]
    fn check_publish_flags(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        match self.first_byte & 0b0110 {
            0b0110 => Err(DecodeError::PublishQoS),
            0 if self.first_byte & 0b1000 != 0 && version != ProtocolVersion::V31 => Err(DecodeError::DupWithQoS0),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_before_the_packet_is_there() {
        let header = FrameHeader::peek(&[0x3D, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap().unwrap();
        assert_eq!(header.packet_type(), PacketType::Publish);
        assert_eq!(header.flags(), 0x0D);
        assert_eq!(header.header_len(), 5);
        assert_eq!(header.packet_len(), MAX_PACKET_SIZE);
        assert_eq!(FrameHeader::peek(&[]), Ok(None));
        assert_eq!(FrameHeader::peek(&[0x30]), Ok(None));
        assert_eq!(FrameHeader::peek(&[0x30, 0x80]), Ok(None));
        assert_eq!(FrameHeader::peek(&[0x0F]), Err(DecodeError::ReservedPacketType));
        assert_eq!(FrameHeader::peek(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]), Err(DecodeError::RemainingLengthTooLong));
    }
}
