//! Answers on standard output: sentences and tables, or JSON.
//!
//! Text from the store can't control the terminal: control characters and marks that reorder text are shown escaped.
//! Lists are written while they are read; nothing holds more than one batch of rows.

use std::fmt::Write as _;
use std::io::{BufWriter, Stdout, Write, stdout};

use anyhow::Result;
use serde::Serialize;

/// The rows that decide about the widths of a table's columns; further rows are printed as they come.
const MEASURED_ROWS: usize = 1_000;

/// Where answers go.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
    warnings: Vec<String>,
}

/// The answer of a command that changes something.
#[derive(Serialize)]
struct Outcome<'a, T> {
    result: &'a str,
    #[serde(flatten)]
    subject: T,
    warnings: &'a [String],
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::new(stdout()), warnings: Vec::new() }
    }

    /// Returns whether the answer has to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says something that doesn't keep the command from its work: on standard error, or in the JSON answer of a change.
    pub(crate) fn warn(&mut self, text: &str) {
        if self.json {
            self.warnings.push(text.to_owned());
        } else {
            eprintln!("midge: warning: {}", printable(text));
        }
    }

    /// Answers that something changed: `sentence` for people, `result` and the fields of `subject` as JSON.
    pub(crate) fn changed(&mut self, result: &str, subject: impl Serialize, sentence: &str) -> Result<()> {
        if self.json {
            let outcome = Outcome { result, subject, warnings: &self.warnings };
            serde_json::to_writer_pretty(&mut self.out, &outcome)?;
            Ok(writeln!(self.out)?)
        } else {
            self.line(sentence)
        }
    }

    /// Answers one JSON document.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.out, document)?;
        Ok(writeln!(self.out)?)
    }

    /// Prints one line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{}", printable(text))?)
    }

    /// Prints text that this program made, as it is.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Begins a list with these columns.
    pub(crate) fn listing<const N: usize>(&mut self, columns: [&str; N]) -> Listing<'_, N> {
        Listing { rows: vec![columns.map(str::to_owned)], widths: None, count: 0, output: self }
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// A list that is being written.
pub(crate) struct Listing<'a, const N: usize> {
    output: &'a mut Output,
    rows: Vec<[String; N]>,
    widths: Option<[usize; N]>,
    count: usize,
}

impl<const N: usize> Listing<'_, N> {
    /// Adds an element: `cells` for people, `document` as JSON.
    pub(crate) fn row(&mut self, document: &impl Serialize, cells: [String; N]) -> Result<()> {
        if self.output.json {
            self.output.raw(if self.count == 0 { b"[\n  " } else { b",\n  " })?;
            serde_json::to_writer(&mut self.output.out, document)?;
        } else {
            self.rows.push(cells.map(|cell| printable(&cell)));
            if self.rows.len() > MEASURED_ROWS {
                self.print()?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the list; an empty one says `nothing` to people.
    pub(crate) fn end(mut self, nothing: &str) -> Result<()> {
        match (self.output.json, self.count) {
            (true, 0) => self.output.raw(b"[]\n"),
            (true, _) => self.output.raw(b"\n]\n"),
            (false, 0) => self.output.line(nothing),
            (false, _) => self.print(),
        }
    }

    fn print(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let widths = *self.widths.get_or_insert_with(|| {
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        });
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            writeln!(self.output.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Returns `text` with everything escaped that would act on a terminal instead of being shown.
pub(crate) fn printable(text: &str) -> String {
    let acts = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Returns `text` as one word that a shell reads back, for commands in messages.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '%' | '+' | '=' | ',');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_store_acts_on_the_terminal() {
        for (text, shown) in [("zoë/#", "zoë/#"), ("\u{1b}[2J", "\\u{1b}[2J"), ("a\u{202e}b", "a\\u{202e}b"), ("a\tb", "a\\tb")] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn words_in_messages_can_be_pasted() {
        for (text, shown) in [("alice", "alice"), ("", "''"), ("chat/#", "'chat/#'"), ("it's", r"'it'\''s'")] {
            assert_eq!(quoted(text), shown);
        }
    }
}
