//! Rights that come from several places, and the broker's own doings.
//!
//! What single rules grant is tested elsewhere; here they meet each other, several loads of the plugin, and clients of others.

use midge_testkit::{Connect, Mosquitto, MosquittoSub, MosquittoVersion, Protocol, RawClient, mosquitto_pub, python};

use crate::support::{
    CALM, Figures, Policy, SOON, Stack, before, broker, builder, code, connect, on_every_broker, publishes, store, subscribes,
};

on_every_broker!(
    listeners_with_a_load_each_decide_alone,
    a_retained_message_goes_with_its_authors_right,
    rules_of_all_kinds_decide,
    system_topics_are_named_or_not_seen,
    foreign_clients_see_the_same,
);

fn rules_of_all_kinds_decide(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    let redis = &stack.redis;
    redis.rule_for_all("all/#", "prs");
    redis.rule_for_all("all/secret", "!p");
    redis.group_rule("staff", "office/#", "prs");
    redis.group_rule("staff", "own/locked", "!prs");
    redis.group_rule("ops", "ops/${clientid}/#", "p");
    redis.user("ann", &[("own/#", "prs"), ("home/%u/#", "prs"), ("device/%c/+", "prs"), ("all/secret", "p")]);
    redis.set("ann", "groups", "staff,ops");
    redis.user("bob", &[("home/%u/#", "prs")]);
    redis.user("root", &[("own/#", "!prs")]);
    redis.set("root", "superuser", "1");
    redis.user("an/n", &[("home/%u/#", "prs"), ("home/#", "r")]);
    redis.user("a+", &[("home/%u/#", "prs")]);
    let cases: [(&str, &str, &[&str], &[&str]); 5] = [
        (
            "ann",
            "phone",
            &["all/x", "office/x", "own/x", "home/ann/x", "device/phone/x", "ops/phone/x"],
            &["all/secret", "own/locked", "home/bob/x", "home/x", "device/tablet/x", "device/phone/x/y", "ops/tablet/x", "else"],
        ),
        ("bob", "phone", &["all/x", "home/bob/x"], &["office/x", "home/ann/x", "device/phone/x", "ops/phone/x"]),
        ("root", "phone", &["own/x", "all/secret", "else"], &[]),
        ("an/n", "phone", &["all/x"], &["home/an/n/x", "home/an/n", "home/x"]),
        ("a+", "pho#ne", &["all/x"], &["home/ann/x", "home/a"]),
    ];
    for (user, id, allowed, denied) in cases {
        let mut client = stack.client(user, id);
        for topic in allowed {
            assert!(publishes(&mut client, topic), "{user} {topic}");
        }
        for topic in denied {
            assert!(!publishes(&mut client, topic), "{user} {topic}");
        }
    }
    let mut tablet = stack.client("ann", "+");
    assert!(!subscribes(&mut tablet, "device/+/x"), "a name with a wildcard grants nothing");
}

fn system_topics_are_named_or_not_seen(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    stack.redis.user("ann", &[("#", "prs"), ("+/broker/version", "rs")]);
    stack.redis.user("ops", &[("$SYS/broker/version", "rs"), ("end", "prs")]);
    stack.redis.user("root", &[]);
    stack.redis.set("root", "superuser", "1");
    let mut ann = stack.client("ann", "ann");
    assert!(!subscribes(&mut ann, "$SYS/#"));
    assert!(!subscribes(&mut ann, "$SYS/broker/version"));
    assert!(!publishes(&mut ann, "$SYS/x") && !publishes(&mut ann, "$other/x"));
    assert!(subscribes(&mut ann, "#"));
    let mut ops = stack.client("ops", "ops");
    assert!(subscribes(&mut ops, "$SYS/broker/version"));
    assert!(!subscribes(&mut ops, "$SYS/#"));
    let version_topic = ops.message(SOON).unwrap().unwrap();
    assert!(version_topic.text().1.contains(version.label()), "{version_topic:?}");
    let mut root = stack.client("root", "root");
    assert!(subscribes(&mut root, "$SYS/#"));
    assert!(publishes(&mut ann, "end"));
    assert!(before(&mut ann, "end").is_empty());
}

fn listeners_with_a_load_each_decide_alone(version: MosquittoVersion) {
    let (left, right) = (store(version), store(version));
    let listener = |port: &str, url: &str, more: &str| {
        format!("listener {{{port}}} 127.0.0.1\nauth_plugin {{plugin}}\nauth_opt_store {url}\n{CALM}{more}")
    };
    let text = format!(
        "per_listener_settings true\n{}{}",
        listener("port", &left.url(), ""),
        listener("right", &right.url(), "auth_opt_anonymous allow\n")
    );
    let broker = Mosquitto::builder(version).config(&text).port("right").start().unwrap();
    let ports = [broker.port(), broker.named_port("right").unwrap()];
    left.user("ann", &[("left/#", "prs"), ("both", "prs")]);
    left.user("lea", &[]);
    right.user("ann", &[("right/#", "prs"), ("both", "prs")]);
    right.user("rob", &[]);
    for (user, codes) in [("ann", [true, true]), ("lea", [true, false]), ("rob", [false, true])] {
        assert_eq!(ports.map(|port| code(port, &connect(Protocol::V5, user, "c")) == 0), codes, "{user}");
    }
    assert_eq!(ports.map(|port| code(port, &Connect::new(Protocol::V5, "nobody")) == 0), [false, true]);
    let mut clients = ports.map(|port| RawClient::connect(port, &connect(Protocol::V5, "ann", &port.to_string())).unwrap());
    for (client, [own, other]) in clients.iter_mut().zip([["left/x", "right/x"], ["right/x", "left/x"]]) {
        assert!(publishes(client, own) && !publishes(client, other) && subscribes(client, "both"));
    }
    // A change in one store is one listener's alone; the oldest broker gives a load no tick, so it acts with the next login.
    right.rule("ann", "right/#", "!prs");
    right.run(&["HSET", "midge:user:{rob}", "enabled", "0"]);
    let mut figures = Figures::default();
    figures.until("a rule of one listener", || !publishes(&mut clients[1], "right/x"));
    assert!(publishes(&mut clients[0], "left/x"));
    right.run(&["DEL", "midge:user:{ann}"]);
    figures.until("a refusal", || code(ports[1], &connect(Protocol::V5, "ann", "late")) != 0);
    clients[1].closed(SOON).unwrap();
    clients[0].ping(SOON).unwrap();
    figures.within_a_second(version.label());
}

fn a_retained_message_goes_with_its_authors_right(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("news", "p"), ("old", "p")]);
    redis.user("bob", &[("#", "prs")]);
    let broker = broker(version, &redis.url(), &format!("{CALM}check_retain_source true\n"));
    let client = |user: &str, id: &str| RawClient::connect(broker.port(), &connect(Protocol::V5, user, id)).unwrap();
    let mut ann = client("ann", "ann");
    for topic in ["news", "old"] {
        assert!(ann.publish(topic, b"kept", 1, true).unwrap() < 0x80);
    }
    redis.no_rule("ann", "old");
    let mut figures = Figures::default();
    figures.until("the rule to go", || !publishes(&mut ann, "old"));
    ann.disconnect().unwrap();
    let mut bob = client("bob", "bob");
    assert!(subscribes(&mut bob, "#") && publishes(&mut bob, "end"));
    let got: Vec<String> = before(&mut bob, "end").into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(got, ["news"]);
}

fn foreign_clients_see_the_same(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("chat/#", "prs"), ("chat/locked", "!p")]);
    let broker = builder(version, &redis.url(), CALM).start().unwrap();
    let login = ["-u", "ann", "-P", "secret"];
    let mut sub = MosquittoSub::start(version, broker.port(), &[&login[..], &["-q", "1", "-t", "chat/#"]].concat()).unwrap();
    let publish = |topic: &str, more: &[&str]| {
        mosquitto_pub(version, broker.port(), &[&login[..], &["-q", "1", "-t", topic, "-m", "hello"], more].concat()).unwrap()
    };
    assert!(publish("chat/a", &["-V", "5"]).success().is_ok());
    let denied = publish("chat/locked", &["-V", "5"]);
    assert!(denied.stderr.contains("Not authorized"), "{denied:?}");
    assert!(publish("chat/locked", &[]).success().is_ok());
    assert!(publish("chat/b", &[]).success().is_ok());
    let topics: Vec<String> = sub.wait(2, SOON).unwrap().into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["chat/a", "chat/b"]);
    let said = python(PAHO, &[&broker.port().to_string()], SOON).unwrap().success().unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["subscribed 1 135", "published Not authorized", "message chat/c"]);
}

const PAHO: &str = r#"
import sys, queue
import paho.mqtt.client as mqtt
events = queue.Queue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "paho", protocol=mqtt.MQTTv5)
client.username_pw_set("ann", "secret")
client.on_connect = lambda c, u, flags, reason, p: events.put(reason.value)
client.on_subscribe = lambda c, u, mid, reasons, p: events.put([reason.value for reason in reasons])
client.on_publish = lambda c, u, mid, reason, p: events.put(reason)
client.on_message = lambda c, u, message: events.put(message.topic)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
assert events.get(timeout=20) == 0
client.subscribe([("chat/#", mqtt.SubscribeOptions(1)), ("other/#", mqtt.SubscribeOptions(1))])
print("subscribed", *events.get(timeout=20))
client.publish("chat/locked", "x", 1)
print("published", events.get(timeout=20))
client.publish("chat/c", "x", 1)
got = [events.get(timeout=20), events.get(timeout=20)]
print("message", *[topic for topic in got if isinstance(topic, str)])
client.disconnect()
"#;
