//! A stand-in for Mosquitto that asks a plugin anything.
//!
//! A program in C (`fakehost/host.c`) that has the broker functions of one release and no others. What no real broker
//! can be made to do at will is one command here: null pointers, bytes that aren't UTF-8, a pointer used again, calls
//! from another thread, a client that vanishes. It also runs under Valgrind and counts allocations.

use crate::wait::until;
use anyhow::{Context, Result, anyhow, bail};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The release whose functions the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// 1.5: a log and what is known of a client.
    V1_5,
    /// 1.6: also sets the user name.
    V1_6,
    /// 2.0: events, publishing, kicking.
    V2_0,
    /// 2.1: also subscriptions and delayed authentication.
    V2_1,
}

impl HostKind {
    /// Every release, oldest first.
    pub const ALL: [Self; 4] = [Self::V1_5, Self::V1_6, Self::V2_0, Self::V2_1];

    fn program(self, counting: bool) -> PathBuf {
        let release = match self {
            Self::V1_5 => "15",
            Self::V1_6 => "16",
            Self::V2_0 => "20",
            Self::V2_1 => "21",
        };
        let counting = if counting { "-counting" } else { "" };
        Path::new(env!("OUT_DIR")).join(format!("host-{release}{counting}"))
    }
}

/// What a run of ACL checks took, in nanoseconds per call, and how many were granted.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Bench {
    pub calls: u64,
    pub granted: u64,
    pub median_ns: f64,
    pub p99_ns: f64,
    pub max_ns: f64,
}

/// What a command gave: the plugin's return code and further fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The plugin's return code.
    pub code: i32,
    rest: String,
}

impl Answer {
    /// Returns a field such as `next_ms`, as text.
    ///
    /// # Errors
    /// When the answer has no such field.
    pub fn field(&self, name: &str) -> Result<&str> {
        self.rest
            .split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .with_context(|| format!("no {name} in {:?}", self.rest))
    }
}

/// A running host.
#[derive(Debug)]
pub struct FakeHost {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    calls: Vec<String>,
    stderr: PathBuf,
    valgrind: bool,
    _dir: TempDir,
}

/// Valgrind slows everything down by a factor of thirty or more.
const PATIENCE: Duration = Duration::from_secs(120);

/// The status with which Valgrind says that it found errors.
const VALGRIND_ERRORS: i32 = 99;

impl FakeHost {
    /// Starts a host without a plugin.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(kind: HostKind) -> Result<Self> {
        Self::spawn(Command::new(kind.program(false)), false)
    }

    /// Starts a host that counts allocations, see [`Self::allocations`].
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_counting(kind: HostKind) -> Result<Self> {
        Self::spawn(Command::new(kind.program(true)), false)
    }

    /// Starts a host under Valgrind; [`Self::finish`] fails when it found errors or lost memory.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_valgrind(kind: HostKind) -> Result<Self> {
        let mut command = Command::new("valgrind");
        command.args([
            "--quiet",
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect",
            "--errors-for-leak-kinds=definite,indirect",
            // Valgrind lets one thread run at a time, and unfairly unless told.
            "--fair-sched=try",
            // With the code unmapped, Valgrind could not name where a lost block came from.
            "--keep-debuginfo=yes",
        ]);
        command.arg(format!("--error-exitcode={VALGRIND_ERRORS}"));
        command.arg(kind.program(false));
        Self::spawn(command, true).context("is valgrind installed? Run `cargo xtask setup`")
    }

    fn spawn(mut command: Command, valgrind: bool) -> Result<Self> {
        let dir = TempDir::new()?;
        let stderr = dir.path().join("stderr");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("the host has no output")?;
        let (send, output) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input, output, calls: Vec::new(), stderr, valgrind, _dir: dir })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command; `host.c` lists them. Arguments come from [`text`], [`bytes`], [`none`] and numbers.
    ///
    /// # Errors
    /// When the host dies or doesn't answer; the error carries what it wrote to its standard error.
    pub fn command(&mut self, name: &str, arguments: &[String]) -> Result<Answer> {
        let line = format!("{name} {}\n", arguments.join(" "));
        let input = self.input.as_mut().context("the host was told to quit")?;
        // A host that died is reported below, with its reason.
        let _ = input.write_all(line.as_bytes()).and_then(|()| input.flush());
        loop {
            let said = match self.output.recv_timeout(PATIENCE) {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout) => return Err(self.failure(name, "has no answer")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure(name, "died")),
            };
            match said.strip_prefix("= ") {
                Some(answer) => return parse(answer),
                None => self.keep(said),
            }
        }
    }

    /// Loads a plugin and returns the interface version that it chose: 5, or 4 and less for the old one.
    ///
    /// # Errors
    /// When it can't be loaded, as a broker would say it.
    pub fn load(&mut self, plugin: &Path) -> Result<i32> {
        let answer = self.command("load", &[text(&plugin.display().to_string())])?;
        if answer.code != 0 {
            bail!("the host can't load the plugin: {}", answer.rest);
        }
        Ok(answer.field("api")?.parse()?)
    }

    /// Initialises the plugin with options; once more for every further listener.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn init(&mut self, options: &[(&str, &str)]) -> Result<i32> {
        let options: Vec<String> = options.iter().map(|(key, value)| text(&format!("{key}={value}"))).collect();
        Ok(self.command("init", &options)?.code)
    }

    /// Sets a client's address and protocol version (3, 4 or 5) before it logs in.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn client(&mut self, handle: u8, address: Option<&str>, version: u8) -> Result<()> {
        let address = address.map_or_else(none, text);
        self.command("client", &[handle.to_string(), address, version.to_string()]).map(drop)
    }

    /// Logs a client in: `handle` is its pointer, used again by the next login with the same.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn auth(&mut self, handle: u8, id: Option<&str>, username: Option<&str>, password: Option<&str>) -> Result<i32> {
        let [id, username, password] = [id, username, password].map(|argument| argument.map_or_else(none, text));
        Ok(self.command("auth", &[handle.to_string(), id, username, password])?.code)
    }

    /// Asks whether a client may: 1 receive, 2 publish, 4 subscribe, 8 unsubscribe.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn acl(&mut self, handle: u8, access: u8, topic: &str) -> Result<i32> {
        let arguments = [handle.to_string(), access.to_string(), text(topic), text("payload")];
        Ok(self.command("acl", &arguments)?.code)
    }

    /// Tells that a client publishes.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn message(&mut self, handle: u8, topic: &str, payload: &[u8], retain: bool) -> Result<i32> {
        let retain = u8::from(retain).to_string();
        let arguments = [handle.to_string(), text(topic), bytes(payload), "0".into(), retain];
        Ok(self.command("message", &arguments)?.code)
    }

    /// Runs an event that needs no more than a client: `connect`, `disconnect`, `offline` or `vanish`.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn event(&mut self, name: &str, handle: u8) -> Result<i32> {
        Ok(self.command(name, &[handle.to_string()])?.code)
    }

    /// Runs the event TICK, and returns the wake-up in milliseconds that the plugin asked for.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn tick(&mut self) -> Result<u64> {
        Ok(self.command("tick", &[])?.field("next_ms")?.parse()?)
    }

    /// Ticks until the plugin has made a call of the broker that begins with `prefix`, and returns it.
    ///
    /// # Errors
    /// When it makes none in `time`; the error lists the calls it made.
    pub fn tick_until(&mut self, prefix: &str, time: Duration) -> Result<String> {
        let found = until(&format!("the call {prefix:?}"), time, || {
            self.tick()?;
            let at = self.calls.iter().position(|call| call.starts_with(prefix));
            Ok(at.map(|at| self.calls.remove(at)))
        });
        found.with_context(|| format!("the plugin's calls: {:#?}", self.calls))
    }

    /// Returns and forgets the calls that the plugin made of the broker, such as `kick_clientid c1 1`.
    ///
    /// One from a thread that isn't the broker's begins with `offthread`.
    pub fn calls(&mut self) -> Vec<String> {
        while let Ok(said) = self.output.try_recv() {
            self.keep(said);
        }
        std::mem::take(&mut self.calls)
    }

    /// Returns how often memory was allocated since the last time: inside callbacks, and on the plugin's own threads.
    ///
    /// # Errors
    /// When the host was not started by [`Self::start_counting`].
    pub fn allocations(&mut self) -> Result<(u64, u64)> {
        let answer = self.command("counters", &[])?;
        Ok((answer.field("callbacks")?.parse()?, answer.field("others")?.parse()?))
    }

    /// Returns how many bytes are in use in memory that was allocated.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn heap(&mut self) -> Result<u64> {
        self.command("heap", &[])?.field("used")?.parse().context("the heap's size")
    }

    /// Calls the ACL check at least `calls` times over all connected clients and the topics.
    ///
    /// # Errors
    /// As [`Self::command`], or when no client is connected.
    pub fn bench_acl(&mut self, calls: u32, access: u8, topics: &[&str]) -> Result<Bench> {
        let mut arguments = vec![calls.to_string(), access.to_string()];
        arguments.extend(topics.iter().map(|topic| text(topic)));
        let answer = self.command("bench", &arguments)?;
        Ok(Bench {
            calls: answer.field("calls")?.parse()?,
            granted: answer.field("granted")?.parse()?,
            median_ns: answer.field("median_ns")?.parse()?,
            p99_ns: answer.field("p99_ns")?.parse()?,
            max_ns: answer.field("max_ns")?.parse()?,
        })
    }

    /// Cleans the plugin up, without a preceding init too, and unloads it where the broker would.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn cleanup(&mut self) -> Result<i32> {
        let code = self.command("cleanup", &[])?.code;
        self.command("unload", &[])?;
        Ok(code)
    }

    /// Ends the host, and returns its remaining calls.
    ///
    /// # Errors
    /// When it dies, or Valgrind found errors: the error carries the report.
    pub fn finish(mut self) -> Result<Vec<String>> {
        self.input = None;
        let status = until("the host's end", PATIENCE, || Ok(self.child.try_wait()?))?;
        if self.valgrind && status.code() == Some(VALGRIND_ERRORS) {
            bail!("Valgrind found errors:\n{}", self.stderr());
        }
        if !status.success() {
            bail!("the host ended with {status}:\n{}", self.stderr());
        }
        Ok(self.calls())
    }

    /// Returns what the host, the plugin and Valgrind wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    fn keep(&mut self, said: String) {
        match said.strip_prefix("> ") {
            Some(call) => self.calls.push(call.to_owned()),
            None => self.calls.push(said),
        }
    }

    fn failure(&mut self, command: &str, what: &str) -> anyhow::Error {
        // Its output ends a moment before it does itself.
        let ended = until("its end", Duration::from_secs(5), || Ok(self.child.try_wait()?)).ok();
        let ended = ended.map_or_else(String::new, |status| format!(" ({status})"));
        let calls = self.calls.join("\n");
        anyhow!("on {command:?} the host {what}{ended}\n{calls}\n{}", self.stderr())
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- fake host\n{}\n{}\n---", self.calls().join("\n"), self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns an argument that the host passes on as these bytes, a NUL after them.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    bytes.iter().fold("x".to_owned(), |mut word, byte| {
        let _ = write!(word, "{byte:02x}");
        word
    })
}

/// Returns an argument that the host passes on as this text.
#[must_use]
pub fn text(text: &str) -> String {
    bytes(text.as_bytes())
}

/// Returns an argument that the host passes on as a null pointer.
#[must_use]
pub fn none() -> String {
    "-".to_owned()
}

fn parse(answer: &str) -> Result<Answer> {
    let (code, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    Ok(Answer { code: code.parse()?, rest: rest.to_owned() })
}
