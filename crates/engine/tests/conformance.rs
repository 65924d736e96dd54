//! Holds docs/CONFORMANCE.md to the tests that there are.
//!
//! No statement of the standards is forgotten, none is there twice, and whatever a row names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The numbered statements of 5.0, appendix B.
const OF_5: &str = "1.5.4-1..3 1.5.5-1..1 1.5.7-1..1 2.1.3-1..1 2.2.1-2..6 2.2.2-1..1 3.1.0-1..2 3.1.2-1..30 3.1.3-1..12 \
    3.1.4-1..6 3.2.0-1..2 3.2.2-1..22 3.3.1-1..13 3.3.2-1..20 3.3.4-1..10 3.4.2-1..3 3.5.2-1..3 3.6.1-1..1 3.6.2-1..3 \
    3.7.2-1..3 3.8.1-1..1 3.8.3-1..5 3.8.4-1..8 3.9.2-1..2 3.9.3-1..2 3.10.1-1..1 3.10.3-1..2 3.10.4-1..6 3.11.2-1..2 \
    3.11.3-1..2 3.12.4-1..1 3.14.0-1..1 3.14.1-1..1 3.14.2-1..4 3.14.4-1..3 3.15.1-1..1 3.15.2-1..3 4.1.0-1..2 4.2-1..1 \
    4.3.1-1..1 4.3.2-1..5 4.3.3-1..13 4.4.0-1..2 4.5.0-1..2 4.6.0-1..6 4.7.0-1..1 4.7.1-1..2 4.7.2-1..1 4.7.3-1..4 \
    4.8.2-1..6 4.9.0-1..3 4.12.0-1..7 4.12.1-1..2 4.13.1-1..1 4.13.2-1..1 6.0.0-1..4";

/// The numbered statements of 3.1.1, appendix B.
const OF_311: &str = "1.5.3-1..3 2.2.2-1..2 2.3.1-1..7 3.1.0-1..2 3.1.2-1..24 3.1.3-1..11 3.1.4-1..5 3.2.0-1..1 3.2.2-1..6 \
    3.3.1-1..12 3.3.2-1..3 3.3.4-1..1 3.3.5-1..2 3.6.1-1..1 3.8.1-1..1 3.8.3-1..4 3.8.4-1..6 3.9.3-1..2 3.10.1-1..1 \
    3.10.3-1..2 3.10.4-1..6 3.12.4-1..1 3.14.1-1..1 3.14.4-1..3 4.1.0-1..2 4.3.1-1..1 4.3.2-1..2 4.3.3-1..2 4.4.0-1..1 \
    4.5.0-1..2 4.6.0-1..6 4.7.1-1..3 4.7.2-1..1 4.7.3-1..4 4.8.0-1..2 6.0.0-1..4 7.0.0-1..2 7.1.1-1..1 7.1.2-1..1";

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn statements(ranges: &str) -> BTreeSet<String> {
    let range = |range: &str| {
        let (section, numbers) = range.split_once('-').expect("a section and numbers");
        let (first, last) = numbers.split_once("..").expect("two numbers");
        let (first, last): (u32, u32) = (first.parse().expect("a number"), last.parse().expect("a number"));
        (first..=last).map(|number| format!("MQTT-{section}-{number}")).collect::<Vec<_>>()
    };
    ranges.split_whitespace().flat_map(range).collect()
}

/// Returns the tests of all files below a folder, as `FILE::TEST`.
fn tests(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
            // The simulation is one binary whose tests are in its root; `tests` are those of what they stand below.
            let file = if file == "main" || file == "tests" {
                path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy().into()
            } else {
                file
            };
            let text = std::fs::read_to_string(&path).expect("a source file");
            let mut attributed = false;
            for line in text.lines().map(str::trim) {
                let name = line.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next());
                found.extend(name.filter(|_| attributed).map(|name| format!("{file}::{name}")));
                attributed = line == "#[test]";
            }
        }
    }
}

/// Returns the statements that wire vectors cite, by protocol level.
fn cited() -> BTreeSet<(char, String)> {
    let mut cited = BTreeSet::new();
    for entry in std::fs::read_dir(crates().join("mqtt/vectors")).expect("the wire vectors") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file of vectors");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split('|').next().unwrap_or_default().split_whitespace().collect();
            if let [version, _, _, clause] = words[..] {
                cited.insert((version.chars().next().expect("a level"), clause.to_owned()));
            }
        }
    }
    cited
}

/// The rows of one version: statement and what shows it; statements of clients have nothing.
fn rows(text: &str) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(row) = line.strip_prefix("| MQTT-") {
            let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
            let shown = cells.last().expect("cells").split(", ").map(|shown| shown.trim_matches('`').to_owned()).collect();
            assert_eq!(cells.len(), 3, "{line}");
            rows.push((format!("MQTT-{}", cells[0]), shown));
        } else if let Some(clients) = line.strip_prefix("These bind clients alone, and who connects to servers: ") {
            rows.extend(clients.trim_end_matches('.').split(", ").map(|statement| (statement.to_owned(), Vec::new())));
        }
    }
    rows
}

#[test]
fn every_statement_has_a_row_and_every_row_a_test() {
    let text = std::fs::read_to_string(crates().join("../docs/CONFORMANCE.md")).expect("docs/CONFORMANCE.md");
    let (of_5, of_311) = text.split_once("## MQTT 3.1.1").expect("a part for each version");
    let mut known = BTreeSet::new();
    for dir in ["engine/src", "engine/tests", "mqtt/src", "mqtt/tests", "broker/src", "broker/tests", "cli/tests"] {
        tests(&crates().join(dir), &mut known);
    }
    let cited = cited();
    let mut faults = Vec::new();
    for (text, ranges, levels) in [(of_5, OF_5, &['5'][..]), (of_311, OF_311, &['3', '4'])] {
        let mut seen: BTreeMap<String, usize> = statements(ranges).into_iter().map(|statement| (statement, 0)).collect();
        for (statement, shown) in rows(text) {
            match seen.get_mut(&statement) {
                Some(times) => *times += 1,
                None => faults.push(format!("{statement} is no statement of the standard")),
            }
            for shown in shown {
                let there = match shown.as_str() {
                    "vectors" => levels.iter().any(|&level| cited.contains(&(level, statement.clone()))),
                    test => known.contains(test),
                };
                if !there {
                    faults.push(format!("{statement}: there is no {shown}"));
                }
            }
        }
        faults.extend(seen.iter().filter(|(_, times)| **times != 1).map(|(id, times)| format!("{id} is there {times} times")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
