//! The promise: what was confirmed outlives `kill -9`.
//!
//! The test runs itself as the process that is killed; [`DIRECTORY`] tells the two apart.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use midge_broker::journal::{Journal, Settings};
use midge_core::topic::TopicName;
use midge_engine::message::{Message, Publication};
use midge_engine::record::{Record, State};
use midge_mqtt::QoS;

const DIRECTORY: &str = "MIDGE_TEST_JOURNAL";
const CONFIRMED: &str = "confirmed ";
/// Overwritten by each batch, so that most of what is written is soon dead.
const LATEST: &str = "latest";
/// The length of its messages.
const LENGTH: usize = 500;
/// Batches that are written while nobody is killed.
const BATCHES: u64 = 2_000;

fn settings() -> Settings {
    Settings { compact_bytes: 100_000, ..Settings::default() }
}

fn message(payload: &[u8]) -> Arc<Message> {
    let (topic, qos) = (TopicName::new("t").unwrap(), QoS::AtLeastOnce);
    Publication { topic, properties: &[], payload, qos, retain: true, expires: None, stamp: 1 }.to_message()
}

/// Returns the two records of a batch: one that stays, and one that the next replaces.
fn batch(number: u64) -> Vec<Record> {
    let retained = |topic: &str, payload: &[u8]| Record::Retained {
        topic: topic.into(),
        stamp: number,
        message: Some(message(payload)),
        expires: None,
    };
    vec![retained(&number.to_string(), b"x"), retained(LATEST, &[b'y'; LENGTH])]
}

/// Returns how many batches a state has, and checks that it has all up to the last.
fn batches(state: &State) -> u64 {
    let latest = state.retained.get(LATEST).map_or(0, |latest| latest.stamp);
    assert_eq!(state.retained.len() as u64, latest + u64::from(latest > 0));
    assert!((1..=latest).all(|number| state.retained.contains_key(number.to_string().as_str())));
    latest
}

/// Writes for ever, and prints what is confirmed.
fn write(directory: &Path) -> ! {
    let (journal, recovered) = Journal::open(directory, &settings()).unwrap();
    let before = batches(&recovered.state);
    let (wake, woken) = channel();
    let mut handle = journal.handle(Arc::new(move || _ = wake.send(())));
    for number in 1.. {
        let _ = handle.append(&mut batch(before + number), number);
        // Some batches wait together, and some are alone.
        if number % 7 != 0 {
            while handle.committed() + number % 5 < number {
                woken.recv().unwrap();
            }
            println!("{CONFIRMED}{}.", before + handle.committed());
        }
    }
    unreachable!("numbers don't end")
}

/// Dies with the test, whatever becomes of that.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a process write until it has printed so many lines and is killed; returns the last number it printed.
fn written(directory: &Path, lines: usize) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "what_was_confirmed_outlives_the_process", "--nocapture"]);
    let mut child = Killed(command.env(DIRECTORY, directory).stdout(Stdio::piped()).spawn().unwrap());
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let (mut seen, mut confirmed) = (0, 0);
    // What it printed before it died is read after that. The last line may have been cut.
    for line in output.lines().map(Result::unwrap) {
        let number = line.strip_prefix(CONFIRMED).and_then(|rest| rest.strip_suffix('.'));
        let Some(number) = number else { continue };
        confirmed = number.parse().unwrap();
        seen += 1;
        if seen == lines {
            child.0.kill().unwrap();
        }
    }
    assert!(seen >= lines, "the process ended by itself, after {confirmed}");
    confirmed
}

#[test]
fn what_was_confirmed_outlives_the_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        write(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    for lines in [1, 3, 40, 700, 2, 300, 1000, 5] {
        let confirmed = written(directory.path(), lines);
        let (journal, recovered) = Journal::open(directory.path(), &settings()).unwrap();
        let found = batches(&recovered.state);
        assert!(found >= confirmed, "{found} of {confirmed}, {:?}", recovered.report);
        journal.close().unwrap();
    }
    // Who is killed early gets nothing compacted, so the rest is written in peace.
    let (journal, recovered) = Journal::open(directory.path(), &settings()).unwrap();
    assert!(recovered.report.clean);
    let before = batches(&recovered.state);
    let (wake, woken) = channel();
    let mut handle = journal.handle(Arc::new(move || _ = wake.send(())));
    for number in 1..=BATCHES {
        let _ = handle.append(&mut batch(before + number), number);
        while handle.committed() < number {
            woken.recv().unwrap();
        }
    }
    journal.close().unwrap();
    let (_journal, recovered) = Journal::open(directory.path(), &settings()).unwrap();
    assert_eq!(batches(&recovered.state), before + BATCHES);
    let written = (before + BATCHES) * LENGTH as u64;
    assert!(written > 2 * recovered.report.bytes, "of more than {written} bytes {} are still there", recovered.report.bytes);
}
