//! What is wrong with what is set.
//!
//! Each fault names its place, the setting, the value and what is allowed; passwords are left out.

use std::fmt;
use std::path::PathBuf;

/// Where something was set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In a file, with its line counted from 1; 0 for the file as a whole.
    File(PathBuf, usize),
    /// In a variable of the environment.
    Variable(String),
    /// As a flag.
    Flag(&'static str),
    /// Nowhere; the setting's default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub(super) place: Place,
    /// The setting, where one is known.
    pub(super) key: Option<String>,
    /// What was found, as far as it may be shown.
    pub(super) value: Option<String>,
    /// What is wrong with it and what is allowed.
    pub(super) problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        let value = self.value.as_ref().map(|value| {
            let escaped: String = value.chars().take(80).flat_map(char::escape_debug).collect();
            format!("\"{escaped}\"")
        });
        match (&self.key, value) {
            (Some(key), Some(value)) => write!(f, "{key} = {value}: ")?,
            (Some(key), None) => write!(f, "{key}: ")?,
            (None, Some(value)) => write!(f, "{value}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.problem)
    }
}

/// All that is wrong, at least one thing, one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Returns an error if there are any, in the order of their places.
    pub(super) fn check(mut faults: Vec<Fault>) -> Result<(), Self> {
        faults.sort();
        faults.dedup();
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }
}

impl std::ops::Deref for Faults {
    type Target = [Fault];

    fn deref(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if at > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
