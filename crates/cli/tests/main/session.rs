//! What a user types and sees: `session.txt`, over all stores.
//!
//! `MIDGE_UPDATE=1 cargo test -p midge session` writes the file anew, to be read before it is committed.
//! A line `$ midge …` is typed, `< …` is its input, other lines are its output: `! …` on standard error, `[n]` its exit code.

use crate::place::Place;
use std::fmt::Write;
use std::path::Path;

#[test]
fn a_session_reads_the_same_over_every_store() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/session.txt");
    let expected = std::fs::read_to_string(&path).unwrap();
    for place in Place::both().into_iter().chain([Place::cluster(), Place::served()]) {
        let seen = play(&place, &expected);
        if std::env::var_os("MIDGE_UPDATE").is_some() {
            std::fs::write(&path, &seen).unwrap();
        } else {
            for (number, (seen, expected)) in seen.lines().zip(expected.lines()).enumerate() {
                assert_eq!(seen, expected, "line {} of {} with {}", number + 1, path.display(), place.url());
            }
            assert_eq!(seen, expected);
        }
    }
}

fn play(place: &Place, script: &str) -> String {
    let mut seen = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with('#') || line.is_empty() && lines.peek().is_some_and(|next| next.starts_with(['#', '$'])) {
            writeln!(seen, "{line}").unwrap();
        }
        let Some(typed) = line.strip_prefix("$ midge ") else { continue };
        writeln!(seen, "{line}").unwrap();
        let mut input = String::new();
        while let Some(text) = lines.next_if(|next| next.starts_with("< ")) {
            writeln!(seen, "{text}").unwrap();
            writeln!(input, "{}", &text[2..]).unwrap();
        }
        let words = split(typed);
        let ran = place.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), &input);
        ran.out.lines().for_each(|line| writeln!(seen, "{line}").unwrap());
        ran.err.lines().for_each(|line| writeln!(seen, "{}", format!("! {line}").trim_end()).unwrap());
        if ran.code != 0 {
            writeln!(seen, "[{}]", ran.code).unwrap();
        }
    }
    seen
}

/// Splits a line at spaces outside of single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
