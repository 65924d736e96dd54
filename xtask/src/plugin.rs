//! Builds the plugin that a Mosquitto loads: `dist/midge.so`.
//!
//! Refuses to hand out a file whose symbols would not load into every supported Mosquitto.

use crate::{setup, shell, tidy};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Builds, checks and places the plugin, and prints the lines that load it.
///
/// # Errors
/// When libclang can't be had, the build fails, or a symbol is wrong.
pub(crate) fn run() -> Result<()> {
    setup::libclang()?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge-plugin"]))?;
    let built = shell::target().join("release").join(FILE);
    let faults = tidy::symbols(&built)?;
    if !faults.is_empty() {
        for fault in &faults {
            eprintln!("{fault}");
        }
        bail!("the plugin would not load everywhere");
    }
    let dist = shell::root().join("dist");
    std::fs::create_dir_all(&dist)?;
    let file = dist.join("midge.so");
    replace(&built, &file)?;
    println!("\nBuilt {}. In mosquitto.conf:\n", file.display());
    println!("auth_plugin {}", file.display());
    println!("auth_opt_store redis://127.0.0.1:6379");
    Ok(())
}

/// Builds the plugin as the tests load it, with faults that can be injected, and returns its file.
///
/// # Errors
/// When the build fails.
pub(crate) fn for_tests() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--package", "midge-plugin", "--features", "fault-injection"]))?;
    // Building the whole workspace joins its features and replaces the file by one that links more.
    let kept = shell::target().join("tests").join("midge.so");
    std::fs::create_dir_all(kept.with_file_name(""))?;
    replace(&debug_file(), &kept)?;
    Ok(kept)
}

/// Returns where the tests' plugin lies once built.
pub(crate) fn debug_file() -> PathBuf {
    shell::target().join("debug").join(FILE)
}

/// Copies a file; a broker that has the old one mapped keeps it.
fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_file(to)?;
    }
    std::fs::copy(from, to)?;
    Ok(())
}

const FILE: &str = "libmidge_plugin.so";
