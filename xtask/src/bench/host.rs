//! What the plugin costs the Mosquitto that loads it.
//!
//! The bench `host_cost` of the plugin measures one round at a time, so that its figures have a spread of rounds as others.
//! They are per cent of CPU for each delivered message over the same Mosquitto without access control, in the same round.

use anyhow::{Result, ensure};

use super::goals::Verdict;
use super::samples::{Results, Spread};
use crate::{plugin, shell};

pub(super) const KEY: &str = "plugin";
pub(super) const TITLE: &str = "what the plugin costs Mosquitto, in per cent";
/// The column of the plugin, and those of Mosquitto's own access control that it has to beat.
pub(super) const PLUGIN: &str = "Midge, 20 rules";
/// The most that it may cost, in per cent.
const MOST: f64 = 5.0;
/// The column of the plugin with all that can be switched on, and the most that this may cost.
const EVERYTHING: &str = "Midge, everything on";
const MOST_OF_EVERYTHING: f64 = 8.0;
/// What Mosquitto spends on having a plugin, which is no access control.
const NOTHING: &str = "a plugin that does nothing";
/// The fan-out that is measured, with 1 and with 20 messages in flight.
const FAN_OUT: &str = "500";
/// The oldest and the newest that load it on two interfaces; the bench has one between them, which would take too long here.
const VERSIONS: [&str; 2] = ["2.0.11", "2.1.2"];
/// Differences below this mean nothing, in per cent.
pub(super) const LEAST_NOISE: f64 = 2.0;

/// A cell of the bench's table: which Mosquitto and load, which access control, per cent.
pub(super) type Cell = (String, String, f64);

/// Builds what is measured.
///
/// # Errors
/// When the plugin can't be built here.
pub(super) fn build() -> Result<()> {
    plugin::run()?;
    shell::run(shell::cargo().args(["bench", "--package", "midge-plugin", "--bench", "host_cost", "--no-run"]))
}

/// Measures one round.
///
/// # Errors
/// When the bench fails, or prints something else than its table.
pub(super) fn round() -> Result<Vec<Cell>> {
    let mut all = Vec::new();
    for version in VERSIONS {
        let mut bench = shell::cargo();
        bench.args(["bench", "--quiet", "--package", "midge-plugin", "--bench", "host_cost", "--"]);
        let cells =
            cells(&shell::output(bench.args(["--table", "guards", "--rounds", "1", "--fan-out", FAN_OUT, "--version", version]))?);
        ensure!(!cells.is_empty(), "host_cost prints no table");
        all.extend(cells);
    }
    Ok(all)
}

/// Returns what became of the goals: at most five per cent, and less than either of Mosquitto's own.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (load, guards) in results.get(KEY).into_iter().flatten() {
        let found = guards.get(PLUGIN).copied();
        let is_own = |name: &str| ![PLUGIN, EVERYTHING, NOTHING].contains(&name);
        let own = guards.iter().filter(|(name, _)| is_own(name)).map(|(_, spread)| spread.median).fold(f64::INFINITY, f64::min);
        let reached = found.is_some_and(|Spread { median, .. }| median <= MOST && median < own);
        verdicts.push(Verdict {
            goal: format!("plugin in {load} at most {MOST} %, and less than Mosquitto's own"),
            formula: format!("{PLUGIN} / no access control, in the same round; Mosquitto's own: {own:.1} %"),
            found,
            reached,
        });
        let found = guards.get(EVERYTHING).copied();
        verdicts.push(Verdict {
            goal: format!("plugin with everything on in {load} at most {MOST_OF_EVERYTHING} %"),
            formula: format!("{EVERYTHING} / no access control, in the same round"),
            found,
            reached: found.is_some_and(|spread| spread.median <= MOST_OF_EVERYTHING),
        });
    }
    verdicts
}

/// Returns the names of the access controls, the plugin first.
pub(super) fn columns(results: &Results) -> Vec<&str> {
    let first = results.get(KEY).and_then(|loads| loads.values().next());
    let mut names: Vec<&str> = first.into_iter().flat_map(|guards| guards.keys().map(String::as_str)).collect();
    names.sort_by_key(|name| *name != PLUGIN);
    names
}

/// Reads lines `| version | load | QoS | in flight | base | cost (+1.0 %) | …` below their head.
fn cells(text: &str) -> Vec<Cell> {
    let mut rows =
        text.lines().filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect::<Vec<_>>()));
    let head = rows.next().unwrap_or_default();
    let mut cells = Vec::new();
    for row in rows {
        let [version, load, qos, in_flight, _, guards @ ..] = row.as_slice() else { continue };
        for (guard, cell) in head.iter().skip(5).zip(guards) {
            let percent = cell.split_once('(').and_then(|(_, rest)| rest.trim_end_matches([')', ' ', '%']).trim().parse().ok());
            if let Some(percent) = percent {
                cells.push((
                    format!("Mosquitto {version}, {load}, QoS {qos}, {in_flight} in flight"),
                    (*guard).to_owned(),
                    percent,
                ));
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_of_the_bench_is_read() {
        let text = "| Mosquitto | load | QoS | in flight | no access control | Midge, 20 rules | acl_file |\n|---|---|---:|---:|---:|---:|---:|\n\
                    | 2.1.2 | 1 to 500 | 0 | 20 | 3.39 (+0.0 %) | 3.51 (+4.3 %) | 3.00 (-1.5 %) |\n\nMicroseconds.\n";
        let load = "Mosquitto 2.1.2, 1 to 500, QoS 0, 20 in flight".to_owned();
        assert_eq!(cells(text), [(load.clone(), PLUGIN.to_owned(), 4.3), (load, "acl_file".to_owned(), -1.5)]);
        assert_eq!(cells(""), []);
    }

    #[test]
    fn what_has_to_be_beaten_is_access_control() {
        let guards = [(PLUGIN, 2.4), (EVERYTHING, 2.5), (NOTHING, -0.1), ("acl_file, 100 rules", 14.5), ("dynamic-security", 2.7)];
        let reached = |plugin: f64| {
            let row = guards.map(|(name, value)| {
                let value = if name == PLUGIN { plugin } else { value };
                (name.to_owned(), Spread::of(vec![value]).expect("one value"))
            });
            let results = Results::from([(KEY.to_owned(), BTreeMap::from([("a load".to_owned(), BTreeMap::from(row))]))]);
            verdicts(&results)[0].reached
        };
        assert_eq!([2.4, 2.8, -0.2].map(reached), [true, false, true]);
    }
}
