//! Measures what the plugin costs the Mosquitto it sits in.
//!
//! The same Mosquitto runs without any access control, with a plugin that does nothing, with Midge, with the plugin and all that can be switched on, with
//! its own `acl_file` of 100 rules and with its dynamic-security plugin; each is pinned to core 0, this program to core 1, and
//! they take turns, many times a second.
//! The figure is the CPU time of all of the broker's threads (user and system, from the kernel's accounting) per delivered message.
//! A second table sets a delivery that a list asked for beside one that the client asked for itself.
//!
//! `cargo bench -p midge-plugin --bench host_cost [-- --rounds N --version 2.0.11 --fan-out 500 --times 10 --table guards|copies]`; needs `cargo xtask plugin` before.

#![allow(clippy::indexing_slicing, reason = "a panic ends the measurement, which is what it should do")]

#[path = "host_cost/broker.rs"]
mod broker;
#[path = "host_cost/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};

use midge_testkit::{MosquittoVersion, RedisServer, RedisVersion, workspace};

use broker::{Broker, Guard};
use load::{Load, measure};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VERSIONS: [MosquittoVersion; 3] = [MosquittoVersion::V2_0_11, MosquittoVersion::V2_0_21, MosquittoVersion::V2_1_2];

fn fan_out(fan_out: usize, in_flight: usize, turns: usize, qos: u8) -> Load {
    Load { groups: 1, fan_out, in_flight, turns, qos, subscribes: true }
}

fn pairs(in_flight: usize, turns: usize, qos: u8) -> Load {
    Load { groups: 100, fan_out: 1, in_flight, turns, qos, subscribes: true }
}

fn loads() -> [Load; 7] {
    [
        fan_out(1, 1, 4_000, 0),
        fan_out(10, 1, 2_000, 0),
        fan_out(100, 1, 1_000, 0),
        fan_out(500, 1, 300, 0),
        fan_out(500, 20, 20, 0),
        pairs(10, 100, 0),
        pairs(10, 60, 1),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of the ratios within each round, so that a clock rate that changes between rounds changes nothing.
fn ratio(figures: &[f64], base: &[f64]) -> f64 {
    median(figures.iter().zip(base).map(|(figure, base)| figure / base).collect())
}

/// What the arguments ask for.
struct Plan {
    rounds: usize,
    version: Option<String>,
    fan_out: Option<usize>,
    times: usize,
    table: Option<String>,
}

impl Plan {
    fn parse() -> Result<Self> {
        let arguments: Vec<String> = std::env::args().collect();
        let value =
            |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned();
        Ok(Self {
            rounds: value("--rounds").map_or(Ok(5), |text| text.parse())?,
            version: value("--version"),
            fan_out: value("--fan-out").map(|text| text.parse()).transpose()?,
            times: value("--times").map_or(Ok(1), |text| text.parse())?,
            table: value("--table"),
        })
    }

    fn versions(&self) -> impl Iterator<Item = MosquittoVersion> {
        VERSIONS.into_iter().filter(|version| self.version.as_ref().is_none_or(|only| only == version.label()))
    }

    fn measure(&self, version: MosquittoVersion, guards: &[Guard], load: Load, redis: &RedisServer) -> Result<Vec<f64>> {
        let dir = tempfile::tempdir()?;
        let start = |guard: &Guard| Broker::start(version, *guard, dir.path(), redis);
        let brokers = guards.iter().map(start).collect::<Result<Vec<_>>>()?;
        measure(&brokers, Load { turns: load.turns * self.times, ..load })
    }

    /// Prints what each guard costs.
    fn guards(&self, redis: &RedisServer) -> Result<()> {
        println!("| Mosquitto | load | QoS | in flight | {} |", Guard::ALL.map(Guard::name).join(" | "));
        println!("|---|---|---:|---:|{}", "---:|".repeat(Guard::ALL.len()));
        for version in self.versions() {
            for load in loads().into_iter().filter(|load| self.fan_out.is_none_or(|only| only == load.fan_out)) {
                let mut figures: BTreeMap<Guard, Vec<f64>> = BTreeMap::new();
                for _ in 0..self.rounds {
                    for (guard, figure) in Guard::ALL.into_iter().zip(self.measure(version, &Guard::ALL, load, redis)?) {
                        figures.entry(guard).or_default().push(figure);
                    }
                }
                let cell = |guard: Guard| {
                    let over = (ratio(&figures[&guard], &figures[&Guard::None]) - 1.0) * 100.0;
                    format!("{:.2} ({over:+.1} %)", median(figures[&guard].clone()))
                };
                println!("| {} | {} | {} |", version.label(), load.name(), Guard::ALL.map(cell).join(" | "));
            }
        }
        println!("\nMicroseconds of broker CPU per delivered message, median of {} rounds;", self.rounds);
        println!("in brackets the median of the ratios to no access control in the same round.\n");
        Ok(())
    }

    /// Prints what a delivery costs that a list asked for.
    fn copies(&self, redis: &RedisServer) -> Result<()> {
        println!("| Mosquitto | load | QoS | in flight | the client subscribed | a list did | ratio |");
        println!("|---|---|---:|---:|---:|---:|---:|");
        for version in self.versions() {
            let chosen = [fan_out(1, 1, 4_000, 0), fan_out(500, 1, 300, 0), fan_out(500, 20, 20, 0), fan_out(500, 1, 200, 1)];
            for load in chosen.into_iter().filter(|load| self.fan_out.is_none_or(|only| only == load.fan_out)) {
                let (mut own, mut listed) = (Vec::new(), Vec::new());
                for round in 0..self.rounds * 2 {
                    let subscribes = round % 2 == usize::from(round % 4 < 2);
                    let into = if subscribes { &mut own } else { &mut listed };
                    let (key, filter) = ("midge:user:{bench}:autosub", "site/+/line/+/temperature");
                    // No-local, since the publisher is the same user's.
                    let options = format!("{},nl", load.qos);
                    redis.cli(&if subscribes { vec!["HDEL", key, filter] } else { vec!["HSET", key, filter, &options] })?;
                    into.extend(self.measure(version, &[Guard::Everything], Load { subscribes, ..load }, redis)?);
                }
                let cells = format!("{:.2} | {:.2} | {:.2}", median(own.clone()), median(listed.clone()), ratio(&listed, &own));
                println!("| {} | {} | {cells} |", version.label(), load.name());
            }
        }
        println!(
            "\nMicroseconds of broker CPU per delivered message; the ratio is the median of those within {} rounds.",
            self.rounds
        );
        Ok(())
    }
}

fn main() -> Result<()> {
    let plan = Plan::parse()?;
    Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status()?;
    if !workspace().join("dist/midge.so").exists() {
        return Err("dist/midge.so is missing: run `cargo xtask plugin`".into());
    }
    let redis = RedisServer::builder(RedisVersion::Redis7).start()?;
    redis.cli(&["HSET", "midge:user:{bench}", "password", "{plain}bench"])?;
    for n in 0..19 {
        redis.cli(&["HSET", "midge:user:{bench}:acl", &format!("site/{}/line/{n}/+", n + 100), "prs"])?;
    }
    redis.cli(&["HSET", "midge:user:{bench}:acl", "site/+/line/#", "prs"])?;
    // A list that no message of the load is for.
    redis.cli(&["HSET", "midge:user:{bench}:autosub", "push/%c/#", "1"])?;
    let wants = |table: &str| plan.table.as_ref().is_none_or(|only| only == table);
    if wants("guards") {
        plan.guards(&redis)?;
    }
    if wants("copies") {
        plan.copies(&redis)?;
    }
    Ok(())
}
