//! Gives a broker a million subscriptions and retained messages.
//!
//! `state PORT PID [NUMBER [CONNECTIONS [keep]]]`: NUMBER subscriptions, half exact and half with one `+`, and as many retained messages.
//! Says what each costs the process PID in CPU time and memory, and how long a quiet client waits meanwhile.
//! With `keep`, sessions are persistent, and all is left in place.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

#[path = "support/raw.rs"]
mod raw;
#[path = "../../engine/benches/load/topics.rs"]
mod topics;

use raw::{Cost, PUBACK, PUBLISH, Pinger, Raw, SUBACK, UNSUBACK};

/// Filters in one SUBSCRIBE.
const TOGETHER: u32 = 50;

struct Scale {
    port: u16,
    pid: u32,
    number: u32,
    pinger: Pinger,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u32| args.get(at).map_or(Ok(default), |text| text.parse());
    let port = args.first().context("state PORT PID [NUMBER [CONNECTIONS [keep]]]")?.parse()?;
    let (pid, number, connections) = (number(1, 0)?, number(2, 1_000_000)?, number(3, 200)?);
    let keep = args.iter().any(|arg| arg == "keep");
    let scale = Scale { port, pid, number, pinger: Pinger::start(port, "quiet", Duration::from_millis(2))? };
    std::thread::sleep(Duration::from_secs(2));
    println!("a quiet client, nothing else: {}", scale.pinger.take());
    let mut clients = (0..connections).map(|at| Raw::connect(port, &format!("holder-{at}"), !keep)).collect::<Result<Vec<_>>>()?;
    scale.matching("topics that nobody wants", 200_000)?;
    let each = number.div_ceil(connections);
    scale.subscriptions(&mut clients, "subscribe", each, raw::subscribe, SUBACK)?;
    if !keep {
        scale.matching("topics with one subscriber each", 200_000)?;
    }
    scale.retained()?;
    if keep {
        return Ok(());
    }
    scale.wildcard("#", number as usize)?;
    scale.wildcard("org-7/+/+/+", usize::MAX)?;
    scale.subscriptions(&mut clients, "unsubscribe", each, raw::unsubscribe, UNSUBACK)
}

impl Scale {
    /// Does something `count` times, and says what each time cost.
    fn measure(&self, what: &str, count: u32, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.pinger.take();
        let (before, start) = (Cost::of(self.pid)?, Instant::now());
        act()?;
        let (after, wall) = (Cost::of(self.pid)?, start.elapsed());
        let count = f64::from(count.max(1));
        let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e6 / count;
        let bytes = (after.resident - before.resident) as f64 / count;
        println!("{what}: {cpu:.2} us of CPU and {bytes:.0} bytes each, {:.1} s in all", wall.as_secs_f64());
        println!("    meanwhile a quiet client: {}", self.pinger.take());
        Ok(())
    }

    fn subscriptions(
        &self,
        clients: &mut [Raw],
        what: &str,
        each: u32,
        make: fn(std::vec::IntoIter<String>) -> Vec<u8>,
        answer: u8,
    ) -> Result<()> {
        let total = self.number;
        let per_client: Vec<Vec<Vec<u8>>> = (0..)
            .take(clients.len())
            .map(|at: u32| {
                let end = ((at + 1) * each).min(total);
                let starts = (at * each..end).step_by(TOGETHER as usize);
                starts
                    .map(|from| make((from..(from + TOGETHER).min(end)).map(topics::filter).collect::<Vec<_>>().into_iter()))
                    .collect()
            })
            .collect();
        self.measure(what, total, || {
            // One packet of each client in turn, as when many connect at once.
            for round in 0..per_client.iter().map(Vec::len).max().unwrap_or(0) {
                for (client, packets) in clients.iter_mut().zip(&per_client) {
                    packets.get(round).map_or(Ok(()), |packet| client.send(packet))?;
                }
                for (client, packets) in clients.iter_mut().zip(&per_client) {
                    if round < packets.len() {
                        client.expect(answer)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Publishes with QoS 0, which nobody reads here: the broker's part is what is counted.
    fn matching(&self, what: &str, count: u32) -> Result<()> {
        let mut publisher = Raw::connect(self.port, "publisher", true)?;
        let step = self.number / count.min(self.number).max(1);
        let packets: Vec<u8> =
            (0..count).flat_map(|at| raw::publish(&topics::topic(at.wrapping_mul(step) % self.number), b"x", 0, false)).collect();
        self.measure(&format!("publish to {what}"), count, || {
            packets.chunks(16 << 10).try_for_each(|part| publisher.send(part))?;
            publisher.ping()
        })
    }

    fn retained(&self) -> Result<()> {
        let mut publisher = Raw::connect(self.port, "publisher", true)?;
        self.measure("retain, 64 bytes", self.number, || {
            let mut bytes = Vec::new();
            for at in 0..self.number {
                bytes.extend(raw::publish(&format!("kept/{}", topics::topic(at)), &[b'x'; 64], 0, true));
                if bytes.len() > 16 << 10 {
                    publisher.send(&bytes)?;
                    bytes.clear();
                }
            }
            bytes.extend(raw::publish("fence", b"x", 1, false));
            publisher.send(&bytes)?;
            publisher.expect(PUBACK).map(drop)
        })
    }

    /// Subscribes to retained messages and reads at most `most` of them.
    fn wildcard(&self, filter: &str, most: usize) -> Result<()> {
        let filter = format!("kept/{filter}");
        let mut client = Raw::connect(self.port, "reader", true)?;
        let mut first = None;
        let mut count = 0;
        self.measure(&format!("retained messages of {filter}, all of them"), 1, || {
            let start = Instant::now();
            client.send(&raw::subscribe(std::iter::once(filter.clone())))?;
            client.stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            while count < most {
                match client.next() {
                    Ok((PUBLISH, _)) => count += 1,
                    Ok(_) => continue,
                    Err(_) => break,
                }
                first.get_or_insert_with(|| start.elapsed());
            }
            Ok(())
        })?;
        println!("    {count} messages, the first after {:?}", first.unwrap_or_default());
        Ok(())
    }
}
