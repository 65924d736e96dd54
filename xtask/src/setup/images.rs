//! Makes the container images that the compose file names.
//!
//! No registry is asked: each is Debian's base system with the packages that count, as a tarball for `docker import`.

use crate::shell;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

use super::apt::Mirror;

/// One image: its file, its release, what it holds beside the base system, and what is done in it last.
struct Image {
    file: &'static str,
    release: &'static str,
    packages: &'static str,
    last: &'static str,
}

const IMAGES: &[Image] = &[
    Image { file: "debian-trixie-slim.tar", release: "trixie", packages: "ca-certificates", last: "true" },
    Image {
        file: "redis-7.tar",
        release: "bookworm",
        packages: "redis-server",
        // What the official image has beside the program: fixed numbers of the user, its folder, an entrypoint.
        last: "usermod -u 999 redis && groupmod -g 999 redis && install -d -o 999 -g 999 /data && \
               printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/local/bin/docker-entrypoint.sh && \
               chmod 755 /usr/local/bin/docker-entrypoint.sh",
    },
];

/// Makes all images in `dir`.
///
/// # Errors
/// When this user may not, or a download fails.
pub(super) fn make(dir: &Path) -> Result<()> {
    if shell::output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("container images can only be made by root: run `sudo cargo xtask setup`");
    }
    let mirror = Mirror::of_this_machine()?;
    for image in IMAGES {
        let root = dir.join(image.release);
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={}", image.packages)]);
        shell::output(debootstrap.arg(image.release).arg(&root).arg(&mirror.uri))?;
        shell::output(Command::new("chroot").arg(&root).args(["sh", "-c", image.last]))?;
        shell::output(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(dir.join(image.file)).arg("."))?;
        std::fs::remove_dir_all(&root)?;
    }
    Ok(())
}
