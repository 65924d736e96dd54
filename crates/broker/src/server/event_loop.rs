//! One thread that serves its clients, turn by turn.
//!
//! A turn reads each socket that has something once, into the loop's one buffer, and writes each socket that gets something once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use midge_core::time::Now;
use midge_engine::exchange::{Place, ToLoop};
use midge_engine::shard::{ConnectionId, Event, Shard};
use mio::{Events, Poll, Token};
use slab::Slab;

use super::deadlines::Deadlines;
use super::door::Mind;
use super::listen::Listeners;
use super::mailbox::{Inbox, Mail, Mailbox};
use super::memory::Shortage;
use super::peer::{Peer, PeerId, Phase};
use super::pump::Pump;
use super::records::Records;
use super::report::{INTERVAL, Report};
use super::seldom::Seldom;
use super::shared::Shared;
use super::sys::Sys;
use super::traffic::Traffic;

/// The share of a socket in one turn, in bytes, and the size of the loop's buffer.
const SHARE: usize = 64 << 10;

/// Events taken from the operating system in one turn.
const EVENTS: usize = 1024;

/// How long a loop waits for another that lags behind, or for the journal.
const PATIENCE: Duration = Duration::from_millis(1);

/// The token of the mailbox; the tokens below belong to listeners, from the top.
pub(super) const MAILBOX: Token = Token(usize::MAX);

/// A thread's whole world.
pub(super) struct EventLoop {
    pub(super) place: Place,
    pub(super) poll: Poll,
    pub(super) shared: Arc<Shared>,
    pub(super) shard: Shard,
    pub(super) mind: Box<dyn Mind>,
    pub(super) now: Now,
    pub(super) peers: Slab<Peer>,
    pub(super) serial: u32,
    /// The peer of each connection of the engine, by its slot.
    pub(super) peer_of: Vec<u32>,
    pub(super) listeners: Listeners,
    pub(super) buffer: Vec<u8>,
    /// Where what was read becomes MQTT, for connections that aren't plain.
    pub(super) clear: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    /// Peers whose sockets may hold more than their share.
    pub(super) again: Vec<u32>,
    /// Peers whose sockets take more than their share.
    pub(super) unwritten: Vec<ConnectionId>,
    /// Peers that have to send CONNECT.
    pub(super) arriving: Deadlines,
    /// Peers that have to close.
    pub(super) leaving: Deadlines,
    pub(super) traffic: Traffic,
    pub(super) broken: Seldom,
    pub(super) shortage: Shortage,
    /// Whether nobody is let in any more.
    pub(super) stopping: bool,
    pub(super) finished: bool,
    pub(super) journal: Option<Records>,
    /// What passes pushes on, of one loop.
    pub(super) pump: Option<Pump>,
    sys: Option<Sys>,
    /// When the next report is to be written, where something has happened since the last.
    report_due: Option<Duration>,
    reported: Duration,
    inbox: Inbox,
    outbox: Vec<ToLoop>,
}

/// Makes a `Turn` of fields, so that other fields can be changed meanwhile.
macro_rules! turn {
    ($self:ident) => {
        midge_engine::permission::Turn { now: $self.now, permissions: $self.mind.permissions() }
    };
}
pub(super) use turn;

impl EventLoop {
    pub(super) fn new(place: Place, poll: Poll, shared: Arc<Shared>, shard: Shard, mind: Box<dyn Mind>) -> Self {
        let interval = shared.settings.sys_interval.filter(|_| place.event_loop == 0);
        Self {
            sys: interval.map(Sys::new),
            report_due: None,
            reported: Duration::ZERO,
            now: shared.clock.now(),
            place,
            poll,
            shared,
            shard,
            mind,
            peers: Slab::new(),
            serial: 0,
            peer_of: Vec::new(),
            listeners: Listeners::default(),
            buffer: vec![0; SHARE],
            clear: Vec::new(),
            scratch: Vec::new(),
            again: Vec::new(),
            unwritten: Vec::new(),
            arriving: Deadlines::default(),
            leaving: Deadlines::default(),
            traffic: Traffic::default(),
            broken: Seldom::default(),
            shortage: Shortage::default(),
            stopping: false,
            finished: false,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            journal: None,
            pump: None,
        }
    }

    /// Serves until it is told to finish; says through `drained` when its last client is gone.
    ///
    /// # Errors
    /// When the operating system tells of no events any more.
    pub(super) fn run(mut self, drained: &dyn Fn()) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut told = false;
        while !self.finished {
            self.turn(&mut events)?;
            if self.stopping && self.peers.is_empty() && !told && self.pump.as_ref().is_none_or(Pump::is_idle) {
                told = true;
                drained();
            }
        }
        self.put_report();
        Ok(())
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let full = self.journal.as_mut().is_some_and(Records::is_full);
        let crowded = full || self.shared.mailboxes.iter().any(Mailbox::is_crowded);
        let timeout = if crowded { Some(PATIENCE) } else { self.timeout() };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        self.now = self.shared.clock.now();
        self.shard.take_stock();
        let again = std::mem::take(&mut self.again);
        for event in &*events {
            match event.token() {
                MAILBOX => {}
                token if self.listeners.is_listener(token) => self.listeners.ready(token),
                Token(slot) => self.socket_event(u32::try_from(slot).unwrap_or(u32::MAX), event, crowded),
            }
        }
        self.accept();
        self.read_again(again, crowded);
        self.take_mail();
        if let Some(last) = self.journal.as_mut().and_then(Records::newly_committed) {
            self.shard.committed(last, &turn!(self));
        }
        self.ask_mind();
        self.shard.advance(&turn!(self));
        if let Some(pump) = self.pump.as_mut().filter(|_| !crowded && !self.stopping) {
            pump.pass_on(&mut self.shard, &self.shared.clock, &turn!(self));
        }
        self.pass_deadlines();
        for connection in std::mem::take(&mut self.unwritten) {
            self.flush(connection);
        }
        self.tell_of_shortage();
        self.say_how_it_is();
        self.speak();
        self.report();
        Ok(())
    }

    /// Publishes what the server says of itself.
    fn say_how_it_is(&mut self) {
        if let Some(sys) = self.sys.as_mut().filter(|sys| sys.next() <= self.now.monotonic) {
            sys.publish(&self.shared.reports.total(), &mut self.shard, &turn!(self));
        }
    }

    /// Writes the loop's report, unless the last is so new that it can wait.
    fn report(&mut self) {
        let due = self.reported + INTERVAL;
        if self.now.monotonic < due {
            self.report_due = Some(due);
            return;
        }
        (self.reported, self.report_due) = (self.now.monotonic, None);
        self.put_report();
    }

    fn put_report(&self) {
        let report = Report { engine: self.shard.counters(), traffic: self.traffic, memory: 0 };
        self.shared.reports.put(self.place.event_loop, report);
    }

    /// Says everything that is to be said: to other loops, the journal, the clients.
    fn speak(&mut self) {
        // What is said may lead to more: a client that can't be written to has a will.
        for _ in 0..4 {
            self.take_events();
            self.hand_over();
            let mut any = false;
            while let Some(connection) = self.shard.next_ready() {
                any = true;
                self.flush(connection);
            }
            if !any {
                return;
            }
        }
        self.shared.mailboxes[usize::from(self.place.event_loop)].wake();
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || !self.unwritten.is_empty() || self.listeners.is_ready() || self.has_pushes() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.shard.next_deadline(),
            self.arriving.next(),
            self.leaving.next(),
            self.listeners.next_deadline(),
            self.sys.as_ref().map(Sys::next),
            self.report_due,
            self.mind.next_deadline(self.now),
        ];
        deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(self.now.monotonic))
    }

    fn has_pushes(&self) -> bool {
        !self.stopping && self.pump.as_ref().is_some_and(Pump::is_due)
    }

    fn take_mail(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mailbox = &shared.mailboxes[usize::from(self.place.event_loop)];
        if !mailbox.has_mail() {
            return;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        mailbox.take(&mut inbox);
        for told in inbox.told.drain(..) {
            self.shard.receive(told, &turn!(self));
        }
        for mail in inbox.mail.drain(..) {
            self.take(mail);
        }
        self.inbox = inbox;
    }

    fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Shaken(shaken) => self.shaken(*shaken),
            Mail::Arrived(arrived) => self.arrived(*arrived),
            Mail::Publish(message) => {
                self.shard.publish(message.view(), &turn!(self));
            }
            Mail::Stop => self.send_all_away(),
            Mail::Finish => self.finished = true,
        }
    }

    /// Has the mind do what waits, and goes on with those who waited for it.
    fn ask_mind(&mut self) {
        self.mind.work(&mut self.shard, self.now);
        while let Some((peer, verdict)) = self.mind.next_answer() {
            self.decided(peer, verdict);
        }
    }

    fn take_events(&mut self) {
        self.take_each_event();
        self.pump.iter_mut().for_each(Pump::tell);
    }

    fn take_each_event(&mut self) {
        while let Some(event) = self.shard.next_event() {
            match event {
                Event::Close { connection, reason } => self.close(connection, reason.is_some()),
                Event::Pushed { token, reach } => self.pump.iter_mut().for_each(|pump| pump.landed(token, reach)),
                Event::SessionEnded { session, client_id } => self.mind.session_ended(session, &client_id, &self.shard),
                // Events are for a caller who has something to do at them.
                _ => {}
            }
        }
    }

    /// Gives other loops and the journal what is theirs.
    fn hand_over(&mut self) {
        for other in (0..self.place.loops).filter(|other| *other != self.place.event_loop) {
            self.shard.take_outbox(other, &mut self.outbox);
            if !self.outbox.is_empty() {
                self.shared.mailboxes[usize::from(other)].tell(&mut self.outbox);
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.append(&mut self.shard);
        }
    }

    fn pass_deadlines(&mut self) {
        let now = self.now.monotonic;
        let peers = &self.peers;
        let new = |id: PeerId| find(peers, id).is_some_and(|peer| matches!(peer.phase, Phase::New(_) | Phase::Asked(_)));
        let leaving =
            |id: PeerId| find(peers, id).is_some_and(|peer| matches!(peer.phase, Phase::Closing { .. } | Phase::Lingering));
        let mut late = Vec::new();
        while let Some(id) = self.arriving.due(now, new) {
            self.traffic.connect_timeouts += 1;
            late.push(id);
        }
        while let Some(id) = self.leaving.due(now, leaving) {
            late.push(id);
        }
        for id in late {
            self.drop_peer(id.slot);
        }
    }

    /// Sends every client away and closes the listeners.
    fn send_all_away(&mut self) {
        self.stopping = true;
        self.listeners.close(self.poll.registry());
        let slots: Vec<u32> = self.peers.iter().filter_map(|(slot, _)| u32::try_from(slot).ok()).collect();
        for slot in slots {
            match self.peer(slot).map(|peer| &peer.phase) {
                Some(&Phase::Open { id, .. }) => {
                    self.shard.disconnect(id, midge_mqtt::ReasonCode::ServerShuttingDown, &turn!(self));
                }
                Some(Phase::New(_) | Phase::Asked(_)) => self.drop_peer(slot),
                Some(Phase::Closing { .. } | Phase::Lingering) | None => {}
            }
        }
    }

    pub(super) fn peer(&mut self, slot: u32) -> Option<&mut Peer> {
        self.peers.get_mut(slot as usize)
    }
}

/// Returns a peer, unless its slot has another one now.
pub(super) fn find(peers: &Slab<Peer>, id: PeerId) -> Option<&Peer> {
    peers.get(id.slot as usize).filter(|peer| peer.serial == id.serial)
}
