//! Pushes that applications write into Redis reach real clients.
//!
//! Written with `redis-cli`, on every Mosquitto; what must not come is shown by what comes after it.

use std::collections::BTreeSet;
use std::time::Duration;

use midge_testkit::{
    Connect, FaultProxy, Message, Mode, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, Value, stall, until,
};

use crate::support::{CALM, Policy, SOON, Stack, before, broker, builder, connect, on_every_broker, store, subscribes};

on_every_broker!(
    subscribers_get_what_is_pushed_to_their_topic,
    those_who_are_named_get_it_without_a_subscription,
    who_is_away_gets_it_later,
    somebody_hears_what_became_of_it,
    every_broker_pushes_and_a_restart_loses_nothing,
    a_thousand_pushes_come_in_order,
    each_listener_has_its_own_plugin,
    a_store_that_is_away_holds_up_nobody,
);

/// Many times what anything here may take on the broker's thread.
const NO_STALL: Duration = Duration::from_secs(2);

/// Waits until the node `name` reads pushes: what was written before is not for it.
fn reads(redis: &RedisServer, name: &str) {
    until(&format!("{name} to read pushes"), SOON, || {
        let nodes = redis.cli(&["HKEYS", "midge:push:read"])?;
        Ok(nodes.lines().any(|node| node == name).then_some(()))
    })
    .unwrap();
}

fn push(redis: &RedisServer, fields: &[&str]) -> String {
    redis.run(&[&["XADD", "midge:push", "*"], fields].concat())
}

fn start(version: MosquittoVersion) -> Stack {
    let stack = Stack::start(version, "auth_opt_node one\n");
    reads(&stack.redis, "one");
    stack
}

fn next(client: &mut RawClient) -> Message {
    client.message(SOON).unwrap().expect("a push")
}

fn expiry(message: &Message) -> Option<u32> {
    message.properties.iter().find(|property| property.0 == 2).map(|property| match property.1 {
        Value::FourBytes(seconds) => seconds,
        ref other => panic!("an expiry interval of {other:?}"),
    })
}

fn subscribers_get_what_is_pushed_to_their_topic(version: MosquittoVersion) {
    let stack = start(version);
    let redis = &stack.redis;
    redis.user("ann", &[("news/#", "rs"), ("end", "rs")]);
    redis.user("bob", &[("news/#", "s"), ("end", "rs")]);
    let mut ann = stack.client("ann", "ann");
    let mut bob = stack.client("bob", "bob");
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.subscribe(&[("news/#", 2), ("end", 1)]).unwrap(), [2, 1]);
    }
    for (qos, fields) in [(0, &["qos", "0"][..]), (1, &[]), (1, &["qos", "1"]), (2, &["qos", "2"])] {
        push(redis, &[&["topic", "news/x", "payload", "hello"], fields].concat());
        let message = next(&mut ann);
        assert_eq!((message.text(), message.qos, message.retain), (("news/x".to_owned(), "hello".to_owned()), qos, false));
    }
    push(redis, &["topic", "news/x", "expiry", "100"]);
    let message = next(&mut ann);
    assert!(expiry(&message).is_some_and(|left| (90..=100).contains(&left)), "{message:?}");
    assert_eq!(message.text().1, "");
    // Retained, for whoever comes later.
    push(redis, &["topic", "news/kept", "payload", "kept", "retain", "1"]);
    assert_eq!(next(&mut ann).text().1, "kept");
    let mut late = stack.client("ann", "late");
    assert!(subscribes(&mut late, "news/#"));
    let kept = next(&mut late);
    assert_eq!((kept.text().1.as_str(), kept.retain), ("kept", true));
    push(redis, &["topic", "news/kept", "payload", "", "retain", "1"]);
    // What makes no sense disturbs nothing.
    push(redis, &["topic", "news/#", "payload", "wrong"]);
    push(redis, &["topic", "end", "payload", "end"]);
    assert_eq!(before(&mut bob, "end"), [], "who may not receive a topic isn't pushed to");
    assert_eq!(before(&mut ann, "end"), [("news/kept".to_owned(), String::new())]);
    assert!(redis.run(&["XRANGE", "midge:push:dead", "-", "+"]).contains("a topic name holds a wildcard"));
}

fn those_who_are_named_get_it_without_a_subscription(version: MosquittoVersion) {
    let stack = start(version);
    let redis = &stack.redis;
    for (name, groups) in [("ann", "drivers"), ("bob", "drivers,office"), ("cat", "office"), ("dan", "")] {
        redis.user(name, &[]);
        redis.set(name, "groups", groups);
    }
    redis.rule_for_all("inbox/#", "r");
    redis.rule("dan", "inbox/secret", "!r");
    let ids = [("ann", "ann-phone"), ("ann", "ann-tablet"), ("bob", "bob-phone"), ("cat", "cat-phone"), ("dan", "dan-phone")];
    let mut clients: Vec<(&str, RawClient)> = ids
        .iter()
        .zip([Protocol::V5, Protocol::V3_1_1].into_iter().cycle())
        .map(|((user, id), protocol)| (*id, stack.connect(&connect(protocol, user, id))))
        .collect();
    let cases: &[(&[&str], &[&str])] = &[
        (&["user", "ann"], &["ann-phone", "ann-tablet"]),
        (&["user", "nobody"], &[]),
        (&["client", "bob-phone"], &["bob-phone"]),
        (&["client", "nobody"], &[]),
        (&["group", "drivers"], &["ann-phone", "ann-tablet", "bob-phone"]),
        (&["group", "office"], &["bob-phone", "cat-phone"]),
        (&["group", "nobody"], &[]),
        (&["all", "1"], &["ann-phone", "ann-tablet", "bob-phone", "cat-phone", "dan-phone"]),
        // Nobody subscribed to it.
        (&[], &[]),
    ];
    for (number, (audience, _)) in cases.iter().enumerate() {
        push(redis, &[&["topic", "inbox/x", "payload", &number.to_string()], *audience].concat());
    }
    push(redis, &["topic", "inbox/secret", "payload", "secret", "all", "1"]);
    push(redis, &["topic", "elsewhere", "payload", "nobody may", "all", "1"]);
    push(redis, &["topic", "inbox/end", "all", "1"]);
    for (id, client) in &mut clients {
        let got: Vec<String> = before(client, "inbox/end").into_iter().map(|(_, payload)| payload).collect();
        let mut expected: Vec<String> =
            (0..cases.len()).filter(|number| cases[*number].1.contains(id)).map(|number| number.to_string()).collect();
        expected.extend((*id != "dan-phone").then(|| "secret".to_owned()));
        assert_eq!(got, expected, "{id}");
    }
}

fn who_is_away_gets_it_later(version: MosquittoVersion) {
    let stack = start(version);
    let redis = &stack.redis;
    redis.user("ann", &[("inbox/#", "r"), ("news", "rs"), ("end", "prs")]);
    for protocol in [Protocol::V3_1_1, Protocol::V5] {
        let persistent = connect(protocol, "ann", "phone").persistent();
        let mut phone = stack.connect(&persistent);
        assert!(subscribes(&mut phone, "news"));
        phone.disconnect().unwrap();
        push(redis, &["topic", "inbox/x", "payload", "by user", "user", "ann"]);
        push(redis, &["topic", "inbox/x", "payload", "by client", "client", "phone"]);
        push(redis, &["topic", "inbox/x", "payload", "at most once", "client", "phone", "qos", "0"]);
        push(redis, &["topic", "news", "payload", "by topic"]);
        push(redis, &["topic", "inbox/x", "payload", "late", "user", "ann", "expiry", "1"]);
        let end = push(redis, &["topic", "inbox/end", "client", "phone", "result", "1"]);
        result(redis, &end, 0, 1);
        if protocol == Protocol::V5 {
            // Until the broker's own clock, which counts whole seconds, says that the push with an expiry is too old.
            std::thread::sleep(Duration::from_secs(3));
        }
        let mut phone = stack.connect(&persistent);
        let got: BTreeSet<String> = before(&mut phone, "inbox/end").into_iter().map(|(_, payload)| payload).collect();
        let expected = ["by user", "by client", "by topic"].map(str::to_owned);
        assert!(expected.iter().all(|text| got.contains(text)), "{got:?}");
        assert!(!got.contains("at most once"), "{got:?}");
        if protocol == Protocol::V5 {
            assert!(!got.contains("late"), "{got:?}");
        }
        drop(phone);
        // It begins anew.
        drop(stack.connect(&connect(protocol, "ann", "phone")));
    }
}

/// Waits until a node has said what became of an entry.
fn result(redis: &RedisServer, entry: &str, delivered: u64, queued: u64) {
    let key = format!("midge:push:result:{{{entry}}}");
    let found = until("a result", SOON, || {
        let found = redis.cli(&["HGET", &key, "one"])?;
        Ok((!found.is_empty()).then_some(found))
    });
    assert_eq!(found.unwrap(), format!("{delivered} {queued}"), "{entry}");
}

fn somebody_hears_what_became_of_it(version: MosquittoVersion) {
    let stack = start(version);
    let redis = &stack.redis;
    redis.user("ann", &[("news", "rs"), ("inbox", "r")]);
    redis.user("bob", &[("news", "s")]);
    let mut clients: Vec<RawClient> = (0..3).map(|n| stack.client("ann", &format!("ann{n}"))).collect();
    let away = connect(Protocol::V5, "ann", "away").persistent();
    let mut gone = stack.connect(&away);
    assert!(subscribes(&mut gone, "news"));
    gone.disconnect().unwrap();
    let mut bob = stack.client("bob", "bob");
    assert!(subscribes(&mut bob, "news") && subscribes(&mut clients[0], "news") && subscribes(&mut clients[1], "news"));
    for (fields, delivered, queued) in [
        (&["topic", "news", "payload", "a"][..], 2, 1),
        (&["topic", "news", "payload", "b"], 2, 1),
        (&["topic", "nobody", "payload", "b"], 0, 0),
        (&["topic", "inbox", "user", "ann"], 3, 1),
        (&["topic", "inbox", "client", "ann2"], 1, 0),
        (&["topic", "inbox", "client", "away"], 0, 1),
        (&["topic", "inbox", "client", "bob"], 0, 0),
        (&["topic", "inbox", "all", "1", "qos", "0"], 3, 0),
    ] {
        let entry = push(redis, &[fields, &["result", "1"]].concat());
        result(redis, &entry, delivered, queued);
    }
}

fn every_broker_pushes_and_a_restart_loses_nothing(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("news", "rs"), ("end", "prs")]);
    let start = |node: &str| {
        let persistence = "persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\n";
        let broker = builder(version, &redis.url(), &format!("{CALM}auth_opt_node {node}\n{persistence}")).start().unwrap();
        reads(&redis, node);
        broker
    };
    let (mut one, two) = (start("one"), start("two"));
    let persistent = connect(Protocol::V5, "ann", "phone").persistent();
    let live = |broker: &Mosquitto, connect: &Connect| {
        let mut client = RawClient::connect(broker.port(), connect).unwrap();
        assert!(subscribes(&mut client, "news"));
        client
    };
    let mut there = live(&two, &connect(Protocol::V5, "ann", "there"));
    let mut here = live(&one, &persistent);
    push(&redis, &["topic", "news", "payload", "1"]);
    for client in [&mut here, &mut there] {
        assert_eq!(next(client).text().1, "1");
    }
    here.disconnect().unwrap();
    one.stop().unwrap();
    push(&redis, &["topic", "news", "payload", "2"]);
    push(&redis, &["topic", "news", "payload", "3", "id", "three"]);
    push(&redis, &["topic", "news", "payload", "3 again", "id", "three"]);
    one.start_again().unwrap();
    push(&redis, &["topic", "news", "payload", "4"]);
    // From the disk, with its subscription.
    let mut here = until("to be let in", SOON, || {
        let (client, code) = RawClient::try_connect(one.port(), &persistent)?;
        Ok((code == 0).then_some(client))
    })
    .unwrap();
    for client in [&mut here, &mut there] {
        let got: Vec<String> = (0..3).map(|_| next(client).text().1).collect();
        assert_eq!(got, ["2", "3", "4"]);
    }
}

fn a_thousand_pushes_come_in_order(version: MosquittoVersion) {
    let stack = Stack::start(version, "auth_opt_node one\nauth_opt_push_queue 100\n");
    let redis = &stack.redis;
    reads(redis, "one");
    redis.user("ann", &[("n/#", "rs")]);
    let mut ann = stack.client("ann", "ann");
    assert!(subscribes(&mut ann, "n/#"));
    let script = "for n = 0, 999 do redis.call('xadd', KEYS[1], '*', 'topic', 'n/x', 'payload', n) end";
    redis.run(&["EVAL", script, "1", "midge:push"]);
    let mut other = stack.client("ann", "other");
    let (got, stall) = stall(&mut other, || (0..1_000).map(|_| next(&mut ann).text().1).collect::<Vec<_>>()).unwrap();
    assert_eq!(got, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(stall.worst < NO_STALL, "{stall:?}");
}

fn each_listener_has_its_own_plugin(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("news", "rs"), ("inbox", "r"), ("end", "r")]);
    let plugin = format!("auth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_node one\n{CALM}", redis.url());
    let text = format!("per_listener_settings true\nlistener {{port}} 127.0.0.1\n{plugin}listener {{second}} 127.0.0.1\n{plugin}");
    let broker = Mosquitto::builder(version).config(&text).port("second").start().unwrap();
    let first = RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "first"));
    let second = RawClient::connect(broker.named_port("second").unwrap(), &connect(Protocol::V5, "ann", "second"));
    let mut clients = [first.unwrap(), second.unwrap()];
    reads(&redis, "one");
    reads(&redis, "one#2");
    if version == MosquittoVersion::V2_0_11 {
        // It gives a plugin of one listener no tick: what is pushed waits for another broker, and nobody else minds.
        push(&redis, &["topic", "news", "payload", "waits"]);
        assert!(clients.iter_mut().all(|client| subscribes(client, "news")));
        let place = redis.run(&["HGET", "midge:push:read", "one"]);
        return assert!(place.starts_with("0-0 "), "{place}:\n{}", broker.log());
    }
    assert!(clients.iter_mut().all(|client| subscribes(client, "news")));
    push(&redis, &["topic", "news", "payload", "to subscribers"]);
    push(&redis, &["topic", "inbox", "payload", "to ann", "user", "ann"]);
    push(&redis, &["topic", "inbox", "payload", "to second", "client", "second"]);
    push(&redis, &["topic", "end", "all", "1"]);
    let [first, second] = &mut clients;
    let texts = |client: &mut RawClient| -> BTreeSet<String> {
        let all: Vec<String> = before(client, "end").into_iter().map(|(_, payload)| payload).collect();
        let once: BTreeSet<String> = all.iter().cloned().collect();
        assert_eq!(once.len(), all.len(), "each once: {all:?}");
        once
    };
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
    assert!(texts(first).is_subset(&set(&["to subscribers", "to ann"])));
    assert!(texts(second).is_subset(&set(&["to subscribers", "to ann", "to second"])));
}

fn a_store_that_is_away_holds_up_nobody(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("news", "prs")]);
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let options = "auth_opt_node one\nauth_opt_response_timeout 500ms\nauth_opt_connect_timeout 500ms\n";
    let broker = broker(version, &url, &format!("{CALM}{options}"));
    reads(&redis, "one");
    let mut ann = RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "ann")).unwrap();
    let mut other = RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "other")).unwrap();
    assert!(subscribes(&mut ann, "news"));
    for mode in [Mode::BlackHole, Mode::Refuse, Mode::Delay(Duration::from_secs(2))] {
        proxy.set(mode).unwrap();
        push(&redis, &["topic", "news", "payload", "while away"]);
        let ((), stall) = stall(&mut other, || {
            assert_eq!(ann.publish("news", b"own", 1, false).unwrap(), 0);
            assert_eq!(next(&mut ann).text().1, "own", "{mode:?}");
        })
        .unwrap();
        assert!(stall.worst < NO_STALL, "{mode:?}: {stall:?}");
        proxy.set(Mode::Pass).unwrap();
        assert_eq!(next(&mut ann).text().1, "while away", "{mode:?}");
    }
}
