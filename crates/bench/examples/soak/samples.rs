//! Memory and descriptors of the broker, second by second.

use std::fmt;

use anyhow::{Context, Result};

use crate::tally::Tally;

/// By how much the end may be above the beginning: memory in bytes and a tenth, and descriptors.
const MORE_BYTES: u64 = 4 << 20;
const MORE_FILES: u64 = 20;

/// What a process has at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Resident memory in bytes.
    pub(crate) bytes: u64,
    /// Open descriptors.
    pub(crate) files: u64,
}

/// Returns what the process has now, proc(5).
pub(crate) fn now(pid: u32) -> Result<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(Sample { bytes: kib * 1024, files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64 })
}

/// All of them, in order.
#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the medians of the tenth that begins at `part` of ten.
    fn tenth(&self, part: usize) -> Sample {
        let (from, to) = (self.0.len() * part / 10, self.0.len() * (part + 1) / 10);
        let samples = &self.0[from..to.max(from + 1).min(self.0.len())];
        let median = |of: fn(&Sample) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Sample { bytes: median(|sample| sample.bytes), files: median(|sample| sample.files) }
    }

    /// Holds the last tenth to the third one, when all loads are there.
    pub(crate) fn judge(&self, tally: &Tally) {
        let (early, late) = (self.tenth(2), self.tenth(9));
        if late.bytes > early.bytes + early.bytes / 10 + MORE_BYTES {
            tally.complain(format!("memory has grown from {} to {} KiB", early.bytes >> 10, late.bytes >> 10));
        }
        if late.files > early.files + MORE_FILES {
            tally.complain(format!("descriptors have grown from {} to {}", early.files, late.files));
        }
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = (self.tenth(2), self.tenth(9));
        write!(f, "memory {} to {} KiB, descriptors {} to {}", early.bytes >> 10, late.bytes >> 10, early.files, late.files)
    }
}
