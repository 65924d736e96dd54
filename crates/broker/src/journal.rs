//! Keeps what must survive a crash.
//!
//! # How an event loop uses it
//! At the start, once: [`Journal::open`] gives back the [`State`] that all records on disk amount to, and a [`Report`] of what was found. Every loop restores its part and gets a [`Handle`] with a way to be woken.
//!
//! Then, in each turn:
//! 1. What [`Shard::take_records`](midge_engine::shard::Shard::take_records) returned goes to [`Handle::append`], as one batch. It never blocks and never refuses. Where it returns [`Room::Full`], the loop reads from no socket until [`Handle::room`] says [`Room::Free`]; it is woken then.
//! 2. When the loop is woken, [`Handle::committed`] goes to [`Shard::committed`](midge_engine::shard::Shard::committed).
//!
//! At the end: the loops append their last batches, and [`Journal::close`] writes them.
//!
//! # What is promised
//! * **Durability**: what [`Handle::committed`] has counted is on disk, whatever ends the process or the machine. Batches are all or nothing, and those of one loop are kept in their order.
//! * **One fsync for everybody**: what all loops have appended while the disk was busy is written by one write and one fdatasync, on a thread of the journal.
//! * **No silent loss**: a torn tail, which can't have been committed, is cut off and reported. Damage anywhere else ends [`Journal::open`] with the file and the offset, and changes nothing on disk.
//! * **Errors**: after a failed write or fsync nothing is confirmed by that file again. What was not confirmed is kept, and written to a new file every [`Settings::retry`] until that works; meanwhile [`Journal::health`] is [`Health::Stuck`], nothing is acknowledged, and the memory fills up to its bound.
//! * **Bounds**: see [`Settings`]; each has a counter in [`Counters`].
//! * **Size**: what is dead goes when the log is compacted: the records that still matter are copied to a snapshot, on a thread of its own, while commits go on and the next log grows. If that fails, nothing is lost, the log grows, and it is tried again.
//! * **Memory**: the records that wait, twice at most, while one half is being written. No state and no message is kept; while a compaction looks for what is alive, it takes about 130 bytes for each message that waits for a session, 110 for each session, and one bit for each record there is.
//!
//! # Why files of its own
//! What has to be done is to append, to read all once, and to forget. Measured with messages of 100 bytes, each queued and done, beside the same keys in embedded stores; two cores, ext4 on a virtual disk that does 6,500 to 7,700 appends with fdatasync a second:
//!
//! | | one waits | 100 wait | as much as goes |
//! |---|---|---|---|
//! | here: commits a second | 5,200 | 2,000 | – |
//! | here: messages (of 3 records) a second | 5,200 | 197,000 | 2,340,000 |
//! | redb 4.6: messages a second | 5,300 | 222,000 | 557,000 |
//! | fjall 3.1: messages a second | 9,500 | 242,000 | 324,000 |
//!
//! The stores had no thread between them and the caller, encoded nothing, and didn't ask which messages nobody refers to any more; fjall is ahead where one waits because it lays out its file beforehand. Neither says where a file is damaged, nor what becomes of a write whose fsync failed, and that decided it.
//! An event loop spends 53 ns on a record. A million messages for a thousand sessions are 152 MB and are read in 0.5 s, one message for each of a million sessions 189 MB in 3.3 s, nearly all of it to build the [`State`]; compacting them takes 0.8 s and 1.7 s, in which the longest of some thousand commits took 20 ms.

mod chain;
mod codec;
mod compact;
mod disk;
mod format;
mod live;
mod lock;
mod log;
mod queue;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use midge_engine::record::{Record, State};

use disk::{Directory, Disk};
use lock::Lock;
use queue::{Flow, MemberState, Queue};
use writer::Writer;

/// What the journal bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of appended records that may wait in memory, of all loops together; beyond it, loops are told [`Room::Full`].
    ///
    /// The bound is exceeded by the batches that the loops append before they stop: one turn of each.
    pub queue_bytes: usize,
    /// The log is compacted only when it is at least this long, in bytes.
    pub compact_bytes: u64,
    /// The log is compacted when it is this many per cent of the last snapshot; 100 keeps the journal within about twice what is alive, three times while it is being compacted.
    pub compact_percent: u32,
    /// A log that isn't empty is compacted after this time at the latest: so long does a message stay on disk that nobody refers to any more.
    pub compact_age: Duration,
    /// How long to wait after a failed write before the next attempt.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_bytes: 64 << 20,
            compact_bytes: 64 << 20,
            compact_percent: 100,
            compact_age: Duration::from_secs(3600),
            retry: Duration::from_secs(1),
        }
    }
}

/// Why the journal can't be opened or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process has the directory.
    #[error("{} is in use by {holder}: is a midge running on it? Stop it first", .directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process that has it, as far as it can be told.
        holder: String,
    },
    /// A file isn't what was written, at a place that was confirmed.
    #[error("{} is damaged at byte {offset}: {what}", .file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A file is of a later version of the journal.
    #[error("{} has version {found} of the journal; this server reads up to {known}", .file.display())]
    Version {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: u16,
        /// The latest version that is known here.
        known: u16,
    },
    /// The disk says no.
    #[error("{}: {action} failed", .path.display())]
    Io {
        /// What it was done to.
        path: PathBuf,
        /// What was to be done.
        action: &'static str,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },
    /// Records were appended that could not be written until the end.
    #[error("{bytes} bytes of records were not written, and nothing that rests on them was acknowledged: {cause}")]
    Unwritten {
        /// How many bytes.
        bytes: u64,
        /// What kept failing.
        cause: String,
    },
}

/// What survived.
#[derive(Debug)]
pub struct Recovered {
    /// What is to be restored: [`Shard::restore`](midge_engine::shard::Shard::restore) of every loop gets it whole.
    pub state: State,
    /// How it was found.
    pub report: Report,
}

/// What was found on disk at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many records were applied.
    pub records: u64,
    /// Whether the last run ended by [`Journal::close`], or this is the first.
    pub clean: bool,
    /// What was cut off because it was never written completely.
    pub torn: Option<Torn>,
    /// How long it took.
    pub took: Duration,
}

/// The tail of a file that was being written when the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Which file.
    pub file: PathBuf,
    /// Where the tail begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// Whether the loops may go on taking messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Room {
    /// There is room.
    Free,
    /// The bound is reached: nothing more should be read from clients until there is room.
    Full,
}

/// Whether the journal writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writing,
    /// It tries again and again; nothing is confirmed meanwhile.
    Stuck {
        /// What failed last.
        error: String,
    },
}

/// What has happened, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records appended.
    pub records: u64,
    /// Bytes written to logs.
    pub bytes: u64,
    /// Writes with fdatasync.
    pub commits: u64,
    /// Failed attempts to write.
    pub failures: u64,
    /// How often a loop found the bound reached.
    pub full: u64,
    /// Bytes that wait to be written now.
    pub queued_bytes: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Compactions that failed.
    pub failed_compactions: u64,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the logs behind it.
    pub log_bytes: u64,
}

/// Up to how many bytes a buffer is kept when it isn't needed.
const SPARE: usize = 1 << 20;

/// The journal of a server.
///
/// Dropping it writes what was appended, like [`Journal::close`], but tells nobody when that fails.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
    _lock: Option<Lock>,
}

/// What one event loop has of the journal.
#[derive(Debug)]
pub struct Handle {
    queue: Arc<Queue>,
    member: usize,
    state: Arc<MemberState>,
    /// What is being encoded.
    bytes: Vec<u8>,
    last: u64,
}

impl Journal {
    /// Opens the journal in a directory, which is made where it is missing, and reads it.
    ///
    /// # Errors
    /// Another process has the directory; the files are damaged or of a later version; they can't be read or written.
    pub fn open(directory: &Path, settings: &Settings) -> Result<(Self, Recovered), JournalError> {
        let disk = Directory::new(directory).map_err(|cause| JournalError::io(directory, "making the directory", cause))?;
        let lock = Lock::take(directory)?;
        let (mut journal, recovered) = Self::open_on(Arc::new(disk), settings)?;
        journal._lock = Some(lock);
        Ok((journal, recovered))
    }

    /// Returns what an event loop needs; `wake` is called on the journal's thread when [`Handle::committed`] has grown or [`Handle::room`] is there again, and must not block.
    #[must_use]
    pub fn handle(&self, wake: Arc<dyn Fn() + Send + Sync>) -> Handle {
        let (member, state) = self.queue.join(wake);
        Handle { queue: Arc::clone(&self.queue), member, state, bytes: Vec::new(), last: 0 }
    }

    /// Returns whether it writes.
    #[must_use]
    pub fn health(&self) -> Health {
        self.queue.health()
    }

    /// Returns what has happened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.queue.counters()
    }

    /// Writes what was appended and gives the directory free. What is appended later is not written, and never counted by [`Handle::committed`].
    ///
    /// # Errors
    /// Not all could be written: one more attempt is made, if the last one failed.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.end()
    }

    fn open_on(disk: Arc<dyn Disk>, settings: &Settings) -> Result<(Self, Recovered), JournalError> {
        let (recovered, start) = recover::recover(&*disk)?;
        let queue = Arc::new(Queue::new(settings.queue_bytes));
        let path = disk.path().to_owned();
        let writer = Writer::new(disk, Arc::clone(&queue), settings.clone(), start);
        let told = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("midge-journal".to_owned())
            .spawn(move || catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_| Err(told.panicked())));
        let thread = thread.map_err(|cause| JournalError::io(&path, "making a thread", cause))?;
        Ok((Self { queue, thread: Some(thread), _lock: None }, recovered))
    }

    fn end(&mut self) -> Result<(), JournalError> {
        self.queue.stop();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(self.queue.panicked()))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            ::log::error!("journal: {}", describe(&error));
        }
    }
}

impl Handle {
    /// Appends a batch, which is left empty; `last` is the number of its last record, or of the last one ever emitted where it is empty.
    ///
    /// Returns whether there is room for more; the batch is taken in any case. It never waits for the disk.
    pub fn append(&mut self, batch: &mut Vec<Record>, last: u64) -> Room {
        if batch.is_empty() && last <= self.last {
            return self.room();
        }
        self.last = last;
        self.bytes.clear();
        let mut flow = Flow::default();
        for record in &*batch {
            match record {
                Record::Queued { .. } => flow.queued += 1,
                Record::Done { .. } => flow.gone += 1,
                _ => {}
            }
            codec::encode(record, &mut self.bytes);
        }
        let room = self.queue.append(self.member, &self.bytes, last, batch.len() as u64, flow);
        batch.clear();
        self.bytes.shrink_to(SPARE);
        room
    }

    /// Returns up to which number all records of this loop are on disk.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.state.committed()
    }

    /// Returns whether there is room now.
    pub fn room(&self) -> Room {
        self.queue.room()
    }
}

impl JournalError {
    fn io(path: &Path, action: &'static str, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, cause }
    }
}

/// Returns an error with its cause, in one line.
fn describe(error: &JournalError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
