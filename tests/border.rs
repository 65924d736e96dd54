//! What C may do at the border.
//!
//! A host stays up whatever it passes, and nobody gets anything by confusing it.
//! This file is long: every callback has its odd inputs here, side by side.

use std::time::Duration;

use midge_testkit::fake_host::{bytes, none, text};
use midge_testkit::{
    Connect, Event, FakeHost, HostKind, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, plugin, until,
};

use crate::stage::{
    AUTH, AUTH_CONTINUE, DEFER, DENIED, OK, PUBLISH, RECEIVE, SOON, SUBSCRIBE, ScramClient, Stage, UNKNOWN, UNSHIELDED,
    UNSUBSCRIBE, unhex,
};

/// What MQTT 5 says of a publish that was taken and has no subscriber.
const NOBODY_LISTENS: u8 = 16;

const MODERN: [HostKind; 2] = [HostKind::V2_0, HostKind::V2_1];

/// Says what each event comes to when it says nothing.
fn refused(event: i32) -> i32 {
    match event {
        2 => DENIED,
        3..=5 => AUTH,
        _ => OK,
    }
}

#[test]
fn nothing_where_something_should_be_is_refused() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &[]);
        let registered = [1, 2, 3, 4, 5, 7, 9, 10, 11, 28];
        for event in 1..=30 {
            for command in ["null", "zero"] {
                let code = stage.host.command(command, &[event.to_string()]).unwrap().code;
                let asked = registered.contains(&event) || !matches!(event, 2..=5 | 8);
                assert_eq!(code, if asked { refused(event) } else { DEFER }, "{kind:?} {command} {event}");
            }
        }
        stage.finish();
    }
    for kind in [HostKind::V1_5, HostKind::V1_6] {
        let mut stage = Stage::new(kind, &[]);
        for (event, expected) in [(2, DENIED), (3, AUTH)] {
            for command in ["null", "zero"] {
                assert_eq!(stage.host.command(command, &[event.to_string()]).unwrap().code, expected, "{kind:?} {command} {event}");
            }
        }
        stage.finish();
    }
}

#[test]
fn events_that_were_never_asked_for_and_calls_without_our_data_do_nothing() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &[]);
        for event in [-1, 0, 6, 7, 8, 12, 13, 14, 20, 27, 30, 31, 1000, i32::MAX, i32::MIN] {
            let answer = stage.host.command("stray", &[event.to_string()]).unwrap();
            assert_eq!((answer.code, answer.field("zero").unwrap(), answer.field("bare").unwrap()), (OK, "0", "0"), "{event}");
        }
        for event in 1..=11 {
            let answer = stage.host.command("stray", &[event.to_string()]).unwrap();
            let expected = match event {
                6..=8 => OK,
                event => refused(event),
            };
            assert_eq!(answer.code, expected, "{event}");
            assert_eq!(answer.field("bare").unwrap(), expected.to_string(), "{event}");
        }
        stage.finish();
    }
}

#[test]
fn a_client_without_id_user_or_password_is_refused_and_harms_nobody() {
    for kind in HostKind::ALL {
        let mut stage = Stage::new(kind, &[]);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK, "{kind:?}");
        let given = [None, Some(""), Some("ann"), Some("nobody")];
        for id in [None, Some(""), Some("c0"), Some("c9")] {
            for user in given {
                for password in [None, Some(""), Some("wrong")] {
                    let [id, user, password] = [id, user, password].map(|word| word.map_or_else(none, text));
                    let arguments = ["1".to_owned(), id.clone(), user.clone(), password.clone()];
                    let code = stage.host.command("auth", &arguments).unwrap().code;
                    // Delayed: told apart below, by what the client may.
                    assert!([AUTH, -5, 137].contains(&code), "{kind:?} {id} {user} {password}: {code}");
                    stage.host.tick().unwrap();
                    let asked = stage.acl(1, PUBLISH, "a/b");
                    // No broker asks about somebody it has refused; who it does ask about has the rights of that name.
                    assert!(asked == DENIED || user == text("ann"), "{kind:?}: {asked}");
                }
            }
        }
        for arguments in
            [["0", "2", "-"], ["0", "4", "-"], ["0", "8", "-"], ["-", "2", "x61"], ["9", "2", "x61"], ["0", "3", "x612f62"]]
        {
            let arguments = arguments.map(str::to_owned);
            assert_eq!(stage.host.command("acl", &arguments).unwrap().code, DENIED, "{kind:?} {arguments:?}");
        }
        assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK, "{kind:?}");
        stage.finish();
    }
}

/// Names that no MQTT client may have, and the longest one.
fn odd_names() -> Vec<Vec<u8>> {
    vec![
        b"\xff\xfe".to_vec(),
        b"\xc0\x80".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"ann\x80".to_vec(),
        b"\xf5\x80\x80\x80".to_vec(),
        vec![b'n'; 65_535],
        "\u{1f980}".repeat(16_000).into_bytes(),
        vec![0xff; 65_535],
    ]
}

#[test]
fn names_that_are_no_names_are_refused() {
    for kind in HostKind::ALL {
        let mut stage = Stage::new(kind, &[]);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        for odd in odd_names() {
            let odd = bytes(&odd);
            for arguments in [
                [odd.clone(), text("ann"), text("wrong")],
                [text("c1"), odd.clone(), text("secret")],
                [text("c1"), text("nn"), odd.clone()],
            ] {
                let arguments = [&["1".to_owned()][..], &arguments[..]].concat();
                let code = stage.host.command("auth", &arguments).unwrap().code;
                assert!([AUTH, -5, 137].contains(&code), "{kind:?}: {code}");
                stage.host.tick().unwrap();
                assert_eq!(stage.acl(1, PUBLISH, "zzz"), DENIED);
            }
            for access in [RECEIVE, PUBLISH, SUBSCRIBE] {
                let arguments = ["0".to_owned(), access.to_string(), odd.clone(), text("payload")];
                assert_eq!(stage.host.command("acl", &arguments).unwrap().code, DENIED, "{kind:?}");
            }
        }
        let deepest = format!("a{}", "/".repeat(65_534));
        assert_eq!(stage.acl(0, PUBLISH, &deepest), DENIED);
        assert_eq!(stage.acl(0, PUBLISH, &format!("a/{}", "n".repeat(65_533))), OK);
        assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK);
        stage.finish();
    }
}

#[test]
fn real_clients_with_odd_names_change_nothing_for_others() {
    let broker = RealBroker::start(MosquittoVersion::V2_0_11, "");
    let mut ann = broker.connect("c0");
    let mut odd = odd_names();
    odd.extend([b"an\0n".to_vec(), b"%s%n%x".to_vec(), b"a+b".to_vec(), b"a#".to_vec(), b"a/b".to_vec(), b"\n\r\x1b[31m".to_vec()]);
    for name in odd {
        let [mut by_id, mut by_user, mut by_password] =
            [(); 3].map(|()| Connect::new(Protocol::V3_1_1, "odd").login("ann", "wrong"));
        by_id.client_id.clone_from(&name);
        by_user.username = Some(name.clone());
        by_password.password = Some(name);
        for connect in [by_id, by_user, by_password] {
            let mut client = RawClient::open(broker.mosquitto.port(), Protocol::V3_1_1).unwrap();
            client.send(&connect.encode()).unwrap();
            let refused = |event: &Event| match event {
                Event::Closed => true,
                Event::Packet(packet) => !format!("{packet:?}").contains("code: 0"),
                Event::Silence => false,
            };
            let event = client.receive(SOON).unwrap();
            assert!(refused(&event), "{event:?}");
        }
    }
    ann.ping(SOON).unwrap();
    assert_eq!(ann.publish("a/b", b"x", 1, false).unwrap(), NOBODY_LISTENS);
}

#[test]
fn two_loads_into_one_broker_serve_together_and_end_together() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &[]);
        assert_eq!(stage.init(&[]), OK);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK);
        assert_eq!(stage.acl(0, PUBLISH, "b"), DENIED);
        stage.finish();
    }
}

#[test]
fn cleanup_without_init_and_init_after_cleanup() {
    for kind in HostKind::ALL {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        let mut stage = Stage { host: FakeHost::start(kind).unwrap(), redis };
        stage.user("ann", "secret", &[("a/#", "prs")]);
        let before = stage.threads();
        stage.host.load(&plugin().unwrap()).unwrap();
        for _ in 0..3 {
            assert_eq!(stage.host.command("cleanup", &[]).unwrap().code, OK, "{kind:?}");
            assert_eq!(stage.init(&[]), OK, "{kind:?}");
            assert!(stage.threads() > before);
            assert_eq!(stage.login(0, "c0", "ann", "secret"), OK, "{kind:?}");
            assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK, "{kind:?}");
            assert_eq!(stage.host.command("cleanup", &[]).unwrap().code, OK);
            stage.has_threads(before);
        }
        stage.finish();
    }
}

#[test]
fn options_that_make_no_sense_stop_the_start_and_leave_no_thread() {
    let mut stage = Stage::new(HostKind::V2_0, &[]);
    let before = stage.threads();
    for option in [("login_deadline", "soon"), ("store", "http://x"), ("hash_threads", "0"), ("anonymous", "perhaps")] {
        assert_eq!(stage.init(&[option]), UNKNOWN, "{option:?}");
        let line = stage.logged(&["can't start", option.0]);
        assert!(line.starts_with("log 8 "), "{line}");
        stage.has_threads(before);
    }
    stage.host.finish().unwrap();
}

#[test]
fn a_host_gets_what_its_release_has() {
    for (kind, api, level) in
        [(HostKind::V1_5, 3, "Auth"), (HostKind::V1_6, 4, "Auth"), (HostKind::V2_0, 5, "Events"), (HostKind::V2_1, 5, "Delayed")]
    {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        let mut stage = Stage { host: FakeHost::start(kind).unwrap(), redis };
        assert_eq!(stage.host.load(&plugin().unwrap()).unwrap(), api);
        assert_eq!(stage.init(&[]), OK);
        let calls = stage.host.calls();
        assert!(calls.iter().any(|call| call.contains(&format!("level {level}"))), "{calls:#?}");
        assert_eq!(calls.iter().any(|call| call == "register 11 0"), kind == HostKind::V2_1, "{calls:#?}");
        assert!(!calls.iter().any(|call| call.contains("refused to call us")), "{calls:#?}");
        stage.finish();
    }
}

#[test]
fn another_thread_asks_while_the_broker_works() {
    let mut stage = Stage::new(HostKind::V2_1, &[("shield_user_attempts", "0"), ("shield_address_attempts", "0")]);
    stage.user("ann", "secret", &[("/api/#", "pr"), ("a/#", "prs")]);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    let mut http = |words: &[String]| stage.host.command("http", words).unwrap().code;
    let login = |handle: u8, password: &str| ["auth".into(), handle.to_string(), text("http-api"), text("ann"), text(password)];
    let access = |handle: u8, topic: &str| ["acl".into(), handle.to_string(), "1".into(), text(topic)];
    for _ in 0..20 {
        assert_eq!(http(&login(2, "secret")), OK);
        assert_eq!(http(&access(2, "/api/v1/systree")), OK);
        assert_eq!(http(&access(2, "/other")), DENIED);
        assert_eq!(http(&login(3, "wrong")), AUTH);
        assert_eq!(http(&access(0, "a/b")), OK);
        assert_eq!(http(&["acl".into(), "9".into(), "1".into(), text("a/b")]), DENIED);
    }
    assert_eq!(stage.acl(0, RECEIVE, "a/b"), OK);
    let calls = stage.finish();
    assert!(!calls.iter().any(|call| call.contains("offthread")), "{calls:#?}");
}

#[test]
fn a_kick_that_calls_back_finds_the_plugin_in_order() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &[]);
        stage.host.command("recheck", &["1".into()]).unwrap();
        for name in ["ann", "bob", "cyd"] {
            stage.user(name, "secret", &[("recheck", "s")]);
        }
        for (handle, name) in ["ann", "bob", "cyd"].into_iter().enumerate() {
            assert_eq!(stage.login(u16::try_from(handle).unwrap(), &format!("c{handle}"), name, "secret"), OK);
        }
        assert_eq!(stage.acl(1, SUBSCRIBE, "recheck"), OK);
        stage.redis.cli(&["DEL", "midge:user:{ann}"]).unwrap();
        stage.redis.cli(&["HSET", "midge:user:{bob}", "enabled", "0"]).unwrap();
        let mut calls = Vec::new();
        until("two kicks", SOON, || {
            stage.host.tick()?;
            calls.extend(stage.host.calls());
            Ok((calls.iter().filter(|call| call.starts_with("kick_clientid")).count() == 2).then_some(()))
        })
        .unwrap();
        let rechecks: Vec<&String> = calls.iter().filter(|call| call.starts_with("recheck")).collect();
        // A session keeps its subscriptions, and nothing else.
        assert_eq!(rechecks, ["recheck 0", "recheck 0"], "{calls:#?}");
        for (handle, expected) in [(0, DENIED), (1, DENIED), (2, OK)] {
            assert_eq!(stage.acl(handle, SUBSCRIBE, "recheck"), expected, "{kind:?} {handle}");
        }
        stage.finish();
    }
}

#[test]
fn log_lines_that_come_back_as_access_checks_end() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &UNSHIELDED);
        stage.host.command("log_topic", &["1".into()]).unwrap();
        stage.user("ann", "secret", &[("a/#", "prs")]);
        let mut calls = Vec::new();
        for round in 0..5 {
            assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
            stage.login(1, "c1", "ann", "wrong");
            stage.login(2, "c2", "nobody", "wrong");
            stage.rule("ann", "a/+/not a # filter", "p");
            stage.redis.cli(&["HSET", "midge:user:{ann}", "enabled", if round % 2 == 0 { "0" } else { "1" }]).unwrap();
            for topic in ["a/b", "b"] {
                stage.acl(0, PUBLISH, topic);
            }
            stage.redis.cli(&["HSET", "midge:user:{ann}", "enabled", "1"]).unwrap();
            until("ann again", SOON, || Ok((stage.login(0, "c0", "ann", "secret") == OK).then_some(()))).unwrap();
            calls.extend(stage.host.calls());
        }
        assert!(calls.iter().any(|call| call.contains("wrong password")), "{calls:#?}");
        assert!(!calls.iter().any(|call| call == "recursion"), "{calls:#?}");
        stage.finish();
    }
}

#[test]
fn a_pointer_used_again_inherits_nothing() {
    for kind in HostKind::ALL {
        let mut stage = Stage::new(kind, &[]);
        stage.user("ann", "secret", &[("ann/#", "prs")]);
        stage.user("bob", "secret", &[("bob/#", "prs")]);
        let check = |stage: &mut Stage, expected: [i32; 2]| {
            let asked = ["ann/x", "bob/x"].map(|topic| stage.acl(0, PUBLISH, topic));
            assert_eq!(asked, expected, "{kind:?}");
        };
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        check(&mut stage, [OK, DENIED]);
        // Without a word in between: another id, another user, none.
        assert_eq!(stage.login(0, "c1", "bob", "secret"), OK);
        check(&mut stage, [DENIED, OK]);
        assert_eq!(stage.login(0, "c1", "ann", "secret"), OK);
        check(&mut stage, [OK, DENIED]);
        assert_eq!(stage.login_anonymous(0, "c1"), AUTH);
        check(&mut stage, [DENIED, DENIED]);
        assert_ne!(stage.login(0, "c2", "nobody", "secret"), OK);
        check(&mut stage, [DENIED, DENIED]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        stage.host.event("disconnect", 0).unwrap();
        assert_ne!(stage.login(0, "c0", "bob", "wrong"), OK);
        assert_eq!(stage.acl(0, PUBLISH, "ann/x"), DENIED, "{kind:?}");
        stage.finish();
    }
}

#[test]
fn the_end_of_a_refused_login_does_not_end_the_client_of_that_id() {
    for kind in MODERN {
        let mut stage = Stage::new(kind, &[]);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        assert_eq!(stage.login(1, "c0", "ann", "wrong"), AUTH);
        stage.host.event("disconnect", 1).unwrap();
        stage.host.event("disconnect", 7).unwrap();
        assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK);
        // It still counts as connected, so it is still cut off.
        stage.redis.cli(&["DEL", "midge:user:{ann}"]).unwrap();
        stage.host.tick_until("kick_clientid c0", SOON).unwrap();
        assert_eq!(stage.acl(0, PUBLISH, "a/b"), DENIED);
        stage.finish();
    }
}

/// Everything that a client and a broker do together; `struck` is the place that panics, none where nothing does.
fn conversation(stage: &mut Stage, kind: HostKind, struck: Option<&str>) {
    let fails = |site: &str| struck == Some(site);
    let scram = midge_core::scram::ScramCredential::derive(b"secret", 4096).unwrap().to_string();
    stage.user("ann", "secret", &[("a/#", "prs"), ("u/%u", "ps"), ("c/%c", "r")]);
    stage.redis.cli(&["HSET", "midge:user:{ann}", "scram", &scram, "groups", "g"]).unwrap();
    stage.redis.cli(&["HSET", "midge:group:{g}:acl", "g/+", "r"]).unwrap();

    let allowed = if fails("acl_check") { DENIED } else { OK };
    if fails("basic_auth") {
        assert_eq!(stage.login(0, "c0", "ann", "secret"), AUTH);
    } else {
        until("ann's login", SOON, || Ok((stage.login(0, "c0", "ann", "secret") == OK).then_some(()))).unwrap();
        assert_eq!(stage.login(1, "c1", "ann", "wrong"), AUTH);
        assert_eq!(stage.login(1, "c1", "nobody", "wrong"), AUTH);
        for (access, topic) in
            [(PUBLISH, "a/b"), (RECEIVE, "g/x"), (SUBSCRIBE, "a/+"), (UNSUBSCRIBE, "a/+"), (PUBLISH, "u/ann"), (RECEIVE, "c/c0")]
        {
            assert_eq!(stage.acl(0, access, topic), allowed, "{struck:?} {access} {topic}");
        }
    }
    for (access, topic) in [(PUBLISH, "b"), (SUBSCRIBE, "#"), (RECEIVE, "$SYS/x")] {
        assert_eq!(stage.acl(0, access, topic), DENIED);
    }
    if kind != HostKind::V1_5 {
        scram_login(stage, struck, 2);
    }
    if !fails("basic_auth") && MODERN.contains(&kind) {
        assert_eq!(stage.acl(0, SUBSCRIBE, "a/#"), allowed);
        stage.rule("ann", "a/#", "!prs");
        stage.acl_until(0, PUBLISH, "a/b", DENIED);
    }
    assert_eq!(stage.host.command("reload", &[]).unwrap().code, OK);
    stage.host.tick().unwrap();
    if kind == HostKind::V2_1 {
        stage.host.command("auth", &["5".into(), text("late"), text("stranger"), text("x")]).unwrap();
        stage.host.event("vanish", 5).unwrap();
        for event in ["connect", "offline"] {
            assert_eq!(stage.host.event(event, 3).unwrap(), OK);
        }
        let http = ["auth".into(), "6".into(), text("http-api"), text("ann"), text("secret")];
        assert_eq!(stage.host.command("http", &http).unwrap().code, if fails("basic_auth") { AUTH } else { OK });
    }
    for handle in 0..6 {
        assert_eq!(stage.host.event("disconnect", handle).unwrap(), OK);
    }
}

fn scram_login(stage: &mut Stage, struck: Option<&str>, handle: u16) {
    let client = ScramClient::new("ann", "secret");
    // The host names a client when it logs in by password; this one has to be named without getting in.
    stage.host.command("auth", &[handle.to_string(), text(""), none(), none()]).unwrap();
    let step = |stage: &mut Stage, name: &str, data: &[u8]| {
        stage.host.command(name, &[handle.to_string(), text("SCRAM-SHA-256"), bytes(data)]).unwrap()
    };
    let first = step(stage, "ext_start", &client.first());
    if struck == Some("ext_auth_start") {
        assert_eq!(first.code, AUTH);
        return;
    }
    assert_eq!(first.code, AUTH_CONTINUE);
    let last = client.last(&unhex(first.field("out").unwrap()));
    let wanted = if struck == Some("ext_auth_continue") { AUTH } else { OK };
    // Without an id nobody gets in, however right the proof is.
    let code = step(stage, "ext_continue", &last).code;
    assert!(code == wanted || code == AUTH, "{struck:?}: {code}");
}

const SITES: [&str; 11] = [
    "acl_check",
    "basic_auth",
    "ext_auth_start",
    "ext_auth_continue",
    "reload",
    "tick",
    "disconnect",
    "connect",
    "offline",
    "other",
    "cleanup",
];

#[test]
fn a_panic_refuses_that_request_and_nothing_else() {
    for kind in HostKind::ALL {
        for site in SITES {
            // A panicking tick can't complete a delayed login.
            if (kind, site) == (HostKind::V2_1, "tick") {
                continue;
            }
            let mut stage = Stage::new(kind, &[("fault_panic_at", site)]);
            conversation(&mut stage, kind, Some(site));
            stage.host.cleanup().unwrap();
            // Code that still runs must not be unmapped; the host gives it time to fall.
            std::thread::sleep(Duration::from_millis(if site == "cleanup" { 1200 } else { 0 }));
            assert_eq!(stage.host.command("counters", &[]).unwrap().code, -1);
            stage.host.finish().unwrap();
        }
    }
}

#[test]
fn a_panic_in_init_refuses_the_load() {
    for kind in HostKind::ALL {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        let mut stage = Stage { host: FakeHost::start(kind).unwrap(), redis };
        stage.host.load(&plugin().unwrap()).unwrap();
        // The first init arms it, the second strikes.
        stage.init(&[("fault_panic_at", "init")]);
        assert_eq!(stage.init(&[]), UNKNOWN, "{kind:?}");
        stage.finish();
    }
}

#[test]
fn a_tick_of_2_1_that_panics_keeps_logins_waiting_and_the_broker_alive() {
    let mut stage = Stage::new(HostKind::V2_1, &[("fault_panic_at", "tick")]);
    stage.user("ann", "secret", &[]);
    let code = stage.host.auth(0, Some("c0"), Some("ann"), Some("secret")).unwrap();
    assert_eq!(code, -5);
    for _ in 0..50 {
        stage.host.tick().unwrap();
    }
    assert_eq!(stage.acl(1, PUBLISH, "a"), DENIED);
    stage.finish();
}

/// A real broker whose clients come from Redis.
struct RealBroker {
    mosquitto: Mosquitto,
    _redis: RedisServer,
}

impl RealBroker {
    fn start(version: MosquittoVersion, options: &str) -> Self {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}secret"]).unwrap();
        redis.cli(&["HSET", "midge:user:{ann}:acl", "a/#", "prs"]).unwrap();
        let config = format!(
            "allow_anonymous false\nauth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_login_deadline 10s\n{options}\n",
            redis.url()
        );
        Self { mosquitto: Mosquitto::builder(version).config(&config).start().unwrap(), _redis: redis }
    }

    fn try_connect(&self, id: &str) -> Option<(RawClient, u8)> {
        RawClient::try_connect(self.mosquitto.port(), &Connect::new(Protocol::V5, id).login("ann", "secret")).ok()
    }

    fn connect(&self, id: &str) -> RawClient {
        match self.try_connect(id) {
            Some((client, 0)) => client,
            other => panic!("not let in: {:?}", other.map(|(_, code)| code)),
        }
    }
}

#[test]
fn a_panic_leaves_a_real_mosquitto_running() {
    for version in [MosquittoVersion::V2_0_11, MosquittoVersion::V2_1_2] {
        for site in ["acl_check", "basic_auth", "disconnect", "reload", "cleanup"] {
            let mut broker = RealBroker::start(version, &format!("auth_opt_fault_panic_at {site}"));
            if site == "basic_auth" {
                assert_eq!(broker.try_connect("c0").map(|(_, code)| code), Some(135), "{version:?}");
            } else {
                let mut client = broker.connect("c0");
                let denied = if site == "acl_check" { 135 } else { 0 };
                assert_eq!(client.subscribe(&[("a/#", 0)]).unwrap(), [denied], "{version:?} {site}");
                assert_eq!(client.publish("a/b", b"x", 1, false).unwrap(), denied);
                broker.mosquitto.reload().unwrap();
                client.ping(SOON).unwrap();
                drop(client);
                drop(broker.connect("c1"));
            }
            let port = broker.mosquitto.port();
            assert!(RawClient::open(port, Protocol::V5).is_ok(), "{version:?} {site}");
            assert!(broker.mosquitto.stop().unwrap().success(), "{version:?} {site}");
            if site != "cleanup" && site != "reload" {
                assert!(broker.mosquitto.log().contains(&format!("internal error in {site}")), "{version:?} {site}");
            }
        }
    }
}

/// Returns what each thread of a process has open beyond the standard streams, by the thread's name.
fn open_by_thread(process: u32) -> Vec<(String, Vec<String>)> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
        let mut files = Vec::new();
        for file in std::fs::read_dir(task.join("fd")).unwrap().map(Result::unwrap) {
            let number: u32 = file.file_name().to_str().unwrap().parse().unwrap();
            // One that was closed meanwhile is nobody's.
            files.extend(std::fs::read_link(file.path()).ok().filter(|_| number > 2).map(|to| to.display().to_string()));
        }
        threads.push((name, files));
    }
    threads
}

#[test]
fn our_threads_hold_nothing_that_the_broker_has_open() {
    for version in [MosquittoVersion::V2_0_11, MosquittoVersion::V2_1_2] {
        let mut broker = RealBroker::start(version, "");
        let mut client = broker.connect("c0");
        client.ping(SOON).unwrap();
        let (ours, theirs): (Vec<_>, Vec<_>) =
            open_by_thread(broker.mosquitto.process().id()).into_iter().partition(|(name, _)| name.starts_with("midge-"));
        let theirs: Vec<String> = theirs.into_iter().flat_map(|(_, files)| files).collect();
        assert!(theirs.iter().filter(|file| file.starts_with("socket:")).count() >= 2, "{version:?}: {theirs:?}");
        assert!(ours.iter().any(|(_, files)| files.iter().any(|file| file.starts_with("socket:"))), "{version:?}: {ours:?}");
        for (name, files) in ours {
            assert!(files.iter().all(|file| !theirs.contains(file)), "{version:?} {name}: {files:?} {theirs:?}");
        }
    }
}

#[test]
fn the_whole_conversation_is_clean_under_valgrind() {
    for kind in [HostKind::V1_6, HostKind::V2_0, HostKind::V2_1] {
        let mut stage = Stage::with(FakeHost::start_valgrind(kind).unwrap(), &[]);
        conversation(&mut stage, kind, None);
        for odd in [bytes(b"\xff"), bytes(&[b'n'; 65_535])] {
            stage.host.command("auth", &["1".into(), odd.clone(), odd.clone(), odd.clone()]).unwrap();
            stage.host.command("acl", &["1".into(), "2".into(), odd]).unwrap();
        }
        for event in 1..=11 {
            stage.host.command("null", &[event.to_string()]).unwrap();
            stage.host.command("zero", &[event.to_string()]).unwrap();
        }
        stage.finish();
    }
}
