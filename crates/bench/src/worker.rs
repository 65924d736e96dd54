//! One process of a run: an event loop and its clients.
//!
//! It reads what is there, writes each connection once a turn, and sleeps to the microsecond: it has to cost far less
//! than the broker that it loads.

mod client;
mod input;
mod open;
mod pace;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::{Events, Poll, Token};
use rustls::ClientConfig;

use self::client::{Client, State};
use self::open::Door;
use self::pace::Schedule;
use crate::clock::{self, Timer};
use crate::payload::Dice;
use crate::recorder::Recorder;
use crate::sequence::Sequence;
use crate::share::Share;
use crate::wire::{Counts, Order, Outcome, Told};
use crate::{BenchError, Plan};

/// The timer's events; clients have the tokens below.
const TIMER: Token = Token(usize::MAX - 1);
/// The longest sleep, so that orders are heard.
const NAP: Duration = Duration::from_millis(10);
const SECOND: u64 = 1_000_000_000;
/// How many troubles are told word for word.
const TROUBLES: usize = 5;
/// What is read at once.
const READ: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Clients connect and subscribe.
    Preparing,
    /// All are ready; nothing is sent.
    Waiting,
    Running,
    /// Nothing more is sent by plan.
    Sent,
}

/// One process of a run.
pub(crate) struct Worker<T> {
    plan: Plan,
    share: Share,
    poll: Poll,
    timer: Timer,
    tls: Option<Arc<ClientConfig>>,
    clients: Vec<Client>,
    /// For each unit, what it has had of each of its streams.
    sequences: Vec<Vec<Sequence>>,
    /// For each stream, who waits for what arrives of it here.
    waiting: Vec<Option<usize>>,
    phase: Phase,
    door: Door,
    schedule: Schedule,
    /// From when on is measured, in nanoseconds of the monotonic clock.
    measured_from: u64,
    ready: usize,
    /// When measured subscriptions begin.
    subscribes_from: u64,
    /// Answers of measured subscriptions that are still to come.
    to_subscribe: u64,
    counts: Counts,
    recorder: Recorder,
    last: u64,
    next_second: u64,
    troubles: Vec<String>,
    touched: Vec<usize>,
    scratch: Vec<u8>,
    payload: Vec<u8>,
    dice: Dice,
    orders: Receiver<Order>,
    tell: T,
}

impl<T: FnMut(Told)> Worker<T> {
    /// Carries out a share of a plan until it is told to end.
    ///
    /// # Errors
    /// What keeps it from doing so, clients that aren't ready in time included.
    pub(crate) fn run(plan: Plan, process: u32, orders: Receiver<Order>, tell: T) -> Result<(), BenchError> {
        let share = plan.share(process);
        let poll = Poll::new().map_err(BenchError::io("no event queue"))?;
        let timer = Timer::new(poll.registry(), TIMER).map_err(BenchError::io("no timer"))?;
        let (waiting, copies) = share.feedback(plan.streams());
        let tls = plan.target.tls.then(|| crate::transport::client_config(&plan.tls)).transpose()?;
        let mut sequences: Vec<Vec<Sequence>> = Vec::new();
        sequences.resize_with(share.units, Vec::new);
        for receives in share.roles.iter().filter_map(|role| role.receives.as_ref()) {
            sequences[receives.unit].resize_with(receives.streams.len(), Sequence::default);
        }
        let clients = share.roles.iter().zip(copies).map(|(role, copies)| Client::new(&plan, role.clone(), copies)).collect();
        let mut worker = Self {
            schedule: Schedule::new(&plan, &share, process),
            payload: (0..plan.sizes.largest()).map(|at| b'a' + u8::try_from(at % 26).unwrap_or(0)).collect(),
            door: Door::new(&plan),
            plan,
            share,
            poll,
            timer,
            tls,
            clients,
            sequences,
            waiting,
            phase: Phase::Preparing,
            measured_from: u64::MAX,
            ready: 0,
            subscribes_from: u64::MAX,
            to_subscribe: 0,
            counts: Counts::default(),
            recorder: Recorder::default(),
            last: 0,
            next_second: clock::now() + SECOND,
            troubles: Vec::new(),
            touched: Vec::new(),
            scratch: vec![0; READ],
            dice: Dice::new(u64::from(process) + 1),
            orders,
            tell,
        };
        open::raise_file_limit();
        worker.work()
    }

    fn work(&mut self) -> Result<(), BenchError> {
        let began = clock::now();
        let mut events = Events::with_capacity(1024);
        let mut cpu = Duration::ZERO;
        let mut told = (Counts::default(), 0);
        if !self.plan.scenario.is_connect() {
            self.door.expect(0..self.clients.len(), began);
        }
        loop {
            let now = clock::now();
            match self.orders.try_recv() {
                Ok(Order::Go { start }) => {
                    cpu = clock::cpu();
                    self.begin(start);
                }
                Ok(Order::Be { .. }) | Err(TryRecvError::Empty) => {}
                Ok(Order::End) => {
                    self.end(cpu);
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => return Err(BenchError::Worker("nobody waits for it any more".to_owned())),
            }
            self.open(now);
            self.advance(now, began)?;
            self.publish(now);
            if now >= self.subscribes_from {
                self.subscribes_from = u64::MAX;
                (0..self.clients.len()).for_each(|at| self.subscribe_measured(at));
            }
            self.flush();
            let wake = self.wake_at();
            if wake <= clock::now() {
                self.turn(&mut events, Duration::ZERO)?;
            } else {
                if wake < u64::MAX {
                    self.timer.arm(wake).map_err(BenchError::io("no timer"))?;
                }
                self.turn(&mut events, NAP)?;
            }
            if now >= self.next_second {
                self.next_second = now + SECOND;
                self.tick(now);
            }
            let interval = if self.phase == Phase::Sent { SECOND / 100 } else { SECOND / 5 };
            self.counts.backlog = self.schedule.backlog;
            if now >= told.1 + interval && told.0 != self.counts && self.phase != Phase::Preparing {
                told = (self.counts, now);
                (self.tell)(Told::Counts(self.counts));
            }
        }
    }

    fn begin(&mut self, start: u64) {
        self.phase = Phase::Running;
        self.schedule.begin(start, &self.plan);
        self.measured_from = self.schedule.measured_from;
        if self.plan.scenario.is_connect() {
            self.measured_from = start;
            self.door.expect(0..self.clients.len(), start);
        }
        self.to_subscribe = self.share.roles.iter().map(|role| u64::from(role.filters)).sum();
        self.subscribes_from = if self.to_subscribe > 0 { start } else { u64::MAX };
        self.door.plan_storm(start, &self.plan);
    }

    /// Goes to the next phase when it is time.
    fn advance(&mut self, now: u64, began: u64) -> Result<(), BenchError> {
        let all = self.clients.len();
        match self.phase {
            Phase::Preparing if self.plan.scenario.is_connect() || self.ready == all => {
                self.phase = Phase::Waiting;
                (self.tell)(Told::Ready);
            }
            Phase::Preparing if now > began + clock::length(self.plan.patience) => {
                let troubles = if self.troubles.is_empty() { "no answer".to_owned() } else { self.troubles.join("; ") };
                return Err(BenchError::NotReady(format!("only {} of {all} clients are ready: {troubles}", self.ready)));
            }
            Phase::Running => {
                let done = if self.plan.scenario.is_connect() {
                    now > self.measured_from && self.ready + usize::try_from(self.counts.refused).unwrap_or(all) >= all
                } else if self.share.roles.iter().any(|role| role.filters > 0) {
                    self.to_subscribe == 0
                } else {
                    self.schedule.is_over(now)
                };
                if done || all == 0 {
                    self.phase = Phase::Sent;
                    (self.tell)(Told::Sent(self.counts));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, cpu: Duration) {
        self.counts.backlog = self.schedule.backlog;
        for client in &mut self.clients {
            client.leave(self.plan.version());
        }
        let outcome = Outcome {
            counts: self.counts,
            latencies: self.recorder.snapshot(),
            cpu: clock::cpu().saturating_sub(cpu),
            last: self.last,
            troubles: std::mem::take(&mut self.troubles),
        };
        (self.tell)(Told::Done(Box::new(outcome)));
    }

    fn turn(&mut self, events: &mut Events, timeout: Duration) -> Result<(), BenchError> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(BenchError::io("no events")(error)),
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let at = event.token().0;
            if event.is_writable() {
                self.connected(at);
                self.touch(at);
            }
            if event.is_readable() || event.is_read_closed() {
                self.read(at);
            }
        }
        self.flush();
        Ok(())
    }

    /// Notes that a client may have something to write.
    fn touch(&mut self, at: usize) {
        if !std::mem::replace(&mut self.clients[at].touched, true) {
            self.touched.push(at);
        }
    }

    fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for at in touched.drain(..) {
            let client = &mut self.clients[at];
            client.touched = false;
            if client.state == State::Opening {
                continue;
            }
            if let Some(transport) = &mut client.transport
                && let Err(error) = transport.write(&mut client.output)
            {
                self.lose(at, &error.to_string());
            }
        }
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    /// Does what is done once a second: keep-alive, and giving up what QoS 0 has lost.
    fn tick(&mut self, now: u64) {
        let idle = u64::from(self.plan.keep_alive) * SECOND * 3 / 4;
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.state == State::Ready && idle > 0 && now > client.spoke + idle {
                client.ping(now);
                self.touch(at);
            }
            self.clients[at].give_up(now);
        }
    }

    fn trouble(&mut self, text: String) {
        if self.troubles.len() < TROUBLES && !self.troubles.contains(&text) {
            self.troubles.push(text);
        }
    }

    /// Records something at `now` that should have begun at `due`, and did at `began`.
    fn measure(&mut self, due: u64, began: u64, now: u64) {
        if due >= self.measured_from {
            self.recorder.record(due, began, now);
            self.counts.measured += 1;
            self.last = self.last.max(now);
        }
    }
}
