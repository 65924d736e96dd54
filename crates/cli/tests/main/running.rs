//! A server that runs, and the command beside it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use midge_testkit::{MosquittoSub, MosquittoVersion, Process, free_port};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::place::{MIDGE, Ran};

/// How long anything may take that a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// `midge serve` in a process of its own, with data of its own.
pub(crate) struct Running {
    folder: TempDir,
    port: u16,
    store: Option<String>,
    node: &'static str,
    process: Option<Process>,
}

impl Running {
    /// Starts a server with an embedded store.
    pub(crate) fn embedded() -> Self {
        Self::start(None, "here")
    }

    /// Starts a server called `node` over the Redis at `url`.
    pub(crate) fn over(url: &str, node: &'static str) -> Self {
        Self::start(Some(url.to_owned()), node)
    }

    fn start(store: Option<String>, node: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut this = Self { folder, port: free_port().unwrap(), store, node, process: None };
        this.again();
        this
    }

    /// Starts it, for the first time or once more, and waits until it reads pushes.
    pub(crate) fn again(&mut self) {
        let mut command = Command::new(MIDGE);
        let address = format!("127.0.0.1:{}", self.port);
        command.env_clear().env("MIDGE_MAX_QUEUED_MESSAGES", "100000").env("MIDGE_NODE", self.node).env("MIDGE_THREADS", "2");
        command.args(["serve", "--data", "data", "--listen", &address]).current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        // Its log alone tells this start from the last.
        let log = self.folder.path().join("log");
        let _ = std::fs::remove_file(&log);
        let mut process = Process::spawn("midge", &mut command, &log).unwrap();
        process.wait_log("reading pushes after", SOON).unwrap();
        self.process = Some(process);
    }

    /// Ends it at once, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().stop(Signal::KILL).unwrap();
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        let status = self.process.take().unwrap().stop(Signal::TERM).unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs the command on the server's store.
    pub(crate) fn midge(&self, words: &[&str]) -> Ran {
        self.fed(words, "")
    }

    /// Returns the standard output of a command that has to do well.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let ran = self.midge(words);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}\n{}", self.log());
        ran.out
    }

    /// Adds a user whose password is `secret`, with rules as `filter rights` pairs.
    pub(crate) fn user(&self, name: &str, more: &[&str], rules: &[(&str, &str)]) {
        let ran = self.fed(&[&["user", "add", name, "--password-stdin"], more].concat(), "secret\n");
        assert_eq!(ran.code, 0, "{ran:?}");
        for (filter, rights) in rules {
            self.ok(&["acl", "add", "--user", name, filter, rights]);
        }
    }

    /// Starts a subscriber whose session lasts, and waits until it is subscribed.
    ///
    /// Not one of 2.1.2: when it comes back, it goes on with what it had read of the lost connection, and then breaks off.
    pub(crate) fn listen(&self, user: &str, id: &str, topic: &str) -> MosquittoSub {
        let words = ["-V", "mqttv5", "-c", "-x", "3600", "-q", "1", "-u", user, "-P", "secret", "-i", id, "-t", topic];
        MosquittoSub::start(MosquittoVersion::V2_0_21, self.port, &words).unwrap()
    }

    fn fed(&self, words: &[&str], input: &str) -> Ran {
        let embedded = || format!("file:{}", self.folder.path().join("data").display());
        let store = self.store.clone().unwrap_or_else(embedded);
        let mut command = Command::new(MIDGE);
        command.env_clear().env("MIDGE_STORE", store).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that ends without reading closes the pipe, which is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(&child.wait_with_output().unwrap())
    }
}
