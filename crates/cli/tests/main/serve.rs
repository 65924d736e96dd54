//! What keeps a server from starting, and what is said then.

use crate::place::{MIDGE, Place, Ran};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn serve(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(MIDGE);
    command.env_clear().current_dir(folder).args(["serve", "--data", "data"]).args(words).stdin(Stdio::null());
    Ran::of(&command.output().unwrap())
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let taken = TempDir::new().unwrap();
    std::fs::write(taken.path().join("file"), "").unwrap();
    std::fs::write(taken.path().join("wrong.toml"), "threads = 0\nnode = 1.5").unwrap();
    for (words, code, said) in [
        (&["--config", "absent.toml"][..], 2, "midge: absent.toml: the file can't be read"),
        (
            &["--config", "wrong.toml"],
            2,
            "wrong.toml:1: threads = \"0\": allowed is a number from 1 to 255\nmidge: wrong.toml:2: node: ",
        ),
        (&["--listen", "1883"], 2, "midge: --listen: listener 1: address = \"1883\": allowed is an IP address and a port"),
        (&["--store", "http://x"], 2, "midge: --store: store = \"http://x\": the scheme"),
        (&["--listen", "0.0.0.0:0"], 2, "there is nobody who could log in: add a user first, with `midge --store file:/"),
        (&["--listen", "[::]:0", "--store", "file:elsewhere"], 2, "/elsewhere user add NAME`"),
        (&["--data", "file/x"], 2, "cannot be used multiple times"),
        (&["--store", "file:file"], 3, "midge: file: is not a directory"),
    ] {
        let ran = serve(taken.path(), words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.err.contains(said) && ran.out.is_empty(), "{words:?}: {ran:?}");
    }
    let mut command = Command::new(MIDGE);
    command.env_clear().current_dir(taken.path()).args(["serve", "--data", "file"]);
    let ran = Ran::of(&command.output().unwrap());
    assert!(ran.code == 4 && ran.err.contains("the data directory file can't be made"), "{ran:?}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let place = Place::served();
    let url = place.url();
    let ran = serve(TempDir::new().unwrap().path(), &["--store", &url]);
    assert!(ran.code == 3 && ran.err.contains("is in use by another process"), "{ran:?}");
    place.ok(&["user", "add", "alice", "--no-password"], "");
}

#[test]
fn users_who_are_added_before_open_the_door() {
    let folder = TempDir::new().unwrap();
    let store = format!("file:{}", folder.path().join("data").display());
    let add = ["--store", &store, "user", "add", "alice", "--no-password"];
    let ran = Ran::of(&Command::new(MIDGE).env_clear().args(add).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = serve(folder.path(), &["--listen", "0.0.0.0:0"]);
    assert!(!ran.err.contains("nobody who could log in"), "{ran:?}");
}

/// Runs `serve` with `socket` as systemd passes one on: as descriptor 3.
fn activated(folder: &Path, socket: TcpListener, listen: &str) -> Ran {
    let mut command = Command::new("sh");
    let words = ["-c", "exec \"$0\" serve --data data --listen \"$1\" 3<&0", MIDGE, listen];
    command.env_clear().env("LISTEN_FDS", "1").current_dir(folder).args(words).stdin(OwnedFd::from(socket));
    Ran::of(&command.output().unwrap())
}

#[test]
fn a_socket_of_systemd_needs_its_listener() {
    let folder = TempDir::new().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let ran = activated(folder.path(), socket.try_clone().unwrap(), "127.0.0.1:1");
    assert!(ran.code == 4 && ran.err.contains(&format!("systemd passes a socket at {address}")), "{ran:?}");
    let ran = activated(folder.path(), socket, &address);
    assert!(!ran.err.contains("systemd"), "{ran:?}");
}

#[test]
fn without_a_store_named_it_is_that_of_the_server_here() {
    let place = Place::served();
    let url = place.url();
    let directory = url.strip_prefix("file:").unwrap();
    place.ok(&["user", "add", "alice", "--no-password"], "");
    let mut command = Command::new(MIDGE);
    command.env_clear().env("STATE_DIRECTORY", directory).args(["user", "list"]);
    let ran = Ran::of(&command.output().unwrap());
    assert!(ran.code == 0 && ran.out.contains("alice"), "{ran:?}");
}
