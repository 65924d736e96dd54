//! Reads values of settings as people write them.
//!
//! Both bodies use it, so that `30s` and `on` mean the same in the plugin's options and in the broker's file.
//! An error says what was found, or nothing where the allowed values say it all; the caller names setting, place and value.

use std::str::FromStr;
use std::time::Duration;

/// What a time looks like, for messages.
pub const DURATION: &str = "a time such as 250ms, 30s, 10m, 24h or 7d";
/// What a switch looks like, for messages.
pub const SWITCH: &str = "true or false";
/// What a size looks like, for messages.
pub const SIZE: &str = "a size such as 64 KiB, 16 MiB or 1 GiB, or a number of bytes";

/// The longest time that can be set.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Units of sizes: powers of 1024 as IEC 80000-13 writes them, and of 1000.
const SIZES: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Returns a time of up to 366 days: a whole number with its unit, `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// It is no such text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
    .filter(|time| *time <= LONGEST)
    .ok_or_else(String::new)
}

/// Returns a time from `least` to `most`.
///
/// # Errors
/// It is no time, or outside of the bounds.
pub fn duration_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = duration(text)?;
    if (least..=most).contains(&time) { Ok(time) } else { Err(String::new()) }
}

/// Returns a number of bytes: a whole number, alone or with a unit, `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.
///
/// # Errors
/// It is no such text.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let factor = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(String::new)?;
    number.checked_mul(factor).ok_or_else(String::new)
}

/// Returns a number from `least` to `most`.
///
/// # Errors
/// It is no number, or outside of the bounds.
pub fn number<T: FromStr + PartialOrd + Copy>(text: &str, least: T, most: T) -> Result<T, String> {
    let number: T = text.parse().map_err(|_| String::new())?;
    if number >= least && number <= most { Ok(number) } else { Err(String::new()) }
}

/// Returns a switch: `true`, `1`, `yes`, `on`, or `false`, `0`, `no`, `off`.
///
/// # Errors
/// It is none of these.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(String::new()),
    }
}

/// Returns a text that is not empty.
///
/// # Errors
/// It is empty.
pub fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("nothing is set".to_owned()) } else { Ok(text.to_owned()) }
}

/// Returns what the word `text` stands for.
///
/// # Errors
/// It is none of the allowed words.
pub fn one_of<T: Copy>(text: &str, allowed: &[(&str, T)]) -> Result<T, String> {
    allowed.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(String::new)
}

/// Returns the one of `names` that a misspelt `name` may mean: at most three letters differ.
pub fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.into_iter().map(|known| (distance(name, known), known)).min();
    best.filter(|(distance, _)| *distance <= 3).map(|(_, name)| name)
}

/// Returns `url` with its password left out, for messages.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((credentials, rest)) => {
            let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
            format!("{scheme}://{user}:…@{rest}")
        }
        // What stands where a port should may be a password whose host is missing.
        None => match rest.split_once(':') {
            Some((host, port)) if !port.starts_with(|c: char| c.is_ascii_digit()) && !rest.starts_with('[') => {
                format!("{scheme}://{host}:…")
            }
            _ => url.to_owned(),
        },
    }
}

fn number_and_unit(text: &str) -> Result<(u64, &str), String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    Ok((number.parse().map_err(|_| String::new())?, unit.trim()))
}

/// Levenshtein's distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (above, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, millis) in [
            ("0ms", Some(0)),
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("30 s", Some(30_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("366d", Some(366 * 86_400_000)),
            ("367d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("250", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1h30m", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("1 B", Some(1)),
            ("1KiB", Some(1024)),
            ("1 MiB", Some(1 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("5 MB", Some(5_000_000)),
            ("1 K", None),
            ("1 mib", None),
            ("12 parsecs", None),
            ("99999999999999 GiB", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        let names = ["store", "threads", "max_packet_size"];
        for (name, meant) in
            [("stor", Some("store")), ("thread", Some("threads")), ("maxpacketsize", Some("max_packet_size")), ("completely", None)]
        {
            assert_eq!(nearest(name, names), meant, "{name}");
        }
    }

    #[test]
    fn passwords_are_left_out() {
        for (url, shown) in [
            ("redis://me:geheim@host:1", "redis://me:…@host:1"),
            ("redis://me:geheim", "redis://me:…"),
            ("redis://host:6379", "redis://host:6379"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            ("file:/var/lib/midge", "file:/var/lib/midge"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
