//! Fetches the servers and clients that tests run against.
//!
//! Everything lands under `target/peers`: the brokers and stores of several Debian releases, each run through its own
//! release's dynamic loader by a wrapper in `target/peers/bin`, base images of containers, and clients for Python and JavaScript.
//! What is there is used again; a stamp says that a part is complete.
//! Nothing is installed into the system but tools to build, and the Docker engine that the test of the compose file starts.

mod apt;
mod brokers;
mod host;
mod images;
mod suite;

use crate::shell;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use suite::{Server, Suite};

pub(crate) use brokers::brokers;
pub(crate) use host::build_tools;

/// Raised when what a complete part contains changes, so that older ones are made again.
const LAYOUT: &str = "1";

const SUITES: &[Suite] = &[
    Suite {
        name: "bookworm",
        packages: &["mosquitto", "mosquitto-clients", "redis-server"],
        servers: &[
            Server { program: "mosquitto", label: "2.0.11", version: "2.0." },
            Server { program: "redis-server", label: "7", version: "7." },
        ],
    },
    Suite {
        name: "trixie",
        packages: &["mosquitto", "mosquitto-clients", "valkey-server"],
        servers: &[
            Server { program: "mosquitto", label: "2.0.21", version: "2.0." },
            Server { program: "valkey-server", label: "8", version: "8." },
        ],
    },
    Suite {
        name: "forky",
        packages: &["mosquitto", "mosquitto-clients", "redis-server"],
        servers: &[
            Server { program: "mosquitto", label: "2.1.2", version: "2.1." },
            Server { program: "redis-server", label: "8", version: "8." },
        ],
    },
];

/// Makes everything available, or says what is missing and how to get it.
///
/// # Errors
/// When a tool is missing and can't be installed, or a download fails.
pub(crate) fn run() -> Result<()> {
    host::tools()?;
    let peers = shell::target().join("peers");
    std::fs::create_dir_all(peers.join("bin"))?;
    // Two setups at once would unpack into the same folder; released when this function ends.
    let lock = std::fs::File::create(peers.join("lock"))?;
    lock.lock()?;
    for suite in SUITES {
        part(&peers, suite.name, |dir| suite.provide(&peers, dir))
            .with_context(|| format!("cannot provide the servers of {}", suite.name))?;
    }
    part(&peers, "images", images::make).context("cannot provide the container images")?;
    part(&peers, "venv", venv).context("cannot provide the Python environment")?;
    part(&peers, "clients", clients).context("cannot provide the clients that the server is shown to")?;
    Ok(())
}

/// Makes one folder of `peers` unless its stamp says that it is complete.
fn part(peers: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let stamp = peers.join(format!("{name}.complete"));
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == LAYOUT) {
        return Ok(());
    }
    println!("setup: making {name}");
    let dir: PathBuf = peers.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    make(&dir)?;
    std::fs::write(stamp, LAYOUT)?;
    Ok(())
}

fn venv(dir: &Path) -> Result<()> {
    shell::output(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    shell::output(Command::new(dir.join("bin/python")).args(["-m", "pip", "install", "--quiet", "paho-mqtt>=2,<3"]))?;
    shell::output(Command::new(dir.join("bin/python")).args(["-c", "import paho.mqtt.client"]))?;
    Ok(())
}

/// What `tests/interop` runs: clients for Python, an older Paho beside them, and MQTT.js.
fn clients(dir: &Path) -> Result<()> {
    let python = dir.join("venv/bin/python");
    shell::output(Command::new("python3").args(["-m", "venv"]).arg(dir.join("venv")))?;
    let install = ["-m", "pip", "install", "--quiet"];
    shell::output(Command::new(&python).args(install).args([
        "paho-mqtt>=2,<3",
        "aiomqtt>=2,<3",
        "gmqtt>=0.7,<1",
        "amqtt>=0.11,<1",
    ]))?;
    shell::output(Command::new(&python).args(install).arg("--target").arg(dir.join("paho1")).arg("paho-mqtt>=1.6,<2"))?;
    shell::output(Command::new("npm").args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]).arg(dir).arg("mqtt@5"))?;
    Ok(())
}
