//! Logins that Mosquitto 2.1 is told to wait for.
//!
//! An answer is addressed by client identifier alone, and nobody says that a waiting client has left.
//! Whatever happens in between, nobody gets in by an answer that was meant for somebody else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use midge_core::password::HashPolicy;
use midge_core::scram::ScramCredential;
use midge_testkit::fake_host::{bytes, none, text};
use midge_testkit::{Connect, HostKind, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, Will, until};

use crate::stage::{AUTH, AUTH_CONTINUE, AUTH_DELAYED, DENIED, OK, PUBLISH, SOON, ScramClient, Stage, UNSHIELDED, unhex};

fn stage(options: &[(&str, &str)]) -> Stage {
    let stage = Stage::new(HostKind::V2_1, options);
    let scram = ScramCredential::derive(b"secret", 4096).unwrap().to_string();
    for name in ["ann", "bob", "known"] {
        stage.user(name, "secret", &[(&format!("{name}/#"), "prs")]);
        stage.redis.cli(&["HSET", &format!("midge:user:{{{name}}}"), "scram", &scram]).unwrap();
    }
    stage
}

fn auth(stage: &mut Stage, handle: u8, id: &str, user: &str, password: &str) -> i32 {
    stage.host.auth(handle, Some(id), Some(user), Some(password)).unwrap()
}

/// Ticks for as long as an answer could still come, and returns all calls but those of the log.
///
/// What tells the end is a user that nobody knows yet, who takes every step that the others take, behind them. An answer may be a round behind it, where the
/// announcements of the store began in between and the account was read again; it is never two behind.
fn all_calls(stage: &mut Stage) -> Vec<String> {
    static STRANGERS: AtomicU32 = AtomicU32::new(0);
    let mut calls = Vec::new();
    for round in 0..3 {
        let id = format!("the-last{round}");
        assert_eq!(auth(stage, 60, &id, &format!("stranger{}", STRANGERS.fetch_add(1, Ordering::Relaxed)), "wrong"), AUTH_DELAYED);
        until("the last answer", SOON, || {
            stage.host.tick()?;
            calls.extend(stage.host.calls());
            Ok(calls.iter().any(|call| call.starts_with(&format!("complete_basic_auth {id}"))).then_some(()))
        })
        .unwrap();
    }
    let noise = ["log ", "register ", "plugin_set_info", "complete_basic_auth the-last"];
    calls.retain(|call| !noise.iter().any(|noise| call.starts_with(noise)));
    calls
}

#[test]
fn an_uncached_login_is_answered_in_a_tick_and_the_next_at_once() {
    let mut stage = stage(&[]);
    assert_eq!(auth(&mut stage, 0, "c0", "ann", "secret"), AUTH_DELAYED);
    assert!(stage.host.tick().unwrap() <= 100);
    assert_eq!(stage.answer("c0"), OK);
    assert_eq!(stage.acl(0, PUBLISH, "ann/x"), OK);
    assert_eq!(stage.acl(0, PUBLISH, "bob/x"), DENIED);
    assert_eq!(auth(&mut stage, 1, "c1", "ann", "wrong"), AUTH_DELAYED);
    assert_eq!(stage.answer("c1"), AUTH);
    assert_eq!(auth(&mut stage, 2, "c2", "ann", "secret"), OK);
    stage.finish();
}

#[test]
fn a_late_success_lets_nobody_else_in() {
    type Second = fn(&mut Stage);
    let seconds: [(&str, Second, &[&str]); 8] = [
        ("a wrong password", |stage| assert_eq!(auth(stage, 1, "x", "ann", "wrong"), AUTH_DELAYED), &["complete_basic_auth x 11"]),
        ("another user", |stage| assert_eq!(auth(stage, 1, "x", "bob", "wrong"), AUTH_DELAYED), &["complete_basic_auth x 11"]),
        ("the same pointer", |stage| assert_eq!(auth(stage, 0, "x", "ann", "wrong"), AUTH_DELAYED), &["complete_basic_auth x 11"]),
        ("no name", |stage| assert_eq!(stage.host.auth(1, Some("x"), None, None).unwrap(), AUTH), &[]),
        ("a name that is none", bad_name, &[]),
        ("an answer from memory", |stage| assert_eq!(auth(stage, 1, "x", "known", "secret"), OK), &[]),
        ("SCRAM", |stage| scram(stage, "bob", "wrong", AUTH), &[]),
        ("a certificate", certificate, &[]),
    ];
    for (name, second, expected) in seconds {
        let mut stage = stage(&[("hash_threads", "1"), UNSHIELDED[0], UNSHIELDED[1]]);
        until("a user in memory", SOON, || {
            let known = auth(&mut stage, 9, "known", "known", "secret");
            stage.host.tick()?;
            Ok((known == OK).then_some(()))
        })
        .unwrap();
        all_calls(&mut stage);
        assert_eq!(auth(&mut stage, 0, "x", "ann", "secret"), AUTH_DELAYED, "{name}");
        stage.host.event("vanish", 0).unwrap();
        second(&mut stage);
        assert_eq!(all_calls(&mut stage), expected, "{name}");
        assert_eq!(stage.acl(1, PUBLISH, "ann/x"), if name == "a wrong password" { OK } else { DENIED }, "{name}");
        stage.finish();
    }
}

fn bad_name(stage: &mut Stage) {
    let arguments = ["1".to_owned(), text("x"), bytes(b"\xff"), text("secret")];
    assert_eq!(stage.host.command("auth", &arguments).unwrap().code, AUTH);
}

fn scram(stage: &mut Stage, user: &str, password: &str, expected: i32) {
    stage.host.command("identify", &["1".into(), text("x"), none()]).unwrap();
    let client = ScramClient::new(user, password);
    let mut step = |name: &str, data: &[u8]| stage.host.command(name, &["1".into(), text("SCRAM-SHA-256"), bytes(data)]).unwrap();
    let first = step("ext_start", &client.first());
    assert_eq!(first.code, AUTH_CONTINUE);
    let last = client.last(&unhex(first.field("out").unwrap()));
    assert_eq!(step("ext_continue", &last).code, expected);
}

fn certificate(stage: &mut Stage) {
    stage.host.command("identify", &["1".into(), text("x"), text("known")]).unwrap();
    assert_eq!(stage.host.event("connect", 1).unwrap(), OK);
}

#[test]
fn after_a_reload_who_is_connected_is_neither_delayed_nor_asked_for_a_password() {
    let mut stage = stage(&[UNSHIELDED[0], UNSHIELDED[1]]);
    until("a user in memory", SOON, || {
        let known = auth(&mut stage, 0, "k", "known", "secret");
        stage.host.tick()?;
        Ok((known == OK).then_some(()))
    })
    .unwrap();
    scram(&mut stage, "bob", "secret", OK);
    let mut asked_again = |handle: u8, id: &str, user: &str, password: Option<&str>| {
        assert_eq!(stage.host.command("reload", &[]).unwrap().code, OK);
        stage.host.auth(handle, Some(id), Some(user), password).unwrap()
    };
    assert_eq!(asked_again(0, "k", "known", Some("secret")), OK);
    assert_eq!(asked_again(1, "x", "bob", None), OK);
    assert_eq!(asked_again(2, "k", "known", Some("wrong")), AUTH_DELAYED, "another client of that identifier");
    assert_eq!(asked_again(1, "x", "ann", Some("wrong")), AUTH_DELAYED, "another user at that address");
    stage.host.event("vanish", 2).unwrap();
    stage.host.event("vanish", 1).unwrap();
    stage.host.tick().unwrap();
    assert_eq!(auth(&mut stage, 0, "k", "known", "wrong"), AUTH_DELAYED, "no reload is under way");
    stage.finish();
}

#[test]
fn after_a_reload_who_was_disabled_meanwhile_is_refused() {
    let mut stage = stage(&[]);
    assert_eq!(auth(&mut stage, 0, "c0", "ann", "secret"), AUTH_DELAYED);
    assert_eq!(stage.answer("c0"), OK);
    stage.redis.cli(&["HSET", "midge:user:{ann}", "enabled", "0"]).unwrap();
    until("the change to act without a tick", SOON, || {
        assert_eq!(stage.host.command("reload", &[])?.code, OK);
        Ok((auth(&mut stage, 0, "c0", "ann", "secret") == AUTH).then_some(()))
    })
    .unwrap();
    stage.finish();
}

#[test]
fn a_client_let_in_otherwise_keeps_its_own_rights() {
    let mut stage = stage(&[("hash_threads", "1")]);
    assert_eq!(auth(&mut stage, 1, "x", "ann", "secret"), AUTH_DELAYED);
    stage.host.event("vanish", 1).unwrap();
    // At the pointer of the one that left, by SCRAM.
    scram(&mut stage, "bob", "secret", OK);
    assert_eq!(all_calls(&mut stage), ["set_username bob"]);
    assert_eq!(stage.acl(1, PUBLISH, "bob/x"), OK);
    assert_eq!(stage.acl(1, PUBLISH, "ann/x"), DENIED);
    stage.finish();
}

#[test]
fn a_late_success_displaces_nobody_from_the_pointer_it_was_for() {
    let mut stage = stage(&[("hash_threads", "1")]);
    until("a user in memory", SOON, || Ok((stage.login(9, "known", "known", "secret") == OK).then_some(()))).unwrap();
    assert_eq!(auth(&mut stage, 1, "x", "ann", "secret"), AUTH_DELAYED);
    stage.host.event("vanish", 1).unwrap();
    assert_eq!(stage.login(1, "y", "known", "secret"), OK);
    all_calls(&mut stage);
    // It is idle, so only what is remembered of it can tell that it has to leave.
    stage.redis.cli(&["DEL", "midge:user:{known}"]).unwrap();
    stage.host.tick_until("kick_clientid y", SOON).unwrap();
    stage.finish();
}

#[test]
fn of_many_logins_with_one_id_only_the_newest_is_answered() {
    let mut stage = stage(&[("hash_threads", "1"), UNSHIELDED[0], UNSHIELDED[1]]);
    for round in 0..50 {
        let password = if round % 2 == 0 { "secret" } else { "wrong" };
        let code = auth(&mut stage, round % 8, "x", ["ann", "bob"][usize::from(round) % 3 % 2], password);
        // Once its password has been hashed, from memory.
        assert!(code == AUTH_DELAYED || (code, password) == (OK, "secret"), "{code}");
        stage.host.event("vanish", round % 8).unwrap();
    }
    assert_eq!(auth(&mut stage, 5, "x", "known", "wrong"), AUTH_DELAYED);
    assert_eq!(all_calls(&mut stage), ["complete_basic_auth x 11"]);
    stage.finish();
}

#[test]
fn answers_for_clients_that_have_left_reach_nobody() {
    let mut stage = stage(&[]);
    for handle in 0..20 {
        auth(&mut stage, handle, &format!("gone{handle}"), "ann", "secret");
        stage.host.event("vanish", handle).unwrap();
    }
    let calls = all_calls(&mut stage);
    let reached = calls.iter().filter(|call| call.starts_with("complete_basic_auth")).count();
    let nobody = calls.iter().filter(|call| call.starts_with("nobody_waits")).count();
    assert_eq!(reached, nobody, "{calls:#?}");
    assert_eq!(stage.login(0, "gone0", "ann", "wrong"), AUTH);
    assert_eq!(stage.login(0, "gone0", "ann", "secret"), OK);
    stage.finish();
}

#[test]
fn a_flood_of_logins_is_answered_as_busy_beyond_the_queue() {
    let mut stage = stage(&[("login_queue", "10"), ("hash_queue", "5"), UNSHIELDED[0], UNSHIELDED[1]]);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    stage.redis.pause().unwrap();
    const FLOOD: usize = 500;
    let mut answered = 0;
    for handle in 100..100 + FLOOD {
        let arguments = [handle.to_string(), text(&format!("f{handle}")), text(&format!("user{handle}")), text("x")];
        let code = stage.host.command("auth", &arguments).unwrap().code;
        assert!(code == AUTH_DELAYED || code > OK, "{code}");
        answered += usize::from(code > OK);
    }
    let mut count = |stage: &mut Stage, enough: usize| {
        until(&format!("{enough} answers"), SOON, || {
            stage.host.tick()?;
            let calls = stage.host.calls();
            answered += calls.iter().filter(|call| call.starts_with("complete_basic_auth f")).count();
            assert!(!calls.iter().any(|call| call.starts_with("complete_basic_auth f") && call.ends_with(" 0")));
            Ok((answered >= enough).then_some(()))
        })
        .unwrap();
    };
    // A batch may be with the store, and as many wait behind it.
    count(&mut stage, FLOOD - 40);
    assert_eq!(stage.acl(0, PUBLISH, "ann/x"), OK);
    stage.redis.resume().unwrap();
    count(&mut stage, FLOOD);
    until("logins as before", SOON, || Ok((stage.login(1, "c1", "bob", "secret") == OK).then_some(()))).unwrap();
    stage.finish();
}

#[test]
fn the_switch_makes_every_login_wait_in_place() {
    let mut stage = stage(&[("delayed_login", "false")]);
    assert_eq!(auth(&mut stage, 0, "c0", "ann", "secret"), OK);
    assert_eq!(auth(&mut stage, 1, "c1", "ann", "wrong"), AUTH);
    assert!(!stage.finish().iter().any(|call| call.starts_with("complete_basic_auth")));
}

#[test]
fn the_http_listener_is_never_told_to_wait() {
    let mut stage = stage(&[]);
    assert_eq!(auth(&mut stage, 0, "http-api", "ann", "secret"), OK);
    assert_eq!(auth(&mut stage, 0, "http-api", "ann", "wrong"), AUTH);
    stage.finish();
}

fn real_broker() -> (Mosquitto, RedisServer) {
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    let hash = HashPolicy::mosquitto7(20_000).unwrap().hash(b"secret").unwrap();
    for n in 0..10 {
        redis.cli(&["HSET", &format!("midge:user:{{u{n}}}"), "password", &hash]).unwrap();
        redis.cli(&["HSET", &format!("midge:user:{{u{n}}}:acl"), "a/#", "prs"]).unwrap();
    }
    let config = format!("allow_anonymous false\nauth_plugin {{plugin}}\nauth_opt_store {}\n", redis.url());
    let broker = Mosquitto::builder(MosquittoVersion::V2_1_2).config(&config).start().unwrap();
    (broker, redis)
}

#[test]
fn a_real_broker_is_woken_for_the_answer() {
    let (broker, _redis) = real_broker();
    let mut took = Vec::new();
    for n in 0..10 {
        let start = Instant::now();
        let connect = Connect::new(Protocol::V5, &format!("c{n}")).login(format!("u{n}"), "secret");
        let _client = RawClient::connect(broker.port(), &connect).unwrap();
        took.push(start.elapsed());
    }
    took.sort();
    // Without being woken, an idle broker would come round after a tenth of a second at best.
    println!("uncached logins on 2.1.2: median {:?}, longest {:?}", took[5], took[9]);
    assert!(took[9] < SOON);
}

#[test]
fn a_real_broker_publishes_no_will_of_a_client_that_is_refused() {
    let (broker, _redis) = real_broker();
    let mut listener = RawClient::connect(broker.port(), &Connect::new(Protocol::V5, "l").login("u0", "secret")).unwrap();
    assert_eq!(listener.subscribe(&[("a/#", 0)]).unwrap(), [0]);
    let will = Will { topic: b"a/will".to_vec(), payload: b"x".to_vec(), qos: 0, retain: false, properties: Vec::new() };
    for user in ["u1", "u0", "nobody"] {
        let connect = Connect::new(Protocol::V5, user).login(user, "wrong").will(will.clone());
        let (_client, code) = RawClient::try_connect(broker.port(), &connect).unwrap();
        assert_eq!(code, 135);
        // And one that doesn't wait for its answer.
        let connect = Connect { client_id: b"leaves".to_vec(), ..connect };
        let mut client = RawClient::open(broker.port(), Protocol::V5).unwrap();
        client.send(&connect.encode()).unwrap();
        drop(client);
    }
    assert_eq!(listener.publish("a/end", b"x", 1, false).unwrap(), 0);
    let message = listener.message(SOON).unwrap().unwrap();
    assert_eq!(message.topic, b"a/end", "{message:?}");
    assert!(listener.message(Duration::from_millis(200)).unwrap().is_none());
}

#[test]
fn a_real_client_that_sends_before_it_is_let_in_is_served_by_the_switch() {
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}secret"]).unwrap();
    redis.cli(&["HSET", "midge:user:{ann}:acl", "a/#", "prs"]).unwrap();
    let options = "auth_opt_delayed_login false\nauth_opt_login_deadline 10s";
    let config = format!("allow_anonymous false\nauth_plugin {{plugin}}\nauth_opt_store {}\n{options}\n", redis.url());
    let broker = Mosquitto::builder(MosquittoVersion::V2_1_2).config(&config).start().unwrap();
    let mut client = RawClient::open(broker.port(), Protocol::V3_1_1).unwrap();
    client.send(&Connect::new(Protocol::V3_1_1, "c0").login("ann", "secret").encode()).unwrap();
    client.send_publish(b"a/b", b"x", 0, false, 0, &[]).unwrap();
    client.expect("a CONNACK", |packet| format!("{packet:?}").contains("ConnAck")).unwrap();
    assert_eq!(client.subscribe(&[("a/#", 0)]).unwrap(), [0]);
}
