//! Bytes as packets: what is read is written and read again.
//!
//! The first byte chooses who sends and how large a packet may be; the rest comes in one piece and in two.

use midge_mqtt::{Decoded, FrameHeader, Packet, Peer, ProtocolVersion, Rules, decode};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let version = VERSIONS[usize::from(choice % 3)];
    let peer = match choice / 3 % 3 {
        0 => Peer::NewClient,
        1 => Peer::Client(version),
        _ => Peer::Server(version),
    };
    let rules = Rules::new(peer);
    let rules = if choice & 0x80 == 0 { rules } else { rules.with_max_packet_size(64) };
    let _ = FrameHeader::peek(bytes);
    let mut rest = bytes;
    while !rest.is_empty() {
        match decode(&rules, rest) {
            Ok(Decoded::Packet(packet, length)) => {
                assert!(length <= rest.len() && length >= 2);
                cut(&rules, &rest[..length]);
                written_and_read(peer, version, &packet);
                rest = &rest[length..];
            }
            Ok(Decoded::Incomplete(needed)) => {
                assert!(needed > rest.len());
                return;
            }
            Err(error) => {
                let _ = (error.reason_code(), error.clause(version), error.to_string());
                return;
            }
        }
    }
}

/// A part of a packet is no packet, and no fault either.
fn cut(rules: &Rules, packet: &[u8]) {
    for length in [1, packet.len() / 2, packet.len() - 1] {
        match decode(rules, &packet[..length]) {
            Ok(Decoded::Incomplete(needed)) => assert!(needed > length && needed <= packet.len()),
            other => panic!("a part of a packet is {other:?}"),
        }
    }
}

/// What was read can be written, and is read as the same.
fn written_and_read(peer: Peer, version: ProtocolVersion, packet: &Packet<'_>) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("what was read fits into a packet");
    match decode(&Rules::new(peer), &bytes) {
        Ok(Decoded::Packet(again, length)) => assert!(length == bytes.len() && again == *packet, "{packet:?} became {again:?}"),
        other => panic!("{packet:?} was written as {other:?}"),
    }
}
