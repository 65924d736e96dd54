//! The promise: what was confirmed is there after any crash.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use midge_engine::record::Record;
use proptest::prelude::*;

use super::samples::{Step, normal, states, steps, stream};
use super::sim::{Crash, Sim};
use crate::journal::chain::Chain;
use crate::journal::compact::{Task, compact};
use crate::journal::disk::Disk;
use crate::journal::format::BLOCK_HEADER;
use crate::journal::log::Log;
use crate::journal::recover::{recover, unix_now};
use crate::journal::{Handle, Journal, Settings, codec};

/// A journal and somebody who appends to it.
pub(super) struct Driver {
    pub(super) sim: Sim,
    pub(super) journal: Journal,
    pub(super) handle: Handle,
    pub(super) appended: u64,
    woken: Receiver<()>,
}

impl Driver {
    /// Opens a journal; `None` where the world ended meanwhile.
    pub(super) fn open(sim: &Sim, settings: &Settings) -> Option<Self> {
        let opened = Journal::open_on(Arc::new(sim.clone()), settings);
        assert!(opened.is_ok() || sim.has_crashed(), "{opened:?}");
        let (journal, _) = opened.ok()?;
        let (wake, woken) = channel();
        let handle = journal.handle(Arc::new(move || _ = wake.send(())));
        Some(Self { sim: sim.clone(), journal, handle, appended: 0, woken })
    }

    /// Appends a batch, which counts as one record.
    pub(super) fn append(&mut self, batch: &[Record]) {
        self.appended += 1;
        let _ = self.handle.append(&mut batch.to_vec(), self.appended);
    }

    /// Waits until all is confirmed, or the world has ended.
    pub(super) fn wait(&self) {
        while self.handle.committed() < self.appended && !self.sim.has_crashed() {
            let _ = self.woken.recv_timeout(Duration::from_millis(2));
        }
    }

    /// Ends the world, and returns how much was confirmed.
    fn crash(self) -> usize {
        self.sim.crash();
        drop(self.journal);
        usize::try_from(self.handle.committed()).unwrap()
    }
}

/// Compacts all the time, and is never patient.
pub(super) fn small() -> Settings {
    Settings { compact_bytes: 600, compact_percent: 50, retry: Duration::from_millis(1), ..Settings::default() }
}

/// Returns up to which batch, of those from `from` to `to`, a disk has them, and whether its recovery was itself safe.
fn held(disk: &Sim, batches: &[Vec<Record>], from: usize, to: usize) -> usize {
    let all = states(batches);
    let (recovered, _) = recover(disk).unwrap();
    let found = normal(recovered.state);
    let held = (from..=to).rev().find(|&upto| normal(all[upto].clone()) == found);
    held.unwrap_or_else(|| panic!("neither of the states {from} to {to}, but {found:#?}, in {:?}", disk.names()))
}

/// Returns what is appended from `from` on after a start: no change of a retained message is then older than one before.
///
/// A change that clears a topic leaves nothing behind that would tell whether the disk has it, so `from` may be beyond it.
fn after_start(batches: &[Vec<Record>], from: usize) -> Vec<Vec<Record>> {
    let stamp = |record: &Record| if let Record::Retained { stamp, .. } = record { Some(*stamp) } else { None };
    let seen = batches[..from].iter().flatten().filter_map(stamp).max();
    let is_new = |record: &&Record| stamp(record).is_none_or(|stamp| Some(stamp) > seen);
    let rest = batches[from..].iter().map(|batch| batch.iter().filter(is_new).cloned().collect());
    rest.filter(|batch: &Vec<Record>| !batch.is_empty()).collect()
}

/// Checks what is left after a crash, and that the journal goes on from there.
fn check(sim: &Sim, batches: &[Vec<Record>], confirmed: usize, appended: usize) {
    for crash in [Crash::Kill, Crash::Power(0), Crash::Power(1), Crash::Power(2)] {
        let disk = sim.after(crash);
        let held_first = held(&disk, batches, confirmed, appended);
        // What was restored once has been acted on, so it must not be lost by the next crash.
        for seed in 0..3 {
            held(&disk.after(Crash::Power(seed)), batches, held_first, appended);
        }
        let mut driver = Driver::open(&disk, &small()).unwrap();
        for batch in after_start(batches, held_first) {
            driver.append(&batch);
        }
        drop(driver.handle);
        driver.journal.close().unwrap();
        let (recovered, _) = recover(&disk).unwrap();
        assert!(recovered.report.clean && recovered.report.torn.is_none());
        assert_eq!(normal(recovered.state), normal(states(batches).pop().unwrap()));
    }
}

/// Lives until the world ends, or all is written; returns how much was confirmed, and how much appended.
fn live(sim: &Sim, batches: &[Vec<Record>], fails: Option<(usize, usize)>) -> (usize, usize) {
    let Some(mut driver) = Driver::open(sim, &small()) else { return (0, 0) };
    sim.fail(fails);
    for (number, batch) in batches.iter().enumerate() {
        driver.append(batch);
        // Sometimes several wait for one commit.
        if number % 3 != 1 {
            driver.wait();
        }
        if sim.has_crashed() {
            break;
        }
    }
    driver.wait();
    let appended = usize::try_from(driver.appended).unwrap();
    (driver.crash(), appended)
}

fn sample(many: u16) -> Vec<Vec<Record>> {
    let steps: Vec<Step> = (0..many).map(|n| ((n % 24) as u8, (n % 3) as u8, n.wrapping_mul(7919))).collect();
    stream(&steps)
}

#[test]
fn any_operation_may_be_the_last() {
    let batches = sample(90);
    let whole = Sim::default();
    let (confirmed, appended) = live(&whole, &batches, None);
    assert_eq!((confirmed, appended), (batches.len(), batches.len()));
    // Compactions run beside it, so no two runs are the same.
    for operation in 0..whole.operations() {
        let sim = Sim::default();
        sim.crash_at(operation);
        let (confirmed, appended) = live(&sim, &batches, None);
        check(&sim, &batches, confirmed, appended);
    }
}

/// Writes a log of one block for each batch.
pub(super) fn write_log(disk: &dyn Disk, number: u64, first: u64, batches: &[Vec<Record>]) -> Log {
    let mut log = Log::prepare(disk, number, first, None).unwrap();
    Log::publish(disk, number).unwrap();
    for (sequence, batch) in (first..).zip(batches) {
        let mut block = vec![0; BLOCK_HEADER];
        batch.iter().for_each(|record| codec::encode(record, &mut block));
        log.commit(&mut block, sequence).unwrap();
    }
    log
}

/// Compacts some logs, up to a block.
pub(super) fn compact_logs(disk: &Sim, snapshot: Option<u64>, logs: &[u64], number: u64, until: u64) -> bool {
    let chain = Chain { snapshot, logs: logs.to_vec() };
    let task = Task { chain, number, until, unix: unix_now() };
    compact(disk, &task, &AtomicBool::new(false)).is_ok_and(|done| done.is_some())
}

#[test]
fn any_operation_of_a_compaction_may_be_the_last() {
    let batches = sample(200);
    let (old, new) = batches.split_at(batches.len() / 2);
    let next = u64::try_from(old.len()).unwrap() + 1;
    let before = Sim::default();
    write_log(&before, 1, 1, old);
    write_log(&before, 2, next, new);
    for operation in 0.. {
        let sim = before.after(Crash::Kill);
        sim.crash_at(operation);
        let done = compact_logs(&sim, None, &[1], 2, next);
        check(&sim, &batches, batches.len(), batches.len());
        if done && !sim.has_crashed() {
            assert!(operation > 6 && !sim.names().contains(&"00000000000000000001.log".to_owned()), "{:?}", sim.names());
            break;
        }
    }
}

proptest! {
    #[test]
    fn what_was_confirmed_is_there(
        steps in steps(150),
        crash_at in 0usize..200,
        fails in prop::option::of((2usize..12, 0usize..12)),
    ) {
        let batches = stream(&steps);
        let sim = Sim::default();
        sim.crash_at(crash_at + 4);
        let (confirmed, appended) = live(&sim, &batches, fails);
        sim.fail(None);
        check(&sim, &batches, confirmed, appended);
    }

    #[test]
    fn compaction_changes_nothing(steps in steps(300), cuts in any::<[prop::sample::Index; 2]>()) {
        let batches = stream(&steps);
        let mut cuts = cuts.map(|cut| cut.index(batches.len() + 1));
        cuts.sort_unstable();
        // No compaction follows another before something was written, as none does in the journal.
        cuts[1] = cuts[1].max(cuts[0] + 1).min(batches.len());
        let sim = Sim::default();
        let firsts = [1, cuts[0] as u64 + 1, cuts[1] as u64 + 1];
        for (log, part) in [&batches[..cuts[0]], &batches[cuts[0]..cuts[1]], &batches[cuts[1]..]].into_iter().enumerate() {
            write_log(&sim, log as u64 + 1, firsts[log], part);
        }
        let mut all = states(&batches).pop().unwrap();
        prop_assert!(compact_logs(&sim, None, &[1], 2, firsts[1]));
        prop_assert!(compact_logs(&sim, Some(2), &[2], 3, firsts[2]));
        let (recovered, _) = recover(&sim).unwrap();
        prop_assert_eq!((recovered.state.last_session, recovered.state.last_message), (all.last_session, all.last_message));
        all = normal(all);
        prop_assert_eq!(normal(recovered.state), all);
    }
}
