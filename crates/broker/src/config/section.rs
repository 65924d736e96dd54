//! What the table says about one setting.

use super::value::{Read, Value};

/// What holds when a setting is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    /// This value, which could be typed as well.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
}

impl Default {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Value(text) | Self::Words(text) => text,
        }
    }
}

/// One setting of a `T`.
pub(super) struct Setting<T: 'static> {
    /// Its name in the file.
    pub(super) name: &'static str,
    /// What holds when it is not set.
    pub(super) default: Default,
    /// What may be set.
    pub(super) allowed: &'static str,
    /// What it does, in one sentence.
    pub(super) about: &'static str,
    /// Whether a reload takes a new value.
    pub(super) reloads: bool,
    /// What may be shown of a value.
    pub(super) shown: fn(&str) -> String,
    /// Sets it.
    pub(super) set: fn(&mut T, Value<'_>) -> Read<()>,
}

impl<T> Setting<T> {
    pub(super) const fn new(
        name: &'static str,
        default: &'static str,
        allowed: &'static str,
        about: &'static str,
        set: fn(&mut T, Value<'_>) -> Read<()>,
    ) -> Self {
        Self { name, default: Default::Value(default), allowed, about, reloads: false, shown: str::to_owned, set }
    }

    /// Says that the default is a description of one.
    pub(super) const fn in_words(self) -> Self {
        Self { default: Default::Words(self.default_text()), ..self }
    }

    /// Says that a reload takes a new value.
    pub(super) const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    /// Says that a value must not be shown as it is, but as `shown` makes it.
    pub(super) const fn shown_as(self, shown: fn(&str) -> String) -> Self {
        Self { shown, ..self }
    }

    const fn default_text(&self) -> &'static str {
        match self.default {
            Default::Value(text) | Default::Words(text) => text,
        }
    }
}

/// Settings that belong together, in the order of the reference page.
pub(super) struct Section<T: 'static> {
    pub(super) title: &'static str,
    pub(super) settings: &'static [Setting<T>],
}
