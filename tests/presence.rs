//! Redis shows who is online, who came, and who went.
//!
//! Read with `redis-cli`, on every Mosquitto.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_testkit::{
    FaultProxy, Mode, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisCluster, RedisServer, RedisVersion, stall, until,
};

use crate::support::{
    CALM, NO_SUBSCRIBERS, Policy, SOON, Stack, before, broker, builder, code, connect, on_every_broker, publishes, store,
    subscribes,
};

on_every_broker!(
    those_who_are_connected_are_online,
    a_node_that_is_killed_leaves_nobody_online,
    a_node_that_comes_back_heals_what_it_left,
    a_node_that_ends_says_so,
    a_store_that_lost_it_all_is_told_again,
    nobody_waits_for_a_store_that_is_away,
    hundreds_who_come_back_at_once_are_all_there,
    messages_for_those_who_are_away_are_told_of,
    denials_are_told_of,
    two_of_one_name_are_noticed,
    each_listener_has_its_own_clients,
);

/// Many times what anything here may take on the broker's thread.
const NO_STALL: Duration = Duration::from_secs(2);
/// Longer than a lease and the looks that follow its end.
const LATER: Duration = Duration::from_secs(60);

type Fields = BTreeMap<String, String>;

/// Returns which of a user's clients are online, and where.
fn online(redis: &RedisServer, user: &str) -> BTreeMap<String, String> {
    let lines = redis.run(&["HGETALL", &format!("midge:online:{{{user}}}")]);
    let lines: Vec<&str> = lines.lines().collect();
    let place = |pair: &[&str]| {
        let (node, since) = pair[1].rsplit_once(' ').unwrap_or_else(|| panic!("{pair:?}"));
        assert!(since.parse::<u64>().unwrap() > 1_700_000_000_000, "{since}");
        (pair[0].to_owned(), node.to_owned())
    };
    lines.chunks_exact(2).map(place).collect()
}

/// Waits until just these are online.
fn shows(redis: &RedisServer, user: &str, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> = expected.iter().map(|(id, node)| ((*id).to_owned(), (*node).to_owned())).collect();
    let mut last = BTreeMap::new();
    until(&format!("{user} to have {expected:?} online"), LATER, || {
        last = online(redis, user);
        Ok((last == expected).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last:?}"));
}

/// Returns a stream's entries.
fn entries(redis: &RedisServer, stream: &str) -> Vec<Fields> {
    let json = redis.run(&["EVAL", READ_STREAM, "1", stream]);
    let text: Vec<&str> = json.lines().collect();
    let mut all = Vec::new();
    let mut rest = &text[..];
    while let [count, tail @ ..] = rest {
        let count: usize = count.parse().unwrap();
        let (fields, tail) = tail.split_at(count);
        all.push(fields.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect());
        rest = tail;
    }
    all
}

/// Lists for each entry how many lines follow, and its fields and values.
const READ_STREAM: &str = "local lines = {} \
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do \
    table.insert(lines, #entry[2]) for _, text in ipairs(entry[2]) do table.insert(lines, text) end end return lines";

/// Returns what was told of clients, as `event client why`.
fn told(redis: &RedisServer) -> Vec<String> {
    let told = entries(redis, "midge:events").into_iter().filter(|event| event["event"] != "denied");
    told.map(|event| {
        format!("{} {} {}", event["event"], event["client"], event.get("why").map_or("", String::as_str)).trim().to_owned()
    })
    .collect()
}

fn start(version: MosquittoVersion, redis: &RedisServer, node: &str, options: &str) -> Mosquitto {
    let mut broker = broker(version, &redis.url(), &format!("{CALM}auth_opt_node {node}\n{options}"));
    broker.process().wait_log("clients are shown as online", SOON).unwrap();
    broker
}

fn client(broker: &Mosquitto, user: &str, id: &str) -> RawClient {
    RawClient::connect(broker.port(), &connect(Protocol::V5, user, id))
        .unwrap_or_else(|error| panic!("{error:#}:\n{}", broker.log()))
}

fn fact(redis: &RedisServer, node: &str, name: &str) -> String {
    redis.run(&["HGET", &format!("midge:node:{{{node}}}"), name])
}

fn those_who_are_connected_are_online(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    redis.user("bob", &[]);
    let one = start(version, &redis, "one", "auth_opt_anonymous allow\n");
    let two = start(version, &redis, "two", "");
    let phone = client(&one, "ann", "phone");
    let tablet = client(&two, "ann", "tablet");
    let nameless = RawClient::connect(one.port(), &midge_testkit::Connect::new(Protocol::V5, "nameless")).unwrap();
    shows(&redis, "ann", &[("phone", "one"), ("tablet", "two")]);
    shows(&redis, "", &[("nameless", "one")]);
    assert_eq!(online(&redis, "bob"), BTreeMap::new());
    // It moves, and the other node hears of the old connection's end later.
    let moved = client(&two, "ann", "phone");
    shows(&redis, "ann", &[("phone", "two"), ("tablet", "two")]);
    drop(phone);
    // Another one with its identifier takes its place.
    let again = client(&two, "ann", "tablet");
    shows(&redis, "ann", &[("phone", "two"), ("tablet", "two")]);
    drop(tablet);
    // Another user does: the first has gone.
    let bobs = client(&two, "bob", "phone");
    shows(&redis, "bob", &[("phone", "two")]);
    shows(&redis, "ann", &[("tablet", "two")]);
    drop((moved, again));
    shows(&redis, "ann", &[]);
    assert_eq!(redis.run(&["HGET", "midge:seen:{ann}", "client"]), "tablet");
    assert_eq!(redis.run(&["HGET", "midge:seen:{ann}", "node"]), "two");
    assert!(redis.run(&["TTL", "midge:seen:{ann}"]).parse::<u64>().unwrap() > 2_000_000);
    // A refused one was never there.
    assert_ne!(code(one.port(), &connect(Protocol::V5, "ann", "refused").login("ann", "wrong")), 0);
    // A brief one was.
    client(&one, "ann", "brief").disconnect().unwrap();
    drop((bobs, nameless));
    shows(&redis, "", &[]);
    shows(&redis, "bob", &[]);
    until("a brief connection to be told of", SOON, || Ok(told(&redis).contains(&"offline brief closed".to_owned()).then_some(())))
        .unwrap();
    let all = told(&redis);
    let of = |id: &str| all.iter().filter(|line| line.contains(id)).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("brief"), ["online brief", "offline brief closed"]);
    assert_eq!(of("nameless"), ["online nameless", "offline nameless closed"]);
    assert_eq!(of("tablet"), ["online tablet", "online tablet", "offline tablet closed"]);
    assert_eq!(of("refused"), [""; 0]);
    let phone = of("phone");
    assert_eq!(phone.iter().filter(|line| line.starts_with("offline")).count(), 2, "ann's and bob's: {phone:?}");
    let all = entries(&redis, "midge:events");
    let event = all.iter().find(|event| event["client"] == "phone").unwrap();
    assert_eq!((event["event"].as_str(), event["user"].as_str(), event["node"].as_str()), ("online", "ann", "one"), "{event:?}");
}

fn a_node_that_is_killed_leaves_nobody_online(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let mut one = start(version, &redis, "one", "");
    let others = ["two", "three"].map(|node| start(version, &redis, node, ""));
    let clients: Vec<RawClient> = (0..20).map(|n| client(&one, "ann", &format!("c{n}"))).collect();
    let there = client(&others[0], "ann", "there");
    until("all to be online", SOON, || Ok((online(&redis, "ann").len() == 21).then_some(()))).unwrap();
    one.kill().unwrap();
    drop(clients);
    // One of them is back elsewhere before anybody notices.
    let back = client(&others[1], "ann", "c0");
    shows(&redis, "ann", &[("there", "two"), ("c0", "three")]);
    until("the node to be forgotten", SOON, || {
        Ok((!redis.run(&["SMEMBERS", "midge:online:nodes"]).lines().any(|node| node == "one")).then_some(()))
    })
    .unwrap();
    let gone: Vec<String> = told(&redis).into_iter().filter(|line| line.starts_with("offline")).collect();
    let once: BTreeSet<&String> = gone.iter().collect();
    assert_eq!((gone.len(), once.len()), (19, 19), "{gone:?}");
    assert!(gone.iter().all(|line| line.ends_with(" lost")), "{gone:?}");
    assert_eq!(redis.run(&["EXISTS", "midge:online:node:{one}"]), "0");
    drop((there, back));
    shows(&redis, "ann", &[]);
}

fn a_node_that_comes_back_heals_what_it_left(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    redis.user("bob", &[]);
    let mut one = start(version, &redis, "one", "");
    let clients = [client(&one, "ann", "gone"), client(&one, "ann", "back"), client(&one, "ann", "anothers")];
    shows(&redis, "ann", &[("gone", "one"), ("back", "one"), ("anothers", "one")]);
    one.kill().unwrap();
    drop(clients);
    one.start_again().unwrap();
    let back = client(&one, "ann", "back");
    let bobs = client(&one, "bob", "anothers");
    shows(&redis, "ann", &[("back", "one")]);
    shows(&redis, "bob", &[("anothers", "one")]);
    let gone: BTreeSet<String> = told(&redis).into_iter().filter(|line| line.starts_with("offline")).collect();
    assert_eq!(gone, BTreeSet::from(["offline gone lost".to_owned(), "offline anothers lost".to_owned()]));
    drop((back, bobs));
    shows(&redis, "bob", &[]);
}

fn a_node_that_ends_says_so(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let mut one = start(version, &redis, "one", "");
    let clients: Vec<RawClient> = (0..5).map(|n| client(&one, "ann", &format!("c{n}"))).collect();
    until("all to be online", SOON, || Ok((online(&redis, "ann").len() == 5).then_some(()))).unwrap();
    one.stop().unwrap();
    assert_eq!(online(&redis, "ann"), BTreeMap::new(), "at once:\n{}", one.log());
    assert_eq!(told(&redis).iter().filter(|line| line.ends_with("closed")).count(), 5);
    drop(clients);
}

fn a_store_that_lost_it_all_is_told_again(version: MosquittoVersion) {
    let mut redis = store(version);
    redis.user("ann", &[("a", "prs")]);
    let one = start(version, &redis, "one", "");
    let mut clients: Vec<RawClient> = (0..30).map(|n| client(&one, "ann", &format!("c{n}"))).collect();
    until("all to be online", SOON, || Ok((online(&redis, "ann").len() == 30).then_some(()))).unwrap();
    redis.crash().unwrap();
    // Who goes meanwhile is not there afterwards, and who comes is.
    clients.truncate(20);
    clients.push(client(&one, "ann", "new"));
    redis.restart_empty().unwrap();
    until("those who are there to be online", SOON, || Ok((online(&redis, "ann").len() == 21).then_some(()))).unwrap();
    assert!(online(&redis, "ann").contains_key("new"));
    assert_eq!(redis.run(&["HLEN", "midge:online:node:{one}"]), "21");
    // Emptied without a restart, or by somebody's mistake.
    redis.run(&["FLUSHALL"]);
    until("those who are there to be online", LATER, || Ok((online(&redis, "ann").len() == 21).then_some(()))).unwrap();
    assert_eq!(clients[0].publish("a", b"x", 1, false).unwrap(), NO_SUBSCRIBERS);
    drop(clients);
    shows(&redis, "ann", &[]);
}

fn nobody_waits_for_a_store_that_is_away(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("news", "prs")]);
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let options = "auth_opt_node one\nauth_opt_response_timeout 500ms\nauth_opt_connect_timeout 500ms\n";
    let broker = broker(version, &url, &format!("{CALM}{options}"));
    let mut other = client(&broker, "ann", "other");
    shows(&redis, "ann", &[("other", "one")]);
    for mode in [Mode::BlackHole, Mode::Refuse] {
        proxy.set(mode).unwrap();
        let (left, stall) = stall(&mut other, || {
            let mut clients: Vec<RawClient> = (0..50).map(|n| client(&broker, "ann", &format!("c{n}"))).collect();
            clients.truncate(3);
            clients
        })
        .unwrap();
        assert!(stall.worst < NO_STALL, "{mode:?}: {stall:?}");
        proxy.set(Mode::Pass).unwrap();
        shows(&redis, "ann", &[("other", "one"), ("c0", "one"), ("c1", "one"), ("c2", "one")]);
        drop(left);
        shows(&redis, "ann", &[("other", "one")]);
    }
}

fn hundreds_who_come_back_at_once_are_all_there(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let one = start(version, &redis, "one", "");
    for _ in 0..2 {
        let clients: Vec<RawClient> = (0..600).map(|n| client(&one, "ann", &format!("c{n}"))).collect();
        until("all to be online", LATER, || Ok((redis.run(&["HLEN", "midge:online:{ann}"]) == "600").then_some(()))).unwrap();
        drop(clients);
        shows(&redis, "ann", &[]);
    }
    let all = told(&redis);
    let count = |kind: &str| all.iter().filter(|line| line.starts_with(kind)).count();
    assert_eq!((count("online"), count("offline")), (1_200, 1_200));
}

fn messages_for_those_who_are_away_are_told_of(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("inbox/#", "r"), ("news/#", "rs"), ("end", "prs")]);
    redis.user("bob", &[("news/#", "prs"), ("inbox/#", "p")]);
    let options = "auth_opt_offline_stream true\nauth_opt_offline_stream_payload 20\nauth_opt_offline_stream_kept 1000\n";
    let persistence = "persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\n";
    let mut broker = builder(version, &redis.url(), &format!("{CALM}auth_opt_node one\n{options}{persistence}")).start().unwrap();
    let mut bob = client(&broker, "bob", "bob");
    assert!(subscribes(&mut bob, "news/#"));
    let messages = |count: usize| {
        until("messages to be told of", SOON, || Ok(Some(entries(&redis, "midge:offline")).filter(|all| all.len() >= count)))
            .unwrap()
    };
    let persistent = connect(Protocol::V5, "ann", "phone").persistent();
    let mut phone = RawClient::connect(broker.port(), &persistent).unwrap();
    assert!(subscribes(&mut phone, "news/#") && subscribes(&mut phone, "end"));
    let publish = |bob: &mut RawClient, topic: &str, payload: &[u8], qos: u8| {
        assert!(bob.publish(topic, payload, qos, false).unwrap() < 0x80)
    };
    publish(&mut bob, "news/there", b"it is there", 1);
    phone.disconnect().unwrap();
    shows(&redis, "ann", &[]);
    publish(&mut bob, "news/once", b"at most once", 0);
    publish(&mut bob, "news/one", b"one", 1);
    publish(&mut bob, "news/two", b"longer than is told: twenty bytes", 2);
    redis.run(&["XADD", "midge:push", "*", "topic", "inbox/x", "payload", "pushed", "user", "ann"]);
    let told = messages(3);
    let get = |entry: &Fields, name: &str| entry.get(name).cloned().unwrap_or_else(|| "-".to_owned());
    let row = |entry: &Fields| ["user", "client", "topic", "qos", "size", "payload", "node"].map(|name| get(entry, name)).join(" ");
    let rows: BTreeSet<String> = told.iter().map(row).collect();
    let expected = ["ann phone news/one 1 3 one one", "ann phone news/two 2 33 - one", "ann phone inbox/x 1 6 pushed one"];
    assert_eq!(rows, expected.map(str::to_owned).into_iter().collect());
    // What it gets when it is back is not told of again.
    let mut phone = RawClient::connect(broker.port(), &persistent).unwrap();
    assert!(publishes(&mut phone, "end"));
    assert!(before(&mut phone, "end").len() >= 3);
    phone.disconnect().unwrap();
    shows(&redis, "ann", &[]);
    // A session that the broker has from its disk.
    broker.stop().unwrap();
    broker.start_again().unwrap();
    let mut bob = client(&broker, "bob", "bob");
    publish(&mut bob, "news/later", b"later", 1);
    let told = messages(4);
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(row(&told[3]), "ann phone news/later 1 5 later one");
    until("the count of them", SOON, || Ok((fact(&redis, "one", "offline_messages") == "1").then_some(()))).unwrap();
}

fn denials_are_told_of(version: MosquittoVersion) {
    let stack = Stack::start(version, "auth_opt_node one\n");
    let redis = &stack.redis;
    redis.user("ann", &[("a", "prs")]);
    let mut ann = stack.client("ann", "ann");
    assert!(!publishes(&mut ann, "elsewhere"));
    assert!(!subscribes(&mut ann, "#"));
    assert_ne!(stack.code(&connect(Protocol::V5, "ann", "x").login("ann", "wrong")), 0);
    let denied = until("denials to be told of", SOON, || {
        let denied: Vec<Fields> = entries(redis, "midge:events").into_iter().filter(|event| event["event"] == "denied").collect();
        Ok(Some(denied).filter(|denied| denied.len() >= 3))
    })
    .unwrap();
    let get = |event: &Fields, name: &str| event.get(name).cloned().unwrap_or_else(|| "-".to_owned());
    let rows: BTreeSet<String> =
        denied.iter().map(|event| ["access", "user", "client", "topic", "node"].map(|name| get(event, name)).join(" ")).collect();
    let expected = ["publish ann ann elsewhere one", "subscribe ann ann # one", "login ann x - one"];
    assert_eq!(rows, expected.map(str::to_owned).into_iter().collect());
    assert!(denied.iter().all(|event| !event["reason"].is_empty()));
}

fn two_of_one_name_are_noticed(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let mut brokers = [start(version, &redis, "one", ""), start(version, &redis, "one", "")];
    let clients = [client(&brokers[0], "ann", "first"), client(&brokers[1], "ann", "second")];
    for broker in &mut brokers {
        broker.process().wait_log("another broker calls itself \"one\" as well", SOON).unwrap();
    }
    // They don't take each other's clients away.
    shows(&redis, "ann", &[("first", "one"), ("second", "one")]);
    drop(clients);
    shows(&redis, "ann", &[]);
    let [mut first, second] = brokers;
    drop(second);
    // A restart is no second one.
    first.stop().unwrap();
    let noticed = first.log().matches("another broker").count();
    first.start_again().unwrap();
    let back = client(&first, "ann", "back");
    shows(&redis, "ann", &[("back", "one")]);
    until("some beats", SOON, || Ok((fact(&redis, "one", "online") == "1").then_some(()))).unwrap();
    let since = fact(&redis, "one", "at");
    until("further ones", SOON, || Ok((fact(&redis, "one", "at") > since).then_some(()))).unwrap();
    assert_eq!(first.log().matches("another broker").count(), noticed, "{}", first.log());
    drop(back);
}

fn each_listener_has_its_own_clients(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let plugin = format!("auth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_node one\n{CALM}", redis.url());
    let text = format!("per_listener_settings true\nlistener {{port}} 127.0.0.1\n{plugin}listener {{second}} 127.0.0.1\n{plugin}");
    let broker = Mosquitto::builder(version).config(&text).port("second").start().unwrap();
    let first = RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "first")).unwrap();
    let second = RawClient::connect(broker.named_port("second").unwrap(), &connect(Protocol::V5, "ann", "second")).unwrap();
    shows(&redis, "ann", &[("first", "one"), ("second", "one#2")]);
    drop((first, second));
    shows(&redis, "ann", &[]);
}

#[test]
fn in_a_cluster_all_of_it_works() {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let hosts: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis+cluster://{}", hosts.join(","));
    let run = |command: &[&str]| cluster.nodes.iter().find_map(|node| node.cli(command).ok()).unwrap();
    let users = ["ann", "bob", "cat", "dan", "eve", "fay"];
    for user in users {
        run(&["HSET", &format!("midge:user:{{{user}}}"), "password", "{plain}secret"]);
    }
    let start = |node: &str| broker(MosquittoVersion::V2_0_21, &url, &format!("{CALM}auth_opt_node {node}\n"));
    let (mut one, two) = (start("one"), start("two"));
    let mut clients: Vec<RawClient> = users.iter().map(|user| client(&one, user, &format!("of-{user}"))).collect();
    clients.extend(users.iter().map(|user| client(&two, user, &format!("at-{user}"))));
    let counts = |expected: &str| {
        until(&format!("each to have {expected} online"), LATER, || {
            let all = users.iter().all(|user| run(&["HLEN", &format!("midge:online:{{{user}}}")]) == expected);
            Ok(all.then_some(()))
        })
        .unwrap();
    };
    counts("2");
    one.kill().unwrap();
    counts("1");
    let lost = || run(&["XRANGE", "midge:events", "-", "+"]).lines().filter(|line| *line == "lost").count();
    until("their loss to be told of", SOON, || Ok((lost() == users.len()).then_some(()))).unwrap();
    drop(clients);
    counts("0");
    assert_eq!(lost(), users.len());
    assert_eq!(run(&["XRANGE", "midge:events", "-", "+"]).lines().filter(|line| *line == "closed").count(), users.len());
}
