//! What a reload takes, and what waits for a restart.

use std::collections::BTreeMap;

use super::Config;
use super::fault::Faults;
use super::section::Setting;
use super::settings::{self, LISTENER};
use super::source::{Given, GivenListener, Typed, listener_key};

/// A setting that a reload found changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The setting's name; `listener` where there are more or fewer of them.
    pub name: String,
    /// Whether it acts now; else the old value holds until a restart.
    pub acts: bool,
}

impl Config {
    /// Returns what holds after a reload that found `new`, and what has changed, in the order of the reference page.
    ///
    /// What the settings' files hold, certificates and keys of tokens, is not compared: whoever has them reads them again.
    ///
    /// # Errors
    /// What changed can't be put beside what only a restart takes.
    pub fn reload(&self, new: &Self) -> Result<(Self, Vec<Changed>), Faults> {
        let mut changed = Vec::new();
        let mut note = |name: &str, acts| changed.push(Changed { name: name.to_owned(), acts });
        let values = merge(settings::all(), &self.given.values, &new.given.values, &mut note);
        let (old_listeners, new_listeners) = (&self.given.listeners, &new.given.listeners);
        let listeners = if old_listeners.len() == new_listeners.len() {
            let pairs = old_listeners.iter().zip(new_listeners).enumerate();
            pairs
                .map(|(at, (old, new))| merge(LISTENER.iter(), old, new, &mut |name, acts| note(&listener_key(at, name), acts)))
                .collect()
        } else {
            note("listener", false);
            old_listeners.clone()
        };
        Ok((Given { values, listeners }.read(Vec::new())?, changed))
    }
}

/// Returns the new values of settings that a reload takes, and the old ones of all others.
fn merge<T: 'static>(
    settings: impl Iterator<Item = &'static Setting<T>>,
    old: &GivenListener,
    new: &GivenListener,
    note: &mut impl FnMut(&str, bool),
) -> BTreeMap<&'static str, Typed> {
    let mut merged = BTreeMap::new();
    for setting in settings {
        let (old, new) = (old.get(setting.name), new.get(setting.name));
        let text = |typed: Option<&Typed>| typed.map_or(setting.default.text(), |typed| &typed.text).to_owned();
        if text(old) != text(new) {
            note(setting.name, setting.reloads);
        }
        if let Some(typed) = if setting.reloads { new } else { old } {
            merged.insert(setting.name, typed.clone());
        }
    }
    merged
}
