//! The small values of the protocol, each with its range kept.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

/// A version of the protocol that this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// Returns the protocol level as CONNECT carries it: 3, 4 or 5.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// Returns the protocol name as CONNECT carries it.
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// Who sent a packet; some packets and values are for one of them alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The one who opened the connection.
    Client,
    /// The one who accepted it.
    Server,
}

/// A quality of service level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// Returns the level for 0, 1 or 2 and `None` for any other value.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Returns the level as a number from 0 to 2.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }
}

/// A packet identifier: 1 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest packet identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);

    /// Returns the packet identifier, or `None` for 0.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the identifier as a number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0.get()
    }

    /// Returns the identifier that follows, with 1 after 65,535.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(value) => Self(value),
            None => Self::MIN,
        }
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(value: NonZeroU16) -> Self {
        Self(value)
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subscription identifier: 1 to 268,435,455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// Returns the subscription identifier, or `None` where the value is out of range.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(inner) if value <= crate::MAX_REMAINING_LENGTH => Some(Self(inner)),
            _ => None,
        }
    }

    /// Returns the identifier as a number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0.get()
    }
}

/// Whether a subscription is answered with the retained messages that match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// Retained messages are sent at each SUBSCRIBE.
    #[default]
    Send = 0,
    /// Retained messages are sent only if the subscription is new.
    SendIfNew = 1,
    /// Retained messages are not sent.
    DontSend = 2,
}

impl RetainHandling {
    /// Returns the option for 0, 1 or 2 and `None` for any other value.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Send),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DontSend),
            _ => None,
        }
    }

    /// Returns the option as a number from 0 to 2.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::new(u16::MAX).unwrap().next(), PacketId::MIN);
        assert_eq!(PacketId::new(7).unwrap().next().value(), 8);
        assert_eq!(SubscriptionId::new(0), None);
        assert_eq!(SubscriptionId::new(268_435_455).unwrap().value(), 268_435_455);
        assert_eq!(SubscriptionId::new(268_435_456), None);
        assert_eq!(QoS::new(3), None);
        assert_eq!(RetainHandling::new(3), None);
    }
}
