//! The promise: errors are told, and nothing grows without end.

use std::sync::Arc;
use std::time::Duration;

use midge_engine::record::{MessageKey, Record, SessionKey};
use midge_mqtt::QoS;

use super::crash::{Driver, small};
use super::samples::message;
use super::sim::Sim;
use crate::journal::recover::recover;
use crate::journal::{Health, Journal, JournalError, Room, Settings};

fn started() -> Record {
    Record::Started { session: SessionKey(1), client_id: "c".into() }
}

/// Returns what a message of a session goes through.
fn queued(number: u64, payload: &[u8]) -> [Record; 2] {
    let key = MessageKey(number);
    [
        Record::Message { key, message: message(payload, 0), expires: None },
        Record::Queued {
            session: SessionKey(1),
            order: number,
            message: key,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: Box::default(),
            shared: None,
            packet_id: None,
        },
    ]
}

fn done(number: u64) -> Record {
    Record::Done { session: SessionKey(1), order: number }
}

#[test]
fn a_full_disk_confirms_nothing_until_there_is_room() {
    let sim = Sim::default();
    let mut driver = Driver::open(&sim, &small()).unwrap();
    driver.append(&[started()]);
    driver.wait();
    sim.fail(Some((1, 0)));
    driver.append(&queued(1, b"first"));
    while driver.journal.counters().failures < 5 {
        std::thread::yield_now();
    }
    let health = driver.journal.health();
    assert_eq!(health, Health::Stuck { error: "/sim: writing failed: the disk says no".to_owned() });
    assert_eq!(driver.handle.committed(), 1);
    driver.append(&queued(2, b"second"));
    sim.fail(None);
    driver.wait();
    assert_eq!((driver.handle.committed(), driver.journal.health()), (3, Health::Writing));
    driver.journal.close().unwrap();
    let (recovered, _) = recover(&sim).unwrap();
    assert_eq!(recovered.state.messages.len(), 2);
}

#[test]
fn what_could_not_be_written_is_told_at_the_end() {
    let sim = Sim::default();
    let mut driver = Driver::open(&sim, &Settings { retry: Duration::from_secs(3600), ..small() }).unwrap();
    sim.fail(Some((1, 0)));
    driver.append(&[started()]);
    while driver.journal.health() == Health::Writing {
        std::thread::yield_now();
    }
    let error = driver.journal.close().unwrap_err();
    assert!(matches!(error, JournalError::Unwritten { bytes: 8, .. }), "{error}");
    assert_eq!(driver.handle.committed(), 0);
}

#[test]
fn memory_has_a_bound() {
    let sim = Sim::default();
    let mut driver = Driver::open(&sim, &Settings { queue_bytes: 100, ..small() }).unwrap();
    let (woken, wakes) = std::sync::mpsc::channel();
    let mut other = driver.journal.handle(Arc::new(move || _ = woken.send(())));
    sim.fail(Some((1, 0)));
    let mut batch = vec![started()];
    assert_eq!(other.append(&mut batch, 1), Room::Free);
    assert!(batch.is_empty());
    batch.extend(queued(1, &[b'x'; 100]));
    assert_eq!((other.append(&mut batch, 3), other.room(), driver.handle.room()), (Room::Full, Room::Full, Room::Full));
    driver.append(&[Record::Ended { session: SessionKey(7) }]);
    assert_eq!(driver.journal.counters().full, 2);
    sim.fail(None);
    driver.wait();
    // Confirmed in one block or two: it is woken when its own are.
    while other.committed() < 3 {
        wakes.recv().unwrap();
    }
    assert_eq!((other.room(), driver.handle.committed(), driver.journal.counters().queued_bytes), (Room::Free, 1, 0));
}

#[test]
fn the_size_on_disk_follows_what_is_alive() {
    let sim = Sim::default();
    let settings = Settings { compact_bytes: 4_000, compact_percent: 100, ..small() };
    let mut driver = Driver::open(&sim, &settings).unwrap();
    driver.append(&[started()]);
    for number in 1..=2_000 {
        let [message, queued] = queued(number, &[b'x'; 100]);
        driver.append(&[message, queued]);
        if number > 10 {
            driver.append(&[done(number - 10)]);
        }
        if number % 10 == 0 {
            driver.wait();
            // Memory is faster than any disk; what is tested is that a compaction is under way.
            while driver.journal.counters().log_bytes > 20_000 {
                std::thread::yield_now();
            }
        }
    }
    driver.wait();
    let counters = driver.journal.counters();
    assert!(counters.compactions > 5 && counters.failed_compactions == 0, "{counters:?}");
    driver.journal.close().unwrap();
    // About 1,700 bytes are alive; what was written is 400,000.
    assert!(sim.total() < 50_000, "{} bytes in {:?}", sim.total(), sim.names());
    assert_eq!(recover(&sim).unwrap().0.state.messages.len(), 10);
}

#[test]
fn what_is_done_goes_from_the_disk() {
    let has =
        |sim: &Sim, text: &[u8]| sim.names().iter().any(|name| sim.bytes(name).windows(text.len()).any(|window| window == text));
    let sim = Sim::default();
    let mut driver = Driver::open(&sim, &Settings { compact_age: Duration::ZERO, ..Settings::default() }).unwrap();
    driver.append(&[started()]);
    driver.append(&queued(1, b"private"));
    driver.append(&queued(2, b"kept"));
    driver.wait();
    driver.append(&[done(1)]);
    driver.wait();
    let compacted = driver.journal.counters().compactions;
    // The second that ends from now on began after the message was done.
    while driver.journal.counters().compactions < compacted + 2 {
        driver.append(&[done(9)]);
        driver.wait();
    }
    driver.journal.close().unwrap();
    assert!(has(&sim, b"kept") && !has(&sim, b"private"));
}

#[test]
fn one_process_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (journal, recovered) = Journal::open(&path, &Settings::default()).unwrap();
    assert!(recovered.report.clean && recovered.state.sessions.is_empty());
    let error = Journal::open(&path, &Settings::default()).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    journal.close().unwrap();
    Journal::open(&path, &Settings::default()).unwrap();
}
