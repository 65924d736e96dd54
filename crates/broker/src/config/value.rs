//! A value as it was typed, and its meanings.
//!
//! An error says what was found, or nothing where the allowed values say it all.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use midge_core::setting;

/// A value as it was typed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
}

/// What reading a value comes to.
pub(super) type Read<T> = Result<T, String>;

impl Value<'_> {
    pub(super) fn duration(self, least: Duration, most: Duration) -> Read<Duration> {
        setting::duration_between(self.text, least, most)
    }

    /// Returns whole seconds of a time.
    pub(super) fn seconds<T: TryFrom<u64>>(self, least: Duration, most: Duration) -> Read<T> {
        let time = self.duration(least, most)?;
        if time.subsec_nanos() != 0 {
            return Err("it counts whole seconds".to_owned());
        }
        T::try_from(time.as_secs()).map_err(|_| String::new())
    }

    pub(super) fn size<T: TryFrom<u64>>(self, least: u64, most: u64) -> Read<T> {
        let size = Some(setting::size(self.text)?).filter(|size| (least..=most).contains(size));
        size.and_then(|size| T::try_from(size).ok()).ok_or_else(String::new)
    }

    pub(super) fn number<T: FromStr + PartialOrd + Copy>(self, least: T, most: T) -> Read<T> {
        setting::number(self.text, least, most)
    }

    pub(super) fn switch(self) -> Read<bool> {
        setting::switch(self.text)
    }

    pub(super) fn text(self) -> Read<String> {
        setting::text(self.text)
    }

    pub(super) fn one_of<T: Copy>(self, allowed: &[(&str, T)]) -> Read<T> {
        setting::one_of(self.text, allowed)
    }

    /// Returns nothing for `none`, and what `read` makes of anything else.
    pub(super) fn unless_none<T>(self, read: impl FnOnce(Self) -> Read<T>) -> Read<Option<T>> {
        if self.text == "none" { Ok(None) } else { read(self).map(Some) }
    }

    /// Returns a number from 1 to `most`, or nothing for `none`.
    pub(super) fn bound(self, most: usize) -> Read<Option<NonZero<usize>>> {
        Ok(self.unless_none(|value| value.number(1, most))?.and_then(NonZero::new))
    }

    pub(super) fn socket_address(self) -> Read<SocketAddr> {
        self.text.parse().map_err(|_| String::new())
    }

    pub(super) fn path(self) -> Read<PathBuf> {
        setting::text(self.text).map(|text| self.base.join(text))
    }

    /// Returns the path of a file that can be read.
    pub(super) fn file(self) -> Read<PathBuf> {
        let path = self.path()?;
        let unreadable = |error| format!("{} can't be read: {error}", path.display());
        match std::fs::File::open(&path).and_then(|file| file.metadata()).map_err(unreadable)? {
            metadata if metadata.is_file() => Ok(path),
            _ => Err(format!("{} is no file", path.display())),
        }
    }
}
