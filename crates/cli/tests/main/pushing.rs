//! Nothing that is pushed is lost.
//!
//! Real servers, real subscribers, and processes that are killed in the middle.

use std::time::Duration;

use midge_testkit::{
    Connect, Message, Mosquitto, MosquittoSub, MosquittoVersion, Protocol, RawClient, RedisCluster, RedisSentinel, RedisServer,
    RedisVersion, until,
};

use crate::running::{Running, SOON};

fn redis() -> RedisServer {
    RedisServer::builder(RedisVersion::Redis7).start().unwrap()
}

/// Pushes a thousand numbers, from `from` on, every other one by name.
fn push_a_thousand(redis: &RedisServer, from: usize) {
    let script = "for i=0,999 do \
        local push = {'topic','inbox/x','payload',tostring(ARGV[1]+i)} \
        if i % 2 == 1 then push[5] = 'user' push[6] = 'alice' end \
        redis.call('XADD',KEYS[1],'*',unpack(push)) end";
    redis.cli(&["EVAL", script, "1", "midge:push", &from.to_string()]).unwrap();
}

/// Waits until all numbers below `count` are there, and returns them as they came first.
fn firsts(sub: &mut MosquittoSub, count: usize) -> Vec<usize> {
    let found = until("all pushes", Duration::from_secs(120), || {
        let mut seen = vec![false; count];
        let mut firsts = Vec::new();
        for message in sub.messages()? {
            let number: usize = message.payload.parse()?;
            if !std::mem::replace(&mut seen[number], true) {
                firsts.push(number);
            }
        }
        Ok((firsts.len() == count).then_some(firsts))
    });
    found.unwrap_or_else(|error| panic!("{error:#}; there are {}", sub.messages().unwrap().len()))
}

fn wait_for_position(redis: &RedisServer, node: &str) {
    until("all to be passed on", SOON, || {
        let last = redis.cli(&["XREVRANGE", "midge:push", "+", "-", "COUNT", "1"])?;
        let last = last.lines().next().unwrap_or_default().to_owned();
        let read = redis.cli(&["HGET", "midge:push:read", node])?;
        Ok((!last.is_empty() && read.starts_with(&last)).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_push_is_answered_by_a_server_without_redis() {
    let mut server = Running::embedded();
    server.user("alice", &["--group", "staff"], &[("inbox/#", "rs"), ("secret", "!r")]);
    let mut phone = server.listen("alice", "phone", "inbox/none");
    let said = |words: &[&str]| {
        let ran = server.midge(&[&["push", "--wait"], words].concat());
        let sentence = ran.out.split_once(", ").map(|(_, rest)| rest.trim().to_owned()).unwrap_or_default();
        (ran.code, sentence)
    };
    let delivered = (0, "delivered to 1, queued for 0".to_owned());
    let nobody = (1, "nobody was there to get it".to_owned());
    for (number, audience) in
        [&["--user", "alice"][..], &["--client", "phone"], &["--group", "staff"], &["--all"]].iter().enumerate()
    {
        assert_eq!(said(&[*audience, &["inbox/x", &number.to_string()]].concat()), delivered, "{audience:?}");
    }
    assert_eq!(said(&["inbox/none", "4"]), delivered);
    for words in [&["--user", "alice", "secret", "x"][..], &["--user", "bob", "inbox/x", "x"], &["inbox/other", "x"]] {
        assert_eq!(said(words), nobody, "{words:?}");
    }
    assert_eq!(said(&["--id", "one", "--user", "alice", "inbox/x", "5"]), delivered);
    assert_eq!(said(&["--id", "one", "--user", "alice", "inbox/x", "twice"]), nobody);
    assert_eq!(firsts(&mut phone, 6), [0, 1, 2, 3, 4, 5]);
    let wrong = server.midge(&["push", "--wait", "inbox/#", "x"]);
    assert!(wrong.code != 0 && wrong.err.contains("wildcard"), "{wrong:?}");
    // What was answered is there after a kill, whether it was passed on or only taken.
    phone.process().stop(rustix::process::Signal::TERM).unwrap();
    until("the phone to be away", SOON, || {
        let told = server.ok(&["push", "--wait", "--client", "phone", "inbox/x", "0"]);
        Ok(told.contains("delivered to 0, queued for 1").then_some(()))
    })
    .unwrap();
    for number in 1..20 {
        server.ok(&["push", "--user", "alice", "inbox/x", &number.to_string()]);
    }
    server.kill();
    server.again();
    let mut phone = server.listen("alice", "phone", "inbox/none");
    assert_eq!(firsts(&mut phone, 20), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_kill_in_the_middle_of_ten_thousand_pushes_loses_nothing() {
    let redis = redis();
    let mut server = Running::over(&redis.url(), "one");
    server.user("alice", &[], &[("inbox/#", "rs")]);
    // One is there all the time and comes back by itself, the other comes at the end.
    let mut here = server.listen("alice", "here", "inbox/#");
    let mut away = server.listen("alice", "away", "inbox/#");
    away.process().stop(rustix::process::Signal::KILL).unwrap();
    for thousand in 0..10 {
        push_a_thousand(&redis, thousand * 1000);
        if thousand % 3 == 1 {
            server.kill();
            server.again();
        }
    }
    let all: Vec<usize> = (0..10_000).collect();
    assert!(firsts(&mut here, 10_000) == all, "they come in order");
    wait_for_position(&redis, "one");
    server.kill();
    server.again();
    let mut away = server.listen("alice", "away", "inbox/#");
    assert!(firsts(&mut away, 10_000) == all, "they come in order");
}

#[test]
fn a_redis_that_goes_away_in_the_middle_loses_nothing() {
    let mut redis = redis();
    let mut server = Running::over(&redis.url(), "one");
    server.user("alice", &[], &[("inbox/#", "rs")]);
    let mut phone = server.listen("alice", "phone", "inbox/#");
    for thousand in 0..3 {
        push_a_thousand(&redis, thousand * 1000);
        redis.stop().unwrap();
        redis.start().unwrap();
    }
    assert!(firsts(&mut phone, 3000) == (0..3000).collect::<Vec<_>>(), "they come in order");
    server.stop();
}

/// Pushes to a client of `server` by name, in each way.
fn push_by_name(server: &Running, id: &str) {
    for audience in ["--user=alice", "--client=phone", "--all"] {
        let told = server.ok(&["push", "--wait", &format!("--id={audience}{id}"), audience, "inbox/x", "hello"]);
        assert!(told.contains("delivered to 1, queued for 0"), "{audience}: {told}");
    }
}

#[test]
fn a_cluster_carries_pushes() {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let server = Running::over(&format!("redis+cluster://127.0.0.1:{}", cluster.nodes[0].port()), "one");
    server.user("alice", &[], &[("inbox/#", "rs")]);
    let _phone = server.listen("alice", "phone", "inbox/none");
    push_by_name(&server, "");
}

#[test]
fn pushes_go_on_with_the_master_that_sentinel_names() {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    let server = Running::over(&format!("redis+sentinel://127.0.0.1:{}/{}", group.ports()[0], RedisSentinel::NAME), "one");
    server.user("alice", &[], &[("inbox/#", "rs")]);
    let _phone = server.listen("alice", "phone", "inbox/none");
    push_by_name(&server, "before");
    group.fail_over().unwrap();
    until("pushes by the new master", SOON, || {
        let told = server.midge(&["push", "--wait=2s", "--client", "phone", "inbox/x", "hello"]);
        Ok(told.out.contains("delivered to 1").then_some(()))
    })
    .unwrap();
    push_by_name(&server, "after");
}

fn next(client: &mut RawClient) -> Message {
    client.message(SOON).unwrap().expect("a push")
}

#[test]
fn all_servers_of_both_kinds_pass_a_push_on() {
    let redis = redis();
    let url = redis.url();
    let servers = [Running::over(&url, "one"), Running::over(&url, "two")];
    let config = format!(
        "listener {{port}} 127.0.0.1\nallow_anonymous true\npersistence false\nauth_plugin {{plugin}}\nauth_opt_store {url}\nauth_opt_node three\n",
    );
    let mosquitto = Mosquitto::builder(MosquittoVersion::V2_0_21).config(&config).start().unwrap();
    until("the plugin to read pushes", SOON, || {
        Ok(redis.cli(&["HKEYS", "midge:push:read"])?.lines().any(|node| node == "three").then_some(()))
    })
    .unwrap();
    servers[0].user("alice", &["--group", "staff"], &[("inbox/#", "rs")]);
    let ports = [servers[0].port(), servers[1].port(), mosquitto.port()];
    let login = |port: &u16| {
        let connect = Connect::new(Protocol::V5, &format!("phone-{port}")).login("alice", "secret");
        let mut client = RawClient::connect(*port, &connect).unwrap();
        assert_eq!(client.subscribe(&[("inbox/all", 1)]).unwrap(), [1]);
        client
    };
    let mut clients: Vec<RawClient> = ports.iter().map(login).collect();
    for (number, audience) in [&[][..], &["--user", "alice"], &["--group", "staff"], &["--all"]].iter().enumerate() {
        let told = servers[0].ok(&[&["push", "--wait"], *audience, &["inbox/all", &number.to_string()]].concat());
        assert!(told.contains("delivered to 3, queued for 0"), "{audience:?}: {told}");
        for client in &mut clients {
            let message = next(client);
            assert_eq!((message.text().1, message.qos, message.retain), (number.to_string(), 1, false), "{audience:?}");
        }
    }
    let status = servers[0].ok(&["status", "--json"]);
    for fact in ["\"node\":\"one\"", "\"node\":\"two\"", "\"node\":\"three\""] {
        assert!(status.replace(": ", ":").contains(fact), "{status}");
    }
}
