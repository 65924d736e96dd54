//! What a login costs whose password is remembered.
//!
//! The accounts are known, so that nothing is read; a thousand clients of as many users come in turn, each hashed once before.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its input is wrong")]

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use midge_core::directory::Slot;
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Anonymous, Asked, Gate, GateSettings, Hello, LoginSettings, Proof, Refusal, Stranger};
use midge_core::key::Key;
use midge_core::time::Now;

const USERS: usize = 1_000;
const NOW: Now = Now { monotonic: Duration::from_secs(1_000), unix: 1_700_000_000 };

fn hello(user: &str, secret: &str) -> Hello {
    let user = (!user.is_empty()).then(|| user.parse().unwrap());
    let proof = Proof::Password(secret.as_bytes().to_vec().into());
    let address = Some("192.0.2.1".parse().unwrap());
    Hello { user, client: "phone-7f3a".parse().unwrap(), address, proof, stranger: Stranger::Refused }
}

fn hash(fields: &[(&str, &str)]) -> Entry {
    Entry::Hash(fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
}

fn stored(key: &Key) -> Entry {
    match key {
        Key::User(_) => hash(&[("password", "{plain}secret"), ("groups", "staff")]),
        Key::GroupAcl(_) => hash(&[("site/+/device/#", "prs"), ("user/%u/#", "prs")]),
        _ => Entry::Missing,
    }
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

/// Returns a gate that has let in everybody of `hellos` once.
fn gate(hellos: &[Hello]) -> Gate {
    let mut settings = GateSettings::default();
    settings.directory.lists = false;
    let gate = Gate::new(settings, LoginSettings { anonymous: Anonymous::Allow, ..LoginSettings::default() }).unwrap();
    gate.directory().linked();
    for hello in hellos {
        let mut admission = gate.admit(hello.clone(), Asked::Memory, NOW);
        while !matches!(admission, Admission::Admitted(_)) {
            admission = match admission {
                Admission::Load(slot) => {
                    load(&gate, &slot);
                    gate.admit(hello.clone(), Asked::Store, NOW)
                }
                Admission::Hash(job) => gate.conclude(job.run(), NOW),
                other => panic!("{other:?}"),
            };
        }
    }
    gate
}

fn logins(criterion: &mut Criterion) {
    let users: Vec<Hello> = (0..USERS).map(|n| hello(&format!("user-{n}"), "secret")).collect();
    let nameless = vec![hello("", "")];
    let mut group = criterion.benchmark_group("login");
    for (name, hellos) in [("password that is remembered", &users), ("no username", &nameless)] {
        let gate = gate(hellos);
        let next = Cell::new(0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                next.set((next.get() + 1) % hellos.len());
                let admission = gate.admit(black_box(&hellos[next.get()]).clone(), Asked::Memory, NOW);
                assert!(matches!(admission, Admission::Admitted(_)));
                admission
            });
        });
    }
    let gate = gate(&nameless);
    gate.reload(LoginSettings { anonymous: Anonymous::Deny, ..LoginSettings::default() });
    group.bench_function("refused without a username", |bencher| {
        bencher.iter(|| {
            let admission = gate.admit(black_box(&nameless[0]).clone(), Asked::Memory, NOW);
            assert!(matches!(admission, Admission::Refused(Refusal::Anonymous)));
        });
    });
    group.finish();
}

criterion_group!(benches, logins);
criterion_main!(benches);
