//! How a thread that polls is told something from outside.
//!
//! One lock per batch and at most one wake-up per turn of the receiver, however much is told.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use midge_engine::exchange::ToLoop;
use midge_engine::message::Message;
use mio::{Poll, Registry, Token, Waker};

use super::handshake::Shaken;
use super::peer::Origin;
use super::transport::Transport;

/// What the engine of another loop told may wait up to this number; then senders read less from their clients.
const CROWDED: usize = 20_000;

/// Memory of an emptied inbox is kept up to this number of messages.
const KEPT: usize = 4096;

/// What an event loop is told beside what its engine is.
#[derive(Debug)]
pub(super) enum Mail {
    /// The TLS handshake of a connection is over.
    Shaken(Box<Shaken>),
    /// A client that belongs here has come to another loop.
    Arrived(Box<Arrived>),
    /// The server publishes.
    Publish(Arc<Message>),
    /// Clients are to be sent away, and nobody let in any more.
    Stop,
    /// All loops are empty; what they told each other is to be kept, and then the thread ends.
    Finish,
}

/// A client whose CONNECT was read by another loop.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) transport: Transport,
    pub(super) origin: Box<Origin>,
    /// The client identifier that it was given, as it has none of its own.
    pub(super) assigned: Option<Box<str>>,
    /// Its CONNECT and what came with it.
    pub(super) input: Vec<u8>,
    /// Whether the other side has ended its stream.
    pub(super) ended: bool,
}

/// What came in for a thread.
#[derive(Debug)]
pub(super) struct Inbox<M = Mail> {
    /// What engines tell each other: event loops only.
    pub(super) told: Vec<ToLoop>,
    pub(super) mail: Vec<M>,
}

impl<M> Default for Inbox<M> {
    fn default() -> Self {
        Self { told: Vec::new(), mail: Vec::new() }
    }
}

/// The way into a thread.
#[derive(Debug)]
pub(super) struct Mailbox<M = Mail> {
    inbox: Mutex<Inbox<M>>,
    waker: Waker,
    /// Whether the loop was woken and hasn't looked yet.
    woken: AtomicBool,
    waiting: AtomicUsize,
}

impl<M> Mailbox<M> {
    /// Makes the mailboxes of `count` threads, and what each of them polls.
    ///
    /// # Errors
    /// When the operating system has no descriptor left.
    pub(super) fn for_threads(count: u8, token: Token) -> io::Result<(Vec<Self>, Vec<Poll>)> {
        let polls: Vec<Poll> = (0..count).map(|_| Poll::new()).collect::<io::Result<_>>()?;
        let mailboxes = polls.iter().map(|poll| Self::new(poll.registry(), token)).collect::<io::Result<_>>()?;
        Ok((mailboxes, polls))
    }

    fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            inbox: Mutex::default(),
            waker: Waker::new(registry, token)?,
            woken: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Hands over a batch, which is empty afterwards.
    pub(super) fn tell(&self, batch: &mut Vec<ToLoop>) {
        self.waiting.fetch_add(batch.len(), Ordering::Relaxed);
        self.lock().told.append(batch);
        self.wake();
    }

    pub(super) fn send(&self, mail: M) {
        self.lock().mail.push(mail);
        self.wake();
    }

    /// Has the loop take a turn.
    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // A full counter wakes as well; anything else, and the next one tries again.
            self.woken.store(false, Ordering::Release);
            log::error!("cannot wake a thread: {error}");
        }
    }

    /// Returns whether something may be there.
    pub(super) fn has_mail(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Exchanges the inbox for an empty one.
    pub(super) fn take(&self, empty: &mut Inbox<M>) {
        empty.told.shrink_to(KEPT);
        empty.mail.shrink_to(KEPT);
        // Whoever comes between the two wakes the loop once more.
        self.woken.store(false, Ordering::Release);
        std::mem::swap(empty, &mut *self.lock());
        self.waiting.fetch_sub(empty.told.len(), Ordering::Relaxed);
    }

    /// Returns whether the loop lags so far behind that it shouldn't be given more.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > CROWDED
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inbox<M>> {
        // A batch is moved in one step: a panic elsewhere leaves nothing half done in here.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
