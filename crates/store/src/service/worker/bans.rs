//! Reads the whole list of bans, a page per turn.
//!
//! Bans that are named as changed meanwhile count as they were read then. The list in force is replaced at the end,
//! and what a part of the store has lost stays on it.

use std::collections::HashMap;
use std::time::Duration;

use midge_core::bans::{Ban, MAX_BANS};
use midge_core::entry::Entry;
use midge_core::key::{BanTarget, Key};
use midge_core::time::Now;

use super::Worker;
use crate::{KeyKind, Page};

/// How many times as long as a listing took the next one waits, where one is wanted again and again.
const REST: u32 = 4;

/// How far the list has come.
#[derive(Debug, Default)]
pub(super) struct Bans {
    wanted: bool,
    not_before: Duration,
    listing: Option<Listing>,
}

#[derive(Debug)]
struct Listing {
    began: Duration,
    page: Page,
    found: HashMap<BanTarget, Ban>,
    /// Those that had no room, counted again where a key came twice.
    refused: usize,
}

impl Bans {
    /// Has the list read, once more if it is being read.
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

    /// Takes over what was just read of single bans.
    pub(super) fn see(&mut self, read: &[(Key, Entry)], now: Now) {
        let Some(listing) = &mut self.listing else { return };
        for (key, entry) in read {
            match (key, entry) {
                (Key::Ban(target), Entry::Missing) => drop(listing.found.remove(target)),
                (Key::Ban(target), _) if listing.found.len() >= MAX_BANS && !listing.found.contains_key(target) => {
                    listing.refused += 1;
                }
                (Key::Ban(target), entry) => drop(listing.found.insert(target.clone(), Ban::from_entry(entry, now))),
                _ => {}
            }
        }
    }
}

impl Worker<'_> {
    /// Reads the next page of bans, if they are wanted.
    pub(super) fn read_bans(&mut self) {
        let now = self.now();
        if self.store.is_none() || self.bans.due().is_none_or(|due| now.monotonic < due) {
            return;
        }
        let listing = self.bans.listing.get_or_insert_with(|| {
            self.bans.wanted = false;
            Listing { began: now.monotonic, page: Page::default(), found: HashMap::new(), refused: 0 }
        });
        let page = listing.page.clone();
        let Some((keys, next)) = self.ask(|store| store.list_page(KeyKind::Ban, &page)) else {
            return self.bans.begin_anew();
        };
        let Some(read) = self.read(&keys) else { return self.bans.begin_anew() };
        self.bans.see(&read, now);
        match (next, &mut self.bans.listing) {
            (Some(page), Some(listing)) => listing.page = page,
            _ => self.replace_bans(),
        }
    }

    fn replace_bans(&mut self) {
        let Some(listing) = self.bans.listing.take() else { return };
        let now = self.now().monotonic;
        self.bans.not_before = now + now.saturating_sub(listing.began) * REST;
        let mut found = listing.found;
        found.extend(self.lost_bans(&found));
        let refused = listing.refused + self.shared.gate.directory().replace_bans(found);
        if refused > 0 {
            log::error!("{refused} bans have no room and don't hold: at most {MAX_BANS} are held");
        }
    }

    /// Returns the bans in force that are not in `found` because the store has lost them.
    fn lost_bans(&mut self, found: &HashMap<BanTarget, Ban>) -> Vec<(BanTarget, Ban)> {
        // One that ends in this very moment may have ended in the store already.
        let now = self.now();
        let soon = Now { unix: now.unix + 2, ..now };
        let bans = self.shared.gate.directory().bans();
        let mut missing: HashMap<Key, Ban> = bans
            .holding(soon)
            .filter(|(target, _)| !found.contains_key(target))
            .map(|(target, ban)| (Key::Ban(target.clone()), ban.clone()))
            .collect();
        let lost = self.lost_of(missing.keys());
        lost.into_iter()
            .filter_map(|key| match (missing.remove(&key), key) {
                (Some(ban), Key::Ban(target)) => Some((target, ban)),
                _ => None,
            })
            .collect()
    }
}
