//! DISCONNECT: the last packet, with the reason.

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::acknowledge::{put_reason, read_reason, reason_len};
use crate::packet::{Body, encodes};
use crate::properties::{Place, Properties};
use crate::reason::ReasonCode;
use crate::value::{ProtocolVersion, Sender};
use crate::wire::Reader;

/// The end of a connection. Before 5.0 only a client sends it, and always without a reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason_code: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Returns a DISCONNECT with a reason and no properties.
    #[must_use]
    pub const fn new(reason_code: ReasonCode) -> Self {
        Self { reason_code, properties: Properties::NONE }
    }

    pub(crate) fn read(version: ProtocolVersion, sender: Sender, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if version != ProtocolVersion::V5 || reader.is_empty() {
            return Ok(Self::new(ReasonCode::NORMAL_DISCONNECTION));
        }
        let (packet, place) = (PacketType::Disconnect, Place::Disconnect);
        let (reason_code, properties) = read_reason(packet, place, sender, reader)?;
        Ok(Self { reason_code, properties })
    }
}

impl Body for Disconnect<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        reason_len(version, self.reason_code, &self.properties)
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_reason(version, self.reason_code, &self.properties, out)
    }
}

encodes!(Disconnect);
