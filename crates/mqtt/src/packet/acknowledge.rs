//! PUBACK, PUBREC, PUBREL and PUBCOMP: steps of one delivery.

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{Body, encodes};
use crate::properties::{Place, Properties};
use crate::reason::ReasonCode;
use crate::value::{PacketId, ProtocolVersion, Sender};
use crate::wire::{Reader, put_u16};

macro_rules! acknowledgement {
    ($packet:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $packet<'a> {
            /// The packet identifier of the PUBLISH.
            pub packet_id: PacketId,
            /// The result; always success before 5.0.
            pub reason_code: ReasonCode,
            /// The properties.
            pub properties: Properties<'a>,
        }

        impl<'a> $packet<'a> {
            /// Returns the packet that says success and no more.
            #[must_use]
            pub const fn success(packet_id: PacketId) -> Self {
                Self { packet_id, reason_code: ReasonCode::Success, properties: Properties::NONE }
            }

            #[inline]
            pub(crate) fn read(version: ProtocolVersion, sender: Sender, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                let packet_id = reader.packet_id()?;
                if version != ProtocolVersion::V5 || reader.is_empty() {
                    return Ok(Self::success(packet_id));
                }
                let (packet, place) = (PacketType::$packet, Place::$packet);
                let (reason_code, properties) = read_reason(packet, place, sender, reader)?;
                Ok(Self { packet_id, reason_code, properties })
            }
        }

        impl Body for $packet<'_> {
            fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
                Ok(2 + reason_len(version, self.reason_code, &self.properties)?)
            }

            fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                put_u16(out, self.packet_id.value());
                put_reason(version, self.reason_code, &self.properties, out)
            }
        }

        encodes!($packet);
    };
}

acknowledgement!(Puback, "The answer to a PUBLISH of QoS 1.");
acknowledgement!(Pubrec, "The answer to a PUBLISH of QoS 2.");
acknowledgement!(Pubrel, "The answer to PUBREC.");
acknowledgement!(Pubcomp, "The answer to PUBREL.");

/// Reads a reason code and, if anything follows it, properties.
pub(crate) fn read_reason<'a>(
    packet: PacketType,
    place: Place,
    sender: Sender,
    reader: &mut Reader<'a>,
) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    let value = reader.u8()?;
    let reason_code = ReasonCode::new(value)
        .filter(|code| code.allowed_in(packet, sender))
        .ok_or(DecodeError::ReasonCodeNotAllowed { packet, value })?;
    if reader.is_empty() {
        return Ok((reason_code, Properties::NONE));
    }
    Ok((reason_code, Properties::read(place, sender, reader)?))
}

/// Returns the size of reason code and properties, which are left out where they say nothing.
pub(crate) fn reason_len(
    version: ProtocolVersion,
    reason_code: ReasonCode,
    properties: &Properties<'_>,
) -> Result<usize, EncodeError> {
    if version != ProtocolVersion::V5 {
        return Ok(0);
    }
    if !properties.is_empty() {
        return Ok(1 + properties.prefixed_len()?);
    }
    Ok(usize::from(reason_code != ReasonCode::Success))
}

/// Appends what [`reason_len`] counts.
pub(crate) fn put_reason(
    version: ProtocolVersion,
    reason_code: ReasonCode,
    properties: &Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if reason_len(version, reason_code, properties)? == 0 {
        return Ok(());
    }
    out.push(reason_code.value());
    if properties.is_empty() { Ok(()) } else { properties.write_prefixed(out) }
}
