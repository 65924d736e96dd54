//! Without the store, known accounts go on for a time.

use std::time::Duration;

use midge_core::directory::Identity;
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Anonymous, Asked, GateSettings, LoginSettings, Proof, Refusal, StoreDown};

use crate::kit::{World, hash, hello, key, publishes};

const AGE: u64 = 1_000;

fn world(store_down: StoreDown) -> World {
    let login = LoginSettings { store_down, hide_unknown: false, anonymous: Anonymous::Allow, ..LoginSettings::default() };
    let mut world = World::with(GateSettings::default(), login);
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.write("all:acl", hash(&[("a", "p")]));
    world.by_password("alice", "secret").unwrap();
    world.by_password("gone", "secret").unwrap_err();
    world
}

fn last_known_good() -> StoreDown {
    StoreDown::LastKnownGood(Duration::from_secs(AGE))
}

#[test]
fn known_accounts_go_on_for_the_bounded_age() {
    let mut world = world(last_known_good());
    // The age counts from when announcements stopped, not from when the account was read.
    world.pass(10 * AGE);
    world.by_password("alice", "secret").unwrap();
    world.directory().lost(world.now);
    world.answers = false;
    world.pass(AGE);
    let policy = world.by_password("alice", "secret").unwrap();
    assert_eq!(world.by_password("alice", "wrong").unwrap_err(), Refusal::BadPassword);
    for unknown in ["gone", "never"] {
        assert_eq!(world.by_password(unknown, "secret").unwrap_err(), Refusal::StoreAway, "{unknown}");
        let proven = world.login(&hello(unknown, "c", Proof::Verified)).map(drop);
        assert_eq!(proven, Err(Refusal::StoreAway), "{unknown}");
    }
    world.pass(1);
    assert_eq!(world.by_password("alice", "secret").unwrap_err(), Refusal::TooOld);
    assert!(publishes(&policy, "a") && policy.revoked(&world.gate, world.now).is_none(), "who is connected stays");
    world.answers = true;
    world.by_password("alice", "secret").unwrap();
}

#[test]
fn deny_lets_nobody_in() {
    let mut world = world(StoreDown::Deny);
    let policy = world.by_password("alice", "secret").unwrap();
    world.directory().lost(world.now);
    world.answers = false;
    for (user, proof) in [("alice", Proof::Verified), ("alice", crate::kit::password("secret")), ("", Proof::None)] {
        assert_eq!(world.login(&hello(user, "c", proof)).map(drop), Err(Refusal::StoreAway), "{user}");
    }
    assert!(publishes(&policy, "a"));
}

#[test]
fn a_store_that_answers_without_announcing_is_asked_each_time() {
    for store_down in [last_known_good(), StoreDown::Deny] {
        let mut world = world(store_down);
        world.directory().lost(world.now);
        for _ in 0..3 {
            let read = world.read;
            world.by_password("alice", "secret").unwrap();
            assert_eq!(world.read, read + 3);
            assert_eq!(world.by_password("gone", "secret").unwrap_err(), Refusal::NoSuchUser);
        }
        world.write("user:{alice}", Entry::Missing);
        assert_eq!(world.by_password("alice", "secret").unwrap_err(), Refusal::NoSuchUser);
    }
}

#[test]
fn after_a_gap_everything_is_read_again() {
    let mut world = world(last_known_good());
    world.directory().lost(world.now);
    world.write("user:{alice}", hash(&[("password", "{plain}other")]));
    world.write("all:acl", hash(&[]));
    world.directory().linked();
    let admission = world.gate.admit(hello("alice", "c", Proof::Verified), Asked::Memory, world.now);
    assert!(matches!(admission, Admission::Load(_)), "{admission:?}");
    assert_eq!(world.by_password("alice", "secret").unwrap_err(), Refusal::BadPassword);
    let policy = world.by_password("alice", "other").unwrap();
    assert!(!publishes(&policy, "a"));
}

#[test]
fn what_was_confirmed_until_a_short_gap_is_not_too_old_after_it() {
    let mut world = world(last_known_good());
    world.pass(10 * AGE);
    for _ in 0..3 {
        world.directory().lost(world.now);
        world.pass(1);
        // The link is back for a moment, and the store goes before anything was read.
        world.directory().linked();
        world.directory().lost(world.now);
    }
    world.answers = false;
    world.pass(AGE - 3);
    world.by_password("alice", "secret").unwrap();
    // An epoch that has read nothing confirms nothing.
    world.pass(1);
    assert_eq!(world.by_password("alice", "secret").unwrap_err(), Refusal::TooOld);
}

#[test]
fn a_link_that_was_lost_before_it_counted_does_not_count() {
    let world = world(last_known_good());
    world.directory().lost(world.now);
    let losses = world.directory().losses();
    world.directory().lost(world.now);
    assert!(!world.directory().linked_since(losses) && !world.directory().is_linked());
    assert!(world.directory().linked_since(world.directory().losses()) && world.directory().is_linked());
}

#[test]
fn a_store_that_was_asked_long_ago_is_no_store_that_was_asked() {
    let mut world = world(StoreDown::Deny);
    world.directory().lost(world.now);
    world.pass(10 * AGE);
    // Somebody says that it has read the account, and has not.
    let admission = world.gate.admit(hello("alice", "c", Proof::Verified), Asked::Store, world.now);
    assert!(matches!(admission, Admission::Refused(Refusal::StoreAway)), "{admission:?}");
    let unread = world.gate.admit(hello("never", "c", Proof::Verified), Asked::Store, world.now);
    assert!(matches!(unread, Admission::Refused(Refusal::StoreAway)), "{unread:?}");
}

#[test]
fn a_start_without_the_store_lets_nobody_in() {
    let login = LoginSettings { anonymous: Anonymous::Allow, ..LoginSettings::default() };
    let mut world = World::with(GateSettings::default(), login);
    world.directory().lost(world.now);
    world.answers = false;
    for user in ["alice", ""] {
        assert_eq!(world.login(&hello(user, "c", Proof::Verified)).map(drop), Err(Refusal::StoreAway));
    }
}

#[test]
fn a_part_that_is_older_makes_the_whole_older() {
    let mut world = world(last_known_good());
    world.write("user:{alice}", hash(&[("password", "{plain}secret"), ("groups", "staff")]));
    world.directory().linked();
    let slot = world.directory().slot(&Identity::user(&"alice".parse().unwrap()), world.now);
    world.fill(&slot);
    assert!(world.directory().is_fresh(&slot.account()));
    world.directory().linked();
    for part in ["user:{alice}", "user:{alice}:acl", "group:{staff}:acl"] {
        world.load(&[key(part)]);
        assert!(!world.directory().is_fresh(&slot.account()), "{part}");
    }
    world.load(&[key("all:acl")]);
    assert!(world.directory().is_fresh(&slot.account()));
}
