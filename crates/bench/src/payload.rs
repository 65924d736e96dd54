//! What is in a message: a stamp, and filling.
//!
//! The stamp is 32 bytes: run, stream, number in the stream, when it should have been sent, and when it was.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::BenchError;

/// The bytes of a stamp, and so the smallest payload.
pub(crate) const STAMP: usize = 32;
/// The largest payload of MQTT that leaves room for a topic.
const LARGEST: u32 = 268_000_000;

/// Where a message comes from and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) stream: u32,
    pub(crate) number: u64,
    /// Nanoseconds of the monotonic clock at which the schedule wanted it sent.
    pub(crate) due: u64,
    /// Nanoseconds of the monotonic clock at which it was given to its connection.
    pub(crate) sent: u64,
}

impl Stamp {
    /// Writes the stamp over the front of a payload of at least [`STAMP`] bytes.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.run.to_be_bytes());
        payload[4..8].copy_from_slice(&self.stream.to_be_bytes());
        for (part, at) in [self.number, self.due, self.sent].into_iter().zip([8, 16, 24]) {
            payload[at..at + 8].copy_from_slice(&part.to_be_bytes());
        }
    }

    /// Returns the stamp of a payload, if it can have one.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let short = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let long = |at: usize| payload.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self { run: short(0)?, stream: short(4)?, number: long(8)?, due: long(16)?, sent: long(24)? })
    }
}

/// How large payloads are: `64`, `64..1024` evenly, or `64:90,4096:10` by weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Least, greatest, and how often among the sum of all.
    parts: Vec<(u32, u32, u32)>,
}

impl Sizes {
    /// Returns payloads of one size in bytes, at least 32.
    ///
    /// # Errors
    /// A size out of range.
    pub fn fixed(bytes: u32) -> Result<Self, BenchError> {
        bytes.to_string().parse()
    }

    /// Returns the largest, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.parts.iter().map(|part| part.1 as usize).max().unwrap_or(STAMP)
    }

    /// Returns the next size in bytes.
    pub(crate) fn draw(&self, dice: &mut Dice) -> usize {
        if let [(least, greatest, _)] = self.parts[..]
            && least == greatest
        {
            return least as usize;
        }
        let sum: u32 = self.parts.iter().map(|part| part.2).sum();
        let mut left = dice.below(sum);
        for &(least, greatest, weight) in &self.parts {
            if left < weight {
                return (least + dice.below(greatest - least + 1)) as usize;
            }
            left -= weight;
        }
        self.largest()
    }
}

impl FromStr for Sizes {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = || {
            BenchError::Plan(format!("payload sizes {text:?}: expected 64, 64..1024 or 64:90,4096:10, of at least {STAMP} bytes"))
        };
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (range, weight) = part.split_once(':').unwrap_or((part, "1"));
            let (least, greatest) = range.split_once("..").unwrap_or((range, range));
            let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
            let (least, greatest, weight) = (number(least)?, number(greatest)?, number(weight)?);
            let fits = (STAMP as u64..=LARGEST.into()).contains(&least.into()) && (least..=LARGEST).contains(&greatest);
            if !fits || !(1..=1_000_000).contains(&weight) {
                return Err(wrong());
            }
            parts.push((least, greatest, weight));
        }
        if parts.len() > 1_000 {
            return Err(wrong());
        }
        Ok(Self { parts })
    }
}

/// Chance that is the same in each run (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(bound.max(1))) >> 32).unwrap_or(0)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let stamp = Stamp { run: 1, stream: 2, number: u64::MAX, due: 3, sent: 4 };
        let mut payload = [7; 40];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..31]), None);
    }

    #[test]
    fn sizes() {
        for (text, least, greatest) in [("64", 64, 64), ("32..33", 32, 33), ("64:90,4096:10", 64, 4096), ("40..50:3,99", 40, 99)] {
            let sizes: Sizes = text.parse().unwrap();
            let mut dice = Dice::new(1);
            let drawn: Vec<usize> = (0..2_000).map(|_| sizes.draw(&mut dice)).collect();
            assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&least), Some(&greatest)), "{text}");
        }
        for text in ["", "31", "64..32", "64:0", "x", "64..", "300000000", "64,,64"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn weights_hold() {
        let sizes: Sizes = "64:90,4096:10".parse().unwrap();
        let mut dice = Dice::new(7);
        let large = (0..100_000).filter(|_| sizes.draw(&mut dice) == 4096).count();
        assert!((9_000..11_000).contains(&large), "{large}");
    }
}
