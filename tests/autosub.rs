//! Clients that never subscribe get what their lists say.
//!
//! On every Mosquitto, with the data that an application would write. What must not come is shown by what comes after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use midge_testkit::{Connect, MosquittoVersion, Protocol, RawClient, RedisServer, Will, until};

use crate::support::{
    CALM, Figures, PROTOCOLS, Policy, SOON, Stack, before, broker, builder, connect, on_every_broker, publishes, store, subscribes,
};

on_every_broker!(
    who_never_subscribes_gets_the_first_message_after_connack,
    a_thousand_clients_have_one_topic_each_and_one_together,
    sessions_outlive_connections_at_each_quality_of_service,
    a_session_comes_back_after_its_list_has_changed,
    who_takes_over_gets_it_instead,
    a_change_acts_within_a_second,
    only_what_the_client_may_subscribe_to_is_made,
    who_subscribes_by_itself_gets_nothing_twice,
    what_a_list_says_cannot_be_given_up,
    retained_messages_come_with_their_flag,
    the_reader_brings_what_was_retained_before,
    a_list_beyond_the_bound_is_cut_and_counted,
    a_store_that_is_away_takes_nothing,
    wills_reach_who_never_subscribed,
    mount_points_stand_before_the_filters,
    one_of_a_share_gets_it,
    who_switches_it_off_has_none,
    pushes_reach_who_never_subscribed,
);

/// Writes lists, as an application would.
trait Lists {
    fn list(&self, key: &str, filter: &str, options: &str);
    fn unlist(&self, key: &str, filter: &str);
}

impl Lists for RedisServer {
    fn list(&self, key: &str, filter: &str, options: &str) {
        self.run(&["HSET", &format!("midge:{key}:autosub"), filter, options]);
    }

    fn unlist(&self, key: &str, filter: &str) {
        self.run(&["HDEL", &format!("midge:{key}:autosub"), filter]);
    }
}

fn start(version: MosquittoVersion, options: &str) -> Stack {
    let stack = Stack::start(version, &format!("auth_opt_node one\n{options}"));
    stack.redis.user("bob", &[("#", "prs")]);
    stack.redis.user("ann", &[("#", "rs")]);
    stack.redis.list("all", "end", "1");
    stack
}

/// Returns the topics of what arrives at `to` of messages to `topics`.
fn arrive(from: &mut RawClient, to: &mut RawClient, topics: &[&str]) -> Vec<String> {
    until_end(from, to);
    arrive_behind(from, to, topics)
}

/// Returns the same behind the topics of what was on its way before.
fn arrive_behind(from: &mut RawClient, to: &mut RawClient, topics: &[&str]) -> Vec<String> {
    for topic in topics {
        assert!(publishes(from, topic));
    }
    until_end(from, to)
}

fn until_end(from: &mut RawClient, to: &mut RawClient) -> Vec<String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let last = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
    from.publish("end", last.as_bytes(), 1, false).unwrap();
    let mut all = Vec::new();
    loop {
        let (topic, payload) = to.message(SOON).unwrap().unwrap_or_else(|| panic!("no end, but {all:?}")).text();
        match topic.as_str() {
            "end" if payload == last => return all,
            "end" => {}
            _ => all.push(topic),
        }
    }
}

/// Waits until that is what arrives: a list acts within a second, and not at once.
fn arrives(from: &mut RawClient, to: &mut RawClient, topics: &[&str], expected: &[&str]) {
    until(&format!("{expected:?} of {topics:?}"), SOON, || Ok((arrive(from, to, topics) == expected).then_some(()))).unwrap();
}

fn is_real(version: MosquittoVersion) -> bool {
    version == MosquittoVersion::V2_1_2
}

/// Returns a number that the broker reports of itself.
fn fact(redis: &RedisServer, name: &str) -> u64 {
    redis.run(&["HGET", "midge:node:{one}", name]).parse().unwrap_or(0)
}

fn who_never_subscribes_gets_the_first_message_after_connack(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.set("ann", "groups", "staff");
    for (key, filter) in
        [("user:{ann}", "u/%u/+"), ("group:{staff}", "g/#"), ("client:{phone}", "c/%c"), ("all", "${clientid}/all")]
    {
        redis.list(key, filter, "1");
    }
    let mut bob = stack.client("bob", "bob");
    // The lists were written a moment ago.
    arrives(
        &mut bob,
        &mut stack.client("ann", "phone"),
        &["u/ann/x", "g/x", "c/phone", "phone/all"],
        &["u/ann/x", "g/x", "c/phone", "phone/all"],
    );
    for protocol in PROTOCOLS {
        for round in 0..5 {
            let mut ann = stack.connect(&connect(protocol, "ann", "phone"));
            let topics = ["u/ann/x", "g/a/b", "c/phone", "phone/all", "u/bob/x", "c/other"];
            assert_eq!(arrive(&mut bob, &mut ann, &topics), topics[..4], "{protocol:?} {round}");
        }
    }
    // Of another client, its own.
    let mut tablet = stack.client("ann", "tablet");
    assert_eq!(arrive(&mut bob, &mut tablet, &["c/phone", "c/tablet", "tablet/all", "u/ann/y"]), ["tablet/all", "u/ann/y"]);
}

fn a_thousand_clients_have_one_topic_each_and_one_together(version: MosquittoVersion) {
    const CLIENTS: usize = 1_000;
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.list("all", "own/%c", "0");
    redis.list("all", "together", "1");
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|n| stack.client("ann", &format!("c{n}"))).collect();
    let mut bob = stack.client("bob", "bob");
    assert!(publishes(&mut bob, "together"));
    for n in 0..CLIENTS {
        bob.publish(&format!("own/c{n}"), n.to_string().as_bytes(), 1, false).unwrap();
    }
    assert!(publishes(&mut bob, "end"));
    for (n, client) in clients.iter_mut().enumerate() {
        let expected = [("together".to_owned(), "payload".to_owned()), (format!("own/c{n}"), n.to_string())];
        assert_eq!(before(client, "end"), expected);
    }
}

fn sessions_outlive_connections_at_each_quality_of_service(version: MosquittoVersion) {
    let stack = start(version, "queue_qos0_messages false\n");
    let redis = &stack.redis;
    for qos in ["0", "1", "2"] {
        redis.list("user:{ann}", &format!("q{qos}"), qos);
    }
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let persistent = connect(protocol, "ann", "kept").persistent();
        let mut ann = stack.connect(&persistent);
        let mut qualities = BTreeMap::new();
        for topic in ["q0", "q1", "q2"] {
            bob.publish(topic, b"there", 2, false).unwrap();
            let message = ann.message(SOON).unwrap().unwrap();
            qualities.insert(message.text().0, message.qos);
        }
        assert_eq!(qualities.into_values().collect::<Vec<_>>(), [0, 1, 2], "{protocol:?}");
        assert_eq!(arrive(&mut bob, &mut ann, &[]), [""; 0]);
        ann.disconnect().unwrap();
        until("the broker to notice", SOON, || Ok((fact_log(&stack, "kept") > 0).then_some(()))).unwrap();
        for topic in ["q0", "q1", "q2"] {
            bob.publish(topic, b"away", 2, false).unwrap();
        }
        let mut ann = stack.connect(&persistent);
        assert_eq!(arrive_behind(&mut bob, &mut ann, &["q1"]), ["q1", "q2", "q1"], "{protocol:?}");
        ann.disconnect().unwrap();
        // A session that begins anew has nothing of the old one, and its subscriptions all the same.
        let mut ann = stack.connect(&connect(protocol, "ann", "kept"));
        assert_eq!(arrive(&mut bob, &mut ann, &["q1"]), ["q1"], "{protocol:?}");
    }
}

/// Returns how often the broker has logged the end of that client's connection.
fn fact_log(stack: &Stack, id: &str) -> usize {
    stack.broker.log().matches(&format!("Client {id} disconnected")).count()
        + stack.broker.log().matches(&format!("Client {id} [127.0.0.1")).count()
}

fn a_session_comes_back_after_its_list_has_changed(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.list("user:{ann}", "old", "1");
    redis.list("user:{ann}", "stays", "1");
    let mut bob = stack.client("bob", "bob");
    let mut probe = stack.client("ann", "probe");
    for protocol in PROTOCOLS {
        let persistent = connect(protocol, "ann", "kept").persistent();
        let mut ann = stack.connect(&persistent);
        assert_eq!(arrive(&mut bob, &mut ann, &["old", "stays"]), ["old", "stays"]);
        ann.disconnect().unwrap();
        redis.unlist("user:{ann}", "old");
        redis.list("user:{ann}", "new", "1");
        arrives(&mut bob, &mut probe, &["new"], &["new"]);
        // Made and taken while nobody was there to ask.
        for topic in ["old", "new", "stays"] {
            bob.publish(topic, b"away", 1, false).unwrap();
        }
        let mut ann = stack.connect(&persistent);
        let away: Vec<_> = arrive_behind(&mut bob, &mut ann, &["old", "new"]);
        assert!(away.ends_with(&["new", "stays", "new"].map(str::to_owned)), "{protocol:?}: {away:?}");
        assert!(!away.contains(&"old".to_owned()), "{protocol:?}: {away:?}");
        ann.disconnect().unwrap();
        redis.unlist("user:{ann}", "new");
        redis.list("user:{ann}", "old", "1");
        arrives(&mut bob, &mut probe, &["old", "new"], &["old"]);
        stack.connect(&connect(protocol, "ann", "kept")).disconnect().unwrap();
    }
}

fn who_takes_over_gets_it_instead(version: MosquittoVersion) {
    let stack = start(version, "");
    stack.redis.list("client:{same}", "mine", "1");
    let mut bob = stack.client("bob", "bob");
    for clean in [true, false] {
        let kind = || {
            let connect = connect(Protocol::V5, "ann", "same");
            if clean { connect } else { connect.persistent() }
        };
        let mut first = stack.connect(&kind());
        arrives(&mut bob, &mut first, &["mine"], &["mine"]);
        for _ in 0..5 {
            let mut next = stack.connect(&kind());
            first.closed(SOON).unwrap();
            assert_eq!(arrive(&mut bob, &mut next, &["mine", "mine"]), ["mine", "mine"], "clean {clean}");
            first = next;
        }
    }
    // By another user, who has other lists.
    stack.redis.user("cat", &[("end", "rs"), ("hers", "rs")]);
    stack.redis.list("user:{cat}", "hers", "1");
    let mut cat = stack.connect(&connect(Protocol::V5, "cat", "same").persistent());
    assert_eq!(arrive(&mut bob, &mut cat, &["mine", "hers"]), ["hers"]);
}

fn a_change_acts_within_a_second(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.set("ann", "groups", "staff");
    let mut bob = stack.client("bob", "bob");
    let mut figures = Figures::default();
    let mut ann = stack.client("ann", "phone");
    for key in ["user:{ann}", "group:{staff}", "client:{phone}", "all"] {
        for _ in 0..3 {
            redis.list(key, "live", "1");
            figures.until(&format!("HSET {key}"), || arrive(&mut bob, &mut ann, &["live"]) == ["live"]);
            redis.unlist(key, "live");
            figures.until(&format!("HDEL {key}"), || arrive(&mut bob, &mut ann, &["live"]).is_empty());
        }
    }
    // Other options, of the same filter.
    redis.list("user:{ann}", "live", "0");
    let mut quality = |wanted: u8| {
        bob.publish("live", b"x", 2, false).unwrap();
        assert!(publishes(&mut bob, "end"));
        let mut found = None;
        loop {
            let message = ann.message(SOON).unwrap().unwrap();
            if message.text().0 == "end" {
                return found == Some(wanted);
            }
            found = Some(message.qos);
        }
    };
    figures.until("QoS 0", || quality(0));
    redis.list("user:{ann}", "live", "2");
    figures.until("QoS 2", || quality(2));
    figures.within_a_second(version.label());
}

fn only_what_the_client_may_subscribe_to_is_made(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.user("cat", &[("end", "rs"), ("own/+", "rs"), ("heard", "s"), ("wide/#", "rs"), ("wide/secret", "!r")]);
    for filter in ["own/a", "own/#", "other", "heard", "wide/#"] {
        redis.list("user:{cat}", filter, "1");
    }
    let mut bob = stack.client("bob", "bob");
    let mut cat = stack.client("cat", "cat");
    let topics = ["own/a", "own/a/b", "other", "heard", "wide/x", "wide/secret"];
    assert_eq!(arrive(&mut bob, &mut cat, &topics), ["own/a", "wide/x"]);
    // A rule that goes takes the subscription; one that comes makes it.
    let mut figures = Figures::default();
    redis.no_rule("cat", "own/+");
    figures.until("rule gone", || arrive(&mut bob, &mut cat, &["own/a"]).is_empty());
    redis.rule("cat", "own/#", "rs");
    figures.until("rule back", || arrive(&mut bob, &mut cat, &["own/a/b"]) == ["own/a/b"]);
    redis.set("cat", "enabled", "0");
    cat.closed(SOON).unwrap();
    figures.within_a_second(version.label());
}

fn who_subscribes_by_itself_gets_nothing_twice(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.list("user:{ann}", "same", "1");
    redis.list("user:{ann}", "a/+", "1");
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let persistent = connect(protocol, "ann", "kept").persistent();
        let mut ann = stack.connect(&persistent);
        assert!(subscribes(&mut ann, "same"));
        assert_eq!(arrive(&mut bob, &mut ann, &["same", "a/b"]), ["same", "a/b"], "{protocol:?}");
        ann.disconnect().unwrap();
        let mut ann = stack.connect(&persistent);
        assert_eq!(arrive(&mut bob, &mut ann, &["same", "a/b"]), ["same", "a/b"], "{protocol:?}: resumed");
        // The list may go: what it has subscribed to itself stays, and the other way round.
        redis.unlist("user:{ann}", "same");
        redis.unlist("user:{ann}", "a/+");
        until("the lists to go", SOON, || Ok(arrive(&mut bob, &mut ann, &["a/b"]).is_empty().then_some(()))).unwrap();
        assert_eq!(arrive(&mut bob, &mut ann, &["same"]), ["same"], "{protocol:?}");
        redis.list("user:{ann}", "same", "1");
        redis.list("user:{ann}", "a/+", "1");
        until("the lists to be back", SOON, || Ok((arrive(&mut bob, &mut ann, &["a/b"]) == ["a/b"]).then_some(()))).unwrap();
        assert_eq!(arrive(&mut bob, &mut ann, &["same"]), ["same"], "{protocol:?}");
        ann.unsubscribe(&["same"]).unwrap();
        until("the list's to take its place", SOON, || Ok((arrive(&mut bob, &mut ann, &["same"]) == ["same"]).then_some(())))
            .unwrap();
        if !is_real(version) {
            // Another filter for the same topic: here too it is one copy.
            assert!(subscribes(&mut ann, "a/#"));
            assert_eq!(arrive(&mut bob, &mut ann, &["a/b"]), ["a/b"], "{protocol:?}: overlapping");
        }
        ann.disconnect().unwrap();
        stack.connect(&connect(protocol, "ann", "kept")).disconnect().unwrap();
    }
}

fn what_a_list_says_cannot_be_given_up(version: MosquittoVersion) {
    let stack = start(version, "");
    stack.redis.list("user:{ann}", "pinned", "1");
    let mut bob = stack.client("bob", "bob");
    for protocol in PROTOCOLS {
        let mut ann = stack.connect(&connect(protocol, "ann", "phone"));
        let codes = ann.unsubscribe(&["pinned"]).unwrap();
        if protocol == Protocol::V5 {
            assert_eq!(codes, [0x87]);
        }
        assert_eq!(arrive(&mut bob, &mut ann, &["pinned"]), ["pinned"], "{protocol:?}");
    }
}

fn retained_messages_come_with_their_flag(version: MosquittoVersion) {
    let stack = start(version, "");
    let redis = &stack.redis;
    redis.list("user:{ann}", "kept/+", "1");
    redis.list("user:{ann}", "never/x", "1,rh=2");
    let mut bob = stack.client("bob", "bob");
    for (topic, payload) in
        [("kept/a", "old"), ("kept/a", "new"), ("kept/b", "b"), ("kept/gone", "x"), ("never/x", "x"), ("late", "l")]
    {
        bob.publish(topic, payload.as_bytes(), 1, true).unwrap();
    }
    bob.publish("kept/gone", b"", 1, true).unwrap();
    redis.rule("ann", "kept/b", "!r");
    until("the rule", SOON, || {
        let mut ann = stack.client("ann", "probe");
        Ok((retained(&mut ann, 1) == [("kept/a".to_owned(), "new".to_owned(), is_real(version))]).then_some(()))
    })
    .unwrap();
    for protocol in PROTOCOLS {
        let mut ann = stack.connect(&connect(protocol, "ann", "phone"));
        assert_eq!(retained(&mut ann, 1), [("kept/a".to_owned(), "new".to_owned(), is_real(version))], "{protocol:?}");
        // Live ones have no flag.
        bob.publish("kept/a", b"new", 1, true).unwrap();
        let live = ann.message(SOON).unwrap().unwrap();
        assert_eq!((live.text().1.as_str(), live.retain), ("new", false), "{protocol:?}");
        // A list that changes brings them too, and nothing else comes.
        redis.list("client:{phone}", "late", "1");
        assert_eq!(retained(&mut ann, 1), [("late".to_owned(), "l".to_owned(), is_real(version))], "{protocol:?}");
        assert_eq!(arrive(&mut bob, &mut ann, &[]), [""; 0]);
        redis.unlist("client:{phone}", "late");
        until("it to go", SOON, || Ok(arrive(&mut bob, &mut ann, &["late"]).is_empty().then_some(()))).unwrap();
    }
    // Only where it is new.
    redis.run(&["DEL", "midge:user:{ann}:autosub"]);
    redis.list("user:{ann}", "kept/a", "1,rh=1");
    let persistent = connect(Protocol::V5, "ann", "resumed").persistent();
    let mut ann = stack.connect(&persistent);
    for _ in 0..3 {
        arrives(&mut bob, &mut ann, &["kept/a"], &["kept/a"]);
    }
    ann.disconnect().unwrap();
    let mut ann = stack.connect(&persistent);
    assert_eq!(arrive(&mut bob, &mut ann, &[]), [""; 0]);
}

/// Returns the next messages: topic, payload, and whether each has the retain flag.
fn retained(client: &mut RawClient, count: usize) -> Vec<(String, String, bool)> {
    let next = |_| {
        let message = client.message(SOON).unwrap().expect("a retained message");
        let (topic, payload) = message.text();
        (topic, payload, message.retain)
    };
    (0..count).map(next).collect()
}

fn the_reader_brings_what_was_retained_before(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("bob", &[("#", "prs")]);
    redis.user("ann", &[("#", "rs")]);
    redis.list("all", "kept/#", "1");
    let options = format!("{CALM}auth_opt_autosub_reader 127.0.0.1:{{port}}\npersistence true\npersistence_location {{dir}}/\n");
    let mut broker = builder(version, &redis.url(), &options).start().unwrap();
    let client = |broker: &midge_testkit::Mosquitto, user: &str, id: &str| {
        RawClient::connect(broker.port(), &connect(Protocol::V5, user, id))
            .unwrap_or_else(|error| panic!("{error:#}:\n{}", broker.log()))
    };
    let mut bob = client(&broker, "bob", "bob");
    for n in 0..50 {
        bob.publish(&format!("kept/{n:02}"), &[b'x'; 1_000], 1, true).unwrap();
    }
    drop(bob);
    broker.stop().unwrap();
    broker.start_again().unwrap();
    broker.process().wait_log("read 50 retained messages", SOON).unwrap();
    let mut ann = client(&broker, "ann", "ann");
    let all = retained(&mut ann, 50);
    assert!(all.iter().enumerate().all(|(n, (topic, payload, flag))| {
        *topic == format!("kept/{n:02}") && payload.len() == 1_000 && *flag == is_real(version)
    }));
    // Nobody gets in by its name.
    let id = broker.log().split("as midge-retained-").nth(1).map(|rest| format!("midge-retained-{}", &rest[..16])).unwrap();
    let thief = Connect::new(Protocol::V5, &id).login("midge-retained", "secret");
    assert_ne!(crate::support::code(broker.port(), &thief), 0);
}

fn a_list_beyond_the_bound_is_cut_and_counted(version: MosquittoVersion) {
    let stack = start(version, "auth_opt_autosub_per_client 3\n");
    let redis = &stack.redis;
    for filter in ["end", "u/a", "u/b", "u/c", "u/d"] {
        redis.list("user:{ann}", filter, "1");
    }
    let mut bob = stack.client("bob", "bob");
    let mut ann = stack.client("ann", "phone");
    arrives(&mut bob, &mut ann, &["u/a", "u/b", "u/c", "u/d"], &["u/a", "u/b"]);
    until("the count", SOON, || Ok((fact(redis, "autosub_beyond") >= 2).then_some(()))).unwrap();
    assert!(fact(redis, "autosub_made") >= 3);
    until("a line in the log", SOON, || Ok(stack.broker.log().contains("more than autosub_per_client").then_some(()))).unwrap();
    // With room, the next comes.
    redis.unlist("user:{ann}", "u/a");
    until("the next", SOON, || Ok((arrive(&mut bob, &mut ann, &["u/a", "u/b", "u/c"]) == ["u/b", "u/c"]).then_some(()))).unwrap();
}

fn a_store_that_is_away_takes_nothing(version: MosquittoVersion) {
    let mut stack = start(version, "");
    stack.redis.list("user:{ann}", "mine", "1");
    stack.redis.list("client:{kept}", "hers", "1");
    let mut bob = stack.client("bob", "bob");
    let persistent = connect(Protocol::V5, "ann", "kept").persistent();
    let mut live = stack.client("ann", "live");
    let all = ["mine", "hers"];
    let mut kept = stack.connect(&persistent);
    arrives(&mut bob, &mut kept, &all, &all);
    kept.disconnect().unwrap();
    assert_eq!(arrive(&mut bob, &mut live, &all), ["mine"]);
    stack.redis.crash().unwrap();
    until("the broker to notice", SOON, || Ok(stack.broker.log().contains("store can't be asked").then_some(()))).unwrap();
    assert_eq!(arrive(&mut bob, &mut live, &all), ["mine"]);
    // Who comes now is let in by what is known, with what is known.
    let mut back = stack.connect(&persistent);
    assert_eq!(arrive(&mut bob, &mut back, &all), all);
    let mut other = stack.client("ann", "other");
    assert_eq!(arrive(&mut bob, &mut other, &all), ["mine"]);
    // It has lost its data, and that is no word about any list.
    stack.redis.restart_empty().unwrap();
    until("the loss", SOON, || Ok(stack.broker.log().contains("has lost all users").then_some(()))).unwrap();
    for (client, expected) in [(&mut live, &all[..1]), (&mut back, &all[..]), (&mut other, &all[..1])] {
        assert_eq!(arrive(&mut bob, client, &all), expected);
    }
}

fn wills_reach_who_never_subscribed(version: MosquittoVersion) {
    let stack = start(version, "");
    stack.redis.list("user:{ann}", "will/+", "1");
    for protocol in PROTOCOLS {
        let mut ann = stack.connect(&connect(protocol, "ann", "phone"));
        let will = |topic: &str, retain: bool| Will {
            topic: topic.into(),
            payload: b"gone".to_vec(),
            qos: 1,
            retain,
            properties: Vec::new(),
        };
        let dying = stack.connect(&connect(protocol, "bob", "dying").will(will("will/a", false)));
        drop(dying);
        assert_eq!(ann.message(SOON).unwrap().expect("a will").text(), ("will/a".to_owned(), "gone".to_owned()), "{protocol:?}");
        drop(stack.connect(&connect(protocol, "bob", "dying").will(will("will/kept", true))));
        assert_eq!(ann.message(SOON).unwrap().expect("a retained will").text().0, "will/kept", "{protocol:?}");
        let mut late = stack.connect(&connect(protocol, "ann", "late"));
        assert_eq!(retained(&mut late, 1), [("will/kept".to_owned(), "gone".to_owned(), is_real(version))], "{protocol:?}");
        let mut bob = stack.client("bob", "bob");
        assert_eq!(arrive(&mut bob, &mut ann, &[]), [""; 0], "{protocol:?}");
        bob.publish("will/kept", b"", 1, true).unwrap();
    }
}

fn mount_points_stand_before_the_filters(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("bob", &[("#", "prs")]);
    redis.user("ann", &[("dev/end", "rs"), ("dev/u/+", "rs")]);
    redis.list("all", "end", "1");
    redis.list("user:{ann}", "u/%u", "1");
    let point = if is_real(version) { "{port}=dev/" } else { "dev/" };
    // The line of the mount point belongs to the listener, which the builder writes first.
    let text = format!(
        "listener {{port}} 127.0.0.1\nmount_point dev/\nauth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_log_level debug\n{CALM}auth_opt_autosub_mount_point {point}\n",
        redis.url()
    );
    let broker = midge_testkit::Mosquitto::builder(version).config(&text).start().unwrap();
    let client = |user: &str| RawClient::connect(broker.port(), &connect(Protocol::V5, user, user)).unwrap();
    let (mut bob, mut ann) = (client("bob"), client("ann"));
    until("the lists", SOON, || Ok(broker.log().contains("client \"ann\" has 2 automatic").then_some(()))).unwrap();
    if version == MosquittoVersion::V2_0_11 {
        // This release sends copies with the mount point in their topics: a limit that the manual names.
        assert!(publishes(&mut bob, "u/ann"));
        return assert_eq!(ann.message(SOON).unwrap().unwrap().text().0, "dev/u/ann");
    }
    assert_eq!(arrive(&mut bob, &mut ann, &["u/ann", "u/bob"]), ["u/ann"]);
}

fn one_of_a_share_gets_it(version: MosquittoVersion) {
    let stack = start(version, "");
    stack.redis.list("user:{ann}", "$share/workers/jobs/#", "1");
    let mut bob = stack.client("bob", "bob");
    let mut workers: Vec<RawClient> = (0..3).map(|n| stack.client("ann", &format!("w{n}"))).collect();
    for _ in 0..9 {
        assert!(publishes(&mut bob, "jobs/x"));
    }
    assert!(publishes(&mut bob, "end"));
    let counts: Vec<usize> = workers.iter_mut().map(|worker| before(worker, "end").len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 9, "{counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

fn pushes_reach_who_never_subscribed(version: MosquittoVersion) {
    let stack = start(version, "");
    stack.redis.list("user:{ann}", "news/#", "1");
    let mut ann = stack.client("ann", "phone");
    stack.redis.run(&["XADD", "midge:push", "*", "topic", "news/today", "payload", "pushed"]);
    let message = ann.message(SOON).unwrap().expect("a push");
    assert_eq!(message.text(), ("news/today".to_owned(), "pushed".to_owned()));
}

fn who_switches_it_off_has_none(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("bob", &[("#", "prs")]);
    redis.user("ann", &[("#", "rs")]);
    redis.list("all", "news", "1");
    let broker = broker(version, &redis.url(), &format!("{CALM}auth_opt_autosub false\n"));
    let client = |user: &str| RawClient::connect(broker.port(), &connect(Protocol::V5, user, user)).unwrap();
    let (mut bob, mut ann) = (client("bob"), client("ann"));
    assert!(subscribes(&mut ann, "end"));
    assert_eq!(arrive(&mut bob, &mut ann, &["news"]), [""; 0]);
}
