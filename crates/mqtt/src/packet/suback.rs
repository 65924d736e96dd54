//! SUBACK and UNSUBACK: one result for each topic filter.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{Body, encodes, properties_len, put_properties};
use crate::properties::{Place, Properties};
use crate::reason::ReasonCode;
use crate::sequence::{Element, Sequence};
use crate::value::{PacketId, ProtocolVersion, Sender};
use crate::wire::{Reader, put_u16};

/// The answer to SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suback<'a> {
    /// The packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// A result for each topic filter, in their order. Before 5.0 every failure is 0x80.
    pub reason_codes: ReasonCodes<'a>,
}

impl<'a> Suback<'a> {
    pub(crate) fn read(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let (properties, reason_codes) = match version {
            ProtocolVersion::V5 => {
                let properties = Properties::read(Place::Suback, Sender::Server, reader)?;
                (properties, ReasonCodes::read(PacketType::Suback, reader, |_| true)?)
            }
            ProtocolVersion::V31 | ProtocolVersion::V311 => {
                let known = |code| matches!(code, 0x00..=0x02 | 0x80);
                (Properties::NONE, ReasonCodes::read(PacketType::Suback, reader, known)?)
            }
        };
        Ok(Self { packet_id, properties, reason_codes })
    }
}

impl Body for Suback<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let properties = properties_len(version, &self.properties)?;
        Ok(2 + properties + self.reason_codes.0.encoded_len())
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_u16(out, self.packet_id.value());
        put_properties(version, &self.properties, out)?;
        if version == ProtocolVersion::V5 {
            return self.reason_codes.0.write(out);
        }
        out.extend(self.reason_codes.iter().map(|code| code.value().min(0x80)));
        Ok(())
    }
}

encodes!(Suback);

/// The answer to UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsuback<'a> {
    /// The packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// A result for each topic filter, in their order. Empty before 5.0.
    pub reason_codes: ReasonCodes<'a>,
}

impl<'a> Unsuback<'a> {
    pub(crate) fn read(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let (properties, reason_codes) = match version {
            ProtocolVersion::V5 => {
                let properties = Properties::read(Place::Unsuback, Sender::Server, reader)?;
                (properties, ReasonCodes::read(PacketType::Unsuback, reader, |_| true)?)
            }
            ProtocolVersion::V31 | ProtocolVersion::V311 => (Properties::NONE, ReasonCodes::new(&[])),
        };
        Ok(Self { packet_id, properties, reason_codes })
    }
}

impl Body for Unsuback<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if version != ProtocolVersion::V5 {
            return Ok(2);
        }
        Ok(2 + self.properties.prefixed_len()? + self.reason_codes.0.encoded_len())
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_u16(out, self.packet_id.value());
        if version != ProtocolVersion::V5 {
            return Ok(());
        }
        self.properties.write_prefixed(out)?;
        self.reason_codes.0.write(out)
    }
}

encodes!(Unsuback);

/// Reason codes in their order.
#[derive(Clone, Copy, PartialEq)]
pub struct ReasonCodes<'a>(Sequence<'a, ReasonCode>);

impl<'a> ReasonCodes<'a> {
    /// Returns a view of reason codes to encode.
    #[must_use]
    pub const fn new(list: &'a [ReasonCode]) -> Self {
        Self(Sequence::List(list))
    }

    /// Returns the reason codes one by one.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + Clone + use<'a> {
        self.0.iter()
    }

    /// Reads all that is left as reason codes that the packet and `known` allow.
    fn read(packet: PacketType, reader: &mut Reader<'a>, known: impl Fn(u8) -> bool) -> Result<Self, DecodeError> {
        let bytes = reader.take(reader.rest().len())?;
        if bytes.is_empty() {
            return Err(DecodeError::NoReasonCodes(packet));
        }
        let allowed = |value| known(value) && ReasonCode::new(value).is_some_and(|code| code.allowed_in(packet, Sender::Server));
        match bytes.iter().find(|&&value| !allowed(value)) {
            Some(&value) => Err(DecodeError::ReasonCodeNotAllowed { packet, value }),
            None => Ok(Self(Sequence::Wire(bytes))),
        }
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Element<'a> for ReasonCode {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        // Only ever over bytes that `ReasonCodes::read` has looked at.
        Self::new(reader.u8()?).ok_or(DecodeError::Truncated)
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(self.value());
        Ok(())
    }
}
