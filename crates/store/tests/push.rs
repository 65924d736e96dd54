//! Pushes reach every node, in order, and nothing is lost.
//!
//! Each case runs over a real Redis; those about keys over a cluster too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use midge_core::push::Audience;
use midge_store::StoreSettings;
use midge_store::push::{Delivery, EntryId, Outcome, PushLog, PushSettings, Pushes};
use midge_testkit::{FaultProxy, Mode, RedisCluster, RedisServer, RedisVersion, until};

/// Generous: what shall take a second on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(20);

fn backend(url: &str) -> Box<dyn midge_store::Backend> {
    let settings = StoreSettings {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..StoreSettings::default()
    };
    midge_store::open(&url.parse().unwrap(), &settings).unwrap()
}

fn named(node: &str) -> PushSettings {
    PushSettings { node: node.to_owned(), ..PushSettings::default() }
}

struct Node {
    pushes: Pushes,
    wakes: Arc<AtomicUsize>,
    seen: Vec<Delivery>,
}

impl Node {
    /// Starts a node and waits until its place is known.
    fn start(url: &str, settings: PushSettings) -> Self {
        let name = settings.node.clone();
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let pushes = Pushes::start_in(backend(url), settings, Box::new(wake), || {}).unwrap();
        let mut log = backend(url).pushes().unwrap();
        until("the node", SOON, || Ok(log.readers()?.iter().any(|reader| reader.node == name).then_some(()))).unwrap();
        Self { pushes, wakes, seen: Vec::new() }
    }

    /// Takes until there are `count` in all, and says that they are done.
    fn take(&mut self, count: usize) -> Vec<String> {
        self.receive(count);
        self.pushes.done(self.seen.iter().map(|delivery| outcome(delivery, 1, 2)));
        self.seen.drain(..).map(|delivery| String::from_utf8(delivery.push.payload).unwrap()).collect()
    }

    fn receive(&mut self, count: usize) {
        until(&format!("{count} pushes"), SOON, || {
            self.pushes.take(usize::MAX, &mut self.seen);
            Ok((self.seen.len() >= count).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", self.seen));
        assert_eq!(self.seen.len(), count);
    }
}

fn outcome(delivery: &Delivery, delivered: u64, queued: u64) -> Outcome {
    Outcome { entry: delivery.entry, wanted: delivery.push.wants_result, delivered, queued }
}

fn push(payload: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![("topic", b"news".to_vec()), ("payload", payload.into())]
}

fn with(payload: &str, field: &'static str, value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = push(payload);
    fields.push((field, value.into()));
    fields
}

fn position(log: &mut dyn PushLog, node: &str) -> EntryId {
    log.readers().unwrap().into_iter().find(|reader| reader.node == node).map(|reader| reader.position).unwrap()
}

fn has_come_to(log: &mut dyn PushLog, node: &str, entry: EntryId) {
    until(&format!("{node} to come to {entry}"), SOON, || Ok((position(log, node) == entry).then_some(()))).unwrap();
}

fn redis() -> RedisServer {
    RedisServer::builder(RedisVersion::Redis7).start().unwrap()
}

/// Runs `case` over one server and over a cluster.
fn everywhere(case: fn(&str)) {
    let server = redis();
    case(&server.url());
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let ports: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    case(&format!("redis+cluster://{}", ports.join(",")));
}

#[test]
fn every_node_gets_every_push_in_order() {
    everywhere(|url| {
        let mut nodes = ["a", "b"].map(|name| Node::start(url, named(name)));
        let mut log = backend(url).pushes().unwrap();
        let texts: Vec<String> = (0..600).map(|n| n.to_string()).collect();
        let mut last = EntryId::default();
        for text in &texts {
            last = log.add(&push(text)).unwrap();
        }
        for (node, name) in nodes.iter_mut().zip(["a", "b"]) {
            assert_eq!(node.take(600), texts, "{name} over {url}");
            has_come_to(log.as_mut(), name, last);
            assert!(node.wakes.load(Ordering::Relaxed) > 0);
            assert_eq!(node.pushes.counters().taken, 600);
        }
        // What is written without a field has its default; an audience is passed on.
        log.add(&with("for ann", "user", "ann")).unwrap();
        nodes[0].receive(1);
        let delivery = &nodes[0].seen[0];
        assert_eq!(delivery.push.audience, Audience::User("ann".parse().unwrap()));
        assert_eq!((delivery.push.qos, delivery.expiry), (1, None));
    });
}

#[test]
fn a_new_node_begins_at_the_end_and_a_known_one_where_it_was() {
    let server = redis();
    let mut log = backend(&server.url()).pushes().unwrap();
    log.add(&push("before")).unwrap();
    let mut node = Node::start(&server.url(), named("a"));
    for text in ["1", "2", "3"] {
        log.add(&push(text)).unwrap();
    }
    node.receive(3);
    // The first and the last are done: after a restart, all from the second on come again.
    node.pushes.done([outcome(&node.seen[0], 0, 0), outcome(&node.seen[2], 0, 0)]);
    has_come_to(log.as_mut(), "a", node.seen[0].entry);
    drop(node);
    log.add(&push("4")).unwrap();
    let mut node = Node::start(&server.url(), named("a"));
    assert_eq!(node.take(3), ["2", "3", "4"]);
}

#[test]
fn an_identifier_is_pushed_once() {
    everywhere(|url| {
        let mut nodes = ["a", "b"].map(|name| Node::start(url, named(name)));
        let mut log = backend(url).pushes().unwrap();
        for (text, id) in [("1", "x"), ("2", "y"), ("again", "x"), ("3", "z"), ("again", "y")] {
            log.add(&with(text, "id", id)).unwrap();
        }
        for node in &mut nodes {
            assert_eq!(node.take(3), ["1", "2", "3"], "{url}");
            until("the repeated ones", SOON, || Ok((node.pushes.counters().repeated == 2).then_some(()))).unwrap();
        }
        // Also by a node that reads its entry again after a crash.
        log.add(&with("4", "id", "w")).unwrap();
        nodes[0].receive(1);
        let [first, _] = nodes;
        drop(first);
        let mut again = Node::start(url, named("a"));
        assert_eq!(again.take(1), ["4"]);
    });
}

#[test]
fn what_is_no_push_is_moved_with_the_reason() {
    let server = redis();
    let mut nodes = ["a", "b"].map(|name| Node::start(&server.url(), named(name)));
    server.cli(&["XADD", "midge:push", "*", "topic", "a/#", "payload", "x"]).unwrap();
    server.cli(&["XADD", "midge:push", "*", "topic", "a", "payload", "good"]).unwrap();
    server.cli(&["XADD", "midge:push", "*", "topic", "a", "usr", "ann"]).unwrap();
    for node in &mut nodes {
        assert_eq!(node.take(1), ["good"]);
    }
    until("the dead letters", SOON, || Ok((server.cli(&["XLEN", "midge:push:dead"])? == "2").then_some(()))).unwrap();
    let dead = server.cli(&["XRANGE", "midge:push:dead", "-", "+"]).unwrap();
    for part in ["the field topic: a topic name holds a wildcard", "a/#", "the field \"usr\" is unknown", "ann"] {
        assert!(dead.contains(part) || dead.contains(&part.replace('"', "\\\"")), "{part} in {dead}");
    }
    assert_eq!(server.cli(&["XLEN", "midge:push"]).unwrap(), "1");
    assert!(nodes.iter().map(|node| node.pushes.counters().malformed).sum::<u64>() >= 2);
}

#[test]
fn what_is_too_old_is_not_pushed() {
    let server = redis();
    let mut node = Node::start(&server.url(), named("a"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let add = |age: u128, expiry: &str, payload: &str| {
        let id = format!("{}-1", now - age);
        server.cli(&["XADD", "midge:push", &id, "topic", "t", "payload", payload, "expiry", expiry]).unwrap();
    };
    // Written before, by another clock.
    add(100_000, "50", "old");
    add(90_000, "3600", "young");
    node.receive(1);
    assert_eq!(node.seen[0].push.payload, b"young");
    let left = node.seen[0].expiry.unwrap();
    assert!((3_400..=3_510).contains(&left), "{left}");
    assert_eq!(node.pushes.counters().expired, 1);
}

#[test]
fn what_has_no_room_in_memory_waits_in_the_store() {
    let server = redis();
    let mut by_count = Node::start(&server.url(), PushSettings { queue: 10, ..named("count") });
    let mut by_bytes = Node::start(&server.url(), PushSettings { queue_bytes: 1, ..named("bytes") });
    let mut log = backend(&server.url()).pushes().unwrap();
    let texts: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    for text in &texts {
        log.add(&push(text)).unwrap();
    }
    let waits = |node: &Node| until("a full queue", SOON, || Ok((node.pushes.counters().full > 0).then_some(()))).unwrap();
    waits(&by_count);
    waits(&by_bytes);
    assert_eq!(by_count.pushes.counters().waiting, 10);
    assert!(by_bytes.pushes.counters().waiting <= 256);
    assert_eq!(by_count.take(10), texts[..10]);
    for node in [&mut by_count, &mut by_bytes] {
        let missing = 1_000 - usize::try_from(node.pushes.counters().taken - node.pushes.counters().waiting).unwrap();
        assert_eq!(node.take(missing), texts[1_000 - missing..]);
    }
}

#[test]
fn a_store_that_goes_away_and_forgets_loses_nothing_that_is_written_after() {
    let mut server = redis();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let mut node = Node::start(&url, named("a"));
    let add = |server: &RedisServer, text: &str| server.cli(&["XADD", "midge:push", "*", "topic", "t", "payload", text]).unwrap();
    add(&server, "1");
    assert_eq!(node.take(1), ["1"]);
    for mode in [Mode::BlackHole, Mode::Refuse] {
        proxy.set(mode).unwrap();
        add(&server, "2");
        add(&server, "3");
        proxy.set(Mode::Pass).unwrap();
        assert_eq!(node.take(2), ["2", "3"], "{mode:?}");
    }
    server.restart_empty().unwrap();
    add(&server, "4");
    assert_eq!(node.take(1), ["4"]);
    server.cli(&["FLUSHALL"]).unwrap();
    add(&server, "5");
    assert_eq!(node.take(1), ["5"]);
    // Its place is told anew, so that a restart goes on there.
    drop(node);
    add(&server, "6");
    assert_eq!(Node::start(&url, named("a")).take(1), ["6"]);
    proxy.set(Mode::BlackHole).unwrap();
    let start = std::time::Instant::now();
    drop(Pushes::start_in(backend(&url), named("b"), Box::new(|| {}), || {}).unwrap());
    assert!(start.elapsed() < Duration::from_secs(10), "the end took {:?}", start.elapsed());
}

#[test]
fn the_stream_keeps_what_is_unread_and_no_more() {
    let server = redis();
    let mut log = backend(&server.url()).pushes().unwrap();
    let len = || server.cli(&["XLEN", "midge:push"]).unwrap();
    // Somebody who is away for a while, and somebody who is for good.
    let mut away = Node::start(&server.url(), named("away"));
    log.add(&push("0")).unwrap();
    away.take(1);
    drop(away);
    server.cli(&["HSET", "midge:push:read", "lost", "1-0 1000000"]).unwrap();
    for n in 1..=100 {
        log.add(&push(&n.to_string())).unwrap();
    }
    let mut node = Node::start(&server.url(), PushSettings { backlog: 40, ..named("a") });
    until("the oldest to be dropped", SOON, || Ok((len() == "40").then_some(()))).unwrap();
    until("the count", SOON, || Ok((node.pushes.counters().dropped == 60).then_some(()))).unwrap();
    assert!(!log.readers().unwrap().iter().any(|reader| reader.node == "lost"));
    log.add(&push("new")).unwrap();
    assert_eq!(node.take(1), ["new"]);
    let mut away = Node::start(&server.url(), named("away"));
    let expected: Vec<String> = (61..=100).map(|n| n.to_string()).chain(["new".to_owned()]).collect();
    assert_eq!(away.take(41), expected);
    until("everything to be read", SOON, || Ok((len() == "0").then_some(()))).unwrap();
}

#[test]
fn who_waits_hears_what_became_of_it() {
    everywhere(|url| {
        let mut nodes = ["a", "b"].map(|name| Node::start(url, named(name)));
        let mut log = backend(url).pushes().unwrap();
        let entry = log.add(&with("x", "result", "1")).unwrap();
        nodes[0].take(1);
        nodes[1].receive(1);
        has_come_to(log.as_mut(), "a", entry);
        let of = |log: &mut dyn PushLog| {
            let mut results = log.results(entry).unwrap();
            results.sort_by(|a, b| a.node.cmp(&b.node));
            results.into_iter().map(|result| (result.node, result.delivered, result.queued)).collect::<Vec<_>>()
        };
        assert_eq!(of(log.as_mut()), [("a".to_owned(), 1, 2)]);
        nodes[1].pushes.done(nodes[1].seen.iter().map(|delivery| outcome(delivery, 3, 0)));
        has_come_to(log.as_mut(), "b", entry);
        assert_eq!(of(log.as_mut()), [("a".to_owned(), 1, 2), ("b".to_owned(), 3, 0)]);
    });
}

#[test]
fn a_directory_has_streams_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().display());
    let write = |log: &mut dyn PushLog, fields: &[(&str, &str)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
        log.add(&fields).unwrap()
    };
    let first = {
        // Before anybody has ever read, and kept when the process ends.
        let backend = backend(&url);
        let mut log = backend.pushes().unwrap();
        assert_eq!(log.readers().unwrap(), []);
        write(log.as_mut(), &[("topic", "t"), ("payload", "0"), ("result", "1")])
    };
    let backend: Arc<dyn midge_store::Backend> = backend(&url).into();
    let mut log = backend.pushes().unwrap();
    let start = |name: &str| Pushes::start_in(Box::new(backend.clone()), named(name), Box::new(|| {}), || {}).unwrap();
    let take = |pushes: &Pushes, count: usize| {
        let mut taken = Vec::new();
        until("pushes", SOON, || {
            pushes.take(100, &mut taken);
            Ok((taken.len() >= count).then_some(()))
        })
        .unwrap();
        taken
    };
    let pushes = start("a");
    let taken = take(&pushes, 1);
    assert_eq!((taken.len(), taken[0].entry), (1, first));
    pushes.done(taken.iter().map(|delivery| outcome(delivery, 1, 2)));
    has_come_to(log.as_mut(), "a", first);
    let results = log.results(first).unwrap();
    assert_eq!((results.len(), results[0].delivered, results[0].queued), (1, 1, 2));
    write(log.as_mut(), &[("topic", "t"), ("payload", "1"), ("id", "x")]);
    write(log.as_mut(), &[("topic", "t"), ("payload", "2"), ("id", "x")]);
    write(log.as_mut(), &[("topic", "#")]);
    let last = write(log.as_mut(), &[("topic", "t"), ("payload", "3")]);
    let taken = take(&pushes, 2);
    let payloads: Vec<&[u8]> = taken.iter().map(|delivery| delivery.push.payload.as_slice()).collect();
    assert_eq!(payloads, [b"1", b"3"]);
    until("the counts", SOON, || Ok((pushes.counters().malformed == 1).then_some(()))).unwrap();
    assert_eq!(pushes.counters().repeated, 1);
    // What isn't done is read again, whatever the node is called by then.
    drop(pushes);
    let pushes = start("b");
    let taken = take(&pushes, 2);
    pushes.done(taken.iter().map(|delivery| outcome(delivery, 0, 0)));
    has_come_to(log.as_mut(), "b", last);
    assert_eq!(log.trim(last.next(), 10).unwrap(), 0);
    assert_eq!(log.read(EntryId::default(), 10, Duration::ZERO).unwrap(), []);
    for number in 0..5 {
        write(log.as_mut(), &[("topic", &number.to_string())]);
    }
    assert_eq!(log.trim(last, 3).unwrap(), 2);
    assert!(log.read(last, 10, Duration::ZERO).unwrap()[0].id > last);
}
