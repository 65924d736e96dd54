//! PUBLISH: an application message on its way.

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::layout::{PublishHeader, SharedTail};
use crate::packet::Packet;
use crate::properties::{Place, Properties};
use crate::property::PropertyId;
use crate::topic::check_topic_name;
use crate::value::{PacketId, ProtocolVersion, QoS, Sender};
use crate::wire::Reader;

/// The QoS of a message in flight, with the packet identifier where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce(PacketId),
    /// QoS 2.
    ExactlyOnce(PacketId),
}

impl Delivery {
    /// Returns the QoS.
    #[must_use]
    #[inline]
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce(_) => QoS::AtLeastOnce,
            Self::ExactlyOnce(_) => QoS::ExactlyOnce,
        }
    }

    /// Returns the packet identifier, which only QoS 0 lacks.
    #[must_use]
    #[inline]
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(id) | Self::ExactlyOnce(id) => Some(id),
        }
    }
}

/// An application message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish<'a> {
    /// Whether it may have been sent before. Not written with QoS 0 (`[MQTT-3.3.1-2]`).
    pub dup: bool,
    /// QoS and packet identifier.
    pub delivery: Delivery,
    /// The retain flag.
    pub retain: bool,
    /// The topic name; empty only in 5.0, where a topic alias stands for it.
    pub topic: &'a str,
    /// The properties.
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn read(
        version: ProtocolVersion,
        sender: Sender,
        first_byte: u8,
        reader: &mut Reader<'a>,
    ) -> Result<Self, DecodeError> {
        let topic = reader.string()?;
        let delivery = match first_byte & 0b0110 {
            0b0000 => Delivery::AtMostOnce,
            0b0010 => Delivery::AtLeastOnce(reader.packet_id()?),
            _ => Delivery::ExactlyOnce(reader.packet_id()?),
        };
        let properties = match version {
            ProtocolVersion::V5 => Properties::read(Place::Publish, sender, reader)?,
            ProtocolVersion::V31 | ProtocolVersion::V311 => Properties::NONE,
        };
        if !topic.is_empty() {
            check_topic_name(topic)?;
        } else if version != ProtocolVersion::V5 {
            return Err(DecodeError::EmptyTopicName);
        } else if !properties.contains(PropertyId::TopicAlias) {
            return Err(DecodeError::NoTopic);
        }
        Ok(Self {
            // 3.1 gives DUP no meaning with QoS 0; the other versions have refused it by now.
            dup: first_byte & 0b1000 != 0 && delivery != Delivery::AtMostOnce,
            delivery,
            retain: first_byte & 1 != 0,
            topic,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet as that version writes it. Nothing is appended on an error.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`] for the topic name or a property,
    /// [`EncodeError::PacketTooLarge`].
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let header = PublishHeader {
            dup: self.dup,
            delivery: self.delivery,
            retain: self.retain,
            topic: self.topic,
            properties: self.properties,
        };
        let tail = SharedTail { properties_len: 0, payload_len: self.payload.len() };
        out.reserve(header.max_len() + self.payload.len());
        header.encode(version, tail, out)?;
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// Returns whether the payload is UTF-8 where its payload format indicator says so.
    ///
    /// A receiver may check this; reason code 0x99 answers a payload that isn't.
    #[must_use]
    pub fn payload_fits_format(&self) -> bool {
        self.properties.payload_format_indicator() != Some(true) || std::str::from_utf8(self.payload).is_ok()
    }

    /// Returns the type of the packet that acknowledges this one.
    #[must_use]
    pub const fn answered_by(&self) -> Option<PacketType> {
        match self.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce(_) => Some(PacketType::Puback),
            Delivery::ExactlyOnce(_) => Some(PacketType::Pubrec),
        }
    }
}

impl<'a> From<Publish<'a>> for Packet<'a> {
    fn from(publish: Publish<'a>) -> Self {
        Self::Publish(publish)
    }
}
