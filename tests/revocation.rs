//! Changes in the store act on live clients.
//!
//! Whoever writes them, `redis-cli` here, and on every Mosquitto; how long each took is printed.

use std::time::Instant;

use midge_testkit::{Connect, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion};

use crate::support::{
    Figures, NO_SUBSCRIBERS, NOT_AUTHORIZED, PROTOCOLS, Policy, SOON, Stack, before, connect, delivered, on_every_broker,
    publishes, subscribes, user_key,
};

on_every_broker!(
    rules_act_on_publishes_and_deliveries,
    a_held_subscription_is_withdrawn,
    groups_and_everyone_count,
    who_loses_the_account_is_disconnected,
    the_last_user_is_no_exception,
    bans_disconnect,
    superusers_come_and_go,
    a_persistent_session_loses_its_rights_too,
    rules_that_go_while_nobody_may_connect_are_gone_after,
    a_new_session_inherits_no_filters,
    each_way_to_follow_changes_serves,
);

/// Waits until a publish to `topic` is answered that way.
fn publish_until(figures: &mut Figures, what: &str, client: &mut RawClient, topic: &str, allowed: bool) {
    figures.until(what, || publishes(client, topic) == allowed);
}

/// Waits until what `from` sends to `topic` reaches `to`, or doesn't; `end` always does.
fn delivery_until(figures: &mut Figures, what: &str, ends: (&mut RawClient, &mut RawClient), topic: &str, arrives: bool) {
    let (from, to) = ends;
    figures.until(what, || delivered(from, to, &[topic], "end").is_empty() != arrives);
}

/// Runs one command, and waits until the client is cut off.
fn cut(figures: &mut Figures, stack: &Stack, client: &mut RawClient, command: &[&str]) {
    let start = Instant::now();
    stack.redis.run(command);
    let start = start.max(Instant::now().checked_sub(start.elapsed() / 2).unwrap());
    client.closed(SOON).unwrap_or_else(|error| panic!("{command:?}: {error:#}:\n{}", stack.broker.log()));
    figures.note(&command.join(" "), start);
}

fn rules_act_on_publishes_and_deliveries(version: MosquittoVersion) {
    for redis in [RedisVersion::Redis7, RedisVersion::Valkey8] {
        let stack = Stack::over(RedisServer::builder(redis).start().unwrap(), version, "");
        let redis = &stack.redis;
        redis.user("ann", &[("end", "prs"), ("r", "s")]);
        redis.user("bob", &[("#", "p")]);
        for protocol in PROTOCOLS {
            let mut figures = Figures::default();
            let mut ann = stack.client("ann", "ann");
            let mut hears = stack.connect(&connect(protocol, "ann", "hears"));
            let mut bob = stack.client("bob", "bob");
            assert_eq!(hears.subscribe(&[("r", 1), ("end", 1)]).unwrap(), [1, 1]);
            for round in 0..3 {
                redis.rule("ann", "t/#", "p");
                publish_until(&mut figures, "rule added, publish", &mut ann, "t/x", true);
                redis.rule("ann", "t/x", "!p");
                publish_until(&mut figures, "denial added, publish", &mut ann, "t/x", false);
                redis.no_rule("ann", "t/x");
                publish_until(&mut figures, "denial removed, publish", &mut ann, "t/x", true);
                redis.run(&["DEL", "midge:user:{ann}:acl"]);
                publish_until(&mut figures, "rules deleted, publish", &mut ann, "t/x", false);
                redis.run(&["HSET", "midge:user:{ann}:acl", "end", "prs", "r", "s"]);
                publish_until(&mut figures, "rules back, publish", &mut ann, "end", true);
                drop(hears);
                hears = stack.connect(&connect(protocol, "ann", &format!("hears{round}")));
                assert_eq!(hears.subscribe(&[("r", 1), ("end", 1)]).unwrap(), [1, 1]);
                redis.rule("ann", "r", "rs");
                delivery_until(&mut figures, "rule added, delivery", (&mut bob, &mut hears), "r", true);
                redis.rule("ann", "r", "s");
                delivery_until(&mut figures, "rule narrowed, delivery", (&mut bob, &mut hears), "r", false);
                redis.rule("ann", "r/#", "!r");
                redis.rule("ann", "r", "rs");
                redis.no_rule("ann", "r/#");
                delivery_until(&mut figures, "last of three changes, delivery", (&mut bob, &mut hears), "r", true);
                redis.rule("ann", "r", "s");
                delivery_until(&mut figures, "rule narrowed again, delivery", (&mut bob, &mut hears), "r", false);
            }
            figures.within_a_second(version.label());
        }
    }
}

fn a_held_subscription_is_withdrawn(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    let redis = &stack.redis;
    redis.user("ann", &[("held/#", "rs"), ("end", "prs")]);
    redis.user("bob", &[("held/#", "p"), ("end", "p")]);
    let mut figures = Figures::default();
    for protocol in PROTOCOLS {
        let mut ann = stack.connect(&connect(protocol, "ann", "ann"));
        let mut bob = stack.client("bob", "bob");
        for share in ["", "$share/team/"] {
            let filter = format!("{share}held/#");
            assert!(subscribes(&mut ann, "end") && subscribes(&mut ann, &filter));
            assert_eq!(delivered(&mut bob, &mut ann, &["held/x"], "end"), ["held/x"], "{filter}");
            // She may still receive: it is the subscription that she loses.
            redis.rule("ann", "held/#", "r");
            delivery_until(&mut figures, "subscription withdrawn", (&mut bob, &mut ann), "held/x", false);
            if version == MosquittoVersion::V2_1_2 {
                assert_eq!(bob.publish("held/x", b"x", 1, false).unwrap(), NO_SUBSCRIBERS, "{filter}");
            }
            assert!(!subscribes(&mut ann, &filter));
            redis.rule("ann", "held/#", "rs");
            figures.until("subscription allowed again", || subscribes(&mut ann, &filter));
            assert_eq!(delivered(&mut bob, &mut ann, &["held/x"], "end"), ["held/x"], "{filter}");
            assert!(ann.unsubscribe(&[&filter]).unwrap().iter().all(|code| *code == 0));
        }
        ann.ping(SOON).unwrap();
    }
    // Of a session that goes on it is withheld in the next connection too.
    let mut bob = stack.client("bob", "bob");
    let login = connect(Protocol::V5, "ann", "goes-on").persistent();
    let mut ann = stack.connect(&login);
    assert!(subscribes(&mut ann, "held/#") && subscribes(&mut ann, "end"));
    redis.rule("ann", "held/#", "r");
    delivery_until(&mut figures, "subscription withdrawn", (&mut bob, &mut ann), "held/x", false);
    let mut ann = stack.connect(&login);
    assert!(delivered(&mut bob, &mut ann, &["held/x"], "end").is_empty());
    // One of two overlapping subscriptions stays.
    redis.rule("ann", "wide/#", "rs");
    redis.rule("bob", "wide/#", "p");
    let mut ann = stack.client("ann", "overlap");
    let mut bob = stack.client("bob", "bob");
    figures.until("a wider rule", || subscribes(&mut ann, "wide/#") && publishes(&mut bob, "wide/x"));
    assert!(subscribes(&mut ann, "wide/x") && subscribes(&mut ann, "end"));
    redis.run(&["HSET", "midge:user:{ann}:acl", "wide/x", "rs", "wide/#", "r"]);
    delivery_until(&mut figures, "the wider one withdrawn", (&mut bob, &mut ann), "wide/y", false);
    let got = delivered(&mut bob, &mut ann, &["wide/x"], "end");
    assert!(!got.is_empty() && got.iter().all(|topic| topic == "wide/x"), "{got:?}");
    figures.within_a_second(version.label());
}

fn groups_and_everyone_count(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    let redis = &stack.redis;
    redis.user("ann", &[("end", "prs")]);
    redis.user("bob", &[("#", "p")]);
    redis.rule_for_all("hall", "rs");
    redis.rule_for_all("desk", "p");
    redis.group_rule("staff", "desk", "prs");
    let mut figures = Figures::default();
    let mut ann = stack.client("ann", "ann");
    let mut bob = stack.client("bob", "bob");
    assert!(subscribes(&mut ann, "hall") && subscribes(&mut ann, "end") && !subscribes(&mut ann, "desk"));
    redis.set("ann", "groups", "staff");
    figures.until("member of a group", || subscribes(&mut ann, "desk"));
    delivery_until(&mut figures, "member of a group, delivery", (&mut bob, &mut ann), "desk", true);
    redis.group_rule("staff", "desk", "!p");
    publish_until(&mut figures, "group denies", &mut ann, "desk", false);
    redis.run(&["DEL", "midge:group:{staff}:acl"]);
    publish_until(&mut figures, "group's rules deleted", &mut ann, "desk", true);
    delivery_until(&mut figures, "group's rules deleted, delivery", (&mut bob, &mut ann), "desk", false);
    redis.group_rule("staff", "new/#", "p");
    publish_until(&mut figures, "group's rules again", &mut ann, "new/x", true);
    redis.run(&["HDEL", &user_key("ann"), "groups"]);
    publish_until(&mut figures, "no member any more", &mut ann, "new/x", false);
    redis.rule_for_all("new/#", "p");
    publish_until(&mut figures, "everyone may", &mut ann, "new/x", true);
    redis.rule_for_all("end", "!s");
    redis.rule_for_all("hall", "!rs");
    figures.until("everyone is denied", || !subscribes(&mut ann, "hall"));
    redis.run(&["DEL", "midge:all:acl"]);
    publish_until(&mut figures, "everyone's rules deleted", &mut ann, "new/x", false);
    ann.ping(SOON).unwrap();
    figures.within_a_second(version.label());
}

fn who_loses_the_account_is_disconnected(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    let key = user_key("ann");
    let mut figures = Figures::default();
    stack.redis.user("bob", &[("#", "prs")]);
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let losses: [&[&str]; 6] = [
            &["DEL", &key],
            &["HSET", &key, "enabled", "0"],
            &["HSET", &key, "enabled", "perhaps"],
            &["HSET", &key, "client_id", "tablet*"],
            &["EVAL", "redis.call('DEL', KEYS[1]); redis.call('SET', KEYS[1], 'x')", "1", &key],
            &["PEXPIRE", &key, "20"],
        ];
        for command in losses {
            stack.redis.run(&["DEL", &key]);
            stack.redis.user("ann", &[("#", "prs")]);
            let login = connect(protocol, "ann", "phone");
            stack.code_until(&login, |code| code == 0);
            let mut ann = stack.connect(&login);
            let mut second = stack.connect(&connect(protocol, "ann", "phone2"));
            assert!(subscribes(&mut ann, "x"));
            cut(&mut figures, &stack, &mut ann, command);
            second.closed(SOON).unwrap();
            assert_ne!(stack.code(&login), 0, "{command:?}");
        }
    }
    assert!(publishes(&mut bob, "x"));
    // A user who comes back at once, or whose password alone changes, stays.
    stack.redis.run(&["DEL", &key]);
    stack.redis.user("ann", &[("#", "prs")]);
    stack.code_until(&connect(Protocol::V5, "ann", "phone"), |code| code == 0);
    let mut ann = stack.client("ann", "phone");
    stack.redis.set("ann", "password", "{plain}other");
    stack.code_until(&connect(Protocol::V5, "ann", "else"), |code| code != 0);
    assert_eq!(stack.code(&Connect::new(Protocol::V5, "else").login("ann", "other")), 0);
    ann.ping(SOON).unwrap();
    figures.within_a_second(version.label());
}

fn the_last_user_is_no_exception(version: MosquittoVersion) {
    for commands in [&[&["DEL", "midge:user:{ann}"][..]][..], &[&["DEL", "midge:user:{ann}:acl"], &["DEL", "midge:user:{ann}"]]] {
        let stack = Stack::start(version, "");
        stack.redis.user("ann", &[("x", "prs")]);
        let mut figures = Figures::default();
        let mut ann = stack.client("ann", "ann");
        for command in &commands[..commands.len() - 1] {
            stack.redis.run(command);
            publish_until(&mut figures, "rules deleted", &mut ann, "x", false);
        }
        cut(&mut figures, &stack, &mut ann, commands[commands.len() - 1]);
        assert_ne!(stack.code(&connect(Protocol::V5, "ann", "ann")), 0);
        figures.within_a_second(version.label());
    }
}

fn bans_disconnect(version: MosquittoVersion) {
    let stack = Stack::start(version, "auth_opt_anonymous allow\n");
    let redis = &stack.redis;
    redis.user("ann", &[("#", "prs")]);
    redis.user("bob", &[("#", "prs")]);
    let mut figures = Figures::default();
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let login = connect(protocol, "ann", "phone");
        for ban in ["user:ann", "client:phone"] {
            let key = format!("midge:ban:{{{ban}}}");
            stack.code_until(&login, |code| code == 0);
            let mut ann = stack.connect(&login);
            cut(&mut figures, &stack, &mut ann, &["SET", &key, "why", "EX", "3600"]);
            assert_ne!(stack.code(&login), 0, "{ban}");
            assert!(publishes(&mut bob, "x"), "{ban}");
            redis.run(&["DEL", &key]);
        }
        // The ban ends with its time to live.
        stack.code_until(&login, |code| code == 0);
        let mut ann = stack.connect(&login);
        cut(&mut figures, &stack, &mut ann, &["SET", "midge:ban:{user:ann}", "why", "PX", "1500"]);
        assert_ne!(stack.code(&login), 0);
        stack.code_until(&login, |code| code == 0);
    }
    for range in ["127.0.0.1", "127.0.0.0/8"] {
        let key = format!("midge:ban:{{ip:{range}}}");
        let login = connect(Protocol::V5, "bob", "bob");
        stack.code_until(&login, |code| code == 0);
        let mut bob = stack.connect(&login);
        let mut nobody = stack.connect(&Connect::new(Protocol::V5, "nobody"));
        cut(&mut figures, &stack, &mut bob, &["SET", &key, ""]);
        nobody.closed(SOON).unwrap();
        redis.run(&["DEL", &key]);
    }
    redis.run(&["SET", "midge:ban:{ip:192.0.2.0/24}", "elsewhere"]);
    stack.code_until(&connect(Protocol::V5, "bob", "bob"), |code| code == 0);
    figures.within_a_second(version.label());
}

fn superusers_come_and_go(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    stack.redis.user("ann", &[("end", "prs"), ("x", "!prs")]);
    stack.redis.user("bob", &[("#", "p")]);
    let mut figures = Figures::default();
    let mut ann = stack.client("ann", "ann");
    let mut bob = stack.client("bob", "bob");
    assert!(subscribes(&mut ann, "end") && !subscribes(&mut ann, "x"));
    for _ in 0..3 {
        stack.redis.set("ann", "superuser", "true");
        figures.until("superuser", || subscribes(&mut ann, "x") && publishes(&mut ann, "x"));
        before_end(&mut bob, &mut ann);
        delivery_until(&mut figures, "superuser, delivery", (&mut bob, &mut ann), "x", true);
        stack.redis.set("ann", "superuser", "false");
        publish_until(&mut figures, "no superuser any more", &mut ann, "x", false);
        delivery_until(&mut figures, "no superuser any more, delivery", (&mut bob, &mut ann), "x", false);
    }
    figures.within_a_second(version.label());
}

/// Takes from `client` all that is on its way.
fn before_end(from: &mut RawClient, client: &mut RawClient) {
    delivered(from, client, &[], "end");
}

fn a_persistent_session_loses_its_rights_too(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    stack.redis.user("ann", &[("keep", "rs"), ("lose", "rs"), ("end", "rs")]);
    stack.redis.user("bob", &[("#", "p")]);
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let login = connect(protocol, "ann", &format!("phone-{protocol:?}")).persistent();
        let mut figures = Figures::default();
        let mut ann = stack.connect(&login);
        assert_eq!(ann.subscribe(&[("keep", 1), ("lose", 1), ("end", 1)]).unwrap(), [1, 1, 1]);
        ann.disconnect().unwrap();
        for number in 0..50 {
            assert!(publishes(&mut bob, "keep"), "{number}");
        }
        // Logins that are refused take nothing from the queue, and what comes while nobody may hear it isn't kept.
        stack.redis.set("ann", "enabled", "0");
        stack.code_until(&login, |code| code != 0);
        assert!(publishes(&mut bob, "lose"));
        stack.redis.set("ann", "enabled", "1");
        stack.code_until(&connect(Protocol::V5, "ann", "other"), |code| code == 0);
        assert!(publishes(&mut bob, "end"));
        let mut ann = stack.connect(&login);
        let kept: Vec<String> = before(&mut ann, "end").into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(kept, ["keep"; 50], "{protocol:?}");
        // Kicked while connected, it keeps its subscriptions.
        cut(&mut figures, &stack, &mut ann, &["HSET", &user_key("ann"), "enabled", "0"]);
        stack.redis.set("ann", "enabled", "1");
        stack.code_until(&connect(Protocol::V5, "ann", "other"), |code| code == 0);
        assert!(publishes(&mut bob, "keep") && publishes(&mut bob, "end"));
        let mut ann = stack.connect(&login);
        assert_eq!(before(&mut ann, "end").len(), 1, "{protocol:?}");
        // Offline, a rule is taken: what was queued under it doesn't come.
        ann.disconnect().unwrap();
        assert_ne!(bob.publish("lose", b"queued", 1, false).unwrap(), NOT_AUTHORIZED);
        assert!(publishes(&mut bob, "keep"));
        stack.redis.run(&["HDEL", "midge:user:{ann}:acl", "lose"]);
        let mut probe = stack.client("ann", "probe");
        figures.until("rule gone", || !subscribes(&mut probe, "lose"));
        for topic in ["lose", "keep", "end"] {
            assert!(publishes(&mut bob, topic));
        }
        let mut ann = stack.connect(&login);
        let got: Vec<String> = before(&mut ann, "end").into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(got, ["keep", "keep"], "{protocol:?}");
        stack.redis.rule("ann", "lose", "rs");
        figures.until("rule back", || subscribes(&mut probe, "lose"));
        figures.within_a_second(version.label());
    }
}

fn rules_that_go_while_nobody_may_connect_are_gone_after(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    stack.redis.user("bob", &[("#", "p")]);
    let mut bob = stack.client("bob", "bob");
    let key = user_key("ann");
    let ways: [(&[&str], &[&str]); 3] = [
        (&["HSET", &key, "enabled", "0"], &["HSET", &key, "enabled", "1"]),
        (&["SET", "midge:ban:{user:ann}", "why"], &["DEL", "midge:ban:{user:ann}"]),
        (&["HSET", &key, "client_id", "other"], &["HDEL", &key, "client_id"]),
    ];
    for (out, back) in ways {
        let mut figures = Figures::default();
        stack.redis.user("ann", &[("keep", "rs"), ("lose", "rs"), ("end", "rs")]);
        let login = connect(Protocol::V5, "ann", "phone").persistent();
        stack.code_until(&login, |code| code == 0);
        let mut ann = stack.connect(&login);
        figures.until("all rules", || ann.subscribe(&[("keep", 1), ("lose", 1), ("end", 1)]).unwrap() == [1, 1, 1]);
        cut(&mut figures, &stack, &mut ann, out);
        // She may still receive it, but not ask for it.
        stack.redis.rule("ann", "lose", "r");
        stack.redis.run(back);
        stack.code_until(&connect(Protocol::V5, "ann", "probe"), |code| code == 0);
        let mut ann = stack.connect(&login);
        assert_eq!(delivered(&mut bob, &mut ann, &["lose", "keep"], "end"), ["keep"], "{out:?}");
        assert!(!subscribes(&mut ann, "lose"), "{out:?}");
        stack.redis.run(&["DEL", &key]);
        ann.closed(SOON).unwrap();
    }
}

fn a_new_session_inherits_no_filters(version: MosquittoVersion) {
    let stack = Stack::start(version, "");
    stack.redis.user("ann", &[("reply/#", "rs"), ("end", "rs")]);
    for round in 0..1_010 {
        let mut ann = stack.client("ann", "phone");
        assert!(subscribes(&mut ann, &format!("reply/{round}")));
    }
    // A client with more than a thousand filters is disconnected when its rules change; this one has one.
    let mut ann = stack.client("ann", "phone");
    assert!(subscribes(&mut ann, "end"));
    let mut figures = Figures::default();
    stack.redis.rule("ann", "x", "p");
    publish_until(&mut figures, "a rule added", &mut ann, "x", true);
    stack.redis.rule("ann", "x", "!p");
    publish_until(&mut figures, "a rule changed", &mut ann, "x", false);
    ann.ping(SOON).unwrap();
}

fn each_way_to_follow_changes_serves(version: MosquittoVersion) {
    for (watch, line) in [("keyspace", "notify-keyspace-events Kghx$"), ("polling", "notify-keyspace-events \"\""), ("auto", "")] {
        let redis = RedisServer::builder(RedisVersion::Redis7).config(line).start().unwrap();
        let mut stack = Stack::over(redis, version, &format!("auth_opt_watch {watch}\n"));
        stack.redis.user("ann", &[("end", "prs")]);
        let mut figures = Figures::default();
        stack.broker.process().wait_log("following changes", SOON).unwrap();
        let mut ann = stack.client("ann", "ann");
        stack.redis.rule("ann", "x", "p");
        publish_until(&mut figures, &format!("{watch}: rule added"), &mut ann, "x", true);
        stack.redis.no_rule("ann", "x");
        publish_until(&mut figures, &format!("{watch}: rule removed"), &mut ann, "x", false);
        stack.redis.rule_for_all("x", "p");
        publish_until(&mut figures, &format!("{watch}: everyone's rule added"), &mut ann, "x", true);
        cut(&mut figures, &stack, &mut ann, &["DEL", &user_key("ann")]);
        figures.within_a_second(version.label());
    }
}
