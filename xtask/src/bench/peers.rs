//! The brokers that are compared, and how each is started.
//!
//! Those of `target/peers/bin` that are there: what isn't is named in the table as absent, never left out silently.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// How Midge is named in tables.
pub(super) const MIDGE: &str = "Midge";
const FLOOR: &str = "floor";
/// How long a broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker.
pub(super) struct Peer {
    pub(super) name: String,
    program: PathBuf,
}

/// A broker that runs until this is dropped.
pub(super) struct Running {
    child: Child,
    pid: u32,
    port: u16,
    folder: PathBuf,
}

/// Returns the command that loads, and is loaded.
pub(super) fn midge() -> PathBuf {
    shell::target().join("release/midge")
}

/// Returns all brokers that are there: the bare forwarder, Midge, and the peers.
pub(super) fn all() -> Vec<Peer> {
    let peer = |name: &str, program: PathBuf| Peer { name: name.to_owned(), program };
    let bin = shell::target().join("peers/bin");
    let mut peers = vec![peer(FLOOR, shell::target().join("release/examples/floor")), peer(MIDGE, midge())];
    for version in ["2.1.2", "2.0.21", "2.0.11"] {
        peers.push(peer(&format!("Mosquitto {version}"), bin.join(format!("mosquitto-{version}"))));
    }
    for name in ["rumqttd", "rmqttd"] {
        peers.push(peer(name, bin.join(name)));
    }
    peers.retain(|peer| peer.program.is_file());
    peers
}

impl Peer {
    pub(super) fn is_floor(&self) -> bool {
        self.name == FLOOR
    }

    /// Starts the broker on a free port of the loopback interface, behind the words of another command.
    pub(super) fn start(&self, before: &[&str]) -> Result<Running> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = shell::target().join(format!("tmp/bench-{port}"));
        std::fs::create_dir_all(&folder)?;
        let mut command = Command::new(before.first().context("a command that starts the broker")?);
        command.args(&before[1..]).arg(&self.program).current_dir(&folder);
        match self.name.as_str() {
            FLOOR => {
                command.arg(port.to_string());
            }
            MIDGE => {
                // It has as many event loops as it may use cores.
                command.args(["serve", "--data", "data", "--listen", &format!("127.0.0.1:{port}")]);
            }
            "rumqttd" | "rmqttd" => {
                let config = rust_config(&self.name, port);
                std::fs::write(folder.join("broker.toml"), config)?;
                command.args([if self.name == "rumqttd" { "--config" } else { "-f" }, "broker.toml"]);
            }
            _ => {
                let config = format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\nlog_type error\n\
                     max_inflight_messages 1000\nmax_queued_messages 100000\n"
                );
                std::fs::write(folder.join("mosquitto.conf"), config)?;
                command.args(["-c", "mosquitto.conf"]);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("{} can't be started", self.name))?;
        let mut running = Running { pid: child.id(), child, port, folder };
        running.wait(&self.name)?;
        Ok(running)
    }
}

impl Running {
    pub(super) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Returns the broker's process, which `taskset` becomes.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn wait(&mut self, name: &str) -> Result<()> {
        let (address, began) = (SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), Instant::now());
        while TcpStream::connect(address).is_err() {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
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

/// Returns the system calls of a broker for each message that it delivered; nothing where there is no `strace`.
pub(super) fn calls_per_message(peer: &Peer, words: &[&str]) -> Result<Option<f64>> {
    if !shell::has("strace") {
        return Ok(None);
    }
    let running = peer.start(&["taskset", "-c", "0"])?;
    let calls = shell::target().join(format!("tmp/calls-{}", running.port));
    let (pid, port) = (running.pid().to_string(), running.url());
    let trace = |seconds: &str| -> Result<Value> {
        let text = shell::output(Command::new(midge()).arg("bench").args(words).args([
            port.as_str(),
            "--mqtt",
            "3.1.1",
            "--quiet",
            "--json",
            "--duration",
            seconds,
        ]))?;
        Ok(serde_json::from_str(&text)?)
    };
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-U", "calls,name", "-p", &pid, "-o"]).arg(&calls);
    let mut child = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("strace can't be started")?;
    std::thread::sleep(Duration::from_millis(500));
    let report = trace("2s")?;
    // Interrupted, it lets the broker go and writes what it has counted.
    shell::run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    child.wait()?;
    let text = std::fs::read_to_string(&calls)?;
    std::fs::remove_file(&calls)?;
    let total =
        text.lines().rev().find_map(|line| line.trim().strip_suffix("total")?.split_whitespace().next()?.parse::<f64>().ok());
    let received = report["received"].as_f64().unwrap_or(0.0);
    Ok(total.filter(|_| received > 0.0).map(|total| total / received))
}

fn rust_config(name: &str, port: u16) -> String {
    if name == "rmqttd" {
        return format!(
            "[log]\nto = \"off\"\n[listener.tcp.external]\naddr = \"127.0.0.1:{port}\"\nallow_anonymous = true\nmax_inflight = 1000\n"
        );
    }
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 20010\nmax_outgoing_packet_count = 1000\nmax_segment_size = 104857600\n\
         max_segment_count = 10\n[v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\nmax_inflight_count = 1000\n\
         dynamic_filters = true\n"
    )
}
