//! Stores that are away, held by somebody else, huge or wrong.

use crate::place::{MIDGE, Place, Ran};
use midge_testkit::free_port;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn run(store: &str, words: &[&str]) -> Ran {
    let mut command = Command::new(MIDGE);
    command.env_clear().args(["--store", store]).args(words).stdin(Stdio::null());
    Ran::of(&command.output().unwrap())
}

#[test]
fn a_store_that_cannot_be_used_has_its_own_exit_code() {
    let port = free_port().unwrap();
    let away = format!("redis://user:hunter2@127.0.0.1:{port}");
    for words in [&["user", "list"][..], &["ban", "add", "user:x"], &["explain", "--anonymous", "--client", "c", "publish", "a"]] {
        let ran = run(&away, words);
        assert_eq!(ran.code, 3, "{words:?}: {ran:?}");
        assert!(ran.err.starts_with("midge: ") && ran.err.contains(&port.to_string()), "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{ran:?}");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn a_url_that_names_no_store_is_wrong_usage() {
    for store in ["", "http://127.0.0.1", "redis://127.0.0.1:x", "file:", "/var/lib/midge"] {
        let ran = run(store, &["user", "list"]);
        assert_eq!(ran.code, 2, "{store:?}: {ran:?}");
        assert!(ran.err.starts_with("midge: --store: "), "{store:?}: {ran:?}");
    }
}

#[test]
fn an_embedded_store_that_is_held_by_no_server_says_so() {
    let place = Place::embedded();
    place.ok(&["user", "add", "alice", "--no-password"], "");
    let url = place.url().parse().unwrap();
    let holder = midge_store::open(&url, &midge_store::StoreSettings::default()).unwrap();
    let ran = place.run(&["user", "list"], "");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains(&place.url()["file:".len()..]), "it says where: {ran:?}");
    drop(holder);
    assert!(place.ok(&["user", "list"], "").contains("alice"));
}

#[test]
fn a_server_with_other_keys_is_not_written_to() {
    let place = Place::served();
    place.ok(&["user", "add", "alice", "--no-password"], "");
    let ran = place.run(&["--prefix", "other:", "user", "list"], "");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("begin with \"midge:\"") && ran.out.is_empty(), "{ran:?}");
}

#[test]
fn a_hundred_thousand_users_are_listed() {
    const USERS: usize = 100_000;
    let place = Place::redis();
    let script = "for n = 1, ARGV[1] do redis.call('HSET', string.format('midge:user:{u%06d}', n), 'enabled', '1') end";
    place.cli(&["EVAL", script, "0", &USERS.to_string()]);
    let table = place.ok(&["user", "list"], "");
    assert_eq!(table.lines().count(), USERS + 1);
    assert!(table.lines().last().unwrap().starts_with("u100000 "));
    let list: serde_json::Value = serde_json::from_str(&place.ok(&["user", "list", "--json"], "")).unwrap();
    assert_eq!(list.as_array().unwrap().len(), USERS);

    // Whoever reads only the beginning, as `head` does, gets no complaint.
    let mut child = place.command().args(["user", "list"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("NAME"), "{first}");
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_rule_that_would_make_all_of_them_unreadable_is_refused() {
    let place = Place::redis();
    let script = "for n = 1, ARGV[1] do redis.call('HSET', KEYS[1], 'a/' .. n, 'p') end";
    place.cli(&["EVAL", script, "1", "midge:user:{alice}:acl", "200000"]);
    place.ok(&["acl", "add", "--user", "alice", "a/1", "r"], "");
    let ran = place.run(&["acl", "add", "--user", "alice", "b", "p"], "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("200000 rules"), "{ran:?}");
    assert_eq!(place.cli(&["HLEN", "midge:user:{alice}:acl"]), "200000");
}

#[test]
fn half_a_command_is_answered_with_its_help() {
    let ran = Ran::of(&Command::new(MIDGE).env_clear().arg("user").output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("Commands:") && !ran.err.starts_with("midge: "), "{ran:?}");
}

#[test]
fn completions_and_manual_pages_need_no_store() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run("redis://127.0.0.1:1", &["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("explain"), "{shell}: {}", ran.err);
    }
    let ran = run("redis://127.0.0.1:1", &["man"]);
    assert!(ran.code == 0 && ran.out.contains(".TH midge"), "{}", ran.err);
    let folder = tempfile::TempDir::new().unwrap();
    let ran = run("redis://127.0.0.1:1", &["man", "--directory", folder.path().to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(folder.path().join("midge-user-add.1").exists());
}
