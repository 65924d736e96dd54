//! A message through the whole engine, and all that follows it.
//!
//! Decoded, routed, delivered, written and, of QoS 1, acknowledged on both sides; system calls and permissions are not in it.

use midge_mqtt::{ProtocolVersion, QoS};

use super::rig::Rig;
use super::{Operation, Path};

pub(super) const PATHS: &[Path] = &[
    ("publish to one subscriber, QoS 0, 3.1.1", || publishing(ProtocolVersion::V311, QoS::AtMostOnce, 1)),
    ("publish to one subscriber, QoS 0, 5.0", || publishing(ProtocolVersion::V5, QoS::AtMostOnce, 1)),
    ("publish to one subscriber, QoS 1, 3.1.1", || publishing(ProtocolVersion::V311, QoS::AtLeastOnce, 1)),
    ("publish to 100 subscribers, QoS 0, 3.1.1", || publishing(ProtocolVersion::V311, QoS::AtMostOnce, 100)),
    ("publish to 100 subscribers, QoS 1, 3.1.1", || publishing(ProtocolVersion::V311, QoS::AtLeastOnce, 100)),
];

fn publishing(version: ProtocolVersion, qos: QoS, subscribers: usize) -> Operation {
    let mut rig = Rig::new(version, qos, 1, 1, subscribers);
    Box::new(move |_| rig.round(1))
}
