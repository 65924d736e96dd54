//! Counts of all nodes add up, and outlive their store.
//!
//! Each case runs over a real Redis; those about keys over a cluster too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_core::hot::{Arrival, Capacity, Counter, Ledger, Metric, Published, Ranking, RollUp, Seed, Tally, Window};
use midge_core::topic::TopicName;
use midge_store::hot::{HotLog, HotSettings, HotTopics, MAX_MEMBERS};
use midge_store::{StoreError, StoreSettings};
use midge_testkit::{FaultProxy, Mode, RedisCluster, RedisServer, RedisVersion, until};

/// Generous: what shall take two seconds on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(30);

fn backend(url: &str) -> Box<dyn midge_store::Backend> {
    let settings = StoreSettings {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..StoreSettings::default()
    };
    midge_store::open(&url.parse().unwrap(), &settings).unwrap()
}

fn log(url: &str) -> Box<dyn HotLog> {
    backend(url).hot().unwrap()
}

struct Node {
    topics: HotTopics,
    counter: Counter,
    published: u64,
}

impl Node {
    fn start(url: Option<&str>, name: &str) -> Self {
        let roll_up = Arc::new(RollUp::new(["device/+/status"]).unwrap());
        let settings = HotSettings { node: name.to_owned(), roll_up, interval: Duration::ZERO, ..HotSettings::default() };
        let topics = HotTopics::start_in(url.map(backend), settings, || {}).unwrap();
        Self { counter: topics.counter(), topics, published: 0 }
    }

    fn publish(&mut self, topic: &str, times: u64, client: &str) {
        let publisher = Some(self.topics.seed().publisher(client));
        let publish = Published { bytes: 10, deliveries: 2, publisher, arrival: Arrival::First };
        (0..times).for_each(|_| self.counter.published(TopicName::new(topic).unwrap(), &publish));
        self.published += times;
        self.topics.collect(&mut self.counter);
    }
}

/// What a window shows of each topic: messages, bytes, deliveries, publishers.
type Shown = BTreeMap<String, [u64; 4]>;

fn shown(log: &mut dyn HotLog, window: Window, by: Metric) -> Result<Shown, StoreError> {
    let topics = log.top(window, by, 100)?;
    Ok(topics.into_iter().map(|topic| (topic.name.clone(), Metric::ALL.map(|metric| topic.metric(metric)))).collect())
}

/// Waits until the window of a minute shows exactly this; the nodes are given the chance to pass on what they have.
fn shows(log: &mut dyn HotLog, nodes: &mut [&mut Node], expected: &[(&str, [u64; 4])]) {
    shows_in(Window::Minute, log, nodes, expected);
}

fn shows_in(window: Window, log: &mut dyn HotLog, nodes: &mut [&mut Node], expected: &[(&str, [u64; 4])]) {
    let expected: Shown = expected.iter().map(|(name, figures)| ((*name).to_owned(), *figures)).collect();
    let mut found = Vec::new();
    until("the sum of all nodes", SOON, || {
        nodes.iter_mut().for_each(|node| node.topics.collect(&mut node.counter));
        found = Metric::ALL.into_iter().map(|metric| shown(log, window, metric)).collect::<Result<_, _>>()?;
        Ok(found.iter().all(|found| is_shown(found, &expected)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {found:?}"));
}

/// Returns whether all figures are exact, but for publishers: of a few, two may have one place in the estimate.
fn is_shown(found: &Shown, expected: &Shown) -> bool {
    let agree =
        |[found @ .., few]: &[u64; 4], [expected @ .., all]: &[u64; 4]| found == expected && (all.div_ceil(2)..=*all).contains(few);
    found.len() == expected.len()
        && found.iter().zip(expected).all(|((topic, found), (name, expected))| topic == name && agree(found, expected))
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

fn top_by_redis(server: &RedisServer, window: &str, metric: &str) -> String {
    let key = format!("midge:hot:{{{metric}}}:{window}:now");
    server.cli(&["ZREVRANGE", &key, "0", "-1", "WITHSCORES"]).unwrap().lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn all_nodes_add_up_in_sets_that_anybody_can_read() {
    everywhere(|url| {
        let (mut a, mut b) = (Node::start(Some(url), "a"), Node::start(Some(url), "b"));
        let mut log = log(url);
        a.publish("hot", 5, "one");
        a.publish("device/1/status", 2, "one");
        b.publish("hot", 7, "two");
        b.publish("device/2/status", 1, "two");
        b.publish("cold", 1, "two");
        let expected = [("hot", [12, 120, 24, 2]), ("device/+/status", [3, 30, 6, 2]), ("cold", [1, 10, 2, 1])];
        shows(log.as_mut(), &mut [&mut a, &mut b], &expected);
        a.publish("hot", 1, "one");
        shows(log.as_mut(), &mut [&mut a, &mut b], &[("hot", [13, 130, 26, 2]), expected[1], expected[2]]);
        let mut lists: Vec<String> = Vec::new();
        let first = r#""node":null,"topics":[{"topic":"hot","messages":13,"bytes":130,"deliveries":26,"publishers":2},"#;
        until("the published list", SOON, || {
            lists = a.topics.take_lists().iter().map(Ranking::to_json).collect();
            Ok(lists.first().is_some_and(|list| list.contains(first)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {lists:?}"));
        assert_eq!(lists.len(), 4);
        assert!(log.top(Window::Minute, Metric::Messages, 0).unwrap().is_empty());
        assert_eq!(log.top(Window::Minute, Metric::Messages, 1).unwrap().len(), 1);
    });
    let server = redis();
    let mut node = Node::start(Some(&server.url()), "a");
    node.publish("hot", 5, "one");
    node.publish("cold", 1, "one");
    let expected = [("hot", [5, 50, 10, 1]), ("cold", [1, 10, 2, 1])];
    shows(log(&server.url()).as_mut(), &mut [&mut node], &expected);
    shows_in(Window::Hour, log(&server.url()).as_mut(), &mut [&mut node], &expected);
    assert_eq!(top_by_redis(&server, "1m", "messages"), "hot 5 cold 1");
    let keys = server.cli(&["KEYS", "*"]).unwrap();
    for key in keys.lines() {
        let left: i64 = server.cli(&["TTL", key]).unwrap().trim().parse().unwrap();
        assert!(left > 0, "{key} lives for ever");
    }
}

#[test]
fn counts_outlive_a_store_that_is_away() {
    let mut server = redis();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let mut node = Node::start(Some(&format!("redis://127.0.0.1:{}", proxy.port())), "a");
    node.publish("t", 3, "one");
    shows(log(&server.url()).as_mut(), &mut [&mut node], &[("t", [3, 30, 6, 1])]);
    let failed = node.topics.counting();
    // What is sent into the dark may arrive or not; what is unclear is settled before more is sent.
    for mode in [Mode::BlackHole, Mode::Refuse, Mode::BlackHole] {
        let before = failed().failed;
        proxy.set(mode).unwrap();
        node.publish("t", 2, "two");
        until("a failure", SOON, || {
            node.publish("t", 1, "three");
            Ok((failed().failed > before).then_some(()))
        })
        .unwrap();
        proxy.set(Mode::Pass).unwrap();
    }
    let total = {
        let published = node.published;
        [published, published * 10, published * 2, 3]
    };
    shows(log(&server.url()).as_mut(), &mut [&mut node], &[("t", total)]);
    server.stop().unwrap();
    node.publish("t", 4, "four");
    server.start().unwrap();
    let total = [total[0] + 4, total[1] + 40, total[2] + 8, 4];
    shows(log(&server.url()).as_mut(), &mut [&mut node], &[("t", total)]);
    assert_eq!(failed().dropped, 0);
}

#[test]
fn a_store_that_comes_back_empty_is_given_all_again() {
    let mut server = redis();
    let (mut a, mut b) = (Node::start(Some(&server.url()), "a"), Node::start(Some(&server.url()), "b"));
    a.publish("only before", 3, "one");
    a.publish("both", 3, "one");
    b.publish("both", 4, "two");
    let both = [("only before", [3, 30, 6, 1]), ("both", [7, 70, 14, 2])];
    shows(log(&server.url()).as_mut(), &mut [&mut a, &mut b], &both);
    server.restart_empty().unwrap();
    a.publish("both", 1, "one");
    b.publish("both", 1, "two");
    let both = [both[0], ("both", [9, 90, 18, 2])];
    shows(log(&server.url()).as_mut(), &mut [&mut a, &mut b], &both);
    // Emptied under a connection that lasts.
    server.cli(&["FLUSHALL"]).unwrap();
    a.publish("both", 1, "one");
    b.publish("both", 1, "two");
    shows(log(&server.url()).as_mut(), &mut [&mut a, &mut b], &[both[0], ("both", [11, 110, 22, 2])]);
}

#[test]
fn sets_are_bounded_and_what_fell_out_comes_back() {
    let server = redis();
    let mut log = log(&server.url());
    let seed = Seed::new();
    let wide = Capacity::try_from(32_768).unwrap();
    let mut ledger = Ledger::new(seed.clone(), wide);
    let mut counter = Counter::new(seed, Tally::new(wide, Arc::default()));
    let mut publish = |ledger: &mut Ledger, topics: std::ops::Range<u32>, times: u64| {
        let publish = Published { bytes: 1, deliveries: 0, publisher: None, arrival: Arrival::First };
        for topic in topics.map(|n| format!("topic/{n:05}")) {
            (0..times).for_each(|_| counter.published(TopicName::new(&topic).unwrap(), &publish));
        }
        let full = counter.swap(Tally::new(wide, Arc::default()));
        drop(ledger.absorb(full, 1_795_449_605));
    };
    let mut flush = |ledger: &mut Ledger| {
        for part in ledger.take_all(1_795_449_605) {
            let applied = log.apply("a", &part).unwrap();
            ledger.applied(&part, applied.parts, &applied.scores);
        }
    };
    publish(&mut ledger, 0..3_000, 2);
    publish(&mut ledger, 0..2_500, 5);
    flush(&mut ledger);
    let key = "midge:hot:{messages}:1m:1795449600";
    assert_eq!(server.cli(&["ZCARD", key]).unwrap().trim(), MAX_MEMBERS.to_string());
    assert_eq!(server.cli(&["ZSCORE", key, "topic/02900"]).unwrap().trim(), "");
    // One of those that fell out goes on: what is new falls out again, and then all of it is there.
    publish(&mut ledger, 2_900..2_901, 6);
    flush(&mut ledger);
    publish(&mut ledger, 2_900..2_901, 1);
    flush(&mut ledger);
    assert_eq!(server.cli(&["ZSCORE", key, "topic/02900"]).unwrap().trim(), "9");
}

#[test]
fn the_end_waits_for_the_last_counts_and_not_for_a_store_that_is_silent() {
    let server = redis();
    let mut node = Node::start(Some(&server.url()), "a");
    node.publish("last", 3, "one");
    drop(node);
    let found = server.cli(&["--scan", "--pattern", "midge:hot:{messages}:7d:1*"]).unwrap();
    assert_eq!(server.cli(&["ZSCORE", found.trim(), "last"]).unwrap().trim(), "3");
    let proxy = FaultProxy::start(server.port()).unwrap();
    proxy.set(Mode::BlackHole).unwrap();
    let mut node = Node::start(Some(&format!("redis://127.0.0.1:{}", proxy.port())), "a");
    node.publish("last", 3, "one");
    let start = std::time::Instant::now();
    drop(node);
    assert!(start.elapsed() < Duration::from_secs(10), "the end took {:?}", start.elapsed());
}

#[test]
fn a_node_without_a_store_that_takes_counts_shows_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let refused = backend(&format!("file:{}", directory.path().display())).hot().map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "this store has no sorted sets; hot topics need Redis");
    let server = RedisServer::builder(RedisVersion::Redis7).acl_user("poor", "on nopass ~* +@all -zincrby").start().unwrap();
    let poor = format!("redis://poor:x@127.0.0.1:{}", server.port());
    for url in [None, Some(poor.as_str())] {
        let mut node = Node::start(url, "alone");
        node.publish("t", 3, "one");
        let mut lists = Vec::new();
        until("a list", SOON, || {
            lists = node.topics.take_lists();
            Ok(lists.first().is_some_and(|list| !list.topics.is_empty()).then_some(()))
        })
        .unwrap();
        assert_eq!((lists[3].window, lists[3].node.as_deref(), lists[3].topics[0].messages), (Window::Week, Some("alone"), 3));
    }
}
