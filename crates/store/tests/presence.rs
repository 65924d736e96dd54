//! The store shows who is online, whatever happens to it.
//!
//! Each coming and going is told once.
//!
//! Each case runs over a real Redis; those about keys over a cluster too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use midge_core::gate::{Gate, GateSettings, LoginSettings};
use midge_store::StoreSettings;
use midge_store::node::Life;
use midge_store::presence::{Attendance, Bounds, Change, Outcome, Presence, PresenceLog, PresenceSettings, Who};
use midge_testkit::{FaultProxy, Mode, RedisCluster, RedisServer, RedisVersion, until};

/// Generous: what shall take a second on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(60);

const BOUNDS: Bounds = Bounds { events: 1_000_000, seen: Duration::from_secs(100), missed: 1_000 };

fn backend(url: &str) -> Box<dyn midge_store::Backend> {
    let settings = StoreSettings {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..StoreSettings::default()
    };
    midge_store::open(&url.parse().unwrap(), &settings).unwrap()
}

fn node(url: &str, name: &str) -> (Presence, Attendance) {
    let gate = Arc::new(Gate::new(GateSettings::default(), LoginSettings::default()).unwrap());
    let settings = PresenceSettings { bounds: BOUNDS, ..PresenceSettings::default() };
    let life = Arc::new(Life::default());
    let presence = Presence::start_in(backend(url), name.parse().unwrap(), life, gate, settings, || {}).unwrap();
    let attendance = presence.attendance();
    (presence, attendance)
}

fn who(user: Option<&str>, client: usize) -> Who {
    Who { user: user.map(|user| user.parse().unwrap()), client: format!("c{client}").parse().unwrap() }
}

fn shows(redis: &RedisServer, key: &str, count: usize) {
    let mut last = String::new();
    until(&format!("{key} to have {count}"), SOON, || {
        last = redis.cli(&["HLEN", key])?;
        Ok((last == count.to_string()).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last}"));
}

fn events(redis: &RedisServer, kind: &str) -> Vec<String> {
    let text = redis.cli(&["--raw", "XRANGE", "midge:events", "-", "+"]).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let of_kind = lines.windows(2).enumerate().filter(|(_, pair)| *pair == ["event", kind]);
    of_kind.map(|(at, _)| lines[at + 2..].windows(2).find(|pair| pair[0] == "client").unwrap()[1].to_owned()).collect()
}

/// Checks that each of `count` clients was told of once.
fn each_once(redis: &RedisServer, kind: &str, count: usize) {
    let all = events(redis, kind);
    let once: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), once.len()), (count, count), "{kind}");
}

#[test]
fn tens_of_thousands_at_once_are_written_in_batches() {
    const ALL: usize = 30_000;
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    let (presence, attendance) = node(&redis.url(), "one");
    let users = ["ann", "bob", "cat"];
    for n in 0..ALL {
        attendance.online(who(Some(users[n % 3]), n), n as u64 + 1);
    }
    users.iter().for_each(|user| shows(&redis, &format!("midge:online:{{{user}}}"), ALL / 3));
    until("nothing to wait", SOON, || Ok((attendance.counters().waiting == 0).then_some(()))).unwrap();
    each_once(&redis, "online", ALL);
    // All come back at once, and go.
    for n in 0..ALL {
        attendance.online(who(Some(users[n % 3]), n), (ALL + n) as u64 + 1);
    }
    (0..ALL).for_each(|n| attendance.offline(&who(Some(users[n % 3]), n), n as u64 + 1));
    (0..ALL).for_each(|n| attendance.offline(&who(Some(users[n % 3]), n), (ALL + n) as u64 + 1));
    users.iter().for_each(|user| shows(&redis, &format!("midge:online:{{{user}}}"), 0));
    shows(&redis, "midge:online:node:{one}", 0);
    assert_eq!(attendance.counters().online, 0);
    drop(presence);
}

#[test]
fn an_answer_that_is_lost_makes_nothing_told_twice() {
    const ALL: usize = 5_000;
    let redis = RedisServer::builder(RedisVersion::Valkey8).start().unwrap();
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let (presence, attendance) = node(&format!("redis://127.0.0.1:{}", proxy.port()), "one");
    let written = || until("all to be written", SOON, || Ok((attendance.counters().waiting == 0).then_some(()))).unwrap();
    attendance.online(who(None, ALL), 1);
    written();
    for n in 0..ALL {
        attendance.online(who(None, n), 1);
        if n % 500 == 250 {
            proxy.set(if n % 1_000 == 250 { Mode::Refuse } else { Mode::BlackHole }).unwrap();
            proxy.set(Mode::Pass).unwrap();
            written();
        }
    }
    shows(&redis, "midge:online:{}", ALL + 1);
    until("nothing to wait", SOON, || Ok((attendance.counters().waiting == 0).then_some(()))).unwrap();
    each_once(&redis, "online", ALL + 1);
    drop(presence);
    each_once(&redis, "offline", ALL + 1);
}

#[test]
fn several_who_enter_the_same_as_gone_tell_of_it_once() {
    let redis = RedisServer::builder(RedisVersion::Redis8).start().unwrap();
    let dead = "dead".parse().unwrap();
    let left: Vec<Change> = (0..3_000).map(|n| Change::Online { who: who(Some("ann"), n), since: 5 }).collect();
    let mut log = backend(&redis.url()).presence().unwrap();
    log.beat(&dead, 0).unwrap();
    log.write(&dead, &left, &BOUNDS).unwrap();
    redis.cli(&["DEL", "midge:node:{dead}"]).unwrap();
    let nodes: Vec<_> = ["one", "two", "three"].iter().map(|name| node(&redis.url(), name)).collect();
    shows(&redis, "midge:online:{ann}", 0);
    shows(&redis, "midge:online:node:{dead}", 0);
    until("it to be forgotten", SOON, || Ok((redis.cli(&["SISMEMBER", "midge:online:nodes", "dead"])? == "0").then_some(())))
        .unwrap();
    each_once(&redis, "offline", 3_000);
    assert_eq!(nodes.iter().map(|(_, attendance)| attendance.counters().swept).sum::<u64>(), 3_000);
}

#[test]
fn a_key_of_another_type_costs_that_user_alone() {
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    redis.cli(&["SET", "midge:online:{ann}", "x"]).unwrap();
    let (_presence, attendance) = node(&redis.url(), "one");
    attendance.online(who(Some("ann"), 1), 1);
    attendance.online(who(Some("bob"), 2), 1);
    shows(&redis, "midge:online:{bob}", 1);
    until("it to be counted", SOON, || Ok((attendance.counters().refused > 0).then_some(()))).unwrap();
    assert_eq!(redis.cli(&["GET", "midge:online:{ann}"]).unwrap(), "x");
}

/// What a log does with changes, one server or several.
fn changes_are_news_once(log: &mut dyn PresenceLog) {
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    log.beat(&one, 0).unwrap();
    for user in [None, Some("ann"), Some("bob"), Some("a}b"), Some("{x}"), Some("zoë")] {
        let online = |since| Change::Online { who: who(user, 1), since };
        let offline = |since| Change::Offline { who: who(user, 1), since, until: 9, lost: false };
        let mut write = |node, changes: &[Change]| log.write(node, changes, &BOUNDS).unwrap();
        assert_eq!(write(&one, &[online(1), online(1), online(2)]), [Outcome::New, Outcome::Known, Outcome::New]);
        assert_eq!(write(&one, &[offline(1)]), [Outcome::Known], "of an earlier connection");
        assert_eq!(write(&two, &[offline(2)]), [Outcome::Known], "of another node");
        assert_eq!(write(&two, &[online(3)]), [Outcome::New]);
        assert_eq!(write(&one, &[offline(2)]), [Outcome::Known], "it has moved");
        assert_eq!(write(&two, &[offline(3), offline(3)]), [Outcome::New, Outcome::Known]);
        assert_eq!(write(&one, &[online(4), offline(5), online(5)]), [Outcome::New; 3], "an end removes what is older");
        let page = log.entries(&one, 0).unwrap();
        assert_eq!((page.alive, page.entries, page.next), (true, vec![(who(user, 1), 5)], None));
        assert_eq!(log.write(&one, &[offline(5)], &BOUNDS).unwrap(), [Outcome::New]);
        assert_eq!(log.entries(&one, 0).unwrap().entries, []);
    }
    assert_eq!(log.entries(&two, 0).unwrap(), midge_store::presence::Entries::default());
    assert_eq!(log.dead().unwrap(), []);
    log.forget(&one).unwrap();
    assert!(!log.beat(&one, 3).unwrap().lapsed);
}

#[test]
fn changes_are_news_once_everywhere() {
    for version in RedisVersion::ALL {
        let redis = RedisServer::builder(version).start().unwrap();
        changes_are_news_once(backend(&redis.url()).presence().unwrap().as_mut());
        assert_eq!(redis.cli(&["HGET", "midge:seen:{ann}", "at"]).unwrap(), "9");
    }
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let hosts: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    changes_are_news_once(backend(&format!("redis+cluster://{}", hosts.join(","))).presence().unwrap().as_mut());
}
