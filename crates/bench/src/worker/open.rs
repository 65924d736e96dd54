//! Opens connections at their pace, and loses them in storms.

use std::collections::VecDeque;
use std::ops::Range;

use mio::{Interest, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::State;
use super::{SECOND, Worker};
use crate::plan::Scenario;
use crate::transport::Transport;
use crate::wire::Told;
use crate::{Plan, clock};

/// Who is to connect, and when.
#[derive(Debug)]
pub(super) struct Door {
    /// Clients, and when each is due.
    queue: VecDeque<(usize, u64)>,
    /// Nanoseconds between two connections.
    interval: Option<u64>,
    /// When the latest of the queue is due.
    last_due: u64,
    concurrent: usize,
    pub(super) under_way: usize,
    next_storm: u64,
}

impl Door {
    pub(super) fn new(plan: &Plan) -> Self {
        // A process has its part of the rate.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of at least 0.001 has been checked")]
        let interval = plan.ramp.rate.map(|rate| (1e9 * f64::from(plan.processes) / rate) as u64);
        Self {
            queue: VecDeque::new(),
            interval,
            last_due: 0,
            concurrent: plan.ramp.concurrent as usize,
            under_way: 0,
            next_storm: u64::MAX,
        }
    }

    /// Queues clients from `now` on.
    pub(super) fn expect(&mut self, clients: Range<usize>, now: u64) {
        for at in clients {
            let due = self.interval.map_or(now, |interval| now.max(self.last_due + interval));
            self.last_due = due;
            self.queue.push_back((at, due));
        }
    }

    pub(super) fn plan_storm(&mut self, start: u64, plan: &Plan) {
        if let Scenario::Phones { storm_every, .. } = plan.scenario
            && !storm_every.is_zero()
        {
            self.next_storm = start + clock::length(storm_every);
        }
    }

    /// Returns when it has something to do next.
    pub(super) fn wake_at(&self) -> u64 {
        let opens = self.queue.front().map_or(u64::MAX, |&(_, due)| {
            if self.interval.is_none() && self.under_way >= self.concurrent { u64::MAX } else { due }
        });
        opens.min(self.next_storm)
    }

    fn next(&mut self, now: u64) -> Option<(usize, u64)> {
        let free = self.interval.is_some() || self.under_way < self.concurrent;
        let due = self.queue.front().is_some_and(|&(_, due)| due <= now);
        if free && due { self.queue.pop_front() } else { None }
    }
}

/// Lets this process have as many files as it may.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What is refused shows when a socket can't be opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

impl<T: FnMut(Told)> Worker<T> {
    /// Begins the connections that are due.
    pub(super) fn open(&mut self, now: u64) {
        if now >= self.door.next_storm {
            self.storm(now);
        }
        while let Some((at, due)) = self.door.next(now) {
            self.open_one(at, due);
        }
    }

    fn open_one(&mut self, at: usize, due: u64) {
        let sources = &self.plan.sources;
        let number = usize::try_from(self.clients[at].role.number).unwrap_or(at);
        let source = sources.get(number % sources.len().max(1)).copied();
        let opened = Transport::open(&self.plan.target, source, self.tls.as_ref()).and_then(|mut transport| {
            self.poll.registry().register(&mut transport.stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            Ok(transport)
        });
        // Where nothing is scheduled, it is due when it is its turn.
        let begun = clock::now();
        self.clients[at].opened = (if self.door.interval.is_some() { due } else { begun }, begun);
        self.door.under_way += 1;
        self.clients[at].state = State::Opening;
        match opened {
            Ok(transport) => {
                self.clients[at].transport = Some(transport);
                self.clients[at].greet(&self.plan);
            }
            Err(error) => self.lose(at, &error.to_string()),
        }
    }

    /// Goes on with a client whose network connection is there.
    pub(super) fn connected(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.state != State::Opening {
            return;
        }
        let Some(transport) = &client.transport else { return };
        match transport.stream.take_error() {
            Ok(None) => client.state = State::Greeting,
            Ok(Some(error)) | Err(error) => self.lose(at, &error.to_string()),
        }
    }

    /// Counts a client whose connection has ended, and forgets the connection.
    pub(super) fn lose(&mut self, at: usize, why: &str) {
        let client = &mut self.clients[at];
        match client.state {
            State::Away | State::Gone => return,
            State::Opening | State::Greeting => {
                self.door.under_way -= 1;
                self.counts.refused += 1;
            }
            State::Subscribing | State::Ready => {
                self.counts.disconnected += 1;
                self.ready -= usize::from(client.state == State::Ready);
            }
        }
        client.transport = None;
        client.state = State::Gone;
        self.trouble(format!("client {}: {why}", self.clients[at].role.number));
    }

    /// Cuts a part of the phones off, without a word to the broker, and lets them come again.
    fn storm(&mut self, now: u64) {
        let Scenario::Phones { storm_every, storm_part, .. } = self.plan.scenario else { return };
        self.door.next_storm = now + clock::length(storm_every);
        if self.phase != super::Phase::Running || now + SECOND > self.schedule.until {
            self.door.next_storm = u64::MAX;
            return;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of 0 to 1 has been checked")]
        let chance = (storm_part * f64::from(u32::MAX)) as u32;
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.role.phone && client.state == State::Ready && self.dice.below(u32::MAX) < chance {
                client.state = State::Away;
                client.transport = None;
                client.input.clear();
                client.output.clear();
                self.ready -= 1;
                self.door.expect(at..at + 1, now);
            }
        }
    }
}
