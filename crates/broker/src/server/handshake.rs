//! TLS handshakes, on threads that hold up no loop.
//!
//! A handshake costs as much as hundreds of messages. A connection that begins with one comes here first, and goes to a loop when it
//! is over, with what was read behind it. The threads give way to the loops: whoever is connected is served first.
//!
//! How many connections are here is bounded as connections are, and each stays for as long as CONNECT may take, at most.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};
use slab::Slab;

use super::deadlines::Deadlines;
use super::event_loop::MAILBOX;
use super::mailbox::{Inbox, Mail};
use super::peer::{Origin, PeerId};
use super::seldom::Seldom;
use super::shared::Shared;
use super::transport::{Broken, Opened, Transport};

/// Events taken from the operating system at once.
const EVENTS: usize = 256;

/// Bytes that are read at once: a record of TLS is no longer.
const SHARE: usize = 17 << 10;

/// How much these threads give way, from 0 to 19, setpriority(2).
const NICE: i32 = 10;

/// What one of the threads is told.
#[derive(Debug)]
pub(super) enum Errand {
    /// A socket was accepted that begins with a handshake.
    Begin(Box<(Transport, Origin)>),
    /// The server ends: whoever is here has come in vain.
    Finish,
}

/// A connection whose handshake is over.
#[derive(Debug)]
pub(super) struct Shaken {
    pub(super) transport: Transport,
    pub(super) origin: Origin,
    /// When CONNECT has to be there.
    pub(super) until: Duration,
    /// Bytes that were read from the socket.
    pub(super) received: u64,
    pub(super) outcome: Outcome,
}

/// How a handshake ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The client can be heard.
    Done {
        /// What it has said already.
        clear: Vec<u8>,
        /// Whether it has ended its stream.
        ended: bool,
    },
    /// The client did something else; what is to be said of it lies ready to be written.
    Broken(Broken),
    /// A proxy has told an address from which there are as many as may be.
    Refused,
    /// It took too long.
    Late,
}

#[derive(Debug)]
struct Guest {
    transport: Transport,
    origin: Origin,
    until: Duration,
    serial: u32,
    received: u64,
}

/// One of the threads.
pub(super) struct Vestibule {
    number: u8,
    poll: Poll,
    shared: Arc<Shared>,
    guests: Slab<Guest>,
    serial: u32,
    arriving: Deadlines,
    now: Duration,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// The loop that gets the next client.
    next_loop: u8,
    finished: bool,
    broken: Seldom,
}

impl Vestibule {
    /// Returns the thread that `number` is the mailbox of, among [`Shared::vestibules`].
    pub(super) fn new(number: u8, poll: Poll, shared: Arc<Shared>) -> Self {
        Self {
            number,
            poll,
            guests: Slab::new(),
            serial: 0,
            arriving: Deadlines::default(),
            now: shared.clock.now().monotonic,
            buffer: vec![0; SHARE],
            scratch: Vec::new(),
            next_loop: number,
            finished: false,
            broken: Seldom::default(),
            shared,
        }
    }

    /// Works until it is told to finish.
    ///
    /// # Errors
    /// When the operating system tells of no events any more.
    pub(super) fn run(mut self) -> io::Result<()> {
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
            log::warn!("TLS handshakes get as much of the processor as connected clients: {error}");
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut inbox = Inbox::default();
        while !self.finished {
            let timeout = self.arriving.next().map(|at| at.saturating_sub(self.now));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                result => result?,
            }
            for event in &events {
                if event.token() != MAILBOX {
                    self.step(event.token().0);
                }
            }
            self.take_mail(&mut inbox);
            self.now = self.shared.clock.now().monotonic;
            self.pass_deadlines();
        }
        Ok(())
    }

    fn take_mail(&mut self, inbox: &mut Inbox<Errand>) {
        let shared = Arc::clone(&self.shared);
        let Some(mailbox) = shared.vestibules.get(usize::from(self.number)).filter(|mailbox| mailbox.has_mail()) else { return };
        mailbox.take(inbox);
        for errand in inbox.mail.drain(..) {
            match errand {
                Errand::Begin(accepted) => self.begin(accepted.0, accepted.1),
                Errand::Finish => self.finished = true,
            }
        }
    }

    fn begin(&mut self, mut transport: Transport, origin: Origin) {
        let Ok(slot) = u32::try_from(self.guests.vacant_key()) else { return };
        if let Err(error) = transport.socket.register(self.poll.registry(), Token(slot as usize)) {
            if self.broken.now(self.now).is_some() {
                log::error!("cannot watch a socket: {error}");
            }
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let until = self.shared.clock.now().monotonic + self.shared.settings.limits.connect_timeout;
        self.guests.insert(Guest { transport, origin, until, serial: self.serial, received: 0 });
        self.arriving.push(until, PeerId { slot, serial: self.serial });
    }

    /// Goes on with a handshake as far as what has come allows.
    fn step(&mut self, slot: usize) {
        let mut clear = Vec::new();
        while let Some(guest) = self.guests.get_mut(slot) {
            if guest.transport.push().is_err() {
                return self.forget(slot);
            }
            if !guest.transport.is_handshaking() {
                return self.hand_over(slot, Outcome::Done { clear, ended: false });
            }
            let length = match guest.transport.socket.read(&mut self.buffer) {
                Ok(0) => return self.forget(slot),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.forget(slot),
            };
            guest.received += length as u64;
            match guest.transport.open(&self.buffer[..length], &mut clear, &mut self.scratch) {
                Ok(Opened { address, ended }) => {
                    // The scheduler lets a thread finish its slice, milliseconds, before it turns to one that has woken.
                    std::thread::yield_now();
                    if let Some(address) = address {
                        guest.origin.address = Some(address);
                        if !guest.transport.seat.set_address(address.ip()) {
                            return self.hand_over(slot, Outcome::Refused);
                        }
                    }
                    if ended {
                        return self.hand_over(slot, Outcome::Done { clear, ended });
                    }
                }
                Err(error) => return self.hand_over(slot, Outcome::Broken(error)),
            }
        }
    }

    /// Closes a socket: the other side has, or it is broken.
    fn forget(&mut self, slot: usize) {
        self.guests.try_remove(slot);
    }

    /// Brings a connection to a loop.
    fn hand_over(&mut self, slot: usize, outcome: Outcome) {
        let Some(mut guest) = self.guests.try_remove(slot) else { return };
        if guest.transport.socket.deregister(self.poll.registry()).is_err() {
            return;
        }
        let Guest { transport, origin, until, received, .. } = guest;
        let loops = self.shared.mailboxes.len();
        let next = usize::from(self.next_loop) % loops;
        self.next_loop = self.next_loop.wrapping_add(1);
        self.shared.mailboxes[next].send(Mail::Shaken(Box::new(Shaken { transport, origin, until, received, outcome })));
    }

    fn pass_deadlines(&mut self) {
        let mut late = Vec::new();
        let waits = |id: PeerId| self.guests.get(id.slot as usize).is_some_and(|guest| guest.serial == id.serial);
        while let Some(id) = self.arriving.due(self.now, waits) {
            late.push(id.slot as usize);
        }
        for slot in late {
            self.hand_over(slot, Outcome::Late);
        }
    }
}
