//! The kept counts: a table between two marks of a document.
//!
//! The line above the table says what they were counted with.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

const BEGIN: &str = "<!-- written by cargo xtask counts --keep -->\n";
const END: &str = "<!-- end -->\n";
const COUNTED_WITH: &str = "Counted with ";
const HEAD: &str = "| path | instructions |\n|---|---:|\n";

/// Instructions of each path, in the program's order.
#[derive(Debug, PartialEq)]
pub(super) struct Counts(Vec<(String, u64)>);

/// Counts, and what they were counted with.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) machine: String,
    pub(super) counts: Counts,
}

impl Kept {
    /// Reads what a document keeps.
    ///
    /// # Errors
    /// The marks are missing, or what is between them is not what [`Self::write`] makes.
    pub(super) fn read(document: &str) -> Result<Self> {
        let (_, section, _) = parts(document)?;
        let mut lines = section.lines().filter(|line| !line.is_empty());
        let machine = lines.next().and_then(|line| line.strip_prefix(COUNTED_WITH)?.strip_suffix('.')).unwrap_or("");
        let rows = lines.skip(HEAD.lines().count()).map(|line| row(line).with_context(|| format!("no row with a count: {line}")));
        Ok(Self { machine: machine.into(), counts: Counts(rows.collect::<Result<_>>()?) })
    }

    /// Returns the document with these counts in place of its own.
    ///
    /// # Errors
    /// The marks are missing.
    pub(super) fn write(&self, document: &str) -> Result<String> {
        let (before, _, after) = parts(document)?;
        let mut text = format!("{before}{BEGIN}\n{COUNTED_WITH}{}.\n\n{HEAD}", self.machine);
        for (path, count) in &self.counts.0 {
            let _ = writeln!(text, "| {path} | {} |", grouped(*count));
        }
        Ok(text + "\n" + END + after)
    }
}

impl Counts {
    pub(super) fn new(counts: Vec<(String, u64)>) -> Self {
        Self(counts)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns how many paths have another count now, are new, or are gone.
    pub(super) fn differing(&self, now: &Self) -> usize {
        self.joined(now).filter(|(_, kept, now)| kept != now).count()
    }

    /// Returns the lines of a table with both.
    pub(super) fn compared(&self, now: &Self) -> Vec<String> {
        let shown = |count: Option<u64>| count.map_or("-".into(), grouped);
        let line = |path: &str, kept: &str, now: &str, difference: &str| {
            format!("{path:<56} {kept:>9} {now:>9}  {difference}").trim_end().to_owned()
        };
        let rows = self.joined(now).map(|(path, kept, now)| {
            let difference = match (kept, now) {
                (None, _) => "new".into(),
                (_, None) => "gone".into(),
                (Some(kept), Some(now)) if kept != now => difference(kept, now),
                _ => String::new(),
            };
            line(path, &shown(kept), &shown(now), &difference)
        });
        std::iter::once(line("instructions", "kept", "now", "difference")).chain(rows).collect()
    }

    /// Returns all paths of both with their counts.
    fn joined<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = (&'a str, Option<u64>, Option<u64>)> {
        let gone =
            self.0.iter().filter(|(path, _)| now.of(path).is_none()).map(|(path, count)| (path.as_str(), Some(*count), None));
        now.0.iter().map(|(path, count)| (path.as_str(), self.of(path), Some(*count))).chain(gone)
    }

    fn of(&self, path: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == path).map(|(_, count)| *count)
    }
}

/// Returns what comes before the marks, between and after them.
fn parts(document: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("there is no line {BEGIN}"))?;
    let (section, after) = rest.split_once(END).with_context(|| format!("there is no line {END}"))?;
    ensure!(!after.contains(BEGIN), "there are two lines {BEGIN}");
    Ok((before, section, after))
}

fn row(line: &str) -> Option<(String, u64)> {
    let (path, count) = line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | ")?;
    Some((path.to_owned(), count.replace(',', "").parse().ok()?))
}

#[expect(clippy::cast_precision_loss, reason = "a tenth of a per cent is shown")]
fn difference(kept: u64, now: u64) -> String {
    let (sign, by) = if now > kept { ('+', now - kept) } else { ('-', kept - now) };
    format!("{sign}{} ({sign}{:.1} %)", grouped(by), by as f64 / kept as f64 * 100.0)
}

/// Returns a number with commas.
fn grouped(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1_000), number % 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(machine: &str, counts: &[(&str, u64)]) -> Kept {
        Kept { machine: machine.into(), counts: Counts(counts.iter().map(|(path, count)| ((*path).into(), *count)).collect()) }
    }

    #[test]
    fn what_is_written_is_read() {
        let document = format!("# Title\n\n{BEGIN}{END}\nRest.\n");
        let first = kept("rustc 1.0.0 (abc), glibc 2.36", &[("decode, QoS 0", 872), ("fan-out", 1_085_385)]);
        let written = first.write(&document).unwrap();
        assert!(written.contains("| fan-out | 1,085,385 |\n"), "{written}");
        assert!(written.starts_with("# Title\n") && written.ends_with("\nRest.\n"), "{written}");
        assert_eq!(Kept::read(&written).unwrap(), first);
        let second = kept("rustc 2.0.0 (def)", &[("decode, QoS 0", 871)]);
        let written = second.write(&written).unwrap();
        assert_eq!(Kept::read(&written).unwrap(), second);
    }

    #[test]
    fn a_document_without_marks_or_with_a_row_that_is_none_is_an_error() {
        for (document, expected) in [
            ("# Title\n".to_owned(), "there is no line <!-- written"),
            (BEGIN.to_owned(), "there is no line <!-- end"),
            (format!("{BEGIN}{COUNTED_WITH}x.\n{HEAD}| a | many |\n{END}"), "no row with a count: | a | many |"),
            (format!("{BEGIN}{END}{BEGIN}{END}"), "there are two"),
        ] {
            let error = Kept::read(&document).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn each_difference_is_seen() {
        let before = kept("", &[("same", 7), ("more", 1_000), ("less", 1_000), ("gone", 3)]).counts;
        let now = kept("", &[("same", 7), ("more", 1_001), ("less", 500), ("new", 3)]).counts;
        assert_eq!(before.differing(&before), 0);
        assert_eq!(before.differing(&now), 4);
        let lines = before.compared(&now);
        let ends = ["difference", "7         7", "1,001  +1 (+0.1 %)", "500  -500 (-50.0 %)", "3  new", "-  gone"];
        assert_eq!(lines.len(), ends.len());
        lines.iter().zip(ends).for_each(|(line, end)| assert!(line.ends_with(end), "{line}"));
    }
}
