//! The store fails over, freezes, or is away meanwhile.
//!
//! Who is connected notices nothing, what is queued stays queued, and what changed meanwhile acts afterwards.

use std::time::Instant;

use midge_testkit::{
    Connect, FaultProxy, Mode, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisSentinel, RedisVersion, stall, until,
};

use crate::support::{
    Figures, Policy, SOON, before, broker, builder, code, connect, delivered, on_every_broker, publishes, store, subscribes,
    user_key,
};

on_every_broker!(
    a_failover_is_not_noticed,
    a_frozen_store_is_not_noticed,
    a_broker_that_restarts_meanwhile_keeps_what_is_queued,
    what_changed_meanwhile_acts_afterwards,
    what_was_known_to_be_refused_stays_refused,
);

const QUEUED: usize = 100;
const UNSHIELDED: &str = "auth_opt_shield_user_attempts 0\nauth_opt_shield_address_attempts 0\n";

/// Adds `ann`, who hears what `bob` says.
fn people(redis: &impl Policy) {
    redis.user("ann", &[("room/#", "rs"), ("end", "rs")]);
    redis.user("bob", &[("room/#", "p"), ("end", "p")]);
}

fn login(broker: &Mosquitto, login: &Connect) -> RawClient {
    until("to be let in", SOON, || {
        let (client, code) = RawClient::try_connect(broker.port(), login)?;
        Ok((code == 0).then_some(client))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {login:?}:\n{}", broker.log()))
}

/// Who was there before the outage.
struct Crowd {
    ann: RawClient,
    bob: RawClient,
    phone: Connect,
}

impl Crowd {
    /// Lets everybody in, and leaves an offline session behind.
    fn gather(broker: &Mosquitto, protocol: Protocol) -> Self {
        let mut ann = login(broker, &connect(protocol, "ann", "ann"));
        let bob = login(broker, &connect(protocol, "bob", "bob"));
        let phone = connect(protocol, "ann", "phone").persistent();
        let mut offline = login(broker, &phone);
        for client in [&mut ann, &mut offline] {
            assert!(subscribes(client, "room/#") && subscribes(client, "end"));
        }
        offline.disconnect().unwrap();
        Self { ann, bob, phone }
    }

    /// Queues messages for the offline session while the live one hears them, and returns what that heard.
    fn talk(&mut self) -> Vec<String> {
        let topics: Vec<String> = (0..QUEUED).map(|number| format!("room/{number}")).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        delivered(&mut self.bob, &mut self.ann, &topics, "end")
    }

    /// Everything that must go on during an outage.
    fn check(&mut self, broker: &Mosquitto, title: &str) {
        let expected: Vec<String> = (0..QUEUED).map(|number| format!("room/{number}")).collect();
        assert_eq!(self.talk(), expected, "{title}");
        let start = Instant::now();
        let (codes, stall) = stall(&mut self.ann, || {
            let strangers = (0..5).map(|number| code(broker.port(), &connect(Protocol::V5, &format!("new{number}"), "new")));
            strangers.collect::<Vec<_>>()
        })
        .unwrap();
        assert!(codes.iter().all(|code| *code != 0), "{title}: {codes:?}");
        println!("{title}: longest stall {:?}, five strangers in {:?}", stall.worst, start.elapsed());
        assert!(stall.worst.as_secs() < 3, "{title}: {stall:?}");
        let mut phone = RawClient::connect(broker.port(), &self.phone).unwrap_or_else(|error| panic!("{title}: {error:#}"));
        let queued: Vec<String> = before(&mut phone, "end").into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(queued, expected, "{title}: what was queued");
        assert_eq!(delivered(&mut self.bob, &mut phone, &["room/live"], "end"), ["room/live"], "{title}");
        assert_eq!(before(&mut self.ann, "end").len(), 1, "{title}: the live one hears it too");
        phone.disconnect().unwrap();
        assert_eq!(code(broker.port(), &connect(Protocol::V5, "ann", "another")), 0, "{title}");
    }
}

fn a_failover_is_not_noticed(version: MosquittoVersion) {
    let redis = if version == MosquittoVersion::V2_0_21 { RedisVersion::Valkey8 } else { RedisVersion::Redis7 };
    let mut group = RedisSentinel::start(redis, 1).unwrap();
    people(&group.master);
    let url = format!("redis+sentinel://127.0.0.1:{}/{}", group.ports()[0], RedisSentinel::NAME);
    let mut broker = broker(version, &url, UNSHIELDED);
    broker.process().wait_log("following changes", SOON).unwrap();
    let mut crowd = Crowd::gather(&broker, Protocol::V5);
    until("the replica to have all", SOON, || {
        Ok((group.replica.cli(&["EXISTS", &user_key("ann"), &user_key("bob")])? == "2").then_some(()))
    })
    .unwrap();
    group.master.crash().unwrap();
    crowd.check(&broker, &format!("{} without a master", version.label()));
    group.fail_over().unwrap();
    crowd.check(&broker, &format!("{} failed over", version.label()));
    group.replica.set("bob", "enabled", "0");
    crowd.bob.closed(SOON).unwrap_or_else(|error| panic!("{error:#}:\n{}", broker.log()));
    group.replica.user("new", &[]);
    login(&broker, &connect(Protocol::V5, "new", "new"));
}

fn a_frozen_store_is_not_noticed(version: MosquittoVersion) {
    let mut redis = store(version);
    people(&redis);
    let mut broker = broker(version, &redis.url(), UNSHIELDED);
    broker.process().wait_log("following changes", SOON).unwrap();
    let mut crowd = Crowd::gather(&broker, Protocol::V3_1_1);
    redis.pause().unwrap();
    crowd.check(&broker, &format!("{} frozen", version.label()));
    redis.resume().unwrap();
    redis.user("new", &[]);
    login(&broker, &connect(Protocol::V5, "new", "new"));
    redis.set("bob", "enabled", "0");
    crowd.bob.closed(SOON).unwrap();
}

fn a_broker_that_restarts_meanwhile_keeps_what_is_queued(version: MosquittoVersion) {
    let redis = store(version);
    people(&redis);
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let options = format!("{UNSHIELDED}persistence true\npersistence_location {{dir}}/\n");
    for mode in [Mode::Refuse, Mode::BlackHole] {
        let mut broker = builder(version, &url, &options).start().unwrap();
        broker.process().wait_log("following changes", SOON).unwrap();
        let mut crowd = Crowd::gather(&broker, Protocol::V5);
        let heard = crowd.talk();
        proxy.set(mode).unwrap();
        broker.stop().unwrap();
        broker.start_again().unwrap();
        assert_ne!(code(broker.port(), &crowd.phone), 0, "nobody is known yet");
        proxy.set(Mode::Pass).unwrap();
        let mut bob = login(&broker, &connect(Protocol::V5, "bob", "bob"));
        // Before she has logged in to this run of the broker.
        assert!(publishes(&mut bob, "room/later") && publishes(&mut bob, "room/last"));
        let mut phone = login(&broker, &crowd.phone);
        let mut topics = Vec::new();
        while topics.last().is_none_or(|topic| topic != "room/last") {
            topics.push(phone.message(SOON).unwrap().unwrap_or_else(|| panic!("{topics:?}:\n{}", broker.log())).text().0);
        }
        let expected: Vec<&str> = heard.iter().map(String::as_str).chain(["end", "room/later", "room/last"]).collect();
        assert_eq!(topics, expected, "{mode:?}");
    }
}

fn what_changed_meanwhile_acts_afterwards(version: MosquittoVersion) {
    for mode in [Mode::Refuse, Mode::BlackHole, Mode::Reset] {
        let redis = store(version);
        people(&redis);
        redis.user("gone", &[("room/#", "p")]);
        let proxy = FaultProxy::start(redis.port()).unwrap();
        let mut broker = broker(version, &format!("redis://127.0.0.1:{}", proxy.port()), UNSHIELDED);
        broker.process().wait_log("following changes", SOON).unwrap();
        let mut crowd = Crowd::gather(&broker, Protocol::V5);
        let mut gone = login(&broker, &connect(Protocol::V5, "gone", "gone"));
        proxy.set(mode).unwrap();
        redis.run(&["DEL", &user_key("gone")]);
        redis.rule("bob", "room/#", "!p");
        redis.rule("bob", "new", "p");
        redis.run(&["SET", "midge:ban:{client:ann}", "meanwhile"]);
        assert!(publishes(&mut crowd.bob, "room/x") && publishes(&mut gone, "room/x"));
        proxy.set(Mode::Pass).unwrap();
        let mut figures = Figures::default();
        figures.until("a rule that went", || !publishes(&mut crowd.bob, "room/x"));
        figures.until("a rule that came", || publishes(&mut crowd.bob, "new"));
        gone.closed(SOON).unwrap();
        crowd.ann.closed(SOON).unwrap();
        figures.print(&format!("{} {mode:?}", version.label()));
    }
}

fn what_was_known_to_be_refused_stays_refused(version: MosquittoVersion) {
    let redis = store(version);
    people(&redis);
    redis.user("off", &[]);
    redis.set("off", "enabled", "0");
    redis.run(&["SET", "midge:ban:{client:stolen}", "stolen"]);
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let mut broker = broker(version, &format!("redis://127.0.0.1:{}", proxy.port()), UNSHIELDED);
    broker.process().wait_log("following changes", SOON).unwrap();
    let mut crowd = Crowd::gather(&broker, Protocol::V5);
    let wrong = Connect::new(Protocol::V5, "c").login("ann", "wrong");
    let refused =
        [connect(Protocol::V5, "off", "c"), connect(Protocol::V5, "ann", "stolen"), wrong, Connect::new(Protocol::V5, "nobody")];
    for mode in [Mode::Pass, Mode::Refuse, Mode::BlackHole] {
        proxy.set(mode).unwrap();
        for connect in &refused {
            assert_ne!(code(broker.port(), connect), 0, "{mode:?} {connect:?}");
        }
        login(&broker, &connect(Protocol::V5, "ann", "c"));
        assert!(publishes(&mut crowd.bob, "room/x") && !publishes(&mut crowd.bob, "other"));
    }
}
