//! Keeps a panic from ending a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; returns `None` where it panicked.
pub(crate) fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).inspect_err(|_| log::error!("internal error: a thread of the store panicked")).ok()
}
