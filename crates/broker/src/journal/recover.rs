//! Reads what survived, and makes a file to go on in.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use midge_engine::record::{MessageKey, SessionKey, State};

use super::chain::{Listing, Walker, snapshot_name};
use super::codec;
use super::disk::Disk;
use super::format::BLOCK_HEADER;
use super::log::Log;
use super::{JournalError, Recovered, Report};

/// Where the journal goes on.
#[derive(Debug)]
pub(super) struct Start {
    /// The files there are, the new log among them.
    pub(super) listing: Listing,
    /// The new log.
    pub(super) log: Log,
    /// The block that is written next.
    pub(super) next: u64,
    /// The length of the snapshot in bytes.
    pub(super) snapshot_bytes: u64,
    /// The length of the other logs in bytes.
    pub(super) log_bytes: u64,
    /// How many messages the sessions have.
    pub(super) queued: u64,
}

/// Reads the journal; changes nothing on disk unless all of it could be read.
pub(super) fn recover(disk: &dyn Disk) -> Result<(Recovered, Start), JournalError> {
    let began = Instant::now();
    let mut listing = Listing::read(disk)?;
    let mut walker = Walker::open(disk, &listing.chain, None)?;
    let mut report = Report { bytes: walker.bytes(), ..Report::default() };
    let mut state =
        State { last_session: SessionKey(walker.last_keys.0), last_message: MessageKey(walker.last_keys.1), ..State::default() };
    let (mut block, mut last, mut last_found) = (Vec::new(), vec![0; BLOCK_HEADER], None);
    while let Some(found) = walker.next(&mut block)? {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let record = codec::split(&mut rest).and_then(codec::decode).map_err(|_| walker.malformed())?;
            state.apply(record);
            report.records += 1;
        }
        if found.in_open_log {
            last.truncate(BLOCK_HEADER);
            last.extend_from_slice(&block);
            last_found = Some(found.sequence);
        }
    }
    state.forget_past(unix_now());
    (report.clean, report.torn) = (walker.clean, walker.torn.take());

    let snapshot_bytes = length_of_snapshot(disk, &listing)?;
    // The block written last may have come from memory that never got to the disk. It is written again, as nothing may rest on it before.
    let again = last_found.filter(|_| !report.clean);
    let number = listing.next_number;
    let create = |first, block| {
        let log = Log::prepare(disk, number, first, block);
        let log = log.and_then(|log| Log::publish(disk, number).map(|()| log));
        log.map_err(|cause| JournalError::io(disk.path(), "making a log", cause))
    };
    let log = match again {
        Some(sequence) => create(sequence, Some(&mut last))?,
        None => create(walker.next, None)?,
    };
    for name in listing.obsolete.drain(..) {
        disk.remove(&name).map_err(|cause| JournalError::io(&disk.path().join(&name), "removing", cause))?;
    }
    listing.chain.logs.push(number);
    listing.next_number += 1;
    let queued = state.sessions.values().map(|session| session.queue.len() as u64).sum();
    let log_bytes = report.bytes.saturating_sub(snapshot_bytes);
    report.took = began.elapsed();
    let start = Start { listing, log, next: walker.next, snapshot_bytes, log_bytes, queued };
    Ok((Recovered { state, report }, start))
}

/// Returns the time in seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn length_of_snapshot(disk: &dyn Disk, listing: &Listing) -> Result<u64, JournalError> {
    let Some(number) = listing.chain.snapshot else { return Ok(0) };
    let name = snapshot_name(number);
    let opened = disk.open(&name).map_err(|cause| JournalError::io(&disk.path().join(&name), "opening", cause))?;
    Ok(opened.1)
}
