//! How long the broker's thread waits, and how often it complains.
//!
//! One login that isn't answered in time is enough: until the store answers promptly again nobody waits for it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use midge_store::service::Service;

/// How many refusals are logged a minute.
const LINES_A_MINUTE: u32 = 60;

#[derive(Debug, Default)]
struct Lines {
    minute: u64,
    passed: u32,
}

/// The broker thread's patience.
#[derive(Debug, Default)]
pub(super) struct Patience {
    missed: Mutex<Option<u64>>,
    lines: Mutex<Lines>,
}

impl Patience {
    /// Waits for an answer of `service` for at most `deadline`; not at all while it isn't answering promptly.
    pub(super) fn wait<T>(&self, service: &Service, answer: &Receiver<T>, deadline: Duration) -> Option<T> {
        if !self.is_left(service, deadline) {
            // The answer may be there without any waiting.
            return answer.try_recv().ok();
        }
        let start = Instant::now();
        match answer.recv_timeout(deadline) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(service.health().round_trips);
                log::warn!(
                    "a login was not answered within {} ms; nobody waits until the store is prompt again",
                    start.elapsed().as_millis()
                );
                None
            }
        }
    }

    /// Returns whether another refusal may be logged.
    pub(super) fn may_log(&self, now: Duration) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_secs() / 60;
        if lines.minute != minute {
            *lines = Lines { minute, passed: 0 };
        }
        lines.passed += 1;
        lines.passed <= LINES_A_MINUTE
    }

    fn is_left(&self, service: &Service, deadline: Duration) -> bool {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        // After a miss, one prompt answer that came later restores the patience.
        if missed.is_some_and(|round_trips| service.health().round_trips == round_trips) || !service.is_prompt(deadline) {
            return false;
        }
        *missed = None;
        !deadline.is_zero()
    }
}
