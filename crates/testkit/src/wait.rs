//! Waits for a condition, with a deadline.
//!
//! Nothing here sleeps for a fixed time and hopes.

use anyhow::{Result, bail};
use std::thread;
use std::time::{Duration, Instant};

/// A point in time after which waiting is an error.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// Long enough for a server to start on a busy machine.
    pub const START: Duration = Duration::from_secs(30);

    /// Returns the deadline that lies `time` ahead.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Returns the time left, zero once it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Returns whether no time is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// Asks `condition` again and again until it returns a value.
///
/// # Errors
/// When `time` is over (the error says what was waited for), or the condition itself fails.
pub fn until<T>(what: &str, time: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Deadline::after(time);
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if deadline.is_over() {
            bail!("waited {time:?} in vain for {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
