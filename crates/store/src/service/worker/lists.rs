//! Reads the automatic subscriptions of all client identifiers, page by page.
//!
//! Until that is done in an epoch, each login asks about its own identifier.
//! What is missing at the end was deleted, unless the store has lost it with everything else.

use std::collections::HashSet;
use std::time::Duration;

use midge_core::key::Key;
use midge_core::name::ClientId;

use super::Worker;
use crate::{KeyKind, Page};

/// How many times as long as a listing took the next one waits, where one is wanted again and again.
const REST: u32 = 4;

/// How far the lists have come.
#[derive(Debug, Default)]
pub(super) struct Lists {
    wanted: bool,
    not_before: Duration,
    listing: Option<Listing>,
}

#[derive(Debug)]
struct Listing {
    began: Duration,
    epoch: u64,
    page: Page,
    found: HashSet<ClientId>,
}

impl Lists {
    /// Has the lists read, once more if they are being read.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Gives up a listing that has begun, and wants another.
    pub(super) fn begin_anew(&mut self) {
        self.wanted |= self.listing.take().is_some();
    }

    /// Returns when there is something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.listing {
            Some(_) => Some(Duration::ZERO),
            None => self.wanted.then_some(self.not_before),
        }
    }
}

impl Worker<'_> {
    /// Reads the next page of lists, if they are wanted.
    pub(super) fn read_lists(&mut self) {
        let now = self.now().monotonic;
        if self.store.is_none() || self.lists.due().is_none_or(|due| now < due) {
            return;
        }
        let directory = self.shared.gate.directory();
        if !directory.holds_lists() {
            self.lists = Lists::default();
            return;
        }
        let listing = self.lists.listing.get_or_insert_with(|| {
            self.lists.wanted = false;
            Listing { began: now, epoch: directory.epoch(), page: Page::default(), found: HashSet::new() }
        });
        let page = listing.page.clone();
        let Some((keys, next)) = self.ask(|store| store.list_page(KeyKind::ClientAutosub, &page)) else {
            return self.lists.begin_anew();
        };
        let Some(read) = self.read(&keys) else { return self.lists.begin_anew() };
        self.settle(read);
        let Some(listing) = &mut self.lists.listing else { return };
        listing.found.extend(keys.into_iter().filter_map(client_of));
        match next {
            Some(page) => listing.page = page,
            None => self.end_listing(),
        }
    }

    fn end_listing(&mut self) {
        let Some(Listing { began, epoch, mut found, .. }) = self.lists.listing.take() else { return };
        let now = self.now().monotonic;
        self.lists.not_before = now + now.saturating_sub(began) * REST;
        let directory = self.shared.gate.directory();
        // Each is asked for by itself: it may have come while the others were listed, and be on no page.
        let missing: Vec<Key> =
            directory.clients_with_lists().into_iter().filter(|id| !found.contains(id)).map(Key::ClientAutosub).collect();
        let Some(read) = self.read(&missing) else { return self.lists.want() };
        self.settle(read);
        found.extend(directory.clients_with_lists());
        directory.client_lists_complete(epoch, &found);
    }
}

fn client_of(key: Key) -> Option<ClientId> {
    match key {
        Key::ClientAutosub(client) => Some(client),
        _ => None,
    }
}
