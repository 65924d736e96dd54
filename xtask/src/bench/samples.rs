//! What was measured, round by round, and what it comes to.
//!
//! Quotients are taken within a round, so that a machine that becomes slower between rounds changes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The median of several rounds, and the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// For each row, broker and figure.
pub(super) type Results = BTreeMap<String, BTreeMap<String, BTreeMap<String, Spread>>>;

/// For each row, broker and figure the value of each round.
#[derive(Default)]
pub(super) struct Samples(BTreeMap<(String, String, String), BTreeMap<usize, f64>>);

impl Samples {
    pub(super) fn add(&mut self, row: &str, peer: &str, figure: &str, round: usize, value: f64) {
        self.0.entry((row.to_owned(), peer.to_owned(), figure.to_owned())).or_default().insert(round, value);
    }

    /// Returns the quotients of a broker's figure and another's, of the rounds that both have.
    pub(super) fn quotient(&self, row: &str, figure: &str, peer: &str, reference: &str) -> Option<Spread> {
        let of = |name: &str| self.0.get(&(row.to_owned(), name.to_owned(), figure.to_owned()));
        let (own, other) = (of(peer)?, of(reference)?);
        let both = own.iter().filter_map(|(round, own)| Some(own / other.get(round).filter(|other| **other > 0.0)?));
        Spread::of(both.collect())
    }

    pub(super) fn results(&self) -> Results {
        let mut results = Results::new();
        for ((row, peer, figure), values) in &self.0 {
            if let Some(spread) = Spread::of(values.values().copied().collect()) {
                results.entry(row.clone()).or_default().entry(peer.clone()).or_default().insert(figure.clone(), spread);
            }
        }
        results
    }
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { median: *values.get(values.len() / 2)?, low: *values.first()?, high: *values.last()? })
    }

    pub(super) fn width(&self) -> f64 {
        self.high - self.low
    }

    pub(super) fn json(self) -> Value {
        json!([self.median, self.low, self.high])
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        Some(Self { median: value[0].as_f64()?, low: value[1].as_f64()?, high: value[2].as_f64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_of_one_round() {
        let mut samples = Samples::default();
        for (round, own, other) in [(1, 2.0, 1.0), (2, 40.0, 10.0), (3, 9.0, 3.0)] {
            samples.add("r", "own", "cpu", round, own);
            samples.add("r", "other", "cpu", round, other);
        }
        samples.add("r", "own", "cpu", 4, 1e9);
        assert_eq!(samples.quotient("r", "cpu", "own", "other"), Some(Spread { median: 3.0, low: 2.0, high: 4.0 }));
        assert_eq!(samples.quotient("r", "cpu", "own", "nobody"), None);
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
