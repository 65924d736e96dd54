//! What can be wrong with a packet.
//!
//! Each error of decoding carries the reason code to answer with and, by
//! [`DecodeError::clause`], the rule that was broken.

use crate::frame::PacketType;
use crate::property::PropertyId;
use crate::reason::ReasonCode;

/// Why bytes are not a packet that the peer may send.
///
/// After any of these the network connection is closed (5.0 `[MQTT-4.13.1-1]`, 3.1.1
/// `[MQTT-4.8.0-1]`); 5.0 says the reason first, in CONNACK or DISCONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet type is 0, or AUTH before 5.0.
    #[error("reserved packet type")]
    ReservedPacketType,
    /// The peer may not send this packet in this direction.
    #[error("{0} sent in the wrong direction")]
    WrongDirection(PacketType),
    /// The first packet of a client is not CONNECT.
    #[error("{0} before CONNECT")]
    ConnectExpected(PacketType),
    /// A client sent CONNECT again.
    #[error("second CONNECT on one connection")]
    SecondConnect,
    /// A reserved flag of the fixed header has the wrong value.
    #[error("reserved flags of {0} have the wrong value")]
    FixedHeaderFlags(PacketType),
    /// Both QoS bits of PUBLISH are set.
    #[error("PUBLISH with both QoS bits set")]
    PublishQoS,
    /// DUP is set on a PUBLISH of QoS 0.
    #[error("DUP set on a PUBLISH of QoS 0")]
    DupWithQoS0,
    /// The remaining length goes on after its fourth byte.
    #[error("remaining length of more than four bytes")]
    RemainingLengthTooLong,
    /// A variable byte integer goes on after its fourth byte.
    #[error("variable byte integer of more than four bytes")]
    VariableByteIntegerTooLong,
    /// A variable byte integer takes more bytes than its value needs.
    #[error("variable byte integer longer than its value needs")]
    VariableByteIntegerNotMinimal,
    /// The packet is larger than the receiver accepts; sizes in bytes, fixed header included.
    #[error("packet of {size} bytes is over the maximum of {maximum}")]
    PacketTooLarge {
        /// Announced size.
        size: u32,
        /// The receiver's maximum packet size.
        maximum: u32,
    },
    /// A field runs past the end of the packet or of the properties.
    #[error("field runs past the end")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("bytes left after the last field")]
    TrailingBytes,
    /// A string is not well-formed UTF-8.
    #[error("string is not well-formed UTF-8")]
    IllFormedUtf8,
    /// A string contains U+0000.
    #[error("string contains the null character")]
    NullCharacter,
    /// A string contains a control character or a non-character.
    #[error("string contains the disallowed character {0:?}")]
    DisallowedCharacter(char),
    /// The packet identifier is 0.
    #[error("packet identifier is 0")]
    PacketIdZero,
    /// The standard has no property of this identifier.
    #[error("unknown property {0:#04x}")]
    UnknownProperty(u32),
    /// The property doesn't belong in this packet.
    #[error("property not allowed in this packet: {0}")]
    PropertyNotAllowed(PropertyId),
    /// The property may stand only once.
    #[error("property more than once: {0}")]
    DuplicateProperty(PropertyId),
    /// The value of the property is out of its range.
    #[error("property out of range: {0}")]
    PropertyValue(PropertyId),
    /// A client's PUBLISH carries a subscription identifier.
    #[error("subscription identifier in a client's PUBLISH")]
    SubscriptionIdentifierFromClient,
    /// A server's DISCONNECT carries a session expiry interval.
    #[error("session expiry interval in a server's DISCONNECT")]
    SessionExpiryFromServer,
    /// Authentication data stands without a method.
    #[error("authentication data without authentication method")]
    AuthenticationDataWithoutMethod,
    /// AUTH has no authentication method.
    #[error("AUTH without authentication method")]
    AuthenticationMethodMissing,
    /// The response topic contains a wildcard character.
    #[error("wildcard in the response topic")]
    ResponseTopicWildcard,
    /// The protocol name is neither `MQTT` nor `MQIsdp`.
    #[error("unknown protocol name")]
    UnknownProtocolName,
    /// The protocol level is not supported under that protocol name.
    #[error("unsupported protocol level {0}")]
    UnsupportedProtocolVersion(u8),
    /// The reserved connect flag is set.
    #[error("reserved connect flag is set")]
    ConnectReservedFlag,
    /// Will QoS is set without the will flag.
    #[error("will QoS without will flag")]
    WillQoSWithoutWill,
    /// Will retain is set without the will flag.
    #[error("will retain without will flag")]
    WillRetainWithoutWill,
    /// Will QoS is 3.
    #[error("will QoS is 3")]
    WillQoS,
    /// The password flag is set without the user name flag, before 5.0.
    #[error("password without username")]
    PasswordWithoutUsername,
    /// The client identifier is empty where this version needs one.
    #[error("client identifier not valid")]
    ClientIdentifierNotValid,
    /// A topic name is empty.
    #[error("empty topic name")]
    EmptyTopicName,
    /// A PUBLISH of 5.0 has neither topic name nor topic alias.
    #[error("neither topic name nor topic alias")]
    NoTopic,
    /// A topic name contains a wildcard character.
    #[error("wildcard in a topic name")]
    TopicNameWildcard,
    /// A topic filter is empty.
    #[error("empty topic filter")]
    EmptyTopicFilter,
    /// `#` is not alone in the last level.
    #[error("`#` is not alone in the last level of the topic filter")]
    MultiLevelWildcard,
    /// `+` is not alone in its level.
    #[error("`+` is not alone in its level of the topic filter")]
    SingleLevelWildcard,
    /// A shared subscription has no share name.
    #[error("shared subscription without share name")]
    ShareNameMissing,
    /// A share name contains a wildcard or isn't followed by a topic filter.
    #[error("share name contains a wildcard or isn't followed by a topic filter")]
    ShareNameInvalid,
    /// SUBSCRIBE has no topic filter.
    #[error("SUBSCRIBE without topic filter")]
    NoSubscriptions,
    /// UNSUBSCRIBE has no topic filter.
    #[error("UNSUBSCRIBE without topic filter")]
    NoTopicFilters,
    /// SUBACK or UNSUBACK has no reason code.
    #[error("{0} without reason code")]
    NoReasonCodes(PacketType),
    /// A reserved bit of the subscription options is set.
    #[error("reserved bits of the subscription options are set")]
    SubscriptionOptionsReserved,
    /// The maximum QoS of a subscription is 3.
    #[error("subscription QoS is 3")]
    SubscriptionQoS,
    /// Retain handling is 3.
    #[error("retain handling is 3")]
    RetainHandling,
    /// No local is set on a shared subscription.
    #[error("no local on a shared subscription")]
    NoLocalOnShared,
    /// The packet may not carry this reason code, or return code, from this sender.
    #[error("reason code {value:#04x} not allowed in {packet}")]
    ReasonCodeNotAllowed {
        /// The packet that carries it.
        packet: PacketType,
        /// The value found.
        value: u8,
    },
    /// A reserved connect acknowledge flag is set.
    #[error("reserved connect acknowledge flags are set")]
    ConnackFlags,
    /// CONNACK refuses and says that a session is present.
    #[error("session present in a CONNACK that refuses")]
    SessionPresentWithError,
}

impl DecodeError {
    /// Returns the reason code that the standard asks for.
    ///
    /// Where 5.0 names none, what can't be parsed is a malformed packet and what can but isn't
    /// allowed is a protocol error (section 1.2); topic names and topic filters have codes of
    /// their own.
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        use DecodeError as E;
        match self {
            E::ReservedPacketType
            | E::FixedHeaderFlags(_)
            | E::PublishQoS
            | E::DupWithQoS0
            | E::RemainingLengthTooLong
            | E::VariableByteIntegerTooLong
            | E::VariableByteIntegerNotMinimal
            | E::Truncated
            | E::TrailingBytes
            | E::IllFormedUtf8
            | E::NullCharacter
            | E::DisallowedCharacter(_)
            | E::UnknownProperty(_)
            | E::PropertyNotAllowed(_)
            | E::ConnectReservedFlag
            | E::WillQoSWithoutWill
            | E::WillRetainWithoutWill
            | E::WillQoS
            | E::PasswordWithoutUsername
            | E::SubscriptionOptionsReserved
            | E::ConnackFlags => ReasonCode::MalformedPacket,
            E::PropertyValue(PropertyId::TopicAlias) => ReasonCode::TopicAliasInvalid,
            E::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            E::UnknownProtocolName | E::UnsupportedProtocolVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            E::ClientIdentifierNotValid => ReasonCode::ClientIdentifierNotValid,
            E::EmptyTopicName | E::TopicNameWildcard => ReasonCode::TopicNameInvalid,
            E::EmptyTopicFilter | E::MultiLevelWildcard | E::SingleLevelWildcard | E::ShareNameMissing | E::ShareNameInvalid => {
                ReasonCode::TopicFilterInvalid
            }
            _ => ReasonCode::ProtocolError,
        }
    }
}

/// Why a packet can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field has more than 65,535 bytes.
    #[error("field of {0} bytes is over 65535")]
    FieldTooLong(usize),
    /// The remaining length would be over 268,435,455.
    #[error("remaining length of {0} bytes is over 268435455")]
    PacketTooLarge(usize),
    /// The version has no such packet.
    #[error("packet does not exist in this version")]
    NotInVersion,
    /// 3.1 and 3.1.1 have no return code for this reason: close without CONNACK.
    #[error("no return code before 5.0 says {0}")]
    NoReturnCode(ReasonCode),
}
