//! Whoever changes a key: a watch tells within a second.
//!
//! A watch that can't tell any longer says so in time, and the next one begins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use midge_core::entry::Fields;
use midge_core::key::{Key, KeySpace, ShieldTarget};
use midge_store::{Backend, Change, StoreError, StoreSettings, StoreUrl, Watch, WatchMode, WatchPolicy, Write, Written};
use midge_testkit::{FaultProxy, Mode, RedisBuilder, RedisCluster, RedisSentinel, RedisServer, RedisVersion, until};

/// Generous: the promise is a second on a machine that does nothing else.
const SEEN: Duration = Duration::from_secs(15);

fn open(url: &str, policy: WatchPolicy) -> Box<dyn Backend> {
    let settings = StoreSettings { watch: policy, response_timeout: Duration::from_secs(30), ..StoreSettings::default() };
    midge_store::open(&url.parse::<StoreUrl>().unwrap(), &settings).unwrap()
}

fn redis7() -> RedisBuilder {
    RedisServer::builder(RedisVersion::Redis7)
}

/// Waits until all of `expected` were told of, by name or by "everything".
fn expect(watch: &mut dyn Watch, expected: &[Change], what: &str) {
    let mut missing = expected.to_vec();
    until(what, SEEN, || {
        let changes = watch.next(Duration::from_millis(200)).unwrap_or_else(|error| panic!("{what}: {error}"));
        if watch.mode() == WatchMode::Polling && !changes.is_empty() {
            missing.clear();
        }
        missing.retain(|change| !changes.contains(change));
        Ok(missing.is_empty().then_some(()))
    })
    .unwrap();
}

fn user(name: &str) -> Change {
    Change::Key(Key::User(name.parse().unwrap()))
}

fn all_changes(server: &RedisServer, watch: &mut dyn Watch) {
    let alice = "midge:user:{alice}";
    for (command, expected) in [
        (vec!["HSET", alice, "enabled", "1", "a", "1"], vec![user("alice")]),
        (vec!["HDEL", alice, "a"], vec![user("alice")]),
        (vec!["DEL", alice], vec![user("alice")]),
        (vec!["SET", alice, "text"], vec![user("alice")]),
        (vec!["SET", "midge:ban:{user:a:b}", "why"], vec![Change::Key(Key::Ban("user:a:b".parse().unwrap()))]),
        (vec!["HSET", "midge:all:acl", "t/#", "read"], vec![Change::Key(Key::AllAcl)]),
        (vec!["HSET", "midge:group:{g}}:acl", "t/#", "read"], vec![Change::Key(Key::GroupAcl("g}".parse().unwrap()))]),
        (vec!["PEXPIRE", alice, "300"], vec![user("alice")]),
        // The expiry itself, which nobody asks about.
        (vec!["PING"], vec![user("alice")]),
        (vec!["HSET", "midge:user:{b}", "enabled", "1"], vec![user("b")]),
        (vec!["RENAME", "midge:user:{b}", "midge:user:{c}"], vec![user("b"), user("c")]),
        (vec!["FLUSHDB"], vec![Change::Flushed]),
        (vec!["HSET", "midge:user:{b}", "enabled", "1"], vec![user("b")]),
        (vec!["FLUSHALL", "ASYNC"], vec![Change::Flushed]),
        (vec!["EVAL", "redis.call('hset', KEYS[1], 'a', '1')", "1", alice], vec![user("alice")]),
    ] {
        server.cli(&command).unwrap();
        let what = format!("{command:?} by {}", watch.mode().name());
        expect(watch, &expected, &what);
    }
}

#[test]
fn every_change_in_every_mode() {
    for (version, policy, mode) in [
        (RedisVersion::Redis7, WatchPolicy::Auto, WatchMode::Tracking),
        (RedisVersion::Redis7, WatchPolicy::Keyspace, WatchMode::Keyspace),
        (RedisVersion::Redis7, WatchPolicy::Polling, WatchMode::Polling),
        (RedisVersion::Valkey8, WatchPolicy::Tracking, WatchMode::Tracking),
        (RedisVersion::Valkey8, WatchPolicy::Keyspace, WatchMode::Keyspace),
    ] {
        let server = RedisServer::builder(version).config("notify-keyspace-events Kghx$").start().unwrap();
        let mut watch = open(&server.url(), policy).watch().unwrap();
        assert_eq!(watch.mode(), mode);
        all_changes(&server, watch.as_mut());
    }
}

#[test]
fn other_keys_are_nobodys_business() {
    let server = redis7().config("notify-keyspace-events KA").start().unwrap();
    for policy in [WatchPolicy::Tracking, WatchPolicy::Keyspace] {
        let mut watch = open(&server.url(), policy).watch().unwrap();
        for key in
            ["midge2:user:{a}", "user:{a}", "midge:shield:{user:a}", "midge:user:", "midge:user:{a", "xmidge:user:{a}", "midge:x"]
        {
            server.cli(&["SET", key, "1"]).unwrap();
        }
        server.cli(&["HSET", "midge:user:{last}", "a", "1"]).unwrap();
        let mut seen = Vec::new();
        until("the last change", SEEN, || {
            seen.extend(watch.next(Duration::from_millis(200)).unwrap());
            Ok(seen.contains(&user("last")).then_some(()))
        })
        .unwrap();
        assert_eq!(seen, [user("last")], "{policy:?}");
    }
}

/// Rights without client tracking; more are added by each case.
const RIGHTS: &str = "on >secret ~midge:* resetchannels -@all +ping +hgetall +exists";

#[test]
fn what_is_not_permitted_leads_to_the_next_way() {
    // A pattern that is subscribed to has to be permitted letter by letter.
    let channels = ["user", "group", "client", "all", "ban"].map(|kind| format!("&__keyspace@0__:midge:{kind}:*")).join(" ");
    let keyspace = &format!("{channels} +psubscribe +config|get +info");
    for (rights, events, expected) in [
        ("+client|tracking", "", WatchMode::Tracking),
        (keyspace, "KA", WatchMode::Keyspace),
        (keyspace, "Kx", WatchMode::Polling),
        ("+psubscribe +config|get +info", "KA", WatchMode::Polling),
        ("&* +psubscribe +config|get", "KA", WatchMode::Polling),
        ("&* +config|get +info", "KA", WatchMode::Polling),
        ("&* +psubscribe +info", "KA", WatchMode::Polling),
        ("", "KA", WatchMode::Polling),
    ] {
        let server = redis7().acl_user("midge", &format!("{RIGHTS} {rights}"));
        let server = server.config(&format!("notify-keyspace-events \"{events}\"")).start().unwrap();
        let url = format!("redis://midge:secret@127.0.0.1:{}", server.port());
        let mut watch = open(&url, WatchPolicy::Auto).watch().unwrap();
        assert_eq!(watch.mode(), expected, "{rights} {events}");
        server.cli(&["HSET", "midge:user:{alice}", "a", "1"]).unwrap();
        expect(watch.as_mut(), &[user("alice")], rights);
        if expected == WatchMode::Polling {
            for policy in [WatchPolicy::Tracking, WatchPolicy::Keyspace] {
                let refused = open(&url, policy).watch().map(|watch| watch.mode());
                let expected = policy == WatchPolicy::Keyspace && events == "Kx" || rights == "&* +psubscribe +info";
                assert!(expected || matches!(refused, Err(StoreError::Refused(_))), "{policy:?} with {rights}: {refused:?}");
            }
        }
    }
}

#[test]
fn more_changes_than_are_worth_naming_are_everything() {
    let server = redis7().start().unwrap();
    let mut watch = open(&server.url(), WatchPolicy::Tracking).watch().unwrap();
    let many = "for n = 1, 20000 do redis.call('hset', 'midge:user:{' .. n .. '}', 'a', '1') end";
    server.cli(&["EVAL", many, "0"]).unwrap();
    expect(watch.as_mut(), &[Change::Everything], "20,000 changes");
}

#[test]
fn all_servers_of_a_cluster_are_followed() {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let ports: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "notify-keyspace-events", "KA"]).unwrap();
    }
    for policy in [WatchPolicy::Tracking, WatchPolicy::Keyspace] {
        let mut watch = open(&format!("redis+cluster://{}", ports.join(",")), policy).watch().unwrap();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let wrote =
                cluster.nodes.iter().filter(|node| node.cli(&["HSET", &format!("midge:user:{{{name}}}"), "a", "1"]).is_ok());
            assert_eq!(wrote.count(), 1, "one server has {name}");
            expect(watch.as_mut(), &[user(name)], name);
        }
        cluster.nodes[2].cli(&["FLUSHALL"]).unwrap();
        expect(watch.as_mut(), &[Change::Flushed], "one of three flushed");
    }
}

#[test]
fn a_failover_ends_the_watch_and_the_next_one_follows_the_new_master() {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    let url = format!("redis+sentinel://127.0.0.1:{}/{}", group.ports()[0], RedisSentinel::NAME);
    let backend = open(&url, WatchPolicy::Auto);
    let mut watch = backend.watch().unwrap();
    group.master.cli(&["HSET", "midge:user:{alice}", "a", "1"]).unwrap();
    expect(watch.as_mut(), &[user("alice")], "before");
    group.fail_over().unwrap();
    assert!(watch.next(Duration::from_secs(1)).is_err());
    let mut watch = until("a new watch", SEEN, || Ok(backend.watch().ok())).unwrap();
    group.replica.cli(&["HSET", "midge:user:{bob}", "a", "1"]).unwrap();
    expect(watch.as_mut(), &[user("bob")], "after");
}

#[test]
fn a_silent_server_is_noticed() {
    let server = redis7().config("notify-keyspace-events KA").start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    for policy in [WatchPolicy::Tracking, WatchPolicy::Keyspace] {
        proxy.set(Mode::Pass).unwrap();
        // Far longer than the watch may take, so that this can't be what ends it.
        let mut watch = open(&format!("redis://127.0.0.1:{}", proxy.port()), policy).watch().unwrap();
        watch.next(Duration::ZERO).unwrap();
        proxy.set(Mode::BlackHole).unwrap();
        let start = Instant::now();
        let ended = until("the end of the watch", SEEN, || Ok(watch.next(Duration::from_millis(200)).err())).unwrap();
        assert!(ended.is_away() && start.elapsed() < Duration::from_secs(15), "{ended} after {:?}", start.elapsed());
    }
}

#[test]
fn a_server_that_goes_ends_the_watch() {
    let mut server = redis7().start().unwrap();
    let backend = open(&server.url(), WatchPolicy::Auto);
    let mut watch = backend.watch().unwrap();
    server.crash().unwrap();
    assert!(matches!(watch.next(Duration::from_secs(1)), Err(StoreError::Away(_))));
    assert!(matches!(backend.watch().map(|_| ()), Err(StoreError::Away(_))), "away is no reason to poll");
    server.start().unwrap();
    let mut watch = backend.watch().unwrap();
    assert_eq!(watch.mode(), WatchMode::Tracking);
    server.cli(&["HSET", "midge:user:{alice}", "a", "1"]).unwrap();
    expect(watch.as_mut(), &[user("alice")], "after a restart");
}

#[test]
fn the_embedded_store_tells_every_watch() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { keys: KeySpace::new("x:"), ..StoreSettings::default() };
    let url: StoreUrl = format!("file:{}", dir.path().display()).parse().unwrap();
    let backend = midge_store::open(&url, &settings).unwrap();
    let (mut one, mut two) = (backend.watch().unwrap(), backend.watch().unwrap());
    assert_eq!(one.mode(), WatchMode::Local);
    let alice = Key::User("alice".parse().unwrap());
    let shield = Key::Shield(ShieldTarget::User("alice".parse().unwrap()));
    let fields: Fields = vec![(b"a".to_vec(), b"1".to_vec())];
    let writes = [
        Write::Increment { key: shield, ttl: Duration::from_secs(9) },
        Write::SetFields(alice.clone(), fields),
        Write::Remove(Key::AllAcl),
    ];
    backend.connect().unwrap().write(&writes).unwrap();
    for watch in [&mut one, &mut two] {
        assert_eq!(watch.next(SEEN).unwrap(), [Change::Key(alice.clone()), Change::Key(Key::AllAcl)]);
    }
    drop(one);
    assert_eq!(backend.connect().unwrap().replace_field(&alice, b"a", b"1", b"2").unwrap(), Written::Count(1));
    assert_eq!(two.next(SEEN).unwrap(), [Change::Key(alice)]);
    assert_eq!(two.next(Duration::ZERO).unwrap(), []);
}
