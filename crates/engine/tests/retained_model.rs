//! The retained messages beside a map that is scanned.
//!
//! A query is left open while the messages change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_core::topic::{TopicFilter, TopicName};
use midge_engine::retained::{Bounds, Cursor, Message, Progress, Retained};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Set(String, u32, Option<u64>),
    Clear(String),
    Wait(u64),
    Expire(usize),
    Query(usize),
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof!["[ab]?", Just("$s".to_owned()), Just("a!".to_owned()), Just("a\u{1}".to_owned())], 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |topic| !topic.is_empty())
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => "[ab]?", 2 => Just("+".to_owned()), 1 => Just("$s".to_owned()), 1 => Just("a!".to_owned())];
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map("no filter", |(mut levels, open)| {
        levels.extend(open.then(|| "#".to_owned()));
        let text = levels.join("/");
        TopicFilter::new(&text).is_ok().then_some(text)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            8 => (topics(), any::<u32>(), prop::option::weighted(0.3, 0..20u64)).prop_map(|(t, v, e)| Step::Set(t, v, e)),
            3 => topics().prop_map(Step::Clear),
            1 => (0..5u64).prop_map(Step::Wait),
            1 => (0..5usize).prop_map(Step::Expire),
            3 => (1..6usize).prop_map(Step::Query),
        ],
        1..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn queries_find_what_stays_exactly_once(before in steps(), during in steps(), filter in filters()) {
        let mut retained = Retained::new(Bounds { messages: usize::MAX, bytes: usize::MAX });
        let mut model = BTreeMap::<String, (u32, Option<Duration>)>::new();
        let mut now = Duration::ZERO;
        let typed = TopicFilter::new(&filter).unwrap();
        let mut cursor = Cursor::new(typed);
        let mut found = Vec::<String>::new();
        let mut progress = Progress::More;
        // Topics that were there all the time since the query began.
        let mut steady = None::<BTreeSet<String>>;
        let begin = before.len();
        for (number, step) in before.into_iter().chain(during).enumerate() {
            let alive = |model: &BTreeMap<String, (u32, Option<Duration>)>, now| {
                model.iter().filter(|(_, (_, expires))| expires.is_none_or(|at| at > now)).map(|(topic, _)| topic.clone()).collect::<BTreeSet<_>>()
            };
            match step {
                Step::Set(topic, value, expires) => {
                    let expires = expires.map(|seconds| now + Duration::from_secs(seconds));
                    let old = retained.set(TopicName::new(&topic).expect("a topic name"), Message { value, bytes: 1, expires }, now).unwrap();
                    let expected = model.insert(topic, (value, expires)).filter(|(_, expires)| expires.is_none_or(|at| at > now));
                    prop_assert_eq!(old.map(|old| (old.value, old.expires)), expected);
                }
                Step::Clear(topic) => {
                    let old = retained.clear(TopicName::new(&topic).expect("a topic name"), now);
                    let expected = model.remove(&topic).filter(|(_, expires)| expires.is_none_or(|at| at > now));
                    prop_assert_eq!(old.map(|old| (old.value, old.expires)), expected);
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Expire(limit) => { retained.expire(now, limit); }
                Step::Query(limit) if number >= begin && progress == Progress::More => {
                    steady.get_or_insert_with(|| alive(&model, now));
                    let mut visits = 0;
                    progress = cursor.next_batch(&retained, limit, now, |topic, message| {
                        visits += 1;
                        assert_eq!(model.get(topic), Some(&(message.value, message.expires)));
                        assert!(message.expires.is_none_or(|at| at > now));
                        found.push(topic.to_owned());
                    });
                    prop_assert!(visits <= limit);
                }
                Step::Query(_) => {}
            }
            if progress == Progress::More {
                let alive = alive(&model, now);
                if let Some(steady) = &mut steady {
                    steady.retain(|topic| alive.contains(topic));
                }
            }
        }
        if steady.is_none() {
            steady = Some(model.iter().filter(|(_, (_, expires))| expires.is_none_or(|at| at > now)).map(|(topic, _)| topic.clone()).collect());
        }
        while progress == Progress::More {
            progress = cursor.next_batch(&retained, 1, now, |topic, _| found.push(topic.to_owned()));
        }
        let unique: BTreeSet<_> = found.iter().cloned().collect();
        prop_assert_eq!(unique.len(), found.len());
        prop_assert!(found.iter().all(|topic| typed.matches(TopicName::new(topic).expect("a topic name"))));
        let expected = steady.unwrap().into_iter().filter(|topic| typed.matches(TopicName::new(topic).expect("a topic name")));
        for topic in expected {
            prop_assert!(unique.contains(&topic), "{} is missing", topic);
        }
        for (topic, &(value, expires)) in &model {
            let found = retained.find(TopicName::new(topic).expect("a topic name"), now).map(|message| message.value);
            prop_assert_eq!(found, expires.is_none_or(|at| at > now).then_some(value));
        }
    }
}
