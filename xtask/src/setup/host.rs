//! Build tools that the machine itself must have.
//!
//! Installs what is missing with apt when it may, and otherwise names the command that does.

use crate::shell;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// One tool: how to see that it is there, and the Debian packages that bring it.
struct Tool {
    present: fn() -> bool,
    packages: &'static [&'static str],
}

/// A part of `docker.io` before Debian 13.
const DOCKER_CLI: &str = "docker-cli";

const COMPILER: Tool = Tool { present: || shell::has("cc") && shell::has("nm"), packages: &["gcc", "libc6-dev", "binutils"] };
const LIBCLANG: Tool = Tool { present: has_libclang, packages: &["libclang-dev"] };

const TOOLS: &[Tool] = &[
    COMPILER,
    LIBCLANG,
    Tool { present: || Path::new("/usr/include/mosquitto_plugin.h").exists(), packages: &["libmosquitto-dev", "mosquitto-dev"] },
    Tool {
        // Without the C library's debug symbols Valgrind can't intercept its functions.
        present: || shell::has("valgrind") && Path::new("/usr/lib/debug/.build-id").exists(),
        packages: &["valgrind", "libc6-dbg"],
    },
    Tool { present: || shell::has("openssl"), packages: &["openssl", "ca-certificates"] },
    Tool { present: has_venv, packages: &["python3-venv"] },
    Tool { present: || shell::has("node") && shell::has("npm"), packages: &["nodejs", "npm"] },
    Tool { present: || Path::new("/usr/include/MQTTClient.h").exists(), packages: &["libpaho-mqtt-dev"] },
    Tool {
        present: || ["dockerd", "docker", "docker-compose", "iptables", "ip"].into_iter().all(shell::has),
        packages: &["docker.io", DOCKER_CLI, "docker-compose", "iptables", "iproute2"],
    },
    Tool { present: || shell::has("debootstrap"), packages: &["debootstrap"] },
];

/// Installs whatever the tests need of the machine.
///
/// # Errors
/// When something is missing and this user can't install it: the error names the command.
pub(super) fn tools() -> Result<()> {
    provide(TOOLS)
}

/// Installs a linker, and libclang, which the plugin's build script reads headers with.
///
/// # Errors
/// As [`tools`].
pub(crate) fn build_tools() -> Result<()> {
    provide(&[COMPILER, LIBCLANG])
}

fn provide(tools: &[Tool]) -> Result<()> {
    let mut missing: Vec<&str> =
        tools.iter().filter(|tool| !(tool.present)()).flat_map(|tool| tool.packages.iter().copied()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::has("apt-get") {
        bail!("missing: the Debian packages {}, or what corresponds to them here", missing.join(", "));
    }
    let root = shell::output(Command::new("id").arg("-u"))?.trim() == "0";
    if root {
        shell::output(Command::new("apt-get").arg("update"))?;
    }
    missing.retain(|package| *package != DOCKER_CLI || is_offered(package));
    if !root {
        bail!("missing: {0}; run: sudo sh -c 'apt-get update && apt-get install -y {1}'", missing.join(", "), missing.join(" "));
    }
    println!("setup: installing {}", missing.join(" "));
    shell::output(
        Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    Ok(())
}

fn is_offered(package: &str) -> bool {
    Command::new("apt-cache").args(["show", package]).output().is_ok_and(|done| done.status.success())
}

fn has_venv() -> bool {
    Command::new("python3").args(["-c", "import venv, ensurepip"]).output().is_ok_and(|done| done.status.success())
}

fn has_libclang() -> bool {
    let holds = |dir: &Path| {
        std::fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libclang") && name.contains(".so") && !name.contains("cpp")
            })
        })
    };
    if let Some(path) = std::env::var_os("LIBCLANG_PATH") {
        return holds(Path::new(&path));
    }
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-")).any(|entry| holds(&entry.path().join("lib")))
        || holds(Path::new("/usr/lib64"))
}
