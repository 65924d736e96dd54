//! The server says how it is, in topics.
//!
//! Names and meanings are those of Mosquitto, mosquitto(8), so that what reads them goes on reading them.
//! Only what has changed is published, retained and with QoS 0.

use std::collections::HashMap;
use std::time::Duration;

use midge_core::topic::TopicName;
use midge_engine::message::Publication;
use midge_engine::permission::Turn;
use midge_engine::shard::Shard;
use midge_mqtt::QoS;

use super::report::Report;

/// The minutes over which loads are averaged.
const MINUTES: [u32; 3] = [1, 5, 15];

/// What is published, and when next.
#[derive(Debug)]
pub(super) struct Sys {
    interval: Duration,
    next: Duration,
    before: Option<(Duration, Report)>,
    most_connections: usize,
    loads: HashMap<&'static str, [f64; 3]>,
    said: HashMap<String, String>,
}

impl Sys {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: Duration::ZERO, before: None, most_connections: 0, loads: HashMap::new(), said: HashMap::new() }
    }

    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Publishes what has changed, if it is time.
    pub(super) fn publish(&mut self, report: &Report, shard: &mut Shard, turn: &Turn<'_>) {
        let now = turn.now.monotonic;
        if now < self.next {
            return;
        }
        self.next = now + self.interval;
        let mut lines = self.counts(report, now);
        self.loads(report, now, &mut lines);
        for (name, text) in lines {
            if self.said.get(&name) == Some(&text) {
                continue;
            }
            if let Ok(topic) = TopicName::new(&format!("$SYS/broker/{name}")) {
                let payload = text.as_bytes();
                let (qos, retain) = (QoS::AtMostOnce, true);
                shard.publish(Publication { topic, properties: &[], payload, qos, retain, expires: None, stamp: 0 }, turn);
            }
            self.said.insert(name, text);
        }
    }

    fn counts(&mut self, report: &Report, now: Duration) -> Vec<(String, String)> {
        let (engine, traffic) = (&report.engine, &report.traffic);
        self.most_connections = self.most_connections.max(engine.connections);
        let away = engine.sessions.saturating_sub(engine.connections);
        let waiting = engine.queued_messages + engine.retained_messages;
        let numbers = [
            ("clients/total", engine.sessions as u64),
            ("clients/connected", engine.connections as u64),
            ("clients/active", engine.connections as u64),
            ("clients/disconnected", away as u64),
            ("clients/inactive", away as u64),
            ("clients/maximum", self.most_connections as u64),
            ("clients/expired", engine.expired_sessions),
            ("messages/received", traffic.packets_received),
            ("messages/sent", engine.sent + engine.answers),
            ("messages/stored", waiting as u64),
            ("store/messages/count", waiting as u64),
            ("store/messages/bytes", (engine.queued_bytes + engine.retained_bytes) as u64),
            ("subscriptions/count", engine.subscriptions as u64),
            ("shared_subscriptions/count", engine.shared_subscriptions as u64),
            ("retained messages/count", engine.retained_messages as u64),
            ("publish/messages/received", engine.received),
            ("publish/messages/sent", engine.sent),
            ("publish/messages/dropped", dropped(report)),
            ("publish/bytes/received", engine.received_bytes),
            ("publish/bytes/sent", engine.sent_bytes),
            ("bytes/received", traffic.bytes_received),
            ("bytes/sent", traffic.bytes_sent),
            ("memory/bytes", report.memory as u64),
            ("memory/dropped", engine.dropped_memory),
            ("memory/refused", engine.refused_memory),
            ("memory/closed", traffic.closed_memory),
        ];
        let mut lines: Vec<_> = numbers.iter().map(|(name, number)| ((*name).to_owned(), number.to_string())).collect();
        lines.push(("version".to_owned(), concat!("midge version ", env!("CARGO_PKG_VERSION")).to_owned()));
        lines.push(("uptime".to_owned(), format!("{} seconds", now.as_secs())));
        lines
    }

    /// Adds averages per minute, in which what is long past counts exponentially less.
    fn loads(&mut self, report: &Report, now: Duration, lines: &mut Vec<(String, String)>) {
        let Some((then, before)) = self.before.replace((now, *report)) else { return };
        let passed = (now - then).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        for (name, count) in LOADS {
            let new = count(report).saturating_sub(count(&before));
            #[expect(clippy::cast_precision_loss, reason = "what passes in an interval is far below 2^52")]
            let per_minute = new as f64 * 60.0 / passed;
            let loads = self.loads.entry(name).or_default();
            for (load, minutes) in loads.iter_mut().zip(MINUTES) {
                let kept = (-passed / (60.0 * f64::from(minutes))).exp();
                *load = *load * kept + per_minute * (1.0 - kept);
                lines.push((format!("load/{name}/{minutes}min"), format!("{load:.2}")));
            }
        }
    }
}

type Count = fn(&Report) -> u64;

const LOADS: [(&str, Count); 9] = [
    ("messages/received", |report| report.traffic.packets_received),
    ("messages/sent", |report| report.engine.sent + report.engine.answers),
    ("publish/received", |report| report.engine.received),
    ("publish/sent", |report| report.engine.sent),
    ("publish/dropped", dropped),
    ("bytes/received", |report| report.traffic.bytes_received),
    ("bytes/sent", |report| report.traffic.bytes_sent),
    ("sockets", |report| report.traffic.accepted),
    ("connections", |report| report.traffic.connects),
];

fn dropped(report: &Report) -> u64 {
    let engine = &report.engine;
    engine.dropped_slow + engine.dropped_full + engine.dropped_shared + engine.dropped_memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_approach_what_is_steady_and_forget_what_is_past() {
        let mut sys = Sys::new(Duration::from_secs(10));
        let mut report = Report::default();
        let mut last = HashMap::new();
        let mut pass = |seconds: u64, each: u64, from: u64| {
            for step in 0..seconds / 10 {
                report.engine.received += each;
                let mut lines = Vec::new();
                sys.loads(&report, Duration::from_secs(from + step * 10), &mut lines);
                last = lines.into_iter().collect();
            }
            let load = |minutes: u32| last.get(&format!("load/publish/received/{minutes}min")).cloned().unwrap_or_default();
            MINUTES.map(load)
        };
        // 100 in 10 seconds are 600 in a minute.
        let [one, five, fifteen] = pass(620, 100, 0);
        assert_eq!((one.as_str(), &five[..3], &fifteen[..2]), ("599.98", "521", "29"));
        let [one, ..] = pass(600, 0, 1000);
        assert!(one.parse::<f64>().unwrap() < 0.1, "{one}");
    }
}
