//! Takes in what the store holds.
//!
//! All that was read together counts together: each account is replaced once per batch,
//! so nobody meets a user's new record beside the old rules. Content that is the same as before is not compiled again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, PoisonError};

use super::Directory;
use super::account::{Account, Part, RecordState, Stamp, Standing, groups_of};
use super::shared::Shared;
use super::slot::Slot;
use crate::bans::{Ban, BanList, MAX_BANS};
use crate::entry::Entry;
use crate::key::{BanTarget, Key};
use crate::name::{GroupName, Username};
use crate::record::UserRecord;
use crate::rules::RuleSet;
use crate::time::Now;

/// Something under a key that can't be read, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlawedKey {
    /// The key.
    pub key: Key,
    /// What is wrong, one sentence each; at most 20.
    pub flaws: Vec<String>,
}

/// What was read of one key; parsed when the first account needs it, and once for all of them.
struct News<'a, T> {
    key: &'a Key,
    entry: &'a Entry,
    print: u64,
    stamp: Stamp,
    parse: &'a dyn Fn(&Entry) -> (T, Vec<String>),
    parsed: Option<T>,
    flaws: Vec<String>,
}

impl<T: Clone> News<'_, T> {
    /// Brings `part` up to date; returns whether its content is another one now.
    fn renew(&mut self, part: &mut Part<T>) -> bool {
        let changed = !part.is_known() || part.print != self.print;
        if changed {
            let flaws = &mut self.flaws;
            let value = self.parsed.get_or_insert_with(|| {
                let (value, found) = (self.parse)(self.entry);
                *flaws = found;
                value
            });
            part.value = value.clone();
        }
        (part.print, part.stamp) = (self.print, self.stamp);
        changed
    }

    fn flawed(self) -> Option<FlawedKey> {
        (!self.flaws.is_empty()).then(|| FlawedKey { key: self.key.clone(), flaws: self.flaws })
    }
}

#[derive(Default)]
struct UserNews<'a> {
    record: Option<News<'a, RecordState>>,
    rules: Option<News<'a, Arc<RuleSet>>>,
}

/// All that was read together.
#[derive(Default)]
struct Batch<'a> {
    users: HashMap<&'a Username, UserNews<'a>>,
    groups: HashMap<&'a GroupName, News<'a, Arc<RuleSet>>>,
    everyone: Option<News<'a, Arc<RuleSet>>>,
    bans: Vec<(&'a Key, &'a BanTarget, &'a Entry)>,
}

/// Which of the shared rules were read, and whether they are others now.
#[derive(Default)]
struct SharedNews<'a> {
    groups: HashMap<&'a GroupName, bool>,
    everyone: Option<bool>,
}

impl SharedNews<'_> {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.everyone.is_none()
    }

    /// Returns whether an account in `groups` has to be composed anew, and whether to other rules.
    fn concerns(&self, groups: &[GroupName]) -> Option<bool> {
        let of_groups = groups.iter().filter_map(|group| self.groups.get(group).copied());
        of_groups.chain(self.everyone).reduce(|one, other| one || other)
    }
}

impl Directory {
    /// Takes in what the store holds under each key now; returns what of it can't be read.
    ///
    /// Only the store's worker calls this, in the order in which it read.
    pub fn apply(&self, read: &[(Key, Entry)], now: Now) -> Vec<FlawedKey> {
        let lists = RefCell::new(self.writer.lock().unwrap_or_else(PoisonError::into_inner));
        let parse_record = |entry: &Entry| record_of(entry, |list| lists.borrow_mut().share(list));
        self.link.see(now);
        let mut batch = self.batch(read, now, &parse_record);
        let shared_news = self.apply_shared(&mut batch);
        let slots: Vec<Arc<Slot>> = {
            let slots = self.lock_slots();
            match shared_news.is_empty() {
                true => batch.users.keys().flat_map(|user| slots.of(Some(*user))).cloned().collect(),
                false => slots.iter().cloned().collect(),
            }
        };
        let shared = self.shared.load();
        for slot in &slots {
            let news = slot.identity().user.as_ref().and_then(|user| batch.users.get_mut(user));
            self.renew(slot, news, &shared_news, &shared);
        }
        let mut flawed = self.apply_bans(&batch.bans, now);
        let of_users = batch
            .users
            .into_values()
            .flat_map(|user| user.record.and_then(News::flawed).into_iter().chain(user.rules.and_then(News::flawed)));
        flawed.extend(of_users);
        flawed.extend(batch.groups.into_values().chain(batch.everyone).filter_map(News::flawed));
        flawed
    }

    /// Returns the keys of groups that the users' records in `read` name and that are not known yet.
    ///
    /// Applied together with `read`, they spare live clients the moment in which a new group is named and not read,
    /// and nothing is allowed.
    #[must_use]
    pub fn wants_beside(&self, read: &[(Key, Entry)]) -> Vec<Key> {
        let shared = self.shared.load();
        let mut groups = HashSet::new();
        for (key, entry) in read {
            if let (Key::User(_), (RecordState::Known(record), _)) = (key, record_of(entry, |list| list)) {
                groups.extend(record.groups.iter().filter(|group| !shared.groups.contains_key(*group)).cloned());
            }
        }
        let keys = groups.into_iter().map(Key::GroupAcl);
        keys.filter(|key| read.iter().all(|(other, _)| other != key)).collect()
    }

    /// Replaces the whole list of bans; returns how many had no room.
    pub fn replace_bans(&self, bans: impl IntoIterator<Item = (BanTarget, Ban)>) -> usize {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = BanList::default();
        let refused = bans.into_iter().filter(|(target, ban)| !list.insert(target.clone(), ban.clone())).count();
        self.put_bans(list);
        refused
    }

    /// Returns a keyed hash of what `entry` says.
    pub(super) fn print(&self, entry: &Entry) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match entry {
            Entry::Missing => hasher.write_u8(0),
            Entry::Hash(fields) => {
                // The order of a hash's fields means nothing, so the fields' own hashes are added up.
                let sum = fields.iter().fold(0_u64, |sum, field| sum.wrapping_add(self.hasher.hash_one(field)));
                hasher.write_u8(1);
                hasher.write_u64(sum);
            }
            Entry::Text { value, .. } => {
                hasher.write_u8(2);
                hasher.write(value);
            }
            Entry::Unreadable(_) => hasher.write_u8(3),
        }
        hasher.finish()
    }

    fn batch<'a>(
        &self,
        read: &'a [(Key, Entry)],
        now: Now,
        parse_record: &'a dyn Fn(&Entry) -> (RecordState, Vec<String>),
    ) -> Batch<'a> {
        let stamp = Stamp::new(self.link.epoch(), now.monotonic);
        let mut batch = Batch::default();
        for (key, entry) in read {
            let print = self.print(entry);
            let rules = || News { key, entry, print, stamp, parse: &rules_of, parsed: None, flaws: Vec::new() };
            match key {
                Key::User(name) => {
                    let record = News { key, entry, print, stamp, parse: parse_record, parsed: None, flaws: Vec::new() };
                    batch.users.entry(name).or_default().record = Some(record);
                }
                Key::UserAcl(name) => batch.users.entry(name).or_default().rules = Some(rules()),
                Key::GroupAcl(group) => {
                    batch.groups.insert(group, rules());
                }
                Key::AllAcl => batch.everyone = Some(rules()),
                Key::Ban(target) => batch.bans.push((key, target, entry)),
                _ => {}
            }
        }
        batch
    }

    fn apply_shared<'a>(&self, batch: &mut Batch<'a>) -> SharedNews<'a> {
        let mut changed = SharedNews::default();
        if batch.groups.is_empty() && batch.everyone.is_none() {
            return changed;
        }
        let mut shared = Shared::clone(&self.shared.load());
        for (group, news) in &mut batch.groups {
            changed.groups.insert(group, news.renew(shared.groups.entry((*group).clone()).or_default()));
        }
        changed.everyone = batch.everyone.as_mut().map(|news| news.renew(&mut shared.everyone));
        self.shared.store(Arc::new(shared));
        changed
    }

    /// Composes the account of `slot` anew, if any of its parts was read.
    fn renew(&self, slot: &Arc<Slot>, news: Option<&mut UserNews<'_>>, shared_news: &SharedNews<'_>, shared: &Shared) {
        let before = slot.account_full();
        let (mut record, mut rules) = (before.record.clone(), before.rules.clone());
        let mut changed = None;
        if let Some(news) = news {
            let record_changed = news.record.as_mut().is_some_and(|news| news.renew(&mut record));
            let rules_changed = news.rules.as_mut().is_some_and(|news| news.renew(&mut rules));
            changed = Some(record_changed || rules_changed);
        }
        if !shared_news.is_empty()
            && let Some(shared_changed) = shared_news.concerns(&groups_of(slot.identity(), &record.value))
        {
            changed = Some(changed.unwrap_or(false) || shared_changed);
        }
        if let Some(changed) = changed {
            let account = Account::compose(slot.identity(), record, rules, shared);
            self.put_account(slot, account, changed);
        }
    }

    fn put_account(&self, slot: &Arc<Slot>, account: Account, changed: bool) {
        // Rules of a group that come a moment later would take back what an announcement now would set off;
        // coming, they are a change themselves.
        let waits = changed && account.standing() == Standing::Active && !account.is_decided();
        slot.put(account);
        if slot.is_live() {
            self.generation.fetch_add(1, Ordering::Release);
            if changed && !waits {
                self.changes.account(slot);
            }
        }
    }

    fn apply_bans(&self, read: &[(&Key, &BanTarget, &Entry)], now: Now) -> Vec<FlawedKey> {
        let mut flawed = Vec::new();
        if read.is_empty() {
            return flawed;
        }
        let mut list = BanList::clone(&self.bans.load());
        for (key, target, entry) in read {
            if **entry == Entry::Missing {
                list.remove(target);
            } else if !list.insert((*target).clone(), Ban::from_entry(entry, now)) {
                flawed.push(FlawedKey { key: (*key).clone(), flaws: vec![format!("no room: at most {MAX_BANS} bans are held")] });
            }
        }
        self.put_bans(list);
        flawed
    }

    fn put_bans(&self, list: BanList) {
        let adds = list.adds_to(&self.bans.load());
        self.bans.store(Arc::new(list));
        if adds {
            self.changes.bans();
        }
    }
}

/// Returns what a user's record says; `share` exchanges its list of groups for one that others have too.
fn record_of(entry: &Entry, share: impl FnOnce(Arc<[GroupName]>) -> Arc<[GroupName]>) -> (RecordState, Vec<String>) {
    match entry {
        Entry::Missing => (RecordState::Missing, Vec::new()),
        Entry::Hash(fields) => {
            let (mut record, flaws) = UserRecord::parse(fields);
            record.groups = share(std::mem::take(&mut record.groups));
            (RecordState::Known(Arc::new(record)), flaws)
        }
        Entry::Text { .. } => (RecordState::Unreadable, vec!["is a string; a hash is expected".to_owned()]),
        Entry::Unreadable(reason) => (RecordState::Unreadable, vec![reason.clone()]),
    }
}

fn rules_of(entry: &Entry) -> (Arc<RuleSet>, Vec<String>) {
    // Most users have no rules of their own, so all of them share these.
    static NONE: LazyLock<Arc<RuleSet>> = LazyLock::new(Arc::default);
    let closed = |flaw| (Arc::new(RuleSet::closed()), vec![flaw]);
    let fields = match entry {
        Entry::Missing => return (NONE.clone(), Vec::new()),
        Entry::Hash(fields) => fields,
        Entry::Text { .. } => return closed("is a string; a hash is expected, so everything is denied".to_owned()),
        Entry::Unreadable(reason) => return closed(format!("{reason}, so everything is denied")),
    };
    let (rules, flaws) = RuleSet::parse(fields);
    (Arc::new(rules), flaws.iter().map(ToString::to_string).collect())
}
