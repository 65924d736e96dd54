//! The right password lets in, everything else is refused.

use midge_core::credentials::CredentialSettings;
use midge_core::entry::Entry;
use midge_core::gate::{
    Admission, Anonymous, Asked, Effect, GateSettings, Hello, LoginSettings, Proof, Refusal, ScramStep, Stranger,
};
use midge_core::password::HashPolicy;
use midge_core::scram::ScramCredential;

use crate::kit::{World, hash, hello, password, publishes, subscribes, text, verdict};

fn settings() -> LoginSettings {
    LoginSettings { hide_unknown: false, ..LoginSettings::default() }
}

#[test]
fn each_account_and_proof() {
    let mut world = World::new();
    let scram = ScramCredential::derive(b"secret", 4096).unwrap().to_string();
    for (at, fields) in [
        ("user:{alice}", &[("password", "{plain}secret")][..]),
        ("user:{off}", &[("password", "{plain}secret"), ("enabled", "0")]),
        ("user:{unsure}", &[("password", "{plain}secret"), ("enabled", "perhaps")]),
        ("user:{bare}", &[("groups", "staff")]),
        ("user:{scram}", &[("scram", scram.as_str())]),
        ("user:{odd}", &[("password", "no encoding at all")]),
        ("user:{bound}", &[("password", "{plain}secret"), ("client_id", "%u-*")]),
    ] {
        world.write(at, hash(fields));
    }
    world.write("user:{text}", text("{plain}secret", None));
    world.write("user:{list}", Entry::Unreadable("is a list".to_owned()));
    let secret = || password("secret");
    for (user, client, proof, expected) in [
        ("alice", "c", secret(), Ok(())),
        ("alice", "c", password("Secret"), Err(Refusal::BadPassword)),
        ("alice", "c", password(""), Err(Refusal::BadPassword)),
        ("alice", "c", password("{plain}secret"), Err(Refusal::BadPassword)),
        ("alice", "c", Proof::None, Err(Refusal::NoPassword)),
        ("alice", "c", Proof::Verified, Ok(())),
        ("alice:acl", "c", secret(), Err(Refusal::NoSuchUser)),
        ("ALICE", "c", secret(), Err(Refusal::NoSuchUser)),
        ("nobody", "c", secret(), Err(Refusal::NoSuchUser)),
        ("nobody", "c", Proof::Verified, Err(Refusal::NoSuchUser)),
        ("off", "c", secret(), Err(Refusal::Disabled)),
        ("off", "c", Proof::Verified, Err(Refusal::Disabled)),
        ("unsure", "c", secret(), Err(Refusal::Disabled)),
        ("bare", "c", secret(), Err(Refusal::NoPassword)),
        ("bare", "c", password(""), Err(Refusal::NoPassword)),
        ("bare", "c", Proof::Verified, Ok(())),
        ("scram", "c", secret(), Err(Refusal::NoPassword)),
        ("scram", "c", Proof::Verified, Ok(())),
        ("odd", "c", password("no encoding at all"), Err(Refusal::NoPassword)),
        ("text", "c", secret(), Err(Refusal::Unreadable)),
        ("list", "c", Proof::Verified, Err(Refusal::Unreadable)),
        ("bound", "bound-1", secret(), Ok(())),
        ("bound", "other-1", secret(), Err(Refusal::ClientId)),
        ("bound", "other-1", Proof::Verified, Err(Refusal::ClientId)),
        ("", "c", Proof::None, Err(Refusal::Anonymous)),
        ("", "c", secret(), Err(Refusal::Anonymous)),
        ("", "c", Proof::Verified, Err(Refusal::Anonymous)),
    ] {
        let outcome = world.login(&hello(user, client, proof.clone()));
        assert_eq!(verdict(&outcome), expected, "{user} {client} {proof:?}");
    }
}

#[test]
fn an_unknown_user_costs_a_hash_like_a_known_one() {
    let mut world = World::with(GateSettings::default(), LoginSettings::default());
    world.write("user:{off}", hash(&[("password", "{plain}secret"), ("enabled", "0")]));
    world.write("user:{bare}", hash(&[("enabled", "1")]));
    for (user, expected) in [("nobody", Refusal::NoSuchUser), ("off", Refusal::Disabled), ("bare", Refusal::NoPassword)] {
        let before = world.hashed;
        assert_eq!(world.by_password(user, "secret").unwrap_err(), expected);
        assert_eq!(world.hashed, before + 1, "{user}");
    }
}

#[test]
fn anonymous_clients_get_their_groups_rules_and_everyones() {
    let mut world = World::with(GateSettings::default(), LoginSettings { anonymous: Anonymous::Allow, ..settings() });
    world.write("all:acl", hash(&[("news/#", "rs")]));
    world.write("group:{anonymous}:acl", hash(&[("hello", "p")]));
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    for proof in [Proof::None, password("whatever")] {
        let policy = world.login(&hello("", "c", proof)).unwrap();
        assert!(policy.user().is_none() && publishes(&policy, "hello") && subscribes(&policy, "news/#"));
        assert!(!publishes(&policy, "news/a"));
    }
    // A name without a right password is nobody's way to be anonymous.
    assert_eq!(world.by_password("nobody", "x").unwrap_err(), Refusal::NoSuchUser);
    assert_eq!(world.login(&hello("alice", "c", Proof::None)).unwrap_err(), Refusal::NoPassword);
    world.gate.reload(settings());
    assert_eq!(world.login(&hello("", "c", Proof::None)).unwrap_err(), Refusal::Anonymous);
}

#[test]
fn a_name_that_no_user_has_is_none_where_the_caller_says_so() {
    let mut world = World::with(GateSettings::default(), LoginSettings { anonymous: Anonymous::Allow, ..settings() });
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.write("user:{off}", hash(&[("password", "{plain}secret"), ("enabled", "0")]));
    let nameless = |user, proof| Hello { stranger: Stranger::Nameless, ..hello(user, "c", proof) };
    for proof in [Proof::None, password("x")] {
        let policy = world.login(&nameless("nobody", proof)).unwrap();
        assert!(policy.user().is_none());
    }
    for (user, proof, expected) in [
        ("alice", password("wrong"), Refusal::BadPassword),
        ("alice", Proof::None, Refusal::NoPassword),
        ("off", password("secret"), Refusal::Disabled),
    ] {
        assert_eq!(world.login(&nameless(user, proof)).unwrap_err(), expected, "{user}");
    }
    assert_eq!(world.login(&nameless("alice", password("secret"))).unwrap().user().unwrap().as_str(), "alice");
    world.answers = false;
    assert_eq!(world.login(&nameless("other", password("x"))).unwrap_err(), Refusal::StoreAway);
    world.answers = true;
    world.gate.reload(settings());
    assert_eq!(world.login(&nameless("nobody", Proof::None)).unwrap_err(), Refusal::Anonymous);
}

#[test]
fn a_superuser_may_everything_until_it_is_none() {
    let mut world = World::new();
    world.write("user:{root}", hash(&[("password", "{plain}secret"), ("superuser", "1")]));
    world.write("user:{root}:acl", hash(&[("#", "!prs")]));
    let policy = world.by_password("root", "secret").unwrap();
    assert!(publishes(&policy, "$SYS/x") && subscribes(&policy, "#"));
    world.set("user:{root}", hash(&[("password", "{plain}secret"), ("superuser", "surely")]));
    assert!(!publishes(&policy, "a") && !subscribes(&policy, "a"));
}

#[test]
fn a_reconnect_storm_of_known_clients_hashes_nothing() {
    let mut world = World::new();
    for n in 0..5_000 {
        world.write(&format!("user:{{u{n}}}"), hash(&[("password", "{plain}secret")]));
    }
    for n in 0..5_000 {
        world.by_password(&format!("u{n}"), "secret").unwrap();
    }
    assert_eq!(world.hashed, 5_000);
    let read = world.read;
    for n in 0..5_000 {
        world.by_password(&format!("u{n}"), "secret").unwrap();
    }
    assert_eq!((world.hashed, world.read), (5_000, read));
}

#[test]
fn a_changed_password_forgets_the_old_one() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}old")]));
    world.by_password("alice", "old").unwrap();
    world.set("user:{alice}", hash(&[("password", "{plain}new")]));
    assert_eq!(world.by_password("alice", "old").unwrap_err(), Refusal::BadPassword);
    world.by_password("alice", "new").unwrap();
    let hashed = world.hashed;
    world.by_password("alice", "new").unwrap();
    assert_eq!(world.hashed, hashed);
    world.pass(3_600);
    world.by_password("alice", "new").unwrap();
    assert_eq!(world.hashed, hashed + 1, "remembered for its time only");
}

#[test]
fn without_a_cache_each_login_hashes_and_is_let_in() {
    for credentials in [
        CredentialSettings { entries: 0, ..CredentialSettings::default() },
        CredentialSettings { time_to_live: std::time::Duration::ZERO, ..CredentialSettings::default() },
    ] {
        let mut world = World::with(GateSettings { credentials, ..GateSettings::default() }, settings());
        world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
        for hashed in 1..4 {
            world.by_password("alice", "secret").unwrap();
            assert_eq!(world.hashed, hashed);
        }
    }
}

#[test]
fn one_hash_serves_all_who_wait_with_the_same_password() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.login(&hello("alice", "c", Proof::Verified)).unwrap();
    let ask = |client: &str| match world.gate.admit(hello("alice", client, password("secret")), Asked::Memory, world.now) {
        Admission::Hash(job) => job,
        other => panic!("{other:?}"),
    };
    let (first, second) = (ask("a"), ask("b"));
    assert!(matches!(world.gate.conclude(first.run(), world.now), Admission::Admitted(_)));
    assert!(matches!(world.gate.conclude(second.run(), world.now), Admission::Admitted(_)));
}

#[test]
fn what_changes_while_a_hash_is_running_counts() {
    let changes: [(Entry, Result<(), Refusal>); 5] = [
        (Entry::Missing, Err(Refusal::NoSuchUser)),
        (hash(&[("password", "{plain}old"), ("enabled", "0")]), Err(Refusal::Disabled)),
        (hash(&[("password", "{plain}old"), ("client_id", "other")]), Err(Refusal::ClientId)),
        (hash(&[("enabled", "1")]), Err(Refusal::NoPassword)),
        (hash(&[("password", "{plain}old"), ("groups", "new")]), Ok(())),
    ];
    for (change, expected) in changes {
        let mut world = World::new();
        world.write("user:{alice}", hash(&[("password", "{plain}old")]));
        world.login(&hello("alice", "c", Proof::Verified)).unwrap();
        let Admission::Hash(job) = world.gate.admit(hello("alice", "c", password("old")), Asked::Memory, world.now) else {
            panic!("a hash is needed")
        };
        let hashed = job.run();
        world.set("user:{alice}", change.clone());
        let outcome = match world.gate.conclude(hashed, world.now) {
            Admission::Admitted(_) => Ok(()),
            Admission::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected, "{change:?}");
    }
}

#[test]
fn a_password_that_changes_while_a_hash_is_running_is_asked_again() {
    for (shown, expected) in [("old", Err(Refusal::BadPassword)), ("new", Ok(()))] {
        let mut world = World::new();
        world.write("user:{alice}", hash(&[("password", "{plain}old")]));
        world.login(&hello("alice", "c", Proof::Verified)).unwrap();
        let Admission::Hash(job) = world.gate.admit(hello("alice", "c", password(shown)), Asked::Memory, world.now) else {
            panic!("a hash is needed")
        };
        world.set("user:{alice}", hash(&[("password", "{plain}new")]));
        let Admission::Hash(again) = world.gate.conclude(job.run(), world.now) else { panic!("{shown} has to be hashed anew") };
        let outcome = match world.gate.conclude(again.run(), world.now) {
            Admission::Admitted(_) => Ok(()),
            Admission::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected, "{shown}");
    }
}

#[test]
fn a_ban_that_comes_while_a_hash_is_running_holds() {
    let mut world = World::new();
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.login(&hello("alice", "c", Proof::Verified)).unwrap();
    let Admission::Hash(job) = world.gate.admit(hello("alice", "c", password("secret")), Asked::Memory, world.now) else {
        panic!("a hash is needed")
    };
    world.set("ban:{user:alice}", text("spam", None));
    assert!(matches!(world.gate.conclude(job.run(), world.now), Admission::Refused(Refusal::Banned { .. })));
}

#[test]
fn a_weak_password_is_replaced_once() {
    let rehash = Some(HashPolicy::mosquitto7(1_000).unwrap());
    let mut world = World::with(GateSettings::default(), LoginSettings { rehash, ..settings() });
    world.write("user:{alice}", hash(&[("password", "{plain}secret")]));
    world.by_password("alice", "wrong").unwrap_err();
    let _ = world.gate.take_effects();
    world.by_password("alice", "secret").unwrap();
    let effects = world.gate.take_effects();
    let [Effect::Forgiven(_), Effect::Rehash { user, old, new }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((user.as_str(), &**old), ("alice", "{plain}secret"));
    assert!(new.starts_with("$7$1000$") && !format!("{effects:?}").contains("$7$"));
    let hashed = world.hashed;
    world.set("user:{alice}", hash(&[("password", new)]));
    world.by_password("alice", "secret").unwrap();
    assert_eq!(world.hashed, hashed, "the new encoding is known already");
    assert!(world.gate.take_effects().is_empty());
}

#[test]
fn scram_tells_nobody_who_exists() {
    let mut world = World::new();
    let real = ScramCredential::derive(b"secret", ScramCredential::DEFAULT_ITERATIONS).unwrap();
    world.write("user:{alice}", hash(&[("scram", &real.to_string())]));
    world.write("user:{off}", hash(&[("scram", &real.to_string()), ("enabled", "0")]));
    let mut step = |user: &str| {
        let user = user.parse().unwrap();
        let Ok(ScramStep::Load(slot)) = world.gate.scram(&user, None, Asked::Memory, world.now) else { panic!("unread") };
        world.fill(&slot);
        match world.gate.scram(&user, None, Asked::Store, world.now) {
            Ok(ScramStep::Credential(credential)) => credential,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(step("alice"), real);
    for user in ["off", "nobody"] {
        let made_up = step(user);
        assert!(made_up != real && made_up.iterations() == real.iterations(), "{user}");
    }
    for _ in 0..10 {
        world.gate.failed_login(Some(&"alice".parse().unwrap()), None, world.now);
    }
    let outcome = world.gate.scram(&"alice".parse().unwrap(), None, Asked::Memory, world.now);
    assert!(matches!(outcome, Err(Refusal::BackOff(_))));
}

#[test]
fn a_password_never_shows() {
    let asks = hello("alice", "c", password("s3cret-word"));
    assert!(!format!("{asks:?}").contains("s3cret") && !format!("{asks:?}").contains("115, 51"));
}
