//! What clients notice while Redis is away: nothing.
//!
//! Connected clients go on, queued messages stay queued, who is known gets in, who isn't doesn't, and the broker's thread
//! never stands still for longer than one login's deadline.

use std::time::Duration;

use midge_testkit::{
    Connect, FaultProxy, Mode, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisCluster, RedisServer, RedisVersion, plugin,
    stall, until,
};

use crate::support::on_every_broker;

on_every_broker!(
    a_flushed_redis_is_not_noticed_and_heals,
    a_silent_redis_at_the_start_is_waited_for_by_nobody,
    a_cluster_without_one_of_its_masters_is_not_noticed,
);

const SOON: Duration = Duration::from_secs(30);
/// Many times the deadline of 250 ms, for a busy machine.
const NO_STALL: Duration = Duration::from_secs(2);
const QUEUED: usize = 50;

struct Site {
    broker: Mosquitto,
    redis: RedisServer,
    proxy: FaultProxy,
}

impl Site {
    fn start(version: MosquittoVersion) -> Self {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        ["ann", "bob", "cat"].iter().for_each(|name| add(&redis, name));
        let proxy = FaultProxy::start(redis.port()).unwrap();
        let broker = broker(version, proxy.port());
        wait_log(&broker, "following changes");
        Self { broker, redis, proxy }
    }

    fn try_login(&self, protocol: Protocol, id: &str, name: &str) -> (RawClient, u8) {
        RawClient::try_connect(self.broker.port(), &Connect::new(protocol, id).login(name, "p")).unwrap()
    }

    fn client(&self, connect: &Connect) -> RawClient {
        until("to be let in", SOON, || {
            let (client, code) = RawClient::try_connect(self.broker.port(), connect)?;
            Ok((code == 0).then_some(client))
        })
        .unwrap()
    }
}

fn broker(version: MosquittoVersion, redis: u16) -> Mosquitto {
    broker_over(version, &format!("redis://127.0.0.1:{redis}"))
}

fn broker_over(version: MosquittoVersion, store: &str) -> Mosquitto {
    let plugin = plugin().unwrap();
    let store = format!("auth_plugin {}\nauth_opt_store {store}\n", plugin.display());
    let text = format!("listener {{port}} 127.0.0.1\nallow_anonymous false\n{store}");
    Mosquitto::builder(version).config(&text).start().unwrap()
}

fn wait_log(broker: &Mosquitto, text: &str) {
    until(text, SOON, || Ok(broker.log().contains(text).then_some(()))).unwrap();
}

fn login(id: &str, name: &str) -> Connect {
    Connect::new(Protocol::V3_1_1, id).login(name, "p")
}

/// Returns the payloads that come before one of `end`, which is sent now.
fn until_end(sender: &mut RawClient, receiver: &mut RawClient) -> Vec<String> {
    sender.publish("chat/room", b"end", 1, false).unwrap();
    let mut payloads = Vec::new();
    loop {
        let (_, payload) = receiver.message(SOON).unwrap().expect("the last message comes").text();
        if payload == "end" {
            return payloads;
        }
        payloads.push(payload);
    }
}

/// Has everything happen that must go on during the outage that `begin` begins.
fn check(version: MosquittoVersion, what: &str, begin: impl FnOnce(&mut Site)) -> Site {
    let mut site = Site::start(version);
    let mut ann = site.client(&login("ann-live", "ann"));
    let mut bob = site.client(&login("bob-live", "bob"));
    ann.subscribe(&[("chat/#", 1)]).unwrap();
    let mut phone = site.client(&login("phone", "ann").persistent());
    phone.subscribe(&[("chat/#", 1)]).unwrap();
    phone.disconnect().unwrap();
    begin(&mut site);
    for number in 0..QUEUED {
        bob.publish("chat/room", format!("{number}").as_bytes(), 1, false).unwrap();
    }
    let expected: Vec<String> = (0..QUEUED).map(|number| number.to_string()).collect();
    let heard = until_end(&mut bob, &mut ann);
    assert_eq!(heard, expected, "{version:?} {what}");
    site.broker.reload().unwrap();
    for (name, client) in [("ann", &mut ann), ("bob", &mut bob)] {
        client
            .ping(SOON)
            .unwrap_or_else(|error| panic!("{version:?} {what}: {name} after a reload: {error}\n{}", site.broker.log()));
    }
    let (codes, stall) =
        stall(&mut bob, || ["nobody", "stranger", "guest"].map(|name| site.try_login(Protocol::V3_1_1, name, name).1)).unwrap();
    assert!(codes.iter().all(|code| *code != 0), "{version:?} {what}: {codes:?}");
    assert!(stall.worst < NO_STALL, "{version:?} {what}: {stall:?}");
    println!("{version:?} {what}: longest wait of a connected client {:?}", stall.worst);
    let mut phone = site.client(&login("phone", "ann").persistent());
    // Up to the end that the live client was sent.
    assert_eq!(until_end(&mut bob, &mut phone), expected, "{version:?} {what}: what was queued");
    let (_, code) = site.try_login(Protocol::V5, "ann-new", "ann");
    assert_eq!(code, 0, "{version:?} {what}: a known user is not let in");
    ann.ping(SOON).unwrap();
    site
}

/// Changes made behind the outage's back act once it is over.
fn check_healing(site: &Site, version: MosquittoVersion, what: &str) {
    site.redis.cli(&["HSET", "midge:user:{bob}", "enabled", "0"]).unwrap();
    until("the change to act", SOON, || Ok((site.try_login(Protocol::V3_1_1, "bob-late", "bob").1 != 0).then_some(()))).unwrap();
    assert_eq!(site.try_login(Protocol::V3_1_1, "ann-late", "ann").1, 0, "{version:?} {what}");
}

#[test]
fn a_redis_that_refuses_is_not_noticed() {
    for version in MosquittoVersion::ALL {
        let site = check(version, "refused", |site| site.proxy.set(Mode::Refuse).unwrap());
        site.proxy.set(Mode::Pass).unwrap();
        check_healing(&site, version, "refused");
    }
}

#[test]
fn a_black_hole_is_not_noticed() {
    for version in MosquittoVersion::ALL {
        let site = check(version, "black hole", |site| site.proxy.set(Mode::BlackHole).unwrap());
        site.proxy.set(Mode::Pass).unwrap();
        check_healing(&site, version, "black hole");
    }
}

#[test]
fn a_slow_redis_is_not_noticed() {
    for version in MosquittoVersion::ALL {
        let site = check(version, "2 s slow", |site| site.proxy.set(Mode::Delay(Duration::from_secs(2))).unwrap());
        site.proxy.set(Mode::Pass).unwrap();
        check_healing(&site, version, "2 s slow");
    }
}

#[test]
fn a_redis_that_comes_back_empty_is_not_noticed() {
    for version in MosquittoVersion::ALL {
        let site = check(version, "restarted empty", |site| {
            site.redis.restart_empty().unwrap();
            wait_log(&site.broker, "lost all users and rules");
        });
        assert!(site.broker.log().contains("lost all users and rules"), "{version:?}");
    }
}

#[test]
fn a_start_without_redis_opens_the_listeners_and_heals() {
    for version in MosquittoVersion::ALL {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}p"]).unwrap();
        let proxy = FaultProxy::start(redis.port()).unwrap();
        proxy.set(Mode::Refuse).unwrap();
        let broker = broker(version, proxy.port());
        let (_, code) = RawClient::try_connect(broker.port(), &login("ann", "ann")).unwrap();
        assert_ne!(code, 0, "{version:?}");
        proxy.set(Mode::Pass).unwrap();
        until("ann to be let in", SOON, || Ok((RawClient::try_connect(broker.port(), &login("ann", "ann"))?.1 == 0).then_some(())))
            .unwrap();
    }
}

fn a_flushed_redis_is_not_noticed_and_heals(version: MosquittoVersion) {
    let site = check(version, "flushed", |site| {
        // Known, but with no client any more.
        site.client(&login("cat", "cat"));
        site.redis.cli(&["FLUSHALL"]).unwrap();
        wait_log(&site.broker, "lost all users and rules");
    });
    // Who is written again counts at once, and who isn't, from when the store is filled.
    check_healing(&site, version, "flushed");
    let (_, code) = site.try_login(Protocol::V5, "cat", "cat");
    assert_eq!(code, 0, "{version:?}: the store is still being filled:\n{}", site.broker.log());
    site.redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}p"]).unwrap();
    wait_log(&site.broker, "users and rules again");
    until("cat to be gone", SOON, || Ok((site.try_login(Protocol::V5, "cat", "cat").1 != 0).then_some(()))).unwrap();
    assert_eq!(site.try_login(Protocol::V5, "ann-late", "ann").1, 0, "{version:?}");
}

fn a_silent_redis_at_the_start_is_waited_for_by_nobody(version: MosquittoVersion) {
    for mode in [Mode::BlackHole, Mode::Delay(Duration::from_millis(700))] {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        for name in ["ann", "bob"] {
            redis.cli(&["HSET", &format!("midge:user:{{{name}}}"), "password", "{plain}p"]).unwrap();
        }
        let proxy = FaultProxy::start(redis.port()).unwrap();
        proxy.set(mode).unwrap();
        let broker = broker(version, proxy.port());
        let code = |id: &str, name: &str| RawClient::try_connect(broker.port(), &login(id, name)).unwrap().1;
        if mode == Mode::BlackHole {
            assert_ne!(code("early", "ann"), 0, "{version:?}");
            proxy.set(Mode::Pass).unwrap();
        }
        // A store that is merely slow is known in the end.
        until("ann to be let in", SOON, || Ok((code("ann", "ann") == 0).then_some(()))).unwrap();
        let (mut live, _) = RawClient::try_connect(broker.port(), &login("live", "ann")).unwrap();
        let (_, stall) = stall(&mut live, || code("bob", "bob")).unwrap();
        println!("{version:?} {mode:?}: longest wait of a connected client {:?}", stall.worst);
        assert!(stall.worst < NO_STALL, "{version:?} {mode:?}: {stall:?}");
    }
}

fn add(redis: &RedisServer, name: &str) {
    redis.cli(&["HSET", &format!("midge:user:{{{name}}}"), "password", "{plain}p"]).unwrap();
    redis.cli(&["HSET", &format!("midge:user:{{{name}}}:acl"), "chat/#", "prs"]).unwrap();
}

/// Adds `kind` users to each of the three servers of a cluster, one each, and returns their names in that order.
fn one_on_each(cluster: &RedisCluster, kind: &str) -> Vec<String> {
    let mut names = vec![None; cluster.nodes.len()];
    for name in (0..).map(|n| format!("{kind}{n}")) {
        let key = format!("midge:user:{{{name}}}");
        let slot: usize = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &key]).unwrap().parse().unwrap();
        let owner = slot * cluster.nodes.len() / 16_384;
        if names[owner].is_none() {
            add(&cluster.nodes[owner], &name);
            names[owner] = Some(name);
        }
        if names.iter().all(Option::is_some) {
            break;
        }
    }
    names.into_iter().flatten().collect()
}

fn a_cluster_without_one_of_its_masters_is_not_noticed(version: MosquittoVersion) {
    type Change = fn(&mut RedisServer);
    let outages: [(&str, Change, Change); 3] = [
        ("frozen", |server| server.pause().unwrap(), |server| server.resume().unwrap()),
        ("stopped", |server| server.stop().unwrap(), |server| server.start().unwrap()),
        ("emptied", |server| server.crash().unwrap(), |server| server.restart_empty().unwrap()),
    ];
    for (what, down, up) in outages {
        let mut cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
        let (known, strangers) = (one_on_each(&cluster, "known"), one_on_each(&cluster, "stranger"));
        let hosts: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let broker = broker_over(version, &format!("redis+cluster://{}", hosts.join(",")));
        wait_log(&broker, "following changes");
        let code = |id: &str, name: &str| RawClient::try_connect(broker.port(), &login(id, name)).unwrap().1;
        let live = |name: &String| {
            let mut client = until("to be let in", SOON, || {
                let (client, code) = RawClient::try_connect(broker.port(), &login(name, name))?;
                Ok((code == 0).then_some(client))
            })
            .unwrap_or_else(|error| panic!("{version:?} {what}: {name}: {error:#}:\n{}", broker.log()));
            client.subscribe(&[("chat/#", 1)]).unwrap();
            client
        };
        let mut clients: Vec<RawClient> = known.iter().map(live).collect();
        down(&mut cluster.nodes[1]);
        wait_log(&broker, "the store can't be asked");
        let [first, second, third] = &mut clients[..] else { panic!("three are live") };
        first.publish("chat/room", b"hello", 1, false).unwrap();
        assert_eq!(until_end(first, second), ["hello"], "{version:?} {what}");
        let (codes, stall) = stall(third, || {
            let of = |names: &[String]| names.iter().map(|name| code(&format!("{name}-new"), name) == 0).collect::<Vec<_>>();
            (of(&known), of(&strangers))
        })
        .unwrap();
        assert_eq!(codes, (vec![true; 3], vec![false; 3]), "{version:?} {what}: known, and strangers\n{}", broker.log());
        assert!(stall.worst < NO_STALL, "{version:?} {what}: {stall:?}");
        up(&mut cluster.nodes[1]);
        cluster.wait_complete().unwrap();
        if what == "emptied" {
            wait_log(&broker, "has lost all users and rules");
            for client in &mut clients {
                client.publish("chat/room", b"still here", 1, false).unwrap();
            }
            [&known[1], &strangers[1]].iter().for_each(|name| add(&cluster.nodes[1], name));
        }
        for name in &strangers {
            until("a stranger to be let in", SOON, || Ok((code("late", name) == 0).then_some(()))).unwrap();
        }
        for ((name, node), client) in known.iter().zip(&cluster.nodes).zip(&mut clients) {
            node.cli(&["HSET", &format!("midge:user:{{{name}}}"), "enabled", "0"]).unwrap();
            client.closed(SOON).unwrap_or_else(|error| panic!("{version:?} {what}: {name} is still there: {error:#}"));
        }
    }
}
