//! What is counted, over which windows, in which buckets.
//!
//! A window of length W is the bucket of this moment and the n before it, each of length g = W/n.
//! It reaches back at least W and less than W + g: it never misses what is inside, and may hold up to g more.
//! Buckets begin at multiples of g since 1970, so that all nodes write into the same ones.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text names no metric or no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is none of {allowed}")]
pub struct HotNameError {
    found: String,
    allowed: String,
}

impl HotNameError {
    fn new(found: &str, allowed: &[&str]) -> Self {
        let found = found.chars().take(40).collect::<String>().escape_debug().to_string();
        Self { found, allowed: allowed.join(", ") }
    }
}

/// What is counted of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Publishes, each once.
    Messages,
    /// Bytes of payload published.
    Bytes,
    /// Messages sent to subscribers.
    Deliveries,
    /// Different publishers: an estimate with a standard error of 13 %.
    Publishers,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 4] = [Self::Messages, Self::Bytes, Self::Deliveries, Self::Publishers];

    /// Returns the name that stands in keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Deliveries => "deliveries",
            Self::Publishers => "publishers",
        }
    }

    /// Returns the key, without the prefix, of the hash that says what `node` has brought of this metric:
    /// `mark`, the [`Mark`](super::Mark) of its last part, and `parts`, how many there were.
    ///
    /// It shares the slot of the buckets, and shall live as long as any of them: that it is missing says that they were lost.
    #[must_use]
    pub fn applied_key(self, node: &str) -> String {
        format!("hot:{{{self}}}:applied:{node}")
    }
}

impl FromStr for Metric {
    type Err = HotNameError;

    fn from_str(text: &str) -> Result<Self, HotNameError> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == text)
            .ok_or_else(|| HotNameError::new(text, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A span of time up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// A minute, in 6 buckets of 10 seconds.
    Minute,
    /// An hour, in 6 buckets of 10 minutes.
    Hour,
    /// 24 hours, in 6 buckets of 4 hours.
    Day,
    /// 7 days, in 7 buckets of a day (UTC).
    Week,
}

impl Window {
    /// All windows, shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Week];

    /// Returns the name that stands in keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// Returns how far the window reaches back at least.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_secs(self.bucket_seconds() * self.whole_buckets())
    }

    /// Returns how long a bucket is, which is what the window may reach back further.
    #[must_use]
    pub fn bucket(self) -> Duration {
        Duration::from_secs(self.bucket_seconds())
    }

    /// Returns how long a bucket's key lives in the store after it was last written.
    #[must_use]
    pub fn time_to_live(self) -> Duration {
        self.length() + 2 * self.bucket()
    }

    /// Returns the key, without the prefix, of the set that holds the hottest of the whole window, ready to be read.
    #[must_use]
    pub fn now_key(self, metric: Metric) -> String {
        format!("hot:{{{metric}}}:{self}:now")
    }

    /// Returns where the buckets begin that make up the window at `unix`, newest first, in seconds since 1970.
    pub fn starts(self, unix: u64) -> impl Iterator<Item = u64> {
        let newest = self.start(unix);
        (0..=self.whole_buckets()).filter_map(move |back| newest.checked_sub(back * self.bucket_seconds()))
    }

    /// Returns the keys whose sets make up the window at `unix` when they are added up, newest first.
    pub fn keys(self, metric: Metric, unix: u64) -> impl Iterator<Item = BucketKey> {
        self.starts(unix).map(move |start| BucketKey { metric, window: self, start })
    }

    /// Returns where the bucket of the moment `unix` begins, in seconds since 1970.
    #[must_use]
    pub fn start(self, unix: u64) -> u64 {
        unix - unix % self.bucket_seconds()
    }

    /// Returns after how many seconds changes go to the store: a crash loses as much of this window.
    #[must_use]
    pub fn flush_seconds(self) -> u64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 2,
            Self::Day => 5,
            Self::Week => 10,
        }
    }

    /// Returns whether a bucket that begins at `start` belongs to the window at `unix`.
    ///
    /// A clock that was set back leaves buckets ahead of it; those up to a window's length are kept.
    pub(super) fn holds(self, start: u64, unix: u64) -> bool {
        let length = self.length().as_secs();
        start.saturating_add(length) >= self.start(unix) && start <= unix.saturating_add(length)
    }

    fn bucket_seconds(self) -> u64 {
        match self {
            Self::Minute => 10,
            Self::Hour => 600,
            Self::Day => 4 * 3600,
            Self::Week => 24 * 3600,
        }
    }

    fn whole_buckets(self) -> u64 {
        match self {
            Self::Minute | Self::Hour | Self::Day => 6,
            Self::Week => 7,
        }
    }
}

impl FromStr for Window {
    type Err = HotNameError;

    fn from_str(text: &str) -> Result<Self, HotNameError> {
        Self::ALL
            .into_iter()
            .find(|window| window.name() == text)
            .ok_or_else(|| HotNameError::new(text, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The key of one bucket, without the prefix: `hot:{METRIC}:WINDOW:BUCKET`.
///
/// The braces are a Redis Cluster hash tag: all windows and buckets of a metric share a slot,
/// so one `ZUNION` reads a window, and one transaction writes a [`Part`](super::Part).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketKey {
    /// What is counted.
    pub metric: Metric,
    /// The window that the bucket is part of.
    pub window: Window,
    /// Where the bucket begins, in seconds since 1970.
    pub start: u64,
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hot:{{{}}}:{}:{}", self.metric, self.window, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_reach_back_their_length_and_less_than_a_bucket_more() {
        for (window, seconds, bucket) in
            [(Window::Minute, 60, 10), (Window::Hour, 3_600, 600), (Window::Day, 86_400, 14_400), (Window::Week, 604_800, 86_400)]
        {
            assert_eq!((window.length().as_secs(), window.bucket().as_secs()), (seconds, bucket), "{window}");
            for unix in [1_795_000_000, 1_795_000_009, 1_795_046_399, 1_795_046_400] {
                let starts: Vec<u64> = window.starts(unix).collect();
                let back = unix - starts.last().unwrap();
                assert!((seconds..seconds + bucket).contains(&back), "{window} at {unix}: {back}");
                assert!(starts.iter().all(|start| start % bucket == 0 && window.holds(*start, unix)));
                assert!(!window.holds(starts.last().unwrap() - bucket, unix), "{window} at {unix}");
            }
        }
    }

    #[test]
    fn windows_near_1970_and_the_end_of_time_are_short() {
        assert_eq!(Window::Minute.starts(25).collect::<Vec<_>>(), [20, 10, 0]);
        assert!(Window::Week.holds(Window::Week.start(u64::MAX), u64::MAX));
    }

    #[test]
    fn keys_are_spelled_as_documented() {
        let key = BucketKey { metric: Metric::Messages, window: Window::Minute, start: 1_795_449_600 };
        assert_eq!(key.to_string(), "hot:{messages}:1m:1795449600");
        let keys: Vec<String> = Metric::ALL.map(|metric| BucketKey { metric, window: Window::Week, start: 0 }.to_string()).to_vec();
        assert_eq!(keys, ["hot:{messages}:7d:0", "hot:{bytes}:7d:0", "hot:{deliveries}:7d:0", "hot:{publishers}:7d:0"]);
        let window: Vec<String> = Window::Hour.keys(Metric::Bytes, 1_900).map(|key| key.to_string()).collect();
        assert_eq!(window, ["hot:{bytes}:1h:1800", "hot:{bytes}:1h:1200", "hot:{bytes}:1h:600", "hot:{bytes}:1h:0"]);
        assert_eq!(Window::Week.now_key(Metric::Publishers), "hot:{publishers}:7d:now");
        assert_eq!(Metric::Bytes.applied_key("host-1"), "hot:{bytes}:applied:host-1");
    }

    #[test]
    fn names_read_back() {
        for window in Window::ALL {
            assert_eq!(window.name().parse(), Ok(window));
        }
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        assert_eq!("1d".parse::<Window>().unwrap_err().to_string(), "\"1d\" is none of 1m, 1h, 24h, 7d");
        assert!("Messages".parse::<Metric>().is_err());
    }
}
