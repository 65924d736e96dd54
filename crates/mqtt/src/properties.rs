//! The properties of a packet: which may stand there, and once.
//!
//! A view over bytes that were checked when the packet was decoded, or over a slice of values that
//! are to be encoded. Asking for a property that isn't there costs one bit test.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use crate::error::{DecodeError, EncodeError};
use crate::property::{Property, PropertyId};
use crate::sequence::Sequence;
use crate::value::{QoS, Sender, SubscriptionId};
use crate::wire::{Reader, checked_length, put_variable_byte_integer, variable_byte_integer_len};

/// Where properties stand: a packet, or the will inside CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Place {
    Connect,
    Will,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth,
}

impl Place {
    /// Returns whether the standard allows a property here.
    ///
    /// Source: MQTT 5.0, table 2-4.
    #[must_use]
    pub const fn allows(self, id: PropertyId) -> bool {
        use PropertyId as P;
        if matches!(id, P::UserProperty) {
            return true;
        }
        match self {
            Self::Connect => matches!(
                id,
                P::SessionExpiryInterval
                    | P::ReceiveMaximum
                    | P::MaximumPacketSize
                    | P::TopicAliasMaximum
                    | P::RequestResponseInformation
                    | P::RequestProblemInformation
                    | P::AuthenticationMethod
                    | P::AuthenticationData
            ),
            Self::Will => matches!(id, P::WillDelayInterval) || Self::of_application_message(id),
            Self::Publish => matches!(id, P::TopicAlias | P::SubscriptionIdentifier) || Self::of_application_message(id),
            Self::Connack => Self::of_connack(id),
            Self::Puback | Self::Pubrec | Self::Pubrel | Self::Pubcomp | Self::Suback | Self::Unsuback => {
                matches!(id, P::ReasonString)
            }
            Self::Subscribe => matches!(id, P::SubscriptionIdentifier),
            Self::Unsubscribe => false,
            Self::Disconnect => {
                matches!(id, P::SessionExpiryInterval | P::ServerReference | P::ReasonString)
            }
            Self::Auth => {
                matches!(id, P::AuthenticationMethod | P::AuthenticationData | P::ReasonString)
            }
        }
    }

    const fn of_application_message(id: PropertyId) -> bool {
        use PropertyId as P;
        matches!(id, P::PayloadFormatIndicator | P::MessageExpiryInterval | P::ContentType | P::ResponseTopic | P::CorrelationData)
    }

    const fn of_connack(id: PropertyId) -> bool {
        use PropertyId as P;
        matches!(
            id,
            P::SessionExpiryInterval
                | P::ReceiveMaximum
                | P::MaximumQoS
                | P::RetainAvailable
                | P::MaximumPacketSize
                | P::AssignedClientIdentifier
                | P::TopicAliasMaximum
                | P::ReasonString
                | P::WildcardSubscriptionAvailable
                | P::SubscriptionIdentifierAvailable
                | P::SharedSubscriptionAvailable
                | P::ServerKeepAlive
                | P::ResponseInformation
                | P::ServerReference
                | P::AuthenticationMethod
                | P::AuthenticationData
        )
    }

    fn check(self, id: PropertyId, sender: Sender) -> Result<(), DecodeError> {
        if !self.allows(id) {
            return Err(DecodeError::PropertyNotAllowed(id));
        }
        match (self, id, sender) {
            (Self::Publish, PropertyId::SubscriptionIdentifier, Sender::Client) => {
                Err(DecodeError::SubscriptionIdentifierFromClient)
            }
            (Self::Disconnect, PropertyId::SessionExpiryInterval, Sender::Server) => Err(DecodeError::SessionExpiryFromServer),
            _ => Ok(()),
        }
    }

    /// User properties may repeat everywhere; subscription identifiers in a server's PUBLISH.
    const fn may_repeat(self, id: PropertyId) -> bool {
        matches!((self, id), (_, PropertyId::UserProperty) | (Self::Publish, PropertyId::SubscriptionIdentifier))
    }
}

/// The properties of a packet, in the order in which they stand.
///
/// Equal when the same properties with the same values stand in the same order. Before 5.0 there
/// are none: what is set here is not written then.
#[derive(Clone, Copy, PartialEq)]
pub struct Properties<'a> {
    sequence: Sequence<'a, Property<'a>>,
    present: u64,
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const NONE: Self = Self { sequence: Sequence::Wire(&[]), present: 0 };

    /// Returns a view of properties to encode.
    ///
    /// It is the caller's part that they may stand in the packet and don't repeat.
    #[must_use]
    pub fn new(list: &'a [Property<'a>]) -> Self {
        let present = list.iter().fold(0, |bits, property| bits | property.id().bit());
        Self { sequence: Sequence::List(list), present }
    }

    /// Returns the properties in `bytes`, which hold nothing else and no length in front.
    ///
    /// # Errors
    /// Any error that the properties of a packet can have on their own.
    pub fn parse(place: Place, sender: Sender, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut present = 0;
        while !reader.is_empty() {
            let id = Property::read_id(&mut reader)?;
            place.check(id, sender)?;
            if present & id.bit() != 0 && !place.may_repeat(id) {
                return Err(DecodeError::DuplicateProperty(id));
            }
            present |= id.bit();
            Property::read_value(id, &mut reader)?;
        }
        Ok(Self { sequence: Sequence::Wire(bytes), present })
    }

    /// Reads the property length and the properties.
    #[inline]
    pub(crate) fn read(place: Place, sender: Sender, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.variable_byte_integer()? {
            0 => Ok(Self::NONE),
            len => Self::parse(place, sender, reader.take(len as usize)?),
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Returns whether a property is there.
    #[must_use]
    pub const fn contains(&self, id: PropertyId) -> bool {
        self.present & id.bit() != 0
    }

    /// Returns the properties one by one.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + Clone + use<'a> {
        self.sequence.iter()
    }

    /// Returns the bytes that they were decoded from, without the property length.
    ///
    /// `None` for properties that were given as values.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.sequence {
            Sequence::Wire(bytes) => Some(bytes),
            Sequence::List(_) => None,
        }
    }

    /// Returns the encoded size in bytes, without the property length.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.sequence.encoded_len()
    }

    /// Returns the encoded size in bytes, property length included.
    pub(crate) fn prefixed_len(&self) -> Result<usize, EncodeError> {
        let len = self.encoded_len();
        Ok(variable_byte_integer_len(checked_length(len)?) + len)
    }

    pub(crate) fn write_prefixed(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_variable_byte_integer(out, checked_length(self.encoded_len())?);
        self.sequence.write(out)
    }

    /// Appends the properties without the property length.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.sequence.write(out)
    }

    /// Returns the user properties, name and value, in their order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.of(PropertyId::UserProperty).filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Returns the subscription identifiers; in SUBSCRIBE there is at most one.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = SubscriptionId> + Clone + use<'a> {
        self.of(PropertyId::SubscriptionIdentifier).filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    fn of(&self, id: PropertyId) -> impl Iterator<Item = Property<'a>> + Clone + use<'a> {
        let sequence = if self.contains(id) { self.sequence } else { Sequence::Wire(&[]) };
        sequence.iter()
    }
}

macro_rules! accessors {
    ($($method:ident: $variant:ident -> $value:ty, $doc:literal;)*) => {
        impl<'a> Properties<'a> {
            $(
                #[doc = concat!("Returns the ", $doc, ", if it is there.")]
                #[must_use]
                pub fn $method(&self) -> Option<$value> {
                    self.of(PropertyId::$variant).find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )*
        }
    };
}

accessors! {
    payload_format_indicator: PayloadFormatIndicator -> bool,
        "payload format indicator (true for UTF-8 encoded character data)";
    message_expiry_interval: MessageExpiryInterval -> u32, "message expiry interval in seconds";
    content_type: ContentType -> &'a str, "content type";
    response_topic: ResponseTopic -> &'a str, "response topic";
    correlation_data: CorrelationData -> &'a [u8], "correlation data";
    session_expiry_interval: SessionExpiryInterval -> u32,
        "session expiry interval in seconds (0xFFFFFFFF: never)";
    assigned_client_identifier: AssignedClientIdentifier -> &'a str, "assigned client identifier";
    server_keep_alive: ServerKeepAlive -> u16, "server keep alive in seconds";
    authentication_method: AuthenticationMethod -> &'a str, "authentication method";
    authentication_data: AuthenticationData -> &'a [u8], "authentication data";
    request_problem_information: RequestProblemInformation -> bool, "request problem information";
    will_delay_interval: WillDelayInterval -> u32, "will delay interval in seconds";
    request_response_information: RequestResponseInformation -> bool,
        "request response information";
    response_information: ResponseInformation -> &'a str, "response information";
    server_reference: ServerReference -> &'a str, "server reference";
    reason_string: ReasonString -> &'a str, "reason string";
    receive_maximum: ReceiveMaximum -> NonZeroU16, "receive maximum";
    topic_alias_maximum: TopicAliasMaximum -> u16, "topic alias maximum";
    topic_alias: TopicAlias -> NonZeroU16, "topic alias";
    maximum_qos: MaximumQoS -> QoS, "maximum QoS";
    retain_available: RetainAvailable -> bool, "retain available";
    maximum_packet_size: MaximumPacketSize -> NonZeroU32, "maximum packet size in bytes";
    wildcard_subscription_available: WildcardSubscriptionAvailable -> bool,
        "wildcard subscription available";
    subscription_identifier_available: SubscriptionIdentifierAvailable -> bool,
        "subscription identifier available";
    shared_subscription_available: SharedSubscriptionAvailable -> bool,
        "shared subscription available";
}

impl Default for Properties<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> From<&'a [Property<'a>]> for Properties<'a> {
    fn from(list: &'a [Property<'a>]) -> Self {
        Self::new(list)
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sequence.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_properties_as_in_the_table_of_the_standard() {
        let check = |place: Place, expected: usize| {
            let allowed = PropertyId::ALL.iter().filter(|&&id| place.allows(id)).count();
            assert_eq!(allowed, expected, "{place:?}");
        };
        check(Place::Connect, 9);
        check(Place::Will, 7);
        check(Place::Connack, 17);
        check(Place::Publish, 8);
        check(Place::Puback, 2);
        check(Place::Pubrec, 2);
        check(Place::Pubrel, 2);
        check(Place::Pubcomp, 2);
        check(Place::Subscribe, 2);
        check(Place::Suback, 2);
        check(Place::Unsubscribe, 1);
        check(Place::Unsuback, 2);
        check(Place::Disconnect, 4);
        check(Place::Auth, 4);
        assert_eq!(PropertyId::ALL.len(), 27);
    }

    #[test]
    fn values_and_bytes_are_the_same_to_the_reader() {
        let list = [Property::UserProperty("a", "1"), Property::MessageExpiryInterval(7), Property::UserProperty("a", "2")];
        let values = Properties::new(&list);
        let mut bytes = Vec::new();
        values.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), values.encoded_len());
        let parsed = Properties::parse(Place::Publish, Sender::Client, &bytes).unwrap();
        assert_eq!(parsed, values);
        assert_eq!(parsed.message_expiry_interval(), Some(7));
        assert_eq!(parsed.topic_alias(), None);
        assert!(parsed.user_properties().eq([("a", "1"), ("a", "2")]));
        assert_eq!(parsed.as_bytes(), Some(bytes.as_slice()));
    }
}
