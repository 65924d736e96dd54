//! All packets under one name, and how each is framed.

pub(crate) mod acknowledge;
pub(crate) mod auth;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod publish;
pub(crate) mod suback;
pub(crate) mod subscribe;

use crate::decode::{Peer, Rules};
use crate::error::{DecodeError, EncodeError};
use crate::frame::{FrameHeader, PacketType};
use crate::value::ProtocolVersion;
use crate::wire::{Reader, checked_length, put_variable_byte_integer, variable_byte_integer_len};
use acknowledge::{Puback, Pubcomp, Pubrec, Pubrel};
use auth::Auth;
use connack::Connack;
use connect::Connect;
use disconnect::Disconnect;
use publish::Publish;
use suback::{Suback, Unsuback};
use subscribe::{Subscribe, Unsubscribe};

/// A packet; what is not a number in it is borrowed.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Puback<'a>),
    Pubrec(Pubrec<'a>),
    Pubrel(Pubrel<'a>),
    Pubcomp(Pubcomp<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Returns the packet type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet as that version writes it; CONNECT goes by its own version.
    ///
    /// What the version has no room for (properties and most reason codes before 5.0) is left
    /// out. Nothing is appended on an error.
    ///
    /// # Errors
    /// [`EncodeError`]: a field or the packet is too long, or the version can't say it.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Publish(publish) => publish.encode(version, out),
            Self::Pingreq | Self::Pingresp => {
                out.extend_from_slice(&[self.packet_type().first_byte(), 0]);
                Ok(())
            }
            Self::Connect(packet) => packet.encode(packet.version, out),
            Self::Connack(packet) => packet.encode(version, out),
            Self::Puback(packet) => packet.encode(version, out),
            Self::Pubrec(packet) => packet.encode(version, out),
            Self::Pubrel(packet) => packet.encode(version, out),
            Self::Pubcomp(packet) => packet.encode(version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::Suback(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::Unsuback(packet) => packet.encode(version, out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }

    #[inline]
    pub(crate) fn read(rules: &Rules, header: &FrameHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (Peer::Client(version) | Peer::Server(version)) = rules.peer else {
            return Ok(Self::Connect(Connect::read(rules, header, &mut reader)?));
        };
        let sender = rules.peer.sender();
        if header.packet_type() == PacketType::Publish {
            let publish = Publish::read(version, sender, header.first_byte(), &mut reader)?;
            return Ok(Self::Publish(publish));
        }
        let packet = match header.packet_type() {
            PacketType::Puback => Self::Puback(Puback::read(version, sender, &mut reader)?),
            PacketType::Pubrec => Self::Pubrec(Pubrec::read(version, sender, &mut reader)?),
            PacketType::Pubrel => Self::Pubrel(Pubrel::read(version, sender, &mut reader)?),
            PacketType::Pubcomp => Self::Pubcomp(Pubcomp::read(version, sender, &mut reader)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::read(version, &mut reader)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::read(version, &mut reader)?),
            PacketType::Pingreq => Self::Pingreq,
            PacketType::Pingresp => Self::Pingresp,
            PacketType::Disconnect => Self::Disconnect(Disconnect::read(version, sender, &mut reader)?),
            PacketType::Auth => Self::Auth(Auth::read(sender, &mut reader)?),
            PacketType::Connack => Self::Connack(Connack::read(version, &mut reader)?),
            PacketType::Suback => Self::Suback(Suback::read(version, &mut reader)?),
            PacketType::Unsuback => Self::Unsuback(Unsuback::read(version, &mut reader)?),
            // Answered above; CONNECT is refused by the rules once a version is agreed.
            PacketType::Connect | PacketType::Publish => return Err(DecodeError::SecondConnect),
        };
        reader.finish()?;
        Ok(packet)
    }
}

/// What follows the fixed header of a packet that is to be written.
pub(crate) trait Body {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError>;
    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Appends a frame after reserving exactly its size; on an error the buffer is as before.
pub(crate) fn write_frame(
    first_byte: u8,
    body: &impl Body,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let body_len = body.body_len(version)?;
    let remaining_length = checked_length(body_len)?;
    let start = out.len();
    out.reserve(1 + variable_byte_integer_len(remaining_length) + body_len);
    out.push(first_byte);
    put_variable_byte_integer(out, remaining_length);
    let body_start = out.len();
    let written = body.write_body(version, out);
    if written.is_err() {
        out.truncate(start);
    } else {
        debug_assert_eq!(out.len() - body_start, body_len, "the computed length is exact");
    }
    written
}

/// Gives a packet its `encode`.
macro_rules! encodes {
    ($packet:ident) => {
        impl $packet<'_> {
            /// Appends the packet as that version writes it. Nothing is appended on an error.
            ///
            /// # Errors
            /// [`EncodeError`]: a field or the packet is too long, or the version can't say it.
            pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                crate::packet::write_frame(PacketType::$packet.first_byte(), self, version, out)
            }
        }

        impl<'a> From<$packet<'a>> for crate::packet::Packet<'a> {
            fn from(packet: $packet<'a>) -> Self {
                Self::$packet(packet)
            }
        }
    };
}
pub(crate) use encodes;

/// Returns the size of the properties and their length: 0 before 5.0.
pub(crate) fn properties_len(version: ProtocolVersion, properties: &crate::Properties<'_>) -> Result<usize, EncodeError> {
    if version == ProtocolVersion::V5 { properties.prefixed_len() } else { Ok(0) }
}

/// Appends property length and properties, or nothing before 5.0.
pub(crate) fn put_properties(
    version: ProtocolVersion,
    properties: &crate::Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version == ProtocolVersion::V5 { properties.write_prefixed(out) } else { Ok(()) }
}
