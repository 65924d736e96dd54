//! Which rule of which standard an error breaks.
//!
//! Numbers are those of the OASIS standards 5.0 and 3.1.1. 3.1 has none: its errors carry the
//! number that 3.1.1 gave to the same rule.

use crate::error::DecodeError;
use crate::frame::PacketType;
use crate::property::PropertyId;
use crate::value::ProtocolVersion;

impl DecodeError {
    /// Returns the normative statement (`MQTT-x.y.z-n`) that was broken.
    ///
    /// Where the standard says it outside its numbered statements this is the section, such as
    /// `2.2.2.2`; `None` where that version has no such rule.
    #[must_use]
    pub const fn clause(&self, version: ProtocolVersion) -> Option<&'static str> {
        match version {
            ProtocolVersion::V5 => self.clause_of_5(),
            ProtocolVersion::V31 | ProtocolVersion::V311 => self.clause_of_3(),
        }
    }

    const fn clause_of_5(&self) -> Option<&'static str> {
        use DecodeError as E;
        Some(match self {
            E::ReservedPacketType | E::WrongDirection(_) => "2.1.2",
            E::FixedHeaderFlags(packet) => flags_of_5(*packet),
            E::RemainingLengthTooLong => "2.1.4",
            E::VariableByteIntegerTooLong => "1.5.5",
            E::VariableByteIntegerNotMinimal => "MQTT-1.5.5-1",
            E::PacketTooLarge { .. } => "MQTT-3.2.2-15",
            E::Truncated | E::TrailingBytes | E::DuplicateProperty(_) => "MQTT-4.13.1-1",
            E::IllFormedUtf8 => "MQTT-1.5.4-1",
            E::NullCharacter => "MQTT-1.5.4-2",
            E::DisallowedCharacter(_) => "1.5.4",
            E::PacketIdZero => "MQTT-2.2.1-3",
            E::UnknownProperty(_) | E::PropertyNotAllowed(_) => "2.2.2.2",
            E::PropertyValue(id) => range_of(*id),
            E::SubscriptionIdentifierFromClient => "MQTT-3.3.4-6",
            E::SessionExpiryFromServer => "MQTT-3.14.2-2",
            E::AuthenticationDataWithoutMethod => "3.1.2.11.10",
            E::AuthenticationMethodMissing => "3.15.2.2.2",
            E::ResponseTopicWildcard => "MQTT-3.3.2-14",
            E::WillQoSWithoutWill => "MQTT-3.1.2-11",
            E::WillQoS => "MQTT-3.1.2-12",
            E::WillRetainWithoutWill => "MQTT-3.1.2-13",
            E::PasswordWithoutUsername => return None,
            E::NoTopic => "3.3.2.1",
            E::MultiLevelWildcard => "MQTT-4.7.1-1",
            E::SingleLevelWildcard => "MQTT-4.7.1-2",
            E::ShareNameMissing => "MQTT-4.8.2-1",
            E::ShareNameInvalid => "MQTT-4.8.2-2",
            E::NoSubscriptions => "MQTT-3.8.3-2",
            E::NoReasonCodes(PacketType::Unsuback) => "3.11.3",
            E::NoReasonCodes(_) => "MQTT-3.8.4-6",
            E::SubscriptionOptionsReserved => "MQTT-3.8.3-5",
            E::SubscriptionQoS | E::RetainHandling => "3.8.3.1",
            E::NoLocalOnShared => "MQTT-3.8.3-4",
            E::ReasonCodeNotAllowed { packet, .. } => reasons_of_5(*packet),
            E::ConnackFlags => "MQTT-3.2.2-1",
            E::SessionPresentWithError => "MQTT-3.2.2-6",
            _ => return self.clause_of_both(),
        })
    }

    const fn clause_of_3(&self) -> Option<&'static str> {
        use DecodeError as E;
        Some(match self {
            E::ReservedPacketType | E::WrongDirection(_) => "2.2.1",
            E::FixedHeaderFlags(packet) => flags_of_3(*packet),
            E::RemainingLengthTooLong => "2.2.3",
            E::Truncated | E::TrailingBytes => "MQTT-4.8.0-1",
            E::IllFormedUtf8 => "MQTT-1.5.3-1",
            E::NullCharacter => "MQTT-1.5.3-2",
            E::DisallowedCharacter(_) => "1.5.3",
            E::PacketIdZero => "MQTT-2.3.1-1",
            E::WillQoSWithoutWill => "MQTT-3.1.2-13",
            E::WillQoS => "MQTT-3.1.2-14",
            E::WillRetainWithoutWill => "MQTT-3.1.2-15",
            E::PasswordWithoutUsername => "MQTT-3.1.2-22",
            E::MultiLevelWildcard => "MQTT-4.7.1-2",
            E::SingleLevelWildcard => "MQTT-4.7.1-3",
            E::NoSubscriptions => "MQTT-3.8.3-3",
            E::NoReasonCodes(_) => "MQTT-3.8.4-5",
            E::SubscriptionOptionsReserved | E::SubscriptionQoS => "MQTT-3.8.3-4",
            E::ReasonCodeNotAllowed { packet, .. } => match packet {
                PacketType::Suback => "MQTT-3.9.3-2",
                _ => "3.2.2.3",
            },
            E::ConnackFlags => "3.2.2.1",
            E::SessionPresentWithError => "MQTT-3.2.2-4",
            _ => return self.clause_of_both(),
        })
    }

    const fn clause_of_both(&self) -> Option<&'static str> {
        use DecodeError as E;
        Some(match self {
            E::ConnectExpected(_) => "MQTT-3.1.0-1",
            E::SecondConnect => "MQTT-3.1.0-2",
            E::PublishQoS => "MQTT-3.3.1-4",
            E::DupWithQoS0 => "MQTT-3.3.1-2",
            E::UnknownProtocolName => "MQTT-3.1.2-1",
            E::UnsupportedProtocolVersion(_) => "MQTT-3.1.2-2",
            E::ConnectReservedFlag => "MQTT-3.1.2-3",
            E::ClientIdentifierNotValid => "MQTT-3.1.3-8",
            E::EmptyTopicName | E::EmptyTopicFilter => "MQTT-4.7.3-1",
            E::TopicNameWildcard => "MQTT-3.3.2-2",
            E::NoTopicFilters => "MQTT-3.10.3-2",
            _ => return None,
        })
    }
}

const fn flags_of_5(packet: PacketType) -> &'static str {
    match packet {
        PacketType::Auth => "MQTT-3.15.1-1",
        PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::Disconnect => flags_of_3(packet),
        _ => "MQTT-2.1.3-1",
    }
}

const fn flags_of_3(packet: PacketType) -> &'static str {
    match packet {
        PacketType::Pubrel => "MQTT-3.6.1-1",
        PacketType::Subscribe => "MQTT-3.8.1-1",
        PacketType::Unsubscribe => "MQTT-3.10.1-1",
        PacketType::Disconnect => "MQTT-3.14.1-1",
        _ => "MQTT-2.2.2-2",
    }
}

const fn reasons_of_5(packet: PacketType) -> &'static str {
    match packet {
        PacketType::Puback => "MQTT-3.4.2-1",
        PacketType::Pubrec => "MQTT-3.5.2-1",
        PacketType::Pubrel => "MQTT-3.6.2-1",
        PacketType::Pubcomp => "MQTT-3.7.2-1",
        PacketType::Suback => "MQTT-3.9.3-2",
        PacketType::Unsuback => "MQTT-3.11.3-2",
        PacketType::Disconnect => "MQTT-3.14.2-1",
        PacketType::Auth => "MQTT-3.15.2-1",
        _ => "MQTT-3.2.2-8",
    }
}

const fn range_of(id: PropertyId) -> &'static str {
    match id {
        PropertyId::PayloadFormatIndicator => "3.3.2.3.2",
        PropertyId::SubscriptionIdentifier => "3.8.2.1.2",
        PropertyId::ReceiveMaximum => "3.1.2.11.3",
        PropertyId::MaximumPacketSize => "3.1.2.11.4",
        PropertyId::RequestResponseInformation => "3.1.2.11.6",
        PropertyId::RequestProblemInformation => "3.1.2.11.7",
        PropertyId::TopicAlias => "MQTT-3.3.2-8",
        PropertyId::MaximumQoS => "3.2.2.3.4",
        PropertyId::RetainAvailable => "3.2.2.3.5",
        PropertyId::WildcardSubscriptionAvailable => "3.2.2.3.11",
        PropertyId::SubscriptionIdentifierAvailable => "3.2.2.3.12",
        PropertyId::SharedSubscriptionAvailable => "3.2.2.3.13",
        _ => "2.2.2.2",
    }
}
