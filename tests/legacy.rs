//! The entry points of Mosquitto 1.5 and 1.6.
//!
//! The same answers as for 2.x, from versions 3 and 4 of the interface.

use midge_core::scram::ScramCredential;
use midge_testkit::HostKind;
use midge_testkit::fake_host::{bytes, none, text};

use crate::stage::{AUTH, AUTH_CONTINUE, DEFER, DENIED, OK, PUBLISH, RECEIVE, SUBSCRIBE, ScramClient, Stage, UNSHIELDED, unhex};

const OLD: [HostKind; 2] = [HostKind::V1_5, HostKind::V1_6];

fn stage(kind: HostKind, options: &[(&str, &str)]) -> Stage {
    let stage = Stage::new(kind, options);
    stage.user("ann", "secret", &[("a/#", "prs"), ("u/%u/+", "p"), ("only/in", "r")]);
    stage
}

#[test]
fn passwords_are_checked() {
    for kind in OLD {
        let mut stage = stage(kind, &UNSHIELDED);
        for (user, password, expected) in
            [("ann", "secret", OK), ("ann", "wrong", AUTH), ("ann", "", AUTH), ("nobody", "secret", AUTH), ("", "", AUTH)]
        {
            assert_eq!(stage.login(0, "c0", user, password), expected, "{kind:?} {user} {password}");
        }
        // From memory.
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        stage.finish();
    }
}

#[test]
fn every_kind_of_access_is_checked() {
    for kind in OLD {
        let mut stage = stage(kind, &[]);
        assert_eq!(stage.acl(3, PUBLISH, "a/b"), DENIED);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        let cases = [
            (PUBLISH, "a/b", OK),
            (PUBLISH, "b", DENIED),
            (PUBLISH, "u/ann/x", OK),
            (PUBLISH, "u/bob/x", DENIED),
            (RECEIVE, "u/ann/x", DENIED),
            (RECEIVE, "only/in", OK),
            (SUBSCRIBE, "a/+/c", OK),
            (SUBSCRIBE, "#", DENIED),
            (SUBSCRIBE, "+/b", DENIED),
            (SUBSCRIBE, "only/in", DENIED),
        ];
        for (access, topic, expected) in cases {
            assert_eq!(stage.acl(0, access, topic), expected, "{kind:?} {access} {topic}");
        }
        stage.finish();
    }
}

#[test]
fn a_change_in_the_store_acts_on_connected_clients_and_on_the_next_login() {
    for kind in OLD {
        let mut stage = stage(kind, &[]);
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        stage.rule("ann", "a/#", "!prs");
        stage.acl_until(0, PUBLISH, "a/b", DENIED);
        stage.rule("ann", "new/#", "p");
        stage.acl_until(0, PUBLISH, "new/b", OK);
        // This broker can't disconnect anybody; what is left to the client is nothing.
        stage.redis.cli(&["DEL", "midge:user:{ann}"]).unwrap();
        stage.acl_until(0, PUBLISH, "new/b", DENIED);
        assert_eq!(stage.login(1, "c1", "ann", "secret"), AUTH);
        stage.finish();
    }
}

#[test]
fn a_reload_reads_the_file_again() {
    for kind in OLD {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("midge.toml");
        std::fs::write(&file, "anonymous = \"deny\"\n").unwrap();
        let mut stage = stage(kind, &[("config", file.to_str().unwrap())]);
        stage.redis.cli(&["HSET", "midge:all:acl", "public/#", "r"]).unwrap();
        assert_eq!(stage.login_anonymous(0, "c0"), AUTH);
        std::fs::write(&file, "anonymous = \"allow\"\n").unwrap();
        assert_eq!(stage.host.command("reload", &[]).unwrap().code, OK);
        assert_eq!(stage.login_anonymous(0, "c0"), OK, "{kind:?}");
        assert_eq!(stage.acl(0, RECEIVE, "public/x"), OK);
        std::fs::write(&file, "anonymous = \"perhaps\"\n").unwrap();
        assert_eq!(stage.host.command("reload", &[]).unwrap().code, OK);
        assert_eq!(stage.login_anonymous(0, "c0"), OK, "{kind:?}: what is wrong changes nothing");
        stage.finish();
    }
}

#[test]
fn scram_lets_in_on_1_6() {
    let mut stage = stage(HostKind::V1_6, &[]);
    let scram = ScramCredential::derive(b"secret", 4096).unwrap().to_string();
    stage.redis.cli(&["HSET", "midge:user:{ann}", "scram", &scram]).unwrap();
    let mut run = |handle: u8, user: &str, password: &str| {
        stage.host.command("identify", &[handle.to_string(), text(&format!("c{handle}")), none()]).unwrap();
        let client = ScramClient::new(user, password);
        let mut step =
            |name: &str, data: &[u8]| stage.host.command(name, &[handle.to_string(), text("SCRAM-SHA-256"), bytes(data)]).unwrap();
        let first = step("ext_start", &client.first());
        assert_eq!(first.code, AUTH_CONTINUE);
        let last = step("ext_continue", &client.last(&unhex(first.field("out").unwrap())));
        (last.code, last.field("out").unwrap().len() > 1)
    };
    assert_eq!(run(0, "ann", "secret"), (OK, true));
    assert_eq!(run(1, "ann", "wrong"), (AUTH, false));
    assert_eq!(run(2, "nobody", "secret"), (AUTH, false));
    assert_eq!(stage.acl(0, PUBLISH, "u/ann/x"), OK);
    let unknown = stage.host.command("ext_start", &["3".into(), text("OTHER"), text("x")]).unwrap();
    assert_eq!(unknown.code, DEFER);
    for data in ["", "n,,", "n,,n=ann", "p=x,,n=ann,r=x", "n,,n=ann,r=x,m=y"] {
        let code = stage.host.command("ext_start", &["3".into(), text("SCRAM-SHA-256"), text(data)]).unwrap().code;
        assert_eq!(code, AUTH, "{data}");
        let code = stage.host.command("ext_continue", &["3".into(), text("SCRAM-SHA-256"), text(data)]).unwrap().code;
        assert_eq!(code, AUTH, "{data}");
    }
    stage.finish();
}

#[test]
fn keys_of_tls_psk_are_left_to_the_broker() {
    for kind in OLD {
        let mut stage = stage(kind, &[]);
        let answer = stage.host.command("psk", &["0".into(), text("hint"), text("ann")]).unwrap();
        assert_eq!((answer.code, answer.field("key").unwrap()), (DEFER, ""));
        stage.finish();
    }
}

#[test]
fn what_these_brokers_lack_is_said_once_at_the_start() {
    for kind in OLD {
        let mut stage = stage(kind, &[]);
        let line = stage.host.calls().into_iter().find(|call| call.contains("can neither disconnect a client"));
        assert!(line.is_some(), "{kind:?}");
        assert_eq!(stage.login(0, "c0", "ann", "secret"), OK);
        assert!(!stage.finish().iter().any(|call| call.contains("can neither")));
    }
}
