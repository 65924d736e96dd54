//! `cargo xtask bench`: Midge beside its peers, in turns.
//!
//! Each broker is pinned to one core and the load to another; in each round every broker has every row once, so that
//! what disturbs the machine disturbs all. Figures are medians of the rounds, with the least and the greatest.
//! A whole run is kept in `docs/benchmarks/`; a figure of Midge that is worse than the kept one by more than the spread
//! of both fails the command, and then nothing is kept. A part of a run is left in `target/bench/`.

mod calls;
mod goals;
mod host;
mod memory;
mod options;
mod peers;
mod picture;
mod rows;
mod samples;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{setup, shell};
use options::Options;
use peers::Peer;
use rows::Row;
use samples::{Results, Samples, Spread};

/// The figures of a report that are kept.
const FIGURES: [&str; 7] = ["cpu", "rate", "p50", "p99", "p99_9", "bytes", "lost"];

/// A run so far.
struct Run {
    options: Options,
    peers: Vec<Peer>,
    absent: BTreeMap<String, String>,
    samples: Samples,
    /// Why a broker could not do a row, after which it isn't asked again.
    failed: BTreeMap<(&'static str, &'static str), String>,
}

/// Runs everything; returns whether no figure of Midge became worse.
///
/// # Errors
/// Programs that can't be built, wrong arguments.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let keys: Vec<&str> = rows::all().map(|row| row.key).chain([host::KEY]).collect();
    let known: Vec<&str> = peers::all(&[]).0.iter().map(|peer| peer.key).collect();
    let options = Options::read(words, &keys, &known)?;
    let (peers, absent) = peers::all(&setup::brokers()?);
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge"]))?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge-bench", "--example", "floor"]))?;
    let mut run = Run { options, peers, absent, samples: Samples::default(), failed: BTreeMap::new() };
    run.peers.retain(|peer| run.options.has_peer(peer.key));
    run.build_plugin();
    let began = Instant::now();
    for round in 1..=run.options.rounds {
        run.round(round);
        run.plugin(round);
    }
    run.count();
    eprintln!("measured for {} s", began.elapsed().as_secs());
    run.keep()
}

impl Run {
    /// Gives every broker every row once, each round beginning with another broker.
    fn round(&mut self, round: usize) {
        for row in rows::TIMED.iter().chain([&rows::KERNEL]).filter(|row| self.options.has_row(row.key)) {
            for turn in 0..self.peers.len() {
                let peer = &self.peers[(turn + round) % self.peers.len()];
                if !peer.does(row)
                    || self.failed.contains_key(&(row.key, peer.name))
                    || (peer.is_interpreted() && round > 1 && row.key != rows::KERNEL.key)
                {
                    continue;
                }
                eprintln!("round {round} of {}: {}: {}", self.options.rounds, row.title, peer.name);
                match measure(peer, row, self.options.seconds * row.longer) {
                    Ok(figures) => {
                        figures.iter().for_each(|(figure, value)| self.samples.add(row.key, peer.name, figure, round, *value));
                    }
                    Err(error) => _ = self.failed.insert((row.key, peer.name), told(&error)),
                }
            }
        }
    }

    fn build_plugin(&mut self) {
        if self.options.has_row(host::KEY)
            && let Err(error) = host::build()
        {
            self.failed.insert((host::KEY, host::TITLE), told(&error));
        }
    }

    /// Has a round of the plugin inside the Mosquittos.
    fn plugin(&mut self, round: usize) {
        if !self.options.has_row(host::KEY) || self.failed.contains_key(&(host::KEY, host::TITLE)) {
            return;
        }
        eprintln!("round {round} of {}: {}", self.options.rounds, host::TITLE);
        match host::round() {
            Ok(cells) => {
                cells.iter().for_each(|(load, guard, percent)| self.samples.add(host::KEY, load, guard, round, *percent));
            }
            Err(error) => _ = self.failed.insert((host::KEY, host::TITLE), told(&error)),
        }
    }

    /// Counts system calls, once.
    fn count(&mut self) {
        for (row, messages) in rows::COUNTED.iter().filter(|(row, _)| self.options.has_row(row.key)) {
            for peer in self.peers.iter().filter(|peer| peer.does(row)) {
                eprintln!("{}: {}", row.title, peer.name);
                match calls::per_message(peer, row.words, *messages) {
                    Ok(calls) => self.samples.add(row.key, peer.name, "calls", 1, calls),
                    Err(error) => _ = self.failed.insert((row.key, peer.name), told(&error)),
                }
            }
        }
    }

    /// Writes the report, where it is whole beside the last one and only when nothing became worse.
    fn keep(&self) -> Result<bool> {
        let results = goals::results(&self.samples);
        let kept = shell::root().join("docs/benchmarks");
        let worse = before(&kept)?.map(|before| goals::worsened(&before, &results)).unwrap_or_default();
        worse.iter().for_each(|line| eprintln!("worse: {line}"));
        let folder = if worse.is_empty() && self.options.is_whole() { kept } else { shell::target().join("bench") };
        tables::write(&folder, self, &results)?;
        println!("{}", folder.join("broker.md").display());
        Ok(worse.is_empty())
    }
}

/// Loads a broker that lives as long as this takes; returns its figures.
fn measure(peer: &Peer, row: &Row, seconds: u32) -> Result<Vec<(&'static str, f64)>> {
    let running = peer.start()?;
    if row.key == rows::KERNEL.key {
        let bytes = memory::bytes_per_socket(&running)?.context("the kernel doesn't tell: /proc/slabinfo can't be read")?;
        return Ok(vec![("socket", bytes)]);
    }
    let mut load = running.load(row.words);
    load.args(["--pid", &running.pid().to_string(), "--warmup", "1s", "--duration", &format!("{seconds}s")]);
    let report: Value = serde_json::from_str(&shell::output(&mut load)?)?;
    let figures = figures(&report);
    ensure!(report["refused"] == 0 && report["unanswered"] == 0, "{} clients refused", report["refused"]);
    ensure!(figures.iter().any(|(figure, value)| *figure == "cpu" && *value > 0.0), "nothing came");
    Ok(figures)
}

/// Returns the figures of a report that are kept.
fn figures(report: &Value) -> Vec<(&'static str, f64)> {
    let connects = report["scenario"] == "connect";
    let value = |figure: &str| match figure {
        "cpu" => report["broker"]["cpu_seconds_per_million"].as_f64(),
        "rate" => report["rate"].as_f64(),
        "lost" => report["lost"].as_f64().filter(|lost| *lost > 0.0),
        "bytes" => report["broker"]["bytes_per_client"].as_f64().filter(|_| connects),
        latency => report["latency"][latency].as_f64(),
    };
    let mut figures: Vec<_> = FIGURES.iter().filter_map(|figure| Some((*figure, value(figure)?))).collect();
    let cpu = figures.iter().find(|(figure, value)| *figure == "cpu" && *value > 0.0).map(|(_, cpu)| 1e6 / cpu);
    figures.extend(cpu.map(|rate| ("per_cpu", rate)));
    figures
}

/// Returns the results that the last run has left.
fn before(folder: &Path) -> Result<Option<Results>> {
    let file = folder.join("broker.json");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(None) };
    let value: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let mut results = Results::new();
    for (row, peers) in value["rows"].as_object().into_iter().flatten() {
        for (peer, figures) in peers.as_object().into_iter().flatten() {
            for (figure, spread) in figures.as_object().into_iter().flatten() {
                let spread = Spread::read(spread).context("a figure is median, least and greatest")?;
                results.entry(row.clone()).or_default().entry(peer.clone()).or_default().insert(figure.clone(), spread);
            }
        }
    }
    Ok(Some(results))
}

/// Shows an error and returns its last line, which is where tools say what was wrong.
fn told(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    eprintln!("  {text}");
    text.lines().last().unwrap_or_default().trim().to_owned()
}
