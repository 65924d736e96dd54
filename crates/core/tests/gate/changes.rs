//! Changes are announced once each, for live clients only.

use midge_core::entry::Entry;
use midge_core::gate::{Proof, Refusal};

use crate::kit::{World, hash, hello, publishes};

fn account() -> Entry {
    hash(&[("password", "{plain}secret"), ("groups", "staff")])
}

#[test]
fn who_lost_the_account_has_to_leave() {
    for (change, expected) in [
        (Entry::Missing, Refusal::NoSuchUser),
        (hash(&[("password", "{plain}secret"), ("enabled", "no")]), Refusal::Disabled),
        (Entry::Unreadable("is a list".to_owned()), Refusal::Unreadable),
        (hash(&[("client_id", "c2")]), Refusal::ClientId),
    ] {
        let mut world = World::new();
        world.write("user:{alice}", account());
        world.write("all:acl", hash(&[("#", "prs")]));
        let policy = world.by_password("alice", "secret").unwrap();
        assert!(publishes(&policy, "a") && policy.revoked(&world.gate, world.now).is_none());
        world.set("user:{alice}", change.clone());
        assert_eq!(world.changes(), ["alice"]);
        assert_eq!(policy.revoked(&world.gate, world.now), Some(expected.clone()), "{change:?}");
        assert_eq!(publishes(&policy, "a"), expected == Refusal::ClientId);
    }
}

#[test]
fn the_same_again_is_no_change() {
    let mut world = World::new();
    world.write("user:{alice}", account());
    world.write("user:{alice}:acl", hash(&[("a", "p"), ("b", "p")]));
    let policy = world.by_password("alice", "secret").unwrap();
    let before = world.changes();
    assert!(before.is_empty(), "{before:?}");
    world.write("user:{alice}:acl", hash(&[("b", "p"), ("a", "p")]));
    world.announce(&["user:{alice}", "user:{alice}:acl", "group:{staff}:acl", "all:acl"]);
    world.directory().linked();
    world.fill(policy.slot());
    assert!(world.directory().is_fresh(&policy.account()));
    assert!(world.changes().is_empty());
    assert!(!world.directory().has_changes());
}

#[test]
fn only_live_clients_are_announced_and_each_once() {
    let mut world = World::new();
    world.write("user:{alice}", account());
    let first = world.by_password("alice", "secret").unwrap();
    let second = world.by_password("alice", "secret").unwrap();
    for rights in ["p", "r", "s"] {
        world.set("user:{alice}:acl", hash(&[("a", rights)]));
    }
    assert_eq!(world.changes(), ["alice"]);
    drop(first);
    world.set("user:{alice}:acl", hash(&[("a", "pr")]));
    assert_eq!(world.changes(), ["alice"]);
    assert_eq!(world.directory().live().len(), 1);
    drop(second);
    assert!(world.directory().live().is_empty());
    world.set("user:{alice}:acl", hash(&[("a", "prs")]));
    assert!(world.changes().is_empty());
}

#[test]
fn who_is_refused_is_not_live() {
    let mut world = World::new();
    world.write("user:{alice}", account());
    for outcome in [
        world.by_password("alice", "wrong").map(drop),
        world.by_password("nobody", "x").map(drop),
        world.login(&hello("alice", "c", Proof::None)).map(drop),
    ] {
        outcome.unwrap_err();
    }
    assert!(world.directory().live().is_empty());
}

#[test]
fn what_nobody_holds_does_not_concern() {
    let mut world = World::new();
    world.write("user:{alice}", account());
    world.by_password("alice", "secret").unwrap();
    let read = world.read;
    world.set("user:{stranger}", account());
    world.set("group:{strangers}:acl", hash(&[("a", "p")]));
    world.set("user:{alice}:autosub", hash(&[("a", "1")]));
    assert_eq!(world.read, read);
    for (at, expected) in [
        ("user:{alice}", true),
        ("user:{alice}:acl", false),
        ("user:{stranger}", false),
        ("group:{staff}:acl", false),
        ("all:acl", false),
    ] {
        assert_eq!(world.directory().knows(&crate::kit::key(at)), expected, "{at}");
    }
    assert!(world.directory().knows_any());
}
