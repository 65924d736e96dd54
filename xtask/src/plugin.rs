//! Builds what is installed: `dist/midge.so` and `dist/bin/midge`.
//!
//! Refuses to hand out a plugin whose symbols would not load into every supported Mosquitto.

use crate::{setup, shell, tidy};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Builds, checks and places the plugin and the command beside it, and prints how the plugin is loaded.
///
/// # Errors
/// When a tool can't be had, a build fails, or a symbol is wrong.
pub(crate) fn run() -> Result<()> {
    setup::build_tools()?;
    let release = shell::target().join("release");
    // One after the other: built together they would join their features, and the plugin would link more.
    for package in ["midge-plugin", "midge"] {
        shell::run(shell::cargo().args(["build", "--release", "--package", package]))?;
    }
    let built = release.join(FILE);
    let faults = tidy::symbols(&built)?;
    if !faults.is_empty() {
        for fault in &faults {
            eprintln!("{fault}");
        }
        bail!("the plugin would not load everywhere");
    }
    let dist = shell::root().join("dist");
    std::fs::create_dir_all(dist.join("bin"))?;
    replace(&built, &dist.join("midge.so"))?;
    replace(&release.join("midge"), &dist.join("bin/midge"))?;
    print!("{BUILT}");
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

// Under /usr/local, since Mosquitto's own user can't read everybody's folders.
const BUILT: &str = "
Built dist/midge.so, the plugin, and dist/bin/midge, the command.
README.md goes on with a first try. A Mosquitto that runs as a service loads the plugin so:

    sudo install -m 0644 dist/midge.so /usr/local/lib/midge.so

and in its configuration:

    auth_plugin /usr/local/lib/midge.so
    auth_opt_store redis://127.0.0.1:6379
";
