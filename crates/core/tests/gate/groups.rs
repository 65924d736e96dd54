//! Rules of groups act on all members at once.

use midge_core::directory::Identity;
use midge_core::entry::Entry;
use midge_core::gate::{ClientPolicy, Proof};
use midge_core::key::Key;

use crate::kit::{World, hash, hello, key, publishes, subscribes, text};

fn members(world: &mut World, count: usize, groups: &str) -> Vec<ClientPolicy> {
    (0..count)
        .map(|n| {
            let user = format!("u{n}");
            world.write(&format!("user:{{{user}}}"), hash(&[("password", "{plain}secret"), ("groups", groups)]));
            world.by_password(&user, "secret").unwrap()
        })
        .collect()
}

#[test]
fn groups_are_wanted_once_the_record_is_known() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("groups", "staff,ops")]));
    let slot = world.directory().slot(&Identity::user(&"alice".parse().unwrap()), world.now);
    let first = world.directory().wants(&slot);
    assert_eq!(first, [key("user:{alice}"), key("user:{alice}:acl"), Key::AllAcl]);
    world.load(&first);
    let second = world.directory().wants(&slot);
    assert_eq!(second, [key("group:{staff}:acl"), key("group:{ops}:acl")]);
    assert!(!slot.account().is_decided() && !world.directory().is_fresh(&slot.account()));
    world.load(&second[..1]);
    assert!(!slot.account().is_decided());
    world.load(&second[1..]);
    assert!(slot.account().is_decided() && world.directory().is_fresh(&slot.account()));
    assert!(world.directory().wants(&slot).is_empty());
    // What others have in common is not read again.
    world.write("user:{bob}", hash(&[("groups", "ops")]));
    let bob = world.directory().slot(&Identity::user(&"bob".parse().unwrap()), world.now);
    world.load(&[key("user:{bob}"), key("user:{bob}:acl")]);
    assert!(world.directory().is_fresh(&bob.account()));
}

#[test]
fn a_change_of_a_group_reaches_all_its_members_and_nobody_else() {
    let mut world = World::new();
    let staff = members(&mut world, 50, "staff");
    world.write("user:{other}", hash(&[("password", "{plain}secret"), ("groups", "guests")]));
    let other = world.by_password("other", "secret").unwrap();
    assert!(world.changes().is_empty());
    world.set("group:{staff}:acl", hash(&[("work/%u", "p")]));
    for (n, policy) in staff.iter().enumerate() {
        assert!(publishes(policy, &format!("work/u{n}")) && !publishes(policy, "work/x"));
    }
    let mut changed = world.changes();
    changed.sort();
    let mut expected: Vec<String> = (0..50).map(|n| format!("u{n}")).collect();
    expected.sort();
    assert_eq!(changed, expected);
    world.announce(&["group:{staff}:acl"]);
    assert!(world.changes().is_empty(), "the same content again");
    world.set("all:acl", hash(&[("work/#", "!prs")]));
    assert_eq!(world.changes().len(), 51);
    assert!(!publishes(&staff[0], "work/u0") && !publishes(&other, "work/other"));
}

#[test]
fn nothing_is_allowed_or_announced_before_a_new_group_is_read() {
    let mut world = World::new();
    world.write("user:{alice}:acl", hash(&[("a/#", "prs")]));
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    let policy = world.by_password("alice", "secret").unwrap();
    assert!(publishes(&policy, "a/b"));
    world.write("user:{alice}", hash(&[("password", "{plain}secret"), ("groups", "denied")]));
    world.write("group:{denied}:acl", hash(&[("a/b", "!p")]));
    world.load(&[key("user:{alice}")]);
    assert!(!publishes(&policy, "a/b") && !publishes(&policy, "a/c"), "the group may deny it");
    assert!(world.changes().is_empty(), "and may not: subscriptions are not taken yet");
    world.load(&[key("group:{denied}:acl")]);
    assert!(!publishes(&policy, "a/b") && publishes(&policy, "a/c"));
    assert_eq!(world.changes(), ["alice"]);
}

#[test]
fn new_groups_can_be_read_beside_the_record() {
    let mut world = World::new();
    world.write("user:{alice}:acl", hash(&[("a/#", "prs")]));
    world.write("user:{alice}", hash(&[("groups", "old")]));
    let policy = world.login(&hello("alice", "c", Proof::Verified)).unwrap();
    let record = (key("user:{alice}"), hash(&[("groups", "old,new")]));
    let beside = world.directory().wants_beside(std::slice::from_ref(&record));
    assert_eq!(beside, [key("group:{new}:acl")]);
    let read = [record, (beside[0].clone(), hash(&[("a/b", "!p")]))];
    assert!(world.directory().wants_beside(&read).is_empty());
    world.directory().apply(&read, world.now);
    assert!(publishes(&policy, "a/c") && !publishes(&policy, "a/b"));
    assert_eq!(world.changes(), ["alice"]);
}

#[test]
fn a_superuser_in_an_unread_group_waits_too() {
    let mut world = World::new();
    world.write("user:{root}", hash(&[("superuser", "1"), ("groups", "x")]));
    let slot = world.directory().slot(&Identity::user(&"root".parse().unwrap()), world.now);
    world.load(&[key("user:{root}"), key("user:{root}:acl"), Key::AllAcl]);
    assert!(!slot.account().policy().is_superuser());
}

#[test]
fn a_batch_counts_as_a_whole() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}secret"), ("groups", "closed")]));
    world.write("user:{alice}:acl", hash(&[("secret", "p")]));
    world.write("group:{closed}:acl", hash(&[("secret", "!p")]));
    let policy = world.by_password("alice", "secret").unwrap();
    assert!(!publishes(&policy, "secret"));
    // Neither before nor after is it allowed; the new record beside the old rules would allow it.
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = false;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                seen |= publishes(&policy, "secret");
            }
            seen
        });
        let none = hash(&[("password", "{plain}secret")]);
        let closed = hash(&[("password", "{plain}secret"), ("groups", "closed")]);
        let rules = hash(&[("secret", "p")]);
        for _ in 0..2_000 {
            let there = [(key("user:{alice}"), none.clone()), (key("user:{alice}:acl"), Entry::Missing)];
            world.gate.directory().apply(&there, world.now);
            let back = [(key("user:{alice}:acl"), rules.clone()), (key("user:{alice}"), closed.clone())];
            world.gate.directory().apply(&back, world.now);
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(!watcher.join().unwrap());
    });
}

#[test]
fn a_key_that_cannot_be_read_closes_all_it_has_a_part_in() {
    for (at, entry) in [
        ("user:{u0}:acl", text("x", None)),
        ("group:{staff}:acl", Entry::Unreadable("is a set".to_owned())),
        ("all:acl", Entry::Unreadable("is a set".to_owned())),
    ] {
        let mut world = World::new();
        world.write("all:acl", hash(&[("a/#", "prs")]));
        let policy = members(&mut world, 1, "staff").remove(0);
        assert!(publishes(&policy, "a/b") && subscribes(&policy, "a/#"));
        let flawed = world.set(at, entry);
        assert_eq!(flawed.iter().map(|flawed| flawed.key.clone()).collect::<Vec<_>>(), [key(at)]);
        assert!(!publishes(&policy, "a/b") && !subscribes(&policy, "a/#"), "{at}");
        assert_eq!(world.changes(), ["u0"]);
        world.set(at, hash(&[("a/#", "prs")]));
        assert!(publishes(&policy, "a/b"), "{at}");
    }
}
