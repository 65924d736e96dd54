//! What `midge hot` shows of the sets that servers keep.

use crate::place::Place;

fn place() -> Place {
    let place = Place::redis();
    for (metric, window, scores) in [
        ("messages", "1m", "30 chat/+/msg 12 site/1 7 \u{1b}[2J"),
        ("bytes", "1m", "300 chat/+/msg 9000 site/1"),
        ("deliveries", "1m", "60 chat/+/msg"),
        ("publishers", "1m", "2 chat/+/msg 1 site/1 1 \u{1b}[2J"),
        ("messages", "7d", "5 old"),
    ] {
        let key = format!("midge:hot:{{{metric}}}:{window}:now");
        let words: Vec<&str> = ["ZADD", &key].into_iter().chain(scores.split(' ')).collect();
        place.cli(&words);
    }
    place
}

#[test]
fn topics_are_ranked_by_what_is_asked_for() {
    let place = place();
    let table = "\
MESSAGES  BYTES  DELIVERIES  PUBLISHERS  TOPIC
30        300    60          2           chat/+/msg
12        9000   0           1           site/1
7         0      0           1           \\u{1b}[2J
";
    assert_eq!(place.ok(&["hot"], ""), table);
    assert_eq!(
        place.ok(&["hot", "--by", "bytes", "-n", "1"], "").lines().nth(1).unwrap().split_whitespace().last(),
        Some("site/1")
    );
    let json = "[\n  {\"topic\":\"old\",\"messages\":5,\"bytes\":0,\"deliveries\":0,\"publishers\":0}\n]\n";
    assert_eq!(place.ok(&["hot", "--window", "7d", "--json"], ""), json);
    assert_eq!(place.ok(&["hot", "--window", "24h"], ""), "nothing was published, or no server counts for this store\n");
    assert_eq!(place.ok(&["hot", "--window", "24h", "--json"], ""), "[]\n");
}

#[test]
fn what_cannot_be_asked_for_is_said() {
    let place = Place::redis();
    for (words, part) in [
        (vec!["hot", "--window", "1d"], "\"1d\" is none of 1m, 1h, 24h, 7d"),
        (vec!["hot", "--by", "noise"], "\"noise\" is none of messages, bytes, deliveries, publishers"),
        (vec!["hot", "-n", "0"], "0 is not in 1..=1000"),
    ] {
        let ran = place.run(&words, "");
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    let directory = tempfile::tempdir().unwrap();
    let ran = Place::redis().run(&["--store", &format!("file:{}", directory.path().display()), "hot"], "");
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("hot topics need Redis"), "{}", ran.err);
}
