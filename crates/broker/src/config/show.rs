//! What holds, and who said so.

use std::fmt::Write as _;

use serde::Serialize;

use super::Config;
use super::page::toml_value;
use super::section::{Default, Setting};
use super::settings::{self, LISTENER};
use super::source::GivenListener;

/// A setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The number of the listener, from 1, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<usize>,
    /// Its name.
    pub name: &'static str,
    /// What it is set to, or the words for what holds otherwise; passwords are left out.
    pub value: String,
    /// Where it is set; `default` nowhere.
    pub source: String,
    /// Whether `value` could be typed.
    #[serde(skip)]
    is_value: bool,
}

impl Config {
    /// Returns all settings as they hold, those of listeners last.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut all: Vec<Shown> = settings::all().map(|setting| shown(setting, &self.given.values, None)).collect();
        for (at, listener) in self.given.listeners.iter().enumerate() {
            all.extend(LISTENER.iter().map(|setting| shown(setting, listener, Some(at + 1))));
        }
        all
    }

    /// Returns what is set as a file, with where it was set; what holds by default stands behind `#`.
    ///
    /// Passwords are left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut listener = None;
        for each in self.shown() {
            if each.listener != listener {
                listener = each.listener;
                text += "\n[[listener]]\n";
            }
            let off = if each.source == "default" { "#" } else { "" };
            let source = if off.is_empty() { format!("  # {}", each.source) } else { String::new() };
            let value = if each.is_value { toml_value(&each.value) } else { each.value };
            let _ = writeln!(text, "{off}{} = {value}{source}", each.name);
        }
        if self.given.listeners.is_empty() {
            for each in &self.listeners {
                let _ = write!(text, "\n#[[listener]]\n#address = \"{}\"\n#protocol = \"{}\"\n", each.address, each.scheme());
            }
        }
        text
    }
}

fn shown<T>(setting: &Setting<T>, given: &GivenListener, listener: Option<usize>) -> Shown {
    let (value, source, is_value) = match (given.get(setting.name), setting.default) {
        (Some(typed), _) => ((setting.shown)(&typed.text), typed.place.to_string(), true),
        (None, Default::Value(text)) => (text.to_owned(), "default".to_owned(), true),
        (None, Default::Words(text)) => (text.to_owned(), "default".to_owned(), false),
    };
    Shown { listener, name: setting.name, value, source, is_value }
}
