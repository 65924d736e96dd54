//! `midge bench` as it is typed, against a real server.

use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::place::{MIDGE, Ran};
use crate::serving::Serving;

fn bench(words: &[&str]) -> Result<Ran> {
    Ok(Ran::of(&Command::new(MIDGE).env_clear().arg("bench").args(words).output()?))
}

#[test]
fn several_processes_are_one_run() -> Result<()> {
    let server = Serving::start()?;
    let (url, svg) = (format!("mqtt://127.0.0.1:{}", server.port()), server.folder.path().join("latency.svg"));
    let svg_text = svg.display().to_string();
    let load = ["--subscribers", "8", "--publishers", "4", "--qos", "1", "--messages", "400", "--rate", "2000", "--processes", "3"];
    let ran = bench(&[&["fan-out", &url], &load[..], &["--strict", "--json", "--svg", &svg_text]].concat())?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out)?;
    for (field, expected) in [
        ("processes", 3),
        ("connected", 12),
        ("sent", 400),
        ("acknowledged", 400),
        ("received", 3_200),
        ("measured", 3_200),
        ("lost", 0),
    ] {
        assert_eq!(report[field], expected, "{field} of {report}");
    }
    assert!(std::fs::read_to_string(svg)?.starts_with("<svg "));
    let ran = bench(&["pairs", &url, "--clients", "2", "--messages", "10", "--quiet"])?;
    assert!(ran.code == 0 && ran.err.is_empty() && ran.out.contains("sent 10, unsent 0"), "{ran:?}");
    Ok(())
}

#[test]
fn a_server_with_users() -> Result<()> {
    let server = Serving::start()?;
    server.add_user("load")?;
    server.ok(&["acl", "add", "--user", "load", "bench/#", "prs"]);
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    let file = server.folder.path().join("password");
    for (password, code) in [("secret\n", 0), ("wrong\n", 2)] {
        std::fs::write(&file, password)?;
        let file = file.display().to_string();
        let ran = bench(&["pairs", &url, "--messages", "10", "--patience", "5s", "--username", "load", "--password-file", &file])?;
        assert_eq!((ran.code, ran.err.contains("0 of 2 clients are ready")), (code, code == 2), "{ran:?}");
        assert!(!ran.err.contains("secret") && !ran.out.contains("secret"));
    }
    Ok(())
}

#[test]
fn what_a_scenario_has_no_use_for_is_refused() -> Result<()> {
    for (words, complaint) in [
        (&["pairs", "--groups", "2"][..], "pairs has no --groups; it takes --clients"),
        (&["connect", "http://127.0.0.1"], "is no mqtt://"),
        (&["pairs", "--payload", "8"], "of at least 32 bytes"),
        (&["pairs", "mqtts://127.0.0.1"], "TLS needs a file of authorities"),
        (&["phones"], "phones need a rate"),
        (&["pairs", "--rate", "5", "--window", "2"], "cannot be used with"),
    ] {
        let ran = bench(words)?;
        assert!(ran.code == 2 && ran.err.contains(complaint), "{words:?}: {ran:?}");
    }
    Ok(())
}
