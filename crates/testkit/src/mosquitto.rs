//! Real Mosquitto brokers of several versions.
//!
//! A broker gets a configuration with placeholders: `{port}` a free port of the loopback interface, `{plugin}` the file
//! under test, `{dir}` the broker's own folder, and whatever [`Builder::replace`] and [`Builder::port`] add.

use crate::process::{Process, free_port};
use crate::wait::Deadline;
use crate::{paths, wait};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// The Mosquitto versions that `cargo xtask setup` provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MosquittoVersion {
    /// Debian 12's.
    V2_0_11,
    /// Debian 13's.
    V2_0_21,
    /// Has real subscriptions by plugins and delayed authentication.
    V2_1_2,
}

impl MosquittoVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V2_0_11, Self::V2_0_21, Self::V2_1_2];

    /// Returns the version as text.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::V2_0_11 => "2.0.11",
            Self::V2_0_21 => "2.0.21",
            Self::V2_1_2 => "2.1.2",
        }
    }

    /// Returns one of the version's programs, such as `mosquitto_pub`.
    ///
    /// # Errors
    /// When it isn't provided.
    pub fn program(self, name: &str) -> Result<PathBuf> {
        paths::peer(&format!("bin/{name}-{}", self.label()))
    }

    /// Returns the dynamic-security plugin of that version.
    ///
    /// # Errors
    /// When it isn't provided.
    pub fn dynamic_security(self) -> Result<PathBuf> {
        let suite = match self {
            Self::V2_0_11 => "bookworm",
            Self::V2_0_21 => "trixie",
            Self::V2_1_2 => "forky",
        };
        paths::peer(&format!("{suite}/usr/lib/{}-linux-gnu/mosquitto_dynamic_security.so", std::env::consts::ARCH))
    }
}

/// How the line ends that a broker logs once all its listeners are open.
const RUNNING: &str = " running\n";

/// What a broker is to be started with.
#[derive(Debug, Clone)]
pub struct Builder {
    version: MosquittoVersion,
    config: String,
    replacements: Vec<(String, String)>,
    ports: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Builder {
    /// Takes the configuration from a text.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        text.clone_into(&mut self.config);
        self
    }

    /// Takes the configuration from a file; a relative path starts at the workspace's root.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn config_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = paths::workspace().join(path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.config(&text))
    }

    /// Replaces every occurrence of a piece of the configuration.
    #[must_use]
    pub fn replace(mut self, from: &str, to: &(impl Display + ?Sized)) -> Self {
        self.replacements.push((from.to_owned(), to.to_string()));
        self
    }

    /// Adds a placeholder for one more free port: `port("ws")` fills `{ws}`.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.ports.push(name.to_owned());
        self
    }

    /// Sets a variable of the broker's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &(impl Display + ?Sized)) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts the broker and waits until it serves.
    ///
    /// # Errors
    /// When it doesn't start; the error carries its log.
    pub fn start(&self) -> Result<Mosquitto> {
        // Between finding a free port and opening it another process may take it.
        for _ in 0..4 {
            match self.try_start() {
                Err(error) if format!("{error:#}").contains("Address already in use") => {}
                other => return other,
            }
        }
        self.try_start()
    }

    fn try_start(&self) -> Result<Mosquitto> {
        let dir = TempDir::new()?;
        let mut ports = BTreeMap::new();
        for name in ["port"].into_iter().chain(self.ports.iter().map(String::as_str)) {
            ports.insert(name.to_owned(), free_port()?);
        }
        let config = self.render(dir.path(), &ports)?;
        let file = dir.path().join("mosquitto.conf");
        std::fs::write(&file, config)?;
        let process = self.spawn(dir.path(), &file)?;
        let mut broker = Mosquitto { process, dir, ports, builder: self.clone() };
        broker.process.wait_log(RUNNING, Deadline::START)?;
        Ok(broker)
    }

    fn render(&self, dir: &Path, ports: &BTreeMap<String, u16>) -> Result<String> {
        let mut text = self.config.clone();
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        if !text.lines().any(|line| line.starts_with("listener ") || line.starts_with("port ")) {
            text = format!("listener {{port}} 127.0.0.1\n{text}");
        }
        for (name, port) in ports {
            text = text.replace(&format!("{{{name}}}"), &port.to_string());
        }
        if text.contains("{plugin}") {
            text = text.replace("{plugin}", &paths::plugin()?.display().to_string());
        }
        text = text.replace("{dir}", &dir.display().to_string());
        // Run by root, the broker would otherwise change to a user who can't read our files.
        Ok(format!("user root\nlog_dest stderr\nlog_type all\n{text}"))
    }

    fn spawn(&self, dir: &Path, file: &Path) -> Result<Process> {
        let mut command = Command::new(self.version.program("mosquitto")?);
        command.arg("-c").arg(file).current_dir(dir).envs(self.environment.iter().cloned());
        let name = format!("mosquitto {}", self.version.label());
        Process::spawn(&name, &mut command, &dir.join("mosquitto.log"))
    }
}

/// A running Mosquitto.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    builder: Builder,
    ports: BTreeMap<String, u16>,
    dir: TempDir,
}

impl Mosquitto {
    /// Returns a builder for a broker of that version, with an empty configuration.
    #[must_use]
    pub fn builder(version: MosquittoVersion) -> Builder {
        Builder { version, config: String::new(), replacements: Vec::new(), ports: Vec::new(), environment: Vec::new() }
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> MosquittoVersion {
        self.builder.version
    }

    /// Returns the main listener's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports["port"]
    }

    /// Returns the port that [`Builder::port`] asked for by that name.
    ///
    /// # Errors
    /// When there was no such name.
    pub fn named_port(&self, name: &str) -> Result<u16> {
        self.ports.get(name).copied().with_context(|| format!("no port is named {name:?}"))
    }

    /// Returns the broker's own folder, where its configuration and log lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the process, for its id, log and signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns all that the broker logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Makes the broker read its configuration again, and waits until it says so.
    ///
    /// # Errors
    /// When it has ended, or doesn't in ten seconds.
    pub fn reload(&mut self) -> Result<()> {
        let reloads = |log: &str| log.matches("Reloading config").count();
        let before = reloads(&self.log());
        self.process.signal(Signal::HUP)?;
        wait::until("a reload", Duration::from_secs(10), || {
            if self.process.ended()? {
                bail!("mosquitto has ended:\n{}", self.process.log());
            }
            Ok((reloads(&self.process.log()) > before).then_some(()))
        })
    }

    /// Ends the broker as its service manager would, and returns how it ended.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::TERM)
    }

    /// Ends the broker without giving it time to save anything.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::KILL)
    }

    /// Starts an ended broker again with the same files and ports.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let runs = |log: &str| log.matches(RUNNING).count();
        let before = runs(&self.log());
        let file = self.dir.path().join("mosquitto.conf");
        self.process = self.builder.spawn(self.dir.path(), &file)?;
        wait::until("mosquitto to run again", Deadline::START, || {
            if self.process.ended()? {
                bail!("mosquitto has ended:\n{}", self.process.log());
            }
            Ok((runs(&self.process.log()) > before).then_some(()))
        })
    }
}
