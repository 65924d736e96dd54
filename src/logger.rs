//! Leads the `log` facade to the broker's log.
//!
//! Only the broker's thread may write there, and not from inside an access check, where a log line published to
//! `$SYS/broker/log` would come back as another check. So lines wait in a bounded queue until the next safe moment.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::abi;
use crate::host::{BrokerThread, host};

/// How many lines wait at most; further ones are dropped and counted.
const MAX_LINES: usize = 1_000;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 900;

struct Waiting {
    lines: VecDeque<(Level, String)>,
    dropped: u64,
    last_panic: Option<Instant>,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { lines: VecDeque::new(), dropped: 0, last_panic: None });

struct BrokerLog;

impl Log for BrokerLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && (metadata.target().starts_with("midge") || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            push(record.level(), format!("midge: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Makes the facade lead here, and sets from which level on.
pub(crate) fn install(level: LevelFilter) {
    static LOG: BrokerLog = BrokerLog;
    // A second load into the same process finds it installed already.
    let _ = log::set_logger(&LOG);
    log::set_max_level(level);
}

/// Writes what waits to the broker's log.
pub(crate) fn flush(thread: &BrokerThread) {
    // Taken out first: writing can call us back.
    let (lines, dropped) = {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.is_empty() && waiting.dropped == 0 {
            return;
        }
        (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped))
    };
    for (level, line) in lines {
        host().log(thread, code(level), &line);
    }
    if dropped > 0 {
        host().log(thread, code(Level::Warn), &format!("midge: {dropped} log lines were dropped"));
    }
}

/// Notes a panic that the guard has caught, once a minute.
pub(crate) fn panicked(site: &str, count: u64) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.last_panic.is_none_or(|last| last.elapsed() > Duration::from_secs(60)) {
        waiting.last_panic = Some(Instant::now());
        drop(waiting);
        push(Level::Error, format!("midge: internal error in {site}, answered as refused; {count} since the start"));
    }
}

fn push(level: Level, mut line: String) {
    if line.len() > MAX_LINE_BYTES {
        let cut = (0..=MAX_LINE_BYTES).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.lines.len() >= MAX_LINES {
        waiting.dropped += 1;
    } else {
        waiting.lines.push_back((level, line));
    }
}

fn code(level: Level) -> c_int {
    let code = match level {
        Level::Error => abi::MIDGE_LOG_ERR,
        Level::Warn => abi::MIDGE_LOG_WARNING,
        Level::Info => abi::MIDGE_LOG_INFO,
        Level::Debug | Level::Trace => abi::MIDGE_LOG_DEBUG,
    };
    c_int::try_from(code).unwrap_or(0)
}
