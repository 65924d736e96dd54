//! What went wrong in other plugins, and doesn't here.
//!
//! One test for each defect of mosquitto-go-auth, mosquitto-auth-plug, EMQX and VerneMQ that `docs/INCUMBENTS.md` lists.

use std::time::Duration;

use midge_testkit::fake_host::bytes;
use midge_testkit::{Connect, HostKind, Mosquitto, MosquittoVersion, Protocol, RawClient, until};

use crate::stage::{AUTH, DEFER, DENIED, OK, PATIENT, PUBLISH, RECEIVE, SOON, SUBSCRIBE, Stage, UNSHIELDED};

fn stage(options: &[(&str, &str)]) -> Stage {
    Stage::new(HostKind::V2_0, options)
}

/// Has Redis note every command with its arguments.
fn note_commands(stage: &Stage) {
    stage.redis.cli(&["CONFIG", "SET", "slowlog-max-len", "100000"]).unwrap();
    stage.redis.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).unwrap();
}

/// Returns every command that Redis was given, and every key that it has.
fn commands_and_keys(stage: &Stage) -> String {
    let commands = stage.redis.cli(&["SLOWLOG", "GET", "-1"]).unwrap();
    format!("{commands}\n{}", stage.redis.cli(&["KEYS", "*"]).unwrap())
}

#[test]
fn no_password_that_is_shown_reaches_redis() {
    let mut stage = stage(&UNSHIELDED);
    let stored = midge_core::password::HashPolicy::mosquitto7(10).unwrap().hash(b"the-right-secret").unwrap();
    stage.redis.cli(&["HSET", "midge:user:{ann}", "password", &stored]).unwrap();
    note_commands(&stage);
    for (user, password) in
        [("ann", "the-right-secret"), ("ann", "a-wrong-secret"), ("nobody", "an-idle-secret"), ("ann", "the-right-secret")]
    {
        stage.login(0, "c0", user, password);
        stage.acl(0, PUBLISH, "a/b");
    }
    stage.host.tick().unwrap();
    let seen = commands_and_keys(&stage);
    assert!(seen.contains("midge:user:{ann}"), "{seen}");
    // Their middles, in base64 wherever they may begin, and in hexadecimal.
    for piece in ["secret", "right", "wrong", "idle", "c2VjcmV0", "NlY3Jld", "zZWNyZX", "736563726574"] {
        assert!(!seen.contains(piece), "{piece} in {seen}");
    }
    stage.finish();
}

#[test]
fn nothing_is_ever_flushed() {
    let mut stage = stage(&[]);
    note_commands(&stage);
    stage.user("ann", "secret", &[]);
    stage.redis.cli(&["SET", "somebody:elses", "key"]).unwrap();
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    assert_eq!(stage.init(&[]), OK);
    stage.host.command("reload", &[]).unwrap();
    stage.host.tick().unwrap();
    let seen = commands_and_keys(&stage).to_lowercase();
    assert!(seen.contains("somebody:elses") && !seen.contains("flushdb") && !seen.contains("flushall"), "{seen}");
    stage.finish();
}

#[test]
fn names_and_passwords_that_read_alike_together_are_told_apart() {
    let mut stage = stage(&UNSHIELDED);
    for (user, password) in [("a", "b-c"), ("a-b", "x"), ("a:b", "c"), ("a", "b-c")] {
        stage.user(user, password, &[]);
        assert_eq!(stage.login(0, "c0", user, password), OK);
    }
    for (user, password) in [("a-b", "c"), ("a", "b:c"), ("a", "b-"), ("a-b-c", ""), ("a:b", "c "), ("", "ab-c"), ("a:", "b:c")] {
        assert_eq!(stage.login(1, "c1", user, password), AUTH, "{user} {password}");
    }
    stage.user("bob", "secret", &[("x-y", "prs")]);
    stage.user("bob-x", "secret", &[("other", "prs")]);
    assert_eq!(stage.login(2, "c2", "bob", "secret"), OK);
    assert_eq!(stage.login(3, "c3", "bob-x", "secret"), OK);
    for _ in 0..2 {
        assert_eq!(stage.acl(2, PUBLISH, "x-y"), OK);
        assert_eq!(stage.acl(3, PUBLISH, "y"), DENIED);
        assert_eq!(stage.acl(3, PUBLISH, "x-y"), DENIED);
    }
    stage.finish();
}

#[test]
fn a_subscription_needs_a_rule_that_covers_it() {
    let mut stage = stage(&[]);
    stage.user("ann", "secret", &[("a/+", "prs"), ("b/+/c", "prs"), ("d/#", "prs")]);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    let cases = [
        ("a/+", OK),
        ("a/x", OK),
        ("a/#", DENIED),
        ("a/+/+", DENIED),
        ("+/+", DENIED),
        ("#", DENIED),
        ("b/#", DENIED),
        ("b/+/+", DENIED),
        ("d/#", OK),
        ("d/+/#", OK),
        ("$share/g/a/#", DENIED),
        ("$share/g/a/+", OK),
    ];
    for (filter, expected) in cases {
        assert_eq!(stage.acl(0, SUBSCRIBE, filter), expected, "{filter}");
    }
    stage.finish();
}

#[test]
fn a_rule_for_everything_does_not_reach_the_brokers_own_topics() {
    let mut stage = stage(&[]);
    stage.user("ann", "secret", &[("#", "prs"), ("+/broker/#", "prs")]);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    assert_eq!(stage.acl(0, SUBSCRIBE, "#"), OK);
    for topic in ["$SYS/broker/log/N", "$CONTROL/dynamic-security/v1", "$SYS"] {
        for access in [PUBLISH, RECEIVE, SUBSCRIBE] {
            assert_eq!(stage.acl(0, access, topic), DENIED, "{access} {topic}");
        }
    }
    for filter in ["$SYS/#", "$SYS/+/log/N", "$share/g/$SYS/#"] {
        assert_eq!(stage.acl(0, SUBSCRIBE, filter), DENIED, "{filter}");
    }
    stage.finish();
}

#[test]
fn guesses_do_not_fill_the_memory() {
    let small = [("unknown_accounts", "500"), ("accounts", "500"), ("credential_entries", "500"), ("shield_entries", "500")];
    let mut options = small.to_vec();
    options.extend([("shield_address_attempts", "0"), ("hide_unknown_users", "false"), ("log_level", "error")]);
    let mut stage = stage(&options);
    stage.user("ann", "secret", &[]);
    let guess = |stage: &mut Stage, rounds: std::ops::Range<u32>| {
        for n in rounds {
            let long = format!("{n}-{}", "x".repeat(400));
            assert_eq!(stage.login(0, "c0", "ann", &long), AUTH);
            assert_eq!(stage.login(1, &long, &long, "secret"), AUTH);
            assert_eq!(stage.acl(0, PUBLISH, &long), DENIED);
        }
    };
    guess(&mut stage, 0..2_000);
    let before = stage.memory_kib();
    guess(&mut stage, 2_000..10_000);
    let after = stage.memory_kib();
    // 16,000 further logins of 400 bytes each: kept, they would be over 6 MiB of text alone.
    assert!(after < before + 3_000, "{before} KiB before, {after} KiB after");
    stage.finish();
}

#[test]
fn names_are_no_formats() {
    for kind in [HostKind::V1_5, HostKind::V2_0, HostKind::V2_1] {
        let mut stage = Stage::new(kind, &UNSHIELDED);
        let name = "%s%n%x%999999d%p";
        stage.user(name, "secret", &[(name, "p")]);
        assert_eq!(stage.login(0, name, name, "secret"), OK, "{kind:?}");
        assert_eq!(stage.acl(0, PUBLISH, name), OK);
        assert_eq!(stage.acl(0, PUBLISH, "%n%n%n%n"), DENIED);
        assert_eq!(stage.login(0, name, name, "%s%n"), AUTH);
        assert_eq!(stage.login(0, name, "%n%n%s%s", "%s%n"), AUTH);
        assert_eq!(stage.login(0, name, name, "secret"), OK);
        let calls = stage.finish();
        assert!(calls.iter().any(|call| call.contains(&format!("user \"{name}\" client \"{name}\""))), "{kind:?} {calls:#?}");
    }
}

#[test]
fn names_that_look_like_our_keys_are_only_names() {
    let mut stage = stage(&UNSHIELDED);
    stage.user("ann", "secret", &[("a/#", "prs")]);
    stage.redis.cli(&["HSET", "midge:user:{ann}", "superuser", "1"]).unwrap();
    stage.redis.cli(&["SET", "ann:su", "true"]).unwrap();
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    for name in [
        "ann:su",
        "ann:acl",
        "ann}",
        "ann}:acl",
        "{ann}",
        "{ann}:acl",
        "}",
        "{",
        "midge:user:{ann}",
        "ann:sacls",
        "user:{ann}:acl",
        ":",
        "*",
        "ann*",
    ] {
        for password in ["true", "secret", "", "prs", "{plain}secret", "1"] {
            assert_eq!(stage.login(1, "c1", name, password), AUTH, "{name} {password}");
        }
        // And as a user like any other.
        stage.user(name, "own", &[("own", "p")]);
        until("the new user", SOON, || Ok((stage.login(1, "c1", name, "own") == OK).then_some(()))).unwrap();
        stage.acl_until(1, PUBLISH, "own", OK);
        assert_eq!(stage.acl(1, PUBLISH, "a/b"), DENIED, "{name}");
    }
    stage.finish();
}

#[test]
fn names_bring_no_commands_of_their_own() {
    let mut stage = stage(&UNSHIELDED);
    stage.user("ann", "secret", &[("a/#", "prs")]);
    stage.redis.cli(&["SET", "canary", "alive"]).unwrap();
    let names = [
        "x\r\nFLUSHALL\r\n",
        "x FLUSHALL",
        "ann \r\n*1\r\n$8\r\nFLUSHALL\r\n",
        "a b",
        "'; DEL canary",
        "\" DEL canary",
        "x\nSET canary dead",
    ];
    for name in names {
        assert_eq!(stage.login(0, name, name, "secret"), AUTH, "{name:?}");
        stage.acl(0, PUBLISH, name);
        stage.user(name, "own", &[]);
        until("the new user", SOON, || Ok((stage.login(0, name, name, "own") == OK).then_some(()))).unwrap();
    }
    stage.host.tick().unwrap();
    assert_eq!(stage.redis.cli(&["GET", "canary"]).unwrap(), "alive");
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    let calls = stage.finish();
    assert!(calls.iter().all(|call| !call.contains('\r')), "names are escaped in the log");
}

#[test]
fn without_rules_nothing_is_allowed() {
    let mut stage = stage(&[]);
    stage.user("ann", "secret", &[]);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    for access in [PUBLISH, RECEIVE, SUBSCRIBE] {
        for topic in ["a", "ann", "#", "+"] {
            assert_eq!(stage.acl(0, access, topic), DENIED, "{access} {topic}");
        }
    }
    stage.finish();
}

#[test]
fn an_access_check_answers_yes_no_or_not_mine_whatever_happens() {
    for kind in HostKind::ALL {
        let mut stage = Stage::new(kind, &UNSHIELDED);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        let long = "x".repeat(65_535);
        let everything = |stage: &mut Stage, state: &str| {
            for handle in [0, 1, 7] {
                for access in [0, 1, 2, 3, 4, 5, 8, 16, 255] {
                    for topic in
                        ["a/b", "", "#", "a/#/b", "$SYS/x", "$share/", "$share/g", "$share//a", "/", "\u{0}", "\u{1f980}", &long]
                    {
                        let code = stage.acl(handle, access, topic);
                        assert!([OK, DENIED, DEFER].contains(&code), "{kind:?} {state} {handle} {access} {topic:.20}: {code}");
                    }
                    let arguments = [handle.to_string(), access.to_string(), bytes(b"\xff\xfe")];
                    assert_eq!(stage.host.command("acl", &arguments).unwrap().code, DENIED);
                }
            }
            assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK, "{kind:?} {state}");
        };
        everything(&mut stage, "as it should be");
        stage.redis.pause().unwrap();
        everything(&mut stage, "with a store that says nothing");
        stage.redis.resume().unwrap();
        stage.redis.stop().unwrap();
        everything(&mut stage, "without a store");
        stage.redis.start().unwrap();
        everything(&mut stage, "with the store again");
        stage.finish();
    }
}

#[test]
fn without_a_store_nobody_new_gets_in() {
    for kind in HostKind::ALL {
        let mut stage = Stage::new(kind, &[("login_deadline", "50ms"), UNSHIELDED[0], UNSHIELDED[1]]);
        stage.user("ann", "secret", &[("a/#", "prs")]);
        stage.user("bob", "secret", &[("a/#", "prs")]);
        until("ann's login", SOON, || Ok((stage.login(0, "c0", "ann", "secret") == OK).then_some(()))).unwrap();
        stage.redis.stop().unwrap();
        until("the store counted as away", SOON, || Ok((stage.login(1, "c1", "bob", "secret") != OK).then_some(()))).unwrap();
        for (user, password) in [("bob", "secret"), ("nobody", ""), ("ann", "wrong"), ("", "")] {
            assert_ne!(stage.login(1, "c1", user, password), OK, "{kind:?} {user}");
        }
        assert_ne!(stage.login_anonymous(1, "c1"), OK);
        assert_eq!(stage.acl(1, PUBLISH, "a/b"), DENIED);
        assert_eq!(stage.login(2, "c2", "ann", "secret"), OK, "{kind:?}: what is known holds");
        stage.finish();
    }
}

#[test]
fn a_start_without_a_store_serves_at_once_and_everybody_later() {
    let mut redis = midge_testkit::RedisServer::builder(midge_testkit::RedisVersion::Redis7).start().unwrap();
    redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}secret"]).unwrap();
    redis.stop().unwrap();
    for version in [MosquittoVersion::V2_0_11, MosquittoVersion::V2_1_2] {
        let (name, time) = PATIENT;
        let config =
            format!("allow_anonymous false\nauth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_{name} {time}\n", redis.url());
        let broker = Mosquitto::builder(version).config(&config).start().unwrap();
        let login = || RawClient::try_connect(broker.port(), &Connect::new(Protocol::V3_1_1, "c0").login("ann", "secret"));
        assert!(!matches!(login(), Ok((_, 0))), "{version:?}");
        redis.start().unwrap();
        until("a login", SOON, || Ok(matches!(login(), Ok((_, 0))).then_some(()))).unwrap();
        redis.stop().unwrap();
    }
}

#[test]
fn waiting_for_redis_is_bounded_by_the_deadline_of_one_login() {
    let mut stage = stage(&[("login_deadline", "100ms"), UNSHIELDED[0], UNSHIELDED[1]]);
    stage.user("ann", "secret", &[("a/#", "prs")]);
    until("ann's login", SOON, || Ok((stage.login(0, "c0", "ann", "secret") == OK).then_some(()))).unwrap();
    stage.redis.pause().unwrap();
    // Were each to wait, this would take the plugin a minute and a half, and a dozen seconds a command elsewhere.
    let start = std::time::Instant::now();
    for n in 0..900 {
        assert_ne!(stage.login(1, "c1", &format!("new{n}"), "secret"), OK);
    }
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    assert_eq!(stage.acl(0, PUBLISH, "a/b"), OK);
    stage.redis.resume().unwrap();
    stage.finish();
}
