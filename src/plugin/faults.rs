//! Raises a panic at a chosen place, for tests.
//!
//! Without the feature `fault-injection` nothing of this exists.

use crate::border::Site;
use crate::options::Settings;

#[cfg(feature = "fault-injection")]
static ARMED: std::sync::Mutex<Option<String>> = std::sync::Mutex::new(None);

/// Takes over where to panic.
#[cfg(feature = "fault-injection")]
pub(crate) fn arm(settings: &Settings) {
    ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(&settings.fault_panic_at);
}

/// Panics where the settings say so.
#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "what this is for")]
pub(crate) fn strike(site: Site) {
    let armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    if armed.as_deref() == Some(site.name()) {
        panic!("injected at {}", site.name());
    }
}

#[cfg(not(feature = "fault-injection"))]
pub(crate) fn arm(_: &Settings) {}

#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn strike(_: Site) {}
