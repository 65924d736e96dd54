//! Fetches the brokers that Midge is measured beside.
//!
//! Those of Debian come with [`SUITES`]; the others from the registries of their languages, each with a fixed version.
//! They are no part of the tests, so what can't be had is a reason to show, not an error.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{SUITES, part};
use crate::shell;

/// Where a broker comes from.
struct Source {
    /// Its folder below `target/peers`.
    folder: &'static str,
    /// The file that starts it, below the folder.
    program: &'static str,
    make: fn(&Path) -> Result<()>,
}

const SOURCES: [Source; 4] = [
    Source { folder: "rumqttd", program: "bin/rumqttd", make: rumqttd },
    Source { folder: "rmqtt", program: "bin/rmqtt-plain", make: rmqtt },
    Source { folder: "aedes", program: "aedes.mjs", make: aedes },
    Source { folder: "amqtt", program: "bin/amqtt", make: amqtt },
];

/// Makes what is missing below `target/peers`; returns the folders that can't be made, each with its reason.
///
/// # Errors
/// When `target/peers` can't be written.
pub(crate) fn brokers() -> Result<Vec<(String, String)>> {
    let peers = shell::target().join("peers");
    std::fs::create_dir_all(peers.join("bin"))?;
    let lock = std::fs::File::create(peers.join("lock"))?;
    lock.lock()?;
    let mut absent = Vec::new();
    for suite in SUITES {
        if let Err(error) = part(&peers, suite.name, |dir| suite.provide(&peers, dir)) {
            absent.push((suite.name.to_owned(), reason(&error)));
        }
    }
    for source in &SOURCES {
        let made = part(&peers, source.folder, |dir| {
            (source.make)(dir)?;
            ensure!(dir.join(source.program).is_file(), "{} isn't there after its installation", source.program);
            Ok(())
        });
        if let Err(error) = made {
            absent.push((source.folder.to_owned(), reason(&error)));
        }
    }
    Ok(absent)
}

/// Returns the line of an error that says most: what a tool calls its error, or else the first.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().skip(1).find(|line| line.contains("error")).or_else(|| text.lines().next()).unwrap_or_default();
    line.trim().to_owned()
}

/// Its lock file names a crate that current compilers refuse, so its dependencies are the latest that fit.
fn rumqttd(dir: &Path) -> Result<()> {
    install(&["rumqttd", "--version", "0.20.0"], dir)
}

/// Its own package, `rmqttd`, brings all plugins and needs compilers for Kafka and Pulsar; its library is the broker.
fn rmqtt(dir: &Path) -> Result<()> {
    std::fs::write(dir.join("Cargo.toml"), include_str!("../../peers/rmqtt.toml"))?;
    std::fs::write(dir.join("rmqtt.rs"), include_str!("../../peers/rmqtt.rs"))?;
    install(&["--path", &dir.display().to_string()], dir)
}

fn aedes(dir: &Path) -> Result<()> {
    std::fs::write(dir.join("aedes.mjs"), include_str!("../../peers/aedes.mjs"))?;
    shell::output(
        Command::new("npm")
            .args(["install", "--loglevel=error", "--no-fund", "--no-audit", "--prefix"])
            .arg(dir)
            .arg("aedes@1.2.0"),
    )?;
    Ok(())
}

fn amqtt(dir: &Path) -> Result<()> {
    shell::output(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    shell::output(Command::new(dir.join("bin/python")).args(["-m", "pip", "install", "--quiet", "amqtt==0.12.1"]))?;
    Ok(())
}

/// Runs `cargo install`, and leaves nothing but the program.
fn install(what: &[&str], dir: &Path) -> Result<()> {
    let built = dir.join("build");
    // Away from the workspace, whose settings are not theirs.
    let mut command = shell::cargo();
    command.current_dir(dir).args(["install", "--no-track", "--root"]).arg(dir).arg("--target-dir").arg(&built).args(what);
    shell::output(&mut command)?;
    std::fs::remove_dir_all(built)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        let check = |text: &str, expected: &str| assert_eq!(reason(&anyhow::anyhow!("{text}")), expected);
        check("`npm --loglevel=error` ended with 1", "`npm --loglevel=error` ended with 1");
        check("`npm --loglevel=error` ended with 1\nnpm error code E404", "npm error code E404");
        check("`cargo install x` ended with 101\n   Compiling a\n  error[E0521]: b\nc", "error[E0521]: b");
    }
}
