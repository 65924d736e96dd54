//! What came of a run: table, JSON, picture.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::{Pace, Protocol};
use crate::recorder::Recorder;
use crate::wire::{Counts, Outcome};
use crate::{BenchError, Plan, plot};

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The protocol's version: 3.1.1 or 5.
    pub protocol: &'static str,
    /// The QoS.
    pub qos: u8,
    /// Clients of the plan.
    pub clients: u64,
    /// Processes of the load.
    pub processes: u32,
    /// Messages a second that the plan asked for; none in a closed loop.
    pub rate_asked: Option<f64>,
    /// Messages of each publisher on their way; none in an open loop.
    pub window: Option<u32>,
    /// Clients that were let in.
    pub connected: u64,
    /// Clients that were not.
    pub refused: u64,
    /// Clients that never heard.
    pub unanswered: u64,
    /// Connections that ended before the run did.
    pub disconnected: u64,
    /// Connections that were made again.
    pub reconnected: u64,
    /// Subscriptions that were granted.
    pub subscribed: u64,
    /// Messages sent, answers included.
    pub sent: u64,
    /// Messages that were due and never sent.
    pub unsent: u64,
    /// Messages acknowledged by the broker.
    pub acknowledged: u64,
    /// Messages that the broker refused.
    pub rejected: u64,
    /// Deliveries that there should have been.
    pub expected: u64,
    /// Messages received, duplicates included.
    pub received: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came again.
    pub duplicated: u64,
    /// Deliveries that came after a later message of their publisher.
    pub misordered: u64,
    /// Messages of somebody else.
    pub foreign: u64,
    /// What was measured: deliveries, or acknowledgements, connections or subscriptions where the scenario is of these.
    pub measured: u64,
    /// From the first to the last thing measured.
    pub seconds: f64,
    /// Measured things a second.
    pub rate: f64,
    /// From where a message was due to its arrival.
    pub latency: Latency,
    /// From where it was sent; the same in a closed loop.
    pub latency_uncorrected: Latency,
    /// The part of its time that the busiest process of the load worked: near 1, it is the load that was measured.
    pub load: f64,
    /// The broker's process.
    pub broker: Option<Process>,
    /// The first few things that went wrong.
    pub troubles: Vec<String>,
    #[serde(skip)]
    recorder: Recorder,
}

/// A distribution, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p99_9: f64,
    /// The greatest.
    pub max: f64,
}

/// What a run cost the broker's process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Process {
    /// CPU time of all its threads while it was measured, in seconds.
    pub cpu_seconds: f64,
    /// The same for a million of what was measured.
    pub cpu_seconds_per_million: f64,
    /// Growth of its private memory from before the run to its end, in bytes for each client.
    pub bytes_per_client: i64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcomes: Vec<Outcome>, measured_from: u64, broker: Option<Process>) -> Self {
        let (mut counts, mut recorder, mut troubles) = (Counts::default(), Recorder::default(), Vec::new());
        let (mut last, mut cpu) = (measured_from, Duration::ZERO);
        for outcome in outcomes {
            counts += outcome.counts;
            recorder.add(&outcome.latencies);
            troubles.extend(outcome.troubles);
            last = last.max(outcome.last);
            cpu = cpu.max(outcome.cpu);
        }
        let expected = counts.sent * plan.copies();
        let seconds = Duration::from_nanos(last - measured_from).as_secs_f64();
        let warmup = if plan.measures_all() { 0.0 } else { plan.warmup.as_secs_f64() };
        let per = |count: u64, time: f64| if time > 0.0 { approximate(count) / time } else { 0.0 };
        let broker = broker.map(|broker| Process {
            cpu_seconds_per_million: if counts.measured == 0 {
                0.0
            } else {
                broker.cpu_seconds * 1e6 / approximate(counts.measured)
            },
            ..broker
        });
        Self {
            scenario: plan.scenario.name(),
            protocol: if plan.protocol == Protocol::V5 { "5" } else { "3.1.1" },
            qos: plan.qos,
            clients: plan.clients(),
            processes: plan.processes,
            rate_asked: if let Pace::Rate(rate) = plan.pace { Some(rate) } else { None },
            window: if let Pace::Window(window) = plan.pace { Some(window) } else { None },
            connected: counts.connected,
            refused: counts.refused,
            unanswered: plan.clients().saturating_sub(counts.connected + counts.refused),
            disconnected: counts.disconnected,
            reconnected: counts.reconnected,
            subscribed: counts.subscribed,
            sent: counts.sent,
            unsent: counts.backlog,
            acknowledged: counts.acknowledged,
            rejected: counts.rejected,
            expected,
            received: counts.received,
            lost: expected.saturating_sub(counts.received - counts.duplicated),
            duplicated: counts.duplicated,
            misordered: counts.misordered,
            foreign: counts.foreign,
            measured: counts.measured,
            seconds,
            rate: per(counts.measured, seconds),
            latency: Latency::of(recorder.corrected()),
            latency_uncorrected: Latency::of(recorder.uncorrected()),
            load: if seconds > 0.0 { cpu.as_secs_f64() / (seconds + warmup) } else { 0.0 },
            broker,
            troubles,
            recorder,
        }
    }

    /// Returns whether every client was let in and stayed, and every message came once, in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        [self.refused, self.unanswered, self.disconnected, self.unsent, self.rejected, self.lost, self.duplicated, self.misordered]
            .iter()
            .all(|&n| n == 0)
    }

    /// Returns a plot of the latencies by percentile, as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let title = format!(
            "{}, {} clients, MQTT {}, QoS {}: {:.0} a second",
            self.scenario, self.clients, self.protocol, self.qos, self.rate
        );
        plot::percentiles(&title, &self.recorder)
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let micros = |nanos: u64| approximate(nanos) / 1e3;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            min: micros(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(histogram.max()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match (self.rate_asked, self.window) {
            (Some(rate), _) if self.expected > 0 || self.sent > 0 => format!(", open loop of {rate}/s"),
            (_, Some(window)) if self.sent > 0 => format!(", {window} in flight"),
            _ => String::new(),
        };
        writeln!(
            f,
            "{}: {} clients, MQTT {}, QoS {}{pace}, {} process(es)",
            self.scenario, self.clients, self.protocol, self.qos, self.processes
        )?;
        writeln!(f, "  measured      {} in {:.3} s: {:.0} a second", self.measured, self.seconds, self.rate)?;
        writeln!(f, "  latency (us)         min       mean        p50        p90        p99      p99.9        max")?;
        for (name, l) in [("from due", self.latency), ("from sent", self.latency_uncorrected)] {
            write!(f, "    {name:<11}")?;
            for value in [l.min, l.mean, l.p50, l.p90, l.p99, l.p99_9, l.max] {
                write!(f, " {value:>10.1}")?;
            }
            writeln!(f)?;
        }
        let Self { sent, unsent, acknowledged, expected, received, .. } = self;
        writeln!(f, "  messages      sent {sent}, unsent {unsent}, acknowledged {acknowledged}, rejected {}", self.rejected)?;
        writeln!(
            f,
            "  deliveries    expected {expected}, received {received}, lost {}, duplicated {}, misordered {}, foreign {}",
            self.lost, self.duplicated, self.misordered, self.foreign
        )?;
        writeln!(
            f,
            "  connections   {}, refused {}, unanswered {}, lost {}, made again {}; subscriptions {}",
            self.connected, self.refused, self.unanswered, self.disconnected, self.reconnected, self.subscribed
        )?;
        writeln!(f, "  load          {:.0} % of a core in its busiest process", self.load * 100.0)?;
        if let Some(broker) = &self.broker {
            writeln!(
                f,
                "  broker        {:.3} s of CPU, {:.2} s a million; {} bytes of private memory more for each client",
                broker.cpu_seconds, broker.cpu_seconds_per_million, broker.bytes_per_client
            )?;
        }
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "  trouble       {trouble}"))
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    cpu: Duration,
    private: i64,
}

impl Usage {
    /// Reads what `/proc` says of a process.
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        let failed = |error| BenchError::io(format!("process {pid}"))(error);
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
            // A thread may end meanwhile.
            let text = task.and_then(|task| std::fs::read_to_string(task.path().join("schedstat"))).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(failed)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
        let kib: i64 = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0);
        Ok(Self { cpu: Duration::from_nanos(nanos), private: kib * 1024 })
    }
}

impl Process {
    pub(crate) fn between(before: &Usage, first: &Usage, last: &Usage, clients: u64) -> Self {
        let clients = i64::try_from(clients.max(1)).unwrap_or(i64::MAX);
        Self {
            cpu_seconds: last.cpu.saturating_sub(first.cpu).as_secs_f64(),
            cpu_seconds_per_million: 0.0,
            bytes_per_client: (last.private - before.private) / clients,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "to fifteen digits")]
fn approximate(count: u64) -> f64 {
    count as f64
}
