//! Arbitrary packets come back; arbitrary bytes never do harm.

// A test may stop at the first surprise, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::num::{NonZeroU16, NonZeroU32};

use midge_mqtt::{
    Auth, Connack, Connect, Decoded, Delivery, Disconnect, Packet, PacketId, PacketType, Peer, Place, Properties, Property,
    PropertyId, ProtocolVersion, Puback, Pubcomp, Publish, PublishLayout, Pubrec, Pubrel, QoS, ReasonCode, ReasonCodes,
    RetainHandling, Rules, Sender, SharedFilter, Suback, Subscribe, Subscription, SubscriptionId, Subscriptions, TopicFilters,
    Unsuback, Unsubscribe, Will, decode, decode_frame, vectors,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a packet is made of; each kind of packet takes what it needs.
#[derive(Debug, Clone)]
struct Parts {
    version: ProtocolVersion,
    sender: Sender,
    flags: [bool; 4],
    qos: QoS,
    number: u16,
    long: u32,
    texts: Vec<String>,
    topic: String,
    filters: Vec<String>,
    data: Vec<u8>,
    /// Which of the properties that a place allows are there.
    present: u64,
    pick: Index,
}

fn parts() -> impl Strategy<Value = Parts> {
    let version = select(vec![ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5]);
    let sender = select(vec![Sender::Client, Sender::Server]);
    let qos = select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let level = "[a-zäö€ $]{0,5}";
    let topic = vec(level, 1..5).prop_map(|levels| format!("t{}", levels.join("/")));
    let filter = (vec(prop_oneof![3 => level, 1 => Just("+".to_owned())], 1..5), any::<bool>())
        .prop_map(|(levels, open)| format!("{}{}", levels.join("/"), if open { "/#" } else { "" }))
        .prop_filter("shared without name", |filter| !filter.is_empty() && SharedFilter::parse(filter).is_ok());
    // Without control characters, private use and what is unassigned, so without all that 1.5.4 disallows.
    let texts = vec("[^\\p{C}+#]{0,22}", 4);
    let rest = (texts, topic, vec(filter, 1..6), vec(any::<u8>(), 0..300), any::<u64>(), any::<Index>());
    (version, sender, any::<[bool; 4]>(), qos, 1_u16.., any::<u32>(), rest).prop_map(
        |(version, sender, flags, qos, number, long, rest)| {
            let (texts, topic, filters, data, present, pick) = rest;
            Parts { version, sender, flags, qos, number, long, texts, topic, filters, data, present, pick }
        },
    )
}

impl Parts {
    fn packet_id(&self) -> PacketId {
        PacketId::new(self.number).unwrap()
    }

    fn text(&self, index: usize) -> &str {
        &self.texts[index]
    }

    fn property(&self, id: PropertyId) -> Property<'_> {
        use Property as P;
        use PropertyId as Id;
        let [flag, ..] = self.flags;
        let number = NonZeroU16::new(self.number).unwrap();
        match id {
            Id::PayloadFormatIndicator => P::PayloadFormatIndicator(flag),
            Id::MessageExpiryInterval => P::MessageExpiryInterval(self.long),
            Id::ContentType => P::ContentType(self.text(0)),
            Id::ResponseTopic => P::ResponseTopic(self.text(1)),
            Id::CorrelationData => P::CorrelationData(&self.data),
            Id::SubscriptionIdentifier => P::SubscriptionIdentifier(SubscriptionId::new(self.long % 268_435_455 + 1).unwrap()),
            Id::SessionExpiryInterval => P::SessionExpiryInterval(self.long),
            Id::AssignedClientIdentifier => P::AssignedClientIdentifier(self.text(2)),
            Id::ServerKeepAlive => P::ServerKeepAlive(self.number),
            Id::AuthenticationMethod => P::AuthenticationMethod(self.text(3)),
            Id::AuthenticationData => P::AuthenticationData(&self.data),
            Id::RequestProblemInformation => P::RequestProblemInformation(flag),
            Id::WillDelayInterval => P::WillDelayInterval(self.long),
            Id::RequestResponseInformation => P::RequestResponseInformation(flag),
            Id::ResponseInformation => P::ResponseInformation(self.text(0)),
            Id::ServerReference => P::ServerReference(self.text(1)),
            Id::ReasonString => P::ReasonString(self.text(2)),
            Id::ReceiveMaximum => P::ReceiveMaximum(number),
            Id::TopicAliasMaximum => P::TopicAliasMaximum(self.number),
            Id::TopicAlias => P::TopicAlias(number),
            Id::MaximumQoS if flag => P::MaximumQoS(QoS::AtLeastOnce),
            Id::MaximumQoS => P::MaximumQoS(QoS::AtMostOnce),
            Id::RetainAvailable => P::RetainAvailable(flag),
            Id::UserProperty => P::UserProperty(self.text(0), self.text(1)),
            Id::MaximumPacketSize => P::MaximumPacketSize(NonZeroU32::new(self.long.max(1)).unwrap()),
            Id::WildcardSubscriptionAvailable => P::WildcardSubscriptionAvailable(flag),
            Id::SubscriptionIdentifierAvailable => P::SubscriptionIdentifierAvailable(flag),
            Id::SharedSubscriptionAvailable => P::SharedSubscriptionAvailable(flag),
        }
    }

    /// Properties that the place allows; none before 5.0.
    fn properties(&self, place: Place) -> Vec<Property<'_>> {
        if self.version != ProtocolVersion::V5 {
            return Vec::new();
        }
        let method = PropertyId::AuthenticationMethod;
        let mut list = Vec::new();
        for &id in PropertyId::ALL {
            let refused = match (place, self.sender) {
                (Place::Publish, Sender::Client) => id == PropertyId::SubscriptionIdentifier,
                (Place::Disconnect, Sender::Server) => id == PropertyId::SessionExpiryInterval,
                _ => false,
            };
            let wanted = self.present >> (id as u32) & 1 != 0
                || (id == method && self.present >> (PropertyId::AuthenticationData as u32) & 1 != 0)
                || (id == method && place == Place::Auth);
            if place.allows(id) && wanted && !refused {
                list.push(self.property(id));
                if id == PropertyId::UserProperty {
                    list.push(Property::UserProperty(self.text(2), self.text(3)));
                }
            }
        }
        list
    }

    fn reason(&self, packet: PacketType) -> ReasonCode {
        if self.version != ProtocolVersion::V5 {
            return ReasonCode::Success;
        }
        let allowed = ReasonCode::ALL.iter().filter(|code| code.allowed_in(packet, self.sender));
        *self.pick.get(&allowed.copied().collect::<Vec<_>>())
    }

    /// Builds one packet of each kind that the sender may send and hands it to `check`.
    fn each(&self, mut check: impl FnMut(&Packet<'_>)) {
        self.deliveries(&mut check);
        match self.sender {
            Sender::Client => self.requests(&mut check),
            Sender::Server => self.answers(&mut check),
        }
        if self.version == ProtocolVersion::V5 {
            let properties = self.properties(Place::Auth);
            let reason_code = self.reason(PacketType::Auth);
            check(&Auth { reason_code, properties: Properties::new(&properties) }.into());
        }
        if self.version == ProtocolVersion::V5 || self.sender == Sender::Client {
            let properties = self.properties(Place::Disconnect);
            let reason_code = self.reason(PacketType::Disconnect);
            check(&Disconnect { reason_code, properties: Properties::new(&properties) }.into());
        }
    }

    fn deliveries(&self, check: &mut impl FnMut(&Packet<'_>)) {
        let [dup, retain, no_topic, _] = self.flags;
        let packet_id = self.packet_id();
        let list = self.properties(Place::Publish);
        let properties = Properties::new(&list);
        let aliased = no_topic && properties.contains(PropertyId::TopicAlias);
        let delivery = match self.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(packet_id),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(packet_id),
        };
        let dup = dup && self.qos != QoS::AtMostOnce;
        let topic = if aliased { "" } else { self.topic.as_str() };
        check(&Publish { dup, delivery, retain, topic, properties, payload: &self.data }.into());

        let list = self.properties(Place::Puback);
        let properties = Properties::new(&list);
        let reason_code = self.reason(PacketType::Puback);
        check(&Puback { packet_id, reason_code, properties }.into());
        check(&Pubrec { packet_id, reason_code, properties }.into());
        let reason_code = self.reason(PacketType::Pubrel);
        check(&Pubrel { packet_id, reason_code, properties }.into());
        check(&Pubcomp { packet_id, reason_code, properties }.into());
    }

    fn requests(&self, check: &mut impl FnMut(&Packet<'_>)) {
        let packet_id = self.packet_id();
        let list = self.properties(Place::Subscribe);
        let properties = Properties::new(&list);
        let mut subscriptions = Vec::new();
        for filter in &self.filters {
            let mut subscription = Subscription::new(filter, self.qos);
            if self.version == ProtocolVersion::V5 {
                subscription.retain_as_published = self.flags[0];
                subscription.no_local = self.flags[1] && SharedFilter::parse(filter) == Ok(None);
                subscription.retain_handling = RetainHandling::new((self.number % 3) as u8).unwrap();
            }
            subscriptions.push(subscription);
        }
        let subscriptions = Subscriptions::new(&subscriptions);
        check(&Subscribe { packet_id, properties, subscriptions }.into());
        let list = self.properties(Place::Unsubscribe);
        let filters = self.filters.iter().map(String::as_str).collect::<Vec<_>>();
        let filters = TopicFilters::new(&filters);
        check(&Unsubscribe { packet_id, properties: Properties::new(&list), filters }.into());
        check(&Packet::Pingreq);
        self.connect(check);
    }

    fn connect(&self, check: &mut impl FnMut(&Packet<'_>)) {
        let [clean_start, with_will, with_username, with_password] = self.flags;
        let (list, of_will) = (self.properties(Place::Connect), self.properties(Place::Will));
        let will = Will {
            qos: self.qos,
            retain: with_username,
            topic: &self.topic,
            payload: &self.data,
            properties: Properties::new(&of_will),
        };
        let client_id = match (self.version, clean_start, self.text(0)) {
            (ProtocolVersion::V31, _, "") | (ProtocolVersion::V311, false, "") => "c",
            (_, _, text) => text,
        };
        let v5 = self.version == ProtocolVersion::V5;
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start,
            keep_alive: self.number,
            properties: Properties::new(&list),
            client_id,
            will: with_will.then_some(will),
            username: with_username.then_some(self.text(1)),
            password: (with_password && (with_username || v5)).then_some(&self.data),
        };
        check(&connect.into());
    }

    fn answers(&self, check: &mut impl FnMut(&Packet<'_>)) {
        let packet_id = self.packet_id();
        let v5 = self.version == ProtocolVersion::V5;
        let list = self.properties(Place::Suback);
        let properties = Properties::new(&list);
        let failure = if v5 { self.reason(PacketType::Suback) } else { ReasonCode::UnspecifiedError };
        let codes = [ReasonCode::granted(self.qos), failure];
        check(&Suback { packet_id, properties, reason_codes: ReasonCodes::new(&codes) }.into());
        let codes = [self.reason(PacketType::Unsuback)];
        let reason_codes = ReasonCodes::new(if v5 { &codes } else { &[] });
        check(&Unsuback { packet_id, properties, reason_codes }.into());
        let list = self.properties(Place::Connack);
        let reason_code =
            if v5 { self.reason(PacketType::Connack) } else { ReasonCode::from_return_code((self.number % 6) as u8).unwrap() };
        let may_be_present = reason_code == ReasonCode::Success && self.version != ProtocolVersion::V31;
        let session_present = self.flags[0] && may_be_present;
        let properties = Properties::new(&list);
        check(&Connack { session_present, reason_code, properties }.into());
        check(&Packet::Pingresp);
    }
}

fn check_roundtrip(parts: &Parts, packet: &Packet<'_>) {
    let peer = match (packet.packet_type(), parts.sender) {
        (PacketType::Connect, _) => Peer::NewClient,
        (_, Sender::Client) => Peer::Client(parts.version),
        (_, Sender::Server) => Peer::Server(parts.version),
    };
    let mut bytes = Vec::new();
    packet.encode(parts.version, &mut bytes).unwrap();
    let decoded = decode_frame(&Rules::new(peer), &bytes);
    assert_eq!(decoded.as_ref(), Ok(packet));
    let mut again = Vec::new();
    decoded.unwrap().encode(parts.version, &mut again).unwrap();
    assert_eq!(again, bytes);
    if let Packet::Publish(publish) = packet {
        let layout = PublishLayout::of(parts.version, &bytes).unwrap();
        assert_eq!(&bytes[layout.topic()], publish.topic.as_bytes());
        assert_eq!(&bytes[layout.payload()..], publish.payload);
        assert_eq!(layout.packet_id().is_some(), publish.delivery.packet_id().is_some());
    }
}

/// Every way to look at bytes that a peer sent.
fn look(bytes: &[u8]) {
    let versions = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
    let mut peers = vec![Peer::NewClient];
    peers.extend(versions.map(Peer::Client));
    peers.extend(versions.map(Peer::Server));
    for peer in peers {
        let rules = Rules { bridges: true, ..Rules::new(peer) };
        let Ok(Decoded::Packet(packet, len)) = decode(&rules, bytes) else { continue };
        assert!(len <= bytes.len());
        let version = match (&packet, peer) {
            (Packet::Connect(connect), _) => connect.version,
            (_, Peer::Client(version) | Peer::Server(version)) => version,
            (_, Peer::NewClient) => unreachable!("only CONNECT comes from a new client"),
        };
        // What was accepted can be written, and is the same when read again.
        let mut out = Vec::new();
        packet.encode(version, &mut out).unwrap();
        assert_eq!(decode_frame(&rules, &out), Ok(packet));
    }
    let _ = ProtocolVersion::of_connect(bytes);
    for version in versions {
        let _ = PublishLayout::of(version, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read_as_it_was(parts in parts()) {
        parts.each(|packet| check_roundtrip(&parts, packet));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        look(&bytes);
    }

    #[test]
    fn arbitrary_bodies_do_no_harm(first in any::<u8>(), body in vec(any::<u8>(), 0..120)) {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        look(&bytes);
    }

    #[test]
    fn mutations_of_the_vectors_do_no_harm(changes in vec((any::<Index>(), any::<u8>()), 1..4)) {
        for vector in vectors::all().iter().filter(|vector| vector.bytes.len() < 200) {
            let mut bytes = vector.bytes.clone();
            for (place, byte) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            look(&bytes);
        }
    }
}
