//! Runs everything a change must pass, and counts.
//!
//! Output streams as it comes; the last line is `N passed, N failed` over all test binaries.
//! A failing check doesn't keep the later ones from running, so that one run tells everything.

use crate::{plugin, setup, shell, tidy};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Runs setup, tidy, format, clippy and every test; returns whether all passed.
///
/// # Errors
/// When setup fails or the plugin doesn't build: nothing after it would mean anything.
pub(crate) fn everything() -> Result<bool> {
    setup::run()?;
    step("plugin");
    let built = plugin::for_tests();
    if let Err(error) = &built {
        eprintln!("error: {error:#}");
    }
    step("tidy");
    let tidy = tidy::run()?;
    step("fmt");
    let fmt = passes(shell::cargo().args(["fmt", "--all", "--check"]));
    step("clippy");
    let clippy =
        passes(shell::cargo().args(["clippy", "--workspace", "--all-targets"]).args(FEATURES).args(["--", "-D", "warnings"]));
    step("test");
    let mut tests = shell::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(FEATURES);
    if let Ok(plugin) = &built {
        tests.env("MIDGE_PLUGIN", plugin);
    }
    let tests = count(&mut tests)?;
    for (name, passed) in [("plugin", built.is_ok()), ("tidy", tidy), ("fmt", fmt), ("clippy", clippy)] {
        if !passed {
            println!("{name}: FAILED");
        }
    }
    tests.print();
    Ok(built.is_ok() && tidy && fmt && clippy && tests.failed == 0)
}

/// Runs the crates' unit tests only, which need no server and no libclang.
///
/// # Errors
/// When Cargo can't be started.
pub(crate) fn fast() -> Result<bool> {
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--exclude", "midge-plugin", "--lib", "--bins", "--no-fail-fast"]);
    let tests = count(&mut command)?;
    tests.print();
    Ok(tests.failed == 0)
}

// A plugin built with other features would replace the file that tests run by hand load.
const FEATURES: &[&str] = &["--features", "midge-plugin/fault-injection"];

fn step(name: &str) {
    println!("\n== {name}");
}

fn passes(command: &mut Command) -> bool {
    shell::run(command).inspect_err(|error| eprintln!("error: {error:#}")).is_ok()
}

#[derive(Default, Debug, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds a test binary's closing line; returns whether it was one.
    fn add(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("test result: ") else { return false };
        let number =
            |unit: &str| rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(unit)?.trim().parse::<u64>().ok());
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        true
    }

    fn print(&self) {
        println!("\n{} passed, {} failed", self.passed, self.failed);
    }
}

fn count(command: &mut Command) -> Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut count = Count::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        count.add(&String::from_utf8_lossy(&line));
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    // A test binary that doesn't compile or dies prints no closing line.
    if !child.wait()?.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_closing_lines() {
        let mut count = Count::default();
        assert!(count.add("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"));
        assert!(count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured"));
        assert!(!count.add("test engine::tests::a ... ok"));
        assert_eq!(count, Count { passed: 15, failed: 2 });
    }
}
