//! What is a push, and what is none.
//!
//! Each fault is named with its field and with what would be allowed.

use proptest::prelude::*;

use super::*;

fn parse(fields: &[(&str, &str)]) -> Result<Push, PushError> {
    Push::parse(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

#[test]
fn audiences() {
    let with = |field: &'static str, value: &'static str| parse(&[("topic", "a/b"), ("payload", "x"), (field, value)]);
    for (field, value, expected) in [
        ("qos", "1", Audience::Subscribers),
        ("user", "ann", Audience::User("ann".parse().unwrap())),
        ("client", "phone 1", Audience::Client("phone 1".parse().unwrap())),
        ("group", "staff", Audience::Group("staff".parse().unwrap())),
        ("all", "1", Audience::All),
        ("all", "0", Audience::Subscribers),
    ] {
        assert_eq!(with(field, value).unwrap().audience, expected, "{field} {value}");
    }
}

#[test]
fn what_is_not_said_has_a_default() {
    let push = parse(&[("topic", "a/b")]).unwrap();
    assert_eq!(
        (push.payload.len(), push.qos, push.retain, push.expiry, push.id, push.wants_result),
        (0, 1, false, None, None, false)
    );
}

#[test]
fn faults_are_named() {
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "the field topic is missing"),
        (&[("topic", "")], "the field topic: the topic is empty"),
        (&[("topic", "a/#")], "the field topic: a topic name holds a wildcard"),
        (&[("topic", "$SYS/x")], "the field topic begins with $, which is for servers alone"),
        (&[("topic", "$share/g/x")], "the field topic begins with $, which is for servers alone"),
        (&[("topic", "a"), ("topic", "b")], "the field topic is given twice"),
        (
            &[("topic", "a"), ("usr", "ann")],
            "the field \"usr\" is unknown: allowed are topic, payload, user, client, group, all, qos, retain, expiry, id, result",
        ),
        (&[("topic", "a"), ("qos", "3")], "the field qos is \"3\": allowed is 0, 1 or 2"),
        (&[("topic", "a"), ("qos", "")], "the field qos is \"\": allowed is 0, 1 or 2"),
        (&[("topic", "a"), ("retain", "yes")], "the field retain is \"yes\": allowed is 0 or 1"),
        (&[("topic", "a"), ("all", "x")], "the field all is \"x\": allowed is 0 or 1"),
        (&[("topic", "a"), ("expiry", "0")], "the field expiry is \"0\": allowed is a number of seconds from 1 to 4294967295"),
        (&[("topic", "a"), ("expiry", "-1")], "the field expiry is \"-1\": allowed is a number of seconds from 1 to 4294967295"),
        (&[("topic", "a"), ("id", "")], "the field id is \"\": allowed is a text of 1 to 256 bytes"),
        (&[("topic", "a"), ("user", "")], "the field user: the name is empty"),
        (&[("topic", "a"), ("user", "u"), ("group", "g")], "only one of user, client, group and all can be given"),
        (&[("topic", "a"), ("user", "u"), ("all", "1")], "only one of user, client, group and all can be given"),
        (
            &[("topic", "a"), ("user", "u"), ("retain", "1")],
            "retain is for pushes to the subscribers of a topic, without user, client, group and all",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(parse(fields).unwrap_err().to_string(), *expected, "{fields:?}");
    }
    assert!(matches!(parse(&[("topic", "a"), ("id", &long)]), Err(PushError::Value { field: "id", .. })));
    assert_eq!(Push::parse([(&b"topic"[..], &b"\xff"[..])]), Err(PushError::Topic(TopicError::NotUtf8)));
}

#[test]
fn an_expired_push_is_good_for_nothing() {
    let mut push = parse(&[("topic", "a"), ("expiry", "10")]).unwrap();
    let seconds = Duration::from_secs;
    for (age, expired, left) in [(0, false, 10), (9, false, 1), (10, true, 0), (11, true, 0)] {
        assert_eq!((push.has_expired(seconds(age)), push.seconds_left(seconds(age))), (expired, Some(left)), "{age}");
    }
    assert_eq!(push.seconds_left(Duration::from_millis(8_999)), Some(2));
    push.expiry = None;
    assert_eq!((push.has_expired(seconds(1_000_000)), push.seconds_left(seconds(1_000_000))), (false, None));
}

fn any_push() -> impl Strategy<Value = Push> {
    let name = || "[a-z]{1,8}";
    let audience = prop_oneof![
        Just(Audience::Subscribers),
        name().prop_map(|name| Audience::User(name.parse().unwrap())),
        name().prop_map(|name| Audience::Client(name.parse().unwrap())),
        name().prop_map(|name| Audience::Group(name.parse().unwrap())),
        Just(Audience::All),
    ];
    let rest = (any::<Vec<u8>>(), 0..3_u8, any::<bool>(), proptest::option::of(1..=u32::MAX), proptest::option::of("\\PC{1,64}"));
    (audience, "[a-z/]{1,20}", rest, any::<bool>()).prop_map(
        |(audience, topic, (payload, qos, retain, expiry, id), wants_result)| Push {
            retain: retain && audience == Audience::Subscribers,
            audience,
            topic: topic.into(),
            payload,
            qos,
            expiry: expiry.map(|seconds| Duration::from_secs(seconds.into())),
            id: id.map(Into::into),
            wants_result,
        },
    )
}

proptest! {
    #[test]
    fn a_push_reads_back_as_itself(push in any_push()) {
        let fields = push.fields();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        prop_assert_eq!(Push::parse(fields), Ok(push));
    }

    #[test]
    fn no_entry_is_too_strange(fields in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..6)) {
        drop(Push::parse(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))));
    }
}
