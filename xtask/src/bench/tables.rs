//! Writes what a comparison came to: tables, a picture, figures.
//!
//! Whatever was not measured stands there with its reason.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::rows::{self, Row};
use super::samples::{Results, Spread};
use super::{Run, goals, host, picture};
use crate::shell;

/// Each figure: its key, how it is headed, and its decimals.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("cpu", "CPU s per million", 2),
    ("per_cpu", "messages per CPU second", 0),
    ("rate", "a second", 0),
    ("p50", "p50, us", 0),
    ("p99", "p99, us", 0),
    ("p99_9", "p99.9, us", 0),
    ("bytes", "process bytes per connection", 0),
    ("socket", "kernel bytes per socket", 0),
    ("calls", "system calls per message", 2),
    ("lost", "lost", 0),
];

/// Writes `broker.json`, `broker.md` and `broker.svg` into a folder.
pub(super) fn write(folder: &Path, run: &Run, results: &Results) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let machine = machine();
    std::fs::write(folder.join("broker.json"), portable(&format!("{:#}\n", document(run, &machine, results))))?;
    std::fs::write(folder.join("broker.svg"), picture::draw(results, &run.peers))?;
    let mut text = head(run, &machine);
    goals_table(run, results, &mut text);
    for row in rows::all().filter(|row| run.options.has_row(row.key)) {
        table(run, row, results, &mut text);
    }
    if run.options.has_row(host::KEY) {
        plugin(run, results, &mut text);
    }
    configurations(run, &mut text);
    std::fs::write(folder.join("broker.md"), portable(&text))?;
    Ok(())
}

fn head(run: &Run, machine: &str) -> String {
    let mut text = format!(
        "# Brokers, in turns\n\nWritten by `{}`; [broker.json](broker.json) has the figures.\n\n{machine}\n\
         Each broker was pinned to core 0 and the load, `midge bench`, to core 1 of this machine, over loopback, with 64 bytes of payload, \
         MQTT 3.1.1, without passwords and without persistence.\n\
         Figures are medians of {} rounds in which the brokers took turns, with the least and the greatest in brackets; \
         Aedes and amqtt run in interpreters and were measured once.\n\
         CPU is that of the broker's process, user and system, for each million of messages delivered, or of connections.\n\
         System calls were counted in runs of their own: `strace -c -f`, a load of few messages taken from one of many.\n\
         `floor` forwards bytes and does nothing else.\n\
         `Midge, everything on` has a user with a password, 20 rules, hot topics and presence; `Midge` has none of them.\n\n\
         ![CPU seconds per million](broker.svg)\n",
        run.options.command(),
        run.options.rounds,
    );
    let unasked: Vec<_> = run.absent.iter().collect();
    if !unasked.is_empty() {
        text.push_str("\nNot measured:\n\n");
        unasked.iter().for_each(|(name, why)| _ = writeln!(text, "* {name}: {why}"));
    }
    text
}

fn goals_table(run: &Run, results: &Results, text: &mut String) {
    text.push_str(
        "\n## Goals\n\nA goal that depends on the machine was set beside a reference; here it is the same part of what the reference has in this run, \
         round by round.\n\n| row | goal | here | Midge | |\n|---|---|---|---:|---|\n",
    );
    let rows = rows::all().filter(|row| run.options.has_row(row.key)).map(|row| (row.title, goals::verdicts(row, results)));
    for (title, verdicts) in rows.chain([(host::TITLE, host::verdicts(results))]) {
        for verdict in verdicts {
            let found = verdict.found.as_ref().map_or("not measured".to_owned(), |found| cell(found, 3));
            let word = match (&verdict.found, verdict.reached) {
                (None, _) => "unknown",
                (_, true) => "reached",
                (_, false) => "**missed**",
            };
            let _ = writeln!(text, "| {title} | {} | {} | {found} | {word} |", verdict.goal, verdict.formula);
        }
    }
}

fn table(run: &Run, row: &Row, results: &Results, text: &mut String) {
    let empty = std::collections::BTreeMap::new();
    let figures = results.get(row.key).unwrap_or(&empty);
    let shown: Vec<_> = COLUMNS.iter().filter(|(key, ..)| figures.values().any(|figures| figures.contains_key(*key))).collect();
    let heads: String = shown.iter().map(|(_, head, _)| format!(" {head} |")).collect();
    let _ = writeln!(text, "\n## {}\n\n`--only {}`\n\n| |{heads}\n|---|{}", row.title, row.key, "---:|".repeat(shown.len()));
    for peer in &run.peers {
        let Some(figures) = figures.get(peer.name) else { continue };
        let cells =
            shown.iter().map(|(key, _, decimals)| figures.get(*key).map_or(String::new(), |spread| cell(spread, *decimals)));
        let _ = writeln!(text, "| {} | {} |", peer.name, cells.collect::<Vec<_>>().join(" | "));
    }
    failures(run, row.key, text);
}

fn plugin(run: &Run, results: &Results, text: &mut String) {
    let columns = host::columns(results);
    let _ = writeln!(
        text,
        "\n## {}\n\n`--only {}`; CPU of Mosquitto for each delivered message, over the same Mosquitto without access control in the same round, \
         by `cargo bench -p midge-plugin --bench host_cost`.\n\n| | {} |\n|---|{}",
        host::TITLE,
        host::KEY,
        columns.join(" | "),
        "---:|".repeat(columns.len())
    );
    for (load, guards) in results.get(host::KEY).into_iter().flatten() {
        let cells = columns.iter().map(|name| guards.get(*name).map_or(String::new(), |spread| cell(spread, 1)));
        let _ = writeln!(text, "| {load} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    failures(run, host::KEY, text);
}

fn failures(run: &Run, row: &str, text: &mut String) {
    let failed: Vec<_> = run.failed.iter().filter(|((key, _), _)| *key == row).collect();
    if !failed.is_empty() {
        text.push('\n');
        failed.iter().for_each(|((_, peer), why)| _ = writeln!(text, "* {peer}: {why}"));
    }
}

fn configurations(run: &Run, text: &mut String) {
    text.push_str("\n## How each was started\n");
    for peer in &run.peers {
        let _ = writeln!(text, "\n{}: `{}`", peer.name, peer.words("PORT").join(" "));
        if let Some((file, lines)) = peer.configuration("PORT") {
            let _ = writeln!(text, "\n`{file}`:\n");
            lines.lines().for_each(|line| _ = writeln!(text, "    {line}"));
        }
    }
}

/// Takes this machine's folders out of a text, where commands and the errors of tools have left them.
fn portable(text: &str) -> String {
    let text = text.replace(&shell::target().display().to_string(), "target").replace(&shell::root().display().to_string(), ".");
    match std::env::var("HOME") {
        Ok(home) if home.len() > 1 => text.replace(&home, "~"),
        _ => text,
    }
}

fn cell(spread: &Spread, decimals: usize) -> String {
    let Spread { median, low, high } = spread;
    if low == high {
        format!("{median:.decimals$}")
    } else {
        format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})")
    }
}

fn document(run: &Run, machine: &str, results: &Results) -> Value {
    let mut rows = json!({});
    for (row, peers) in results {
        for (peer, figures) in peers {
            for (figure, spread) in figures {
                rows[row][peer][figure] = spread.json();
            }
        }
    }
    let failed: Vec<Value> = run.failed.iter().map(|((row, peer), why)| json!({"row": row, "peer": peer, "why": why})).collect();
    json!({"command": run.options.command(), "machine": machine, "absent": run.absent, "failed": failed, "rows": rows})
}

fn machine() -> String {
    let line = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found = text
            .lines()
            .find(|line| line.starts_with(key))
            .map(|line| line.split([':', '=']).next_back().unwrap_or("").trim().to_owned());
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit =
        shell::output(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(shell::root())).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Machine: {cores} cores of {}, Linux {}, {}. Midge is the `release` build of {}.",
        line("/proc/cpuinfo", "model name"),
        kernel.trim(),
        line("/etc/os-release", "PRETTY_NAME"),
        commit.trim()
    )
}
