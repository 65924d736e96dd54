//! Who is connected, and what the store was told of it.
//!
//! The difference is what has to be written. A client has at most one room here, however often it comes and goes.
//! A connection that begins and ends between two writings is told of as long as there is room for such, and then counted only.
//! Each client costs some 70 bytes here, so names are kept once, numbers are short, and room grows by a quarter.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;

use hashbrown::HashTable;

use super::{Change, Who};

/// How many changes by connections that were over before they were told may wait.
const MAX_BRIEF: usize = 20_000;
/// How many rooms are looked at for each change that is taken, while all are told again; the body waits meanwhile.
const LOOKS: usize = 8;

/// A moment in milliseconds since 1970; a clock that stands at the very first counts as one later.
type Since = NonZeroU64;

fn moment(unix_ms: u64) -> Since {
    NonZeroU64::new(unix_ms).unwrap_or(NonZeroU64::MIN)
}

/// A client's connection, as the one that has it names it when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    number: u32,
    since: Since,
}

/// Room for a client. It stands in the line of those to be written once at most, whoever has it.
#[derive(Clone, Debug, Default)]
struct Room {
    who: Option<Who>,
    /// What the store was told of the latest connection, and has, unless it lost it.
    stored: Option<Since>,
    /// Since when the client is connected, or when its last connection ended.
    at: u64,
    connected: bool,
    due: bool,
}

impl Room {
    /// Returns since when the client is connected.
    fn now(&self) -> Option<Since> {
        self.connected.then(|| moment(self.at))
    }
}

/// All clients that are connected, or that the store has yet to be told are not.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The number of each client's room, by a keyed hash of who it is.
    numbers: HashTable<u32>,
    keys: RandomState,
    rooms: Vec<Room>,
    free: Vec<u32>,
    /// Rooms whose client differs from the store, and perhaps some that are empty by now.
    due: VecDeque<u32>,
    /// From which room on all have to be told again.
    again_from: Option<u32>,
    brief: VecDeque<Change>,
    stored: usize,
    skipped: u64,
}

impl Table {
    pub(super) fn online(&mut self, who: Who, since: u64) -> Stay {
        let (number, since) = (self.number(who), moment(since));
        if let Some(room) = self.rooms.get_mut(number as usize) {
            (room.connected, room.at) = (true, since.get());
        }
        self.queue(number);
        Stay { number, since }
    }

    pub(super) fn offline(&mut self, who: &Who, since: u64, until: u64) {
        if let Some(number) = self.find(who) {
            self.left(Stay { number, since: moment(since) }, until);
        }
    }

    /// Notes that a connection has ended; a newer one of the client, or of another who has its room now, goes on.
    pub(super) fn left(&mut self, Stay { number, since }: Stay, until: u64) {
        let Some(room) = self.rooms.get_mut(number as usize).filter(|room| room.now() == Some(since)) else { return };
        (room.connected, room.at) = (false, until);
        if room.stored.is_some() {
            return self.queue(number);
        }
        let Some(who) = self.remove(number) else { return };
        if self.brief.len() + 2 > MAX_BRIEF {
            self.skipped += 1;
            return;
        }
        self.brief.push_back(Change::Online { who: who.clone(), since: since.get() });
        self.brief.push_back(Change::Offline { who, since: since.get(), until, lost: false });
    }

    /// Ends all connections.
    pub(super) fn all_gone(&mut self, until: u64) {
        let stay = |(room, number): (&Room, u32)| Some(Stay { number, since: room.now()? });
        let connected: Vec<Stay> = self.rooms.iter().zip(0..).filter_map(stay).collect();
        for stay in connected {
            self.left(stay, until);
        }
    }

    /// Has the store told of all clients again.
    pub(super) fn everything(&mut self) {
        self.again_from = Some(0).filter(|_| !self.rooms.is_empty());
    }

    /// Takes what has to be written next, `most` changes at most, and counts it as written.
    pub(super) fn take(&mut self, most: usize) -> Vec<Change> {
        let brief = self.brief.len().min(most);
        let mut changes: Vec<Change> = self.brief.drain(..brief).collect();
        while changes.len() < most
            && let Some(number) = self.due.pop_front()
        {
            if let Some(room) = self.rooms.get_mut(number as usize) {
                room.due = false;
            }
            changes.extend(self.settle(number));
        }
        let mut looks = most.saturating_mul(LOOKS);
        while changes.len() < most
            && looks > 0
            && let Some(number) = self.again_from
        {
            looks -= 1;
            self.again_from = Some(number + 1).filter(|next| (*next as usize) < self.rooms.len());
            changes.extend(self.settle(number));
        }
        changes
    }

    /// Counts what a room says as written, and returns how to write it.
    fn settle(&mut self, number: u32) -> Option<Change> {
        let room = self.rooms.get_mut(number as usize)?;
        let who = room.who.clone()?;
        match (room.now(), room.stored) {
            (Some(since), before) => {
                room.stored = Some(since);
                self.stored += usize::from(before.is_none());
                Some(Change::Online { who, since: since.get() })
            }
            (None, Some(since)) => {
                let until = room.at;
                self.stored -= 1;
                self.remove(number);
                Some(Change::Offline { who, since: since.get(), until, lost: false })
            }
            (None, None) => {
                self.remove(number);
                None
            }
        }
    }

    /// Gives back a change that was taken and perhaps not written.
    pub(super) fn give_back(&mut self, change: Change) {
        match change {
            // Where it has no room it was a brief one, whose end comes back as well.
            Change::Online { who, .. } => {
                if let Some(number) = self.find(&who) {
                    self.queue(number);
                }
            }
            Change::Offline { who, since, until, .. } => {
                let number = self.number(who);
                if let Some(room) = self.rooms.get_mut(number as usize).filter(|room| room.stored.is_none()) {
                    room.stored = Some(moment(since));
                    if !room.connected {
                        room.at = until;
                    }
                    self.stored += 1;
                }
                self.queue(number);
            }
        }
    }

    /// Returns whether the client is connected, or the store has still to hear that it isn't.
    pub(super) fn has(&self, who: &Who) -> bool {
        self.find(who).is_some()
    }

    /// Returns whether there is nothing to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.brief.is_empty() && self.again_from.is_none()
    }

    /// Returns for how many clients the store was told that they are connected.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    pub(super) fn waiting(&self) -> usize {
        self.due.len() + self.brief.len() + self.again_from.map_or(0, |from| self.rooms.len() - from as usize)
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn find(&self, who: &Who) -> Option<u32> {
        self.numbers.find(self.keys.hash_one(who), |number| is_of(&self.rooms, *number, who)).copied()
    }

    /// Returns the number of a client's room, a new one where it has none.
    fn number(&mut self, who: Who) -> u32 {
        if let Some(number) = self.find(&who) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            if self.rooms.len() == self.rooms.capacity() {
                self.rooms.reserve_exact(self.rooms.len() / 4 + 16);
            }
            self.rooms.push(Room::default());
            // A broker has one descriptor for each client, and numbers those with fewer bits.
            u32::try_from(self.rooms.len() - 1).unwrap_or(u32::MAX)
        });
        let hash = self.keys.hash_one(&who);
        if let Some(room) = self.rooms.get_mut(number as usize) {
            *room = Room { who: Some(who), due: room.due, ..Room::default() };
        }
        let (keys, rooms) = (&self.keys, &self.rooms);
        let hash_of =
            |number: &u32| rooms.get(*number as usize).and_then(|room| room.who.as_ref()).map_or(0, |who| keys.hash_one(who));
        self.numbers.insert_unique(hash, number, hash_of);
        number
    }

    /// Empties a room; returns who had it.
    fn remove(&mut self, number: u32) -> Option<Who> {
        let room = self.rooms.get_mut(number as usize)?;
        let who = room.who.take()?;
        *room = Room { due: room.due, ..Room::default() };
        if let Ok(entry) = self.numbers.find_entry(self.keys.hash_one(&who), |known| *known == number) {
            entry.remove();
        }
        self.free.push(number);
        Some(who)
    }

    fn queue(&mut self, number: u32) {
        let Some(room) = self.rooms.get_mut(number as usize) else { return };
        if !std::mem::replace(&mut room.due, true) {
            self.due.push_back(number);
        }
    }
}

fn is_of(rooms: &[Room], number: u32, who: &Who) -> bool {
    rooms.get(number as usize).and_then(|room| room.who.as_ref()).is_some_and(|known| known == who)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn who(number: u8) -> Who {
        Who { user: number.is_multiple_of(2).then(|| "ann".parse().unwrap()), client: format!("c{number}").parse().unwrap() }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come(u8),
        Go(u8),
        GoOld(u8),
        Write(usize),
        Unclear(usize, bool),
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..5_u8).prop_map(Step::Come),
            (0..5_u8).prop_map(Step::Go),
            (0..5_u8).prop_map(Step::GoOld),
            (1..4_usize).prop_map(Step::Write),
            (1..4_usize, any::<bool>()).prop_map(|(most, made)| Step::Unclear(most, made)),
            Just(Step::Lose),
        ]
    }

    /// What a store does with a change.
    fn written(mut store: BTreeMap<Who, u64>, change: &Change) -> BTreeMap<Who, u64> {
        match change {
            Change::Online { who, since } => drop(store.insert(who.clone(), *since)),
            Change::Offline { who, since, .. } => store.retain(|known, held| !(known == who && *held <= *since)),
        }
        store
    }

    proptest! {
        #[test]
        fn the_store_ends_up_with_those_who_are_connected(steps in prop::collection::vec(step(), 0..80)) {
            let (mut table, mut store, mut live) = (Table::default(), BTreeMap::new(), BTreeMap::new());
            for (time, step) in (2_u64..).zip(steps) {
                match step {
                    Step::Come(n) => {
                        live.insert(who(n), time);
                        table.online(who(n), time);
                    }
                    Step::Go(n) => {
                        if let Some(since) = live.remove(&who(n)) {
                            table.offline(&who(n), since, time);
                        }
                    }
                    Step::GoOld(n) => table.offline(&who(n), 1, time),
                    Step::Write(most) => table.take(most).iter().for_each(|change| store = written(std::mem::take(&mut store), change)),
                    Step::Unclear(most, made) => {
                        for change in table.take(most) {
                            if made {
                                store = written(store, &change);
                            }
                            table.give_back(change);
                        }
                    }
                    Step::Lose => {
                        store.clear();
                        table.everything();
                    }
                }
                prop_assert!(table.stored() <= table.numbers.len() && table.due.len() <= table.rooms.len() && table.rooms.len() <= 5);
            }
            while !table.is_idle() {
                table.take(3).iter().for_each(|change| store = written(std::mem::take(&mut store), change));
            }
            prop_assert_eq!(&store, &live);
            prop_assert_eq!((table.stored(), table.numbers.len()), (live.len(), live.len()));
            table.all_gone(1_000);
            table.take(usize::MAX).iter().for_each(|change| store = written(std::mem::take(&mut store), change));
            prop_assert!(store.is_empty() && table.numbers.is_empty() && table.stored() == 0);
        }
    }

    #[test]
    fn an_end_removes_what_a_failed_writing_left() {
        let mut table = Table::default();
        table.online(who(0), 1);
        assert_eq!(table.take(1).len(), 1);
        table.online(who(0), 2);
        let unclear = table.take(1).remove(0);
        table.give_back(unclear);
        table.offline(&who(0), 2, 3);
        // The store has either.
        let end = table.take(9);
        for since in [1, 2] {
            let store = BTreeMap::from([(who(0), since)]);
            assert_eq!(end.iter().fold(store, written), BTreeMap::new());
        }
    }

    #[test]
    fn a_brief_connection_is_told_of_in_order_while_there_is_room() {
        let mut table = Table::default();
        let connect = |table: &mut Table| {
            table.online(who(1), 5);
            table.offline(&who(1), 5, 6);
        };
        connect(&mut table);
        let off = Change::Offline { who: who(1), since: 5, until: 6, lost: false };
        assert_eq!(table.take(9), [Change::Online { who: who(1), since: 5 }, off]);
        (0..MAX_BRIEF).for_each(|_| connect(&mut table));
        assert_eq!((table.skipped(), table.waiting() <= MAX_BRIEF + 1), (MAX_BRIEF as u64 / 2, true));
        assert_eq!(table.take(usize::MAX).len(), MAX_BRIEF);
    }
}
