//! The promise: no damage is passed over in silence.

use midge_engine::record::Record;

use super::crash::{compact_logs, write_log};
use super::samples::{message, normal, states, stream};
use super::sim::Sim;
use crate::journal::chain::{log_name, snapshot_name};
use crate::journal::format::{BLOCK_HEADER, BlockHeader, FILE_HEADER};
use crate::journal::recover::recover;
use crate::journal::{JournalError, Torn};

fn batches() -> Vec<Vec<Record>> {
    let steps: Vec<_> = (0..60u16).map(|n| ((n % 24) as u8, (n % 3) as u8, n.wrapping_mul(7919) % 40)).collect();
    stream(&steps).into_iter().take(7).collect()
}

/// Makes a snapshot 2 of the blocks 1 to 3, a log 2 of 4 and 5, and a log 3 of 6 and 7.
fn sample(closed: bool) -> Sim {
    let (sim, batches) = (Sim::default(), batches());
    write_log(&sim, 1, 1, &batches[..3]);
    write_log(&sim, 2, 4, &batches[3..5]);
    assert!(compact_logs(&sim, None, &[1], 2, 4));
    let log = write_log(&sim, 3, 6, &batches[5..]);
    if closed {
        log.close(8).unwrap();
    }
    sim
}

/// Returns where the blocks 6 and 7 of the last log begin and end.
fn last_blocks(sim: &Sim) -> [usize; 3] {
    let length = |batch: &Vec<Record>| {
        let mut bytes = Vec::new();
        batch.iter().for_each(|record| crate::journal::codec::encode(record, &mut bytes));
        bytes.len() + BLOCK_HEADER
    };
    let batches = batches();
    let middle = FILE_HEADER + length(&batches[5]);
    let end = middle + length(&batches[6]);
    assert!(end <= sim.bytes(&log_name(3)).len());
    [FILE_HEADER, middle, end]
}

/// Checks that a disk is refused because of this file, and left as it is.
fn refused(sim: &Sim, file: &str, at_most: usize) {
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let before = sim.operations();
    match recover(sim) {
        Err(JournalError::Damaged { file: found, offset, .. }) => {
            assert!(name(&found) == file && offset <= at_most as u64, "{} at {offset}, not {file}", found.display());
        }
        Err(JournalError::Version { file: found, .. }) => assert_eq!(name(&found), file),
        other => panic!("{file}: {:?}", other.map(|(recovered, _)| recovered.report)),
    }
    assert_eq!(sim.operations(), before);
}

/// Checks that a disk is taken up to a block, but for a tail of the last log.
fn torn(sim: &Sim, upto: usize, tail: Option<(usize, usize)>) {
    let (recovered, _) = recover(sim).unwrap();
    let expected = tail.map(|(offset, bytes)| Torn {
        file: format!("/sim/{}", log_name(3)).into(),
        offset: offset as u64,
        bytes: bytes as u64,
    });
    assert_eq!(recovered.report.torn, expected);
    assert_eq!(normal(recovered.state), normal(states(&batches())[upto].clone()));
}

#[test]
fn every_bit_counts() {
    for closed in [false, true] {
        let whole = sample(closed);
        let [_, middle, end] = last_blocks(&whole);
        for file in whole.names() {
            let bytes = whole.bytes(&file);
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let sim = whole.after(super::sim::Crash::Kill);
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                sim.set(&file, changed);
                if file != log_name(3) || at < middle || (closed && at < end) {
                    refused(&sim, &file, at);
                } else if closed {
                    torn(&sim, 7, Some((end, BLOCK_HEADER)));
                } else {
                    torn(&sim, 6, Some((middle, end - middle)));
                }
            }
        }
    }
}

#[test]
fn every_byte_counts() {
    for closed in [false, true] {
        let whole = sample(closed);
        let [start, middle, end] = last_blocks(&whole);
        for file in whole.names() {
            let bytes = whole.bytes(&file);
            for length in 0..bytes.len() {
                let sim = whole.after(super::sim::Crash::Kill);
                sim.set(&file, bytes[..length].to_vec());
                if file != log_name(3) || length < start {
                    refused(&sim, &file, length);
                    continue;
                }
                let (upto, from) = [(7, end), (6, middle), (5, start)].into_iter().find(|&(_, from)| from <= length).unwrap();
                torn(&sim, upto, (from < length).then_some((from, length - from)));
            }
        }
    }
}

#[test]
fn files_may_not_be_missing() {
    for (missing, names) in [(snapshot_name(2), log_name(2)), (log_name(2), log_name(3))] {
        let sim = sample(false);
        crate::journal::disk::Disk::remove(&sim, &missing).unwrap();
        refused(&sim, &names, 0);
    }
}

#[test]
fn later_versions_are_named() {
    let sim = sample(false);
    let mut bytes = sim.bytes(&log_name(2));
    bytes[8] = 9;
    sim.set(&log_name(2), bytes);
    let text = recover(&sim).unwrap_err().to_string();
    assert_eq!(text, "/sim/00000000000000000002.log has version 9 of the journal; this server reads up to 1");
}

#[test]
fn a_tail_may_be_anything() {
    let whole = sample(false);
    let [.., end] = last_blocks(&whole);
    // What a client can send, it can make look like a later block; but the file's random number it can't know.
    let forged = BlockHeader::end(9, 0x1234);
    for tail in [&[0; 5000][..], &[0xFF; 3], &forged, b"BLK1BLK1BLK1BLK1BLK1BLK1BLK1BLK1BLK1BLK1BLK1"] {
        let sim = whole.after(super::sim::Crash::Kill);
        let mut bytes = sim.bytes(&log_name(3));
        bytes.extend_from_slice(tail);
        sim.set(&log_name(3), bytes);
        torn(&sim, 7, Some((end, tail.len())));
    }
}

#[test]
fn what_was_closed_does_not_go_on() {
    let sim = sample(true);
    let mut bytes = sim.bytes(&log_name(3));
    bytes.push(0);
    let length = bytes.len();
    sim.set(&log_name(3), bytes);
    refused(&sim, &log_name(3), length);
}

#[test]
fn a_checksum_does_not_make_a_record() {
    let sim = Sim::default();
    let batch = vec![Record::Retained { topic: "t".into(), stamp: 1, message: Some(message(b"x", 1)), expires: None }];
    drop(write_log(&sim, 1, 1, &[batch]));
    let mut bytes = sim.bytes(&log_name(1));
    // The kind of the record; then the block gets a header that fits.
    bytes[FILE_HEADER + BLOCK_HEADER + 4] = 200;
    let salt = u64::from_le_bytes(bytes[20..28].try_into().unwrap());
    BlockHeader::seal(&mut bytes[FILE_HEADER..], 1, salt);
    sim.set(&log_name(1), bytes);
    refused(&sim, &log_name(1), FILE_HEADER);
}
