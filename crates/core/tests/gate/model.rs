//! Random histories never let anybody in against the last word.
//!
//! The model is a map of what was applied, a list of rules read one by one, and nothing else.

use std::collections::BTreeMap;

use midge_core::access::{Access, Rights};
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, ClientPolicy, Hello, Refusal};
use midge_core::key::Key;
use midge_core::topic::{TopicFilter, TopicName};
use proptest::prelude::*;

use crate::kit::{World, hash, hello, key, password};

const USERS: [&str; 3] = ["a", "b", "c"];
const GROUPS: [&str; 2] = ["g", "h"];
const TOPICS: [&str; 3] = ["x", "x/y", "z"];

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(Key, Entry)>),
    /// A service that reads all that a login wants.
    Fill(usize),
    Lost,
    Linked,
    Pass(u64),
    Admit {
        user: usize,
        right: bool,
        asked: Asked,
    },
    Leave(usize),
}

fn entry(key: Key) -> BoxedStrategy<(Key, Entry)> {
    let record = (0..3_usize, prop::sample::subsequence(GROUPS.to_vec(), 0..=2), any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(secret, groups, enabled, superuser)| {
            let switch = |on: bool| if on { "1" } else { "0" };
            let groups = groups.join(",");
            let secret = format!("{{plain}}p{secret}");
            hash(&[("password", &secret), ("groups", &groups), ("enabled", switch(enabled)), ("superuser", switch(superuser))])
        });
    let filter = prop::sample::select(vec!["x", "x/#", "#", "+", "z"]);
    let rights = prop::sample::select(vec!["p", "prs", "!p", "!r", "r"]);
    let rules = prop::collection::btree_map(filter, rights, 1..3).prop_map(|rules| hash(&rules.into_iter().collect::<Vec<_>>()));
    let content = if matches!(key, Key::User(_)) { record.boxed() } else { rules.boxed() };
    prop_oneof![5 => content, 2 => Just(Entry::Missing), 1 => Just(Entry::Unreadable("x".to_owned()))]
        .prop_map(move |entry| (key.clone(), entry))
        .boxed()
}

fn any_entry() -> impl Strategy<Value = (Key, Entry)> {
    let users = USERS.iter().flat_map(|user| [format!("user:{{{user}}}"), format!("user:{{{user}}}:acl")]);
    let groups = GROUPS.iter().map(|group| format!("group:{{{group}}}:acl"));
    let keys: Vec<Key> = users.chain(groups).chain(["all:acl".to_owned()]).map(|text| key(&text)).collect();
    prop::sample::select(keys).prop_flat_map(entry)
}

fn step() -> impl Strategy<Value = Step> {
    let asked = prop::sample::select(vec![Asked::Memory, Asked::Store, Asked::StoreAway]);
    prop_oneof![
        6 => prop::collection::vec(any_entry(), 1..4).prop_map(Step::Apply),
        4 => (0..USERS.len()).prop_map(Step::Fill),
        1 => Just(Step::Lost),
        2 => Just(Step::Linked),
        1 => prop_oneof![0..50_u64, 0..200_000_u64].prop_map(Step::Pass),
        8 => (0..USERS.len(), any::<bool>(), asked).prop_map(|(user, right, asked)| Step::Admit { user, right, asked }),
        1 => any::<usize>().prop_map(Step::Leave),
    ]
}

/// What was applied last.
#[derive(Default)]
struct Model(BTreeMap<Key, Entry>);

impl Model {
    fn record(&self, user: &str) -> Option<BTreeMap<String, String>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match self.0.get(&key(&format!("user:{{{user}}}"))) {
            Some(Entry::Hash(fields)) => Some(fields.iter().map(|(field, value)| (text(field), text(value))).collect()),
            _ => None,
        }
    }

    fn password(&self, user: &str) -> Option<String> {
        let record = self.record(user).filter(|record| record["enabled"] == "1")?;
        record["password"].strip_prefix("{plain}").map(ToOwned::to_owned)
    }

    fn allows(&self, user: &str, access: Access, topic: &str) -> bool {
        let Some(record) = self.record(user).filter(|record| record["enabled"] == "1") else { return false };
        let groups = record["groups"].split(',').filter(|group| !group.is_empty()).map(|group| format!("group:{{{group}}}:acl"));
        let keys: Vec<Key> = groups.chain([format!("user:{{{user}}}:acl"), "all:acl".to_owned()]).map(|text| key(&text)).collect();
        if keys.iter().any(|key| !self.0.contains_key(key)) {
            return false;
        }
        if record["superuser"] == "1" {
            return true;
        }
        let mut allowed = false;
        for key in &keys {
            match &self.0[key] {
                Entry::Missing => {}
                Entry::Hash(fields) => {
                    for (filter, rights) in fields {
                        let filter = TopicFilter::new(std::str::from_utf8(filter).unwrap()).unwrap();
                        let rights: Rights = std::str::from_utf8(rights).unwrap().parse().unwrap();
                        if rights.access.contains(access) && filter.matches(TopicName::new(topic).unwrap()) {
                            if rights.deny {
                                return false;
                            }
                            allowed = true;
                        }
                    }
                }
                _ => return false,
            }
        }
        allowed
    }
}

/// Decides about a login without reading anything more.
fn decide(world: &World, hello: Hello, asked: Asked) -> Result<ClientPolicy, Option<Refusal>> {
    let mut admission = world.gate.admit(hello, asked, world.now);
    loop {
        admission = match admission {
            Admission::Admitted(policy) => return Ok(policy),
            Admission::Refused(refusal) => return Err(Some(refusal)),
            Admission::Load(_) => return Err(None),
            Admission::Hash(job) => world.gate.conclude(job.run(), world.now),
        }
    }
}

/// Checks every live client against the model: no more is allowed, and once all is read, no less.
fn check(world: &World, model: &Model, live: &[(usize, ClientPolicy)]) -> Result<(), TestCaseError> {
    for (user, policy) in live {
        for (access, topic) in Access::ALL.into_iter().flat_map(|access| TOPICS.map(|topic| (access, topic))) {
            let allowed = policy.may(access, TopicName::new(topic).unwrap()).allowed;
            prop_assert_eq!(allowed, model.allows(USERS[*user], access, topic), "{} {} {}", USERS[*user], access, topic);
        }
        let ended = policy.revoked(&world.gate, world.now).is_some();
        prop_assert_eq!(ended, model.record(USERS[*user]).is_none_or(|record| record["enabled"] == "0"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_more_than_the_last_word_gives(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut model = Model::default();
        let mut live: Vec<(usize, ClientPolicy)> = Vec::new();
        // The store holds what was applied last, so that a fill changes nothing for those who know it.
        for step in steps {
            match step {
                Step::Apply(read) => {
                    // A service reads only what it holds or wants.
                    for user in USERS {
                        drop(world.directory().slot(&midge_core::directory::Identity::user(&user.parse().unwrap()), world.now));
                    }
                    world.gate.directory().apply(&read, world.now);
                    for (key, entry) in read {
                        world.store.insert(key.clone(), entry.clone());
                        model.0.insert(key, entry);
                    }
                }
                Step::Fill(user) => {
                    let slot = world.directory().slot(&midge_core::directory::Identity::user(&USERS[user].parse().unwrap()), world.now);
                    for _ in 0..2 {
                        let wants = world.directory().wants(&slot);
                        world.load(&wants);
                        for key in wants {
                            let entry = world.store.get(&key).cloned().unwrap_or(Entry::Missing);
                            model.0.insert(key, entry);
                        }
                    }
                }
                Step::Lost => world.directory().lost(world.now),
                Step::Linked => world.directory().linked(),
                Step::Pass(seconds) => world.pass(seconds),
                Step::Admit { user, right, asked } => {
                    let expected = model.password(USERS[user]);
                    let shown = match (&expected, right) {
                        (Some(secret), true) => secret.clone(),
                        _ => "wrong".to_owned(),
                    };
                    if let Ok(policy) = decide(&world, hello(USERS[user], "c", password(&shown)), asked) {
                        prop_assert_eq!(Some(shown), expected);
                        prop_assert!(policy.account().is_decided());
                        live.push((user, policy));
                    }
                }
                Step::Leave(which) => {
                    if !live.is_empty() {
                        live.swap_remove(which % live.len());
                    }
                }
            }
            check(&world, &model, &live)?;
            let held: std::collections::BTreeSet<usize> = live.iter().map(|(user, _)| *user).collect();
            prop_assert_eq!(world.directory().live().len(), held.len());
        }
    }
}
