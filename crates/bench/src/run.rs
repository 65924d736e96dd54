//! Brings the processes of a run through it together.
//!
//! All wait for the last one to be ready, begin at one time, and end when everything has arrived that was sent, or when
//! nothing has come for the time that the plan grants.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::plan::Pace;
use crate::report::{Process, Report, Usage};
use crate::wire::{Counts, Order, Outcome, Told};
use crate::worker::Worker;
use crate::{BenchError, Plan};

/// How long is listened for messages that come twice, once all have come.
const SETTLE: u64 = 200_000_000;
/// How long before the common start the processes are told.
const NOTICE: u64 = 50_000_000;
/// How much longer than the plan's patience a process may take to say that it has none left.
const GRACE: Duration = Duration::from_secs(10);
const SECOND: u64 = 1_000_000_000;

/// Where the processes of a run come from.
pub enum Fleet<'a> {
    /// Threads of this process.
    Threads,
    /// Commands, whose standard input and output belong to [`obey`] there.
    Commands(&'a dyn Fn() -> Command),
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Time since the start; zero while clients connect.
    pub elapsed: Duration,
    /// Clients that were let in.
    pub connected: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that were due and could not be sent.
    pub backlog: u64,
    /// Messages that came twice.
    pub duplicated: u64,
    /// Messages that came late.
    pub misordered: u64,
}

/// Carries out a plan; `progress` is called about once a second.
///
/// # Errors
/// A plan that can't be carried out, clients that aren't ready in time, a process that ends early.
pub fn run(plan: &Plan, fleet: &Fleet<'_>, progress: &mut dyn FnMut(&Progress)) -> Result<Report, BenchError> {
    plan.check()?;
    let (tell, told) = channel();
    let mut hands = Vec::new();
    for process in 0..plan.processes {
        let mut hand = match fleet {
            Fleet::Threads => thread_of(process, tell.clone()),
            Fleet::Commands(command) => child_of(process, command(), tell.clone())?,
        };
        hand.order(&Order::Be { plan: Box::new(plan.clone()), process });
        hands.push(hand);
    }
    drop(tell);
    let mut conductor = Conductor { counts: vec![Counts::default(); hands.len()], plan, hands, told, progress };
    conductor.conduct()
}

/// Carries out the orders that come on standard input; for [`Fleet::Commands`].
///
/// # Errors
/// As [`run`].
pub fn obey() -> Result<(), BenchError> {
    let (send, orders) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if order.is_none_or(|order| send.send(order).is_err()) {
                return;
            }
        }
    });
    let mut out = std::io::stdout().lock();
    begin(orders, |told| {
        // Who has gone away closes the standard input too, and that ends the run.
        if let Ok(text) = serde_json::to_string(&told) {
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    });
    Ok(())
}

/// Waits for a plan and carries it out; what fails is told too.
fn begin(orders: Receiver<Order>, mut tell: impl FnMut(Told)) {
    let Ok(Order::Be { plan, process }) = orders.recv() else { return };
    if let Err(error) = Worker::run(*plan, process, orders, &mut tell) {
        tell(Told::Failed(with_cause(&error)));
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// One process, as seen by who leads the run.
struct Hand {
    send: Box<dyn FnMut(&Order) -> bool>,
    child: Option<Child>,
}

impl Hand {
    fn order(&mut self, order: &Order) {
        // One that has ended says so on its other side.
        let _ = (self.send)(order);
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.send = Box::new(|_| false);
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn thread_of(process: u32, tell: Sender<(u32, Told)>) -> Hand {
    let (send, orders) = channel::<Order>();
    thread::spawn(move || {
        begin(orders, |told| {
            let _ = tell.send((process, told));
        });
    });
    Hand { send: Box::new(move |order| send.send(order.clone()).is_ok()), child: None }
}

fn child_of(process: u32, mut command: Command, tell: Sender<(u32, Told)>) -> Result<Hand, BenchError> {
    let failed = |error| BenchError::io("a process can't be started")(error);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(BenchError::Worker("it has no pipes".to_owned()));
    };
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let told = serde_json::from_str(&line).unwrap_or(Told::Failed(line));
            if tell.send((process, told)).is_err() {
                return;
            }
        }
        let _ = tell.send((process, Told::Failed("it has closed its output".to_owned())));
    });
    let send = move |order: &Order| {
        serde_json::to_string(order).is_ok_and(|text| writeln!(stdin, "{text}").and_then(|()| stdin.flush()).is_ok())
    };
    Ok(Hand { send: Box::new(send), child: Some(child) })
}

struct Conductor<'a> {
    plan: &'a Plan,
    hands: Vec<Hand>,
    told: Receiver<(u32, Told)>,
    counts: Vec<Counts>,
    progress: &'a mut dyn FnMut(&Progress),
}

impl Conductor<'_> {
    fn conduct(&mut self) -> Result<Report, BenchError> {
        let before = self.usage();
        self.prepare()?;
        let start = clock::now() + NOTICE;
        self.order(&Order::Go { start });
        let measured_from = start + if self.plan.measures_all() { 0 } else { clock::length(self.plan.warmup) };
        let (first, last) = self.watch(start, measured_from)?;
        let connected = self.sum().connected;
        self.order(&Order::End);
        let outcomes = self.collect()?;
        let broker = match (before, first, last) {
            (Some(before), Some(first), Some(last)) => Some(Process::between(&before, &first, &last, connected)),
            _ => None,
        };
        Ok(Report::new(self.plan, outcomes, measured_from, broker))
    }

    fn order(&mut self, order: &Order) {
        self.hands.iter_mut().for_each(|hand| hand.order(order));
    }

    fn usage(&self) -> Option<Usage> {
        self.plan.pid.and_then(|pid| Usage::of(pid).ok())
    }

    fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.counts.iter().for_each(|counts| sum += *counts);
        sum
    }

    /// Waits until all are ready.
    fn prepare(&mut self) -> Result<(), BenchError> {
        let mut ready = 0;
        while ready < self.hands.len() {
            match self.told.recv_timeout(self.plan.patience + GRACE) {
                Ok((_, Told::Ready)) => ready += 1,
                Ok((at, Told::Counts(counts))) => self.counts[at as usize] = counts,
                Ok((_, Told::Failed(why))) => return Err(BenchError::NotReady(why)),
                Ok(_) => {}
                Err(_) => return Err(BenchError::Worker("it says nothing".to_owned())),
            }
        }
        Ok(())
    }

    /// Waits until the run is over; returns what the broker had used when measuring began, and when all had come.
    fn watch(&mut self, start: u64, measured_from: u64) -> Result<(Option<Usage>, Option<Usage>), BenchError> {
        let (mut first, mut sent) = (None, 0);
        let (mut changed, mut next) = (start, start + SECOND);
        let silence = self.silence();
        let earliest = match self.plan.messages {
            None if !self.plan.is_stepwise() => measured_from + clock::length(self.plan.duration),
            _ => start,
        };
        loop {
            match self.told.recv_timeout(Duration::from_millis(5)) {
                Ok((at, Told::Counts(counts))) => {
                    self.counts[at as usize] = counts;
                    changed = clock::now();
                }
                Ok((at, Told::Sent(counts))) => {
                    self.counts[at as usize] = counts;
                    (sent, changed) = (sent + 1, clock::now());
                }
                Ok((_, Told::Failed(why))) => return Err(BenchError::Worker(why)),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(BenchError::Worker("all of them".to_owned())),
            }
            let now = clock::now();
            if first.is_none() && now >= measured_from {
                first = self.usage();
            }
            if now >= next {
                next += SECOND;
                self.show(now - start);
            }
            let sum = self.sum();
            let all_here = sum.received - sum.duplicated >= sum.sent * self.plan.copies();
            let complete = sent == self.hands.len() && sum.backlog == 0 && all_here;
            if (complete && now > changed + SETTLE) || now > changed.max(earliest) + silence {
                return Ok((first, self.usage()));
            }
        }
    }

    /// Returns how long nothing may happen before the rest counts as lost.
    fn silence(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of at least 0.001 has been checked")]
        let between = |rate: f64| (2e9 / rate) as u64;
        let rates = [self.plan.ramp.rate, if let Pace::Rate(rate) = self.plan.pace { Some(rate) } else { None }];
        let slowest = rates.into_iter().flatten().map(between).max().unwrap_or(0);
        // A network that drops connection requests sends them again after seconds.
        let patience = if self.plan.is_stepwise() { self.plan.patience } else { self.plan.drain };
        clock::length(patience) + slowest
    }

    fn show(&mut self, elapsed: u64) {
        let sum = self.sum();
        (self.progress)(&Progress {
            elapsed: Duration::from_nanos(elapsed),
            connected: sum.connected,
            sent: sum.sent,
            received: sum.received,
            backlog: sum.backlog,
            duplicated: sum.duplicated,
            misordered: sum.misordered,
        });
    }

    fn collect(&mut self) -> Result<Vec<Outcome>, BenchError> {
        let mut outcomes = Vec::new();
        while outcomes.len() < self.hands.len() {
            match self.told.recv_timeout(GRACE) {
                Ok((_, Told::Done(outcome))) => outcomes.push(*outcome),
                // A process closes its output when it is done.
                Ok(_) => {}
                Err(_) => return Err(BenchError::Worker("it says nothing in the end".to_owned())),
            }
        }
        Ok(outcomes)
    }
}
