//! The fake host with a small plugin, in every release.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use midge_testkit::fake_host::{bytes, none, text};
use midge_testkit::{Connect, FakeHost, HostKind, Mosquitto, MosquittoVersion, Protocol, RawClient};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
const OPTIONS: &[(&str, &str)] = &[("key", "a value")];

fn plugin(dir: &TempDir) -> PathBuf {
    let file = dir.path().join("plugin.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin.c");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-g", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    assert!(command.arg(&file).arg(source).arg("-lpthread").status().unwrap().success());
    file
}

fn loaded(dir: &TempDir, mut host: FakeHost) -> (FakeHost, i32) {
    let api = host.load(&plugin(dir)).unwrap();
    assert_eq!(host.init(OPTIONS).unwrap(), 0);
    (host, api)
}

#[test]
fn every_release_offers_what_it_has() {
    let dir = TempDir::new().unwrap();
    for (kind, expected) in HostKind::ALL.into_iter().zip([3, 4, 5, 5]) {
        let (mut host, api) = loaded(&dir, FakeHost::start(kind).unwrap());
        assert_eq!(api, expected, "{kind:?}");
        assert_eq!(host.auth(0, Some("c0"), Some("ann"), Some("secret")).unwrap(), 0);
        assert_eq!(host.auth(1, Some("c1"), Some("ann"), Some("wrong")).unwrap(), 11);
        assert_eq!(host.auth(1, Some("c1"), None, None).unwrap(), 17);
        let odd = [none(), bytes(b"\xff\xfe"), bytes(b"\xc0"), bytes(b"\x80")];
        assert_eq!(host.command("auth", &odd).unwrap().code, 11);
        assert_eq!(host.acl(0, 2, "ok/a").unwrap(), 0);
        assert_eq!(host.acl(0, 1, "no").unwrap(), 12);
        for event in 1..=13 {
            host.command("null", &[event.to_string()]).unwrap();
            host.command("zero", &[event.to_string()]).unwrap();
        }
        assert_eq!(host.command("reload", &[]).unwrap().code, 0);
        assert_eq!(host.cleanup().unwrap(), 0);
        host.finish().unwrap();
    }
}

#[test]
fn calls_of_the_broker_are_seen_with_their_thread() {
    let dir = TempDir::new().unwrap();
    let (mut host, _) = loaded(&dir, FakeHost::start(HostKind::V2_0).unwrap());
    let calls = host.calls();
    assert!(calls.contains(&"offthread log 4 from a worker".to_owned()), "{calls:?}");
    assert!(calls.contains(&"register 10 0".to_owned()), "{calls:?}");
    assert!(calls.contains(&"register 11 10".to_owned()), "{calls:?}");
    host.auth(0, Some("c0"), Some("ann"), Some("secret")).unwrap();
    host.message(0, "ok/a", b"payload", false).unwrap();
    assert_eq!(host.calls(), ["publish someone copy x686579 1 0"]);
    host.command("reload", &[]).unwrap();
    assert_eq!(host.calls(), ["kick_clientid c0 1", "log 4 gone"]);
    assert_eq!(host.command("http", &["acl".into(), "0".into(), "1".into(), text("ok/x")]).unwrap().code, 0);
}

#[test]
fn a_delayed_login_ends_in_a_tick_of_2_1() {
    let dir = TempDir::new().unwrap();
    let (mut host, _) = loaded(&dir, FakeHost::start(HostKind::V2_1).unwrap());
    assert_eq!(host.auth(0, Some("c0"), Some("late"), Some("x")).unwrap(), -5);
    assert_eq!(host.tick_until("complete", SOON).unwrap(), "complete_basic_auth c0 0");
    assert_eq!(host.auth(0, Some("c1"), Some("late"), Some("x")).unwrap(), -5);
    host.event("vanish", 0).unwrap();
    host.tick().unwrap();
    assert_eq!(host.calls().last().unwrap(), "nobody_waits c1");
}

#[test]
fn a_crash_and_a_missing_file_are_reported() {
    let dir = TempDir::new().unwrap();
    let (mut host, _) = loaded(&dir, FakeHost::start(HostKind::V2_1).unwrap());
    let error = format!("{:#}", host.acl(0, 1, "crash").unwrap_err());
    assert!(error.contains("died") && error.contains("signal: 11"), "{error}");
    let mut host = FakeHost::start(HostKind::V1_5).unwrap();
    let error = format!("{:#}", host.load(Path::new("missing.so")).unwrap_err());
    assert!(error.contains("cannot open shared object file"), "{error}");
}

#[test]
fn allocations_are_counted_where_they_happen() {
    let dir = TempDir::new().unwrap();
    let (mut host, _) = loaded(&dir, FakeHost::start_counting(HostKind::V2_1).unwrap());
    host.auth(0, Some("c0"), Some("ann"), Some("secret")).unwrap();
    host.allocations().unwrap();
    host.acl(0, 1, "ok/a").unwrap();
    assert_eq!(host.allocations().unwrap(), (0, 0));
    host.acl(0, 1, "alloc").unwrap();
    assert_eq!(host.allocations().unwrap(), (1, 0));
    let bench = host.bench_acl(10_000, 1, &["ok/a", "no"]).unwrap();
    assert!(bench.calls >= 10_000 && bench.granted * 2 == bench.calls, "{bench:?}");
    assert!(bench.median_ns > 0.0 && bench.median_ns <= bench.p99_ns, "{bench:?}");
    assert_eq!(host.allocations().unwrap(), (0, 0));
}

#[test]
fn valgrind_sees_leaks_and_overruns_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let check = |kind, topic: &str, expected: Option<&str>| {
        let (mut host, api) = loaded(&dir, FakeHost::start_valgrind(kind).unwrap());
        if api == 5 {
            assert_eq!(host.init(OPTIONS).unwrap(), 0);
        }
        host.auth(0, Some("c0"), Some("ann"), Some("secret")).unwrap();
        host.message(0, "ok/a", b"payload", false).unwrap();
        host.command("acl", &["0".into(), "1".into(), text(topic)]).unwrap();
        host.tick().unwrap();
        host.event("disconnect", 0).unwrap();
        host.cleanup().unwrap();
        let found = host.finish().err().map(|error| format!("{error:#}"));
        match (expected, found) {
            (None, None) => {}
            (Some(words), Some(found)) => assert!(found.contains(words), "{found}"),
            (expected, found) => panic!("expected {expected:?}, got {found:?}"),
        }
    };
    for kind in HostKind::ALL {
        check(kind, "ok/a", None);
    }
    check(HostKind::V2_1, "leak", Some("definitely lost"));
    check(HostKind::V2_1, "overrun", Some("Invalid read"));
}

#[test]
fn real_brokers_load_the_same_plugin() {
    let dir = TempDir::new().unwrap();
    let file = plugin(&dir);
    for version in MosquittoVersion::ALL {
        let config = "auth_plugin {file}\nauth_opt_key a value\nallow_anonymous false\n";
        let broker = Mosquitto::builder(version).config(config).replace("{file}", &file.display());
        let broker = broker.start().unwrap();
        let connect = |user, password| {
            let connect = Connect::new(Protocol::V5, "c9").login(user, password);
            RawClient::try_connect(broker.port(), &connect).unwrap()
        };
        assert_eq!(connect("ann", "wrong").1, 135);
        let (mut client, code) = connect("ann", "secret");
        assert_eq!(code, 0);
        assert_eq!(client.subscribe(&[("ok/#", 1), ("no", 0)]).unwrap(), [1, 135]);
        if version == MosquittoVersion::V2_1_2 {
            assert_eq!(connect("late", "any").1, 0);
        }
    }
}
