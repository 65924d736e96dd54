//! What clients may do on a real Mosquitto.
//!
//! That a message must not come is shown by a later one that comes on the same connection, never by waiting.

use std::time::Duration;

use midge_testkit::{Connect, Message, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, Will};

use crate::logins::{SOON, broker, redis, rules, user};

const PROTOCOLS: [Protocol; 2] = [Protocol::V3_1_1, Protocol::V5];
/// The topic of the messages that show that nothing else came before them; all may use it.
const FENCE: &str = "fence";

/// A broker with two users: `ann`, who has the rules that a test gives her, and `root`, who may all.
fn stage(version: MosquittoVersion, store: &RedisServer, lines: &str) -> Mosquitto {
    user(store, "root", &["superuser", "1"]);
    user(store, "ann", &[]);
    rules(store, "all", &[FENCE, "prs"]);
    broker(version, store, lines)
}

fn connect(broker: &Mosquitto, protocol: Protocol, id: &str, name: &str) -> RawClient {
    RawClient::connect(broker.port(), &Connect::new(protocol, id).login(name, "right")).unwrap()
}

/// What a SUBACK says of a filter that is denied.
fn denied(protocol: Protocol) -> u8 {
    if protocol == Protocol::V5 { 0x87 } else { 0x80 }
}

/// Returns the topics that came to `client` before a message that `sender` sends now.
fn heard(client: &mut RawClient, sender: &mut RawClient) -> Vec<Message> {
    assert_eq!(client.subscribe(&[(FENCE, 0)]).unwrap(), [0]);
    assert_eq!(sender.publish(FENCE, b"", 1, false).unwrap(), 0);
    let mut all = Vec::new();
    loop {
        let message = client.message(SOON).unwrap().expect("the fence comes");
        if message.topic == FENCE.as_bytes() {
            assert_eq!(client.unsubscribe(&[FENCE]).unwrap().first().copied().unwrap_or(0), 0);
            return all;
        }
        all.push(message);
    }
}

fn topics(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.text().0).collect()
}

#[test]
fn publishing_follows_the_rules_and_cuts_nobody_off() {
    let store = redis();
    rules(&store, "user:{ann}", &["open/#", "p", "open/closed", "!p", "own/%u/%c", "p", "own/+/shared", "p", "deaf/#", "rs"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        for protocol in PROTOCOLS {
            let (mut ann, mut root) = (connect(&broker, protocol, "phone", "ann"), connect(&broker, Protocol::V5, "r", "root"));
            assert_eq!(root.subscribe(&[("#", 2)]).unwrap(), [2]);
            for qos in 0..=2 {
                for (topic, allowed) in [
                    ("open", true),
                    ("open/x", true),
                    ("open/closed", false),
                    ("own/ann/phone", true),
                    ("own/ann/desk", false),
                    ("own/bob/phone", false),
                    ("own/bob/shared", true),
                    ("deaf/x", false),
                    ("$SYS/broker/uptime", false),
                    ("elsewhere", false),
                ] {
                    let code = ann.publish(topic, b"m", qos, false).unwrap();
                    let said = if qos > 0 && !allowed && protocol == Protocol::V5 { 0x87 } else { 0 };
                    assert_eq!(code, said, "{version:?} {protocol:?} {topic} {qos}");
                    let expected: &[&str] = if allowed { &[topic] } else { &[] };
                    let got = heard_on_hash(&mut root, &mut ann);
                    assert_eq!(topics(&got), expected, "{version:?} {protocol:?} {topic} {qos}");
                    assert!(got.iter().all(|message| message.qos == qos), "{version:?} {protocol:?} {topic} {qos}");
                }
            }
        }
    }
}

/// As [`heard`], for a client that has subscribed to everything.
fn heard_on_hash(client: &mut RawClient, sender: &mut RawClient) -> Vec<Message> {
    sender.publish(FENCE, b"", 1, false).unwrap();
    let messages = std::iter::from_fn(|| client.message(SOON).unwrap());
    messages.take_while(|message| message.topic != FENCE.as_bytes()).collect()
}

#[test]
fn subscribing_needs_a_rule_that_covers_the_filter() {
    let store = redis();
    let fields = ["a/#", "s", "a/no/x", "!s", "b/+", "s", "own/%u/%c/#", "s", "c/#", "r", "#", "p"];
    rules(&store, "user:{ann}", &fields);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        for protocol in PROTOCOLS {
            let (mut ann, mut root) = (connect(&broker, protocol, "phone", "ann"), connect(&broker, protocol, "r", "root"));
            for (filter, allowed) in [
                ("a/x", true),
                ("a/x/#", true),
                ("a/#", false),
                ("a/+/x", false),
                ("a/no/x", false),
                ("a/no/y", true),
                ("b/x", true),
                ("b/+", true),
                ("b/#", false),
                ("b", false),
                ("c/x", false),
                ("#", false),
                ("+/+", false),
                ("own/ann/phone/#", true),
                ("own/ann/+", false),
                ("own/+/phone/#", false),
                ("$share/g/a/x", true),
                ("$share/g/a/#", false),
                ("$share/g/c/x", false),
                ("$SYS/#", false),
            ] {
                let code = if allowed { 1 } else { denied(protocol) };
                assert_eq!(ann.subscribe(&[(filter, 1)]).unwrap(), [code], "{version:?} {protocol:?} {filter}");
            }
            // Several at once are judged one by one.
            assert_eq!(ann.subscribe(&[("c/x", 0), ("b/x", 2), ("#", 1)]).unwrap(), [denied(protocol), 2, denied(protocol)]);
            assert_eq!(root.subscribe(&[("#", 0), ("$SYS/broker/uptime", 0)]).unwrap(), [0, 0], "{version:?} {protocol:?}");
            ann.unsubscribe(&["a/x", "never/there", "c/x"]).unwrap();
            ann.ping(SOON).unwrap();
        }
    }
}

#[test]
fn delivery_is_judged_for_each_receiver() {
    let store = redis();
    user(&store, "eve", &[]);
    user(&store, "bob", &[]);
    rules(&store, "user:{ann}", &["news/#", "rs"]);
    rules(&store, "user:{bob}", &["news/#", "s", "news/open", "r"]);
    rules(&store, "user:{eve}", &["news/+", "s", "#", "r", "news/hidden", "!r"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        for protocol in PROTOCOLS {
            let mut root = connect(&broker, protocol, "r", "root");
            for (name, filter, expected) in [
                ("ann", "news/#", &["news/open", "news/hidden", "news/open"][..]),
                ("bob", "news/#", &["news/open", "news/open"]),
                ("bob", "$share/g/news/#", &["news/open", "news/open"]),
                ("eve", "news/+", &["news/open", "news/open"]),
            ] {
                for qos in 0..=2 {
                    let mut others = ["ann", "bob"].map(|name| connect(&broker, Protocol::V5, &format!("other-{name}"), name));
                    for other in &mut others {
                        other.subscribe(&[("news/#", 0)]).unwrap();
                    }
                    let mut client = connect(&broker, protocol, "phone", name);
                    let code = client.subscribe(&[(filter, qos)]).unwrap();
                    assert_eq!(code, [qos], "{version:?} {name} {filter}");
                    for topic in ["news/open", "news/hidden", "news/open"] {
                        assert_eq!(root.publish(topic, b"m", qos, false).unwrap(), 0);
                    }
                    let got = heard(&mut client, &mut root);
                    assert_eq!(topics(&got), expected, "{version:?} {protocol:?} {name} {filter} {qos}");
                    assert_eq!(heard(&mut others[0], &mut root).len(), 3, "{version:?} {name} {filter}");
                    assert_eq!(heard(&mut others[1], &mut root).len(), 2, "{version:?} {name} {filter}");
                    client.unsubscribe(&[filter]).unwrap();
                    root.publish("news/open", b"m", qos, false).unwrap();
                    assert!(heard(&mut client, &mut root).is_empty(), "{version:?} {name} {filter}");
                }
            }
        }
    }
}

#[test]
fn retained_messages_are_judged_when_they_are_kept_and_when_they_come() {
    let store = redis();
    rules(&store, "user:{ann}", &["kept/#", "s", "kept/open", "pr", "$SYS/#", "s"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        let mut root = connect(&broker, Protocol::V5, "r", "root");
        for topic in ["kept/open", "kept/hidden"] {
            root.publish(topic, b"by root", 1, true).unwrap();
        }
        for protocol in PROTOCOLS {
            let mut ann = connect(&broker, protocol, "phone", "ann");
            ann.publish("kept/other", b"by ann", 1, true).unwrap();
            ann.publish("kept/hidden", b"", 1, true).unwrap();
            assert_eq!(ann.subscribe(&[("kept/#", 1), ("$SYS/#", 0)]).unwrap(), [1, 0]);
            assert_eq!(topics(&heard(&mut ann, &mut root)), ["kept/open"], "{version:?} {protocol:?}");
            let mut other = connect(&broker, protocol, "r2", "root");
            other.subscribe(&[("kept/#", 1)]).unwrap();
            let mut got = topics(&heard(&mut other, &mut root));
            got.sort();
            assert_eq!(got, ["kept/hidden", "kept/open"], "{version:?} {protocol:?}");
        }
    }
}

#[test]
fn wills_are_judged_when_they_are_sent() {
    let store = redis();
    rules(&store, "user:{ann}", &["will/%u", "p"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        for protocol in PROTOCOLS {
            let mut root = connect(&broker, protocol, "r", "root");
            root.subscribe(&[("will/#", 1)]).unwrap();
            // The denied one dies first.
            for topic in ["will/bob", "will/ann"] {
                let will = Will { topic: topic.into(), payload: b"dead".to_vec(), qos: 1, retain: false, properties: Vec::new() };
                let connect = Connect::new(protocol, "dying").login("ann", "right").will(will);
                // Some versions refuse the denied will at CONNECT, which is as good.
                let _ = RawClient::try_connect(broker.port(), &connect).map(drop);
                let mut again = connect.clone();
                again.will = None;
                drop(RawClient::connect(broker.port(), &again).unwrap());
            }
            let message = root.message(SOON).unwrap().expect("the allowed will comes");
            assert_eq!(message.text().0, "will/ann", "{version:?} {protocol:?}");
        }
    }
}

#[test]
fn a_mount_point_is_part_of_what_rules_speak_of() {
    let store = redis();
    rules(&store, "user:{ann}", &["site/open/#", "prs", "closed/#", "prs"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "listener {port} 127.0.0.1\nmount_point site/\n");
        for protocol in PROTOCOLS {
            let mut ann = connect(&broker, protocol, "phone", "ann");
            let codes = ann.subscribe(&[("open/#", 1), ("closed/#", 1), ("site/open/#", 1)]).unwrap();
            assert_eq!(codes, [1, denied(protocol), denied(protocol)], "{version:?} {protocol:?}");
            ann.publish("closed/x", b"m", 1, false).unwrap();
            assert_eq!(ann.publish("open/x", b"m", 1, false).unwrap(), 0, "{version:?} {protocol:?}");
            let message = ann.message(SOON).unwrap().expect("it hears itself");
            // 2.0.11 leaves the mount point on what it sends (Mosquitto's issue 2244), whoever asks the plugin.
            let came = if version == MosquittoVersion::V2_0_11 { "site/open/x" } else { "open/x" };
            assert_eq!(message.text().0, came, "{version:?} {protocol:?}");
        }
    }
}

#[test]
fn one_who_may_not_receive_takes_nothing_from_the_others() {
    let store = redis();
    user(&store, "bob", &[]);
    rules(&store, "user:{ann}", &["fan/#", "rs"]);
    rules(&store, "user:{bob}", &["fan/#", "s"]);
    for version in MosquittoVersion::ALL {
        let broker = stage(version, &store, "");
        let mut root = connect(&broker, Protocol::V5, "r", "root");
        let names = ["ann", "bob", "ann", "bob", "bob", "ann"];
        let mut clients: Vec<_> =
            names.iter().enumerate().map(|(n, name)| connect(&broker, PROTOCOLS[n % 2], &format!("c{n}"), name)).collect();
        for client in &mut clients {
            assert_eq!(client.subscribe(&[("fan/#", 1)]).unwrap(), [1], "{version:?}");
        }
        for round in 0..20 {
            assert_eq!(root.publish("fan/x", format!("{round}").as_bytes(), 1, false).unwrap(), 0, "{version:?}");
        }
        for (name, client) in names.iter().zip(&mut clients) {
            let came = heard(client, &mut root).len();
            assert_eq!(came, if *name == "ann" { 20 } else { 0 }, "{version:?} {name}");
            client.ping(Duration::from_secs(20)).unwrap();
        }
    }
}
