//! Latencies, from when messages were due and were sent.
//!
//! The first is the one to read: it holds what a message waited because the broker kept the load from sending it.
//! The second is what a load that waits for the broker would have shown.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An hour: what takes longer counts as that.
const HIGHEST: u64 = 3_600_000_000_000;
/// Significant decimal digits of a recorded value.
const DIGITS: u8 = 3;

/// Records latencies in nanoseconds, of 1 ns to an hour, to three digits.
#[derive(Debug, Clone)]
pub struct Recorder {
    due: Histogram<u64>,
    sent: Histogram<u64>,
}

/// A recorder's content as values and how often they came, for another process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    due: Vec<(u64, u64)>,
    sent: Vec<(u64, u64)>,
}

impl Default for Recorder {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, HIGHEST, DIGITS).expect("the bounds are in order, and the digits fit");
        Self { due: empty(), sent: empty() }
    }
}

impl Recorder {
    /// Records an arrival at `now` of what was due and what was sent at these times, all in nanoseconds of one clock.
    pub fn record(&mut self, due: u64, sent: u64, now: u64) {
        self.due.saturating_record(now.saturating_sub(due).max(1));
        self.sent.saturating_record(now.saturating_sub(sent).max(1));
    }

    /// Adds what another recorder held.
    pub fn add(&mut self, other: &Snapshot) {
        for (histogram, values) in [(&mut self.due, &other.due), (&mut self.sent, &other.sent)] {
            for &(value, count) in values {
                histogram.saturating_record_n(value, count);
            }
        }
    }

    /// Returns the content.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let values = |histogram: &Histogram<u64>| {
            histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
        };
        Snapshot { due: values(&self.due), sent: values(&self.sent) }
    }

    /// Returns latencies from where messages were due: corrected for coordinated omission.
    #[must_use]
    pub fn corrected(&self) -> &Histogram<u64> {
        &self.due
    }

    /// Returns latencies from where messages were sent.
    #[must_use]
    pub fn uncorrected(&self) -> &Histogram<u64> {
        &self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server answers in `service`, but stands still for `stall` once; the load keeps one message in flight.
    fn stalled(messages: u64, interval: u64, service: u64, stall: u64) -> Recorder {
        let mut recorder = Recorder::default();
        let mut free = 0;
        for number in 0..messages {
            let due = number * interval;
            let sent = due.max(free);
            let stalls = if number == messages / 2 { stall } else { 0 };
            free = sent + service + stalls;
            recorder.record(due, sent, free);
        }
        recorder
    }

    #[test]
    fn a_stall_shows_in_all_messages_that_were_due_meanwhile() {
        // 10,000 messages, one a millisecond, 10 us each; a second of standing still makes a tenth of them late.
        let recorder = stalled(10_000, 1_000_000, 10_000, 1_000_000_000);
        assert!(recorder.uncorrected().value_at_quantile(0.999) < 11_000);
        let p99 = recorder.corrected().value_at_quantile(0.99);
        assert!((850_000_000..950_000_000).contains(&p99), "{p99}");
        assert!(recorder.corrected().value_at_quantile(0.89) < 11_000);
    }

    proptest! {
        #[test]
        fn a_snapshot_adds_up(values in prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 40), 0..50), split in 0_usize..50) {
            let mut whole = Recorder::default();
            let mut halves = [Recorder::default(), Recorder::default()];
            for (at, &(due, sent)) in values.iter().enumerate() {
                whole.record(due, sent, 1 << 41);
                halves[usize::from(at < split)].record(due, sent, 1 << 41);
            }
            let mut merged = Recorder::default();
            halves.iter().for_each(|half| merged.add(&half.snapshot()));
            prop_assert_eq!(merged.corrected(), whole.corrected());
            prop_assert_eq!(merged.uncorrected(), whole.uncorrected());
        }

        #[test]
        fn the_corrected_is_never_less(interval in 1_u64..5_000, service in 1_u64..5_000, stall in 0_u64..5_000_000) {
            let recorder = stalled(500, interval, service, stall);
            for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
                let corrected = recorder.corrected().value_at_quantile(quantile);
                prop_assert!(corrected >= recorder.uncorrected().value_at_quantile(quantile));
            }
        }
    }
}
