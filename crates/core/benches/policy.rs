//! What checks and compilation of rules cost.
//!
//! Topics are taken in turn from a list of a thousand, so that neither the rules' memory nor the branches are the same each time.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its input is wrong")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use midge_core::access::Access;
use midge_core::entry::Fields;
use midge_core::key::Key;
use midge_core::policy::{Policy, Who};
use midge_core::rules::RuleSet;
use midge_core::topic::{TopicFilter, TopicName};

const WHO: Who<'_> = Who { username: Some("alice-0815"), client_id: "phone-7f3a" };

fn fields<F: AsRef<str>>(rules: impl IntoIterator<Item = (F, &'static str)>) -> Fields {
    rules.into_iter().map(|(filter, rights)| (filter.as_ref().into(), rights.into())).collect()
}

fn policy(layers: [Fields; 3]) -> Policy {
    let keys = [Key::UserAcl("alice-0815".parse().unwrap()), Key::GroupAcl("staff".parse().unwrap()), Key::AllAcl];
    let layers = keys.into_iter().zip(layers).map(|(key, fields)| {
        let (rules, flaws) = RuleSet::parse(&fields);
        assert!(flaws.is_empty());
        (key, Arc::new(rules))
    });
    Policy::new(false, layers)
}

fn group() -> Fields {
    fields([
        ("site/+/device/+/telemetry/#", "r"),
        ("site/+/device/+/command", "p"),
        ("site/berlin/room/+/temperature", "rs"),
        ("site/hamburg/room/+/temperature", "rs"),
        ("alerts/#", "rs"),
        ("site/+/device/+/secret", "!prs"),
    ])
}

fn everyone() -> Fields {
    fields([
        ("user/%u/#", "prs"),
        ("client/%c/status", "p"),
        ("news/+/public", "rs"),
        ("$SYS/broker/uptime", "rs"),
        ("admin/#", "!prs"),
    ])
}

fn small() -> Policy {
    let own = fields([
        ("chat/room-17/messages/new", "prs"),
        ("chat/room-42/messages/new", "prs"),
        ("chat/+/typing", "ps"),
        ("orders/2024/alice-0815/+/state", "rs"),
        ("orders/+/alice-0815/created", "p"),
        ("push/alice-0815/#", "rs"),
        ("site/munich/device/press-12/command/start", "p"),
        ("site/munich/device/press-13/command/start", "p"),
        ("site/munich/device/press-13/command/stop", "!p"),
    ]);
    policy([own, group(), everyone()])
}

fn many(count: usize) -> Fields {
    fields((0..count).map(|n| match n % 4 {
        0 => (format!("site/s{}/device/d{n}/telemetry/temperature", n % 97), "p"),
        1 => (format!("site/s{}/device/d{n}/state/#", n % 97), "rs"),
        2 => (format!("building/{}/floor/{}/room/r{n}/+", n % 31, n % 12), "prs"),
        _ => (format!("orders/2024/customer-{n}/state"), "r"),
    }))
}

fn run(c: &mut Criterion, name: &str, policy: &Policy, access: Access, expected: bool, topic: impl Fn(usize) -> String) {
    let topics: Vec<String> = (0..1000).map(topic).collect();
    let topics: Vec<TopicName<'_>> = topics.iter().map(|topic| TopicName::new(topic).unwrap()).collect();
    for topic in &topics {
        assert_eq!(policy.may(access, *topic, &WHO).allowed, expected, "{topic}");
    }
    let mut turn = topics.iter().cycle();
    c.bench_function(name, |b| b.iter(|| black_box(policy).may(access, *turn.next().unwrap(), black_box(&WHO))));
}

fn checks(c: &mut Criterion) {
    let small = small();
    run(c, "20 rules/literal", &small, Access::Publish, true, |n| format!("chat/room-{}/messages/new", [17, 42][n % 2]));
    run(c, "20 rules/plus", &small, Access::Receive, true, |n| format!("site/s{}/device/d{n}/telemetry/temperature", n % 97));
    run(c, "20 rules/template", &small, Access::Publish, true, |n| format!("user/alice-0815/inbox/{n}/read"));
    run(c, "20 rules/denied by a rule", &small, Access::Receive, false, |n| format!("site/s{}/device/d{n}/secret", n % 97));
    run(c, "20 rules/no rule", &small, Access::Publish, false, |n| format!("site/munich/device/press-{n}/command/halt"));

    let large = policy([many(10_000), group(), everyone()]);
    run(c, "10,000 rules/literal", &large, Access::Publish, true, |n| {
        let n = n * 8;
        format!("site/s{}/device/d{n}/telemetry/temperature", n % 97)
    });
    run(c, "10,000 rules/plus", &large, Access::Receive, true, |n| {
        let n = n * 8 + 2;
        format!("building/{}/floor/{}/room/r{n}/light", n % 31, n % 12)
    });
    run(c, "10,000 rules/template", &large, Access::Publish, true, |n| format!("user/alice-0815/inbox/{n}/read"));
    run(c, "10,000 rules/denied by a rule", &large, Access::Publish, false, |n| format!("site/s{}/device/d{n}/secret", n % 97));
    run(c, "10,000 rules/no rule", &large, Access::Publish, false, |n| {
        let n = n * 8;
        format!("site/s{}/device/d{n}/telemetry/humidity", n % 97)
    });
}

fn subscriptions(c: &mut Criterion) {
    let (small, large) = (small(), policy([many(10_000), group(), everyone()]));
    for (name, policy, filter, expected) in [
        ("subscribe/20 rules/template", &small, "user/alice-0815/#", true),
        ("subscribe/20 rules/plus", &small, "site/berlin/room/+/temperature", true),
        ("subscribe/20 rules/denied", &small, "#", false),
        ("subscribe/10,000 rules/plus", &large, "site/s1/device/d1/state/+", true),
        ("subscribe/10,000 rules/no rule", &large, "building/+/floor/+/room/+/+", false),
    ] {
        let filter = TopicFilter::new(filter).unwrap();
        assert_eq!(policy.may_subscribe(filter, &WHO).allowed, expected, "{filter}");
        c.bench_function(name, |b| b.iter(|| black_box(policy).may_subscribe(black_box(filter), black_box(&WHO))));
    }
}

fn compilation(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for count in [20, 10_000, 100_000] {
        let fields = many(count);
        group.bench_function(format!("{count} rules"), |b| {
            b.iter_with_large_drop(|| RuleSet::parse(&fields));
        });
    }
}

criterion_group!(benches, checks, subscriptions, compilation);
criterion_main!(benches);
