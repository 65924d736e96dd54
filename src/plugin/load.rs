//! Which of several loads of the plugin this is.
//!
//! With `per_listener_settings` each listener loads the plugin anew, and each load has the clients of its listener alone.

use std::sync::atomic::{AtomicUsize, Ordering};

static LOADS: AtomicUsize = AtomicUsize::new(0);

/// One load, as long as it lasts.
pub(super) struct Load {
    earlier: usize,
}

impl Load {
    pub(super) fn begin() -> Self {
        Self { earlier: LOADS.fetch_add(1, Ordering::AcqRel) }
    }

    /// Returns whether what concerns all listeners is this load's business.
    pub(super) fn is_first(&self) -> bool {
        self.earlier == 0
    }

    /// Returns whether there is no other.
    pub(super) fn is_only() -> bool {
        LOADS.load(Ordering::Acquire) == 1
    }

    /// Returns what the load is called where the server is called `node`.
    pub(super) fn name(&self, node: &str) -> String {
        if self.is_first() { node.to_owned() } else { format!("{node}#{}", self.earlier + 1) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        LOADS.fetch_sub(1, Ordering::AcqRel);
    }
}
