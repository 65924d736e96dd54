//! One clock for all processes, and a timer finer than milliseconds.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create, timerfd_settime,
};

const SECOND: u64 = 1_000_000_000;

/// Returns the monotonic time in nanoseconds, the same in all processes of one machine.
pub(crate) fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Returns the CPU time of this thread.
pub(crate) fn cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ThreadCPUTime)))
}

/// Returns a duration in nanoseconds; one of centuries is cut.
pub(crate) fn length(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

fn nanos(time: Timespec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * SECOND + part(time.tv_nsec)
}

/// Wakes an event loop at a time in nanoseconds, where `epoll` alone rounds up to milliseconds.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: OwnedFd,
    armed: u64,
}

impl Timer {
    /// Returns a timer whose expiry is an event of `token`.
    pub(crate) fn new(registry: &Registry, token: Token) -> std::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, armed: 0 })
    }

    /// Sets when to wake; a time that has passed wakes at once.
    pub(crate) fn arm(&mut self, at: u64) -> std::io::Result<()> {
        if self.armed == at {
            return Ok(());
        }
        self.armed = at;
        let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: part(at / SECOND), tv_nsec: part(at % SECOND) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}
