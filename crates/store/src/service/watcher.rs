//! Follows the store's announcements and tells the worker.
//!
//! While they don't reach us the directory is told so, and nothing in it counts as fresh.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::limiter::Limiter;
use crate::{Backoff, Change, StoreError, Watch};

/// How long one look at the announcements may take; the thread's end waits for no longer.
const LOOK: Duration = Duration::from_millis(200);

/// The body of the watching thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut complaints = Limiter::new(6);
    while !shared.queue.is_stopping() {
        let error = match shared.backend.watch() {
            Ok(mut watch) => {
                backoff.reset();
                match follow(shared, watch.as_mut()) {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let now = shared.clock.now();
        shared.gate.directory().lost(now);
        if let Some(held_back) = complaints.pass(now.monotonic) {
            log::warn!("changes in the store don't reach this node: {error} ({held_back} more of these not shown)");
        }
        shared.queue.pause(backoff.wait());
    }
}

/// Returns at the service's end; an error says that announcements ended before.
fn follow(shared: &Shared, watch: &mut dyn Watch) -> Result<(), StoreError> {
    shared.note(|health| health.watch_mode = Some(watch.mode().name()));
    log::info!("following changes in the store by {}", watch.mode().name());
    shared.queue.everything();
    while !shared.queue.is_stopping() {
        let changes = watch.next(LOOK)?;
        if changes.iter().any(|change| matches!(change, Change::Everything)) {
            shared.queue.everything();
        }
        let keys = changes.into_iter().filter_map(|change| match change {
            Change::Key(key) => Some(key),
            Change::Everything => None,
        });
        let mut keys = keys.peekable();
        if keys.peek().is_some() {
            shared.queue.changed(keys);
        }
    }
    Ok(())
}
