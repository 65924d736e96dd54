//! Records, and what waits for them and for other loops.

use std::collections::{HashMap, VecDeque};

use midge_mqtt::PacketId;

use super::{Event, Shard, list};
use crate::exchange::{Reach, ReplyTo, ToLoop};
use crate::permission::Turn;
use crate::record::{MessageKey, Order, Record, SessionKey};
use crate::session::held::{Held, HeldPacket};

/// The stream of records.
#[derive(Debug)]
pub(super) struct Emitter {
    on: bool,
    event_loop: u8,
    records: Vec<Record>,
    emitted: u64,
    committed: u64,
    waiting: VecDeque<(u64, Waiter)>,
    last_key: u64,
}

/// Who goes on when a record is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Session(u32),
    /// A connection whose CONNACK waits.
    Connection(u32),
    Ticket(u64),
}

/// What waits for other loops.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
    open: HashMap<u64, Ticket>,
}

#[derive(Debug)]
struct Ticket {
    /// Answers that are missing.
    missing: u32,
    /// The record of this loop that must be committed too.
    after: u64,
    then: Then,
}

/// What happens when all answers are there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// The acknowledgements of a session go on.
    Session(u32),
    /// A message of QoS 2 is safe everywhere: that it came is recorded, and then PUBREC goes on.
    Received(u32, PacketId),
    /// Another loop is told, and whom it reached.
    Reply(ReplyTo, Reach),
    /// The caller is told what became of a push, and whom it reached.
    Pushed(u64, Reach),
    /// A message of a session that ended is safe with somebody else.
    Done(SessionKey, Order),
}

/// Collects who has to answer before something is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaiting {
    /// `None` where nobody has to answer.
    reply: Option<ReplyTo>,
    missing: u32,
}

impl Then {
    /// Adds those whom the message reached on another loop.
    fn reached(&mut self, more: Reach) {
        if let Self::Reply(_, reach) | Self::Pushed(_, reach) = self {
            reach.add(more);
        }
    }
}

impl Awaiting {
    /// Returns where to answer, and counts on an answer.
    pub(super) fn ask(&mut self) -> Option<ReplyTo> {
        self.missing += u32::from(self.reply.is_some());
        self.reply
    }
}

impl Emitter {
    pub(super) fn new(on: bool, event_loop: u8) -> Self {
        Self { on, event_loop, records: Vec::new(), emitted: 0, committed: 0, waiting: VecDeque::new(), last_key: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Emits a record and returns its number; 0 where nothing is persistent.
    pub(super) fn emit(&mut self, record: Record) -> u64 {
        if !self.on {
            return 0;
        }
        self.records.push(record);
        self.emitted += 1;
        self.emitted
    }

    pub(super) fn emitted(&self) -> u64 {
        self.emitted
    }

    #[inline]
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    pub(super) fn take(&mut self, batch: &mut Vec<Record>) -> u64 {
        batch.append(&mut self.records);
        self.emitted
    }

    /// Returns a key that nothing else has.
    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        (self.last_key << 8) | u64::from(self.event_loop)
    }

    pub(super) fn session_key(&mut self) -> SessionKey {
        SessionKey(self.next_key())
    }

    pub(super) fn message_key(&mut self) -> MessageKey {
        MessageKey(self.next_key())
    }

    /// Makes all keys from now on greater than `key`.
    pub(super) fn skip_keys(&mut self, key: u64) {
        self.last_key = self.last_key.max(key >> 8);
    }

    fn wait(&mut self, after: u64, waiter: Waiter) {
        if after > self.committed && self.waiting.back() != Some(&(after, waiter)) {
            // Almost always the last; a message that waits for an older record than others do is rare.
            let at = self.waiting.iter().rposition(|&(number, _)| number <= after).map_or(0, |at| at + 1);
            self.waiting.insert(at, (after, waiter));
        }
    }
}

impl Shard {
    /// Learns that all records up to this number are on disk: what waited for them goes on.
    pub fn committed(&mut self, number: u64, turn: &Turn<'_>) {
        self.emitter.committed = self.emitter.committed.max(number.min(self.emitter.emitted));
        while let Some((_, waiter)) = self.emitter.waiting.pop_front_if(|(after, _)| *after <= self.emitter.committed) {
            match waiter {
                Waiter::Session(session) => self.wake(session, turn),
                Waiter::Connection(slot) => {
                    if let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.waiting() > 0) {
                        list(connection, slot, &mut self.ready, self.emitter.committed);
                    }
                }
                Waiter::Ticket(ticket) => self.settle_ticket(ticket, turn),
            }
        }
    }

    /// Begins to collect answers; none is asked for unless `wanted`.
    pub(super) fn awaiting(&mut self, wanted: bool) -> Awaiting {
        if !wanted {
            return Awaiting { reply: None, missing: 0 };
        }
        self.tickets.last += 1;
        Awaiting { reply: Some(ReplyTo { event_loop: self.place.event_loop, ticket: self.tickets.last }), missing: 0 }
    }

    /// Notes what happens when all that were asked have answered and the record `after` is committed; does it where that is now.
    ///
    /// Returns the ticket to wait for, 0 for none.
    pub(super) fn settle(&mut self, awaiting: Awaiting, after: u64, then: Then, turn: &Turn<'_>) -> u64 {
        // What a client waits for is only being put together, and knows of the record itself.
        let of_client = matches!(then, Then::Session(_) | Then::Received(..));
        if awaiting.missing == 0 && (of_client || after <= self.emitter.committed) {
            if !of_client {
                self.fulfil(0, then, turn);
            }
            return 0;
        }
        let ticket = awaiting.reply.map_or_else(
            || {
                self.tickets.last += 1;
                self.tickets.last
            },
            |reply| reply.ticket,
        );
        self.tickets.open.insert(ticket, Ticket { missing: awaiting.missing, after, then });
        if awaiting.missing == 0 {
            self.emitter.wait(after, Waiter::Ticket(ticket));
        }
        ticket
    }

    /// Takes an answer of another loop.
    pub(super) fn answered(&mut self, ticket: u64, reach: Reach, turn: &Turn<'_>) {
        let Some(open) = self.tickets.open.get_mut(&ticket) else { return };
        open.then.reached(reach);
        open.missing = open.missing.saturating_sub(1);
        self.settle_ticket(ticket, turn);
    }

    fn settle_ticket(&mut self, ticket: u64, turn: &Turn<'_>) {
        let Some(open) = self.tickets.open.get(&ticket).filter(|open| open.missing == 0) else { return };
        let (after, then) = (open.after, open.then);
        if after > self.emitter.committed && !matches!(then, Then::Session(_) | Then::Received(..)) {
            return self.emitter.wait(after, Waiter::Ticket(ticket));
        }
        self.tickets.open.remove(&ticket);
        self.fulfil(ticket, then, turn);
    }

    fn fulfil(&mut self, ticket: u64, then: Then, turn: &Turn<'_>) {
        match then {
            Then::Session(session) => self.wake(session, turn),
            Then::Received(session, id) => {
                self.record_received(session, id, ticket);
                self.wake(session, turn);
            }
            Then::Reply(reply, reach) => self.tell(reply.event_loop, ToLoop::Done { ticket: reply.ticket, reach }, turn),
            Then::Pushed(token, reach) => self.events.push_back(Event::Pushed { token, reach }),
            Then::Done(session, order) => {
                self.emitter.emit(Record::Done { session, order });
            }
        }
    }

    /// Records that a message of QoS 2 came, once all loops have it; its PUBREC waits for that.
    ///
    /// The other way round, a crash between the two would lose it.
    fn record_received(&mut self, session: u32, packet_id: PacketId, ticket: u64) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        let (key, connection) = (known.key, known.connection);
        let received = known.flow.as_mut().and_then(|flow| flow.received.get_mut(&packet_id));
        let Some(wait) = received.filter(|wait| wait.ticket == ticket) else { return };
        wait.ticket = 0;
        if let Some(key) = key {
            wait.after = self.emitter.emit(Record::Received { session: key, packet_id });
        }
        let after = wait.after;
        let line = self.connections.get_mut(connection).and_then(|known| known.held.as_mut());
        for held in line.into_iter().flat_map(|line| line.iter_mut()).filter(|held| held.ticket == ticket) {
            held.after = after;
        }
        self.wake_after(session, after);
    }

    /// Lets a session go on with what may have waited.
    fn wake(&mut self, session: u32, turn: &Turn<'_>) {
        self.release(session);
        self.pump(session, turn);
    }

    /// Has a session woken when a record is committed.
    pub(super) fn wake_after(&mut self, session: u32, after: u64) {
        self.emitter.wait(after, Waiter::Session(session));
    }

    /// Has a connection written when a record is committed.
    pub(super) fn cork(&mut self, slot: u32, after: u64) {
        if let Some(connection) = self.connections.get_mut(slot).filter(|_| after > self.emitter.committed) {
            connection.corked = after;
            self.emitter.wait(after, Waiter::Connection(slot));
        }
    }

    /// Sends an acknowledgement, behind those before it, once a record is committed and a ticket settled.
    pub(super) fn hold(&mut self, slot: u32, after: u64, ticket: u64, packet: HeldPacket) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let now = after <= self.emitter.committed && !self.tickets.open.contains_key(&ticket);
        if now && connection.held.is_none() {
            return self.write_held(slot, &packet);
        }
        connection.held.get_or_insert_default().push_back(Held { after, ticket, packet });
        let session = connection.session;
        self.wake_after(session, after);
    }

    /// Writes the acknowledgements of a session that wait for nothing any more.
    fn release(&mut self, session: u32) {
        let Some(slot) = self.sessions.get(session).map(|known| known.connection) else { return };
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            let Some(line) = &mut connection.held else { return };
            let committed = self.emitter.committed;
            let tickets = &self.tickets.open;
            let Some(held) = line.pop_front_if(|held| held.after <= committed && !tickets.contains_key(&held.ticket)) else {
                return;
            };
            if line.is_empty() {
                connection.held = None;
            }
            self.write_held(slot, &held.packet);
        }
    }

    fn write_held(&mut self, slot: u32, packet: &HeldPacket) {
        if let Some(connection) = self.connections.get_mut(slot).filter(|_| packet.frees_place()) {
            connection.unacknowledged = connection.unacknowledged.saturating_sub(1);
        }
        self.write_own(slot, |version, out| packet.write(version, out));
    }
}
