//! Spans of time as people write them: `90s`, `10m`, `2h`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const DAY: u64 = 86_400;
/// The longest span: a hundred years.
const MAX: u64 = 36_500 * DAY;
const UNITS: [(char, u64); 5] = [('w', 7 * DAY), ('d', DAY), ('h', 3_600), ('m', 60), ('s', 1)];

/// A span of at least one second, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(u64);

impl Span {
    /// Returns the span that is left, rounded up.
    pub(crate) fn left(time: Duration) -> Self {
        Self(time.as_secs() + u64::from(time.subsec_nanos() > 0))
    }

    pub(crate) fn seconds(self) -> u64 {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.0)
    }
}

/// A text that is no span of time.
#[derive(Debug)]
pub(crate) struct SpanError;

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("allowed are numbers with a unit s, m, h, d or w, such as 10m, 2h, 1h30m or 7d, up to 36500d")
    }
}

impl std::error::Error for SpanError {}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text;
        let mut seconds = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.chars().next().ok_or(SpanError)?;
            let (_, factor) = UNITS.into_iter().find(|(letter, _)| *letter == unit).ok_or(SpanError)?;
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or(SpanError)?;
            seconds = seconds.checked_add(part).ok_or(SpanError)?;
            rest = &tail[1..];
        }
        if (1..=MAX).contains(&seconds) { Ok(Self(seconds)) } else { Err(SpanError) }
    }
}

impl fmt::Display for Span {
    /// Writes the two largest units, rounded up: days and hours, hours and minutes, or minutes and seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.0 {
            DAY.. => 3_600,
            3_600.. => 60,
            _ => 1,
        };
        let mut rest = self.0.next_multiple_of(step);
        let mut words = Vec::new();
        for (letter, factor) in &UNITS[1..] {
            if rest >= *factor {
                words.push(format!("{}{letter}", rest / factor));
                rest %= factor;
            }
        }
        f.write_str(if words.is_empty() { "0s" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, seconds, shown) in [
            ("90s", 90, "1m 30s"),
            ("10m", 600, "10m"),
            ("1h30m", 5_400, "1h 30m"),
            ("7d", 604_800, "7d"),
            ("2w", 1_209_600, "14d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.seconds(), span.to_string().as_str()), (seconds, shown), "{text}");
        }
        for text in ["", "0s", "5", "h", "1y", "-1m", "1.5h", "36501d", "99999999999999999999s", "1é"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for (millis, shown) in [(0, "0s"), (604_799_200, "7d"), (86_399_000, "1d"), (7_199_100, "2h"), (1, "1s")] {
            assert_eq!(Span::left(Duration::from_millis(millis)).to_string(), shown);
        }
    }
}
