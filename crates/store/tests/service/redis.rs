//! The same over a real Redis.
//!
//! Changes are applied as they come, and what Redis loses is not deleted.

use std::time::{Duration, Instant};

use midge_core::gate::{ClientPolicy, Refusal};
use midge_core::key::ShieldTarget;
use midge_core::password::HashPolicy;
use midge_core::topic::TopicFilter;
use midge_store::WatchPolicy;
use midge_testkit::{FaultProxy, Mode, RedisServer, RedisVersion, until};

use crate::{Node, SOON, refused};

#[test]
fn redis_changes_are_applied_as_they_come() {
    for policy in [WatchPolicy::Tracking, WatchPolicy::Keyspace, WatchPolicy::Polling] {
        let server = RedisServer::builder(RedisVersion::Redis7).config("notify-keyspace-events KA").start().unwrap();
        let cli = |words: &str| server.cli(&words.split(' ').collect::<Vec<_>>()).unwrap();
        cli("HSET midge:user:{a} enabled 1 groups g");
        cli("HSET midge:user:{b} enabled 1");
        let node = Node::redis(&server.url(), policy);
        let (a, b) = (node.login("a", "").unwrap(), node.login("b", "").unwrap());
        node.is_linked();
        let may = |topic: &str| a.may_subscribe(TopicFilter::new(topic).unwrap()).allowed;
        for (command, topic, expected) in [
            ("HSET midge:group:{g}:acl t/# rs", "t/1", true),
            ("HDEL midge:group:{g}:acl t/#", "t/1", false),
            ("HSET midge:user:{a}:acl own/# rs", "own/1", true),
            ("HSET midge:all:acl all/# rs", "all/1", true),
            ("DEL midge:all:acl", "all/1", false),
            ("HSET midge:group:{h}:acl h/# rs", "h/1", false),
            ("HSET midge:user:{a} groups h", "h/1", true),
        ] {
            cli(command);
            until(&format!("{command} by {policy:?}"), SOON, || Ok((may(topic) == expected).then_some(()))).unwrap();
        }
        cli("SET midge:ban:{user:b} why");
        until("a ban", SOON, || Ok(matches!(node.leaves(&b), Some(Refusal::Banned { .. })).then_some(()))).unwrap();
        cli("DEL midge:ban:{user:b}");
        until("its end", SOON, || Ok(node.leaves(&b).is_none().then_some(()))).unwrap();
        cli("HSET midge:user:{b} enabled 0");
        node.has_to_leave(&b, &Refusal::Disabled, "a disabled user to leave");
        cli("DEL midge:user:{a}");
        node.has_to_leave(&a, &Refusal::NoSuchUser, "a deleted user to leave");
        cli("HSET midge:user:{a} enabled 1");
        until("the user again", SOON, || Ok(node.login("a", "").ok())).unwrap();
        let a = node.login("a", "").unwrap();
        cli("FLUSHALL");
        until("the flush to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
        node.login("a", "").unwrap();
        assert!(node.leaves(&a).is_none(), "{policy:?}");
    }
}

#[test]
fn redis_restarted_empty_keeps_who_is_known() {
    let mut server = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    for n in 0..50 {
        server.cli(&["HSET", &format!("midge:user:{{u{n}}}"), "enabled", "1"]).unwrap();
    }
    let node = Node::redis(&server.url(), WatchPolicy::Auto);
    node.is_linked();
    let clients: Vec<ClientPolicy> = (0..50).map(|n| node.login(&format!("u{n}"), "").unwrap()).collect();
    server.restart_empty().unwrap();
    until("the loss to be noticed", SOON, || {
        // Logins go on all the while: no moment of the return may take the loss for deletions.
        for n in 0..50 {
            node.login(&format!("u{n}"), "").unwrap();
        }
        Ok(node.service().health().emptied.then_some(()))
    })
    .unwrap();
    assert!(clients.iter().all(|client| node.leaves(client).is_none()));
    assert!(node.login("stranger", "").is_err());
}

#[test]
fn redis_flushed_soon_after_a_change_keeps_who_is_known() {
    let watches = [WatchPolicy::Tracking, WatchPolicy::Keyspace];
    let cases: Vec<(WatchPolicy, Duration, RedisServer, Node)> = (0..12)
        .map(|at| {
            let server = RedisServer::builder(RedisVersion::Redis7).config("notify-keyspace-events KA").start().unwrap();
            server.cli(&["HSET", "midge:user:{a}", "enabled", "1"]).unwrap();
            let node = Node::redis(&server.url(), watches[at % 2]);
            node.is_linked();
            // Around the time that an announcement takes.
            (watches[at % 2], Duration::from_millis(10) * u32::try_from(at).unwrap(), server, node)
        })
        .collect();
    for (watch, apart, server, node) in &cases {
        let client = node.login("a", "").unwrap();
        server.cli(&["HSET", "midge:user:{a}", "enabled", "1", "changed", "1"]).unwrap();
        std::thread::sleep(*apart);
        server.cli(&["FLUSHALL"]).unwrap();
        until("the loss to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
        assert_eq!(node.leaves(&client), None, "{watch:?}, {apart:?} apart");
        node.login("a", "").unwrap();
    }
}

#[test]
fn redis_black_holed_holds_up_neither_logins_nor_the_end() {
    let server = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    server.cli(&["HSET", "midge:user:{a}", "enabled", "1"]).unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let mut node = Node::redis(&format!("redis://127.0.0.1:{}", proxy.port()), WatchPolicy::Auto);
    let client = node.login("a", "").unwrap();
    node.is_linked();
    proxy.set(Mode::BlackHole).unwrap();
    node.is_away();
    assert!(node.ask("a", "").try_recv().unwrap().is_ok());
    assert!(node.leaves(&client).is_none());
    let start = Instant::now();
    drop(client);
    node.service = None;
    assert!(start.elapsed() < Duration::from_secs(10), "the end took {:?}", start.elapsed());
}

#[test]
fn failed_logins_are_counted_by_all_nodes_together() {
    let server = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    let stored = HashPolicy::argon2id(8, 1, 1).unwrap().hash(b"secret").unwrap();
    server.cli(&["HSET", "midge:user:{a}", "password", &stored]).unwrap();
    let nodes = [Node::redis(&server.url(), WatchPolicy::Auto), Node::redis(&server.url(), WatchPolicy::Auto)];
    let counted = |expected: &str| {
        until("the count", SOON, || Ok((server.cli(&["GET", "midge:shield:{user:a}"])? == expected).then_some(()))).unwrap();
    };
    // Three are free on both together.
    for (at, node) in [&nodes[0], &nodes[1], &nodes[0]].into_iter().enumerate() {
        assert!(matches!(refused(node.login("a", "wrong")), Refusal::BadPassword), "{at}");
        counted(&(at + 1).to_string());
    }
    let target = [ShieldTarget::User("a".parse().unwrap())];
    let waits = |node: &Node| node.gate.shield().backing_off(&target, node.service().clock().now()).is_some();
    until("the first node to know", SOON, || Ok(waits(&nodes[0]).then_some(()))).unwrap();
    assert!(matches!(refused(nodes[0].login("a", "wrong")), Refusal::BackOff(_)));
    // The other one learns by its own next failure.
    drop(nodes[1].login("a", "wrong"));
    until("the second node to know", SOON, || Ok(waits(&nodes[1]).then_some(()))).unwrap();
    assert!(matches!(refused(nodes[1].login("a", "secret")), Refusal::BackOff(_)));
    // A third one that comes now knows it at once.
    let late = Node::redis(&server.url(), WatchPolicy::Auto);
    assert!(matches!(refused(late.login("a", "secret")), Refusal::BackOff(_)));
}
