//! Real Redis and Valkey: alone, under Sentinel, as a cluster.
//!
//! A server keeps its port, socket and folder over stop and start.

pub(crate) mod cluster;
pub(crate) mod sentinel;

use crate::certs::Certs;
use crate::paths;
use crate::process::{Finished, Process, free_port};
use crate::wait::{Deadline, until};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The stores that `cargo xtask setup` provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisVersion {
    /// Redis 7.0.
    Redis7,
    /// Redis 8.
    Redis8,
    /// Valkey 8.
    Valkey8,
}

impl RedisVersion {
    /// Every store.
    pub const ALL: [Self; 3] = [Self::Redis7, Self::Redis8, Self::Valkey8];

    fn program(self, kind: &str) -> Result<PathBuf> {
        let (name, label) = match self {
            Self::Redis7 => ("redis", "7"),
            Self::Redis8 => ("redis", "8"),
            Self::Valkey8 => ("valkey", "8"),
        };
        paths::peer(&format!("bin/{name}-{kind}-{label}"))
    }
}

/// What a server is to be started with.
#[derive(Debug, Clone)]
pub struct Builder {
    version: RedisVersion,
    lines: Vec<String>,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
}

impl Builder {
    /// Asks for a password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.lines.push(format!("requirepass {password}"));
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user with access rules, such as `on >secret ~midge:* +@all`.
    #[must_use]
    pub fn acl_user(self, name: &str, rules: &str) -> Self {
        self.config(&format!("user {name} {rules}"))
    }

    /// Adds a line of the configuration file.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Listens with TLS on a second port, and asks for no client certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't start; the error carries its log.
    pub fn start(self) -> Result<RedisServer> {
        // Between finding a free port and opening it another process may take it.
        for _ in 0..4 {
            match self.clone().try_start() {
                Err(error) if format!("{error:#}").contains("Address already in use") => {}
                other => return other,
            }
        }
        self.try_start()
    }

    fn try_start(self) -> Result<RedisServer> {
        let dir = TempDir::new()?;
        let port = free_port()?;
        let certs = if self.tls { Some((Certs::new()?, free_port()?)) } else { None };
        let folder = dir.path().display();
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {folder}"),
            format!("unixsocket {folder}/socket"),
            "save \"\"".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        if let Some((certs, tls_port)) = &certs {
            lines.push(format!("tls-port {tls_port}"));
            lines.push(format!("tls-ca-cert-file {}", certs.ca.display()));
            lines.push(format!("tls-cert-file {}", certs.server.cert.display()));
            lines.push(format!("tls-key-file {}", certs.server.key.display()));
            lines.push("tls-auth-clients no".to_owned());
        }
        if self.sentinel {
            lines.retain(|line| !line.starts_with("save") && !line.starts_with("repl"));
        }
        lines.extend(self.lines.iter().cloned());
        std::fs::write(dir.path().join("redis.conf"), lines.join("\n") + "\n")?;
        let mut server = RedisServer { process: None, builder: self, port, certs, dir };
        server.start()?;
        Ok(server)
    }
}

/// A Redis or Valkey server on loopback.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Process>,
    builder: Builder,
    port: u16,
    certs: Option<(Certs, u16)>,
    dir: TempDir,
}

impl RedisServer {
    /// Returns a builder for a server without password, persistence and TLS.
    #[must_use]
    pub fn builder(version: RedisVersion) -> Builder {
        Builder { version, lines: Vec::new(), password: None, tls: false, sentinel: false }
    }

    /// Returns the plain TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path of the Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Returns the URL of the plain TCP port, with the default user's password.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.builder.password.as_ref().map(|p| format!(":{p}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// Returns the TLS port and the certificates behind it.
    ///
    /// # Errors
    /// When the server was built without TLS.
    pub fn tls(&self) -> Result<(u16, &Certs)> {
        let (certs, port) = self.certs.as_ref().context("built without tls()")?;
        Ok((*port, certs))
    }

    /// Returns the folder of configuration, socket and data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns all that the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Runs one command through the server's own command line client and returns the answer.
    ///
    /// # Errors
    /// When the server can't be reached or answers with an error.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.builder.version.program("cli")?);
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(password) = &self.builder.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        command.args(args);
        let answer = Finished::run(&mut command, Duration::from_secs(20))?.success()?;
        Ok(answer.trim_end().to_owned())
    }

    /// Ends the server; the data is on disk and there again after [`Self::start`].
    ///
    /// # Errors
    /// When it can't save or be signalled.
    pub fn stop(&mut self) -> Result<()> {
        if self.process.is_some() && !self.builder.sentinel {
            self.cli(&["SAVE"])?;
        }
        self.crash()
    }

    /// Ends the server at once, with whatever it had not written.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn crash(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::KILL)?;
        }
        Ok(())
    }

    /// Starts an ended server again on the same port.
    ///
    /// # Errors
    /// When it is running or doesn't answer in time; the error carries its log.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("the server is running");
        }
        let mut command = Command::new(self.builder.version.program("server")?);
        command.arg(self.dir.path().join("redis.conf"));
        if self.builder.sentinel {
            command.arg("--sentinel");
        }
        let log = self.dir.path().join("log");
        let mut process = Process::spawn("redis", &mut command, &log)?;
        let answers = until("the server's answer", Deadline::START, || {
            if process.ended()? {
                bail!("the server has ended");
            }
            Ok(self.cli(&["PING"]).ok().filter(|answer| answer.contains("PONG")))
        });
        answers.with_context(|| format!("the server said:\n{}", process.log()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends the server, forgets all data, and starts it again.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart_empty(&mut self) -> Result<()> {
        self.crash()?;
        for name in ["dump.rdb", "appendonlydir"] {
            let path = self.dir.path().join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        self.start()
    }

    /// Freezes the server: it accepts connections but answers nothing.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, number: Signal) -> Result<()> {
        self.process.as_mut().context("the server isn't running")?.signal(number)
    }
}
