//! The broker, its Redis, and what lies between them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use midge_testkit::{Connect, FaultProxy, Process, Protocol, RawClient, RedisServer, RedisVersion, free_port, until, workspace};
use rustix::process::Signal;

use crate::samples::{self, Sample};
use crate::tally::Tally;

/// How long anything may take that isn't measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Who connects; all have the same password.
pub(crate) const USER: &str = "soak";
pub(crate) const PASSWORD: &str = "a secret of the soak";
/// Descriptors beyond those of the idle broker that may be open once all clients are gone.
const LEFT: u64 = 8;

/// What runs.
pub(crate) struct Stage {
    redis: RedisServer,
    proxy: FaultProxy,
    server: Mutex<Process>,
    port: u16,
    folder: PathBuf,
}

/// Returns the command.
pub(crate) fn midge() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("release/midge")
}

impl Stage {
    /// Starts everything, and adds the users.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let redis = RedisServer::builder(RedisVersion::Redis7).start()?;
        let proxy = FaultProxy::start(redis.port())?;
        let port = free_port()?;
        let data = emptied(folder.join("data"))?;
        let log = folder.join("log");
        let _ = std::fs::remove_file(&log);
        std::fs::write(folder.join("password"), PASSWORD)?;
        let mut command = Command::new(midge());
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        command.env_clear().env("MIDGE_NODE", "soak").env("MIDGE_THREADS", "2").env("MIDGE_MAX_QUEUED_MESSAGES", "100000");
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--store", &url, "--data"]).arg(data);
        let mut server = Process::spawn("midge serve", command.stdin(Stdio::null()), &log)?;
        server.wait_log("reading pushes after", PATIENCE)?;
        let this = Self { redis, proxy, server: Mutex::new(server), port, folder: folder.to_owned() };
        for (user, filter) in [(USER, "#"), ("live", "live/topic")] {
            this.command(&["user", "add", user, "--password-stdin"], PASSWORD)?;
            this.command(&["acl", "add", "--user", user, filter, "prs"], "")?;
        }
        until("the first login", PATIENCE, || Ok(this.client("first", Protocol::V5).ok()))?.disconnect()?;
        Ok(this)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    pub(crate) fn redis(&self) -> &RedisServer {
        &self.redis
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server().id()
    }

    pub(crate) fn has_ended(&self) -> Result<bool> {
        self.server().ended()
    }

    pub(crate) fn reload(&self) -> Result<()> {
        self.server().signal(Signal::HUP)
    }

    /// Runs `midge` on the store, around the proxy.
    pub(crate) fn command(&self, words: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(midge());
        command.env_clear().env("MIDGE_STORE", self.redis.url()).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // A command that doesn't read closes the pipe.
        let _ = child.stdin.take().context("a pipe")?.write_all(format!("{input}\n").as_bytes());
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "midge {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns a CONNECT of the user whom all but one are.
    pub(crate) fn hello(&self, id: &str, protocol: Protocol) -> Connect {
        Connect::new(protocol, id).login(USER, PASSWORD)
    }

    pub(crate) fn client(&self, id: &str, protocol: Protocol) -> Result<RawClient> {
        RawClient::connect(self.port, &self.hello(id, protocol))
    }

    /// Waits until no client's descriptor is left.
    pub(crate) fn is_empty_again(&self, idle: Sample, tally: &Tally) -> Result<()> {
        let pid = self.pid();
        let gone = until("the clients' end", PATIENCE, || Ok((samples::now(pid)?.files <= idle.files + LEFT).then_some(())));
        if gone.is_err() {
            let files = samples::now(pid)?.files;
            tally.complain(format!("{files} descriptors are open without any client, {} were before", idle.files));
        }
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, Process> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what an earlier soak has left there.
fn emptied(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(folder)
}
