//! Holds compiled policies against a list read rule by rule.
//!
//! The model expands each template as text and asks the topic types, which are tested by themselves.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Decision, Policy, Reason, Who};
use crate::access::{Access, Rights};
use crate::key::Key;
use crate::rules::{RuleSet, Template};
use crate::topic::{TopicFilter, TopicName};

/// What a rule has to do with the question.
type Relation = fn(TopicFilter<'_>, &str) -> bool;

/// Rules of one key, as a store has them.
type Written = Vec<(String, String)>;

fn decide(
    layers: &[Written],
    access: Access,
    question: &str,
    who: &Who<'_>,
    allows: Relation,
    denies: Relation,
) -> Result<(), &'static str> {
    let mut answer = Err("no rule");
    for (filter, rights) in layers.iter().flatten() {
        let Ok(template) = Template::new(filter) else { continue };
        let rights = rights.parse().unwrap_or(Rights::DENY_ALL);
        let Some(expanded) = template.expand(who).filter(|_| rights.access.contains(access)) else { continue };
        let filter = TopicFilter::new(&expanded).expect("names keep a filter's shape");
        if rights.deny && denies(filter, question) {
            return Err("denied");
        }
        if !rights.deny && allows(filter, question) {
            answer = Ok(());
        }
    }
    answer
}

fn matches(filter: TopicFilter<'_>, topic: &str) -> bool {
    filter.matches(TopicName::new(topic).expect("a topic name"))
}

fn covers(filter: TopicFilter<'_>, other: &str) -> bool {
    filter.covers(TopicFilter::new(other).expect("a topic filter"))
}

fn overlaps(filter: TopicFilter<'_>, other: &str) -> bool {
    filter.overlaps(TopicFilter::new(other).expect("a topic filter"))
}

fn policy(layers: &[Written]) -> Policy {
    let layers = layers.iter().map(|written| {
        let fields = written.iter().map(|(filter, rights)| (filter.clone().into_bytes(), rights.clone().into_bytes())).collect();
        (Key::AllAcl, Arc::new(RuleSet::parse(&fields).0))
    });
    Policy::new(false, layers)
}

/// Checks that a decision is `expected`, and that the rule it names has a say in it.
fn agrees(policy: &Policy, decision: Decision, expected: Result<(), &'static str>, access: Access) -> Result<(), TestCaseError> {
    prop_assert_eq!(decision.allowed, expected.is_ok(), "{:?}, expected {:?}", decision, expected);
    match (decision.reason, expected) {
        (Reason::NoRule, Err("no rule")) => {}
        (Reason::Rule { .. }, Ok(()) | Err("denied")) => {
            let rule = policy.describe(decision).and_then(|explanation| explanation.rule).expect("the decision names a rule");
            prop_assert_eq!(rule.rights.deny, expected.is_err());
            prop_assert!(rule.rights.access.contains(access));
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

fn rule_level() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("a".to_owned()),
        2 => Just("b".to_owned()),
        1 => Just(String::new()),
        1 => Just("$a".to_owned()),
        1 => Just("longer than eight".to_owned()),
        1 => Just("longer than night".to_owned()),
        3 => Just("+".to_owned()),
        2 => Just("%u".to_owned()),
        1 => Just("%c".to_owned()),
        1 => Just("$%u".to_owned()),
        1 => Just("a%u${clientid}".to_owned()),
        1 => Just("%u%c".to_owned()),
    ]
}

fn rule_filter() -> impl Strategy<Value = String> {
    let levels = || prop::collection::vec(rule_level(), 1..5).prop_map(|levels| levels.join("/"));
    prop_oneof![
        6 => levels(),
        3 => levels().prop_map(|levels| levels + "/#"),
        1 => levels().prop_map(|levels| format!("$share/g/{levels}")),
        1 => Just("#".to_owned()),
        1 => prop::sample::select(vec!["a+", "${user}", "#/a", ""]).prop_map(str::to_owned),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Written>> {
    let rights = prop_oneof![
        6 => prop::sample::select(vec!["p", "r", "s", "prs", "ps"]),
        2 => prop::sample::select(vec!["!p", "!r", "!s", "!prs"]),
        1 => prop::sample::select(vec!["", "x", "!"]),
    ];
    prop::collection::vec(prop::collection::vec((rule_filter(), rights.prop_map(str::to_owned)), 0..6), 0..4)
}

fn question_level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "a",
        "b",
        "",
        "$a",
        "$aa",
        "aab",
        "ab",
        "c",
        "longer than eight",
        "longer than night",
        "longer than eigh",
    ])
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(question_level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => question_level(), 2 => Just("+")];
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, hash)| {
            levels.extend(hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("not empty", |filter| !filter.is_empty())
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "$a", "c/d", "+", "a\n", "%c", "longer than eight"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn topics_are_decided_as_the_list_says(layers in layers(), topic in topic(), user in prop::option::weighted(0.9, name()), client in name()) {
        let (policy, who) = (policy(&layers), Who { username: user, client_id: client });
        for access in Access::ALL {
            let expected = decide(&layers, access, &topic, &who, matches, matches);
            let decision = policy.may(access, TopicName::new(&topic).unwrap(), &who);
            agrees(&policy, decision, expected, access)?;
        }
    }

    #[test]
    fn one_search_decides_as_many_do(layers in layers(), topic in topic(), user in name(), client in name()) {
        let (policy, who, topic) = (policy(&layers), Who { username: Some(user), client_id: client }, TopicName::new(&topic).unwrap());
        let together = policy.may_all(Access::ALL, topic, Some(&who));
        let anybody = policy.may_all(Access::ALL, topic, None);
        for ((access, decision), for_anybody) in Access::ALL.into_iter().zip(together).zip(anybody) {
            let alone = policy.may(access, topic, &who);
            prop_assert_eq!((decision.allowed, decision.reason), (alone.allowed, alone.reason));
            prop_assert!(decision.personal || !alone.personal);
            prop_assert_eq!(for_anybody.personal, decision.personal);
            prop_assert!(for_anybody.personal || for_anybody == decision);
        }
    }

    #[test]
    fn what_is_not_personal_is_the_same_for_all(layers in layers(), topic in topic(), names in prop::array::uniform4(name())) {
        let policy = policy(&layers);
        for access in Access::ALL {
            let [one, other] = [(names[0], names[1]), (names[2], names[3])].map(|(user, client)| {
                policy.may(access, TopicName::new(&topic).unwrap(), &Who { username: Some(user), client_id: client })
            });
            prop_assert_eq!(one.personal, other.personal);
            prop_assert!(one.personal || one == other, "{:?} and {:?}", one, other);
        }
    }

    #[test]
    fn subscriptions_are_decided_as_the_list_says(layers in layers(), filter in filter(), user in prop::option::weighted(0.9, name()), client in name()) {
        let (policy, who) = (policy(&layers), Who { username: user, client_id: client });
        let expected = decide(&layers, Access::Subscribe, &filter, &who, covers, overlaps);
        let decision = policy.may_subscribe(TopicFilter::new(&filter).unwrap(), &who);
        agrees(&policy, decision, expected, Access::Subscribe)?;
    }
}
