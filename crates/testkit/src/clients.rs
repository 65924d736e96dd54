//! Clients that nobody here wrote: Mosquitto's commands and Paho.

use crate::mosquitto::MosquittoVersion;
use crate::paths;
use crate::process::{Finished, Process};
use crate::wait::until;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `mosquitto_pub` against a loopback port with further arguments.
///
/// # Errors
/// When it can't be run or doesn't end in half a minute. A refusal by the broker is no error: see the status.
pub fn mosquitto_pub(version: MosquittoVersion, port: u16, args: &[&str]) -> Result<Finished> {
    let mut command = Command::new(version.program("mosquitto_pub")?);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(args);
    Finished::run(&mut command, PATIENCE)
}

/// Writes one user into a password file with `mosquitto_passwd`, making the file when it isn't there.
///
/// # Errors
/// When the command fails.
pub fn mosquitto_passwd(version: MosquittoVersion, file: &Path, user: &str, password: &str) -> Result<()> {
    let mut command = Command::new(version.program("mosquitto_passwd")?);
    if !file.exists() {
        command.arg("-c");
    }
    command.arg("-b").arg(file).args([user, password]);
    Finished::run(&mut command, PATIENCE)?.success().map(drop)
}

/// Runs a Python script that has Paho (`import paho.mqtt.client`) with arguments.
///
/// # Errors
/// When Python isn't provided or doesn't end in `time`.
pub fn python(script: &str, args: &[&str], time: Duration) -> Result<Finished> {
    let mut command = Command::new(paths::peer("venv/bin/python")?);
    command.arg("-c").arg(script).args(args);
    Finished::run(&mut command, time)
}

/// One message as `mosquitto_sub` printed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The topic name.
    pub topic: String,
    /// The payload, as text.
    pub payload: String,
    /// The quality of service of the delivery.
    pub qos: u8,
    /// Whether it came as a retained message.
    pub retain: bool,
}

/// A running `mosquitto_sub`.
#[derive(Debug)]
pub struct MosquittoSub {
    process: Process,
    _dir: TempDir,
}

impl MosquittoSub {
    /// Starts `mosquitto_sub` against a loopback port, and waits until the broker has answered its SUBSCRIBE.
    ///
    /// # Errors
    /// When it ends, is refused, or has no answer in half a minute; the error carries what it printed.
    pub fn start(version: MosquittoVersion, port: u16, args: &[&str]) -> Result<Self> {
        let mut sub = Self::spawn(version, port, args)?;
        sub.process.wait_log("Subscribed (mid", PATIENCE)?;
        Ok(sub)
    }

    /// Starts `mosquitto_sub` without waiting for anything.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(version: MosquittoVersion, port: u16, args: &[&str]) -> Result<Self> {
        let dir = TempDir::new()?;
        // Into a file it would keep what it prints until it ends.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(version.program("mosquitto_sub")?);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-d"]).args(["-F", "MSG\t%t\t%q\t%r\t%p"]).args(args);
        let process = Process::spawn("mosquitto_sub", &mut command, &dir.path().join("log"))?;
        Ok(Self { process, _dir: dir })
    }

    /// Returns all messages so far.
    ///
    /// # Errors
    /// When a line can't be read.
    pub fn messages(&self) -> Result<Vec<Printed>> {
        let log = self.process.log();
        // The last piece may be a line that is still being written.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete.lines().filter_map(|line| line.strip_prefix("MSG\t")).map(parse).collect()
    }

    /// Waits until at least `count` messages came, and returns all.
    ///
    /// # Errors
    /// When fewer came in `time`; the error carries what it printed.
    pub fn wait(&mut self, count: usize, time: Duration) -> Result<Vec<Printed>> {
        let what = format!("{count} messages");
        until(&what, time, || Ok(Some(self.messages()?).filter(|all| all.len() >= count)))
            .with_context(|| format!("mosquitto_sub said:\n{}", self.process.log()))
    }

    /// Returns the process, for its log and its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn parse(line: &str) -> Result<Printed> {
    let parts: Vec<&str> = line.splitn(4, '\t').collect();
    let [topic, qos, retain, payload] = parts.as_slice() else {
        bail!("mosquitto_sub printed {line:?}");
    };
    Ok(Printed { topic: (*topic).to_owned(), payload: (*payload).to_owned(), qos: qos.parse()?, retain: *retain == "1" })
}
