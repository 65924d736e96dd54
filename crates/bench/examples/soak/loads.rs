//! The steady traffic: `midge bench`, which counts what is lost.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::stage::{Stage, USER, midge};
use crate::tally::Tally;

/// Loads that are there from the beginning to the end; each with the words of `midge bench`.
const LOADS: [(&str, &str); 6] = [
    ("pairs-qos1", "pairs --clients 10 --qos 1 --rate 200"),
    ("pairs-qos2", "pairs --clients 5 --qos 2 --rate 50 --mqtt 3.1.1"),
    ("fan-out", "fan-out --subscribers 50 --qos 1 --rate 20"),
    ("shared", "shared --publishers 2 --subscribers 6 --groups 2 --qos 1 --rate 50"),
    ("answers", "request-response --clients 5 --responders 2 --qos 1 --rate 20"),
    ("phones", "phones --clients 100 --qos 1 --rate 5 --storm-every 10s"),
];

/// How long the last messages may take; memory and descriptors are looked at until then.
pub(crate) const END: Duration = Duration::from_secs(8);

/// What must be zero.
const FAULTS: [&str; 8] = ["lost", "duplicated", "misordered", "unsent", "rejected", "refused", "unanswered", "disconnected"];

/// Processes that load.
pub(crate) struct Loads(Vec<(&'static str, Child, PathBuf)>);

impl Drop for Loads {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Loads {
    pub(crate) fn start(stage: &Stage, length: Duration) -> Result<Self> {
        let mut loads = Self(Vec::new());
        let seconds = length.saturating_sub(END).as_secs();
        for (name, words) in LOADS {
            let report = stage.folder().join(format!("{name}.json"));
            let mut command = Command::new(midge());
            command.env_clear().arg("bench").args(words.split(' ')).arg(format!("mqtt://127.0.0.1:{}", stage.port()));
            command.args(["--duration", &format!("{seconds}s"), "--prefix", name, "--username", USER, "--password-file"]);
            command.arg(stage.folder().join("password")).args(["--drain", "5s", "--json", "--quiet"]);
            let errors = File::create(stage.folder().join(format!("{name}.log")))?;
            let child = command.stdin(Stdio::null()).stdout(File::create(&report)?).stderr(errors).spawn()?;
            loads.0.push((name, child, report));
        }
        Ok(loads)
    }

    /// Waits for all, and returns what they have counted.
    pub(crate) fn finish(mut self, tally: &Tally) -> Result<String> {
        let mut lines = Vec::new();
        for (name, child, report) in &mut self.0 {
            let status = child.wait()?;
            let text = std::fs::read_to_string(&*report)?;
            let said: Value =
                serde_json::from_str(&text).with_context(|| format!("{name} ended with {status} and said {text:?}"))?;
            let count = |key: &str| said[key].as_u64().with_context(|| format!("{name} doesn't say how many were {key}"));
            for key in FAULTS {
                if count(key)? > 0 {
                    tally.complain(format!("{name}: {} {key}", count(key)?));
                }
            }
            if count("received")? == 0 {
                tally.complain(format!("{name}: nothing came"));
            }
            lines.push(format!("{name}: {} sent, {} received", count("sent")?, count("received")?));
        }
        Ok(lines.join("\n"))
    }
}
