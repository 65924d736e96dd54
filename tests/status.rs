//! Each broker says in the store how it is.
//!
//! Read with `redis-cli`, on every Mosquitto.

use std::collections::BTreeMap;

use midge_testkit::{MosquittoVersion, Protocol, RedisServer, until};

use crate::support::{
    CALM, NO_SUBSCRIBERS, Policy, SOON, Stack, broker, code, connect, delivered, on_every_broker, publishes, store, subscribes,
};

on_every_broker!(a_broker_shows_what_goes_on_and_is_gone_when_it_ends, a_store_that_lost_it_is_told_again);

fn facts(redis: &RedisServer, node: &str) -> BTreeMap<String, String> {
    let lines = redis.run(&["HGETALL", &format!("midge:node:{{{node}}}")]);
    let lines: Vec<&str> = lines.lines().collect();
    lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

/// Waits until the node shows these facts.
fn shows(redis: &RedisServer, node: &str, expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    until(&format!("{node} to show {expected:?}"), SOON, || {
        last = facts(redis, node);
        Ok(expected.iter().all(|(name, value)| last.get(*name).is_some_and(|found| found == value)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last:#?}"));
    last
}

fn a_broker_shows_what_goes_on_and_is_gone_when_it_ends(version: MosquittoVersion) {
    let mut stack = Stack::start(version, "auth_opt_node one\n");
    let redis = &stack.redis;
    redis.user("ann", &[("a/#", "prs"), ("end", "prs")]);
    shows(redis, "one", &[("body", "mosquitto"), ("clients", "0"), ("published", "0"), ("connects", "0")]);
    let mut ann = stack.client("ann", "ann");
    let mut bob = stack.client("ann", "bob");
    assert!(subscribes(&mut bob, "a/#") && subscribes(&mut bob, "end"));
    assert_ne!(code(stack.port(), &connect(Protocol::V5, "ann", "x").login("ann", "wrong")), 0);
    for _ in 0..3 {
        assert!(!publishes(&mut ann, "elsewhere"));
    }
    assert!(!subscribes(&mut ann, "#"));
    assert_eq!(delivered(&mut ann, &mut bob, &["a/1", "a/2"], "end"), ["a/1", "a/2"]);
    let found = shows(redis, "one", &[("clients", "2"), ("connects", "2"), ("published", "3"), ("delivered", "3")]);
    let expected = [("denied_logins", "1"), ("denied_publish", "3"), ("denied_subscribe", "1"), ("denied_receive", "0")];
    for (name, value) in expected {
        assert_eq!(found[name], value, "{name}: {found:#?}");
    }
    assert!(found["following"].contains("tracking"), "{found:#?}");
    assert!(found["hashed"].parse::<u64>().is_ok() && found["published_rate"].parse::<f64>().is_ok(), "{found:#?}");
    bob.disconnect().unwrap();
    shows(redis, "one", &[("clients", "1")]);
    // Another one with the same identifier takes its place.
    let again = stack.client("ann", "ann");
    ann.closed(SOON).unwrap();
    shows(redis, "one", &[("clients", "1"), ("connects", "3")]);
    drop(again);
    shows(redis, "one", &[("clients", "0")]);
    stack.broker.kill().unwrap();
    let redis = &stack.redis;
    until("the end of the lease", SOON, || Ok(facts(redis, "one").is_empty().then_some(()))).unwrap();
}

fn a_store_that_lost_it_is_told_again(version: MosquittoVersion) {
    let mut redis = store(version);
    redis.user("ann", &[("a", "p")]);
    let one = broker(version, &redis.url(), &format!("{CALM}auth_opt_node one\n"));
    let two = broker(version, &redis.url(), &format!("{CALM}auth_opt_node two\nauth_opt_report false\n"));
    let mut ann = midge_testkit::RawClient::connect(one.port(), &connect(Protocol::V5, "ann", "ann")).unwrap();
    shows(&redis, "one", &[("clients", "1")]);
    redis.restart_empty().unwrap();
    assert_eq!(ann.publish("a", b"x", 1, false).unwrap(), NO_SUBSCRIBERS);
    shows(&redis, "one", &[("clients", "1"), ("store_emptied", "1")]);
    assert_eq!(facts(&redis, "two"), BTreeMap::new());
    assert_ne!(code(two.port(), &connect(Protocol::V5, "nobody", "x")), 0);
}
