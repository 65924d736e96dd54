//! Measures how long a broker keeps a connected client waiting.
//!
//! For tests of injected faults only, with generous bounds: how fast a broker is belongs into benchmarks.

use crate::mqtt::client::RawClient;
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the pings of one measurement saw.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// The longest time between a ping and its answer.
    pub worst: Duration,
    /// How many pings were answered.
    pub pings: usize,
}

/// Pings through a connected client for as long as `during` runs.
///
/// Returns what `during` returned, and the longest wait, which counts the ping on its way when `during` ended.
///
/// # Errors
/// When the client is disconnected, or one ping is unanswered for a minute.
pub fn stall<R>(client: &mut RawClient, during: impl FnOnce() -> R) -> Result<(R, Stall)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| ping_until(client, &over));
        let result = during();
        over.store(true, Ordering::Relaxed);
        let stall = pings.join().map_err(|_| anyhow!("the pinging thread panicked"))??;
        Ok((result, stall))
    })
}

fn ping_until(client: &mut RawClient, over: &AtomicBool) -> Result<Stall> {
    let mut stall = Stall { worst: Duration::ZERO, pings: 0 };
    loop {
        let last = over.load(Ordering::Relaxed);
        let sent = Instant::now();
        client.ping(Duration::from_secs(60))?;
        stall.worst = stall.worst.max(sent.elapsed());
        stall.pings += 1;
        if last {
            return Ok(stall);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
