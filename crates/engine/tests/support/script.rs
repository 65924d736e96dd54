//! Conversations as text.
//!
//! `NAME> PACKET` sends, `NAME< PACKET` expects the next packet; at the end nobody may have got anything more.
//! Other lines say what happens around the clients: `after SECONDS`, `lose NAME`, `crash [LOOPS]`, `hold`, `commit`, `disk` (what is held gets to disk, and nobody is told), `deny CLIENT LETTER FILTER`, `allow …`, `slow NAME`, `read NAME`, `raw NAME HEX`.
//! `join CLIENT GROUP`, `forget` and `know` (whose the sessions are); `push TOKEN AUDIENCE TOPIC PAYLOAD …`, with `subscribers`, `all`, `user:NAME`, `client:ID` or `group:NAME`, `pushed TOKEN DELIVERED QUEUED` once it is safe, `pending TOKEN` before.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use midge_core::push::Audience;
use midge_core::topic::TopicName;
use midge_engine::exchange::Reach;
use midge_engine::limits::Settings;
use midge_engine::message::Publication;
use midge_mqtt::{
    Connect, Delivery, Disconnect, Packet, PacketId, Properties, Property, ProtocolVersion, Puback, Pubcomp, Publish, Pubrec,
    Pubrel, QoS, ReasonCode, RetainHandling, Subscribe, Subscription, SubscriptionId, Subscriptions, TopicFilters, Unsubscribe,
    Will,
};

use super::server::Server;

/// Plays a script with so many loops; returns the server as the script left it.
pub(crate) fn play(loops: u8, settings: &Settings, script: &str) -> Server {
    let mut server = play_on(loops, settings, script);
    let names: Vec<String> = server.wires.keys().cloned().collect();
    for name in names {
        let more = next(&mut server, &name);
        assert_eq!(more, None, "{name} gets more than expected on {loops} loops\n{script}");
    }
    server
}

/// Plays a script that leaves it to the caller what comes after it.
pub(crate) fn play_on(loops: u8, settings: &Settings, script: &str) -> Server {
    let mut server = Server::new(loops, settings.clone());
    for (number, line) in script.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if !line.is_empty() {
            step(&mut server, line, &format_args!("line {} of a script on {loops} loops: {line}\n{script}", number + 1));
        }
    }
    server
}

/// Plays one more line.
pub(crate) fn play_line(server: &mut Server, line: &str) {
    step(server, line, &format_args!("{line}"));
}

fn step(server: &mut Server, line: &str, context: &dyn std::fmt::Display) {
    if let Some((name, packet)) = line.split_once("> ") {
        return send(server, name, packet);
    }
    if let Some((name, expected)) = line.split_once("< ") {
        let got = next(server, name).unwrap_or_else(|| "nothing".to_owned());
        assert_eq!(got, expected, "{context}");
        return;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["after", seconds] => server.pass(Duration::from_secs_f64(seconds.parse().expect("seconds"))),
        ["lose", name] => server.lose(name),
        ["crash"] => server.crash(u8::try_from(server.shards.len()).expect("few loops")),
        ["crash", loops] => server.crash(loops.parse().expect("a number of loops")),
        ["hold"] => server.auto = false,
        ["disk"] => (0..server.shards.len()).for_each(|event_loop| server.write_ahead(event_loop)),
        ["commit"] => {
            server.auto = true;
            server.settle();
        }
        [how @ ("deny" | "allow"), client, letter, filter] => {
            server.denials.set(client, letter.chars().next().expect("a letter"), filter, how == "deny");
        }
        ["raw", name, hex] => {
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"));
            server.send_bytes(name, &bytes.collect::<Vec<_>>());
        }
        ["join", client, group] => {
            server.denials.members.insert((client.to_owned(), group.to_owned()));
        }
        [what @ ("forget" | "know")] => {
            server.denials.unknown = what == "forget";
            server.settle();
        }
        ["push", token, audience, topic, payload, ref options @ ..] => {
            push(server, number(token), audience, (topic, payload), options);
        }
        ["pushed", token, delivered, queued] => {
            let reach = Some(Reach { delivered: number(delivered), queued: number(queued) });
            assert_eq!(server.pushed.get(&number(token)).copied(), reach, "{context}");
        }
        ["pending", token] => assert_eq!(server.pushed.get(&number(token)), None, "{context}"),
        ["slow", name] => server.read(name, Some(0)),
        ["read", name] => {
            server.read(name, None);
            server.settle();
        }
        _ => panic!("no such step: {context}"),
    }
}

/// Pushes on the first loop, as a server does.
fn push(server: &mut Server, token: u64, audience: &str, (topic, payload): (&str, &str), options: &[&str]) {
    let audience = match audience.split_once(':') {
        Some(("user", name)) => Audience::User(name.parse().expect("a username")),
        Some(("client", id)) => Audience::Client(id.parse().expect("a client identifier")),
        Some(("group", name)) => Audience::Group(name.parse().expect("a group name")),
        _ if audience == "all" => Audience::All,
        _ => Audience::Subscribers,
    };
    let level = options.iter().find(|word| word.starts_with('q')).map_or(QoS::AtLeastOnce, |word| qos(word));
    let left = options.iter().find_map(|word| word.strip_prefix("left="));
    let expires = left.map(|seconds| server.now.monotonic + Duration::from_secs(number(seconds)));
    let publication = Publication {
        topic: TopicName::new(topic).expect("a topic name"),
        properties: &[],
        payload: payload.as_bytes(),
        qos: level,
        retain: options.contains(&"retain"),
        expires,
        stamp: 0,
    };
    server.with(0, |shard, turn| shard.push(token, publication, audience, turn));
    server.settle();
}

/// Returns what a client gets next; `closed` once, at the end.
fn next(server: &mut Server, name: &str) -> Option<String> {
    let text = server.next_packet(name, show);
    if text.is_none() && server.wires.get(name)?.closed {
        server.wires.remove(name);
        return Some("closed".to_owned());
    }
    text
}

fn qos(text: &str) -> QoS {
    QoS::new(text.strip_prefix('q').and_then(|level| level.parse().ok()).expect("q0 to q2")).expect("q0 to q2")
}

fn id(text: &str) -> PacketId {
    text.strip_prefix('#').and_then(|id| id.parse().ok()).and_then(PacketId::new).expect("#1 to #65535")
}

fn code(text: &str) -> ReasonCode {
    ReasonCode::new(u8::from_str_radix(text, 16).expect("two hex digits")).expect("a reason code")
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a number in range")
}

fn property(word: &str) -> Option<Property<'_>> {
    let (key, value) = word.split_once('=')?;
    Some(match key {
        "expiry" => Property::SessionExpiryInterval(number(value)),
        "left" => Property::MessageExpiryInterval(number(value)),
        "rm" => Property::ReceiveMaximum(number::<NonZeroU16>(value)),
        "max" => Property::MaximumPacketSize(number::<NonZeroU32>(value)),
        "aliases" => Property::TopicAliasMaximum(number(value)),
        "alias" => Property::TopicAlias(number::<NonZeroU16>(value)),
        "delay" => Property::WillDelayInterval(number(value)),
        "response" => Property::ResponseTopic(value),
        "correlation" => Property::CorrelationData(value.as_bytes()),
        "type" => Property::ContentType(value),
        "problem" => Property::RequestProblemInformation(value == "1"),
        "answers" => Property::RequestResponseInformation(value == "1"),
        "utf8" => Property::PayloadFormatIndicator(value == "1"),
        "id" => Property::SubscriptionIdentifier(SubscriptionId::new(number(value)).expect("in range")),
        _ => Property::UserProperty(key.strip_prefix("u-")?, value),
    })
}

fn send(server: &mut Server, name: &str, packet: &str) {
    let words: Vec<&str> = packet.split_whitespace().collect();
    let (verb, words) = words.split_first().expect("a packet");
    let properties: Vec<Property<'_>> = words.iter().filter_map(|word| property(word)).collect();
    let has = |flag: &str| words.contains(&flag);
    let packet_id = || words.iter().find(|word| word.starts_with('#')).map(|word| id(word)).expect("a packet identifier");
    let reason = words.iter().filter(|word| word.len() == 2).find_map(|word| u8::from_str_radix(word, 16).ok());
    let reason_code = reason.and_then(ReasonCode::new).unwrap_or(ReasonCode::Success);
    let none = Properties::NONE;
    let packet = match *verb {
        "connect" => return connect(server, name, words),
        "publish" => {
            let level =
                words.iter().find(|word| word.len() == 2 && word.starts_with('q')).map_or(QoS::AtMostOnce, |word| qos(word));
            let delivery = match level {
                QoS::AtMostOnce => Delivery::AtMostOnce,
                QoS::AtLeastOnce => Delivery::AtLeastOnce(packet_id()),
                QoS::ExactlyOnce => Delivery::ExactlyOnce(packet_id()),
            };
            let text = |word: &str| if word == "-" { String::new() } else { word.replace('_', " ") };
            let (topic, payload) = (if words[0] == "-" { "" } else { words[0] }, text(words[1]));
            let publish = Publish {
                dup: has("dup"),
                delivery,
                retain: has("retain"),
                topic,
                properties: Properties::new(&properties),
                payload: payload.as_bytes(),
            };
            return server.send(name, &publish.into());
        }
        "subscribe" => {
            let list: Vec<Subscription<'_>> = words
                .iter()
                .filter(|word| !word.starts_with('#') || word.contains(':'))
                .filter_map(|word| subscription(word))
                .collect();
            let subscribe = Subscribe {
                packet_id: packet_id(),
                properties: Properties::new(&properties),
                subscriptions: Subscriptions::new(&list),
            };
            return server.send(name, &subscribe.into());
        }
        "unsubscribe" => {
            let list = &words[1..];
            let unsubscribe = Unsubscribe { packet_id: packet_id(), properties: none, filters: TopicFilters::new(list) };
            return server.send(name, &unsubscribe.into());
        }
        "puback" => Puback { packet_id: packet_id(), reason_code, properties: none }.into(),
        "pubrec" => Pubrec { packet_id: packet_id(), reason_code, properties: none }.into(),
        "pubrel" => Pubrel { packet_id: packet_id(), reason_code, properties: none }.into(),
        "pubcomp" => Pubcomp { packet_id: packet_id(), reason_code, properties: none }.into(),
        "ping" => Packet::Pingreq,
        "disconnect" => Disconnect { reason_code, properties: Properties::new(&properties) }.into(),
        other => panic!("no such packet: {other}"),
    };
    server.send(name, &packet);
}

/// Reads `FILTER:q1,nl,rap,rh1`.
fn subscription(word: &str) -> Option<Subscription<'_>> {
    let (filter, options) = word.rsplit_once(':')?;
    let mut options = options.split(',');
    let mut subscription = Subscription::new(filter, qos(options.next()?));
    for option in options {
        match option {
            "nl" => subscription.no_local = true,
            "rap" => subscription.retain_as_published = true,
            "rh1" => subscription.retain_handling = RetainHandling::SendIfNew,
            "rh2" => subscription.retain_handling = RetainHandling::DontSend,
            other => panic!("no such option: {other}"),
        }
    }
    Some(subscription)
}

/// Connects: `v3|v4|v5 [clean] [keep=S] [as=CLIENT] [will=TOPIC,PAYLOAD,QOS[,retain]] [properties]`.
pub(crate) fn connect(server: &mut Server, name: &str, words: &[&str]) {
    let version = match words[0] {
        "v3" => ProtocolVersion::V31,
        "v4" => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let (of_will, own): (Vec<_>, Vec<_>) = words.iter().filter_map(|word| property(word)).partition(|p| {
        use midge_mqtt::PropertyId as Id;
        let of_message = [Id::PayloadFormatIndicator, Id::ContentType, Id::ResponseTopic, Id::CorrelationData];
        matches!(p.id(), Id::WillDelayInterval | Id::MessageExpiryInterval | Id::UserProperty) || of_message.contains(&p.id())
    });
    let will: Option<Vec<&str>> = value("will").map(|will| will.split(',').collect());
    let will = will.as_ref().map(|will| Will {
        qos: qos(will[2]),
        retain: will.contains(&"retain"),
        topic: will[0],
        payload: will[1].as_bytes(),
        properties: Properties::new(&of_will),
    });
    let connect = Connect {
        version,
        bridge: false,
        clean_start: words.contains(&"clean"),
        keep_alive: value("keep").map_or(0, number),
        properties: Properties::new(&own),
        client_id: value("as").unwrap_or(name),
        will,
        username: value("user"),
        password: None,
    };
    let result = server.connect(name, &connect);
    let expected = value("refused").map(code);
    assert_eq!(result.err(), expected, "{name}: {words:?}");
}

/// Writes a packet as scripts expect it: what every CONNACK of a test server says is left out.
fn show(packet: &Packet<'_>) -> String {
    let mut words: Vec<String> = vec![packet.packet_type().name().to_lowercase()];
    let mut shown = Properties::NONE;
    let reason = |words: &mut Vec<String>, id: PacketId, code: ReasonCode| {
        words.push(format!("#{id}"));
        words.extend((code != ReasonCode::Success).then(|| format!("{:02X}", code.value())));
    };
    match packet {
        Packet::Connack(connack) => {
            words.push(if connack.session_present { "present" } else { "new" }.to_owned());
            words.extend((connack.reason_code != ReasonCode::Success).then(|| format!("{:02X}", connack.reason_code.value())));
            shown = connack.properties;
        }
        Packet::Publish(publish) => {
            words.push(if publish.topic.is_empty() { "-" } else { publish.topic }.to_owned());
            words.push(if publish.payload.is_empty() {
                "-".to_owned()
            } else {
                String::from_utf8_lossy(publish.payload).replace(' ', "_")
            });
            words.extend((publish.delivery.qos() > QoS::AtMostOnce).then(|| format!("q{}", publish.delivery.qos().value())));
            words.extend(publish.delivery.packet_id().map(|id| format!("#{id}")));
            words.extend(publish.dup.then(|| "dup".to_owned()));
            words.extend(publish.retain.then(|| "retain".to_owned()));
            shown = publish.properties;
        }
        Packet::Puback(packet) => reason(&mut words, packet.packet_id, packet.reason_code),
        Packet::Pubrec(packet) => reason(&mut words, packet.packet_id, packet.reason_code),
        Packet::Pubrel(packet) => reason(&mut words, packet.packet_id, packet.reason_code),
        Packet::Pubcomp(packet) => reason(&mut words, packet.packet_id, packet.reason_code),
        Packet::Suback(packet) => {
            words.push(format!("#{}", packet.packet_id));
            words.extend(packet.reason_codes.iter().map(|code| format!("{:02X}", code.value())));
        }
        Packet::Unsuback(packet) => {
            words.push(format!("#{}", packet.packet_id));
            words.extend(packet.reason_codes.iter().map(|code| format!("{:02X}", code.value())));
        }
        Packet::Disconnect(packet) => words.push(format!("{:02X}", packet.reason_code.value())),
        _ => {}
    }
    // Nothing but these two has properties [MQTT-3.1.2-29].
    match packet {
        Packet::Connack(_) | Packet::Publish(_) => {}
        Packet::Puback(packet) => assert!(packet.properties.is_empty()),
        Packet::Pubrec(packet) => assert!(packet.properties.is_empty()),
        Packet::Pubrel(packet) => assert!(packet.properties.is_empty()),
        Packet::Pubcomp(packet) => assert!(packet.properties.is_empty()),
        Packet::Suback(packet) => assert!(packet.properties.is_empty()),
        Packet::Unsuback(packet) => assert!(packet.properties.is_empty()),
        Packet::Disconnect(packet) => assert!(packet.properties.is_empty()),
        _ => {}
    }
    words.extend(shown.iter().filter_map(|property| show_property(&property)));
    words.join(" ")
}

fn show_property(property: &Property<'_>) -> Option<String> {
    Some(match *property {
        // All test servers have these.
        Property::ReceiveMaximum(_) | Property::TopicAliasMaximum(_) | Property::MaximumPacketSize(_) => return None,
        Property::MessageExpiryInterval(left) => format!("left={left}"),
        Property::SubscriptionIdentifier(id) => format!("id={}", id.value()),
        Property::TopicAlias(alias) => format!("alias={alias}"),
        Property::ResponseTopic(topic) => format!("response={topic}"),
        Property::CorrelationData(data) => format!("correlation={}", String::from_utf8_lossy(data)),
        Property::ContentType(kind) => format!("type={kind}"),
        Property::PayloadFormatIndicator(utf8) => format!("utf8={}", u8::from(utf8)),
        Property::UserProperty(key, value) => format!("u-{key}={value}"),
        Property::SessionExpiryInterval(seconds) => format!("expiry={seconds}"),
        Property::ServerKeepAlive(seconds) => format!("keep={seconds}"),
        Property::AssignedClientIdentifier(id) => format!("as={id}"),
        Property::MaximumQoS(qos) => format!("maxq={}", qos.value()),
        other => format!("{:?}", other.id()),
    })
}
