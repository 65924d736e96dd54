//! The brokers that are compared, and how each is started.
//!
//! Each has one worker where it has such a setting, lets everybody in and writes nothing to disk.
//! What can't be had is returned with its reason, never left out silently.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::rows::Row;
use crate::shell;

pub(super) const FLOOR: &str = "floor";
/// Midge as its peers are: without rules and without counting.
pub(super) const MIDGE: &str = "Midge";
/// Midge with users, 20 rules for each, hot topics and presence.
pub(super) const EVERYTHING: &str = "Midge, everything on";
/// How long a broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the broker runs.
const CORE: &str = "0";
const USER: &str = "bench";
const RULES: u32 = 20;
/// Peers of the table of goals that no registry brings.
const NOWHERE: [&str; 2] = ["FlashMQ", "NanoMQ"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Floor,
    Midge,
    Everything,
    Mosquitto,
    Rumqttd,
    Rmqtt,
    Aedes,
    Amqtt,
}

/// A broker.
pub(super) struct Peer {
    /// How `--peers` names it.
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    kind: Kind,
    program: PathBuf,
}

/// A broker that runs until this is dropped.
pub(super) struct Running {
    child: Child,
    port: u16,
    folder: PathBuf,
    login: Vec<String>,
}

/// Returns the command that loads, and is loaded.
pub(super) fn midge() -> PathBuf {
    shell::target().join("release/midge")
}

/// Returns all brokers that are there, and why others aren't; `missing` has folders of `target/peers` that couldn't be made.
pub(super) fn all(missing: &[(String, String)]) -> (Vec<Peer>, BTreeMap<String, String>) {
    let below = shell::target().join("peers");
    let registered = [
        ("mosquitto-2.1.2", "Mosquitto 2.1.2", Kind::Mosquitto, "forky", "bin/mosquitto-2.1.2"),
        ("mosquitto-2.0.21", "Mosquitto 2.0.21", Kind::Mosquitto, "trixie", "bin/mosquitto-2.0.21"),
        ("mosquitto-2.0.11", "Mosquitto 2.0.11", Kind::Mosquitto, "bookworm", "bin/mosquitto-2.0.11"),
        ("rumqttd", "rumqttd 0.20.0", Kind::Rumqttd, "rumqttd", "rumqttd/bin/rumqttd"),
        ("rmqtt", "RMQTT 0.24.0", Kind::Rmqtt, "rmqtt", "rmqtt/bin/rmqtt-plain"),
        ("aedes", "Aedes 1.2.0", Kind::Aedes, "aedes", "aedes/aedes.mjs"),
        ("amqtt", "amqtt 0.12.1", Kind::Amqtt, "amqtt", "amqtt/bin/amqtt"),
    ];
    let mut peers = vec![
        Peer { key: "floor", name: FLOOR, kind: Kind::Floor, program: shell::target().join("release/examples/floor") },
        Peer { key: "midge", name: MIDGE, kind: Kind::Midge, program: midge() },
        Peer { key: "everything", name: EVERYTHING, kind: Kind::Everything, program: midge() },
    ];
    let mut absent = BTreeMap::new();
    for name in NOWHERE {
        absent.insert(name.to_owned(), "in none of Debian, crates.io, PyPI and npm".to_owned());
    }
    for (key, name, kind, folder, program) in registered {
        match missing.iter().find(|(missing, _)| missing == folder) {
            Some((_, why)) => _ = absent.insert(name.to_owned(), why.clone()),
            None => peers.push(Peer { key, name, kind, program: below.join(program) }),
        }
    }
    (peers, absent)
}

impl Peer {
    /// Returns whether a row is measured with this broker.
    pub(super) fn does(&self, row: &Row) -> bool {
        match self.kind {
            Kind::Floor => row.floor,
            Kind::Everything => row.everything,
            _ => true,
        }
    }

    /// Returns whether it runs in an interpreter, and one round is enough to show where it stands.
    pub(super) fn is_interpreted(&self) -> bool {
        matches!(self.kind, Kind::Aedes | Kind::Amqtt)
    }

    /// Returns the name of its configuration file and what is in it.
    pub(super) fn configuration(&self, port: &str) -> Option<(&'static str, String)> {
        let midge = |switch: bool, anonymous: &str| {
            format!(
                "data = \"data\"\nthreads = 1\npersistence = false\nhot = {switch}\npresence = {switch}\nanonymous = \"{anonymous}\"\n\
                 [[listener]]\naddress = \"127.0.0.1:{port}\"\n"
            )
        };
        Some(match self.kind {
            Kind::Floor | Kind::Rmqtt | Kind::Aedes => return None,
            Kind::Midge => ("midge.toml", midge(false, "allow")),
            Kind::Everything => ("midge.toml", midge(true, "deny")),
            Kind::Mosquitto => (
                "mosquitto.conf",
                format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type error\n\
                     user root\nmax_inflight_messages 1000\nmax_queued_messages 100000\n"
                ),
            ),
            Kind::Rumqttd => (
                "rumqttd.toml",
                format!(
                    "id = 0\n[router]\nid = 0\nmax_connections = 20010\nmax_outgoing_packet_count = 1000\n\
                     max_segment_size = 104857600\nmax_segment_count = 10\n[v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{port}\"\n\
                     next_connection_delay_ms = 0\n[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
                     max_inflight_count = 1000\ndynamic_filters = true\n"
                ),
            ),
            Kind::Amqtt => (
                "amqtt.yaml",
                format!(
                    "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\nplugins:\n  \
                     amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
                ),
            ),
        })
    }

    /// Returns how it is started, beside its configuration.
    pub(super) fn words(&self, port: &str) -> Vec<String> {
        let program = self.program.display().to_string();
        let words: &[&str] = match self.kind {
            Kind::Floor | Kind::Rmqtt => &[&program, port],
            Kind::Midge | Kind::Everything => &[&program, "serve", "--config", "midge.toml"],
            Kind::Mosquitto => &[&program, "-c", "mosquitto.conf"],
            Kind::Rumqttd => &[&program, "--quiet", "--config", "rumqttd.toml"],
            Kind::Aedes => &["node", &program, port],
            Kind::Amqtt => &[&program, "-c", "amqtt.yaml"],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// Starts the broker on a free port of the loopback interface and on its core.
    ///
    /// # Errors
    /// When it doesn't listen within ten seconds.
    pub(super) fn start(&self) -> Result<Running> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = shell::target().join(format!("tmp/bench-{port}"));
        std::fs::create_dir_all(&folder)?;
        if let Some((file, text)) = self.configuration(&port.to_string()) {
            std::fs::write(folder.join(file), text)?;
        }
        let login = if self.kind == Kind::Everything { rules(&folder)? } else { Vec::new() };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n \"$(ulimit -Hn)\"; exec taskset -c {CORE} \"$@\""), "sh"]);
        command.args(self.words(&port.to_string())).current_dir(&folder).env("TOKIO_WORKER_THREADS", "1");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("{} can't be started", self.name))?;
        let mut running = Running { child, port, folder, login };
        running.wait(self.name)?;
        Ok(running)
    }
}

impl Running {
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Returns the broker's process, which shell and `taskset` become.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns `midge bench` for this broker on the other core, and not for ever.
    pub(super) fn load(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "90", "taskset", "-c", "1"]).arg(midge()).arg("bench").args(words);
        command.args([&format!("mqtt://{}", self.address()), "--mqtt", "3.1.1", "--quiet", "--json"]).args(&self.login);
        command
    }

    fn wait(&mut self, name: &str) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ends with {status} instead of listening");
            }
            if began.elapsed() > PATIENCE {
                bail!("{name} doesn't listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Writes a user with rules, of which the last is for the load's topics; returns how the load logs in.
fn rules(folder: &Path) -> Result<Vec<String>> {
    let store = format!("file:{}", folder.join("data").display());
    let file = folder.join("password");
    std::fs::write(&file, USER)?;
    let mut add = Command::new(midge());
    add.args(["--store", &store, "user", "add", USER, "--password-stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = add.spawn()?;
    writeln!(child.stdin.take().context("a pipe")?, "{USER}")?;
    if !child.wait()?.success() {
        bail!("the user of the load can't be added");
    }
    for number in 1..=RULES {
        let filter = if number == RULES { "bench/#".to_owned() } else { format!("site/{number}/line/+/{number}") };
        shell::output(Command::new(midge()).args(["--store", &store, "acl", "set", "--user", USER, &filter, "prs"]))?;
    }
    Ok(["--username", USER, "--password-file", &file.display().to_string()].map(str::to_owned).into())
}
