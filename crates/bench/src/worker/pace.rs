//! When the next message is due.
//!
//! Open loop: message `k` of a process is due at `start + k / rate`, whatever became of those before.
//! Closed loop: a message is due when its publisher's window has room.

use midge_mqtt::QoS;

use super::Worker;
use super::client::{Due, State};
use crate::plan::{Pace, Scenario};
use crate::share::Share;
use crate::wire::Told;
use crate::{Plan, clock};

/// The most messages that are put on a publisher's list in one turn.
const AT_ONCE: u32 = 1_000;

#[derive(Debug)]
pub(super) struct Schedule {
    /// Clients that publish by plan.
    publishers: Vec<usize>,
    turn: usize,
    /// Messages a second of this process.
    rate: Option<f64>,
    window: Option<u32>,
    /// Messages that are still to be due.
    left: Option<u64>,
    start: u64,
    due: u64,
    pub(super) measured_from: u64,
    /// When nothing more is due.
    pub(super) until: u64,
    /// Messages that are due and not sent.
    pub(super) backlog: u64,
}

impl Schedule {
    pub(super) fn new(plan: &Plan, share: &Share, process: u32) -> Self {
        let (here, all) = share.publishers;
        let publishers = (0..share.roles.len()).filter(|&at| !share.roles[at].publishes.is_empty()).collect();
        let (rate, window) = match plan.pace {
            #[allow(clippy::cast_precision_loss, reason = "there are no 2^52 clients")]
            Pace::Rate(rate) => (Some(rate * here as f64 / all.max(1) as f64), None),
            Pace::Window(window) => (None, Some(window)),
        };
        // Publisher `i` of all has the messages `i`, `i + all`, and so on.
        let of_one = |messages: u64, at: u64| messages / all.max(1) + u64::from(at < messages % all.max(1));
        let of_here = |messages| (0..here).map(|at| of_one(messages, at * u64::from(plan.processes) + u64::from(process))).sum();
        Self {
            publishers,
            turn: 0,
            rate,
            window,
            left: plan.messages.map(of_here),
            start: 0,
            due: 0,
            measured_from: u64::MAX,
            until: 0,
            backlog: 0,
        }
    }

    pub(super) fn begin(&mut self, start: u64, plan: &Plan) {
        self.start = start;
        self.measured_from = start + if plan.measures_all() { 0 } else { clock::length(plan.warmup) };
        self.until = match self.left {
            Some(_) => u64::MAX,
            None => self.measured_from + clock::length(plan.duration),
        };
    }

    /// Returns whether all is sent that the plan wants sent.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.publishers.is_empty() || (self.backlog == 0 && (self.left == Some(0) || now >= self.until))
    }

    /// Returns when the next message is due, in nanoseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "times of a run")]
    fn next_due(&self) -> u64 {
        match self.rate {
            Some(rate) if self.left != Some(0) && rate > 0.0 => self.start + (self.due as f64 * 1e9 / rate) as u64,
            _ => u64::MAX,
        }
    }
}

impl<T: FnMut(Told)> Worker<T> {
    /// Returns when there is something to do next without anything arriving.
    pub(super) fn wake_at(&self) -> u64 {
        let due = if self.phase == super::Phase::Running { self.schedule.next_due() } else { u64::MAX };
        let due = if due < self.schedule.until { due } else { u64::MAX };
        due.min(self.subscribes_from).min(self.door.wake_at())
    }

    /// Sends what is due.
    pub(super) fn publish(&mut self, now: u64) {
        if self.phase == super::Phase::Running && now >= self.schedule.start && !self.schedule.publishers.is_empty() {
            if self.schedule.rate.is_some() {
                self.list_due(now);
            } else {
                self.fill_windows(now);
            }
        }
    }

    fn list_due(&mut self, now: u64) {
        loop {
            let at = self.schedule.next_due();
            if at > now || at >= self.schedule.until {
                return;
            }
            let client = self.next_publisher();
            let stream = self.pick(client);
            self.schedule.due += 1;
            self.schedule.backlog += 1;
            if let Some(left) = &mut self.schedule.left {
                *left -= 1;
            }
            self.clients[client].backlog.push_back(Due { stream, at, answer: None });
            self.pump(client);
        }
    }

    fn fill_windows(&mut self, now: u64) {
        let mut full = 0;
        let publishers = self.schedule.publishers.len();
        let mut most = AT_ONCE * u32::try_from(publishers).unwrap_or(AT_ONCE);
        // The number of messages is shared in turns, so that it comes out even.
        while full < publishers && most > 0 && self.schedule.left != Some(0) && now < self.schedule.until {
            most -= 1;
            let client = self.next_publisher();
            if !self.clients[client].has_room(self.plan.qos(), self.schedule.window) {
                full += 1;
                continue;
            }
            full = 0;
            let stream = self.pick(client);
            self.schedule.backlog += 1;
            if let Some(left) = &mut self.schedule.left {
                *left -= 1;
            }
            let at = clock::now();
            self.clients[client].backlog.push_back(Due { stream, at, answer: None });
            self.pump(client);
        }
    }

    /// Sends a client's list as far as there is room.
    pub(super) fn pump(&mut self, at: usize) {
        let qos = self.plan.qos();
        while !self.clients[at].backlog.is_empty() && self.clients[at].has_room(qos, None) {
            let Some(due) = self.clients[at].backlog.pop_front() else { return };
            let size = self.plan.sizes.draw(&mut self.dice);
            let now = if self.schedule.rate.is_some() || due.answer.is_some() { clock::now() } else { due.at };
            self.clients[at].publish(&self.plan, due, now, &mut self.payload[..size]);
            self.counts.sent += 1;
            self.schedule.backlog -= 1;
            if qos == QoS::AtMostOnce && self.plan.copies() == 0 && due.at >= self.measured_from {
                // Nobody will tell of it; the rate is that of sending.
                self.counts.measured += 1;
                self.last = self.last.max(now);
            }
            self.touch(at);
        }
    }

    fn next_publisher(&mut self) -> usize {
        let publishers = &self.schedule.publishers;
        let client = publishers[self.schedule.turn % publishers.len()];
        self.schedule.turn = (self.schedule.turn + 1) % publishers.len();
        client
    }

    fn pick(&mut self, client: usize) -> u32 {
        let streams = self.clients[client].role.publishes.clone();
        match self.plan.scenario {
            Scenario::Phones { .. } => streams.start + self.dice.below(u32::try_from(streams.len()).unwrap_or(1)),
            _ => streams.start,
        }
    }

    /// Queues the answer to a request.
    pub(super) fn answer(&mut self, at: usize, due: Due) {
        if self.clients[at].state == State::Ready {
            self.schedule.backlog += 1;
            self.clients[at].backlog.push_back(due);
            self.pump(at);
        }
    }
}
