//! One property: identifier, type and range.
//!
//! Whether it may stand in a packet, and how often, is the business of `properties`.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use crate::error::{DecodeError, EncodeError};
use crate::sequence::Element;
use crate::topic::check_response_topic;
use crate::value::{QoS, SubscriptionId};
use crate::wire::{Reader, put_binary, put_u16, put_variable_byte_integer, variable_byte_integer_len};

macro_rules! properties {
    ($($variant:ident = $id:literal, $name:literal;)*) => {
        /// The identifier of a property.
        ///
        /// Source: MQTT 5.0, table 2-4.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = $name] $variant = $id,)*
        }

        impl PropertyId {
            /// Every identifier, in the order of their values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the identifier of a value, or `None` where the standard defines none.
            #[must_use]
            pub const fn new(value: u32) -> Option<Self> {
                match value {
                    $($id => Some(Self::$variant),)*
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

properties! {
    PayloadFormatIndicator = 0x01, "Payload Format Indicator";
    MessageExpiryInterval = 0x02, "Message Expiry Interval";
    ContentType = 0x03, "Content Type";
    ResponseTopic = 0x08, "Response Topic";
    CorrelationData = 0x09, "Correlation Data";
    SubscriptionIdentifier = 0x0B, "Subscription Identifier";
    SessionExpiryInterval = 0x11, "Session Expiry Interval";
    AssignedClientIdentifier = 0x12, "Assigned Client Identifier";
    ServerKeepAlive = 0x13, "Server Keep Alive";
    AuthenticationMethod = 0x15, "Authentication Method";
    AuthenticationData = 0x16, "Authentication Data";
    RequestProblemInformation = 0x17, "Request Problem Information";
    WillDelayInterval = 0x18, "Will Delay Interval";
    RequestResponseInformation = 0x19, "Request Response Information";
    ResponseInformation = 0x1A, "Response Information";
    ServerReference = 0x1C, "Server Reference";
    ReasonString = 0x1F, "Reason String";
    ReceiveMaximum = 0x21, "Receive Maximum";
    TopicAliasMaximum = 0x22, "Topic Alias Maximum";
    TopicAlias = 0x23, "Topic Alias";
    MaximumQoS = 0x24, "Maximum QoS";
    RetainAvailable = 0x25, "Retain Available";
    UserProperty = 0x26, "User Property";
    MaximumPacketSize = 0x27, "Maximum Packet Size";
    WildcardSubscriptionAvailable = 0x28, "Wildcard Subscription Available";
    SubscriptionIdentifierAvailable = 0x29, "Subscription Identifier Available";
    SharedSubscriptionAvailable = 0x2A, "Shared Subscription Available";
}

impl PropertyId {
    /// Returns a bit of its own for each identifier.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A property with its value. Intervals are in seconds, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Property<'a> {
    /// Whether the payload is UTF-8 encoded character data.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(SubscriptionId),
    /// 0xFFFFFFFF means that the session doesn't expire.
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    /// QoS 0 or 1; QoS 2 is said by leaving the property out.
    MaximumQoS(QoS),
    RetainAvailable(bool),
    /// Name and value.
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Returns the identifier.
    #[must_use]
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQoS(_) => PropertyId::MaximumQoS,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Returns the encoded size in bytes, identifier included.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        Element::encoded_len(self)
    }

    /// Appends identifier and value.
    ///
    /// Lets a sender put a property list together; [`crate::Properties::parse`] reads it back.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.write(out)
    }

    /// Reads an identifier; the value follows.
    pub(crate) fn read_id(reader: &mut Reader<'a>) -> Result<PropertyId, DecodeError> {
        let id = reader.variable_byte_integer()?;
        PropertyId::new(id).ok_or(DecodeError::UnknownProperty(id))
    }

    pub(crate) fn read_value(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        use PropertyId as Id;
        let out_of_range = DecodeError::PropertyValue(id);
        let mut boolean = || match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(out_of_range),
        };
        Ok(match id {
            Id::PayloadFormatIndicator => Self::PayloadFormatIndicator(boolean()?),
            Id::RequestProblemInformation => Self::RequestProblemInformation(boolean()?),
            Id::RequestResponseInformation => Self::RequestResponseInformation(boolean()?),
            Id::MaximumQoS if boolean()? => Self::MaximumQoS(QoS::AtLeastOnce),
            Id::MaximumQoS => Self::MaximumQoS(QoS::AtMostOnce),
            Id::RetainAvailable => Self::RetainAvailable(boolean()?),
            Id::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(boolean()?),
            Id::SubscriptionIdentifierAvailable => Self::SubscriptionIdentifierAvailable(boolean()?),
            Id::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(boolean()?),
            Id::MessageExpiryInterval => Self::MessageExpiryInterval(reader.u32()?),
            Id::SessionExpiryInterval => Self::SessionExpiryInterval(reader.u32()?),
            Id::WillDelayInterval => Self::WillDelayInterval(reader.u32()?),
            Id::MaximumPacketSize => Self::MaximumPacketSize(NonZeroU32::new(reader.u32()?).ok_or(out_of_range)?),
            Id::ServerKeepAlive => Self::ServerKeepAlive(reader.u16()?),
            Id::TopicAliasMaximum => Self::TopicAliasMaximum(reader.u16()?),
            Id::ReceiveMaximum => Self::ReceiveMaximum(NonZeroU16::new(reader.u16()?).ok_or(out_of_range)?),
            Id::TopicAlias => Self::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(out_of_range)?),
            Id::SubscriptionIdentifier => {
                let value = reader.variable_byte_integer()?;
                Self::SubscriptionIdentifier(SubscriptionId::new(value).ok_or(out_of_range)?)
            }
            Id::CorrelationData => Self::CorrelationData(reader.binary()?),
            Id::AuthenticationData => Self::AuthenticationData(reader.binary()?),
            Id::UserProperty => Self::UserProperty(reader.string()?, reader.string()?),
            Id::ResponseTopic => {
                let topic = reader.string()?;
                check_response_topic(topic)?;
                Self::ResponseTopic(topic)
            }
            Id::ContentType => Self::ContentType(reader.string()?),
            Id::AssignedClientIdentifier => Self::AssignedClientIdentifier(reader.string()?),
            Id::AuthenticationMethod => Self::AuthenticationMethod(reader.string()?),
            Id::ResponseInformation => Self::ResponseInformation(reader.string()?),
            Id::ServerReference => Self::ServerReference(reader.string()?),
            Id::ReasonString => Self::ReasonString(reader.string()?),
        })
    }
}

impl<'a> Element<'a> for Property<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = Self::read_id(reader)?;
        Self::read_value(id, reader)
    }

    fn encoded_len(&self) -> usize {
        1 + match *self {
            Self::PayloadFormatIndicator(_)
            | Self::RequestProblemInformation(_)
            | Self::RequestResponseInformation(_)
            | Self::MaximumQoS(_)
            | Self::RetainAvailable(_)
            | Self::WildcardSubscriptionAvailable(_)
            | Self::SubscriptionIdentifierAvailable(_)
            | Self::SharedSubscriptionAvailable(_) => 1,
            Self::ServerKeepAlive(_) | Self::TopicAliasMaximum(_) | Self::ReceiveMaximum(_) | Self::TopicAlias(_) => 2,
            Self::MessageExpiryInterval(_)
            | Self::SessionExpiryInterval(_)
            | Self::WillDelayInterval(_)
            | Self::MaximumPacketSize(_) => 4,
            Self::SubscriptionIdentifier(id) => variable_byte_integer_len(id.value()),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => 2 + text.len(),
            Self::CorrelationData(data) | Self::AuthenticationData(data) => 2 + data.len(),
            Self::UserProperty(name, value) => 4 + name.len() + value.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(self.id() as u8);
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::MaximumQoS(qos) => out.push(qos.value()),
            Self::ServerKeepAlive(value) | Self::TopicAliasMaximum(value) => put_u16(out, value),
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => put_u16(out, value.get()),
            Self::MessageExpiryInterval(value) | Self::SessionExpiryInterval(value) | Self::WillDelayInterval(value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::MaximumPacketSize(value) => {
                out.extend_from_slice(&value.get().to_be_bytes());
            }
            Self::SubscriptionIdentifier(id) => put_variable_byte_integer(out, id.value()),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => put_binary(out, text.as_bytes())?,
            Self::CorrelationData(data) | Self::AuthenticationData(data) => put_binary(out, data)?,
            Self::UserProperty(name, value) => {
                put_binary(out, name.as_bytes())?;
                put_binary(out, value.as_bytes())?;
            }
        }
        Ok(())
    }
}
