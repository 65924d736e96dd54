//! Who is online, as servers have entered it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::place::Place;

#[test]
fn those_on_servers_that_are_there_are_online() {
    let place = Place::redis();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let at = |node: &str, seconds: u128| format!("{node} {}", now - seconds * 1_000);
    for (user, client, entry) in [
        ("ann", "phone", at("one", 7_200)),
        ("ann", "tablet", at("the second", 0)),
        ("ann", "lost", at("dead", 60)),
        ("bob", "phone", at("dead", 60)),
        ("bob", "odd", "no entry".to_owned()),
        ("", "nameless", at("one", 0)),
    ] {
        place.cli(&["HSET", &format!("midge:online:{{{user}}}"), client, &entry]);
    }
    place.cli(&["SET", "midge:online:{wrong}", "x"]);
    place.cli(&["HSET", "midge:node:{one}", "body", "mosquitto"]);
    place.cli(&["HSET", "midge:node:{the second}", "body", "midge"]);
    place.cli(&["HSET", "midge:seen:{bob}", "at", &(now - 600_000).to_string(), "client", "phone", "node", "one"]);
    let rows = |words: &[&str]| {
        let shown = place.ok(words, "");
        let cells =
            |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).take(3).collect::<Vec<_>>().join("|");
        shown.lines().map(cells).collect::<Vec<_>>()
    };
    let head = "CLIENT|USER|NODE";
    let (nameless, phone, tablet) = ("nameless|-|one", "phone|ann|one", "tablet|ann|the second");
    assert_eq!(rows(&["clients"]), [head, nameless, phone, tablet]);
    assert_eq!(rows(&["clients", "--user", "ann"]), [head, phone, tablet]);
    assert_eq!(rows(&["clients", "--node", "one"]), [head, nameless, phone]);
    assert_eq!(rows(&["clients", "--node", "the second", "--user", "ann"]), [head, tablet]);
    assert!(place.ok(&["clients", "--user", "ann"], "").contains("one         2h"), "{}", place.ok(&["clients"], ""));
    let said = place.ok(&["clients", "--user", "bob"], "");
    assert!(said.starts_with("no client of bob is online; the last was phone on one, 10m"), "{said}");
    assert_eq!(place.ok(&["clients", "--node", "dead"], ""), "no client is online\n");
    let json = place.ok(&["clients", "--node", "one", "--json"], "");
    let since = now - 7_200_000;
    assert!(json.contains(&format!(r#"{{"client":"phone","node":"one","since":{since},"user":"ann"}}"#)), "{json}");
    assert!(json.contains(r#""client":"nameless""#) && json.contains(r#""user":null"#), "{json}");
}
