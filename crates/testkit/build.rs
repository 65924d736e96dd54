//! Compiles the fake Mosquitto host, once per broker release.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=fakehost/host.c");
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    for release in ["15", "16", "20", "21"] {
        compile(release, false, &out.join(format!("host-{release}")));
        compile(release, true, &out.join(format!("host-{release}-counting")));
    }
}

fn compile(release: &str, counting: bool, to: &Path) {
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-rdynamic"]);
    command.arg(format!("-DHOST={release}"));
    if counting {
        command.arg("-DCOUNT");
    }
    command.args(["fakehost/host.c", "-o"]).arg(to).args(["-ldl", "-lpthread"]);
    let status = command.status().expect("a C compiler is needed: run `cargo xtask setup`");
    assert!(status.success(), "the fake host doesn't compile: {command:?}");
}
