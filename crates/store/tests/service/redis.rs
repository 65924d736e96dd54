//! The same over a real Redis.
//!
//! Changes are applied as they come, and what Redis loses is not deleted.

use std::time::{Duration, Instant};

use midge_core::gate::{ClientPolicy, Refusal};
use midge_core::key::ShieldTarget;
use midge_core::password::HashPolicy;
use midge_core::topic::TopicFilter;
use midge_store::WatchPolicy;
use midge_testkit::{FaultProxy, Mode, RedisCluster, RedisServer, RedisVersion, until};

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
fn redis_that_is_filled_again_after_a_loss_keeps_who_is_known() {
    type Loss = fn(&mut RedisServer);
    let losses: [(&str, Loss); 2] =
        [("restarted", |server| server.restart_empty().unwrap()), ("flushed", |server| drop(server.cli(&["FLUSHALL"]).unwrap()))];
    for watch in [WatchPolicy::Tracking, WatchPolicy::Keyspace] {
        for (what, lose) in losses {
            let mut server = RedisServer::builder(RedisVersion::Redis7).config("notify-keyspace-events KA").start().unwrap();
            for name in ["a", "b", "c"] {
                server.cli(&["HSET", &format!("midge:user:{{{name}}}"), "enabled", "1"]).unwrap();
            }
            server.cli(&["SET", "midge:ban:{user:villain}", "why"]).unwrap();
            let node = Node::redis(&server.url(), watch);
            node.is_linked();
            let [a, b, c] = ["a", "b", "c"].map(|name| node.login(name, "").unwrap());
            until("the ban", SOON, || Ok(matches!(node.login("villain", ""), Err(Refusal::Banned { .. })).then_some(()))).unwrap();
            lose(&mut server);
            // One is there again before anybody looks, another comes later, and the third doesn't come.
            server.cli(&["HSET", "midge:user:{a}", "enabled", "1"]).unwrap();
            until("the loss to be noticed", SOON, || {
                drop(node.login("a", ""));
                Ok(node.service().health().emptied.then_some(()))
            })
            .unwrap_or_else(|error| panic!("{what}, {watch:?}: {error:#}"));
            assert_eq!(node.leaves(&b), None, "{what}, {watch:?}");
            node.login("b", "").unwrap();
            server.cli(&["HSET", "midge:user:{b}", "enabled", "1"]).unwrap();
            node.has_to_leave(&c, &Refusal::NoSuchUser, "who was not filled in again to leave");
            assert_eq!((node.leaves(&a), node.leaves(&b)), (None, None), "{what}, {watch:?}");
            until("the end of the ban", SOON, || Ok(matches!(node.login("villain", ""), Err(Refusal::NoSuchUser)).then_some(())))
                .unwrap();
        }
    }
}

/// Returns a name of the form that `name` makes of a number, which the cluster's server at `owner` has.
fn owned(cluster: &RedisCluster, owner: usize, name: impl Fn(usize) -> String) -> String {
    let key = |name: &String| cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &format!("{{{name}}}")]).unwrap();
    let of = |name: &String| key(name).parse::<usize>().unwrap() * cluster.nodes.len() / 16_384;
    (0..).map(name).find(|name| of(name) == owner).unwrap()
}

#[test]
fn a_master_of_a_cluster_restarted_empty_keeps_who_is_known() {
    let mut cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let names: Vec<String> = (0..3).map(|owner| owned(&cluster, owner, |n| format!("u{n}"))).collect();
    for (name, server) in names.iter().zip(&cluster.nodes) {
        server.cli(&["HSET", &format!("midge:user:{{{name}}}"), "enabled", "1"]).unwrap();
        server.cli(&["HSET", &format!("midge:user:{{{name}}}:acl"), "own/#", "rs"]).unwrap();
    }
    let villain = owned(&cluster, 1, |n| format!("user:villain{n}"));
    cluster.nodes[1].cli(&["SET", &format!("midge:ban:{{{villain}}}"), "why"]).unwrap();
    let ports: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let node = Node::redis(&format!("redis+cluster://{}", ports.join(",")), WatchPolicy::Auto);
    node.is_linked();
    let clients: Vec<ClientPolicy> = names.iter().map(|name| node.login(name, "").unwrap()).collect();
    let banned = || matches!(node.login(villain.strip_prefix("user:").unwrap(), ""), Err(Refusal::Banned { .. }));
    until("the ban", SOON, || Ok(banned().then_some(()))).unwrap();
    cluster.nodes[1].restart_empty().unwrap();
    cluster.wait_complete().unwrap();
    until("the loss to be noticed", SOON, || {
        for name in &names {
            node.login(name, "").unwrap();
        }
        Ok(node.service().health().emptied.then_some(()))
    })
    .unwrap();
    node.is_linked();
    for (name, client) in names.iter().zip(&clients) {
        assert_eq!(node.leaves(client), None, "{name}");
        assert!(client.may_subscribe(TopicFilter::new("own/1").unwrap()).allowed, "{name}");
    }
    assert!(banned());
    // What the other servers have lost is no loss, but deleted.
    cluster.nodes[0].cli(&["DEL", &format!("midge:user:{{{}}}", names[0])]).unwrap();
    node.has_to_leave(&clients[0], &Refusal::NoSuchUser, "a deleted user to leave");
    // Filled again, the server is believed again.
    cluster.nodes[1].cli(&["HSET", &format!("midge:user:{{{}}}", names[1]), "enabled", "1"]).unwrap();
    until("the end of the loss", SOON, || Ok((!node.service().health().emptied).then_some(()))).unwrap();
    until("the end of the ban", SOON, || Ok((!banned()).then_some(()))).unwrap();
    assert_eq!(node.leaves(&clients[1]), None);
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
