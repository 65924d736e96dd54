//! Measures what a flood of pushes does to others.
//!
//! One client publishes to another 500 times a second; in every second spell, 10,000 pushes a second come through the stream for a
//! third. The broker is pinned to core 0, all else to core 1. Latency is from before the publish to after its arrival.
//!
//! `cargo bench -p midge-plugin --bench push [-- --spells N --rate N --version 2.0.11]`; needs `cargo xtask plugin` before.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic ends the measurement, which is what it should do")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use midge_testkit::{Connect, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, until, workspace};

const SPELL: Duration = Duration::from_secs(4);
const BETWEEN: Duration = Duration::from_millis(2);
const SOON: Duration = Duration::from_secs(30);

fn argument(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)
}

fn main() {
    let spells: usize = argument("--spells").map_or(3, |count| count.parse().unwrap());
    let rate: u64 = argument("--rate").map_or(10_000, |rate| rate.parse().unwrap());
    let only = argument("--version");
    println!(
        "| Mosquitto | quiet p50 / p99 (us) | with pushes p50 / p99 (us) | ratio of p99 | pushes/s written | delivered | longest wait (entries) |"
    );
    println!("|---|---|---|---|---|---|---|");
    for version in [MosquittoVersion::V2_0_11, MosquittoVersion::V2_0_21, MosquittoVersion::V2_1_2] {
        if only.as_ref().is_none_or(|only| only == version.label()) {
            measure(version, spells, rate);
        }
    }
}

fn measure(version: MosquittoVersion, spells: usize, rate: u64) {
    pin(std::process::id(), 1);
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    redis.cli(&["HSET", "midge:user:{ann}", "password", "{plain}secret"]).unwrap();
    redis.cli(&["HSET", "midge:all:acl", "#", "prs"]).unwrap();
    let plugin = workspace().join("dist/midge.so");
    let config = format!(
        "listener {{port}} 127.0.0.1\nlog_type error\nmax_queued_messages 100000\nauth_plugin {}\nauth_opt_store {}\nauth_opt_node one\n",
        plugin.display(),
        redis.url()
    );
    let mut broker = Mosquitto::builder(version).config(&config).start().unwrap();
    pin(broker.process().id(), 0);
    until("pushes to be read", SOON, || Ok(redis.cli(&["HKEYS", "midge:push:read"])?.contains("one").then_some(()))).unwrap();
    let client = |id: &str| RawClient::connect(broker.port(), &Connect::new(Protocol::V3_1_1, id).login("ann", "secret")).unwrap();
    let (mut from, mut to) = (client("from"), client("to"));
    to.subscribe(&[("pair", 0)]).unwrap();
    let receiver = Receiver::start(client("receiver"));
    let (mut quiet, mut loaded): (Vec<[u64; 2]>, Vec<[u64; 2]>) = (Vec::new(), Vec::new());
    let (mut written, mut longest) = (0, 0);
    let mut time = Duration::ZERO;
    // The first spell warms up.
    latencies(&mut from, &mut to);
    for _ in 0..spells {
        quiet.push(latencies(&mut from, &mut to));
        let start = Instant::now();
        let flood = Flood::start(redis.port(), rate);
        loaded.push(latencies(&mut from, &mut to));
        let (count, most) = flood.end();
        time += start.elapsed();
        written += count;
        longest = longest.max(most);
        until("all pushes", SOON, || Ok((receiver.count.load(Ordering::Relaxed) == written).then_some(()))).unwrap();
    }
    let [quiet_50, quiet_99] = medians(&mut quiet);
    let [loaded_50, loaded_99] = medians(&mut loaded);
    println!(
        "| {} | {quiet_50} / {quiet_99} | {loaded_50} / {loaded_99} | {:.2} | {:.0} | {} of {written} | {longest} |",
        version.label(),
        loaded_99 as f64 / quiet_99 as f64,
        written as f64 / time.as_secs_f64(),
        receiver.count.load(Ordering::Relaxed),
    );
    receiver.end();
}

fn pin(process: u32, core: u32) {
    Command::new("taskset").args(["-acp", &core.to_string(), &process.to_string()]).output().unwrap();
}

/// Returns the median and the 99th percentile of one spell, in microseconds.
fn latencies(from: &mut RawClient, to: &mut RawClient) -> [u64; 2] {
    let mut all = Vec::new();
    let start = Instant::now();
    let mut due = start;
    while start.elapsed() < SPELL {
        due += BETWEEN;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        from.publish("pair", b"0123456789012345678901234567890123456789012345678901234567890123", 0, false).unwrap();
        to.message(SOON).unwrap().unwrap();
        all.push(u64::try_from(sent.elapsed().as_micros()).unwrap());
    }
    all.sort_unstable();
    [all[all.len() / 2], all[all.len() * 99 / 100]]
}

fn medians(spells: &mut [[u64; 2]]) -> [u64; 2] {
    [0, 1].map(|at| {
        spells.sort_unstable_by_key(|spell| spell[at]);
        spells[spells.len() / 2][at]
    })
}

/// Counts what is pushed.
struct Receiver {
    count: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Receiver {
    fn start(mut client: RawClient) -> Self {
        client.subscribe(&[("pushed/#", 0)]).unwrap();
        let (count, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended) = (count.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if client.message(Duration::from_millis(200)).unwrap().is_some() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { count, end, thread }
    }

    fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Writes pushes at a rate.
struct Flood {
    end: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Flood {
    fn start(port: u16, rate: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            let mut redis = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut written, mut longest) = (0, 0);
            let start = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let due = u64::try_from(start.elapsed().as_micros()).unwrap() * rate / 1_000_000;
                let mut batch = String::new();
                for number in written..due {
                    batch.push_str(&format!("XADD midge:push * topic pushed/{} qos 0 payload {number:064}\r\n", number % 100));
                }
                batch.push_str("XLEN midge:push\r\n");
                redis.write_all(batch.as_bytes()).unwrap();
                longest = longest.max(last_number(&mut redis));
                written = due;
            }
            (written, longest)
        });
        Self { end, thread }
    }

    /// Returns how many were written, and how many the stream held at most.
    fn end(self) -> (u64, u64) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Reads answers up to that of XLEN, the only number among them.
fn last_number(redis: &mut TcpStream) -> u64 {
    let mut text = Vec::new();
    let mut part = [0; 65_536];
    loop {
        let length = redis.read(&mut part).unwrap();
        text.extend_from_slice(&part[..length]);
        if text.ends_with(b"\r\n")
            && let Some(line) = text.split(|byte| *byte == b'\n').rev().nth(1)
            && let Some(number) = line.strip_prefix(b":")
        {
            return std::str::from_utf8(number).unwrap().trim().parse().unwrap();
        }
    }
}
