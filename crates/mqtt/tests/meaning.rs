//! What the bytes mean, field by field, for every packet.

// A test may stop at the first surprise, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::num::{NonZeroU16, NonZeroU32};

use midge_mqtt::{
    Auth, Connack, Connect, Delivery, Disconnect, Packet, PacketId, Peer, Properties, Property, ProtocolVersion, Puback, Pubcomp,
    Publish, Pubrec, Pubrel, QoS, ReasonCode, ReasonCodes, RetainHandling, Rules, Suback, Subscribe, Subscription, SubscriptionId,
    Subscriptions, TopicFilters, Unsuback, Unsubscribe, Will, decode_frame, vectors,
};

const V5: ProtocolVersion = ProtocolVersion::V5;
const FROM_CLIENT: Peer = Peer::Client(V5);
const FROM_SERVER: Peer = Peer::Server(V5);

/// Decodes what the text says and compares; encodes the packet and compares again.
fn check<'a>(peer: Peer, text: &str, expected: impl Into<Packet<'a>>) {
    let bytes = vectors::bytes(text).unwrap();
    let expected = expected.into();
    assert_eq!(decode_frame(&Rules::new(peer), &bytes), Ok(expected.clone()), "{text}");
    let version = match peer {
        Peer::NewClient => V5,
        Peer::Client(version) | Peer::Server(version) => version,
    };
    let mut out = Vec::new();
    expected.encode(version, &mut out).unwrap();
    assert_eq!(out, bytes, "{text}");
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

#[test]
fn connect_of_each_version() {
    let plain = Connect {
        version: ProtocolVersion::V311,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::NONE,
        client_id: "c",
        will: None,
        username: None,
        password: None,
    };
    check(Peer::NewClient, "10 { 'MQTT' 04 02 003C 'c' }", plain);
    let v31 = Connect { version: ProtocolVersion::V31, clean_start: false, ..plain };
    check(Peer::NewClient, "10 { 'MQIsdp' 03 00 003C 'c' }", v31);
    let v5 = Connect { version: V5, keep_alive: 0, client_id: "", ..plain };
    check(Peer::NewClient, "10 { 'MQTT' 05 02 0000 {} '' }", v5);
    let will = Will { qos: QoS::ExactlyOnce, retain: true, topic: "w/t", payload: b"gone", properties: Properties::NONE };
    let full = Connect { will: Some(will), username: Some("user"), password: Some(b"secret"), clean_start: false, ..plain };
    check(Peer::NewClient, "10 { 'MQTT' 04 F4 003C 'c' 'w/t' 'gone' 'user' 'secret' }", full);
    let quiet = Will { qos: QoS::AtLeastOnce, retain: false, ..will };
    let full = Connect { will: Some(quiet), username: None, version: V5, ..full };
    check(Peer::NewClient, "10 { 'MQTT' 05 4C 003C {} 'c' {} 'w/t' 'gone' 'secret' }", full);
}

#[test]
fn connect_of_a_bridge() {
    for (text, version) in
        [("10 { 'MQTT' 84 02 003C 'c' }", ProtocolVersion::V311), ("10 { 'MQIsdp' 83 02 003C 'c' }", ProtocolVersion::V31)]
    {
        let bytes = vectors::bytes(text).unwrap();
        let rules = Rules { bridges: true, ..Rules::new(Peer::NewClient) };
        let packet = decode_frame(&rules, &bytes).unwrap();
        let Packet::Connect(connect) = &packet else { panic!("{packet:?}") };
        assert!(connect.bridge && connect.version == version);
        let mut out = Vec::new();
        packet.encode(version, &mut out).unwrap();
        assert_eq!(out, bytes);
        assert_eq!(ProtocolVersion::of_connect(&bytes), Some(version));
    }
}

#[test]
fn the_version_of_a_broken_connect_is_still_known() {
    let check = |text, expected| {
        let bytes = vectors::bytes(text).unwrap();
        assert_eq!(ProtocolVersion::of_connect(&bytes), expected, "{text}");
    };
    check("10 { 'MQTT' 05 03 }", Some(V5));
    check("10 { 'MQTT' 04 }", Some(ProtocolVersion::V311));
    check("10 { 'MQIsdp' 03 FF }", Some(ProtocolVersion::V31));
    check("10 { 'MQTT' 06 02 }", None);
    check("10 { 'MQTT' }", None);
    check("30 { 'MQTT' 05 }", None);
    check("10", None);
}

#[test]
fn every_property_of_connect_and_will() {
    let properties = [
        Property::SessionExpiryInterval(10),
        Property::ReceiveMaximum(NonZeroU16::new(20).unwrap()),
        Property::MaximumPacketSize(NonZeroU32::new(65_536).unwrap()),
        Property::TopicAliasMaximum(10),
        Property::RequestResponseInformation(true),
        Property::RequestProblemInformation(false),
        Property::AuthenticationMethod("m"),
        Property::AuthenticationData(&[1, 2]),
        Property::UserProperty("k", "v"),
    ];
    let of_will = [
        Property::WillDelayInterval(5),
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("r/t"),
        Property::CorrelationData(&[10, 11]),
        Property::UserProperty("k", "v"),
    ];
    let connect = Connect {
        version: V5,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::new(&properties),
        client_id: "c",
        will: Some(Will { qos: QoS::AtMostOnce, retain: false, topic: "w", payload: b"p", properties: Properties::new(&of_will) }),
        username: None,
        password: None,
    };
    check(
        Peer::NewClient,
        "10 { 'MQTT' 05 06 003C \
           { 11 0000000A 21 0014 27 00010000 22 000A 19 01 17 00 15 'm' 16 ( 01 02 ) 26 'k' 'v' } \
           'c' { 18 00000005 01 01 02 0000003C 03 'text/plain' 08 'r/t' 09 ( 0A 0B ) 26 'k' 'v' } \
           'w' 'p' }",
        connect,
    );
}

#[test]
fn every_property_of_connack() {
    let properties = [
        Property::SessionExpiryInterval(u32::MAX),
        Property::ReceiveMaximum(NonZeroU16::new(20).unwrap()),
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(NonZeroU32::MIN),
        Property::AssignedClientIdentifier("id"),
        Property::TopicAliasMaximum(10),
        Property::ReasonString("why"),
        Property::WildcardSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(true),
        Property::SharedSubscriptionAvailable(false),
        Property::ServerKeepAlive(60),
        Property::ResponseInformation("ri"),
        Property::ServerReference("other"),
        Property::AuthenticationMethod("m"),
        Property::AuthenticationData(&[]),
        Property::UserProperty("", ""),
    ];
    let properties = Properties::new(&properties);
    let connack = Connack { session_present: true, reason_code: ReasonCode::Success, properties };
    check(
        FROM_SERVER,
        "20 { 01 00 { 11 FFFFFFFF 21 0014 24 01 25 00 27 00000001 12 'id' 22 000A 1F 'why' 28 00 \
           29 01 2A 00 13 003C 1A 'ri' 1C 'other' 15 'm' 16 () 26 '' '' } }",
        connack,
    );
    assert_eq!(properties.maximum_qos(), Some(QoS::AtLeastOnce));
    assert_eq!(properties.server_reference(), Some("other"));
    let refused = Connack { session_present: false, reason_code: ReasonCode::BadUserNameOrPassword, properties: Properties::NONE };
    check(Peer::Server(ProtocolVersion::V311), "20 { 00 04 }", refused);
    check(FROM_SERVER, "20 { 00 86 {} }", refused);
}

#[test]
fn publish_with_every_flag_and_property() {
    let properties = [
        Property::PayloadFormatIndicator(false),
        Property::MessageExpiryInterval(60),
        Property::TopicAlias(NonZeroU16::new(5).unwrap()),
        Property::ResponseTopic("r"),
        Property::CorrelationData(&[9]),
        Property::UserProperty("k", "v"),
        Property::SubscriptionIdentifier(SubscriptionId::new(128).unwrap()),
        Property::SubscriptionIdentifier(SubscriptionId::new(1).unwrap()),
        Property::ContentType("t"),
    ];
    let publish = Publish {
        dup: true,
        delivery: Delivery::ExactlyOnce(id(0x0102)),
        retain: true,
        topic: "a/b",
        properties: Properties::new(&properties),
        payload: b"hello",
    };
    check(
        FROM_SERVER,
        "3D { 'a/b' 0102 { 01 00 02 0000003C 23 0005 08 'r' 09 ( 09 ) 26 'k' 'v' 0B 8001 0B 01 \
           03 't' } \"hello\" }",
        publish,
    );
    let identifiers = publish.properties.subscription_identifiers();
    assert!(identifiers.map(SubscriptionId::value).eq([128, 1]));
    let plain =
        Publish { dup: false, delivery: Delivery::AtLeastOnce(id(7)), retain: false, properties: Properties::NONE, ..publish };
    check(Peer::Client(ProtocolVersion::V31), "32 { 'a/b' 0007 \"hello\" }", plain);
    let plain = Publish { delivery: Delivery::AtMostOnce, retain: true, ..plain };
    check(Peer::Client(ProtocolVersion::V311), "31 { 'a/b' \"hello\" }", plain);
}

#[test]
fn acknowledgements() {
    let properties = [Property::ReasonString("why")];
    let properties = Properties::new(&properties);
    let packet_id = id(0x0A0B);
    check(FROM_CLIENT, "40 { 0A0B }", Puback::success(packet_id));
    check(FROM_CLIENT, "50 { 0A0B }", Pubrec::success(packet_id));
    check(FROM_CLIENT, "62 { 0A0B }", Pubrel::success(packet_id));
    check(FROM_CLIENT, "70 { 0A0B }", Pubcomp::success(packet_id));
    let reason_code = ReasonCode::NoMatchingSubscribers;
    let puback = Puback { packet_id, reason_code, properties: Properties::NONE };
    check(FROM_CLIENT, "40 { 0A0B 10 }", puback);
    let reason_code = ReasonCode::QuotaExceeded;
    check(FROM_CLIENT, "50 { 0A0B 97 { 1F 'why' } }", Pubrec { packet_id, reason_code, properties });
    let reason_code = ReasonCode::PacketIdentifierNotFound;
    check(FROM_CLIENT, "62 { 0A0B 92 { 1F 'why' } }", Pubrel { packet_id, reason_code, properties });
    let pubcomp = Pubcomp { packet_id, reason_code, properties };
    check(FROM_CLIENT, "70 { 0A0B 92 { 1F 'why' } }", pubcomp);
}

#[test]
fn subscriptions() {
    let property = [Property::SubscriptionIdentifier(SubscriptionId::new(300).unwrap())];
    let list = [
        Subscription {
            filter: "$share/g/a/+",
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: true,
            retain_handling: RetainHandling::DontSend,
        },
        Subscription { no_local: true, retain_handling: RetainHandling::SendIfNew, ..Subscription::new("b/#", QoS::ExactlyOnce) },
    ];
    let subscribe =
        Subscribe { packet_id: id(1), properties: Properties::new(&property), subscriptions: Subscriptions::new(&list) };
    check(FROM_CLIENT, "82 { 0001 { 0B AC02 } '$share/g/a/+' 29 'b/#' 16 }", subscribe);
    let list = [Subscription::new("a", QoS::AtMostOnce), Subscription::new("b", QoS::ExactlyOnce)];
    let subscriptions = Subscriptions::new(&list);
    let subscribe = Subscribe { properties: Properties::NONE, subscriptions, ..subscribe };
    check(Peer::Client(ProtocolVersion::V311), "82 { 0001 'a' 00 'b' 02 }", subscribe);
    let filters = TopicFilters::new(&["a", "b/+"]);
    let unsubscribe = Unsubscribe { packet_id: id(2), properties: Properties::NONE, filters };
    check(FROM_CLIENT, "A2 { 0002 {} 'a' 'b/+' }", unsubscribe);
    check(Peer::Client(ProtocolVersion::V31), "A2 { 0002 'a' 'b/+' }", unsubscribe);
}

#[test]
fn answers_to_subscriptions() {
    let codes = [ReasonCode::GRANTED_QOS_0, ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized];
    let (packet_id, properties) = (id(1), Properties::NONE);
    let reason_codes = ReasonCodes::new(&codes);
    let suback = Suback { packet_id, properties, reason_codes };
    check(FROM_SERVER, "90 { 0001 {} 00 02 87 }", suback);
    let mut out = Vec::new();
    suback.encode(ProtocolVersion::V311, &mut out).unwrap();
    assert_eq!(out, [0x90, 5, 0, 1, 0, 2, 0x80], "every failure is 0x80 before 5.0");
    let reason_codes = ReasonCodes::new(&[ReasonCode::Success, ReasonCode::NoSubscriptionExisted]);
    let unsuback = Unsuback { packet_id, properties, reason_codes };
    check(FROM_SERVER, "B0 { 0001 {} 00 11 }", unsuback);
    let reason_codes = ReasonCodes::new(&[]);
    check(Peer::Server(ProtocolVersion::V311), "B0 { 0001 }", Unsuback { reason_codes, ..unsuback });
}

#[test]
fn the_rest() {
    check(FROM_CLIENT, "C0 00", Packet::Pingreq);
    check(FROM_SERVER, "D0 00", Packet::Pingresp);
    check(Peer::Client(ProtocolVersion::V311), "E0 00", Disconnect::new(ReasonCode::Success));
    let reason_code = ReasonCode::DisconnectWithWillMessage;
    check(FROM_CLIENT, "E0 { 04 }", Disconnect::new(reason_code));
    let properties = [Property::SessionExpiryInterval(0), Property::UserProperty("k", "v")];
    let properties = Properties::new(&properties);
    let disconnect = Disconnect { reason_code: ReasonCode::Success, properties };
    check(FROM_CLIENT, "E0 { 00 { 11 00000000 26 'k' 'v' } }", disconnect);
    let properties = [Property::AuthenticationMethod("m"), Property::AuthenticationData(b"d")];
    let properties = Properties::new(&properties);
    let auth = Auth { reason_code: ReasonCode::ContinueAuthentication, properties };
    check(FROM_CLIENT, "F0 { 18 { 15 'm' 16 'd' } }", auth);
}
