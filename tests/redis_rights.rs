//! The rights that the documentation gives a broker's Redis user suffice.
//!
//! The commands are taken from `docs/REDIS.md` as they stand there, and Redis notes whatever they don't allow.

use std::time::Duration;

use midge_testkit::{
    Connect, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisCluster, RedisSentinel, RedisServer, RedisVersion, until,
    workspace,
};

const NO_PUSH: &str = "auth_opt_push false\nauth_opt_presence false\nauth_opt_hot false";
const SOON: Duration = Duration::from_secs(20);

/// Returns the arguments of each command of the documentation that begins so.
fn documented(command: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(workspace().join("docs/REDIS.md")).unwrap();
    let commands = page.lines().filter_map(|line| line.trim().strip_prefix(command));
    commands.map(|rest| rest.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()).collect()
}

fn set_users<'c>(server: &RedisServer, commands: impl IntoIterator<Item = &'c Vec<String>>) {
    for words in commands {
        let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(words.iter().map(String::as_str)).collect();
        assert_eq!(server.cli(&words).unwrap().trim(), "OK", "{words:?}");
    }
}

/// Redis notes what it refused.
fn nothing_was_refused<'s>(servers: impl IntoIterator<Item = &'s RedisServer>, what: &str) {
    for server in servers {
        assert_eq!(server.cli(&["ACL", "LOG"]).unwrap().trim(), "", "{what}, port {}", server.port());
    }
}

/// Runs a command on whichever of the servers takes it.
fn anywhere<'s>(servers: impl IntoIterator<Item = &'s RedisServer>, command: &[&str]) -> String {
    servers.into_iter().find_map(|server| server.cli(command).ok()).unwrap_or_else(|| panic!("nobody takes {command:?}"))
}

fn broker(store: &str, options: &str) -> Mosquitto {
    let config = format!(
        "auth_plugin {{plugin}}\nauth_opt_store {store}\nauth_opt_store_password PASSWORD\nauth_opt_log_level debug\n{options}\n"
    );
    let mut broker = Mosquitto::builder(MosquittoVersion::V2_0_21).config(&config).start().unwrap();
    broker.process().wait_log("following changes in the store", SOON).unwrap();
    broker
}

fn login(broker: &Mosquitto, name: &str, password: &str) -> (RawClient, u8) {
    RawClient::try_connect(broker.port(), &Connect::new(Protocol::V5, name).login(name, password)).unwrap()
}

fn gets_in(broker: &Mosquitto, name: &str) -> RawClient {
    until("to be let in", SOON, || {
        let (client, code) = login(broker, name, "wonderland");
        Ok((code == 0).then_some(client))
    })
    .unwrap_or_else(|error| panic!("{name}: {error:#}:\n{}", broker.log()))
}

/// Has all done that there is to be done with pushes.
fn pushes(run: &dyn Fn(&[&str]) -> String) {
    let read = || run(&["HVALS", "midge:push:read"]);
    until("pushes to be read", SOON, || Ok((!read().is_empty()).then_some(()))).unwrap();
    run(&["XADD", "midge:push", "*", "topic", "a/#"]);
    let entry = run(&["XADD", "midge:push", "*", "topic", "a", "id", "x", "result", "1"]);
    let key = format!("midge:push:result:{{{entry}}}");
    until("what became of a push", SOON, || Ok((run(&["EXISTS", &key]) == "1").then_some(()))).unwrap();
    until("it to be told", SOON, || Ok(read().starts_with(&entry).then_some(()))).unwrap();
    assert_ne!(run(&["XLEN", "midge:push:dead"]), "0");
    run(&["HSET", "midge:push:read", "lost", "1-1 1"]);
    until("a node that is gone to be forgotten", SOON, || Ok((run(&["HLEN", "midge:push:read"]) == "1").then_some(()))).unwrap();
}

/// Has all done that there is to be done with presence.
fn presence(run: &dyn Fn(&[&str]) -> String) {
    until("clients to be shown as online", SOON, || Ok((run(&["EXISTS", "midge:online:{alice}"]) == "1").then_some(()))).unwrap();
    until("a denial to be told of", SOON, || Ok(run(&["XRANGE", "midge:events", "-", "+"]).contains("denied").then_some(())))
        .unwrap();
    run(&["HSET", "midge:online:{bob}", "phone", "lost 5"]);
    let enter = "return redis.call('hset', KEYS[1], 'bob\\0phone', '5')";
    run(&["EVAL", enter, "1", "midge:online:node:{lost}"]);
    run(&["SADD", "midge:online:nodes", "lost"]);
    until("a node that is gone to be forgotten", SOON, || {
        Ok((!run(&["SMEMBERS", "midge:online:nodes"]).contains("lost")).then_some(()))
    })
    .unwrap();
}

/// Has the store asked for all that it may be asked for by a broker.
fn serves(broker: &Mosquitto, servers: &[&RedisServer], name: &str, options: &str) {
    let run = |command: &[&str]| anywhere(servers.iter().copied(), command);
    let key = format!("midge:user:{{{name}}}");
    run(&["HSET", &key, "password", "{plain}wonderland", "enabled", "1"]);
    assert_ne!(login(broker, name, "wrong").1, 0);
    let mut client = gets_in(broker, name);
    if options.contains("rehash") {
        until("the password to be encoded anew", SOON, || {
            Ok(run(&["HGET", &key, "password"]).starts_with("$argon2id$").then_some(()))
        })
        .unwrap();
    }
    if name == "alice" && !options.contains(NO_PUSH) {
        pushes(&run);
        presence(&run);
        run(&["HSET", &format!("{key}:acl"), "hot", "p"]);
        until("a topic to be hot", SOON, || {
            client.publish("hot", b"x", 1, false)?;
            Ok((run(&["ZCARD", "midge:hot:{messages}:1m:now"]) != "0").then_some(()))
        })
        .unwrap();
    }
    run(&["HSET", &key, "enabled", "0"]);
    client.closed(SOON).unwrap();
    nothing_was_refused(servers.iter().copied(), options);
}

#[test]
fn each_way_of_working_needs_no_more_than_is_documented() {
    let commands = documented("redis-cli ACL SETUSER ");
    let midge: Vec<&Vec<String>> = commands.iter().filter(|words| words[0] == "midge").collect();
    assert_eq!((midge.len(), commands.len()), (8, 9));
    let [least, rehash, push, presence, hot, keyspace, sentinel, cluster] = midge[..] else { panic!("{midge:?}") };
    let (tracking, notified) = (format!("auth_opt_watch tracking\n{NO_PUSH}"), "auth_opt_watch keyspace");
    let anew = "auth_opt_rehash_on_login argon2id";
    for (users, options) in [
        (vec![least], tracking.clone()),
        (vec![least, rehash], format!("{tracking}\n{anew}")),
        (vec![least, push, presence, hot, rehash, keyspace], format!("{notified}\n{anew}")),
    ] {
        let store = RedisServer::builder(RedisVersion::Redis7).config("notify-keyspace-events Kghx$").start().unwrap();
        set_users(&store, users);
        let broker = broker(&format!("redis://midge@127.0.0.1:{}", store.port()), &options);
        serves(&broker, &[&store], "alice", &options);
    }
    behind_sentinel(&[least, rehash, push, presence, hot, sentinel], &format!("auth_opt_watch tracking\n{anew}"));
    in_a_cluster(&[least, rehash, cluster], &format!("{tracking}\n{anew}"));
    in_a_cluster(&[least, rehash, push, presence, hot, keyspace, cluster], &format!("{notified}\n{anew}"));
}

fn behind_sentinel(users: &[&Vec<String>], options: &str) {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    for server in [&group.master, &group.replica] {
        set_users(server, users.iter().copied());
    }
    let finder = documented("redis-cli -p 26379 ACL SETUSER ");
    assert_eq!(finder.len(), 1);
    set_users(&group.sentinels[0], &finder);
    let place = format!("midge@127.0.0.1:{}/{}", group.ports()[0], RedisSentinel::NAME);
    let broker = broker(&format!("redis+sentinel://{place}?sentinel_user=finder&sentinel_password=PASSWORD"), options);
    serves(&broker, &[&group.master], "alice", options);
    group.fail_over().unwrap();
    // Somebody whom only the new master can have named.
    group.replica.cli(&["HSET", "midge:user:{bob}", "password", "{plain}wonderland"]).unwrap();
    gets_in(&broker, "bob");
    serves(&broker, &[&group.replica], "carol", options);
    nothing_was_refused([&group.sentinels[0]], options);
}

fn in_a_cluster(users: &[&Vec<String>], options: &str) {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    for node in &cluster.nodes {
        set_users(node, users.iter().copied());
        node.cli(&["CONFIG", "SET", "notify-keyspace-events", "Kghx$"]).unwrap();
    }
    let hosts: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let broker = broker(&format!("redis+cluster://midge@{}", hosts.join(",")), options);
    let nodes: Vec<&RedisServer> = cluster.nodes.iter().collect();
    // Names on all three servers.
    for name in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        serves(&broker, &nodes, name, options);
    }
}

#[test]
fn a_right_that_lacks_is_said_and_costs_no_login() {
    let commands = documented("redis-cli ACL SETUSER ");
    let store = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    // Those for a better encoding are missing.
    set_users(&store, commands.iter().take(1));
    for name in ["alice", "bob", "carol"] {
        store.cli(&["HSET", &format!("midge:user:{{{name}}}"), "password", "{plain}wonderland"]).unwrap();
    }
    let broker =
        broker(&format!("redis://midge@127.0.0.1:{}", store.port()), &format!("auth_opt_rehash_on_login argon2id\n{NO_PUSH}"));
    for name in ["alice", "bob", "carol"] {
        gets_in(&broker, name);
        let line = format!("midge:user:{{{name}}}: the password stays in its weaker encoding: WATCH");
        until(&line, SOON, || Ok(broker.log().contains(&line).then_some(()))).unwrap();
    }
    assert!(!broker.log().contains("the store can't be asked"), "{}", broker.log());
    assert_eq!(broker.log().matches("connected to the store").count(), 1, "{}", broker.log());
}
