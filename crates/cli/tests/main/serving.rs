//! A server that runs for one test, on its own ports.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use midge_testkit::{Finished, MosquittoSub, MosquittoVersion, Process, mosquitto_pub, until};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::place::{MIDGE, Ran};

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Whose commands are the clients.
const CLIENTS: MosquittoVersion = MosquittoVersion::V2_1_2;

/// `midge serve` with an embedded store in a folder of its own.
pub(crate) struct Serving {
    words: Vec<String>,
    process: Process,
    listeners: Vec<SocketAddr>,
    store: String,
    pub(crate) folder: TempDir,
}

impl Serving {
    /// Starts it on a free port of the loopback interface.
    pub(crate) fn start() -> Result<Self> {
        Self::with(TempDir::new()?, &["--listen", "127.0.0.1:0"])
    }

    /// Starts it in `folder`, with `words` behind the command.
    pub(crate) fn with(folder: TempDir, words: &[&str]) -> Result<Self> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = Command::new(MIDGE);
        command.env_clear().args(["serve", "--json", "--data", "data"]).args(&words);
        Self::run(folder, command, words)
    }

    /// Starts `command`, which becomes a server in `folder`.
    pub(crate) fn run(folder: TempDir, mut command: Command, words: Vec<String>) -> Result<Self> {
        command.current_dir(folder.path());
        let log = folder.path().join("log");
        let _ = std::fs::remove_file(&log);
        let mut process = Process::spawn("midge serve", &mut command, &log)?;
        process.wait_log("\"listeners\"", PATIENCE)?;
        let said = until("what it says at the start", PATIENCE, || Ok(announced(&process.log())))?;
        let urls = said["listeners"].as_array().context("listeners")?;
        let address = |listener: &serde_json::Value| {
            listener["url"].as_str().and_then(|url| url.split_once("://")).and_then(|(_, address)| address.parse().ok())
        };
        let listeners = urls.iter().filter_map(address).collect();
        let store = said["store"].as_str().context("store")?.to_owned();
        Ok(Self { words, process, listeners, store, folder })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listeners[0].port()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the command with the server's store, its own words still to come.
    fn command(&self) -> Command {
        let mut command = Command::new(MIDGE);
        command.env_clear().env("MIDGE_STORE", &self.store).current_dir(self.folder.path());
        command
    }

    /// Runs the command over the server's store, which has to do well.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let ran = Ran::of(&self.command().args(words).output().unwrap());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran.out
    }

    /// Publishes with QoS 1 as a client of MQTT 5.
    pub(crate) fn publish(&self, words: &[&str]) -> Result<Finished> {
        mosquitto_pub(CLIENTS, self.port(), &[&["-V", "5", "-q", "1"], words].concat())
    }

    /// Subscribes, and waits until the server has answered.
    pub(crate) fn subscribe(&self, words: &[&str]) -> Result<MosquittoSub> {
        MosquittoSub::start(CLIENTS, self.port(), &[&["-V", "5", "-q", "1"], words].concat())
    }

    /// Ends it by a signal; returns how it ended, and where its data is.
    pub(crate) fn end(mut self, signal: Signal) -> Result<(ExitStatus, TempDir)> {
        let status = self.process.stop(signal)?;
        Ok((status, self.folder))
    }

    /// Kills it, and starts it again with the same words.
    pub(crate) fn crash(mut self) -> Result<Self> {
        self.process.stop(Signal::KILL)?;
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        Self::with(self.folder, &words)
    }

    /// Adds a user with the password `secret`.
    pub(crate) fn add_user(&self, name: &str) -> Result<()> {
        let mut child = self.command().args(["user", "add", name, "--password-stdin"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe")?.write_all(b"secret\n")?;
        ensure!(child.wait()?.success(), "{name} can't be added");
        Ok(())
    }
}

/// Returns what was said at the start, once it is complete.
fn announced(log: &str) -> Option<serde_json::Value> {
    let begin = log.find('{')?;
    serde_json::Deserializer::from_str(&log[begin..]).into_iter().next()?.ok()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}
