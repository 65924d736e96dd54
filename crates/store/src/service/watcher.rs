//! Follows the store's announcements and tells the worker.
//!
//! While they don't reach us the directory is told so, and nothing in it counts as fresh.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::limiter::Limiter;
use super::reply::guarded;
use crate::{Backoff, Change, StoreError, Watch};

/// How long one look at the announcements may take; the thread's end waits for no longer while the store answers.
const LOOK: Duration = Duration::from_millis(200);

/// The body of the watching thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut complaints = Limiter::new(6);
    while !shared.queue.is_stopping() {
        let followed = guarded(|| follow(shared, &mut backoff));
        let error = match followed {
            Some(Ok(())) => return,
            Some(Err(error)) => error.to_string(),
            None => "internal error".to_owned(),
        };
        let now = shared.clock.now();
        shared.gate.directory().lost(now);
        if let Some(held_back) = complaints.pass(now.monotonic) {
            log::warn!("changes in the store don't reach this node: {error} ({held_back} more of these not shown)");
        }
        shared.queue.pause(backoff.wait());
    }
}

/// Returns at the service's end; an error says that announcements ended before, or didn't begin.
fn follow(shared: &Shared, backoff: &mut Backoff) -> Result<(), StoreError> {
    let mut watch = shared.backend.watch()?;
    let mode = watch.mode().name();
    shared.note(|health| health.watch_mode = Some(mode));
    log::info!("following changes in the store by {mode}");
    // Only this thread loses the link, so the number stays the same for as long as the watch holds.
    let losses = shared.gate.directory().losses();
    shared.queue.everything(losses);
    while !shared.queue.is_stopping() {
        tell(shared, watch.as_mut(), losses)?;
        backoff.reset();
    }
    Ok(())
}

fn tell(shared: &Shared, watch: &mut dyn Watch, losses: u64) -> Result<(), StoreError> {
    let changes = watch.next(LOOK)?;
    if changes.contains(&Change::Everything) {
        shared.queue.everything(losses);
    }
    let keys = changes.into_iter().filter_map(|change| match change {
        Change::Key(key) => Some(key),
        Change::Everything => None,
    });
    let mut keys = keys.peekable();
    if keys.peek().is_some() {
        shared.queue.changed(keys, losses);
    }
    Ok(())
}
