//! Child processes that die with their guard and tell their log.

use crate::wait::until;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// What a program that has ended left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Finished {
    /// Runs a program to its end, but at most for `time`.
    ///
    /// # Errors
    /// When it can't be started or is still running after `time`.
    pub fn run(command: &mut Command, time: Duration) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let pid = child.id();
        // Both pipes are read to their end in threads, or a talkative child would block.
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        let status = until(&format!("the end of {command:?}"), time, || Ok(child.try_wait()?));
        if status.is_err() {
            signal(pid, Signal::KILL)?;
            child.wait()?;
        }
        let text = |reader: Option<thread::JoinHandle<String>>| reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        let (stdout, stderr) = (text(stdout), text(stderr));
        match status {
            Ok(status) => Ok(Self { status, stdout, stderr }),
            Err(error) => Err(error.context(format!("it said:\n{stdout}{stderr}"))),
        }
    }

    /// Returns the standard output when the program ended with status 0.
    ///
    /// # Errors
    /// When it ended otherwise; the error carries all it wrote.
    pub fn success(self) -> Result<String> {
        if !self.status.success() {
            bail!("ended with {}:\n{}{}", self.status, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// A running child whose whole output goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in `log`, which is appended to.
    ///
    /// # Errors
    /// When the log can't be opened or the program can't be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all that was logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// When the process ends before, or `time` is over; the error carries the log.
    pub fn wait_log(&mut self, text: &str, time: Duration) -> Result<()> {
        until(&format!("{text:?} in the log"), time, || {
            let ended = self.ended()?;
            match self.log().contains(text) {
                true => Ok(Some(())),
                false if ended => bail!("the process has ended"),
                false => Ok(None),
            }
        })
        .with_context(|| format!("{} said:\n{}", self.name, self.log()))
    }

    /// Returns whether the process has ended by itself or by a signal.
    ///
    /// # Errors
    /// When the operating system can't be asked.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Returns how the process ended, waiting at most `time` for it.
    ///
    /// # Errors
    /// When it is still running then.
    pub fn wait(&mut self, time: Duration) -> Result<ExitStatus> {
        until(&format!("the end of {}", self.name), time, || Ok(self.child.try_wait()?))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&mut self, number: Signal) -> Result<()> {
        if self.ended()? {
            bail!("{} has ended:\n{}", self.name, self.log());
        }
        signal(self.id(), number)
    }

    /// Ends the process by a signal, and by `KILL` when that takes over ten seconds; returns how it ended.
    ///
    /// # Errors
    /// When the process can't be signalled.
    pub fn stop(&mut self, number: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        signal(self.id(), number)?;
        if let Ok(status) = self.wait(Duration::from_secs(10)) {
            return Ok(status);
        }
        signal(self.id(), Signal::KILL)?;
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(200)..].join("\n");
            eprintln!("--- log of {}\n{tail}\n---", self.name);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port of the loopback interface that was free a moment ago.
///
/// # Errors
/// When the operating system has none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn signal(pid: u32, number: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process id")?;
    Ok(kill_process(pid, number)?)
}

fn read_all(mut pipe: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
