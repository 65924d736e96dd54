//! Reads what follows `cargo xtask bench`.
//!
//! Names that don't exist are refused with those that do.

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: cargo xtask bench [--rounds N] [--seconds N] [--only ROW,ROW] [--peers A,B]";

/// What is measured, and how often.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) seconds: u32,
    only: Option<Vec<String>>,
    peers: Option<Vec<String>>,
}

impl Options {
    /// Reads words, given what rows and brokers there may be.
    ///
    /// # Errors
    /// Unknown words and names, numbers out of range.
    pub(super) fn read(words: &[&str], rows: &[&str], peers: &[&str]) -> Result<Self> {
        let mut options = Self { rounds: 5, seconds: 2, only: None, peers: None };
        for pair in words.chunks(2) {
            match pair {
                ["--rounds", number] => options.rounds = number.parse().context("--rounds N")?,
                ["--seconds", number] => options.seconds = number.parse().context("--seconds N")?,
                ["--only", names] => options.only = Some(list(names, rows)?),
                ["--peers", names] => options.peers = Some(list(names, peers)?),
                _ => bail!("{USAGE}\nrows: {}\npeers: {}", rows.join(", "), peers.join(", ")),
            }
        }
        ensure!(options.rounds > 0 && options.seconds > 0, "rounds and seconds are at least 1");
        Ok(options)
    }

    pub(super) fn has_row(&self, key: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == key))
    }

    pub(super) fn has_peer(&self, key: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|name| name == key))
    }

    /// Returns whether the run can stand for the project: all rows, all brokers, and a spread.
    pub(super) fn is_whole(&self) -> bool {
        self.only.is_none() && self.peers.is_none() && self.rounds >= 3
    }

    /// Returns the command that measures the same.
    pub(super) fn command(&self) -> String {
        let mut command = format!("cargo xtask bench --rounds {} --seconds {}", self.rounds, self.seconds);
        for (flag, names) in [("--only", &self.only), ("--peers", &self.peers)] {
            if let Some(names) = names {
                command = format!("{command} {flag} {}", names.join(","));
            }
        }
        command
    }
}

fn list(names: &str, known: &[&str]) -> Result<Vec<String>> {
    let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => bail!("{name:?} is none of {}", known.join(", ")),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        for (words, command) in [
            (vec![], Some("cargo xtask bench --rounds 5 --seconds 2")),
            (vec!["--rounds", "1", "--only", "a, b"], Some("cargo xtask bench --rounds 1 --seconds 2 --only a,b")),
            (vec!["--peers", "p"], Some("cargo xtask bench --rounds 5 --seconds 2 --peers p")),
            (vec!["--peers", "q"], None),
            (vec!["--only", "c"], None),
            (vec!["--rounds", "0"], None),
            (vec!["--rounds"], None),
        ] {
            let options = Options::read(&words, &["a", "b"], &["p"]);
            assert_eq!(options.ok().map(|options| options.command()).as_deref(), command, "{words:?}");
        }
    }

    #[test]
    fn a_part_is_not_kept() {
        for (words, whole) in [(vec![], true), (vec!["--rounds", "2"], false), (vec!["--only", "a"], false)] {
            assert_eq!(Options::read(&words, &["a"], &[]).is_ok_and(|options| options.is_whole()), whole, "{words:?}");
        }
    }
}
