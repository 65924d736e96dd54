//! What the command leaves in Redis, byte for byte as documented.

use crate::place::Place;

#[test]
fn keys_and_fields_stand_as_documented() {
    let place = Place::redis();
    for words in [
        "user add alice --no-password --superuser --group staff --group ops --client-id %u-*",
        "user add bob --no-password --disabled",
        "acl add --user alice chat/%u/# prs",
        "acl add --user alice chat/secret !r",
        "acl add --group staff office/# sr",
        "acl add --all news r",
        "ban add user:mallory --reason spam",
        "ban add ip:192.0.2.9/24 --for 1h",
        "ban add client:a:b",
        "ban add ip:2001:DB8:0::/32",
    ] {
        place.ok(&words.split(' ').collect::<Vec<_>>(), "");
    }
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let sorted = |text: String| {
        let mut lines = lines(text);
        lines.sort();
        lines
    };
    let keys = [
        "midge:all:acl",
        "midge:ban:{client:a:b}",
        "midge:ban:{ip:192.0.2.0/24}",
        "midge:ban:{ip:2001:db8::/32}",
        "midge:ban:{user:mallory}",
        "midge:group:{staff}:acl",
        "midge:user:{alice}",
        "midge:user:{alice}:acl",
        "midge:user:{bob}",
    ];
    assert_eq!(sorted(place.cli(&["KEYS", "*"])), keys);
    for (key, fields) in [
        ("midge:user:{alice}", &["client_id", "%u-*", "enabled", "1", "groups", "staff,ops", "superuser", "1"][..]),
        ("midge:user:{bob}", &["enabled", "0"]),
        ("midge:user:{alice}:acl", &["chat/%u/#", "prs", "chat/secret", "!r"]),
        ("midge:group:{staff}:acl", &["office/#", "rs"]),
        ("midge:all:acl", &["news", "r"]),
    ] {
        let seen = lines(place.cli(&["HGETALL", key]));
        let mut pairs: Vec<&[String]> = seen.chunks(2).collect();
        pairs.sort();
        assert_eq!(pairs.concat(), fields, "{key}");
    }
    assert_eq!(place.cli(&["GET", "midge:ban:{user:mallory}"]), "spam");
    assert_eq!(place.cli(&["TTL", "midge:ban:{user:mallory}"]), "-1");
    assert!((3_000..=3_600).contains(&place.cli(&["TTL", "midge:ban:{ip:192.0.2.0/24}"]).parse().unwrap()));

    place.ok(&["user", "remove", "alice", "bob"], "");
    place.ok(&["acl", "remove", "--all", "news"], "");
    place.ok(&["ban", "remove", "client:a:b", "ip:192.0.2.0/24", "ip:2001:db8::/32", "user:mallory"], "");
    place.ok(&["group", "remove", "staff", "--all"], "");
    assert_eq!(place.cli(&["DBSIZE"]), "0");
}

#[test]
fn another_prefix_is_another_world() {
    let place = Place::redis();
    place.ok(&["--prefix", "shop/", "user", "add", "alice", "--no-password"], "");
    assert_eq!(place.cli(&["KEYS", "*"]), "shop/user:{alice}");
    assert_eq!(place.ok(&["user", "list"], ""), "no users\n");
}

#[test]
fn what_others_wrote_is_shown_with_its_flaws() {
    let place = Place::redis();
    for words in [
        "HSET midge:user:{eve} password hunter2 enabled maybe colour blue",
        "SET midge:user:{flat} x",
        "HSET midge:user:{eve}:acl a/#/b prs ok r chat/# rw",
        "HSET midge:user:{eve}:autosub news 9",
        "SET midge:group:{broken}:acl x",
        "HSET midge:ban:{user:odd} a b",
    ] {
        place.cli(&words.split(' ').collect::<Vec<_>>());
    }
    let json = |words: &[&str]| serde_json::from_str::<serde_json::Value>(&place.ok(words, "")).unwrap();
    let users = json(&["user", "list", "--json"]);
    let eve = &users[0];
    assert_eq!((&eve["name"], &eve["enabled"], &eve["password"]), (&"eve".into(), &false.into(), &serde_json::Value::Null));
    assert_eq!(eve["flaws"].as_array().unwrap().len(), 3);
    assert!(!place.ok(&["user", "show", "eve"], "").contains("hunter2"), "a password that no server accepts stays secret");
    assert_eq!((&users[1]["name"], &users[1]["enabled"]), (&"flat".into(), &false.into()));
    let rules = json(&["acl", "list", "--json"]);
    let flaws: Vec<(&str, bool)> =
        rules.as_array().unwrap().iter().map(|rule| (rule["filter"].as_str().unwrap(), rule["flaw"].is_string())).collect();
    assert_eq!(flaws, [("*", true), ("a/#/b", true), ("chat/#", true), ("ok", false)]);
    assert!(json(&["user", "show", "eve", "--json"])["subscriptions"][0]["flaw"].is_string());
    assert!(json(&["ban", "list", "--json"])[0]["flaw"].is_string());
    let explained = place.run(&["explain", "--user", "eve", "--client", "c", "publish", "chat/1", "--json"], "");
    assert_eq!(explained.code, 1);
    let explained: serde_json::Value = serde_json::from_str(&explained.out).unwrap();
    assert_eq!(explained["allowed"], false);
    assert_eq!(explained["flaws"].as_array().unwrap().len(), 3);

    for (words, expected) in [
        (&["user", "set", "flat", "--disable"][..], "midge:user:{flat} can't be read"),
        (&["user", "add", "flat", "--no-password"], "exists already"),
        (&["acl", "add", "--group", "broken", "a", "p"], "midge:group:{broken}:acl can't be read"),
        (&["acl", "add", "--user", "eve", "chat/#", "p"], "can't be read: \"rw\""),
        (&["ban", "set", "user:odd", "--forever"], "holds no string"),
    ] {
        let ran = place.run(words, "");
        assert_eq!(ran.code, 1, "{words:?}: {ran:?}");
        assert!(ran.err.contains(expected), "{words:?}: {ran:?}");
    }
    for words in [
        &["acl", "remove", "--user", "eve", "a/#/b", "chat/#"][..],
        &["acl", "remove", "--group", "broken", "--every-rule"],
        &["ban", "remove", "user:odd"],
        &["user", "remove", "flat"],
    ] {
        place.ok(words, "");
    }
}
