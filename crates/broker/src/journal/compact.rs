//! Writes anew what is alive, and drops the rest.
//!
//! The files are read twice: once to learn which records matter, once to copy those, in their order and as they are. So no message is in memory, and all that lies on disk has its checksum looked at.
//! A snapshot has its name only when it is complete and safe; the files it stands for go after that. Wherever this ends, the journal says the same as before.

use std::sync::atomic::{AtomicBool, Ordering};

use super::JournalError;
use super::chain::{Chain, Walker, log_name, snapshot_name, unfinished};
use super::codec;
use super::disk::{Disk, Sink};
use super::format::{BLOCK_HEADER, BlockHeader, FileHeader};
use super::live::{Live, Survivors};

/// How long the blocks of a snapshot are.
const BLOCK: usize = 1 << 20;
/// After how many bytes the disk is waited for: the commits meanwhile would wait for all that was written before.
const SYNC: u64 = 4 << 20;

/// What is to be compacted.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The files that the snapshot will stand for.
    pub(super) chain: Chain,
    /// Its number.
    pub(super) number: u64,
    /// The block of the log that comes next.
    pub(super) until: u64,
    /// Now, in seconds since 1970.
    pub(super) unix: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compacted {
    /// The number of the snapshot.
    pub(super) number: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// How many messages it holds for sessions.
    pub(super) queued: u64,
    /// The length of the records about them.
    pub(super) queued_bytes: u64,
}

/// Compacts; returns `None` where `stop` was set meanwhile.
pub(super) fn compact(disk: &dyn Disk, task: &Task, stop: &AtomicBool) -> Result<Option<Compacted>, JournalError> {
    let name = unfinished(&snapshot_name(task.number));
    let written = survivors(disk, task, stop).and_then(|survivors| match survivors {
        Some(survivors) => copy(disk, task, &survivors, &name, stop),
        None => Ok(None),
    });
    if !matches!(written, Ok(Some(_))) {
        // It may not even have been made. If it stays, the next start removes it.
        let _ = disk.remove(&name);
        return written;
    }
    let path = disk.path().join(&name);
    disk.rename(&name, &snapshot_name(task.number)).map_err(|cause| JournalError::io(&path, "renaming", cause))?;
    disk.sync().map_err(|cause| JournalError::io(disk.path(), "syncing", cause))?;
    let old = task.chain.snapshot.map(snapshot_name).into_iter().chain(task.chain.logs.iter().copied().map(log_name));
    for name in old {
        if let Err(cause) = disk.remove(&name) {
            ::log::warn!("journal: {} is not needed any more, but can't be removed: {cause}", disk.path().join(name).display());
        }
    }
    written
}

/// Learns which records matter.
fn survivors(disk: &dyn Disk, task: &Task, stop: &AtomicBool) -> Result<Option<Survivors>, JournalError> {
    let mut walker = Walker::open(disk, &task.chain, Some(task.until))?;
    let mut live = Live::new(walker.last_keys);
    let mut block = Vec::new();
    let mut young = 0;
    while let Some(found) = walker.next(&mut block)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let record = codec::split(&mut rest).and_then(codec::decode).map_err(|_| walker.malformed())?;
            live.take(record);
        }
        if found.snapshot {
            young = live.places();
        }
    }
    Ok(Some(live.survivors(young, task.unix)))
}

/// Writes them to a file.
fn copy(
    disk: &dyn Disk,
    task: &Task,
    survivors: &Survivors,
    name: &str,
    stop: &AtomicBool,
) -> Result<Option<Compacted>, JournalError> {
    let path = disk.path().join(name);
    let io = |action| {
        let path = path.clone();
        move |cause| JournalError::Io { path, action, cause }
    };
    let mut walker = Walker::open(disk, &task.chain, Some(task.until))?;
    let header = FileHeader::snapshot(task.until, survivors.last_keys.0, survivors.last_keys.1);
    let mut writer = Writer::new(disk.create(name).map_err(io("creating"))?, header).map_err(io("writing"))?;
    let mut done = Compacted { number: task.number, queued: survivors.queued, ..Compacted::default() };
    let (mut block, mut place) = (Vec::new(), 0);
    while walker.next(&mut block)?.is_some() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let record = codec::split(&mut rest).map_err(|_| walker.malformed())?;
            if survivors.contains(place) {
                done.queued_bytes += if codec::is_of_queue(record) { record.len() as u64 } else { 0 };
                writer.push(record).map_err(io("writing"))?;
            }
            place += 1;
        }
    }
    done.bytes = writer.finish().map_err(io("writing"))?;
    Ok(Some(done))
}

/// Writes a snapshot.
struct Writer {
    sink: Box<dyn Sink>,
    salt: u64,
    block: Vec<u8>,
    sequence: u64,
    length: u64,
    synced: u64,
}

impl Writer {
    fn new(mut sink: Box<dyn Sink>, header: FileHeader) -> std::io::Result<Self> {
        let bytes = header.encode();
        sink.write(&bytes)?;
        let block = vec![0; BLOCK_HEADER];
        Ok(Self { sink, salt: header.salt, block, sequence: 0, length: bytes.len() as u64, synced: 0 })
    }

    fn push(&mut self, record: &[u8]) -> std::io::Result<()> {
        self.block.extend_from_slice(record);
        if self.block.len() >= BLOCK { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> std::io::Result<()> {
        BlockHeader::seal(&mut self.block, self.sequence, self.salt);
        self.sink.write(&self.block)?;
        self.sequence += 1;
        self.length += self.block.len() as u64;
        self.block.truncate(BLOCK_HEADER);
        if self.length - self.synced >= SYNC {
            self.sink.sync()?;
            self.synced = self.length;
        }
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<u64> {
        if self.block.len() > BLOCK_HEADER {
            self.write()?;
        }
        let end = BlockHeader::end(self.sequence, self.salt);
        self.sink.write(&end)?;
        self.sink.sync()?;
        Ok(self.length + end.len() as u64)
    }
}
