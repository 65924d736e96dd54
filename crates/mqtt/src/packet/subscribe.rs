//! SUBSCRIBE and UNSUBSCRIBE: topic filters, checked before the first is used.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::packet::{Body, encodes, properties_len, put_properties};
use crate::properties::{Place, Properties};
use crate::sequence::{Element, Sequence};
use crate::topic::{SharedFilter, check_topic_filter};
use crate::value::{PacketId, ProtocolVersion, QoS, RetainHandling, Sender};
use crate::wire::{Reader, put_binary, put_u16};

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RESERVED: u8 = 0xC0;

/// A request for messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// Topic filters with options, at least one.
    pub subscriptions: Subscriptions<'a>,
}

/// A topic filter with subscription options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The topic filter as it was sent, `$share/NAME/` included.
    pub filter: &'a str,
    /// The maximum QoS.
    pub qos: QoS,
    /// Whether the client's own messages are kept from it. Not before 5.0.
    pub no_local: bool,
    /// Whether the retain flag is passed on as it was published. Not before 5.0.
    pub retain_as_published: bool,
    /// Whether retained messages are sent. Not before 5.0.
    pub retain_handling: RetainHandling,
}

impl<'a> Subscription<'a> {
    /// Returns a subscription with the options that 3.1.1 implies.
    #[must_use]
    pub const fn new(filter: &'a str, qos: QoS) -> Self {
        Self { filter, qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
    }

    fn options(&self) -> u8 {
        let mut options = self.qos.value() | (self.retain_handling.value() << 4);
        if self.no_local {
            options |= NO_LOCAL;
        }
        if self.retain_as_published {
            options |= RETAIN_AS_PUBLISHED;
        }
        options
    }

    fn check(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        check_topic_filter(self.filter)?;
        if version != ProtocolVersion::V5 {
            let plain = self.options() == self.qos.value();
            return if plain { Ok(()) } else { Err(DecodeError::SubscriptionOptionsReserved) };
        }
        if SharedFilter::parse(self.filter)?.is_some() && self.no_local {
            return Err(DecodeError::NoLocalOnShared);
        }
        Ok(())
    }
}

impl<'a> Element<'a> for Subscription<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let filter = reader.string()?;
        let options = reader.u8()?;
        if options & RESERVED != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        Ok(Self {
            filter,
            qos: QoS::new(options & 0b11).ok_or(DecodeError::SubscriptionQoS)?,
            no_local: options & NO_LOCAL != 0,
            retain_as_published: options & RETAIN_AS_PUBLISHED != 0,
            retain_handling: RetainHandling::new((options >> 4) & 0b11).ok_or(DecodeError::RetainHandling)?,
        })
    }

    fn encoded_len(&self) -> usize {
        3 + self.filter.len()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_binary(out, self.filter.as_bytes())?;
        out.push(self.options());
        Ok(())
    }
}

impl<'a> Subscribe<'a> {
    pub(crate) fn read(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(version, Place::Subscribe, reader)?;
        let bytes = reader.rest();
        if reader.is_empty() {
            return Err(DecodeError::NoSubscriptions);
        }
        while !reader.is_empty() {
            Subscription::read(reader)?.check(version)?;
        }
        Ok(Self { packet_id, properties, subscriptions: Subscriptions(Sequence::Wire(bytes)) })
    }
}

impl Body for Subscribe<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let properties = properties_len(version, &self.properties)?;
        Ok(2 + properties + self.subscriptions.0.encoded_len())
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_u16(out, self.packet_id.value());
        put_properties(version, &self.properties, out)?;
        if version == ProtocolVersion::V5 {
            return self.subscriptions.0.write(out);
        }
        for subscription in self.subscriptions.iter() {
            Subscription::new(subscription.filter, subscription.qos).write(out)?;
        }
        Ok(())
    }
}

encodes!(Subscribe);

/// The topic filters of SUBSCRIBE with their options, in their order.
#[derive(Clone, Copy, PartialEq)]
pub struct Subscriptions<'a>(Sequence<'a, Subscription<'a>>);

impl<'a> Subscriptions<'a> {
    /// Returns a view of subscriptions to encode.
    #[must_use]
    pub const fn new(list: &'a [Subscription<'a>]) -> Self {
        Self(Sequence::List(list))
    }

    /// Returns the subscriptions one by one.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + Clone + use<'a> {
        self.0.iter()
    }
}

impl fmt::Debug for Subscriptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for no more messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// Topic filters, at least one.
    pub filters: TopicFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn read(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(version, Place::Unsubscribe, reader)?;
        let bytes = reader.rest();
        if reader.is_empty() {
            return Err(DecodeError::NoTopicFilters);
        }
        while !reader.is_empty() {
            let filter = reader.string()?;
            check_topic_filter(filter)?;
            if version == ProtocolVersion::V5 {
                SharedFilter::parse(filter)?;
            }
        }
        Ok(Self { packet_id, properties, filters: TopicFilters(Sequence::Wire(bytes)) })
    }
}

impl Body for Unsubscribe<'_> {
    fn body_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let properties = properties_len(version, &self.properties)?;
        Ok(2 + properties + self.filters.0.encoded_len())
    }

    fn write_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_u16(out, self.packet_id.value());
        put_properties(version, &self.properties, out)?;
        self.filters.0.write(out)
    }
}

encodes!(Unsubscribe);

/// The topic filters of UNSUBSCRIBE, in their order.
#[derive(Clone, Copy, PartialEq)]
pub struct TopicFilters<'a>(Sequence<'a, &'a str>);

impl<'a> TopicFilters<'a> {
    /// Returns a view of topic filters to encode.
    #[must_use]
    pub const fn new(list: &'a [&'a str]) -> Self {
        Self(Sequence::List(list))
    }

    /// Returns the topic filters one by one.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.0.iter()
    }
}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Element<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string()
    }

    fn encoded_len(&self) -> usize {
        2 + self.len()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_binary(out, self.as_bytes())
    }
}

fn read_properties<'a>(version: ProtocolVersion, place: Place, reader: &mut Reader<'a>) -> Result<Properties<'a>, DecodeError> {
    match version {
        ProtocolVersion::V5 => Properties::read(place, Sender::Client, reader),
        ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Properties::NONE),
    }
}
