//! Reads the files of a journal as one stream.
//!
//! A snapshot `N` stands for all files with a number below `N`; behind it come the logs from `N` on.
//! A log counts up to the block with which the next log begins: what lies behind that in it was written, but not confirmed there, and was written again.
//! So each block up to the last log must be found exactly as it was written; only the last log may have a torn tail.

use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use super::disk::Disk;
use super::format::{BLOCK_HEADER, BadHeader, BlockHeader, FILE_HEADER, FIRST, FileHeader, Kind, VERSION, has_later_block};
use super::{JournalError, Torn};

const LOG: &str = ".log";
const SNAPSHOT: &str = ".snapshot";
/// The end of the name of a file that isn't complete yet.
const UNFINISHED: &str = ".new";

/// The files of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// The newest snapshot.
    pub(super) snapshot: Option<u64>,
    /// The logs behind it, in their order.
    pub(super) logs: Vec<u64>,
}

/// What lies in the directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) chain: Chain,
    /// Files that a newer snapshot stands for, or that were never completed.
    pub(super) obsolete: Vec<String>,
    /// A number that no file has had.
    pub(super) next_number: u64,
}

/// Returns the name of a log.
pub(super) fn log_name(number: u64) -> String {
    format!("{number:020}{LOG}")
}

/// Returns the name of a snapshot.
pub(super) fn snapshot_name(number: u64) -> String {
    format!("{number:020}{SNAPSHOT}")
}

/// Returns the name that a file has until it is complete.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

impl Listing {
    /// Looks into the directory; files of other names are nobody's business.
    pub(super) fn read(disk: &dyn Disk) -> Result<Self, JournalError> {
        let names = disk.list().map_err(|cause| JournalError::io(disk.path(), "listing", cause))?;
        let (mut snapshots, mut logs, mut listing) = (Vec::new(), Vec::new(), Self::default());
        for name in names {
            let finished = name.strip_suffix(UNFINISHED).unwrap_or(&name);
            let number =
                |end| finished.strip_suffix(end).filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok());
            let (log, snapshot): (Option<u64>, Option<u64>) = (number(LOG), number(SNAPSHOT));
            let Some(number) = log.or(snapshot) else { continue };
            listing.next_number = listing.next_number.max(number);
            if finished != name {
                listing.obsolete.push(name);
            } else if log.is_some() {
                logs.push(number);
            } else {
                snapshots.push(number);
            }
        }
        listing.next_number = listing.next_number.saturating_add(1);
        logs.sort_unstable();
        snapshots.sort_unstable();
        let snapshot = snapshots.pop();
        listing.obsolete.extend(snapshots.into_iter().map(snapshot_name));
        let start = snapshot.unwrap_or(0);
        listing.obsolete.extend(logs.iter().filter(|&&number| number < start).map(|&number| log_name(number)));
        logs.retain(|&number| number >= start);
        listing.chain = Chain { snapshot, logs };
        Ok(listing)
    }
}

/// Goes through the blocks of a chain.
#[derive(Debug)]
pub(super) struct Walker {
    files: VecDeque<File>,
    /// The block that comes behind all that there are.
    pub(super) next: u64,
    /// Whether the last log was closed.
    pub(super) clean: bool,
    pub(super) torn: Option<Torn>,
    /// The greatest keys that the snapshot knows of.
    pub(super) last_keys: (u64, u64),
}

/// A block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// Whether it is of the snapshot.
    pub(super) snapshot: bool,
    /// Whether it is of a log whose end isn't known.
    pub(super) in_open_log: bool,
}

impl Walker {
    /// Opens all files; up to the block `until`, or up to the end where that isn't known.
    pub(super) fn open(disk: &dyn Disk, chain: &Chain, until: Option<u64>) -> Result<Self, JournalError> {
        let mut files = VecDeque::new();
        let mut next = FIRST;
        let mut last_keys = (0, 0);
        if let Some(number) = chain.snapshot {
            let file = File::open(disk, &snapshot_name(number), Kind::Snapshot)?;
            next = file.header.first;
            last_keys = (file.header.last_session, file.header.last_message);
            files.push_back(file);
        }
        let mut logs = VecDeque::new();
        for &number in &chain.logs {
            logs.push_back(File::open(disk, &log_name(number), Kind::Log)?);
        }
        if let Some(first) = logs.front() {
            first.expect_first(next)?;
        } else if let Some(snapshot) = files.front() {
            return Err(snapshot.damaged("the log that belongs behind it is missing"));
        }
        let limits: Vec<_> = logs.iter().skip(1).map(|file| Some(file.header.first)).chain([until]).collect();
        for (file, limit) in logs.iter_mut().zip(limits) {
            file.end = limit.map_or(End::Open, End::Before);
            if limit.is_some_and(|limit| limit < file.header.first) {
                return Err(file.damaged("a later log begins before it"));
            }
        }
        files.append(&mut logs);
        Ok(Self { files, next, clean: chain.logs.is_empty(), torn: None, last_keys })
    }

    /// Reads the records of the next block in place of what is in `records`; `None` behind the last.
    pub(super) fn next(&mut self, records: &mut Vec<u8>) -> Result<Option<Found>, JournalError> {
        while let Some(file) = self.files.front_mut() {
            let sequence = file.expected;
            if file.read(records)? {
                let snapshot = file.header.kind == Kind::Snapshot;
                return Ok(Some(Found { sequence, snapshot, in_open_log: file.end == End::Open }));
            }
            if file.header.kind == Kind::Log {
                self.next = file.expected;
            }
            (self.clean, self.torn) = (file.closed, file.torn.take());
            // The block read last stays known for what the caller finds in it.
            if self.files.len() == 1 {
                return Ok(None);
            }
            self.files.pop_front();
        }
        Ok(None)
    }

    /// Returns how many bytes the files have.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// Returns the error that the block read last holds what no record is.
    pub(super) fn malformed(&self) -> JournalError {
        let what = "a record can't be understood, though its checksum is right";
        match self.files.front() {
            Some(file) => JournalError::Damaged { file: file.path.clone(), offset: file.block, what: what.to_owned() },
            None => JournalError::Damaged { file: PathBuf::new(), offset: 0, what: what.to_owned() },
        }
    }
}

/// Where a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With a block that says so.
    Marked,
    /// Before the block with which the next begins.
    Before(u64),
    /// With a block that says so, or with the last that was written.
    Open,
}

/// A file that is being read.
struct File {
    path: PathBuf,
    source: BufReader<Box<dyn Read>>,
    length: u64,
    header: FileHeader,
    end: End,
    /// Where the block read last begins.
    block: u64,
    /// Where the next begins.
    offset: u64,
    expected: u64,
    closed: bool,
    torn: Option<Torn>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl File {
    fn open(disk: &dyn Disk, name: &str, kind: Kind) -> Result<Self, JournalError> {
        let path = disk.path().join(name);
        let (source, length) = disk.open(name).map_err(|cause| JournalError::io(&path, "opening", cause))?;
        let mut source = BufReader::with_capacity(1 << 16, source);
        let damaged = |what: &str| JournalError::Damaged { file: path.clone(), offset: 0, what: what.to_owned() };
        let mut header = [0; FILE_HEADER];
        if length < FILE_HEADER as u64 {
            return Err(damaged("it is shorter than its header"));
        }
        source.read_exact(&mut header).map_err(|cause| JournalError::io(&path, "reading", cause))?;
        let header = FileHeader::decode(&header).map_err(|bad| match bad {
            BadHeader::Damaged(what) => damaged(what),
            BadHeader::Version(found) => JournalError::Version { file: path.clone(), found, known: VERSION },
        })?;
        if header.kind != kind {
            return Err(damaged("it is of another kind than its name says"));
        }
        let (end, expected) = match kind {
            Kind::Snapshot => (End::Marked, 0),
            Kind::Log => (End::Open, header.first),
        };
        let offset = FILE_HEADER as u64;
        Ok(Self { path, source, length, header, end, block: 0, offset, expected, closed: false, torn: None })
    }

    fn expect_first(&self, first: u64) -> Result<(), JournalError> {
        if self.header.first == first {
            return Ok(());
        }
        Err(self.damaged("the file that belongs before it is missing"))
    }

    /// Reads the next block; returns whether there was one.
    fn read(&mut self, records: &mut Vec<u8>) -> Result<bool, JournalError> {
        if self.closed || self.torn.is_some() || self.end == End::Before(self.expected) {
            return Ok(false);
        }
        if self.offset == self.length && self.end == End::Open {
            return Ok(false);
        }
        self.block = self.offset;
        let mut header = [0; BLOCK_HEADER];
        if self.left() < header.len() as u64 {
            return self.broken("the file ends within the header of a block");
        }
        self.fill(&mut header)?;
        let Some(header) = BlockHeader::decode(&header, self.header.salt) else {
            return self.broken("the checksum of a block's header is wrong");
        };
        if header.sequence != self.expected {
            return Err(self.damaged("this is not the block that belongs here"));
        }
        if header.end {
            return self.close();
        }
        let length = usize::try_from(header.length).ok().filter(|_| header.length <= self.left());
        let Some(length) = length else { return self.broken("the file ends within a block") };
        records.resize(length, 0);
        self.fill(records)?;
        if !header.fits(records) {
            return self.broken("the checksum of a block is wrong");
        }
        self.expected += 1;
        Ok(true)
    }

    /// Takes the mark at the end of a file.
    fn close(&mut self) -> Result<bool, JournalError> {
        if matches!(self.end, End::Before(_)) {
            return Err(self.damaged("the file ends before the next begins"));
        }
        if self.left() > 0 {
            return Err(self.damaged("the file goes on behind its end"));
        }
        self.closed = true;
        Ok(false)
    }

    /// Decides what a block is that isn't as it was written: a tail that was never confirmed, or damage.
    fn broken(&mut self, what: &'static str) -> Result<bool, JournalError> {
        if self.end != End::Open {
            return Err(self.damaged(what));
        }
        let mut rest = Vec::new();
        self.source.read_to_end(&mut rest).map_err(|cause| JournalError::io(&self.path, "reading", cause))?;
        if has_later_block(&rest, self.expected, self.header.salt) {
            return Err(self.damaged(what));
        }
        self.torn = Some(Torn { file: self.path.clone(), offset: self.block, bytes: self.length - self.block });
        Ok(false)
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), JournalError> {
        self.source.read_exact(bytes).map_err(|cause| JournalError::io(&self.path, "reading", cause))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, what: &str) -> JournalError {
        JournalError::Damaged { file: self.path.clone(), offset: self.block, what: what.to_owned() }
    }
}
