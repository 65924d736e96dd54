//! What a fan-out shares of a PUBLISH, and what differs.
//!
//! A frame is `first byte, remaining length, topic name, packet identifier, tail`; the tail is
//! `property length, properties, payload` in 5.0 and the payload alone before. Between targets of
//! one version differ at most the first byte, the packet identifier and, in 5.0, some properties.

use std::ops::Range;

use crate::error::EncodeError;
use crate::frame::{FrameHeader, PacketType};
use crate::packet::publish::Delivery;
use crate::properties::Properties;
use crate::value::{PacketId, ProtocolVersion, QoS};
use crate::wire::{Reader, checked_length, put_binary, put_u16, put_variable_byte_integer, variable_byte_integer_len};

/// Returns the first byte of a PUBLISH; DUP is left out with QoS 0 (`[MQTT-3.3.1-2]`).
#[must_use]
#[inline]
pub const fn publish_first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = dup && !matches!(qos, QoS::AtMostOnce);
    PacketType::Publish.first_byte() | ((dup as u8) << 3) | (qos.value() << 1) | retain as u8
}

/// Where the parts of a complete and valid PUBLISH frame lie, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishLayout {
    topic_start: u32,
    topic_end: u32,
    tail: u32,
    properties: u32,
    payload: u32,
}

impl PublishLayout {
    /// Returns the layout of a frame that [`crate::decode`] accepted or this crate wrote.
    ///
    /// `None` if it is no such frame; the strings in it are not looked at.
    #[must_use]
    pub fn of(version: ProtocolVersion, frame: &[u8]) -> Option<Self> {
        let header = FrameHeader::peek(frame).ok()??;
        if header.packet_type() != PacketType::Publish || header.packet_len() as usize != frame.len() {
            return None;
        }
        let mut reader = Reader::new(frame.get(header.header_len()..)?);
        let at = |reader: &Reader<'_>| u32::try_from(frame.len() - reader.rest().len()).ok();
        let topic_start = at(&reader)? + 2;
        reader.binary().ok()?;
        let topic_end = at(&reader)?;
        if header.flags() & 0b0110 != 0 {
            reader.u16().ok()?;
        }
        let tail = at(&reader)?;
        let (mut properties, mut payload) = (tail, tail);
        if version == ProtocolVersion::V5 {
            let len = reader.variable_byte_integer().ok()?;
            properties = at(&reader)?;
            reader.take(len as usize).ok()?;
            payload = at(&reader)?;
        }
        Some(Self { topic_start, topic_end, tail, properties, payload })
    }

    /// Returns where the topic name lies, without its length.
    #[must_use]
    pub const fn topic(&self) -> Range<usize> {
        self.topic_start as usize..self.topic_end as usize
    }

    /// Returns where the two bytes of the packet identifier lie; `None` with QoS 0.
    #[must_use]
    pub const fn packet_id(&self) -> Option<usize> {
        if self.tail > self.topic_end { Some(self.topic_end as usize) } else { None }
    }

    /// Returns where the tail begins: all that follows topic name and packet identifier.
    #[must_use]
    pub const fn tail(&self) -> usize {
        self.tail as usize
    }

    /// Returns where the properties lie, without the property length; empty before 5.0.
    #[must_use]
    pub const fn properties(&self) -> Range<usize> {
        self.properties as usize..self.payload as usize
    }

    /// Returns where the payload begins; it ends with the frame.
    #[must_use]
    pub const fn payload(&self) -> usize {
        self.payload as usize
    }

    /// Overwrites the packet identifier in a copy of the frame; does nothing with QoS 0.
    #[inline]
    pub fn set_packet_id(&self, frame: &mut [u8], packet_id: PacketId) {
        if let Some(place) = self.packet_id().and_then(|at| frame.get_mut(at..at + 2)) {
            place.copy_from_slice(&packet_id.value().to_be_bytes());
        }
    }
}

/// The sizes of what follows a [`PublishHeader`], in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SharedTail {
    /// Encoded properties, without property length; not counted before 5.0.
    pub properties_len: usize,
    /// The payload.
    pub payload_len: usize,
}

/// The part of a PUBLISH that each target of a fan-out has for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishHeader<'a> {
    /// Whether it may have been sent before. Not written with QoS 0.
    pub dup: bool,
    /// QoS and packet identifier.
    pub delivery: Delivery,
    /// The retain flag.
    pub retain: bool,
    /// The topic name; empty where a topic alias stands for it.
    pub topic: &'a str,
    /// The properties of this target alone, such as topic alias and subscription identifiers.
    pub properties: Properties<'a>,
}

impl PublishHeader<'_> {
    /// Appends the frame up to the shared part: the caller appends the encoded properties (5.0)
    /// and the payload of exactly the sizes in `tail`.
    ///
    /// Nothing is appended on an error.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], [`EncodeError::PacketTooLarge`].
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, tail: SharedTail, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let written = self.write(version, tail, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Returns a size that the header doesn't exceed, whatever its lengths take.
    #[inline]
    pub(crate) fn max_len(&self) -> usize {
        const FIXED_HEADER_TO_PROPERTY_LENGTH: usize = 5 + 2 + 2 + 4;
        FIXED_HEADER_TO_PROPERTY_LENGTH + self.topic.len() + self.properties.encoded_len()
    }

    #[inline]
    fn write(&self, version: ProtocolVersion, tail: SharedTail, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let packet_id = self.delivery.packet_id();
        let mut own_len = 2 + self.topic.len() + if packet_id.is_some() { 2 } else { 0 };
        let mut shared_len = tail.payload_len;
        let mut property_length = None;
        if version == ProtocolVersion::V5 {
            let properties_len = self.properties.encoded_len();
            let len = checked_length(properties_len + tail.properties_len)?;
            own_len += variable_byte_integer_len(len) + properties_len;
            shared_len += tail.properties_len;
            property_length = Some(len);
        }
        let remaining_length = checked_length(own_len + shared_len)?;
        out.reserve(1 + variable_byte_integer_len(remaining_length) + own_len);
        out.push(publish_first_byte(self.dup, self.delivery.qos(), self.retain));
        put_variable_byte_integer(out, remaining_length);
        put_binary(out, self.topic.as_bytes())?;
        if let Some(packet_id) = packet_id {
            put_u16(out, packet_id.value());
        }
        if let Some(property_length) = property_length {
            put_variable_byte_integer(out, property_length);
            self.properties.encode(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::{Peer, Property, Publish, Rules, SubscriptionId, decode_frame};

    fn message<'a>(delivery: Delivery, properties: Properties<'a>) -> Publish<'a> {
        Publish { dup: false, delivery, retain: true, topic: "a/b", properties, payload: b"xyz" }
    }

    #[test]
    fn the_parts_of_a_frame() {
        let id = PacketId::new(0x0102).unwrap();
        let list = [Property::MessageExpiryInterval(9)];
        let check = |version, delivery, properties, packet_id, property_bytes: usize| {
            let mut frame = Vec::new();
            message(delivery, properties).encode(version, &mut frame).unwrap();
            let layout = PublishLayout::of(version, &frame).unwrap();
            assert_eq!(&frame[layout.topic()], b"a/b");
            assert_eq!(layout.packet_id(), packet_id);
            assert_eq!(layout.properties().len(), property_bytes);
            assert_eq!(&frame[layout.payload()..], b"xyz");
            let length_of_properties = usize::from(version == ProtocolVersion::V5);
            assert_eq!(layout.properties().start, layout.tail() + length_of_properties);
        };
        check(ProtocolVersion::V311, Delivery::AtMostOnce, Properties::NONE, None, 0);
        check(ProtocolVersion::V311, Delivery::AtLeastOnce(id), Properties::NONE, Some(7), 0);
        check(ProtocolVersion::V5, Delivery::AtMostOnce, Properties::new(&list), None, 5);
        check(ProtocolVersion::V5, Delivery::ExactlyOnce(id), Properties::NONE, Some(7), 0);
    }

    #[test]
    fn a_copy_for_another_target_differs_in_its_packet_identifier() {
        let (one, two) = (PacketId::new(1).unwrap(), PacketId::new(0xABCD).unwrap());
        let mut frame = Vec::new();
        message(Delivery::AtLeastOnce(one), Properties::NONE).encode(ProtocolVersion::V5, &mut frame).unwrap();
        let layout = PublishLayout::of(ProtocolVersion::V5, &frame).unwrap();
        layout.set_packet_id(&mut frame, two);
        let mut expected = Vec::new();
        message(Delivery::AtLeastOnce(two), Properties::NONE).encode(ProtocolVersion::V5, &mut expected).unwrap();
        assert_eq!(frame, expected);
    }

    #[test]
    fn own_header_and_shared_tail_make_one_packet() {
        let shared = [Property::ContentType("t"), Property::UserProperty("k", "v")];
        let mut tail = Vec::new();
        Properties::new(&shared).encode(&mut tail).unwrap();
        let sizes = SharedTail { properties_len: tail.len(), payload_len: 3 };
        tail.extend_from_slice(b"xyz");

        let own = [
            Property::SubscriptionIdentifier(SubscriptionId::new(300).unwrap()),
            Property::TopicAlias(NonZeroU16::new(4).unwrap()),
        ];
        let header = PublishHeader {
            dup: true,
            delivery: Delivery::AtLeastOnce(PacketId::MIN),
            retain: false,
            topic: "",
            properties: Properties::new(&own),
        };
        let mut frame = Vec::new();
        header.encode(ProtocolVersion::V5, sizes, &mut frame).unwrap();
        frame.extend_from_slice(&tail);

        let rules = Rules::new(Peer::Server(ProtocolVersion::V5));
        let all = [own[0], own[1], shared[0], shared[1]];
        let expected = Publish {
            dup: true,
            delivery: Delivery::AtLeastOnce(PacketId::MIN),
            retain: false,
            topic: "",
            properties: Properties::new(&all),
            payload: b"xyz",
        };
        assert_eq!(decode_frame(&rules, &frame), Ok(expected.into()));
    }

    #[test]
    fn nothing_is_left_behind_by_an_error() {
        let topic = "a".repeat(65_536);
        let header = PublishHeader {
            dup: false,
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: &topic,
            properties: Properties::NONE,
        };
        let mut out = vec![1, 2];
        let result = header.encode(ProtocolVersion::V311, SharedTail::default(), &mut out);
        assert_eq!(result, Err(EncodeError::FieldTooLong(65_536)));
        assert_eq!(out, [1, 2]);
        let huge = SharedTail { properties_len: 0, payload_len: 268_435_455 };
        let header = PublishHeader { topic: "a", ..header };
        let result = header.encode(ProtocolVersion::V311, huge, &mut out);
        assert_eq!(result, Err(EncodeError::PacketTooLarge(268_435_458)));
        assert_eq!(out, [1, 2]);
    }
}
