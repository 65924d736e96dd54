//! What is denied is counted always, and written down within limits.

use midge_core::access::Access;
use midge_core::denials::{DenialSettings, Denials, DeniedAccess};
use midge_core::gate::{ClientPolicy, GateSettings, LoginSettings, Proof, Refusal};
use midge_core::policy::{Decision, Reason};

use crate::kit::{World, hash, hello};

fn world(kept: usize, per_second: u32) -> World {
    let denials = DenialSettings { kept, per_second };
    let login = LoginSettings { hide_unknown: false, ..LoginSettings::default() };
    let mut world = World::with(GateSettings { denials, ..GateSettings::default() }, login);
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world
}

fn logins(denials: &Denials) -> Vec<(&'static str, u64)> {
    denials.counts().logins.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn each_refused_login_is_counted_once() {
    let mut world = world(10, 100);
    world.by_password("alice", "secret").unwrap();
    assert!(logins(world.gate.denials()).is_empty());
    world.by_password("alice", "wrong").unwrap_err();
    world.by_password("nobody", "x").unwrap_err();
    world.login(&hello("", "c", Proof::None)).unwrap_err();
    world.login(&hello("bad\nname\u{7}", "c9", Proof::Verified)).unwrap_err();
    world.gate.failed_login(Some(&"alice".parse().unwrap()), None, world.now);
    let denials = world.gate.denials();
    assert_eq!(logins(denials), [("anonymous", 1), ("no-such-user", 2), ("bad-password", 2)]);
    assert_eq!(denials.counts().all_logins(), 5);
    let latest = denials.latest(10);
    assert_eq!(latest.len(), 5);
    assert_eq!((latest[0].reason.as_str(), latest[0].client.as_deref()), ("bad-password", None));
    assert_eq!(latest[1].user.as_deref(), Some("bad\\u{a}name\\u{7}"));
    assert_eq!((latest[1].access, latest[1].unix), (DeniedAccess::Login, world.now.unix));
    assert_eq!(latest[1].address, "192.0.2.1".parse().ok());
    assert_eq!(latest[2].user, None);
}

#[test]
fn topics_are_noted_by_whoever_asks() {
    let mut world = world(10, 100);
    let policy = world.by_password("alice", "secret").unwrap();
    let (no, yes) = (Decision::denied(Reason::NoRule), Decision::allowed(Reason::Superuser));
    let denials = world.gate.denials();
    let long = "x".repeat(1_000);
    denials.topic(&policy, Access::Publish, &long, no, world.now.monotonic, || world.now.unix);
    denials.topic(&policy, Access::Receive, "a", no, world.now.monotonic, || world.now.unix);
    denials.topic(&policy, Access::Subscribe, "a/#", no, world.now.monotonic, || world.now.unix);
    denials.topic(&policy, Access::Subscribe, "b/#", yes, world.now.monotonic, || world.now.unix);
    let counts = denials.counts();
    assert_eq!((counts.publish, counts.receive, counts.subscribe, counts.unwritten), (1, 1, 1, 0));
    let latest = denials.latest(2);
    assert_eq!(latest.iter().map(|denial| denial.topic.as_deref()).collect::<Vec<_>>(), [Some("a/#"), Some("a")]);
    assert_eq!(denials.latest(3)[2].topic.as_ref().map(|topic| topic.chars().count()), Some(201));
    let json = serde_json::to_value(&latest[0]).unwrap();
    assert_eq!((json["access"].as_str(), json["reason"].as_str()), (Some("subscribe"), Some("no rule allows it")));
}

fn deny(world: &World, policy: &ClientPolicy, access: Access, topic: &str) {
    let now = world.now;
    world.gate.denials().topic(policy, access, topic, Decision::denied(Reason::NoRule), now.monotonic, || now.unix);
}

#[test]
fn a_flood_is_counted_and_not_written() {
    let mut world = world(150, 100);
    let policy = world.by_password("alice", "secret").unwrap();
    for second in 1..=3 {
        for _ in 0..1_000 {
            deny(&world, &policy, Access::Publish, "a");
        }
        let counts = world.gate.denials().counts();
        assert_eq!((counts.publish, counts.unwritten), (second * 1_000, second * 900));
        world.pass(1);
    }
    assert_eq!(world.gate.denials().latest(usize::MAX).len(), 150);
}

#[test]
fn counting_allocates_nothing() {
    let mut world = world(10, 0);
    let policy = world.by_password("alice", "secret").unwrap();
    let user = "bob".parse().unwrap();
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            deny(&world, &policy, Access::Receive, "a/b");
            world.gate.denials().login(Some(&user), None, None, &Refusal::NoSuchUser, world.now);
        }
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(world.gate.denials().counts().unwritten, 200);
    assert!(world.gate.denials().latest(10).is_empty());
}
