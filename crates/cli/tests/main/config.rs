//! What is said about a configuration, right and wrong.

use crate::place::{MIDGE, Ran};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn run(folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(MIDGE);
    command.env_clear().envs(variables.iter().copied()).current_dir(folder).args(words).stdin(Stdio::null());
    Ran::of(&command.output().unwrap())
}

/// Returns a folder with `text` as its midge.toml.
fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("midge.toml"), text).unwrap();
    folder
}

#[test]
fn a_check_says_all_that_is_wrong() {
    for (text, variables, code, lines) in [
        ("", &[][..], 0, &["nothing is wrong"][..]),
        ("threads = 2\n[[listener]]\naddress = \"127.0.0.1:1\"", &[], 0, &["nothing is wrong"]),
        (
            "",
            &[("MIDGE_THRADS", "2")],
            0,
            &[
                "nothing is wrong",
                "midge: warning: the variable MIDGE_THRADS is unknown and is ignored; did you mean MIDGE_THREADS?",
            ],
        ),
        (
            "threads = 2",
            &[("MIDGE_THREADS", "x")],
            2,
            &["midge: MIDGE_THREADS: threads = \"x\": allowed is a number from 1 to 255"],
        ),
        (
            "thread = 2\nretain = 2\n[[listener]]\nprotocol = \"http\"",
            &[],
            2,
            &[
                "midge: midge.toml:1: thread: there is no such setting; did you mean threads?",
                "midge: midge.toml:2: retain = \"2\": allowed is true or false",
                "midge: midge.toml:4: listener 1: protocol = \"http\": allowed is mqtt or ws",
            ],
        ),
    ] {
        let folder = folder(text);
        let ran = run(folder.path(), &["config", "check", "midge.toml"], variables);
        let said: Vec<&str> = ran.out.lines().chain(ran.err.lines()).collect();
        assert_eq!((ran.code, &said[..]), (code, lines), "{text}");
    }
    let ran = run(Path::new("/"), &["config", "check", "--json", "/nonexistent.toml"], &[]);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, 2);
    assert!(answer["faults"][0].as_str().unwrap().starts_with("/nonexistent.toml: the file can't be read"), "{answer}");
    assert_eq!(answer["warnings"], serde_json::json!([]));
}

#[test]
fn the_full_file_is_in_order() {
    let empty = TempDir::new().unwrap();
    let full = run(empty.path(), &["config", "show", "--defaults"], &[("MIDGE_THREADS", "7")]);
    assert_eq!(full.code, 0, "{}", full.err);
    for part in
        ["#max_packet_size = \"1 MiB\"\n", "# Default: as many as there are cores.\n#threads =\n", "#[[listener]]\n#address ="]
    {
        assert!(full.out.contains(part), "{part}\n{}", full.out);
    }
    let folder = folder(&full.out);
    assert_eq!(run(folder.path(), &["config", "check", "midge.toml"], &[]).out, "nothing is wrong\n");
}

#[test]
fn what_holds_is_shown_with_its_source() {
    let folder = folder("retain = false\nstore = \"redis://me:geheim@127.0.0.1\"\n[[listener]]\naddress = \"127.0.0.1:7\"");
    let variables = [("MIDGE_CONFIG", "midge.toml"), ("MIDGE_MAX_QOS", "1"), ("MIDGE_STORE_PASSWORD", "geheim")];
    let ran = run(folder.path(), &["config", "show"], &variables);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for line in [
        "retain = false  # midge.toml:1",
        "store = \"redis://me:…@127.0.0.1\"  # midge.toml:2",
        "max_qos = 1  # MIDGE_MAX_QOS",
        "address = \"127.0.0.1:7\"  # midge.toml:4",
        "#max_inflight = 100",
    ] {
        assert!(ran.out.lines().any(|shown| shown == line), "{line}\n{}", ran.out);
    }
    assert!(!ran.out.contains("geheim"));
    let ran = run(folder.path(), &["config", "show", "--json"], &variables);
    let all: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let find = |name: &str| all.as_array().unwrap().iter().find(|each| each["name"] == name).unwrap().clone();
    assert_eq!(find("max_qos"), serde_json::json!({ "name": "max_qos", "value": "1", "source": "MIDGE_MAX_QOS" }));
    assert_eq!(find("address")["listener"], 1);
    assert!(!ran.out.contains("geheim"));
}
