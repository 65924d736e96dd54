//! `cargo xtask bench`: Midge beside its peers, in turns.
//!
//! Each broker is pinned to one core and the load to another; in each round every broker has every scenario once, so that
//! what disturbs the machine disturbs all. Figures are medians of the rounds, with the least and the greatest.
//! What is kept is `docs/benchmarks/`; a figure of Midge that is worse than the kept one by more than the spread of both
//! fails the command, and then nothing is kept.

mod peers;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::shell;
use peers::Peer;

/// Where the broker runs, and where the load.
const CORES: [&str; 2] = ["0", "1"];
/// What is kept of a run, and in how many digits its names are found.
const FIGURES: [&str; 6] = ["cpu", "rate", "p50", "p99", "p99_9", "bytes"];

/// A scenario: its name, whether the bare forwarder can do it, and the words of `midge bench`.
pub(super) struct Scenario(pub(super) &'static str, bool, &'static [&'static str]);

const SCENARIOS: &[Scenario] = &[
    Scenario("fan-out 1 to 500, QoS 0, 1 in flight", true, &["fan-out", "--subscribers", "500"]),
    Scenario("fan-out 1 to 500, QoS 0, 20 in flight", true, &["fan-out", "--subscribers", "500", "--window", "20"]),
    Scenario("fan-out 1 to 500, QoS 1, 1 in flight", false, &["fan-out", "--subscribers", "500", "--qos", "1"]),
    Scenario("fan-in 200 to 1, QoS 0, 4 in flight", true, &["fan-in", "--publishers", "200", "--window", "4"]),
    Scenario("100 pairs, QoS 0, 10 in flight", true, &["pairs", "--clients", "100", "--window", "10"]),
    Scenario("100 pairs, QoS 1, 10 in flight", false, &["pairs", "--clients", "100", "--window", "10", "--qos", "1"]),
    Scenario("100 pairs, QoS 1, 5,000 a second", false, &["pairs", "--clients", "100", "--rate", "5000", "--qos", "1"]),
    Scenario("connect 5,000 clients", true, &["connect", "--clients", "5000"]),
];

/// The median of several rounds, and the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// For each scenario, broker and figure.
pub(super) type Results = BTreeMap<String, BTreeMap<String, BTreeMap<String, Spread>>>;

/// Runs everything; returns whether no figure of Midge became worse.
///
/// # Errors
/// A broker that can't be started, a load that can't be made, wrong arguments.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let (mut rounds, mut seconds) = (5_usize, 3_u32);
    for pair in words.chunks(2) {
        match pair {
            ["--rounds", number] => rounds = number.parse().context("--rounds N")?,
            ["--seconds", number] => seconds = number.parse().context("--seconds N")?,
            _ => bail!("usage: cargo xtask bench [--rounds N] [--seconds N]"),
        }
    }
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge"]))?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "midge-bench", "--example", "floor"]))?;
    let peers = peers::all();
    let mut samples: BTreeMap<(String, String, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        for Scenario(name, bare, words) in SCENARIOS {
            for peer in peers.iter().filter(|peer| *bare || !peer.is_floor()) {
                eprintln!("round {round} of {rounds}: {name}: {}", peer.name);
                let report = measure(peer, words, seconds)?;
                for (figure, value) in figures(&report) {
                    samples.entry(((*name).to_owned(), peer.name.clone(), figure)).or_default().push(value);
                }
            }
        }
    }
    let mut results = Results::new();
    for ((scenario, peer, figure), values) in samples {
        results.entry(scenario).or_default().entry(peer).or_default().insert(figure.to_owned(), Spread::of(values));
    }
    for Scenario(name, bare, words) in SCENARIOS.iter().filter(|scenario| scenario.2[0] != "connect") {
        for peer in peers.iter().filter(|peer| *bare || !peer.is_floor()) {
            if let Some(calls) = peers::calls_per_message(peer, words)? {
                let peers = results.entry((*name).to_owned()).or_default();
                peers
                    .entry(peer.name.clone())
                    .or_default()
                    .insert("calls".to_owned(), Spread { median: calls, low: calls, high: calls });
            }
        }
    }
    let folder = shell::root().join("docs/benchmarks");
    let worse = kept(&folder)?.map(|before| worsened(&before, &results)).unwrap_or_default();
    worse.iter().for_each(|line| eprintln!("worse: {line}"));
    if worse.is_empty() {
        let order: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.0).collect();
        tables::write(&folder, &results, &order, &peers, rounds, seconds)?;
    }
    Ok(worse.is_empty())
}

/// Loads a broker that lives as long as this takes; returns what `midge bench --json` says.
fn measure(peer: &Peer, words: &[&str], seconds: u32) -> Result<Value> {
    let running = peer.start(&["taskset", "-c", CORES[0]])?;
    let mut command = Command::new("taskset");
    command.args(["-c", CORES[1]]).arg(peers::midge()).arg("bench").args(words);
    command.args([&running.url(), "--mqtt", "3.1.1", "--quiet", "--json", "--pid", &running.pid().to_string()]);
    command.args(["--duration", &format!("{seconds}s")]);
    let report: Value = serde_json::from_str(&shell::output(&mut command)?)?;
    if report["lost"] != 0 || report["duplicated"] != 0 || report["misordered"] != 0 || report["refused"] != 0 {
        eprintln!("  {}: lost {}, refused {}", peer.name, report["lost"], report["refused"]);
    }
    Ok(report)
}

/// Returns the figures of a report that are kept.
fn figures(report: &Value) -> Vec<(&'static str, f64)> {
    let connects = report["scenario"] == "connect";
    let value = |figure: &str| match figure {
        "cpu" => report["broker"]["cpu_seconds_per_million"].as_f64(),
        "rate" => report["rate"].as_f64(),
        "bytes" => report["broker"]["bytes_per_client"].as_f64().filter(|_| connects),
        latency => report["latency"][latency].as_f64(),
    };
    FIGURES.iter().filter_map(|figure| Some((*figure, value(figure)?))).collect()
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        Self { median: at(values.len() / 2), low: at(0), high: at(values.len().saturating_sub(1)) }
    }

    fn width(&self) -> f64 {
        self.high - self.low
    }

    fn json(self) -> Value {
        json!([self.median, self.low, self.high])
    }

    fn read(value: &Value) -> Option<Self> {
        Some(Self { median: value[0].as_f64()?, low: value[1].as_f64()?, high: value[2].as_f64()? })
    }
}

/// Returns the results that the last run has left.
fn kept(folder: &Path) -> Result<Option<Results>> {
    let file = folder.join("broker.json");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(None) };
    let value: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let mut results = Results::new();
    for (scenario, peers) in value.as_object().into_iter().flatten() {
        for (peer, figures) in peers.as_object().into_iter().flatten() {
            for (figure, spread) in figures.as_object().into_iter().flatten() {
                let spread = Spread::read(spread).context("a figure is median, least and greatest")?;
                results.entry(scenario.clone()).or_default().entry(peer.clone()).or_default().insert(figure.clone(), spread);
            }
        }
    }
    Ok(Some(results))
}

/// Names the figures of Midge that are worse than before by more than what the rounds of either run differ.
fn worsened(before: &Results, after: &Results) -> Vec<String> {
    let mut worse = Vec::new();
    for (scenario, peers) in after {
        for (figure, now) in peers.get(peers::MIDGE).into_iter().flatten() {
            let Some(then) = before.get(scenario).and_then(|peers| peers.get(peers::MIDGE)?.get(figure)) else { continue };
            let change = if figure == "rate" { then.median - now.median } else { now.median - then.median };
            let noise = then.width().max(now.width()).max(then.median.abs() * 0.02);
            if change > noise {
                worse.push(format!("{scenario}: {figure} was {:.2}, is {:.2}, the noise is {noise:.2}", then.median, now.median));
            }
        }
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_the_noise_is_worse() {
        let of = |figure: &str, values: &[f64]| {
            let spread = Spread::of(values.to_vec());
            let figures = BTreeMap::from([(figure.to_owned(), spread)]);
            Results::from([("s".to_owned(), BTreeMap::from([(peers::MIDGE.to_owned(), figures)]))])
        };
        for (figure, before, after, worse) in [
            ("cpu", [9.0, 10.0, 11.0], [11.0, 11.9, 12.0], 0),
            ("cpu", [9.0, 10.0, 11.0], [12.0, 12.5, 13.0], 1),
            ("cpu", [10.0, 10.0, 10.0], [10.1, 10.1, 10.1], 0),
            ("cpu", [9.0, 10.0, 11.0], [1.0, 2.0, 3.0], 0),
            ("rate", [9.0, 10.0, 11.0], [12.0, 12.5, 13.0], 0),
            ("rate", [9.0, 10.0, 11.0], [5.0, 6.0, 7.0], 1),
        ] {
            assert_eq!(worsened(&of(figure, &before), &of(figure, &after)).len(), worse, "{figure} {before:?} {after:?}");
        }
        assert_eq!(worsened(&Results::new(), &of("cpu", &[1.0])), Vec::<String>::new());
    }
}
