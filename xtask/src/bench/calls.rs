//! Counts the system calls of a broker with `strace -c -f`.
//!
//! A load of few messages is taken from one of many, so connecting, subscribing and leaving don't count.
//! Traced brokers are slow, and more gathers in one call: the figures are for comparing them, in runs of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::peers::Peer;
use crate::shell;

/// How long `strace` may take to hold all threads.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the system calls for each further message delivered between two numbers of messages sent.
///
/// # Errors
/// When `strace` isn't there or may not, or a load fails.
pub(super) fn per_message(peer: &Peer, words: &[&str], [few, many]: [u32; 2]) -> Result<f64> {
    let (calls, received) = count(peer, words, few)?;
    let (more_calls, more_received) = count(peer, words, many)?;
    if more_received <= received {
        bail!("{} delivers no more when more is sent", peer.name);
    }
    Ok((more_calls - calls) / (more_received - received))
}

/// Returns all system calls of a load, and what it received.
fn count(peer: &Peer, words: &[&str], messages: u32) -> Result<(f64, f64)> {
    let running = peer.start()?;
    let pid = running.pid();
    let file = shell::target().join(format!("tmp/calls-{pid}"));
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-U", "calls,name", "-p", &pid.to_string(), "-o"]).arg(&file);
    let strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("strace can't be started")?;
    let mut tracer = Tracer(strace);
    tracer.wait(pid)?;
    let report = shell::output(running.load(words).args(["--messages", &messages.to_string()]))?;
    let report: Value = serde_json::from_str(&report)?;
    tracer.end()?;
    let calls = total(&std::fs::read_to_string(&file)?).context("strace has counted nothing")?;
    std::fs::remove_file(&file)?;
    Ok((calls, report["received"].as_f64().unwrap_or(0.0)))
}

/// A running `strace`, which ends with this at the latest.
struct Tracer(Child);

impl Tracer {
    /// Waits until every thread of the process is traced.
    fn wait(&mut self, pid: u32) -> Result<()> {
        let began = Instant::now();
        while !is_traced(pid)? {
            if self.0.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("strace may not trace the broker");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Interrupts it: it lets the broker go and writes what it has counted.
    fn end(mut self) -> Result<()> {
        shell::run(Command::new("kill").args(["-INT", &self.0.id().to_string()]))?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_traced(pid: u32) -> Result<bool> {
    for task in std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_some_and(|pid| pid.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds the sum below the table that `strace` writes.
fn total(text: &str) -> Option<f64> {
    text.lines().rev().find_map(|line| line.trim().strip_suffix("total")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_last_line() {
        assert_eq!(
            total("    calls syscall\n--------- ------\n     1200 write\n      800 read\n--------- ------\n     2000 total\n"),
            Some(2000.0)
        );
        assert_eq!(total(""), None);
    }
}
