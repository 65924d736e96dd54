//! Writes the log to standard error, a line for each event.
//!
//! Nothing in a line acts on a terminal or begins another line.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use log::{Level, Log, Metadata, Record};
use midge_broker::config::{self, LogFormat};

use crate::output::printable;

/// Makes `settings` those of the log.
pub(super) fn install(settings: config::Log) -> Result<()> {
    let format = match settings.format {
        // Set by systemd where standard error leads to its journal, systemd.exec(5).
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        format => format,
    };
    log::set_boxed_logger(Box::new(Logger { format }))?;
    log::set_max_level(settings.level);
    Ok(())
}

struct Logger {
    format: LogFormat,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let line = line(self.format, record.level(), &record.args().to_string(), since);
            // Who reads no log can't be told that either.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

fn line(format: LogFormat, level: Level, text: &str, since: Duration) -> String {
    let text = printable(text);
    match format {
        LogFormat::Json => {
            let object = serde_json::json!({ "time": timestamp(since), "level": level.as_str().to_lowercase(), "message": text });
            format!("{object}\n")
        }
        LogFormat::Journal => {
            // The levels of syslog, sd-daemon(3).
            let number = match level {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            format!("<{number}>{text}\n")
        }
        LogFormat::Auto | LogFormat::Text => format!("{} {level:5} {text}\n", timestamp(since)),
    }
}

/// Returns a moment as RFC 3339 has it, in UTC.
///
/// Days to a date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn timestamp(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = format!("{year:04}-{month:02}-{day:02}T");
    let _ = write!(text, "{:02}:{:02}:{:02}.{:03}Z", second / 3_600, second / 60 % 60, second % 60, since.subsec_millis());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds) + Duration::from_millis(7)), expected);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        for (format, expected) in [
            (LogFormat::Text, "1970-01-01T00:00:00.000Z WARN  a\\nb \"c\"\n"),
            (LogFormat::Journal, "<4>a\\nb \"c\"\n"),
            (LogFormat::Json, "{\"level\":\"warn\",\"message\":\"a\\\\nb \\\"c\\\"\",\"time\":\"1970-01-01T00:00:00.000Z\"}\n"),
        ] {
            assert_eq!(line(format, Level::Warn, "a\nb \"c\"", Duration::ZERO), expected);
        }
    }
}
