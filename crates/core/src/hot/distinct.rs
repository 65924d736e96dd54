//! Estimates how many different publishers a topic has.
//!
//! HyperLogLog with 64 registers of a byte: one cache line, of which a publish touches one byte.
//! The standard error is 1.04/√64 = 13 % (Flajolet, Fusy, Gandouet, Meunier: HyperLogLog, 2007).
//! The estimator is Ertl's (New cardinality estimation algorithms for HyperLogLog sketches, 2017, algorithm 6):
//! it needs no correction for few publishers, and never falls when a register rises, which the flush relies on.

const REGISTERS: usize = 64;
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();
/// As many ranks as there are bits left, which is enough for 2^58 publishers.
const MAX_RANK: u8 = 58;
const _: () = assert!(MAX_RANK as u32 == 64 - REGISTER_BITS);

/// Where one client leaves its mark: made once, at login, and kept with its session.
///
/// See [`Seed::publisher`](super::Seed::publisher).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    register: u8,
    rank: u8,
}

impl Publisher {
    #[expect(clippy::cast_possible_truncation, reason = "both are at most 63")]
    pub(super) fn from_hash(hash: u64) -> Self {
        let rank = (hash >> REGISTER_BITS).trailing_zeros().min(u32::from(MAX_RANK) - 1) + 1;
        Self { register: (hash % REGISTERS as u64) as u8, rank: rank as u8 }
    }
}

/// The marks of all publishers of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers([u8; REGISTERS]);

impl Registers {
    pub(super) const EMPTY: Self = Self([0; REGISTERS]);

    #[inline]
    pub(super) fn note(&mut self, publisher: Publisher) {
        let register = &mut self.0[usize::from(publisher.register) % REGISTERS];
        *register = publisher.rank.max(*register);
    }

    /// Adds the marks of `other`; returns whether one was new.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let before = self.0;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = theirs.max(*mine);
        }
        before != self.0
    }

    /// Returns the estimate, rounded.
    #[expect(clippy::cast_possible_truncation, reason = "a cast from floating point saturates, and the fraction is rounded away")]
    pub(super) fn estimate(&self) -> u64 {
        let mut of_rank = [0u8; MAX_RANK as usize + 1];
        for rank in self.0 {
            of_rank[usize::from(rank.min(MAX_RANK))] += 1;
        }
        let all = REGISTERS as f64;
        let sum = of_rank.iter().skip(1).rev().fold(0.0, |sum, count| 0.5 * (sum + f64::from(*count)));
        let sum = sum + all * sigma(f64::from(of_rank[0]) / all);
        // A quotient of positive numbers, 0 for the infinite sum of an empty sketch: the cast saturates.
        (all * all / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
    }
}

/// Returns x + Σ x^(2^k)·2^(k-1) for k from 1, the share of registers that nobody has marked.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight *= 2.0;
        if sum <= before {
            return sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seed;
    use super::*;

    fn of(seed: &Seed, ids: std::ops::Range<u32>) -> Registers {
        let mut registers = Registers::EMPTY;
        ids.for_each(|id| registers.note(seed.publisher(&format!("client-{id}"))));
        registers
    }

    #[test]
    fn estimates_stay_within_their_error() {
        for publishers in [0, 1, 10, 64, 300, 1_000, 20_000] {
            // The mean of 50 keys has a standard error of 13 %/√50 = 1.9 %; five of these leave nothing to chance.
            let mean = (0..50).map(|_| of(&Seed::new(), 0..publishers).estimate()).sum::<u64>() as f64 / 50.0;
            let exact = f64::from(publishers);
            assert!((mean - exact).abs() <= 0.095 * exact + 0.01, "{publishers}: {mean}");
        }
    }

    #[test]
    fn unions_count_nobody_twice_and_never_fall() {
        let seed = Seed::new();
        let (mut left, right) = (of(&seed, 0..200), of(&seed, 100..300));
        let before = left.estimate();
        assert!(left.merge(&right));
        assert!(!left.merge(&right));
        assert_eq!(left, of(&seed, 0..300));
        assert!(left.estimate() >= before.max(right.estimate()));
        let mut grown = Registers::EMPTY;
        let mut last = 0;
        for id in 0..5_000 {
            grown.note(seed.publisher(&id.to_string()));
            assert!(grown.estimate() >= last, "fell at {id}");
            last = grown.estimate();
        }
    }

    #[test]
    fn every_hash_has_a_place() {
        for hash in [0, 1, u64::MAX, 1 << 63, 63, 64] {
            let mut registers = Registers::EMPTY;
            registers.note(Publisher::from_hash(hash));
            assert!(registers.estimate() >= 1, "{hash}");
        }
    }
}
