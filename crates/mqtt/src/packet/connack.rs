//! CONNACK: whether the client is let in, and on what terms.

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::connect::check_authentication;
use crate::packet::{Body, encodes, properties_len, put_properties};
use crate::properties::{Place, Properties};
use crate::reason::ReasonCode;
use crate::value::{ProtocolVersion, Sender};
use crate::wire::Reader;

/// The answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connack<'a> {
    /// Whether the server goes on with an existing session. Not part of 3.1.
    pub session_present: bool,
    /// The result; before 5.0 a return code is read as the reason code of the same meaning.
    pub reason_code: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    pub(crate) fn read(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        let value = reader.u8()?;
        let not_allowed = DecodeError::ReasonCodeNotAllowed { packet: PacketType::Connack, value };
        let reason_code = match version {
            ProtocolVersion::V5 => ReasonCode::new(value).filter(|code| code.allowed_in(PacketType::Connack, Sender::Server)),
            ProtocolVersion::V31 | ProtocolVersion::V311 => ReasonCode::from_return_code(value),
        };
        let reason_code = reason_code.ok_or(not_allowed)?;
        let properties = match version {
            ProtocolVersion::V5 => Properties::read(Place::Connack, Sender::Server, reader)?,
            ProtocolVersion::V31 | ProtocolVersion::V311 => Properties::NONE,
        };
        check_authentication(&properties)?;
        // The byte is unused in 3.1.
        let flags = if version == ProtocolVersion::V31 { 0 } else { flags };
        if flags & !1 != 0 {
            return Err(DecodeError::ConnackFlags);
        }
        let session_present = flags == 1;
        if session_present && reason_code != ReasonCode::Success {
            return Err(DecodeError::SessionPresentWithError);
        }
        Ok(Self { session_present, reason_code, properties })
    }
}

impl Body for Connack<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        Ok(2 + properties_len(version, &self.properties)?)
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let value = match version {
            ProtocolVersion::V5 => self.reason_code.value(),
            ProtocolVersion::V31 | ProtocolVersion::V311 => {
                self.reason_code.return_code().ok_or(EncodeError::NoReturnCode(self.reason_code))?
            }
        };
        let session_present = self.session_present && version != ProtocolVersion::V31;
        out.extend_from_slice(&[u8::from(session_present), value]);
        put_properties(version, &self.properties, out)
    }
}

encodes!(Connack);
