//! Guessing gets slower, and who knows the password doesn't notice.

use midge_core::gate::{Admission, Asked, Effect, GateSettings, LoginSettings, Refusal};
use midge_core::key::ShieldTarget;
use midge_core::shield::ShieldSettings;

use crate::kit::{World, hash, hello, password};

fn world() -> World {
    let shield = ShieldSettings { user_attempts: 3, address_attempts: 6, ..ShieldSettings::default() };
    let login = LoginSettings { hide_unknown: false, ..LoginSettings::default() };
    let mut world = World::with(GateSettings { shield, ..GateSettings::default() }, login);
    for user in ["alice", "bob"] {
        world.write(&format!("user:{{{user}}}"), hash(&[("password", "{plain}secret")]));
    }
    world
}

fn is_back_off(outcome: &Result<(), Refusal>) -> bool {
    matches!(outcome, Err(Refusal::BackOff(_)))
}

#[test]
fn a_user_backs_off_and_comes_back() {
    let mut world = world();
    for _ in 0..3 {
        assert_eq!(world.by_password("alice", "guess").map(drop), Err(Refusal::BadPassword));
    }
    let hashed = world.hashed;
    assert!(is_back_off(&world.by_password("alice", "secret").map(drop)));
    assert_eq!(world.hashed, hashed, "refused unheard");
    world.by_password("bob", "secret").unwrap();
    world.pass(1);
    world.by_password("alice", "secret").unwrap();
    let failed =
        world.gate.take_effects().iter().filter(|effect| matches!(effect, Effect::Failed(targets) if targets.len() == 2)).count();
    assert_eq!(failed, 3);
}

#[test]
fn a_remembered_credential_passes_both_shields() {
    let mut world = world();
    world.by_password("alice", "secret").unwrap();
    for n in 0..20 {
        let _ = world.by_password(&format!("guess{n}"), "x");
        let _ = world.by_password("alice", "guess");
    }
    assert!(is_back_off(&world.by_password("bob", "secret").map(drop)), "the address backs off");
    assert!(is_back_off(&world.by_password("alice", "guess").map(drop)));
    world.by_password("alice", "secret").unwrap();
}

#[test]
fn other_nodes_counts_are_learnt() {
    let mut world = world();
    world.gate.shield().learn(&ShieldTarget::User("alice".parse().unwrap()), 3, world.now);
    assert!(is_back_off(&world.by_password("alice", "secret").map(drop)));
    world.pass(1);
    world.by_password("alice", "secret").unwrap();
    assert!(matches!(world.gate.take_effects().as_slice(), [Effect::Forgiven(_)]), "the other nodes are told");
    world.gate.shield().learn(&ShieldTarget::Address("192.0.2.1".parse().unwrap()), 6, world.now);
    assert!(is_back_off(&world.by_password("bob", "secret").map(drop)));
    world.by_password("alice", "secret").unwrap();
}

#[test]
fn guesses_that_wait_together_are_not_all_tried() {
    let mut world = world();
    world.by_password("alice", "guess").unwrap_err();
    let jobs: Vec<_> = (0..100)
        .map(|n| match world.gate.admit(hello("alice", "c", password(&format!("guess{n}"))), Asked::Memory, world.now) {
            Admission::Hash(job) => job,
            other => panic!("{other:?}"),
        })
        .collect();
    let wrong = jobs
        .into_iter()
        .map(|job| world.gate.conclude(job.run(), world.now))
        .filter(|admission| matches!(admission, Admission::Refused(Refusal::BadPassword)))
        .count();
    assert_eq!(wrong, 2, "the third failure is the last that is heard");
}

#[test]
fn one_network_of_ipv6_is_one_origin() {
    let mut world = world();
    let mut ask = |user: &str, address: &str| {
        let mut hello = hello(user, "c", password("guess"));
        hello.address = Some(address.parse().unwrap());
        world.login(&hello).map(drop)
    };
    for n in 0..6 {
        assert_eq!(ask(&format!("u{n}"), &format!("2001:db8::{n}:1")), Err(Refusal::NoSuchUser));
    }
    assert!(is_back_off(&ask("u9", "2001:db8::ffff")));
    assert_eq!(ask("u9", "2001:db8:0:1::1"), Err(Refusal::NoSuchUser));
    for n in 0..6 {
        let address = if n % 2 == 0 { "203.0.113.7" } else { "::ffff:203.0.113.7" };
        assert_eq!(ask(&format!("v{n}"), address), Err(Refusal::NoSuchUser));
    }
    assert!(is_back_off(&ask("v9", "203.0.113.7")));
}
