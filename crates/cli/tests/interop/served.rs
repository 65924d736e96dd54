//! A `midge serve` in a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server that is ended with its guard.
pub(crate) struct Served {
    pub(crate) port: u16,
    child: Child,
    _folder: TempDir,
}

impl Served {
    /// Starts a server without any setting but where it listens.
    pub(crate) fn plain() -> Self {
        Self::listening(|_| Vec::new())
    }

    /// Starts a server with what `more` says, besides its plain listener; the folder is the server's.
    pub(crate) fn listening(more: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let words = more(folder.path());
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        command.env_clear().current_dir(folder.path()).args(["serve", "--data", "data"]).args(words);
        command.env("MIDGE_LISTENER_1_ADDRESS", format!("127.0.0.1:{port}"));
        // Each connection that is closed for what it sent is of no interest here.
        command.env("MIDGE_LOG_LEVEL", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("listens at"), "{line:?} instead of where it listens");
        // Nobody else reads what it says, and it must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut said.by_ref(), &mut std::io::sink()));
        Self { port, child, _folder: folder }
    }

    /// Returns the memory that the process has in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = self.child.wait().unwrap();
        if !std::thread::panicking() {
            assert!(ended.success(), "the server ended by {ended}");
        }
    }
}

/// Returns a port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
