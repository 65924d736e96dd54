//! Writes what a comparison came to: tables, a picture, figures.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::peers::Peer;
use super::{Results, Spread};
use crate::shell;

/// Each figure: its key, how it is headed, and its decimals.
const COLUMNS: [(&str, &str, usize); 7] = [
    ("cpu", "CPU s per million", 2),
    ("calls", "system calls per message", 2),
    ("rate", "a second", 0),
    ("p50", "p50, us", 0),
    ("p99", "p99, us", 0),
    ("p99_9", "p99.9, us", 0),
    ("bytes", "bytes per connection", 0),
];
const COLOURS: [&str; 7] = ["#bbb", "#06c", "#a43", "#c75", "#ea8", "#484", "#7a7"];
/// Where bars begin, and how long the longest is.
const BARS: (f64, f64) = (300.0, 340.0);
const ROW: f64 = 16.0;

/// Writes `broker.json`, `broker.md` and `broker.svg` into a folder.
pub(super) fn write(folder: &Path, results: &Results, order: &[&str], peers: &[Peer], rounds: usize, seconds: u32) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("broker.json"), format!("{:#}\n", document(results)))?;
    std::fs::write(folder.join("broker.svg"), picture(results, order, peers))?;
    let mut text = format!(
        "# Brokers, in turns\n\nWritten by `cargo xtask bench --rounds {rounds} --seconds {seconds}`; [broker.json](broker.json) has the figures.\n\n\
         {}\nEach broker was pinned to core 0 and the load, `midge bench`, to core 1 of this machine, over loopback, with 64 bytes of payload, \
         MQTT 3.1.1 and no persistence of messages.\n\
         Figures are medians of {rounds} rounds in which the brokers took turns, with the least and the greatest in brackets; \
         CPU is that of the broker's process, for each million of messages delivered, or of connections.\n\
         System calls were counted once, by `strace -c -f`, which slows a broker and so lets more gather in one call: read them among one another.\n\
         `floor` forwards bytes and does nothing else.\n\n![CPU seconds per million](broker.svg)\n",
        machine()
    );
    let absent: Vec<&str> = ["rumqttd", "rmqttd"].into_iter().filter(|name| peers.iter().all(|peer| peer.name != *name)).collect();
    if !absent.is_empty() {
        let _ = writeln!(text, "\nNot compared, as they are not in `target/peers/bin`: {}.", absent.join(", "));
    }
    for scenario in order {
        table(scenario, results, peers, &mut text);
    }
    std::fs::write(folder.join("broker.md"), text)?;
    Ok(())
}

fn table(scenario: &str, results: &Results, peers: &[Peer], text: &mut String) {
    let Some(figures) = results.get(scenario) else { return };
    let shown: Vec<_> = COLUMNS.iter().filter(|(key, ..)| figures.values().any(|figures| figures.contains_key(*key))).collect();
    let heads: Vec<&str> = shown.iter().map(|(_, head, _)| *head).collect();
    let _ = writeln!(text, "\n## {scenario}\n\n| | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(heads.len()));
    for peer in peers {
        let Some(figures) = figures.get(&peer.name) else { continue };
        let cells: Vec<String> = shown
            .iter()
            .map(|(key, _, decimals)| figures.get(*key).map_or(String::new(), |spread| cell(spread, *decimals)))
            .collect();
        let _ = writeln!(text, "| {} | {} |", peer.name, cells.join(" | "));
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

fn document(results: &Results) -> Value {
    let mut document = json!({});
    for (scenario, peers) in results {
        for (peer, figures) in peers {
            for (figure, spread) in figures {
                document[scenario][peer][figure] = spread.json();
            }
        }
    }
    document
}

/// Draws the CPU time of each scenario as bars, the longest of each scenario as long as any.
fn picture(results: &Results, order: &[&str], peers: &[Peer]) -> String {
    let (mut body, mut y) = (String::new(), 24.0);
    for scenario in order {
        let cpu = |peer: &Peer| results.get(*scenario)?.get(&peer.name)?.get("cpu").map(|spread| spread.median);
        let longest = peers.iter().filter_map(cpu).fold(f64::MIN_POSITIVE, f64::max);
        let _ = writeln!(body, "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{scenario}</text>");
        for (peer, colour) in peers.iter().zip(COLOURS) {
            let Some(value) = cpu(peer) else { continue };
            y += ROW;
            let width = BARS.1 * value / longest;
            let _ = writeln!(body, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>", BARS.0 - 8.0, peer.name);
            let _ =
                writeln!(body, "<rect x=\"{}\" y=\"{}\" width=\"{width:.1}\" height=\"12\" fill=\"{colour}\"/>", BARS.0, y - 10.0);
            let _ = writeln!(body, "<text x=\"{:.1}\" y=\"{y}\">{value:.2}</text>", BARS.0 + width + 6.0);
        }
        y += 2.0 * ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"720\" height=\"{y}\" fill=\"white\"/>\n{body}</svg>\n"
    )
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
        "Machine: {cores} cores of {}, Linux {}, {}. Midge is the `release` build of {}.\n",
        line("/proc/cpuinfo", "model name"),
        kernel.trim(),
        line("/etc/os-release", "PRETTY_NAME"),
        commit.trim()
    )
}
