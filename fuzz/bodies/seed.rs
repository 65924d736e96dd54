//! A wire vector as an input of `decode`.
//!
//! The first byte chooses version and sender, as `decode` reads it.

use midge_mqtt::vectors::Vector;
use midge_mqtt::{Peer, ProtocolVersion};

/// Returns the input that decodes a vector under its own rules.
pub(crate) fn of(vector: &Vector) -> Vec<u8> {
    let version = match vector.version {
        ProtocolVersion::V31 => 0,
        ProtocolVersion::V311 => 1,
        ProtocolVersion::V5 => 2,
    };
    let peer = match vector.peer {
        Peer::NewClient => 0,
        Peer::Client(_) => 1,
        Peer::Server(_) => 2,
    };
    [&[version + 3 * peer], vector.bytes.as_slice()].concat()
}
