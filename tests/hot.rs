//! Which topics are hot, as redis-cli and subscribers see it.
//!
//! Real brokers, real Redis, on every Mosquitto; streams are drawn from a fixed seed and compared with an exact count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use midge_testkit::{Connect, HostKind, Mosquitto, MosquittoVersion, Packet, Protocol, RawClient, RedisServer, until};

use crate::stage::{DENIED, OK, PUBLISH, RECEIVE, Stage};
use crate::support::{CALM, Policy, SOON, Stack, broker, connect, on_every_broker, store, subscribes};

on_every_broker!(
    what_clients_publish_and_get_is_counted,
    two_brokers_show_the_true_top_of_a_zipf_stream,
    a_flood_of_topics_takes_no_memory,
    a_store_that_comes_back_empty_is_told_again,
    a_message_that_is_sent_again_counts_once,
    each_listener_counts_its_own,
);

const FIGURES: [&str; 4] = ["messages", "bytes", "deliveries", "publishers"];

/// Returns what a window's set shows, as redis-cli prints it.
fn scores(redis: &RedisServer, window: &str, metric: &str) -> BTreeMap<String, u64> {
    let lines = redis.run(&["ZREVRANGE", &format!("midge:hot:{{{metric}}}:{window}:now"), "0", "-1", "WITHSCORES"]);
    let lines: Vec<&str> = lines.lines().collect();
    lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect()
}

/// Waits until the last minute shows exactly these: messages, bytes, deliveries, publishers.
fn shows(redis: &RedisServer, expected: &[(&str, [u64; 4])]) {
    let of = |at: usize| {
        expected.iter().map(move |(topic, figures)| ((*topic).to_owned(), figures[at])).filter(|(_, figure)| *figure > 0)
    };
    let expected: Vec<BTreeMap<String, u64>> = (0..4).map(|at| of(at).collect()).collect();
    let mut found = Vec::new();
    until("the counts", SOON, || {
        found = FIGURES.iter().map(|metric| scores(redis, "1m", metric)).collect();
        Ok((found == expected).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {found:#?}"));
}

fn what_clients_publish_and_get_is_counted(version: MosquittoVersion) {
    let patterns = "auth_opt_hot_patterns chat/+/msg, device/#\nauth_opt_hot_interval 1s\n";
    let stack = Stack::start(version, &format!("auth_opt_node one\n{patterns}"));
    let redis = &stack.redis;
    redis.user("ann", &[("#", "prs"), ("secret", "!prs"), ("$SYS/midge/hot/#", "rs")]);
    let mut ann = stack.client("ann", "ann");
    let mut bob = stack.client("ann", "bob");
    let persistent = connect(Protocol::V5, "ann", "away").persistent();
    let mut away = stack.connect(&persistent);
    assert!(subscribes(&mut bob, "news") && subscribes(&mut away, "news"));
    away.disconnect().unwrap();
    for n in 0..3 {
        ann.publish("news", b"12345", 1, false).unwrap();
        ann.publish(&format!("chat/{n}/msg"), b"123", n, false).unwrap();
        bob.publish(&format!("device/{n}"), b"", 1, false).unwrap();
    }
    ann.publish("secret", b"x", 1, false).unwrap();
    ann.publish("chat/1/typing", b"x", 0, false).unwrap();
    redis.run(&["XADD", "midge:push", "*", "topic", "news", "payload", "pushed"]);
    redis.run(&["XADD", "midge:push", "*", "topic", "inbox", "payload", "to two", "all", "1"]);
    let expected = |deliveries, inbox| {
        [
            ("news", [4, 21, deliveries, 1]),
            ("chat/+/msg", [3, 9, 0, 1]),
            ("device/#", [3, 0, 0, 1]),
            ("chat/1/typing", [1, 1, 0, 1]),
            ("inbox", [1, 6, inbox, 0]),
        ]
    };
    shows(redis, &expected(4, 2));
    // What waited counts as delivered when it is; the push to all waited too.
    let mut away = stack.connect(&persistent);
    (0..5).for_each(|_| drop(away.message(SOON).unwrap().unwrap()));
    shows(redis, &expected(8, 3));
    // The list comes to whoever may have it, retained; each window has one.
    let mut reader = stack.client("ann", "reader");
    assert!(subscribes(&mut reader, "$SYS/midge/hot/1m"));
    let hottest = r#""node":null,"topics":[{"topic":"news","messages":4,"bytes":21,"deliveries":8,"publishers":1}"#;
    let start = Instant::now();
    loop {
        let (topic, list) = reader.message(SOON).unwrap().unwrap().text();
        assert_eq!(topic, "$SYS/midge/hot/1m");
        if list.contains(hottest) {
            break;
        }
        assert!(start.elapsed() < SOON, "{list}");
    }
    assert!(subscribes(&mut reader, "$SYS/midge/hot/+"));
    let mut windows = [false; 4];
    while windows != [true; 4] {
        let (topic, list) = reader.message(SOON).unwrap().unwrap().text();
        let window = topic.strip_prefix("$SYS/midge/hot/").unwrap();
        assert!(list.starts_with(&format!("{{\"window\":\"{window}\",\"at\":")), "{list}");
        windows[["1m", "1h", "24h", "7d"].iter().position(|name| *name == window).unwrap()] = true;
    }
}

/// Numbers from a fixed seed (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How much is published: `MIDGE_HOT=full` is a million over a hundred thousand topics.
fn size() -> (usize, usize) {
    if std::env::var_os("MIDGE_HOT").is_some_and(|size| size == "full") { (1_000_000, 100_000) } else { (100_000, 10_000) }
}

fn top(counts: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut top: Vec<(String, u64)> = counts.iter().map(|(topic, count)| (topic.clone(), *count)).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    top.truncate(20);
    top
}

/// Publishes to topics, the n-th as often as 1/n, on either broker in turn; returns the exact counts.
fn publish_zipf(clients: &mut [RawClient; 2], publishes: usize, topics: usize) -> BTreeMap<String, u64> {
    let sums: Vec<f64> = (1..=topics)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let mut random = Random(42);
    let mut exact = BTreeMap::new();
    for n in 0..publishes {
        let at = random.next() as f64 / u64::MAX as f64 * sums[topics - 1];
        let topic = format!("zipf/{}", sums.partition_point(|sum| *sum < at) + 1);
        // QoS 0 for speed; an answer now and then keeps what is under way within bounds.
        let client = &mut clients[(random.next() % 2) as usize];
        client.publish(&topic, b"0123456789", u8::from(n % 200 == 0), false).unwrap();
        *exact.entry(topic).or_default() += 1;
    }
    clients.iter_mut().for_each(|client| client.ping(SOON).unwrap());
    exact
}

fn two_brokers_show_the_true_top_of_a_zipf_stream(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("#", "prs")]);
    let node = |name: &str| broker(version, &redis.url(), &format!("{CALM}auth_opt_node {name}\nauth_opt_push false\n"));
    let mut nodes = [node("one"), node("two")];
    let mut clients = [0, 1].map(|at| RawClient::connect(nodes[at].port(), &connect(Protocol::V5, "ann", "ann")).unwrap());
    let (publishes, topics) = size();
    let start = Instant::now();
    let exact = publish_zipf(&mut clients, publishes, topics);
    let took = start.elapsed();
    // The window of an hour, since a million take longer than a minute.
    let truth = top(&exact);
    let mut found = Vec::new();
    until("the true top", SOON, || {
        found = top(&scores(&redis, "1h", "messages"));
        Ok((found == truth).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}:\n{found:?}\n{truth:?}"));
    let members = redis.run(&["ZCARD", "midge:hot:{messages}:1h:now"]);
    println!("{publishes} publishes over {topics} topics in {took:?}: all of the top 20 exact; {} members", members.trim());
    for node in &mut nodes {
        println!("{} KB resident", resident_kb(node));
    }
}

/// Returns how much memory a broker has.
fn resident_kb(broker: &mut Mosquitto) -> u64 {
    let pid = broker.process().id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn a_flood_of_topics_takes_no_memory(version: MosquittoVersion) {
    let mut stack = Stack::start(version, "auth_opt_node one\nauth_opt_push false\n");
    stack.redis.user("ann", &[("#", "prs")]);
    let mut ann = stack.client("ann", "ann");
    let mut random = Random(7);
    let mut flood = |seconds: u64| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            for n in 0..200 {
                let topic = format!("{:x}/{:x}", random.next(), random.next());
                ann.publish(&topic, b"x", u8::from(n == 199), false).unwrap();
            }
        }
        resident_kb(&mut stack.broker)
    };
    // All that is ever taken is taken within two buckets of the shortest window, or these are the bound.
    let before = flood(12);
    let after = flood(12);
    println!("{before} KB, then {after} KB resident");
    assert!(after < before + 8 * 1_024, "{before} KB, then {after} KB");
    let keys = stack.redis.run(&["KEYS", "midge:hot:*"]);
    for key in keys.lines().filter(|key| !key.contains(":applied:")) {
        let members: u64 = stack.redis.run(&["ZCARD", key]).trim().parse().unwrap();
        assert!(members <= 4_096, "{key}: {members}");
    }
}

fn a_store_that_comes_back_empty_is_told_again(version: MosquittoVersion) {
    let mut redis = store(version);
    redis.user("ann", &[("#", "prs")]);
    let node = |name: &str| broker(version, &redis.url(), &format!("{CALM}auth_opt_node {name}\nauth_opt_push false\n"));
    let nodes = [node("one"), node("two")];
    let mut clients = [0, 1].map(|at| RawClient::connect(nodes[at].port(), &connect(Protocol::V5, "ann", "ann")).unwrap());
    let publish = |clients: &mut [RawClient; 2], times: usize| {
        for _ in 0..times {
            for client in clients.iter_mut() {
                client.publish("hot", b"x", 1, false).unwrap();
            }
        }
    };
    publish(&mut clients, 10);
    clients[0].publish("before", b"x", 1, false).unwrap();
    shows(&redis, &[("hot", [20, 20, 0, 2]), ("before", [1, 1, 0, 1])]);
    redis.stop().unwrap();
    publish(&mut clients, 5);
    redis.restart_empty().unwrap();
    publish(&mut clients, 5);
    shows(&redis, &[("hot", [40, 40, 0, 2]), ("before", [1, 1, 0, 1])]);
}

/// Sends a QoS 2 message and doesn't go on when it is received.
fn send_half(client: &mut RawClient, payload: &[u8], identifier: u16) {
    client.send_publish(b"twice", payload, 2, false, identifier, &[]).unwrap();
    client.expect("PUBREC", |packet| matches!(packet, Packet::PubRec { .. })).unwrap();
}

fn a_message_that_is_sent_again_counts_once(version: MosquittoVersion) {
    let stack = Stack::start(version, "auth_opt_node one\nauth_opt_push false\n");
    stack.redis.user("ann", &[("#", "prs")]);
    let persistent: Connect = connect(Protocol::V3_1_1, "ann", "ann").persistent();
    let mut ann = stack.connect(&persistent);
    send_half(&mut ann, b"first", 1);
    send_half(&mut ann, b"second", 2);
    drop(ann);
    let mut ann = stack.connect(&persistent);
    send_half(&mut ann, b"first", 1);
    send_half(&mut ann, b"second", 2);
    send_half(&mut ann, b"third", 3);
    shows(&stack.redis, &[("twice", [3, 16, 0, 1])]);
}

fn each_listener_counts_its_own(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("#", "prs")]);
    let plugin = format!("auth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_node one\n{CALM}", redis.url());
    let text = format!("per_listener_settings true\nlistener {{port}} 127.0.0.1\n{plugin}listener {{second}} 127.0.0.1\n{plugin}");
    let broker = Mosquitto::builder(version).config(&text).port("second").start().unwrap();
    let ports = [broker.port(), broker.named_port("second").unwrap()];
    let mut clients = ports.map(|port| RawClient::connect(port, &connect(Protocol::V5, "ann", &port.to_string())).unwrap());
    assert!(clients.iter_mut().all(|client| subscribes(client, "both")));
    let mut sent = 0;
    // 2.0.11 gives these no tick: what was counted is passed on with the next message.
    until("both to have counted", SOON, || {
        for client in clients.iter_mut() {
            client.publish("both", b"x", 1, false)?;
        }
        sent += 2;
        let (found, nodes) = (scores(&redis, "1m", "messages"), redis.run(&["KEYS", "midge:hot:{messages}:applied:*"]));
        Ok((found.get("both").is_some_and(|found| *found > 2) && nodes.lines().count() == 2).then_some(()))
    })
    .unwrap();
    assert!(scores(&redis, "1m", "messages")["both"] <= sent);
}

#[test]
fn brokers_before_2_0_count_what_is_permitted() {
    for kind in [HostKind::V1_5, HostKind::V1_6] {
        let mut stage = Stage::new(kind, &[("node", "one")]);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        for topic in ["a/1", "a/1", "a/2", "$SYS/x"] {
            stage.acl(0, PUBLISH, topic);
        }
        for _ in 0..3 {
            stage.acl(0, RECEIVE, "a/1");
        }
        assert_eq!(stage.acl(0, PUBLISH, "elsewhere"), DENIED);
        let expected = BTreeMap::from([("a/1".to_owned(), 2), ("a/2".to_owned(), 1)]);
        until("the counts", SOON, || {
            // There is no tick: what was counted is passed on with the next message, a second later.
            stage.acl(0, PUBLISH, "$SYS/x");
            let found = scores(&stage.redis, "1m", "messages");
            Ok((found == expected && scores(&stage.redis, "1m", "deliveries").get("a/1") == Some(&3)).then_some(()))
        })
        .unwrap();
        stage.finish();
    }
}
