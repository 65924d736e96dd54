//! Runs the soak: `cargo xtask soak [LENGTH]`.
//!
//! What happens in it is told in `crates/bench/examples/soak`; logs and reports stay in `target/soak`.

use anyhow::{Context, Result, bail, ensure};
use std::process::Command;

use crate::{setup, shell};

/// The least that has time for each fault, in seconds.
const SHORTEST: u64 = 30;

/// Builds everything and soaks, for an hour where nothing is said.
///
/// # Errors
/// A length that is none, a build that fails, a rule of the soak that was broken.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let seconds = match words {
        [] => 3600,
        [length] => seconds(length)?,
        _ => bail!("usage: cargo xtask soak [LENGTH], such as 90s, 10m or 1h"),
    };
    setup::run()?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge"]))?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge-bench", "--example", "soak"]))?;
    let mut soak = Command::new(shell::target().join("release/examples/soak"));
    shell::run(soak.arg(seconds.to_string()).arg(shell::target().join("soak")))
}

/// Reads a time such as `90s`, `10m` or `1h`.
fn seconds(text: &str) -> Result<u64> {
    let wrong = || format!("{text:?} is no length; allowed: a number and s, m or h, such as 10m, from {SHORTEST}s to 168h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).with_context(wrong)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).with_context(wrong)?;
    ensure!((SHORTEST..=168 * 3600).contains(&seconds), wrong());
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (text, expected) in [("30s", Some(30)), ("10m", Some(600)), ("1h", Some(3600)), ("168h", Some(604_800))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["", "h", "29s", "169h", "10", "10 m", "-1h", "1.5h", "99999999999999999999h", "\u{e9}"] {
            let error = seconds(text).expect_err(text).to_string();
            assert!(error.contains("from 30s to 168h"), "{error}");
        }
    }
}
