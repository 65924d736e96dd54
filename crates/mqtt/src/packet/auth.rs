//! AUTH: one step of enhanced authentication, 5.0 only.

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{Body, encodes};
use crate::properties::{Place, Properties};
use crate::property::PropertyId;
use crate::reason::ReasonCode;
use crate::value::{ProtocolVersion, Sender};
use crate::wire::Reader;

/// A challenge, a response, or the end of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auth<'a> {
    /// Which step this is.
    pub reason_code: ReasonCode,
    /// The properties, among them the authentication method.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// An empty AUTH means success without properties (section 3.15.2.1), so that is the one case
    /// in which the authentication method may be missing.
    pub(crate) fn read(sender: Sender, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let empty = reader.is_empty();
        let value = if empty { ReasonCode::Success.value() } else { reader.u8()? };
        let reason_code = ReasonCode::new(value)
            .filter(|code| code.allowed_in(PacketType::Auth, sender))
            .ok_or(DecodeError::ReasonCodeNotAllowed { packet: PacketType::Auth, value })?;
        if empty {
            return Ok(Self { reason_code, properties: Properties::NONE });
        }
        let properties = Properties::read(Place::Auth, sender, reader)?;
        if !properties.contains(PropertyId::AuthenticationMethod) {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(Self { reason_code, properties })
    }

    fn says_nothing(&self) -> bool {
        self.reason_code == ReasonCode::Success && self.properties.is_empty()
    }
}

impl Body for Auth<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if version != ProtocolVersion::V5 {
            return Err(EncodeError::NotInVersion);
        }
        if self.says_nothing() { Ok(0) } else { Ok(1 + self.properties.prefixed_len()?) }
    }

    fn write_body(&self, _: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.says_nothing() {
            return Ok(());
        }
        out.push(self.reason_code.value());
        self.properties.write_prefixed(out)
    }
}

encodes!(Auth);
