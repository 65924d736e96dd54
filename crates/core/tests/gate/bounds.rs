//! Floods cost bounded memory and displace nobody who is known.

use midge_core::directory::{DirectorySettings, Identity};
use midge_core::gate::{GateSettings, LoginSettings, MAX_EFFECTS};

use crate::kit::{World, hash};

fn world(accounts: usize, unknown: usize) -> World {
    let login = LoginSettings { hide_unknown: false, ..LoginSettings::default() };
    World::with(
        GateSettings {
            directory: DirectorySettings { accounts, unknown, ..DirectorySettings::default() },
            ..GateSettings::default()
        },
        login,
    )
}

fn user(world: &mut World, name: &str) {
    world.write(&format!("user:{{{name}}}"), hash(&[("password", "{plain}secret")]));
}

#[test]
fn a_million_unknown_names_displace_nobody() {
    let mut world = world(1_000, 10_000);
    let mut live = Vec::new();
    for n in 0..800 {
        user(&mut world, &format!("u{n}"));
        let policy = world.by_password(&format!("u{n}"), "secret").unwrap();
        live.extend((n < 100).then_some(policy));
    }
    let mut most = 0;
    for n in 0..1_000_000 {
        let name = format!("stranger{n}").parse().unwrap();
        drop(world.directory().slot(&Identity::user(&name), world.now));
        if n % 1_000 == 0 {
            most = most.max(world.directory().len());
        }
    }
    assert!(most <= 800 + 10_000 + 10_000 / 8 + 1, "{most}");
    let (hashed, read) = (world.hashed, world.read);
    for n in 0..800 {
        world.by_password(&format!("u{n}"), "secret").unwrap();
    }
    assert_eq!((world.hashed, world.read), (hashed, read), "all are known still");
    assert_eq!(world.directory().live().len(), 100);
}

#[test]
fn long_names_count_for_what_they_are() {
    let world = world(1_000, 1_000);
    for n in 0..2_000 {
        let name = format!("{n}{}", "x".repeat(60_000)).parse().unwrap();
        drop(world.directory().slot(&Identity::user(&name), world.now));
        assert!(world.directory().len() <= 12);
    }
}

#[test]
fn of_the_known_the_longest_unused_go_and_the_live_stay() {
    let mut world = world(800, 10);
    let mut live = Vec::new();
    for n in 0..4_000 {
        let name = format!("u{n}");
        user(&mut world, &name);
        let policy = world.by_password(&name, "secret").unwrap();
        live.extend((n < 50).then_some(policy));
        drop(world.directory().slot(&Identity::user(&"u60".parse().unwrap()), world.now));
        assert!(world.directory().len() <= 50 + 800 + 200, "{}", world.directory().len());
    }
    let held = |world: &World, name: &str| !world.directory().slots_of(&name.parse().unwrap()).is_empty();
    assert!((0..50).all(|n| held(&world, &format!("u{n}"))), "the live");
    assert!(held(&world, "u60") && held(&world, "u3999") && held(&world, "u3400"), "the lately used");
    assert!(!held(&world, "u70") && !held(&world, "u2000"));
    world.by_password("u70", "secret").unwrap();
}

#[test]
fn a_slot_that_somebody_holds_is_the_slot_that_changes() {
    let mut world = world(100, 10);
    let held = world.directory().slot(&Identity::user(&"held".parse().unwrap()), world.now);
    for n in 0..1_000 {
        drop(world.directory().slot(&Identity::user(&format!("s{n}").parse().unwrap()), world.now));
    }
    user(&mut world, "held");
    world.fill(&held);
    assert!(held.account().record().is_some());
}

#[test]
fn effects_are_bounded_in_number_and_bytes() {
    let mut world = world(100, 10);
    for n in 0..2 * MAX_EFFECTS {
        world.gate.failed_login(Some(&format!("u{n}").parse().unwrap()), None, world.now);
    }
    assert_eq!(world.gate.take_effects().len(), MAX_EFFECTS);
    for n in 0..MAX_EFFECTS {
        world.gate.failed_login(Some(&format!("{n}{}", "x".repeat(60_000)).parse().unwrap()), None, world.now);
    }
    assert!(world.gate.take_effects().len() < 20);
    world.by_password("x", "x").unwrap_err();
    assert_eq!(world.gate.take_effects().len(), 1, "there is room again");
}

#[test]
fn flaws_of_one_record_are_bounded() {
    let mut world = world(100, 10);
    let names: Vec<String> = (0..10_000).map(|n| format!("field{n}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    user(&mut world, "alice");
    world.by_password("alice", "secret").unwrap();
    let flawed = world.set("user:{alice}", hash(&fields));
    assert_eq!(flawed.len(), 1);
    assert!(flawed[0].flaws.len() <= 20, "{}", flawed[0].flaws.len());
}
