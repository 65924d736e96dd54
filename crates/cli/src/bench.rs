//! `midge bench`: loads any broker, and counts what arrives.
//!
//! Progress goes to standard error once a second, the answer to standard output.
//! A password comes from a file, never from an argument.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use midge_bench::{Fleet, Pace, Plan, Progress, Protocol, Ramp, Scenario, Sizes, Target, Tls};

use crate::failure::Answer;
use crate::output::Output;
use crate::span::Span;

/// Who does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Clients connect.
    Connect,
    /// Connected clients subscribe.
    Subscribe,
    /// Publishers without subscribers.
    Publish,
    /// Publishers with a subscriber each.
    Pairs,
    /// Many publishers, few subscribers of everything.
    FanIn,
    /// Few publishers, many subscribers of everything.
    FanOut,
    /// Shared subscriptions.
    Shared,
    /// Requests and answers.
    RequestResponse,
    /// Phones: mostly idle, rare pushes, reconnect storms.
    Phones,
}

/// What to load, with what.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct BenchCommand {
    /// Who does what.
    scenario: Kind,
    /// The broker: mqtt://, mqtts://, ws:// or wss://HOST:PORT.
    #[arg(default_value = "mqtt://127.0.0.1:1883")]
    url: Target,
    /// Clients of connect and subscribe, pairs, requesters, or phones.
    #[arg(long, value_name = "N")]
    clients: Option<u32>,
    /// Publishers.
    #[arg(long, value_name = "N")]
    publishers: Option<u32>,
    /// Subscribers; of shared, the members of all groups together.
    #[arg(long, value_name = "N")]
    subscribers: Option<u32>,
    /// Groups of shared subscriptions.
    #[arg(long, value_name = "N")]
    groups: Option<u32>,
    /// Clients that answer requests.
    #[arg(long, value_name = "N")]
    responders: Option<u32>,
    /// Topic filters of each client of subscribe.
    #[arg(long, value_name = "N")]
    filters: Option<u32>,
    /// How often phones lose their connections together.
    #[arg(long, value_name = "TIME")]
    storm_every: Option<Span>,
    /// The part of the phones that a storm concerns, 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = 0.5)]
    storm_part: f64,

    /// The version of MQTT.
    #[arg(long, value_name = "3.1.1|5", default_value = "5", value_parser = ["3.1.1", "5"])]
    mqtt: String,
    /// The quality of service.
    #[arg(long, value_name = "0|1|2", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Payload bytes, at least 32: 64, 64..1024 evenly, or 64:90,4096:10 by weight.
    #[arg(long, value_name = "SIZES", default_value = "64")]
    payload: Sizes,
    /// Open loop: messages a second of all publishers together, whatever the broker does.
    #[arg(long, value_name = "N", conflicts_with = "window")]
    rate: Option<f64>,
    /// Closed loop: messages of each publisher on their way.
    #[arg(long, value_name = "N", default_value_t = 1)]
    window: u32,
    /// Send so many messages in all, instead of for a duration.
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    duration: Span,
    /// How long to load before.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    warmup: Span,
    /// How long to wait for messages when nothing comes any more.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    drain: Span,
    /// How long connecting and subscribing may take.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    patience: Span,

    /// Connections begun in a second.
    #[arg(long, value_name = "N")]
    connect_rate: Option<f64>,
    /// Connections under way at once in each process, where there is no rate.
    #[arg(long, value_name = "N", default_value_t = 64)]
    connect_window: u32,
    /// Seconds of keep alive; 0 turns it off.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u16,
    /// The username; %i in it becomes the client's number.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// The file with the password; %i in it becomes the client's number.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Addresses to connect from, taken in turn: 127.0.0.2,127.0.0.3.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    source: Vec<IpAddr>,
    /// What topics and client identifiers begin with.
    #[arg(long, value_name = "TEXT", default_value = "bench")]
    prefix: String,

    /// The file with the authorities that TLS trusts, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any certificate.
    #[arg(long)]
    insecure: bool,
    /// The client's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the client's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Processes that load together, as one run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: u32,
    /// The broker's process on this machine, to tell its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Write a plot of the latencies.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Answer with exit code 1 when anything was lost, came twice or out of order, or a client was refused or cut off.
    #[arg(long)]
    strict: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

const HELP: &str = "\
Lost, duplicated and misordered messages are counted in every run.
With --rate, \"from due\" counts from where the schedule put a message (corrected for coordinated omission), \"from sent\" from \
where it was sent. Without it, each publisher waits for its window, and both are the same.

Examples:
  midge bench fan-out --subscribers 500 --rate 20
  midge bench pairs --clients 100 --qos 1 --rate 5000 --svg latency.svg
  midge bench connect mqtts://broker.example --ca ca.pem --clients 10000 --connect-rate 500
  midge bench phones --clients 5000 --qos 1 --rate 50 --storm-every 10s --duration 1m";

impl BenchCommand {
    /// Runs the load and answers what came of it.
    pub(crate) fn run(&self, output: &mut Output) -> Result<Answer> {
        let plan = self.plan()?;
        let program = std::env::current_exe().context("this program can't be found")?;
        let child = || {
            let mut command = Command::new(&program);
            command.arg("bench-process");
            command
        };
        let fleet = if self.processes > 1 { Fleet::Commands(&child) } else { Fleet::Threads };
        let quiet = self.quiet;
        let report = midge_bench::run(&plan, &fleet, &mut |progress| {
            if !quiet {
                show(progress);
            }
        })?;
        if let Some(path) = &self.svg {
            std::fs::write(path, report.svg()).with_context(|| format!("{} can't be written", path.display()))?;
        }
        if output.is_json() {
            output.document(&report)?;
        } else {
            report.to_string().lines().try_for_each(|line| output.line(line))?;
        }
        Ok(if self.strict && !report.is_clean() { Answer::No } else { Answer::Yes })
    }

    fn plan(&self) -> Result<Plan> {
        let plan = Plan::new(self.url.clone(), self.scenario()?)?;
        let password = match &self.password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => None,
        };
        Ok(Plan {
            tls: Tls { authorities: self.ca.clone(), insecure: self.insecure, identity: self.cert.clone().zip(self.key.clone()) },
            protocol: if self.mqtt == "5" { Protocol::V5 } else { Protocol::V311 },
            qos: self.qos,
            sizes: self.payload.clone(),
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            messages: self.messages,
            duration: self.duration.into(),
            warmup: self.warmup.into(),
            drain: self.drain.into(),
            patience: self.patience.into(),
            ramp: Ramp { rate: self.connect_rate, concurrent: self.connect_window },
            keep_alive: self.keep_alive,
            username: self.username.clone(),
            password,
            sources: self.source.clone(),
            prefix: self.prefix.clone(),
            processes: self.processes,
            pid: self.pid,
            ..plan
        })
    }

    fn scenario(&self) -> Result<Scenario> {
        let publishers = self.publishers.unwrap_or(1);
        let subscribers = self.subscribers.unwrap_or(1);
        let clients = self.clients.unwrap_or(1);
        let (scenario, takes): (_, &[&str]) = match self.scenario {
            Kind::Connect => (Scenario::Connect { clients }, &["clients"]),
            Kind::Subscribe => (Scenario::Subscribe { clients, filters: self.filters.unwrap_or(1) }, &["clients", "filters"]),
            Kind::Publish => (Scenario::Publish { publishers }, &["publishers"]),
            Kind::Pairs => (Scenario::Pairs { pairs: clients }, &["clients"]),
            Kind::FanIn => (Scenario::FanIn { publishers, subscribers }, &["publishers", "subscribers"]),
            Kind::FanOut => (Scenario::FanOut { publishers, subscribers }, &["publishers", "subscribers"]),
            Kind::Shared => (
                Scenario::Shared { publishers, subscribers, groups: self.groups.unwrap_or(1) },
                &["publishers", "subscribers", "groups"],
            ),
            Kind::RequestResponse => {
                let responders = self.responders.unwrap_or(1);
                (Scenario::RequestResponse { requesters: clients, responders }, &["clients", "responders"])
            }
            Kind::Phones => {
                let storm_every = self.storm_every.map(Duration::from).unwrap_or_default();
                let phones = Scenario::Phones { phones: clients, publishers, storm_every, storm_part: self.storm_part };
                (phones, &["clients", "publishers", "storm-every"])
            }
        };
        let given = [
            ("clients", self.clients.is_some()),
            ("publishers", self.publishers.is_some()),
            ("subscribers", self.subscribers.is_some()),
            ("groups", self.groups.is_some()),
            ("responders", self.responders.is_some()),
            ("filters", self.filters.is_some()),
            ("storm-every", self.storm_every.is_some()),
        ];
        if let Some((name, _)) = given.into_iter().find(|(name, given)| *given && !takes.contains(name)) {
            bail!("{} has no --{name}; it takes --{}", scenario.name(), takes.join(", --"));
        }
        Ok(scenario)
    }
}

/// Is one of the processes of a run.
pub(crate) fn obey() -> Result<Answer> {
    midge_bench::obey()?;
    Ok(Answer::Yes)
}

fn show(progress: &Progress) {
    let Progress { elapsed, connected, sent, received, backlog, duplicated, misordered } = progress;
    eprintln!(
        "{:>5} s  clients {connected}  sent {sent}  received {received}  waiting {backlog}  duplicated {duplicated}  misordered {misordered}",
        elapsed.as_secs()
    );
}
