//! Writes one message for many targets, each form once.
//!
//! A form is protocol, QoS and RETAIN flag: targets that agree in these get the same bytes, the packet identifier aside.
//! The first target of a form pays for its encoding, the others for a copy.

use std::num::NonZeroU16;

use midge_mqtt::{
    Delivery, PacketId, Properties, Property, ProtocolVersion, PublishHeader, PublishLayout, QoS, SharedTail, SubscriptionId,
};

use crate::message::{Publication, Shared};
use crate::session::outgoing::{COPY_LIMIT, Outgoing};

/// What is different for one target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) version: ProtocolVersion,
    pub(crate) qos: QoS,
    /// There unless `qos` is 0.
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [SubscriptionId],
    pub(crate) alias: Option<Alias>,
    /// The largest packet that the client takes, in bytes.
    pub(crate) max_packet: u32,
}

/// A topic alias, and whether the receiver knows it already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alias {
    pub(crate) number: NonZeroU16,
    pub(crate) known: bool,
}

/// The packet would be larger than the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The forms of one message; the buffers are kept from message to message.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    bytes: Vec<u8>,
    /// Those whose bit is set in `made` are of this message.
    forms: [Form; 12],
    made: u16,
    /// Whether there is one target, which needs nothing that could be shared.
    single: bool,
    own: Vec<Property<'static>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Form {
    start: usize,
    end: usize,
    packet_id: Option<usize>,
    /// The size of the packet, with a tail that is not among the bytes.
    size: usize,
}

impl Forms {
    /// Makes ready for another message, which goes to one target only or to any number.
    pub(crate) fn reset(&mut self, single: bool) {
        self.bytes.clear();
        (self.made, self.single) = (0, single);
    }

    /// Notes that the message goes to one target only.
    pub(crate) fn set_single(&mut self, single: bool) {
        self.single = single;
    }

    /// Appends a PUBLISH for `target`; `remaining` is the message expiry interval to forward.
    pub(crate) fn write(
        &mut self,
        message: &Shared<'_>,
        remaining: Option<u32>,
        target: &Target<'_>,
        out: &mut Outgoing,
    ) -> Result<(), TooLarge> {
        if self.single || target.dup || target.alias.is_some() || !target.identifiers.is_empty() {
            return self.write_own(message, remaining, target, out);
        }
        let v5 = target.version == ProtocolVersion::V5;
        let at = usize::from(target.qos.value()) * 4 + usize::from(v5) * 2 + usize::from(target.retain);
        if self.made & (1 << at) == 0 {
            self.forms[at] = self.make(message.view(), remaining, target)?;
            self.made |= 1 << at;
        }
        let form = &self.forms[at];
        if form.size > target.max_packet as usize {
            return Err(TooLarge);
        }
        let own = out.own();
        let start = own.len();
        own.extend_from_slice(&self.bytes[form.start..form.end]);
        if let (Some(at), Some(id)) = (form.packet_id, target.packet_id) {
            own[start + at..start + at + 2].copy_from_slice(&id.value().to_be_bytes());
        }
        if form.size > form.end - form.start {
            let message = message.message();
            let offset = message.tail_start(v5);
            out.push_tail(message, offset);
        }
        Ok(())
    }

    fn make(&mut self, view: &Publication<'_>, remaining: Option<u32>, target: &Target<'_>) -> Result<Form, TooLarge> {
        let start = self.bytes.len();
        let property = remaining.map(Property::MessageExpiryInterval);
        let size = header(view, target, property.as_slice(), &mut self.bytes)?;
        let header_end = self.bytes.len();
        let v5 = target.version == ProtocolVersion::V5;
        let tail_len = size - (header_end - start);
        if tail_len <= COPY_LIMIT {
            put_tail(view, v5, &mut self.bytes);
        }
        let end = self.bytes.len();
        // Only a header has no whole frame to find the packet identifier in: it follows the topic name.
        let packet_id = (target.qos != QoS::AtMostOnce).then(|| {
            let layout = PublishLayout::of(target.version, &self.bytes[start..end]);
            layout.and_then(|layout| layout.packet_id()).unwrap_or_else(|| {
                let length = self.bytes[start + 1..].iter().take_while(|&&byte| byte & 0x80 != 0).count() + 1;
                1 + length + 2 + view.topic.as_str().len()
            })
        });
        Ok(Form { start, end, packet_id, size })
    }

    /// Writes a packet that no other target shares more of than its tail.
    fn write_own(
        &mut self,
        message: &Shared<'_>,
        remaining: Option<u32>,
        target: &Target<'_>,
        out: &mut Outgoing,
    ) -> Result<(), TooLarge> {
        let v5 = target.version == ProtocolVersion::V5;
        self.own.clear();
        if v5 {
            self.own.extend(remaining.map(Property::MessageExpiryInterval));
            self.own.extend(target.alias.map(|alias| Property::TopicAlias(alias.number)));
            self.own.extend(target.identifiers.iter().map(|&id| Property::SubscriptionIdentifier(id)));
        }
        let start = out.own().len();
        let size = header(message.view(), target, &self.own, out.own())?;
        if size > target.max_packet as usize {
            out.own().truncate(start);
            return Err(TooLarge);
        }
        if size - (out.own().len() - start) <= COPY_LIMIT {
            put_tail(message.view(), v5, out.own());
        } else {
            let message = message.message();
            let offset = message.tail_start(v5);
            out.push_tail(message, offset);
        }
        Ok(())
    }
}

/// Appends all up to the shared tail and returns the size of the whole packet.
fn header(
    view: &Publication<'_>,
    target: &Target<'_>,
    properties: &[Property<'static>],
    out: &mut Vec<u8>,
) -> Result<usize, TooLarge> {
    let delivery = match (target.qos, target.packet_id) {
        (QoS::AtLeastOnce, Some(id)) => Delivery::AtLeastOnce(id),
        (QoS::ExactlyOnce, Some(id)) => Delivery::ExactlyOnce(id),
        _ => Delivery::AtMostOnce,
    };
    let header = PublishHeader {
        dup: target.dup,
        delivery,
        retain: target.retain,
        topic: if target.alias.is_some_and(|alias| alias.known) { "" } else { view.topic.as_str() },
        properties: Properties::new(properties),
    };
    let v5 = target.version == ProtocolVersion::V5;
    let tail = SharedTail { properties_len: if v5 { view.properties.len() } else { 0 }, payload_len: view.payload.len() };
    let start = out.len();
    // A message that only just fitted may not fit any more with the properties of this target.
    header.encode(target.version, tail, out).map_err(|_| TooLarge)?;
    Ok(out.len() - start + tail.properties_len + tail.payload_len)
}

fn put_tail(view: &Publication<'_>, v5: bool, out: &mut Vec<u8>) {
    if v5 {
        out.extend_from_slice(view.properties);
    }
    out.extend_from_slice(view.payload);
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use midge_core::topic::TopicName;
    use midge_mqtt::{Packet, Peer, Rules, decode_frame};

    use super::*;

    fn written(out: &Outgoing) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let used = out.slices(&mut slices);
        slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn every_form_is_the_packet_it_should_be() {
        let mut properties = Vec::new();
        Property::UserProperty("k", "v").encode(&mut properties).unwrap();
        let long = vec![7; COPY_LIMIT * 3];
        let ids = [SubscriptionId::new(3).unwrap(), SubscriptionId::new(4).unwrap()];
        let known = Alias { number: NonZeroU16::MIN, known: true };
        for (payload, single) in [(&b"xyz"[..], false), (&long, false), (b"xyz", true), (&long, true)] {
            let topic = TopicName::new("a/b").unwrap();
            let (qos, expires) = (QoS::ExactlyOnce, None);
            let message =
                Shared::new(Publication { topic, properties: &properties, payload, qos, retain: true, expires, stamp: 0 }, 0);
            let mut forms = Forms::default();
            forms.reset(single);
            for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
                for (qos, id) in
                    [(QoS::AtMostOnce, None), (QoS::AtLeastOnce, PacketId::new(0x1234)), (QoS::ExactlyOnce, PacketId::new(9))]
                {
                    for (dup, retain, identifiers, alias) in [
                        (false, true, &[][..], None),
                        (false, false, &ids, None),
                        (id.is_some(), false, &[], None),
                        (false, false, &[], Some(known)),
                    ] {
                        let alias = alias.filter(|_| version == ProtocolVersion::V5);
                        let target = Target { version, qos, packet_id: id, dup, retain, identifiers, alias, max_packet: 10_000 };
                        let mut out = Outgoing::default();
                        forms.write(&message, Some(5), &target, &mut out).unwrap();
                        let bytes = written(&out);
                        let Packet::Publish(publish) = decode_frame(&Rules::new(Peer::Server(version)), &bytes).unwrap() else {
                            panic!()
                        };
                        assert_eq!((publish.dup, publish.delivery.qos(), publish.delivery.packet_id()), (dup, qos, id));
                        assert_eq!((publish.retain, publish.payload), (retain, payload));
                        assert_eq!(publish.topic, if alias.is_some() { "" } else { "a/b" });
                        if version == ProtocolVersion::V5 {
                            assert_eq!(publish.properties.message_expiry_interval(), Some(5));
                            assert!(publish.properties.subscription_identifiers().eq(identifiers.iter().copied()));
                            assert!(publish.properties.user_properties().eq([("k", "v")]));
                        }
                        let small = Target { max_packet: u32::try_from(bytes.len()).unwrap() - 1, ..target };
                        assert_eq!(forms.write(&message, Some(5), &small, &mut out), Err(TooLarge));
                        assert_eq!(out.len(), bytes.len());
                    }
                }
            }
        }
    }
}
