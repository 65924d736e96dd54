//! One hierarchical timer wheel for a whole loop.
//!
//! Four levels of 64 slots, a quarter of a second to a tick: 48 days ahead, and what is later is looked at again then.
//! Nothing is ever removed before its time: who is told checks whether it still matters, so that a packet that puts a deadline off costs nothing here.
//! A timer never fires early, and at most one tick late.

use std::time::Duration;

const TICK_MS: u128 = 250;
const SLOT_BITS: u32 = 6;
const SLOTS: u64 = 1 << SLOT_BITS;
const LEVELS: u32 = 4;

/// Where a tick falls on each level.
fn slot(level: u32, tick: u64) -> usize {
    let number = (tick >> (level * SLOT_BITS)) % SLOTS + u64::from(level) * SLOTS;
    usize::try_from(number).expect("there are 256 slots")
}

fn tick_of(time: Duration, round_up: bool) -> u64 {
    let millis = time.as_millis() + if round_up { TICK_MS - 1 } else { 0 };
    u64::try_from(millis / TICK_MS).unwrap_or(u64::MAX)
}

/// Timers of one kind of payload.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// All that is due up to this tick has fired.
    tick: u64,
    slots: Vec<Vec<(u64, T)>>,
    /// How many timers each level holds.
    held: [usize; LEVELS as usize],
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(slot(LEVELS - 1, u64::MAX) + 1).collect();
        Self { tick: 0, slots, held: [0; LEVELS as usize] }
    }
}

impl<T> Wheel<T> {
    /// Sets a timer for a time of the monotonic clock; a past one fires with the next tick.
    pub(crate) fn insert(&mut self, at: Duration, now: Duration, timer: T) {
        if self.idle_levels() == LEVELS {
            // The clock may have begun anywhere.
            self.tick = self.tick.max(tick_of(now, false));
        }
        self.place(tick_of(at, true).max(self.tick + 1), timer);
    }

    /// Calls `fire` with every timer that is due.
    pub(crate) fn advance(&mut self, now: Duration, fired: &mut Vec<T>) {
        let target = tick_of(now, false);
        while self.tick < target {
            // Nothing happens before the lowest level that holds a timer hands a slot down: the clock may have leapt.
            match self.idle_levels() {
                LEVELS => self.tick = target,
                idle => self.tick = (self.tick | ((1 << (idle * SLOT_BITS)) - 1)).min(target),
            }
            if self.tick == target {
                return;
            }
            self.tick += 1;
            for level in 1..LEVELS {
                if self.tick.trailing_zeros() < level * SLOT_BITS {
                    break;
                }
                for (at, timer) in self.take(level) {
                    self.place(at.max(self.tick), timer);
                }
            }
            fired.extend(self.take(0).into_iter().map(|(_, timer)| timer));
        }
    }

    /// Returns when to look again at the latest: when the next timer is due, or at most 16 seconds ahead.
    pub(crate) fn next(&self) -> Option<Duration> {
        if self.idle_levels() == LEVELS {
            return None;
        }
        let turn = (self.tick / SLOTS + 1) * SLOTS;
        let tick = (self.tick + 1..turn).find(|&tick| !self.slots[slot(0, tick)].is_empty()).unwrap_or(turn);
        Some(Duration::from_millis(tick.saturating_mul(250)))
    }

    /// Returns how many levels, from the lowest on, hold nothing.
    fn idle_levels(&self) -> u32 {
        self.held.iter().zip(0..).find(|(held, _)| **held > 0).map_or(LEVELS, |(_, level)| level)
    }

    /// Takes what the slot of a level holds that the tick has come to.
    fn take(&mut self, level: u32) -> Vec<(u64, T)> {
        let taken = std::mem::take(&mut self.slots[slot(level, self.tick)]);
        self.held[level as usize] -= taken.len();
        taken
    }

    fn place(&mut self, at: u64, timer: T) {
        let ahead = at.saturating_sub(self.tick);
        let level = (0..LEVELS).find(|level| ahead >> (level * SLOT_BITS) < SLOTS);
        let (level, at_slot) = match level {
            Some(level) => (level, at),
            None => (LEVELS - 1, self.tick + (1 << (LEVELS * SLOT_BITS)) - 1),
        };
        self.held[level as usize] += 1;
        self.slots[slot(level, at_slot)].push((at, timer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn far_timers_fire_in_time() {
        let mut wheel = Wheel::default();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        wheel.insert(days(100), Duration::ZERO, 1);
        wheel.insert(Duration::ZERO, Duration::ZERO, 0);
        let mut fired = Vec::new();
        wheel.advance(days(100) - Duration::from_secs(1), &mut fired);
        assert_eq!(fired, [0]);
        assert!(wheel.next().is_some_and(|next| next <= days(100)));
        wheel.advance(days(100), &mut fired);
        assert_eq!((fired, wheel.next()), (vec![0, 1], None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn the_wheel_fires_like_a_sorted_list(
            steps in prop::collection::vec(
                prop_oneof![4 => (0..200_000u64, 0..40_000u64), 1 => (0..1_u64 << 33, 0..1_u64 << 33)],
                1..60,
            ),
        ) {
            let (mut wheel, mut model, mut now) = (Wheel::default(), Vec::new(), 0);
            for (ahead, pass) in steps {
                wheel.insert(Duration::from_millis(now + ahead), Duration::from_millis(now), now + ahead);
                model.push(now + ahead);
                now += pass;
                let mut fired = Vec::new();
                wheel.advance(Duration::from_millis(now), &mut fired);
                prop_assert!(fired.iter().all(|&at| at <= now));
                for at in fired {
                    let place = model.iter().position(|&other| other == at).expect("fires once");
                    model.swap_remove(place);
                }
                prop_assert!(model.iter().all(|&at| at + 250 > now), "{model:?} at {now}");
                let first = model.iter().min();
                prop_assert!(wheel.next().is_some() == first.is_some());
                if let (Some(next), Some(&first)) = (wheel.next(), first) {
                    prop_assert!(next.as_millis() <= u128::from(first) + 250);
                }
            }
        }
    }
}
