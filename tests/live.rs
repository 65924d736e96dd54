//! What live clients may no longer do, and never again unasked.
//!
//! A right that comes back brings no old subscription with it, and a changed password brings nobody back in.

use midge_core::password::HashPolicy;
use midge_testkit::{Connect, FaultProxy, Mode, MosquittoVersion, Protocol};

use crate::support::{
    CALM, Figures, NO_SUBSCRIBERS, PROTOCOLS, Policy, SOON, Stack, broker, code, connect, delivered, on_every_broker, publishes,
    store, subscribes, user_key,
};

on_every_broker!(a_right_that_comes_back_subscribes_nobody, a_changed_password_keeps_the_client_and_ends_the_old_one);

fn a_right_that_comes_back_subscribes_nobody(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    let redis = &stack.redis;
    redis.user("ann", &[("end", "prs")]);
    redis.set("ann", "groups", "staff");
    redis.user("bob", &[("#", "p")]);
    let own = format!("{}:acl", user_key("ann"));
    let mut figures = Figures::default();
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let mut ann = stack.connect(&connect(protocol, "ann", "ann"));
        let mut probe = stack.client("ann", "probe");
        assert!(subscribes(&mut ann, "end"));
        for (key, topic) in [(own.as_str(), "own/x"), ("midge:group:{staff}:acl", "group/x"), ("midge:all:acl", "all/x")] {
            let filter = topic.replace('x', "#");
            redis.run(&["HSET", key, &filter, "prs"]);
            figures.until(&format!("{key}: rule added"), || subscribes(&mut ann, &filter));
            assert_eq!(delivered(&mut bob, &mut ann, &[topic], "end"), [topic], "{key}");
            redis.run(&["HDEL", key, &filter]);
            figures.until(&format!("{key}: rule removed, delivery"), || delivered(&mut bob, &mut ann, &[topic], "end").is_empty());
            if version == MosquittoVersion::V2_1_2 {
                // Until the next tick the broker has the subscription, and nobody takes it away if the rule is back by then.
                figures.until(&format!("{key}: rule removed, subscription"), || {
                    bob.publish(topic, b"x", 1, false).unwrap() == NO_SUBSCRIBERS
                });
            }
            redis.run(&["HSET", key, &filter, "prs"]);
            figures.until(&format!("{key}: rule back"), || publishes(&mut probe, topic));
            assert!(delivered(&mut bob, &mut ann, &[topic], "end").is_empty(), "{protocol:?} {key}: nobody has subscribed again");
            if version == MosquittoVersion::V2_1_2 {
                assert_eq!(bob.publish(topic, b"x", 1, false).unwrap(), NO_SUBSCRIBERS, "{key}");
            }
            assert!(subscribes(&mut ann, &filter));
            assert_eq!(delivered(&mut bob, &mut ann, &[topic], "end"), [topic], "{key}");
            redis.run(&["HDEL", key, &filter]);
            figures.until(&format!("{key}: rule removed, publish"), || !publishes(&mut probe, topic));
            // What the probe sent before that was on its way to her.
            delivered(&mut bob, &mut ann, &[], "end");
        }
        ann.ping(SOON).unwrap();
    }
    figures.within_a_second(version.label());
}

/// The passwords are hashed, so that the logins before the change are remembered ones.
fn a_changed_password_keeps_the_client_and_ends_the_old_one(version: MosquittoVersion) {
    let redis = store(version);
    let hashed = |password: &str| HashPolicy::argon2id(64, 1, 1).unwrap().hash(password.as_bytes()).unwrap();
    redis.user("ann", &[("x", "prs")]);
    redis.set("ann", "password", &hashed("0"));
    let proxy = FaultProxy::start(redis.port()).unwrap();
    let mut broker = broker(version, &format!("redis://127.0.0.1:{}", proxy.port()), CALM);
    broker.process().wait_log("following changes", SOON).unwrap();
    let login = |password: &str| Connect::new(Protocol::V5, "late").login("ann", password);
    let mut live = midge_testkit::RawClient::connect(broker.port(), &Connect::new(Protocol::V5, "live").login("ann", "0")).unwrap();
    let mut figures = Figures::default();
    for (old, new) in [("0", "1"), ("1", "2"), ("2", "0")] {
        for _ in 0..3 {
            assert_eq!(code(broker.port(), &login(old)), 0, "{old}");
        }
        redis.set("ann", "password", &hashed(new));
        figures.until("old password refused", || code(broker.port(), &login(old)) != 0);
        assert_eq!(code(broker.port(), &login(new)), 0, "{new}");
        for mode in [Mode::Refuse, Mode::Pass] {
            proxy.set(mode).unwrap();
            assert_ne!(code(broker.port(), &login(old)), 0, "{mode:?}: {old} after {new}");
            assert_eq!(code(broker.port(), &login(new)), 0, "{mode:?}: {new}");
            assert!(publishes(&mut live, "x"), "{mode:?}");
        }
        // A change counts within a second only of a store that is heard.
        redis.set("ann", "superuser", "true");
        figures.until("the store is heard again", || publishes(&mut live, "other"));
        redis.set("ann", "superuser", "false");
        figures.until("and again", || !publishes(&mut live, "other"));
    }
    figures.print(version.label());
}
