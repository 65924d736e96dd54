//! Follows the store's announcements and tells the worker.
//!
//! While they don't reach us the directory is told so, and nothing in it counts as fresh.

use std::sync::Arc;
use std::time::Duration;

use midge_core::key::Key;

use super::Shared;
use crate::guarded::guarded;
use crate::limiter::Limiter;
use crate::{Backoff, Change, StoreError, Watch};

/// How long one look at the announcements may take.
///
/// The thread's end, and a key that may have gone with everything else, wait for no longer while the store answers.
const LOOK: Duration = Duration::from_millis(100);

/// The body of the watching thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let (mut beginnings, mut complaints) = (Limiter::new(6), Limiter::new(6));
    while !shared.queue.is_stopping() {
        let followed = guarded(|| follow(shared, &mut backoff, &mut beginnings));
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
fn follow(shared: &Shared, backoff: &mut Backoff, beginnings: &mut Limiter) -> Result<(), StoreError> {
    let mut watch = shared.backend.watch()?;
    let began = shared.clock.now().monotonic;
    let mode = watch.mode().name();
    shared.note(|health| health.watch_mode = Some(mode));
    if beginnings.pass(began).is_some() {
        log::info!("following changes in the store by {mode}");
    }
    // Only this thread loses the link, so the number stays the same for as long as the watch holds.
    let losses = shared.gate.directory().losses();
    shared.queue.everything(losses, false);
    while !shared.queue.is_stopping() {
        tell(shared, watch.as_mut(), losses)?;
        backoff.held(shared.clock.now().monotonic.saturating_sub(began));
    }
    Ok(())
}

fn tell(shared: &Shared, watch: &mut dyn Watch, losses: u64) -> Result<(), StoreError> {
    let (anything, keys) = since_anything(watch.next(LOOK)?);
    if let Some(flushed) = anything {
        shared.queue.everything(losses, flushed);
    }
    if !keys.is_empty() {
        shared.queue.changed(keys, losses);
    }
    // Last, so that who takes it has been told of all before.
    shared.queue.heard(watch.heard_until());
    Ok(())
}

/// Returns whether anything may have changed, and then whether all was lost, and the keys named after that.
///
/// A key named before is covered, and must not stay: found missing in a store that was emptied, it would count as deleted.
fn since_anything(mut changes: Vec<Change>) -> (Option<bool>, Vec<Key>) {
    let last = changes.iter().rposition(|change| !matches!(change, Change::Key(_)));
    let after = changes.split_off(last.map_or(0, |at| at + 1));
    let keys = after.into_iter().filter_map(|change| match change {
        Change::Key(key) => Some(key),
        Change::Everything | Change::Flushed => None,
    });
    (last.map(|_| changes.contains(&Change::Flushed)), keys.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_before_everything_is_covered_by_it() {
        let key = |name: &str| Key::User(name.parse().unwrap());
        let named = |name: &str| Change::Key(key(name));
        let check = |changes: Vec<Change>, anything: Option<bool>, keys: &[Key]| {
            assert_eq!(since_anything(changes), (anything, keys.to_vec()));
        };
        check(vec![], None, &[]);
        check(vec![named("a"), named("b")], None, &[key("a"), key("b")]);
        check(vec![named("a"), Change::Everything], Some(false), &[]);
        check(vec![named("a"), Change::Flushed, named("b")], Some(true), &[key("b")]);
        check(vec![Change::Everything, named("a"), Change::Everything, named("b")], Some(false), &[key("b")]);
        check(vec![Change::Flushed, named("a"), Change::Everything, named("b")], Some(true), &[key("b")]);
    }
}
