//! Who subscribed and with which options, in eight bytes.

use midge_mqtt::{QoS, SubscriptionId};

use crate::sorted::Keyed;

/// A subscriber: a session of one event loop.
///
/// The tree takes it as a number and gives matches in ascending order, which is: grouped by loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u32);

impl SubscriberId {
    /// The number of bits that tell the sessions of one loop apart.
    pub const SLOT_BITS: u32 = 24;

    /// Returns the id of the session in `slot` of the loop `event_loop`, or `None` where the slot has more than 24 bits.
    #[must_use]
    pub const fn new(event_loop: u8, slot: u32) -> Option<Self> {
        if slot >> Self::SLOT_BITS != 0 {
            return None;
        }
        Some(Self(((event_loop as u32) << Self::SLOT_BITS) | slot))
    }

    /// Returns the number of the loop that owns the session.
    #[must_use]
    pub const fn event_loop(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Returns the session's slot in its loop.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 & ((1 << Self::SLOT_BITS) - 1)
    }
}

/// The options of a subscription that matter for each message.
///
/// Retain handling is not among them: it matters once, when the subscription is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions(u32);

impl SubscriptionOptions {
    const NO_LOCAL: u32 = 1 << 30;
    const RETAIN_AS_PUBLISHED: u32 = 1 << 31;
    const ID_BITS: u32 = 28;
    const ID: u32 = (1 << Self::ID_BITS) - 1;

    /// Returns the options of a subscription with a maximum QoS and nothing else.
    #[must_use]
    pub const fn new(qos: QoS) -> Self {
        Self((qos.value() as u32) << Self::ID_BITS)
    }

    /// Returns the options with no-local, which keeps a client's own messages from it.
    #[must_use]
    pub const fn with_no_local(self) -> Self {
        Self(self.0 | Self::NO_LOCAL)
    }

    /// Returns the options with retain-as-published, which leaves the RETAIN flag as it was.
    #[must_use]
    pub const fn with_retain_as_published(self) -> Self {
        Self(self.0 | Self::RETAIN_AS_PUBLISHED)
    }

    /// Returns the options with a subscription identifier.
    #[must_use]
    pub const fn with_identifier(self, id: SubscriptionId) -> Self {
        Self((self.0 & !Self::ID) | id.value())
    }

    /// Returns the maximum QoS.
    #[must_use]
    pub const fn qos(self) -> QoS {
        match (self.0 >> Self::ID_BITS) & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Returns whether the subscriber's own messages are kept from it.
    #[must_use]
    pub const fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// Returns whether the RETAIN flag stays as it was published.
    #[must_use]
    pub const fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// Returns the subscription identifier, if the subscription has one.
    #[must_use]
    pub const fn identifier(self) -> Option<SubscriptionId> {
        SubscriptionId::new(self.0 & Self::ID)
    }
}

impl std::fmt::Debug for SubscriptionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionOptions")
            .field("qos", &self.qos())
            .field("no_local", &self.no_local())
            .field("retain_as_published", &self.retain_as_published())
            .field("identifier", &self.identifier())
            .finish()
    }
}

/// One subscriber of a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Who gets the message.
    pub subscriber: SubscriberId,
    /// How the message is delivered.
    pub options: SubscriptionOptions,
}

impl Keyed for Subscription {
    fn key(&self) -> u32 {
        self.subscriber.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_fit_into_32_bits() {
        let id = SubscriptionId::new(268_435_455).unwrap();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let plain = SubscriptionOptions::new(qos);
            assert_eq!((plain.qos(), plain.no_local(), plain.retain_as_published(), plain.identifier()), (qos, false, false, None));
            let all = plain.with_no_local().with_retain_as_published().with_identifier(id);
            assert_eq!((all.qos(), all.no_local(), all.retain_as_published(), all.identifier()), (qos, true, true, Some(id)));
        }
        assert_eq!(size_of::<Subscription>(), 8);
    }

    #[test]
    fn subscribers_are_a_loop_and_a_slot() {
        let id = SubscriberId::new(3, 0x00AB_CDEF).unwrap();
        assert_eq!((id.event_loop(), id.slot()), (3, 0x00AB_CDEF));
        assert_eq!(SubscriberId::new(0, 1 << 24), None);
    }
}
