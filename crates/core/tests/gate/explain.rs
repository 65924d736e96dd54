//! An explanation says what the gate would decide, and why.

use midge_core::access::Access;
use midge_core::directory::Identity;
use midge_core::explain::{Explanation, Inquiry, Question, Stage};
use midge_core::gate::{Anonymous, GateSettings, LoginSettings};
use midge_core::key::KeySpace;

use crate::kit::{World, hash, text};

fn explain(world: &mut World, user: &str, client: &str, access: Access, topic: &str) -> Explanation {
    let identity = if user.is_empty() { Identity::ANONYMOUS } else { Identity::user(&user.parse().unwrap()) };
    let slot = world.directory().slot(&identity, world.now);
    world.fill(&slot);
    let client = client.parse().unwrap();
    let address = "192.0.2.1".parse().ok();
    let question = Question::new(access, topic).unwrap();
    world.gate.explain(&Inquiry { identity: &identity, client: &client, address, question }, &KeySpace::default(), world.now)
}

#[test]
fn each_stage_says_what_decided() {
    let login = LoginSettings { anonymous: Anonymous::Allow, ..LoginSettings::default() };
    let mut world = World::with(GateSettings::default(), login);
    for (at, entry) in [
        ("user:{alice}", hash(&[("groups", "staff"), ("client_id", "c*")])),
        ("user:{alice}:acl", hash(&[("own/%u/#", "prs"), ("odd", "maybe")])),
        ("group:{staff}:acl", hash(&[("own/+/secret", "!p")])),
        ("all:acl", hash(&[("news", "rs")])),
        ("user:{off}", hash(&[("enabled", "0")])),
        ("user:{root}", hash(&[("superuser", "1")])),
        ("user:{bad}", text("x", None)),
        ("user:{shut}", hash(&[("enabled", "1")])),
        ("user:{shut}:acl", text("x", None)),
        ("user:{spam}", hash(&[("enabled", "1")])),
    ] {
        world.write(at, entry);
    }
    world.set("ban:{user:spam}", text("spam", None));
    let (p, r, s) = (Access::Publish, Access::Receive, Access::Subscribe);
    for (user, client, access, topic, allowed, stage, key, rule) in [
        ("alice", "c1", p, "own/alice/x", true, Stage::Rule, "user:{alice}:acl", "own/%u/# prs"),
        ("alice", "c1", p, "own/alice/secret", false, Stage::Rule, "group:{staff}:acl", "own/+/secret !p"),
        ("alice", "c1", s, "own/alice/#", true, Stage::Rule, "user:{alice}:acl", "own/%u/# prs"),
        ("alice", "c1", r, "news", true, Stage::Rule, "all:acl", "news rs"),
        ("alice", "c1", r, "odd", false, Stage::Rule, "user:{alice}:acl", "odd !prs"),
        ("alice", "c1", p, "else", false, Stage::NoRule, "", ""),
        ("alice", "x1", p, "own/alice/x", false, Stage::ClientId, "user:{alice}", ""),
        ("off", "c", p, "a", false, Stage::Account, "user:{off}", ""),
        ("nobody", "c", p, "a", false, Stage::Account, "user:{nobody}", ""),
        ("root", "c", p, "a", true, Stage::Account, "user:{root}", ""),
        ("bad", "c", p, "a", false, Stage::Unreadable, "user:{bad}", ""),
        ("shut", "c", p, "a", false, Stage::Unreadable, "user:{shut}:acl", ""),
        ("spam", "c", p, "a", false, Stage::Ban, "ban:{user:spam}", ""),
        ("", "c", s, "news", true, Stage::Rule, "all:acl", "news rs"),
    ] {
        let answer = explain(&mut world, user, client, access, topic);
        let case = format!("{user} {client} {access} {topic}: {answer:?}");
        assert_eq!((answer.allowed, answer.stage), (allowed, stage), "{case}");
        assert_eq!(answer.key.as_deref().unwrap_or("midge:"), format!("midge:{key}"), "{case}");
        let said = answer.filter.as_deref().zip(answer.rights.as_deref());
        assert_eq!(said.map(|(filter, rights)| format!("{filter} {rights}")).unwrap_or_default(), rule, "{case}");
        assert!(!answer.text.is_empty());
    }
    world.gate.reload(LoginSettings::default());
    let answer = explain(&mut world, "", "c", s, "news");
    assert_eq!((answer.allowed, answer.stage), (false, Stage::Account));
}

#[test]
fn what_was_not_read_is_not_explained_away() {
    let world = World::new();
    let identity = Identity::user(&"alice".parse().unwrap());
    let client = "c".parse().unwrap();
    let question = Question::new(Access::Publish, "a").unwrap();
    let inquiry = Inquiry { identity: &identity, client: &client, address: None, question };
    let answer = world.gate.explain(&inquiry, &KeySpace::default(), world.now);
    assert_eq!((answer.allowed, answer.stage), (false, Stage::Account));
    assert!(answer.text.contains("not been asked"), "{}", answer.text);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((json["stage"].as_str(), json["key"].as_str()), (Some("account"), Some("midge:user:{alice}")));
}
