//! What Redis may hold that makes no sense.
//!
//! Whoever it belongs to is refused or gets less; nobody else notices, and the log says which key is wrong, once.

use midge_core::password::HashPolicy;
use midge_testkit::{Connect, HostKind, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, until};

use crate::stage::{AUTH, DENIED, OK, PUBLISH, RECEIVE, SOON, SUBSCRIBE, Stage, UNSHIELDED};

/// A stage with two users that everything is fine with: one with a rule, one that may do anything.
fn stage() -> Stage {
    let mut stage = Stage::new(HostKind::V2_0, &UNSHIELDED);
    stage.user("ann", "secret", &[("a/#", "prs")]);
    stage.user("root", "secret", &[]);
    stage.redis.cli(&["HSET", "midge:user:{root}", "superuser", "1"]).unwrap();
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
    assert_eq!(stage.login(1, "c1", "root", "secret"), OK);
    stage
}

/// Says that those two are as they were.
fn others_are_well(stage: &mut Stage) {
    for (access, topic, expected) in [(PUBLISH, "a/b", OK), (RECEIVE, "a", OK), (SUBSCRIBE, "a/+", OK), (PUBLISH, "b", DENIED)] {
        assert_eq!(stage.acl(0, access, topic), expected, "{access} {topic}");
    }
    assert_eq!(stage.acl(1, PUBLISH, "any/thing"), OK);
    assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
}

/// Runs a command whose arguments are written in Lua, where a text can hold any byte.
fn lua(stage: &Stage, script: &str) {
    stage.redis.cli(&["EVAL", script, "0"]).unwrap();
}

fn mentions(calls: &[String], key: &str) -> usize {
    calls.iter().filter(|call| call.starts_with("log 4 ") && call.contains(&format!("{key}:"))).count()
}

#[test]
fn names_with_wildcards_stand_in_for_no_placeholder() {
    let mut stage = stage();
    for (filter, rights) in [("u/%u/x", "prs"), ("c/${clientid}/x", "prs"), ("%u", "prs"), ("c/%c", "prs"), ("fixed", "p")] {
        stage.redis.cli(&["HSET", "midge:all:acl", filter, rights]).unwrap();
    }
    stage.acl_until(0, PUBLISH, "fixed", OK);
    let names = ["+", "#", "a+b", "a#", "a/b", "/", "$SYS", "b\tc", "\u{85}", "%u", "%c", "${username}"];
    for name in names {
        stage.user(name, "secret", &[]);
        assert_eq!(stage.login(3, name, name, "secret"), OK, "{name:?}");
        let odd = name.contains(['+', '#', '/']) || name.chars().any(char::is_control);
        let own = if odd { DENIED } else { OK };
        for topic in [format!("u/{name}/x"), format!("c/{name}/x"), format!("c/{name}")] {
            assert_eq!(stage.acl(3, SUBSCRIBE, &topic), own, "{name:?} {topic:?}");
        }
        for topic in ["u/other/x", "c/other/x", "other", "u/a/b/x", "a/b", "c/c", "u/ann/x"] {
            for access in [PUBLISH, RECEIVE, SUBSCRIBE] {
                assert_eq!(stage.acl(3, access, topic), DENIED, "{name:?} {access} {topic}");
            }
        }
        assert_eq!(stage.acl(3, PUBLISH, "fixed"), OK, "{name:?}");
    }
    stage.finish();
}

#[test]
fn ids_with_wildcards_reach_nothing_in_a_real_broker() {
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}secret"]).unwrap();
    redis.cli(&["HSET", "midge:all:acl", "c/%c", "prs", "c/%c/#", "prs", "open", "prs"]).unwrap();
    let config =
        format!("allow_anonymous false\nauth_plugin {{plugin}}\nauth_opt_store {}\nauth_opt_login_deadline 10s\n", redis.url());
    let broker = Mosquitto::builder(MosquittoVersion::V2_0_11).config(&config).start().unwrap();
    let cases = [("plain", "c/plain", 0), ("+", "c/+", 128), ("#", "c/#", 128), ("a/b", "c/a/b", 128), ("a+", "c/+", 128)];
    for (id, own, expected) in cases {
        let connect = Connect::new(Protocol::V3_1_1, id).login("ann", "secret");
        let mut client = RawClient::connect(broker.port(), &connect).unwrap();
        let codes = client.subscribe(&[(own, 0), ("c/other", 0), ("c/a/x", 0), ("open", 0)]).unwrap();
        assert_eq!(codes, [expected, 128, 128, 0], "{id}");
    }
}

/// Commands that put something else than the right type under a key.
const WRONG_TYPES: [(&str, &[&str]); 5] = [
    ("string", &["SET", "KEY", "text"]),
    ("list", &["RPUSH", "KEY", "password", "x"]),
    ("set", &["SADD", "KEY", "a/#"]),
    ("zset", &["ZADD", "KEY", "1", "a/#"]),
    ("stream", &["XADD", "KEY", "*", "password", "x"]),
];

#[test]
fn a_key_of_the_wrong_type_closes_what_it_stands_for() {
    for (kind, command) in WRONG_TYPES {
        let mut stage = stage();
        let put = |stage: &Stage, key: &str| {
            let command: Vec<&str> = command.iter().map(|word| if *word == "KEY" { key } else { word }).collect();
            stage.redis.cli(&command).unwrap();
        };
        for name in ["rules", "grouped"] {
            stage.user(name, "secret", &[]);
        }
        stage.rule("grouped", "own/#", "p");
        stage.redis.cli(&["HSET", "midge:user:{grouped}", "groups", "g"]).unwrap();
        let keys = ["midge:user:{broken}", "midge:user:{rules}:acl", "midge:group:{g}:acl"];
        for key in keys {
            put(&stage, key);
        }
        assert_eq!(stage.login(2, "c2", "broken", "x"), AUTH, "{kind}");
        assert_eq!(stage.login(3, "c3", "rules", "secret"), OK, "{kind}");
        assert_eq!(stage.acl(3, PUBLISH, "a/b"), DENIED, "{kind}");
        assert_eq!(stage.login(4, "c4", "grouped", "secret"), OK, "{kind}");
        assert_eq!(stage.acl(4, PUBLISH, "own/x"), DENIED, "{kind}: what the group denies is not known");
        others_are_well(&mut stage);
        for _ in 0..3 {
            stage.login(2, "c2", "broken", "x");
            stage.login(3, "c3", "rules", "secret");
        }
        // A ban must be a text; one that can't be read bans all the same, or else nobody.
        if kind != "string" {
            put(&stage, "midge:ban:{user:nobody}");
            others_are_well(&mut stage);
        }
        let calls = stage.calls();
        for key in keys {
            assert_eq!(mentions(&calls, key), 1, "{kind} {key} {calls:#?}");
        }
        // Everyone's rules concern everyone but those whom no rule concerns.
        put(&stage, "midge:all:acl");
        stage.acl_until(0, PUBLISH, "a/b", DENIED);
        assert_eq!(stage.acl(1, PUBLISH, "a/b"), OK);
        stage.redis.cli(&["DEL", "midge:all:acl"]).unwrap();
        stage.acl_until(0, PUBLISH, "a/b", OK);
        stage.finish();
    }
}

#[test]
fn a_truncated_hash_lets_nobody_in() {
    let mut stage = stage();
    let mut cut = Vec::new();
    for policy in [HashPolicy::argon2id(64, 1, 1).unwrap(), HashPolicy::mosquitto7(10).unwrap()] {
        let whole = policy.hash(b"secret").unwrap();
        let cuts = [0, 1, 2, 3, whole.len() / 4, whole.len() / 2, whole.len() - 20, whole.len() - 2];
        cut.extend(cuts.map(|length| whole[..length].to_owned()));
        cut.extend([format!("{whole}$"), format!("${whole}"), whole.replace('$', " ")]);
    }
    cut.extend(
        ["PBKDF2$sha512$", "$2a$", "$2b$10$", "$7$", "$7$$$", "$7$x$y$z", "{plain", "{}", "$argon2id$v=19$m=1", "secret"]
            .map(str::to_owned),
    );
    cut.push("$argon2id$v=19$m=4294967295,t=4294967295,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5".to_owned());
    cut.push("$7$4294967295$c2FsdHNhbHQ=$a2V5a2V5".to_owned());
    for (n, password) in cut.iter().enumerate() {
        stage.redis.cli(&["HSET", &format!("midge:user:{{cut{n}}}"), "password", password, "enabled", "1"]).unwrap();
        for guess in ["secret", "", password.as_str()] {
            assert_eq!(stage.login(2, "c2", &format!("cut{n}"), guess), AUTH, "{password:?} {guess:?}");
        }
    }
    others_are_well(&mut stage);
    let calls = stage.calls();
    assert_eq!(mentions(&calls, "midge:user:{cut3}"), 1, "{calls:#?}");
    let secret = |call: &&String| cut.iter().any(|text| text.len() > 12 && call.contains(text.as_str()));
    assert_eq!(calls.iter().find(secret), None, "a stored password is nothing for a log");
    stage.finish();
}

#[test]
fn thousands_of_groups_refuse_their_user_alone() {
    let mut stage = stage();
    let groups = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>().join(",");
    for (name, count) in [("many", 5_000), ("some", 256)] {
        stage.user(name, "secret", &[]);
        stage.redis.cli(&["HSET", &format!("midge:user:{{{name}}}"), "groups", &groups(count)]).unwrap();
    }
    stage.redis.cli(&["HSET", "midge:group:{g255}:acl", "last/#", "p"]).unwrap();
    assert_eq!(stage.login(2, "c2", "many", "secret"), AUTH);
    assert_eq!(stage.login(3, "c3", "some", "secret"), OK);
    assert_eq!(stage.acl(3, PUBLISH, "last/x"), OK);
    others_are_well(&mut stage);
    let calls = stage.calls();
    assert_eq!(mentions(&calls, "midge:user:{many}"), 1, "{calls:#?}");
    stage.finish();
}

#[test]
fn a_rule_that_is_no_filter_grants_nothing_and_hides_no_other() {
    let mut stage = stage();
    stage.user(
        "odd",
        "secret",
        &[("good/#", "prs"), ("a/#/b", "prs"), ("+a", "p"), ("a#", "r"), ("#/", "p"), ("", "prs"), ("bad/rights", "what")],
    );
    lua(&stage, r"redis.call('HSET','midge:user:{odd}:acl','\255\254','p','nul\0l','p','binary/rights','\255\0\1')");
    assert_eq!(stage.login(2, "c2", "odd", "secret"), OK);
    assert_eq!(stage.acl(2, PUBLISH, "good/x"), OK);
    for topic in ["a/x/b", "a", "b", "xa", "aa", "bad/rights", "nul", "binary/rights"] {
        for access in [PUBLISH, RECEIVE, SUBSCRIBE] {
            assert_eq!(stage.acl(2, access, topic), DENIED, "{access} {topic}");
        }
    }
    for filter in ["#", "+", "a/#", "+/x"] {
        assert_eq!(stage.acl(2, SUBSCRIBE, filter), DENIED, "{filter}");
    }
    others_are_well(&mut stage);
    stage.login(2, "c2", "odd", "secret");
    let calls = stage.calls();
    assert_eq!(mentions(&calls, "midge:user:{odd}:acl"), 1, "{calls:#?}");
    stage.finish();
}

#[test]
fn a_hundred_thousand_rules_of_one_user_are_kept_and_hold_up_nobody() {
    let mut stage = stage();
    stage.user("rich", "secret", &[]);
    lua(&stage, "for n = 1, 100000 do redis.call('HSET', 'midge:user:{rich}:acl', 'r/' .. n .. '/+/x', 'prs') end");
    assert_eq!(stage.login(2, "c2", "rich", "secret"), OK);
    for (topic, expected) in [("r/1/a/x", OK), ("r/100000/a/x", OK), ("r/100001/a/x", DENIED), ("r/1/a/y", DENIED)] {
        assert_eq!(stage.acl(2, PUBLISH, topic), expected, "{topic}");
    }
    others_are_well(&mut stage);
    stage.rule("rich", "r/1/+/x", "!prs");
    stage.acl_until(2, PUBLISH, "r/1/a/x", DENIED);
    assert_eq!(stage.acl(2, PUBLISH, "r/2/a/x"), OK);
    others_are_well(&mut stage);
    stage.finish();
}

#[test]
fn huge_and_binary_values_are_refused_by_themselves() {
    let mut stage = stage();
    let scripts = [
        "redis.call('HSET', 'midge:user:{huge0}', 'password', string.rep('x', 1000000))",
        "redis.call('HSET', 'midge:user:{huge1}', 'password', '{plain}secret', 'groups', string.rep('g,', 2000000) .. string.rep('x', 1000000))",
        "redis.call('HSET', 'midge:user:{huge2}', 'password', '{plain}secret', 'enabled', string.rep('1', 1000000))",
        "redis.call('HSET', 'midge:user:{huge3}', 'password', '{plain}secret', string.rep('unknown', 100000), 'x')",
        r"redis.call('HSET', 'midge:user:{huge4}', 'password', '\0\255{plain}secret')",
        r"redis.call('HSET', 'midge:user:{huge5}', 'password', '{plain}secret', 'superuser', '\255')",
        r"redis.call('HSET', 'midge:user:{huge6}', 'password', '{plain}secret', 'client_id', '\255*')",
        "redis.call('HSET', 'midge:user:{huge7}', 'password', '{plain}secret') \
         redis.call('HSET', 'midge:user:{huge7}:acl', string.rep('long/', 200000), 'prs', 'ok/#', string.rep('x', 1000000), 'fine', 'p')",
        "redis.call('SET', 'midge:ban:{user:huge8}', string.rep('x', 5000000)) \
         redis.call('HSET', 'midge:user:{huge8}', 'password', '{plain}secret')",
    ];
    for script in scripts {
        lua(&stage, script);
    }
    let expected = [AUTH, AUTH, AUTH, OK, AUTH, OK, AUTH, OK];
    for (n, expected) in expected.into_iter().enumerate() {
        assert_eq!(stage.login(2, "c2", &format!("huge{n}"), "secret"), expected, "{n}");
        if expected == OK {
            assert_eq!(stage.acl(2, PUBLISH, "any/thing"), DENIED, "{n}");
            assert_eq!(stage.acl(2, PUBLISH, "ok/x"), DENIED, "{n}");
            assert_eq!(stage.acl(2, PUBLISH, "fine"), if n == 7 { OK } else { DENIED }, "{n}");
        }
    }
    until("the ban", SOON, || Ok((stage.login(2, "c2", "huge8", "secret") == AUTH).then_some(()))).unwrap();
    others_are_well(&mut stage);
    let calls = stage.calls();
    for n in [0, 1, 2, 4, 5, 6] {
        assert_eq!(mentions(&calls, &format!("midge:user:{{huge{n}}}")), 1, "{n} {calls:#?}");
    }
    assert!(calls.iter().all(|call| call.len() < 2_000), "a line of the log stays short");
    stage.finish();
}
