//! Threads that race never lose the announcement of a change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, Proof};
use midge_core::key::Key;

use crate::kit::{World, hash, hello, key};

/// A user is deleted and made again while clients come; whoever got in is revoked by the next look or was announced.
#[test]
fn who_gets_in_while_the_account_ends_is_announced() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.login(&hello("alice", "c", Proof::Verified)).unwrap();
    world.changes();
    let (gate, now) = (&world.gate, world.now);
    let there = [(key("user:{alice}"), hash(&[("password", "{plain}secret")]))];
    let gone = [(key("user:{alice}"), Entry::Missing)];
    for _ in 0..500 {
        gate.directory().apply(&there, now);
        let _ = gate.directory().take_changes();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                start.wait();
                match gate.admit(hello("alice", "c", Proof::Verified), Asked::Memory, now) {
                    Admission::Admitted(policy) => Some(policy),
                    _ => None,
                }
            });
            start.wait();
            gate.directory().apply(&gone, now);
            if let Some(policy) = client.join().unwrap() {
                assert!(policy.revoked(gate, now).is_some());
                assert_eq!(gate.directory().take_changes().len(), 1, "nobody would look at the client");
            }
        });
    }
}

/// Whoever takes the changes sees, for each, the account at least as new as the change.
#[test]
fn no_change_is_lost_between_writer_and_taker() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    let policy = world.login(&hello("alice", "c", Proof::Verified)).unwrap();
    world.changes();
    let (gate, now) = (&world.gate, world.now);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut last = String::new();
            loop {
                let ends = done.load(Ordering::Acquire);
                if !gate.directory().take_changes().is_empty() {
                    let account = policy.account();
                    last = account.record().map(|record| record.groups[0].to_string()).unwrap_or_default();
                }
                if ends {
                    return last;
                }
            }
        });
        for n in 0..20_000 {
            let record = (key("user:{alice}"), hash(&[("groups", &format!("g{n}"))]));
            let group = (key(&format!("group:{{g{n}}}:acl")), Entry::Missing);
            gate.directory().apply(&[record, group], now);
        }
        done.store(true, Ordering::Release);
        assert_eq!(taker.join().unwrap(), "g19999");
    });
}

/// New slots, logins, evictions, gaps and batches at once: it ends, and all know the latest rules.
#[test]
fn everything_at_once_comes_to_an_end() {
    let world = World::new();
    let (gate, now) = (&world.gate, world.now);
    let everyone = |n: usize| [(Key::AllAcl, hash(&[(&format!("t{n}"), "p")]))];
    gate.directory().apply(&everyone(0), now);
    let users = AtomicUsize::new(0);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (users, sender) = (&users, sender.clone());
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let name = format!("u{}", users.fetch_add(1, Ordering::Relaxed));
                    let read = [
                        (key(&format!("user:{{{name}}}")), hash(&[("enabled", "1")])),
                        (key(&format!("user:{{{name}}}:acl")), Entry::Missing),
                    ];
                    if let Admission::Load(slot) = gate.admit(hello(&name, "c", Proof::Verified), Asked::Memory, now) {
                        gate.directory().apply(&read, now);
                        drop(slot);
                    }
                    if let Admission::Admitted(policy) = gate.admit(hello(&name, "c", Proof::Verified), Asked::Store, now) {
                        sender.send(policy).unwrap();
                    }
                }
            });
        }
        drop(sender);
        for n in 1..50 {
            gate.directory().apply(&everyone(n), now);
            gate.directory().lost(now);
            gate.directory().linked();
            let _ = gate.directory().take_changes();
        }
    });
    gate.directory().apply(&everyone(99), now);
    let policies: Vec<_> = receiver.iter().collect();
    assert_eq!(policies.len(), 6_000);
    assert!(policies.iter().all(|policy| crate::kit::publishes(policy, "t99") && !crate::kit::publishes(policy, "t49")));
    assert_eq!(gate.directory().live().len(), 6_000);
    drop(policies);
    assert!(gate.directory().live().is_empty());
}
