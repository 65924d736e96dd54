//! Automatic subscriptions: known at login, current after each change.

use std::collections::HashSet;

use midge_core::autosub::Plan;
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, ClientPolicy, GateSettings, LoginSettings};

use crate::kit::{World, hash, hello, password};

fn world() -> World {
    let mut world = World::with_all(GateSettings::default(), LoginSettings { hide_unknown: false, ..LoginSettings::default() });
    world.write("user:{ann}", hash(&[("password", "{plain}x"), ("groups", "staff")]));
    world.write("all:acl", hash(&[("#", "rs"), ("secret/#", "!s")]));
    world.write("user:{ann}:autosub", hash(&[("u/%u", "1"), ("secret/x", "1")]));
    world.write("group:{staff}:autosub", hash(&[("g/#", "0,rap"), ("u/ann", "2")]));
    world.write("client:{c1}:autosub", hash(&[("c/%c", "2")]));
    world.write("all:autosub", hash(&[("news", "1,rh=1")]));
    world
}

fn plan(world: &World, policy: &ClientPolicy) -> Plan {
    policy.subscriptions(&world.gate, "", 100)
}

fn shown(world: &World, policy: &ClientPolicy) -> Vec<String> {
    plan(world, policy).subscriptions().iter().map(|one| format!("{} {}", one.filter, one.options)).collect()
}

#[test]
fn all_four_lists_are_known_when_the_client_is_let_in() {
    let mut world = world();
    let ann = world.login(&hello("ann", "c1", password("x"))).unwrap();
    assert_eq!(shown(&world, &ann), ["c/c1 2", "g/# 0,rap", "news 1,rh=1", "u/ann 1"]);
    assert_eq!((plan(&world, &ann).denied, plan(&world, &ann).complete), (1, true));
    assert_eq!(ann.subscriptions(&world.gate, "", 2).beyond, 2);
    let read = world.read;
    world.login(&hello("ann", "c1", password("x"))).unwrap();
    assert_eq!(world.read, read, "known in this epoch");
}

#[test]
fn each_list_changes_what_a_live_client_has() {
    let mut world = world();
    let ann = world.login(&hello("ann", "c1", password("x"))).unwrap();
    world.changes();
    for (key, who) in
        [("user:{ann}:autosub", "ann"), ("group:{staff}:autosub", "ann"), ("client:{c1}:autosub", "@c1"), ("all:autosub", "ann")]
    {
        world.set(key, hash(&[("only/here", "1")]));
        assert_eq!(world.changes(), [who], "{key}");
        assert!(shown(&world, &ann).contains(&"only/here 1".to_owned()), "{key}");
        world.set(key, hash(&[("only/here", "1")]));
        assert!(world.changes().is_empty(), "{key}: the same again");
        world.set(key, Entry::Missing);
        assert_eq!(world.changes(), [who], "{key}");
        assert!(!shown(&world, &ann).contains(&"only/here 1".to_owned()), "{key}");
    }
    assert!(shown(&world, &ann).is_empty());
    // What takes the right away takes the subscription.
    world.set("all:autosub", hash(&[("news", "1")]));
    assert_eq!(shown(&world, &ann), ["news 1"]);
    world.set("all:acl", hash(&[("#", "r")]));
    assert_eq!(shown(&world, &ann), [""; 0]);
}

#[test]
fn a_list_that_cannot_be_read_keeps_nobody_out() {
    let mut world = world();
    world.write("user:{ann}:autosub", Entry::Unreadable("is a list".to_owned()));
    let ann = world.login(&hello("ann", "c1", password("x"))).unwrap();
    assert_eq!(shown(&world, &ann), ["c/c1 2", "g/# 0,rap", "news 1,rh=1", "u/ann 2"]);
    let flawed = world.set("all:autosub", hash(&[("a#", "1"), ("news", "7")]));
    assert_eq!(flawed[0].flaws.len(), 2, "{flawed:?}");
}

#[test]
fn lists_of_clients_are_asked_for_until_all_are_read() {
    let mut world = world();
    let known = |world: &World, client: &str| {
        let admission = world.gate.admit(hello("ann", client, password("x")), Asked::Memory, world.now);
        !matches!(admission, Admission::Load(_))
    };
    let ann = world.login(&hello("ann", "c1", password("x"))).unwrap();
    assert!(known(&world, "c1") && !known(&world, "c2"));
    let all = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect::<HashSet<_>>();
    world.directory().client_lists_complete(world.directory().epoch(), &all(&["c1"]));
    assert!(known(&world, "c2"));
    assert_eq!(world.changes(), ["@c1"], "from before its login");
    // A gap: what was there stays until all is read again, and who has lost a list is told of.
    world.directory().linked();
    assert!(!known(&world, "c1") && !known(&world, "c2"));
    assert!(shown(&world, &ann).contains(&"c/c1 2".to_owned()));
    world.directory().client_lists_complete(world.directory().epoch(), &all(&[]));
    assert_eq!(world.changes(), ["@c1"]);
    assert!(!shown(&world, &ann).contains(&"c/c1 2".to_owned()));
}

#[test]
fn lists_of_clients_have_a_bound() {
    let mut settings = GateSettings::default();
    settings.directory.client_lists = 1;
    let mut world = World::with_all(settings, LoginSettings::default());
    assert!(world.set("client:{c1}:autosub", hash(&[("a", "1")])).is_empty());
    let flawed = world.set("client:{c2}:autosub", hash(&[("a", "1")]));
    assert!(flawed[0].flaws[0].contains("no room"), "{flawed:?}");
    world.set("client:{c1}:autosub", Entry::Missing);
    assert!(world.set("client:{c2}:autosub", hash(&[("a", "1")])).is_empty());
    assert_eq!(world.directory().clients_with_lists().len(), 1);
}

#[test]
fn without_lists_none_is_asked_for() {
    let mut world = World::new();
    world.write("user:{ann}", hash(&[("password", "{plain}x")]));
    world.write("all:autosub", hash(&[("news", "1")]));
    world.write("all:acl", hash(&[("#", "rs")]));
    let ann = world.login(&hello("ann", "c1", password("x"))).unwrap();
    assert_eq!(world.read, 3);
    assert!(plan(&world, &ann).complete && plan(&world, &ann).subscriptions().is_empty());
}
