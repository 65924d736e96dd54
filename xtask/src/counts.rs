//! Counts instructions of the hot paths: `cargo xtask counts [--keep]`.
//!
//! Unlike times, counts are the same on a busy machine, so they are compared exactly with those that `docs/BENCHMARKS.md` keeps.
//! A path of `crates/engine/examples/counts` runs alone under callgrind, and random bytes are the same in each run.
//! Another compiler makes other instructions: where that or anything else of [`machine`] differs, the difference is shown and nothing fails.

mod kept;
mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;
use kept::{Counts, Kept};

/// How often the program walks a path where it is counted, and the function in which it does.
const OPERATIONS: u64 = 1_000;
const FUNCTION: &str = "*counted_operations*";

/// Where the counts are kept.
const FILE: &str = "docs/BENCHMARKS.md";

/// Counts all paths and returns whether they are as they were; with `--keep` they are kept instead.
///
/// # Errors
/// When the words mean nothing, a tool is missing, the build or a path fails, or what is kept can't be read.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let keep = match words {
        [] => false,
        ["--keep"] => true,
        _ => bail!("usage: cargo xtask counts [--keep]"),
    };
    for tool in ["valgrind", "cc"] {
        ensure!(shell::has(tool), "{tool} is missing; `cargo xtask setup` installs it");
    }
    let file = shell::root().join(FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let kept = Kept::read(&text).with_context(|| format!("{FILE}, \"Instructions\""))?;
    let now = Kept { machine: machine::describe()?, counts: count()? };
    kept.counts.compared(&now.counts).iter().for_each(|line| println!("{line}"));
    println!("\ncounted with {}", now.machine);
    if keep {
        std::fs::write(&file, now.write(&text)?).with_context(|| format!("cannot write {FILE}"))?;
        println!("kept in {FILE}");
        return Ok(true);
    }
    Ok(verdict(&kept, &now))
}

/// Says what came of the comparison, and returns whether it is good.
fn verdict(kept: &Kept, now: &Kept) -> bool {
    if kept.counts.len() > 0 && kept.machine != now.machine {
        println!("kept with    {}\nThese are not the same, so nothing was compared: a difference may be theirs.", kept.machine);
        return true;
    }
    let differing = kept.counts.differing(&now.counts);
    if differing > 0 {
        println!(
            "{differing} of {} paths differ; where that is meant, `cargo xtask counts --keep` keeps the new counts",
            now.counts.len()
        );
    } else {
        println!("{} paths, all as kept", now.counts.len());
    }
    differing == 0
}

/// Builds the program and counts each of its paths, for one operation.
fn count() -> Result<Counts> {
    let program = build()?;
    let folder = shell::target().join("counts");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let source = shell::root().join("xtask/src/counts/same_random.c");
    shell::run(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(folder.join(RANDOM)).arg(source))?;
    let paths = shell::output(&mut Command::new(&program))?;
    paths.lines().map(|path| Ok((path.to_owned(), one(&program, &folder, path)?))).collect::<Result<_>>().map(Counts::new)
}

/// The library that makes random bytes the same, in the folder that valgrind runs in.
const RANDOM: &str = "same_random.so";

fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--package", "midge-engine", "--example", "counts"]);
    // What somebody's environment makes of the release profile is not the release.
    let changes = |name: &str| name.contains("RUSTFLAGS") || name.starts_with("CARGO_PROFILE_RELEASE");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(changes)) {
        cargo.env_remove(name);
    }
    shell::run(&mut cargo)?;
    Ok(shell::target().join("release/examples/counts"))
}

fn one(program: &Path, folder: &Path, path: &str) -> Result<u64> {
    let out = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", &format!("--toggle-collect={FUNCTION}"), "--callgrind-out-file=callgrind.out"]);
    // An environment of its own; a path with a slash is taken from the folder, whose name may hold anything.
    valgrind.arg(program).arg(path).current_dir(folder).env_clear().env("LD_PRELOAD", format!("./{RANDOM}"));
    if let Some(search) = std::env::var_os("PATH") {
        valgrind.env("PATH", search);
    }
    shell::output(&mut valgrind)?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let total = total(&text).with_context(|| format!("{} has no total", out.display()))?;
    ensure!(total > 0, "callgrind saw no function {FUNCTION} while {path:?} ran");
    Ok(total / OPERATIONS)
}

/// Returns the instructions that a file of callgrind's tells of.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_machine_is_held_to_its_counts() {
        let kept = |machine: &str, count| Kept { machine: machine.into(), counts: Counts::new(vec![("a".into(), count)]) };
        for (one, other, good) in [
            (kept("rustc 1", 7), kept("rustc 1", 7), true),
            (kept("rustc 1", 7), kept("rustc 1", 8), false),
            (kept("rustc 1", 7), kept("rustc 2", 8), true),
            (Kept { machine: String::new(), counts: Counts::new(Vec::new()) }, kept("rustc 1", 7), false),
        ] {
            assert_eq!(verdict(&one, &other), good, "{one:?} {other:?}");
        }
    }

    #[test]
    fn callgrinds_total_is_read() {
        assert_eq!(total("events: Ir\nsummary: 1\n\nfn=(1) x\n12 34\n\ntotals: 872011\n"), Some(872_011));
        assert_eq!(total("events: Ir\n"), None);
    }
}
