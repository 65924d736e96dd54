//! Acknowledgements that wait until what they promise is true.
//!
//! One line per connection: no acknowledgement overtakes another, whatever each waits for [MQTT-4.6.0-2] [MQTT-4.6.0-3].

use std::collections::VecDeque;

use midge_mqtt::{PacketId, Properties, ProtocolVersion, Puback, Pubcomp, Pubrec, Pubrel, ReasonCode};

/// An acknowledgement that waits.
#[derive(Debug)]
pub(crate) struct Held {
    /// The record that must be committed first; 0 for none.
    pub(crate) after: u64,
    /// The answers of other loops that must be there first; 0 for none.
    pub(crate) ticket: u64,
    pub(crate) packet: HeldPacket,
}

/// A packet that can wait.
#[derive(Debug)]
pub(crate) enum HeldPacket {
    Puback(PacketId, ReasonCode),
    Pubrec(PacketId, ReasonCode),
    Pubrel(PacketId, ReasonCode),
    Pubcomp(PacketId, ReasonCode),
    /// Already encoded: SUBACK or UNSUBACK.
    Encoded(Box<[u8]>),
}

/// The line of a connection.
pub(crate) type Line = VecDeque<Held>;

impl HeldPacket {
    /// Appends the packet.
    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let properties = Properties::NONE;
        let written = match *self {
            Self::Puback(packet_id, reason_code) => Puback { packet_id, reason_code, properties }.encode(version, out),
            Self::Pubrec(packet_id, reason_code) => Pubrec { packet_id, reason_code, properties }.encode(version, out),
            Self::Pubrel(packet_id, reason_code) => Pubrel { packet_id, reason_code, properties }.encode(version, out),
            Self::Pubcomp(packet_id, reason_code) => Pubcomp { packet_id, reason_code, properties }.encode(version, out),
            Self::Encoded(ref bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        };
        debug_assert!(written.is_ok(), "an acknowledgement without properties fits every packet");
    }

    /// Returns whether it answers a message of QoS 1 or 2 and so frees a place of the receive maximum.
    ///
    /// PUBREC frees one only where it refuses.
    pub(crate) fn frees_place(&self) -> bool {
        match self {
            Self::Puback(..) | Self::Pubcomp(..) => true,
            Self::Pubrec(_, reason) => reason.is_failure(),
            Self::Pubrel(..) | Self::Encoded(..) => false,
        }
    }
}
