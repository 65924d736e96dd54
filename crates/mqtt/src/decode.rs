//! From bytes to one packet, or the reason why not.

use crate::error::DecodeError;
use crate::frame::{FrameHeader, MAX_PACKET_SIZE, PacketType};
use crate::packet::Packet;
use crate::value::{ProtocolVersion, Sender};

/// Who sends, and what has been agreed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client that has not sent CONNECT: it may send nothing else.
    NewClient,
    /// A client whose CONNECT named this version.
    Client(ProtocolVersion),
    /// The server that we asked for this version.
    Server(ProtocolVersion),
}

impl Peer {
    /// Returns the side on which the peer is.
    #[must_use]
    pub const fn sender(self) -> Sender {
        match self {
            Self::NewClient | Self::Client(_) => Sender::Client,
            Self::Server(_) => Sender::Server,
        }
    }
}

/// What is accepted from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who sends.
    pub peer: Peer,
    /// The largest packet accepted, in bytes, fixed header included.
    pub max_packet_size: u32,
    /// Whether CONNECT may have Mosquitto's bridge bit (0x80) in the protocol level of 3.1 and
    /// 3.1.1. Without, such a level is not supported, as the standard says.
    pub bridges: bool,
}

impl Rules {
    /// Returns rules without a limit of size and without bridges.
    #[must_use]
    pub const fn new(peer: Peer) -> Self {
        Self { peer, max_packet_size: MAX_PACKET_SIZE, bridges: false }
    }

    /// Returns the rules with another maximum packet size, in bytes.
    #[must_use]
    pub const fn with_max_packet_size(self, max_packet_size: u32) -> Self {
        Self { max_packet_size, ..self }
    }

    /// Checks whether the peer may send this packet at all, from its fixed header.
    ///
    /// # Errors
    /// Wrong direction, wrong flags, too large, or out of place before or after CONNECT.
    #[inline]
    pub fn check(&self, header: &FrameHeader) -> Result<(), DecodeError> {
        let packet_type = header.packet_type();
        match self.peer {
            Peer::Client(version) => {
                if packet_type == PacketType::Connect {
                    return Err(DecodeError::SecondConnect);
                }
                self.check_direction(packet_type, version)?;
                header.check(version)?;
            }
            Peer::Server(version) => {
                self.check_direction(packet_type, version)?;
                header.check(version)?;
            }
            // The flags of CONNECT are judged when its version is known.
            Peer::NewClient if packet_type == PacketType::Connect => {}
            Peer::NewClient => return Err(DecodeError::ConnectExpected(packet_type)),
        }
        let size = header.packet_len();
        if size > self.max_packet_size {
            return Err(DecodeError::PacketTooLarge { size, maximum: self.max_packet_size });
        }
        Ok(())
    }

    #[inline]
    fn check_direction(&self, packet_type: PacketType, version: ProtocolVersion) -> Result<(), DecodeError> {
        use PacketType as P;
        if packet_type == P::Auth && version != ProtocolVersion::V5 {
            return Err(DecodeError::ReservedPacketType);
        }
        let sent_by_server_only = matches!(packet_type, P::Connack | P::Suback | P::Unsuback | P::Pingresp);
        let sent_by_client_only = matches!(packet_type, P::Connect | P::Subscribe | P::Unsubscribe | P::Pingreq)
            || (packet_type == P::Disconnect && version != ProtocolVersion::V5);
        let wrong = match self.peer.sender() {
            Sender::Client => sent_by_server_only,
            Sender::Server => sent_by_client_only,
        };
        if wrong { Err(DecodeError::WrongDirection(packet_type)) } else { Ok(()) }
    }
}

/// What the front of a buffer holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<'a> {
    /// A packet and how many bytes it took.
    Packet(Packet<'a>, usize),
    /// The packet isn't complete: the buffer must have at least this many bytes in all.
    Incomplete(usize),
}

/// Decodes the packet in front of `input`.
///
/// # Errors
/// Any violation that one packet can show; what its fixed header shows is reported before the
/// rest of the packet is there.
#[inline]
pub fn decode<'a>(rules: &Rules, input: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
    let Some(header) = FrameHeader::peek(input)? else {
        return Ok(Decoded::Incomplete(input.len().max(1) + 1));
    };
    rules.check(&header)?;
    let len = header.packet_len() as usize;
    let Some(frame) = input.get(..len) else {
        return Ok(Decoded::Incomplete(len));
    };
    let body = frame.get(header.header_len()..).unwrap_or_default();
    Ok(Decoded::Packet(Packet::read(rules, &header, body)?, len))
}

/// Decodes a slice that holds exactly one packet.
///
/// # Errors
/// As [`decode`]; [`DecodeError::Truncated`] and [`DecodeError::TrailingBytes`] where the slice
/// is shorter or longer than the packet.
pub fn decode_frame<'a>(rules: &Rules, frame: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
    match decode(rules, frame)? {
        Decoded::Packet(packet, len) if len == frame.len() => Ok(packet),
        Decoded::Packet(..) => Err(DecodeError::TrailingBytes),
        Decoded::Incomplete(_) => Err(DecodeError::Truncated),
    }
}
