//! Logins and access checks, answered from memory.
//!
//! A thousand users of one group; its rules and everyone's are 20.

use std::hint::black_box;
use std::time::Duration;

use midge_core::access::Access;
use midge_core::directory::Slot;
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, ClientPolicy, Gate, GateSettings, Hello, LoginSettings, Proof, Stranger};
use midge_core::key::Key;
use midge_core::policy::Latest;
use midge_core::time::Now;
use midge_core::topic::TopicName;

use super::{OPERATIONS, Operation, Path};

pub(super) const PATHS: &[Path] = &[
    ("check a publish: allowed", || check(Access::Publish, "site/hamburg/device/press", "command", true)),
    ("check a publish: denied by a rule", || check(Access::Publish, "site/hamburg/device/press", "secret", false)),
    ("check a publish: no rule", || check(Access::Publish, "site/hamburg/device/press", "halt", false)),
    ("check a delivery: allowed", || check(Access::Receive, "site/hamburg/device/press", "telemetry", true)),
    ("check a delivery: the latest decision again", recall),
    ("login, password remembered", login),
];

const NOW: Now = Now { monotonic: Duration::from_secs(1_000), unix: 1_700_000_000 };

const GROUP: &[(&str, &str)] = &[
    ("site/+/device/+/telemetry/#", "r"),
    ("site/+/device/+/command", "p"),
    ("site/berlin/room/+/temperature", "rs"),
    ("site/hamburg/room/+/temperature", "rs"),
    ("site/munich/device/press-12/command/start", "p"),
    ("site/munich/device/press-13/command/start", "p"),
    ("site/munich/device/press-13/command/stop", "!p"),
    ("chat/room-17/messages/new", "prs"),
    ("chat/room-42/messages/new", "prs"),
    ("chat/+/typing", "ps"),
    ("alerts/#", "rs"),
    ("site/+/device/+/secret", "!prs"),
];

const EVERYONE: &[(&str, &str)] = &[
    ("user/%u/#", "prs"),
    ("client/%c/status", "p"),
    ("orders/+/%u/created", "p"),
    ("orders/2024/%u/+/state", "rs"),
    ("push/%u/#", "rs"),
    ("news/+/public", "rs"),
    ("$SYS/broker/uptime", "rs"),
    ("admin/#", "!prs"),
];

fn hello(number: usize) -> Hello {
    Hello {
        user: Some(format!("user-{number:04}").parse().expect("a username")),
        client: format!("phone-{number:04}").parse().expect("a client identifier"),
        address: Some([192, 0, 2, 1].into()),
        proof: Proof::Password(b"secret".to_vec().into()),
        stranger: Stranger::Refused,
    }
}

fn stored(key: &Key) -> Entry {
    let fields = match key {
        Key::User(_) => &[("password", "{plain}secret"), ("groups", "staff")],
        Key::GroupAcl(_) => GROUP,
        Key::AllAcl => EVERYONE,
        _ => return Entry::Missing,
    };
    Entry::Hash(fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
}

/// Reads what an account is made of, until nothing is wanted any more.
fn load(gate: &Gate, slot: &Slot) {
    loop {
        let wanted = gate.directory().wants(slot);
        if wanted.is_empty() {
            return;
        }
        let read: Vec<(Key, Entry)> = wanted.into_iter().map(|key| (key.clone(), stored(&key))).collect();
        gate.directory().apply(&read, NOW);
    }
}

/// Lets a client in, whatever has to be read or hashed for it.
fn admit(gate: &Gate, number: usize) -> ClientPolicy {
    let mut admission = gate.admit(hello(number), Asked::Memory, NOW);
    loop {
        admission = match admission {
            Admission::Admitted(policy) => return policy,
            Admission::Load(slot) => {
                load(gate, &slot);
                gate.admit(hello(number), Asked::Store, NOW)
            }
            Admission::Hash(job) => gate.conclude(job.run(), NOW),
            other => panic!("{other:?}"),
        };
    }
}

fn gate() -> Gate {
    let mut settings = GateSettings::default();
    settings.directory.lists = false;
    let gate = Gate::new(settings, LoginSettings::default()).expect("random bytes");
    gate.directory().linked();
    gate
}

fn check(access: Access, below: &str, ending: &str, allowed: bool) -> Operation {
    let client = admit(&gate(), 0);
    let topics: Vec<String> = (0..OPERATIONS).map(|number| format!("{below}-{number}/{ending}")).collect();
    Box::new(move |turn| {
        let topic = TopicName::new(black_box(&topics[turn])).expect("a topic name");
        assert_eq!(client.may(access, topic).allowed, allowed);
    })
}

fn recall() -> Operation {
    let (client, mut latest) = (admit(&gate(), 0), Latest::default());
    let topic = TopicName::new("site/hamburg/device/press-7/telemetry").expect("a topic name");
    for _ in 0..2 {
        let decision = latest.decide(client.account().policy(), Access::Publish, topic, Some(&client.who()));
        assert!(!decision.personal);
    }
    Box::new(move |_| {
        let recalled = latest.recall(client.account().policy(), Access::Receive, black_box(topic).as_str().as_bytes());
        assert!(recalled.is_some_and(|decision| decision.allowed));
    })
}

fn login() -> Operation {
    let gate = gate();
    (0..OPERATIONS).for_each(|number| drop(admit(&gate, number)));
    // Each operation takes one, in both rounds.
    let mut hellos: Vec<Hello> = (0..OPERATIONS).chain(0..OPERATIONS).map(hello).collect();
    Box::new(move |_| {
        let admission = gate.admit(hellos.pop().expect("one for each operation"), Asked::Memory, NOW);
        assert!(matches!(black_box(admission), Admission::Admitted(_)));
    })
}
