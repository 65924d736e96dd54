//! Where the servers, clients and the plugin under test lie.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Returns the workspace's root folder.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies two folders below the root")
}

/// Returns a program that `cargo xtask setup` provides, such as `bin/mosquitto-2.1.2`.
///
/// # Errors
/// When it isn't there.
pub fn peer(path: &str) -> Result<PathBuf> {
    let file = target().join("peers").join(path);
    if !file.exists() {
        bail!("{} is missing: run `cargo xtask setup`", file.display());
    }
    Ok(file)
}

/// Returns the plugin file that the tests load; `MIDGE_PLUGIN` names another one.
///
/// # Errors
/// When it isn't built.
pub fn plugin() -> Result<PathBuf> {
    let file = std::env::var_os("MIDGE_PLUGIN").map_or_else(|| target().join("debug/libmidge_plugin.so"), PathBuf::from);
    if !file.exists() {
        bail!("{} is missing: run `cargo build -p midge-plugin --features fault-injection`", file.display());
    }
    Ok(file)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}
