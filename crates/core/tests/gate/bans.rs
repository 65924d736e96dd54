//! A ban keeps out from its reading to its end.

use midge_core::bans::Ban;
use midge_core::entry::Entry;
use midge_core::gate::Refusal;
use midge_core::time::Now;

use crate::kit::{World, hash, hello, password, text};

fn world() -> World {
    let mut world = World::new();
    for user in ["alice", "bob"] {
        world.write(&format!("user:{{{user}}}"), hash(&[("password", "{plain}secret")]));
    }
    world
}

#[test]
fn each_kind_keeps_out_and_cuts_off() {
    for (ban, entry) in [
        ("ban:{user:alice}", text("spam", None)),
        ("ban:{client:c1}", text("spam", None)),
        ("ban:{ip:192.0.2.1}", text("spam", None)),
        ("ban:{ip:192.0.2.0/24}", text("", None)),
        ("ban:{ip:::ffff:192.0.2.0/120}", text("", None)),
        ("ban:{user:alice}", hash(&[("not", "a reason")])),
        ("ban:{user:alice}", Entry::Unreadable("is a list".to_owned())),
    ] {
        let mut world = world();
        let policy = world.by_password("alice", "secret").unwrap();
        assert_eq!(policy.revoked(&world.gate, world.now), None);
        world.set(ban, entry);
        assert_eq!(world.changes(), ["*"], "{ban}");
        assert!(matches!(policy.revoked(&world.gate, world.now), Some(Refusal::Banned { .. })), "{ban}");
        assert!(matches!(world.by_password("alice", "secret"), Err(Refusal::Banned { .. })), "{ban}");
        let mut other = hello("bob", "c2", password("secret"));
        other.address = Some("198.51.100.1".parse().unwrap());
        world.login(&other).unwrap();
        world.set(ban, Entry::Missing);
        assert!(world.changes().is_empty(), "nobody has to be looked at for a ban that ends");
        world.by_password("alice", "secret").unwrap();
    }
}

#[test]
fn a_ban_ends_by_itself() {
    let mut world = world();
    world.set("ban:{user:alice}", text("an hour", Some(3_600)));
    assert!(world.by_password("alice", "secret").is_err());
    world.pass(3_599);
    assert!(world.by_password("alice", "secret").is_err());
    world.pass(1);
    world.by_password("alice", "secret").unwrap();
}

#[test]
fn only_new_bans_are_announced() {
    let mut world = world();
    world.set("ban:{user:alice}", text("spam", None));
    assert_eq!(world.changes(), ["*"]);
    world.announce(&["ban:{user:alice}"]);
    assert!(world.changes().is_empty());
    let ban = Ban { reason: "spam".to_owned(), until_unix: None };
    let bans = |targets: &[&str]| targets.iter().map(|target| (target.parse().unwrap(), ban.clone())).collect::<Vec<_>>();
    assert_eq!(world.directory().replace_bans(bans(&["user:alice"])), 0);
    assert!(world.changes().is_empty());
    world.directory().replace_bans(bans(&["user:alice", "user:bob"]));
    assert_eq!(world.changes(), ["*"]);
    world.directory().replace_bans(bans(&[]));
    assert!(world.changes().is_empty());
    world.by_password("alice", "secret").unwrap();
}

#[test]
fn the_longest_time_to_live_is_no_overflow() {
    let entry = Entry::Text { value: Vec::new(), ttl: Some(std::time::Duration::MAX) };
    let now = Now { monotonic: std::time::Duration::ZERO, unix: u64::MAX - 1 };
    assert_eq!(Ban::from_entry(&entry, now).until_unix, Some(u64::MAX));
}
