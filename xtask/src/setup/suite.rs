//! Unpacks one Debian release's servers and makes them plain commands.
//!
//! Nothing is chrooted: a wrapper starts the program through its own release's dynamic loader and libraries, so that
//! the machine's files and the freshly built plugin stay visible to it under their usual paths.

use super::apt;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One Debian release and what to take from it.
pub(super) struct Suite {
    pub(super) name: &'static str,
    pub(super) packages: &'static [&'static str],
    pub(super) servers: &'static [Server],
}

/// A server, the label its wrappers carry, and how its version must begin.
pub(super) struct Server {
    pub(super) program: &'static str,
    pub(super) label: &'static str,
    pub(super) version: &'static str,
}

impl Suite {
    /// Downloads and unpacks into `dir`, and writes the wrappers into `peers/bin`.
    ///
    /// # Errors
    /// When a download fails, or the release holds another version than expected.
    pub(super) fn provide(&self, peers: &Path, dir: &Path) -> Result<()> {
        let work = peers.join(format!("{}.apt", self.name));
        let files = apt::download(self.name, self.packages, &work)?;
        // Releases differ in which of these packages still ship the unmerged paths.
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::fs::create_dir_all(dir.join("usr").join(name))?;
            symlink(Path::new("usr").join(name), dir.join(name))?;
        }
        for file in &files {
            unpack(file, dir)?;
        }
        // Some packages leave the links from a library's short name to be made at installation.
        let libs = dir.join("usr/lib").join(triplet());
        shell::output(Command::new("/sbin/ldconfig").arg("-n").arg(libs))?;
        std::fs::remove_dir_all(work)?;
        for server in self.servers {
            for program in server.family() {
                self.wrap(peers, dir, program, server.label)?;
            }
            server.check(peers)?;
        }
        Ok(())
    }

    fn wrap(&self, peers: &Path, dir: &Path, program: &str, label: &str) -> Result<()> {
        let place = ["usr/bin", "usr/sbin"]
            .into_iter()
            .find(|place| dir.join(place).join(program).exists())
            .with_context(|| format!("{} has no {program}", self.name))?;
        let triplet = triplet();
        let loader = loader(&dir.join("usr/lib").join(&triplet))?;
        let suite = self.name;
        let script = format!(
            "#!/bin/sh\nroot=$(cd \"${{0%/*}}/../{suite}\" && pwd)\nlibs=$root/usr/lib/{triplet}\n\
             exec \"$libs/{loader}\" --argv0 {program} \
             --library-path \"$libs:$libs/systemd:$root/usr/lib\" \"$root/{place}/{program}\" \"$@\"\n"
        );
        let path = peers.join("bin").join(format!("{program}-{label}"));
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

impl Server {
    /// Returns the programs that come with the server.
    fn family(&self) -> &'static [&'static str] {
        match self.program {
            "mosquitto" => &["mosquitto", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "mosquitto_passwd", "mosquitto_ctrl"],
            "valkey-server" => &["valkey-server", "valkey-cli"],
            _ => &["redis-server", "redis-cli"],
        }
    }

    fn check(&self, peers: &Path) -> Result<()> {
        let wrapper = peers.join("bin").join(format!("{}-{}", self.program, self.label));
        let mut command = Command::new(wrapper);
        // Mosquitto's usage text carries its version, and ends with status 3.
        let flag = if self.program == "mosquitto" { "-h" } else { "--version" };
        let said = command.arg(flag).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let found = said
            .split_whitespace()
            .map(|word| word.trim_start_matches("v="))
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
            .unwrap_or("nothing");
        if !found.starts_with(self.version) {
            bail!("{} should be {}x, but says {found:?}: {said}", self.program, self.version);
        }
        println!("setup: {}-{} is version {found}", self.program, self.label);
        Ok(())
    }
}

/// Returns Debian's name for this machine's kind of binaries.
fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

fn unpack(file: &Path, dir: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file).stdout(Stdio::piped()).spawn()?;
    let tar = dpkg.stdout.take().context("dpkg-deb has no output")?;
    // dpkg-deb's own extraction would replace the links that merge the paths.
    let done = Command::new("tar")
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
        .arg(dir)
        .stdin(tar)
        .output()?;
    if !done.status.success() || !dpkg.wait()?.success() {
        bail!("cannot unpack {}: {}", file.display(), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

fn loader(libs: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(libs)? {
        names.push(entry?.file_name().into());
    }
    names
        .iter()
        .map(|name| name.display().to_string())
        .find(|name| name.starts_with("ld-linux"))
        .with_context(|| format!("no dynamic loader in {}", libs.display()))
}
