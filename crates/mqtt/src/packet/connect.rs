//! CONNECT: who the client is and what it leaves behind.

use crate::decode::Rules;
use crate::error::{DecodeError, EncodeError};
use crate::frame::{FrameHeader, PacketType};
use crate::packet::{Body, encodes, properties_len, put_properties};
use crate::properties::{Place, Properties};
use crate::property::PropertyId;
use crate::topic::check_topic_name;
use crate::value::{ProtocolVersion, QoS, Sender};
use crate::wire::{Reader, put_binary, put_u16};

const BRIDGE: u8 = 0x80;
const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// A request to connect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connect<'a> {
    /// The version that the client speaks.
    pub version: ProtocolVersion,
    /// Whether the client says that it is a bridge (Mosquitto's bit in the protocol level).
    pub bridge: bool,
    /// Clean start; in 3.1 and 3.1.1 clean session.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The properties of the connection.
    pub properties: Properties<'a>,
    /// The client identifier; empty where the server is to assign one.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// The message that the server publishes for a client that is gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Will<'a> {
    /// The QoS of the message.
    pub qos: QoS,
    /// Whether the message is retained.
    pub retain: bool,
    /// The topic name.
    pub topic: &'a str,
    /// The payload, up to 65,535 bytes.
    pub payload: &'a [u8],
    /// The will properties.
    pub properties: Properties<'a>,
}

impl ProtocolVersion {
    /// Returns the version that a CONNECT names, however broken the rest of it is.
    ///
    /// For choosing how to answer when decoding failed; `None` if it can't be told, or if no
    /// version of this crate has that name and level.
    #[must_use]
    pub fn of_connect(input: &[u8]) -> Option<Self> {
        let header = FrameHeader::peek(input).ok()??;
        if header.packet_type() != PacketType::Connect {
            return None;
        }
        let mut reader = Reader::new(input.get(header.header_len()..)?);
        let name = reader.binary().ok()?;
        version_of(name, reader.u8().ok()? & !BRIDGE).ok()
    }
}

impl<'a> Connect<'a> {
    pub(crate) fn read(rules: &Rules, header: &FrameHeader, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let name = reader.binary()?;
        let level = reader.u8()?;
        let bridge = rules.bridges && matches!(level, 0x83 | 0x84);
        let version = version_of(name, if bridge { level & !BRIDGE } else { level })?;
        header.check(version)?;
        let flags = reader.u8()?;
        check_flags(version, flags)?;
        let keep_alive = reader.u16()?;
        let properties = read_properties(version, Place::Connect, reader)?;
        check_authentication(&properties)?;
        let client_id = reader.string()?;
        let clean_start = flags & CLEAN_START != 0;
        check_client_id(version, client_id, clean_start)?;
        let will = if flags & WILL == 0 { None } else { Some(Will::read(version, flags, reader)?) };
        let missing = |reader: &Reader<'_>| version == ProtocolVersion::V31 && reader.is_empty();
        let username = match flags & USERNAME {
            0 => None,
            // 3.1 lets a client of the version before it set a flag and leave the field out.
            _ if missing(reader) => None,
            _ => Some(reader.string()?),
        };
        let password = match flags & PASSWORD {
            0 => None,
            _ if missing(reader) => None,
            _ => Some(reader.binary()?),
        };
        reader.finish()?;
        Ok(Self { version, bridge, clean_start, keep_alive, properties, client_id, will, username, password })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos.value() << 3);
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

impl Body for Connect<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let will = match &self.will {
            Some(will) => {
                let properties = properties_len(version, &will.properties)?;
                properties + 4 + will.topic.len() + will.payload.len()
            }
            None => 0,
        };
        Ok(2 + version.protocol_name().len()
            + 4
            + properties_len(version, &self.properties)?
            + 2
            + self.client_id.len()
            + will
            + self.username.map_or(0, |username| 2 + username.len())
            + self.password.map_or(0, |password| 2 + password.len()))
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_binary(out, version.protocol_name().as_bytes())?;
        let bridge = if self.bridge && version != ProtocolVersion::V5 { BRIDGE } else { 0 };
        out.push(version.level() | bridge);
        out.push(self.flags());
        put_u16(out, self.keep_alive);
        put_properties(version, &self.properties, out)?;
        put_binary(out, self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            put_properties(version, &will.properties, out)?;
            put_binary(out, will.topic.as_bytes())?;
            put_binary(out, will.payload)?;
        }
        if let Some(username) = self.username {
            put_binary(out, username.as_bytes())?;
        }
        if let Some(password) = self.password {
            put_binary(out, password)?;
        }
        Ok(())
    }
}

encodes!(Connect);

impl<'a> Will<'a> {
    fn read(version: ProtocolVersion, flags: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let qos = QoS::new((flags >> 3) & 0b11).ok_or(DecodeError::WillQoS)?;
        let properties = read_properties(version, Place::Will, reader)?;
        let topic = reader.string()?;
        check_topic_name(topic)?;
        let payload = reader.binary()?;
        Ok(Self { qos, retain: flags & WILL_RETAIN != 0, topic, payload, properties })
    }

    /// Returns whether the payload is UTF-8 where its payload format indicator says so.
    #[must_use]
    pub fn payload_fits_format(&self) -> bool {
        self.properties.payload_format_indicator() != Some(true) || std::str::from_utf8(self.payload).is_ok()
    }
}

/// Refuses authentication data that no authentication method explains.
pub(crate) fn check_authentication(properties: &Properties<'_>) -> Result<(), DecodeError> {
    if properties.contains(PropertyId::AuthenticationData) && !properties.contains(PropertyId::AuthenticationMethod) {
        return Err(DecodeError::AuthenticationDataWithoutMethod);
    }
    Ok(())
}

fn version_of(name: &[u8], level: u8) -> Result<ProtocolVersion, DecodeError> {
    match (name, level) {
        (b"MQTT", 4) => Ok(ProtocolVersion::V311),
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V31),
        (b"MQTT" | b"MQIsdp", _) => Err(DecodeError::UnsupportedProtocolVersion(level)),
        _ => Err(DecodeError::UnknownProtocolName),
    }
}

/// Checks the connect flags; 3.1 disregards the reserved flag and a will that isn't there.
fn check_flags(version: ProtocolVersion, flags: u8) -> Result<(), DecodeError> {
    if version != ProtocolVersion::V5 && flags & (USERNAME | PASSWORD) == PASSWORD {
        return Err(DecodeError::PasswordWithoutUsername);
    }
    let will_qos = (flags >> 3) & 0b11;
    if flags & WILL != 0 && will_qos == 3 {
        return Err(DecodeError::WillQoS);
    }
    if version == ProtocolVersion::V31 {
        return Ok(());
    }
    if flags & RESERVED != 0 {
        return Err(DecodeError::ConnectReservedFlag);
    }
    if flags & WILL == 0 && will_qos != 0 {
        return Err(DecodeError::WillQoSWithoutWill);
    }
    if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
        return Err(DecodeError::WillRetainWithoutWill);
    }
    Ok(())
}

/// Checks that there is a client identifier where there has to be one.
///
/// 3.1 allows 23 characters and wants longer ones refused; its clients use them all the same, and so other servers take them.
fn check_client_id(version: ProtocolVersion, client_id: &str, clean_start: bool) -> Result<(), DecodeError> {
    let valid = match version {
        ProtocolVersion::V31 => !client_id.is_empty(),
        ProtocolVersion::V311 => clean_start || !client_id.is_empty(),
        ProtocolVersion::V5 => true,
    };
    if valid { Ok(()) } else { Err(DecodeError::ClientIdentifierNotValid) }
}

fn read_properties<'a>(version: ProtocolVersion, place: Place, reader: &mut Reader<'a>) -> Result<Properties<'a>, DecodeError> {
    match version {
        ProtocolVersion::V5 => Properties::read(place, Sender::Client, reader),
        ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Properties::NONE),
    }
}
