//! Reason codes: their values, names and where each may stand.
//!
//! Older versions know fewer: [`ReasonCode::return_code`] maps to 3.1 and 3.1.1.

use std::fmt;

use crate::frame::PacketType;
use crate::value::Sender;

macro_rules! reason_codes {
    ($($variant:ident = $value:literal, $name:literal;)*) => {
        /// The result of an operation; values from 0x80 mean failure.
        ///
        /// Source: MQTT 5.0, table 2-6.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $name] $variant = $value,)*
        }

        impl ReasonCode {
            /// Every reason code, in the order of their values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the reason code of a value, or `None` where the standard defines none.
            #[must_use]
            pub const fn new(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the name that the standard gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "Success";
    GrantedQoS1 = 0x01, "Granted QoS 1";
    GrantedQoS2 = 0x02, "Granted QoS 2";
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    ReAuthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecificError = 0x83, "Implementation specific error";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8A, "Banned";
    ServerShuttingDown = 0x8B, "Server shutting down";
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    SessionTakenOver = 0x8E, "Session taken over";
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9A, "Retain not supported";
    QoSNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "Use another server";
    ServerMoved = 0x9D, "Server moved";
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    MaximumConnectTime = 0xA0, "Maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// The name of 0x00 in DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// The name of 0x00 in SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// Returns the value on the wire.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Returns whether the value means failure (0x80 and above).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.value() >= 0x80
    }

    /// Returns the reason code of SUBACK that grants a level.
    #[must_use]
    pub const fn granted(qos: crate::QoS) -> Self {
        match qos {
            crate::QoS::AtMostOnce => Self::GRANTED_QOS_0,
            crate::QoS::AtLeastOnce => Self::GrantedQoS1,
            crate::QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// Returns the CONNACK return code of 3.1 and 3.1.1 (0 to 5) that says the same or nearly.
    ///
    /// `None` means that none is applicable and the connection is closed without a CONNACK
    /// (3.1.1, `[MQTT-3.2.2-6]`).
    #[must_use]
    pub const fn return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => Some(5),
            _ => None,
        }
    }

    /// Returns the reason code that a CONNACK return code of 3.1 or 3.1.1 stands for.
    #[must_use]
    pub const fn from_return_code(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// Returns whether a packet of 5.0 may carry it when that sender sends it.
    ///
    /// Source: the tables of reason codes in sections 3.2 to 3.15. 0x8C is accepted in DISCONNECT:
    /// table 2-6 lists it there, table 3-10 forgets it.
    #[must_use]
    pub const fn allowed_in(self, packet: PacketType, sender: Sender) -> bool {
        use PacketType as P;
        match packet {
            P::Connack => {
                matches!(self.value(), 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97) || matches!(self.value(), 0x99..=0x9D | 0x9F)
            }
            P::Puback | P::Pubrec => matches!(self.value(), 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
            P::Pubrel | P::Pubcomp => matches!(self.value(), 0x00 | 0x92),
            P::Suback => matches!(self.value(), 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2),
            P::Unsuback => {
                matches!(self.value(), 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
            }
            P::Disconnect => self.allowed_in_disconnect(sender),
            P::Auth => match sender {
                Sender::Client => matches!(self.value(), 0x18 | 0x19),
                Sender::Server => matches!(self.value(), 0x00 | 0x18),
            },
            _ => false,
        }
    }

    const fn allowed_in_disconnect(self, sender: Sender) -> bool {
        match self.value() {
            0x00 | 0x80..=0x83 | 0x8C | 0x90 | 0x93..=0x99 => true,
            0x04 => matches!(sender, Sender::Client),
            0x87 | 0x89 | 0x8B | 0x8D..=0x8F | 0x9A..=0xA2 => matches!(sender, Sender::Server),
            _ => false,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_names_go_both_ways() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        for &code in ReasonCode::ALL {
            assert_eq!(ReasonCode::new(code.value()), Some(code));
        }
        assert_eq!(ReasonCode::new(0x03), None);
        assert_eq!(ReasonCode::new(0xA3), None);
        assert_eq!(ReasonCode::KeepAliveTimeout.to_string(), "Keep Alive timeout");
    }

    #[test]
    fn return_codes_of_older_versions() {
        for value in 0..=5 {
            let code = ReasonCode::from_return_code(value).unwrap();
            assert_eq!(code.return_code(), Some(value));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::MalformedPacket.return_code(), None);
    }

    #[test]
    fn how_many_codes_each_packet_may_carry() {
        // Counted in the tables of the standard; DISCONNECT has 0x8C beside its 29.
        let check = |packet, sender, expected: usize| {
            let allowed = ReasonCode::ALL.iter().filter(|c| c.allowed_in(packet, sender));
            assert_eq!(allowed.count(), expected, "{packet:?} from {sender:?}");
        };
        check(PacketType::Connack, Sender::Server, 22);
        check(PacketType::Puback, Sender::Client, 9);
        check(PacketType::Pubrec, Sender::Server, 9);
        check(PacketType::Pubrel, Sender::Client, 2);
        check(PacketType::Pubcomp, Sender::Client, 2);
        check(PacketType::Suback, Sender::Server, 12);
        check(PacketType::Unsuback, Sender::Server, 7);
        check(PacketType::Disconnect, Sender::Client, 15);
        check(PacketType::Disconnect, Sender::Server, 29);
        check(PacketType::Auth, Sender::Client, 2);
        check(PacketType::Auth, Sender::Server, 2);
        check(PacketType::Publish, Sender::Client, 0);
    }
}
