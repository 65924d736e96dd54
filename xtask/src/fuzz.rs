//! Runs the fuzz targets: `cargo xtask fuzz [--minutes N] [TARGET [INPUT]]`.
//!
//! Builds `fuzz/` with the stable toolchain and libFuzzer's instrumentation; what it finds stays in `fuzz/target`.

use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGETS: [&str; 4] = ["decode", "engine", "filter", "password"];

/// What libFuzzer needs to see where an input leads, and the address sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Zsanitizer=address";

/// Runs all targets, or one; with an input it is run alone.
///
/// # Errors
/// When the words mean nothing, the build fails, or a target finds a fault.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (minutes, rest) = match words {
        ["--minutes", minutes, rest @ ..] => {
            // libFuzzer takes 0 for no end.
            (minutes.parse::<std::num::NonZeroU32>().context("--minutes takes a number from 1")?.get(), rest)
        }
        rest => (10, rest),
    };
    let (targets, input) = match rest {
        [] => (&TARGETS[..], None),
        [target] => (std::slice::from_ref(target), None),
        [target, input] => (std::slice::from_ref(target), Some(*input)),
        _ => bail!("usage: cargo xtask fuzz [--minutes N] [TARGET [INPUT]]"),
    };
    for target in targets {
        ensure!(TARGETS.contains(target), "there is no target {target}; there are {}", TARGETS.join(", "));
    }
    let built = build()?;
    for target in targets {
        let mut command = Command::new(built.join(target));
        match input {
            Some(input) => command.arg(input),
            None => with_corpora(&mut command, &built, target)?.arg(format!("-max_total_time={}", u64::from(minutes) * 60)).args([
                "-timeout=20",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
            ]),
        };
        println!("== fuzz {target}");
        shell::run(&mut command)?;
    }
    Ok(())
}

/// Builds all targets and returns their folder.
fn build() -> Result<PathBuf> {
    let about = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let folder = folder();
    // A target of its own name keeps build scripts free of the instrumentation.
    let mut cargo = shell::cargo();
    cargo.current_dir(&folder).args(["build", "--release", "--target", host]);
    shell::run(cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS).env_remove("CARGO_TARGET_DIR"))?;
    Ok(folder.join("target").join(host).join("release"))
}

/// Names the folder for what is found, which comes first, and the kept inputs.
fn with_corpora<'a>(command: &'a mut Command, built: &Path, target: &str) -> Result<&'a mut Command> {
    let (found, faults) = (folder().join("target/corpus").join(target), folder().join("target/faults"));
    for folder in [&found, &faults] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    if target == "decode" {
        shell::run(Command::new(built.join("seeds")).arg(&found))?;
    }
    let kept = folder().join("corpus").join(target);
    Ok(command.arg(found).arg(kept).arg(format!("-artifact_prefix={}/{target}-", faults.display())))
}

fn folder() -> PathBuf {
    shell::root().join("fuzz")
}
