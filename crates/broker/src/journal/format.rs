//! What a file looks like, down to the byte.
//!
//! All numbers are little-endian; checksums are CRC-32C (RFC 3720, section 12.1).
//!
//! A file begins with a header of 48 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `MIDGEJNL` |
//! | 8..10 | version, 1 |
//! | 10..12 | 1 for a log, 2 for a snapshot |
//! | 12..20 | the sequence number of the block it begins with; of a snapshot, of the log's block that it is followed by |
//! | 20..28 | a random number |
//! | 28..36, 36..44 | of a snapshot: the greatest key of a session, and of a message, there has been |
//! | 44..48 | checksum of all before |
//!
//! Then come blocks, each a header of 32 bytes and records, as [`super::codec`] writes them:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `BLK1` for records, `END1` for the end of a file that was closed |
//! | 4..8 | checksum of the records |
//! | 8..16 | sequence number; each block of a log has one more than that before it, across files. In snapshots they begin with 0 |
//! | 16..24 | how many bytes of records follow |
//! | 24..28 | zero |
//! | 28..32 | checksum of the file's random number and all before |
//!
//! A block is what was written and synced at once, so what comes behind it was written only when it was safe.
//! That tells a torn tail from damage: behind a tail there is no header of a later block. As the random number is in its checksum, no client can have sent what looks like one.

/// The version of the files that is written, and the greatest that is read.
pub(super) const VERSION: u16 = 1;
/// The length of a file's header, in bytes.
pub(super) const FILE_HEADER: usize = 48;
/// The length of a block's header, in bytes.
pub(super) const BLOCK_HEADER: usize = 32;
/// The sequence number of the very first block of a log.
pub(super) const FIRST: u64 = 1;

const MAGIC: [u8; 8] = *b"MIDGEJNL";
const RECORDS: [u8; 4] = *b"BLK1";
const END: [u8; 4] = *b"END1";

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was appended.
    Log,
    /// What was alive when it was written.
    Snapshot,
}

/// The beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) kind: Kind,
    /// The sequence number of the log's block that comes next.
    pub(super) first: u64,
    pub(super) salt: u64,
    pub(super) last_session: u64,
    pub(super) last_message: u64,
}

/// Why a header can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    /// It is of a later version.
    Version(u16),
}

/// The beginning of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Whether the file ends here, because it was closed.
    pub(super) end: bool,
    pub(super) sequence: u64,
    pub(super) length: u64,
    checksum: u32,
}

impl FileHeader {
    /// Returns the header of a new log.
    pub(super) fn log(first: u64) -> Self {
        Self { kind: Kind::Log, first, salt: salt(), last_session: 0, last_message: 0 }
    }

    /// Returns the header of a new snapshot.
    pub(super) fn snapshot(first: u64, last_session: u64, last_message: u64) -> Self {
        Self { kind: Kind::Snapshot, first, salt: salt(), last_session, last_message }
    }

    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut out = [0; FILE_HEADER];
        let kind: u16 = match self.kind {
            Kind::Log => 1,
            Kind::Snapshot => 2,
        };
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &kind.to_le_bytes());
        for (at, value) in [(12, self.first), (20, self.salt), (28, self.last_session), (36, self.last_message)] {
            put(&mut out, at, &value.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out[..FILE_HEADER - 4]);
        put(&mut out, FILE_HEADER - 4, &checksum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; FILE_HEADER]) -> Result<Self, BadHeader> {
        if bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged("this is no file of the journal"));
        }
        let version = u16::from_le_bytes(take(bytes, 8));
        if version > VERSION {
            return Err(BadHeader::Version(version));
        }
        let checksum = u32::from_le_bytes(take(bytes, FILE_HEADER - 4));
        if version != VERSION || checksum != crc32c::crc32c(&bytes[..FILE_HEADER - 4]) {
            return Err(BadHeader::Damaged("the checksum of the file's header is wrong"));
        }
        let kind = match u16::from_le_bytes(take(bytes, 10)) {
            1 => Kind::Log,
            2 => Kind::Snapshot,
            _ => return Err(BadHeader::Damaged("the file is of no known kind")),
        };
        let number = |at| u64::from_le_bytes(take(bytes, at));
        Ok(Self { kind, first: number(12), salt: number(20), last_session: number(28), last_message: number(36) })
    }
}

impl BlockHeader {
    /// Writes the header of a block of records into the [`BLOCK_HEADER`] bytes that are kept free before them.
    pub(super) fn seal(block: &mut [u8], sequence: u64, salt: u64) {
        let Some((header, records)) = block.split_first_chunk_mut::<BLOCK_HEADER>() else { return };
        let checksum = crc32c::crc32c(records);
        *header = Self { end: false, sequence, length: records.len() as u64, checksum }.encode(salt);
    }

    /// Returns the block that ends a file which is closed.
    pub(super) fn end(sequence: u64, salt: u64) -> [u8; BLOCK_HEADER] {
        Self { end: true, sequence, length: 0, checksum: crc32c::crc32c(&[]) }.encode(salt)
    }

    /// Returns the header, if it is one.
    pub(super) fn decode(bytes: &[u8; BLOCK_HEADER], salt: u64) -> Option<Self> {
        let end = match take(bytes, 0) {
            RECORDS => false,
            END => true,
            _ => return None,
        };
        let checksum = u32::from_le_bytes(take(bytes, BLOCK_HEADER - 4));
        (checksum == header_checksum(bytes, salt)).then(|| Self {
            end,
            sequence: u64::from_le_bytes(take(bytes, 8)),
            length: u64::from_le_bytes(take(bytes, 16)),
            checksum: u32::from_le_bytes(take(bytes, 4)),
        })
    }

    /// Returns whether these are the records that were written.
    pub(super) fn fits(&self, records: &[u8]) -> bool {
        self.checksum == crc32c::crc32c(records)
    }

    fn encode(&self, salt: u64) -> [u8; BLOCK_HEADER] {
        let mut out = [0; BLOCK_HEADER];
        put(&mut out, 0, if self.end { &END } else { &RECORDS });
        put(&mut out, 4, &self.checksum.to_le_bytes());
        put(&mut out, 8, &self.sequence.to_le_bytes());
        put(&mut out, 16, &self.length.to_le_bytes());
        let checksum = header_checksum(&out, salt);
        put(&mut out, BLOCK_HEADER - 4, &checksum.to_le_bytes());
        out
    }
}

/// Returns whether the header of a block behind `sequence` is anywhere in there.
pub(super) fn has_later_block(bytes: &[u8], sequence: u64, salt: u64) -> bool {
    bytes.windows(BLOCK_HEADER).filter(|window| window.starts_with(b"BLK1") || window.starts_with(b"END1")).any(|window| {
        let header = window.first_chunk().and_then(|header| BlockHeader::decode(header, salt));
        header.is_some_and(|header| header.sequence > sequence)
    })
}

fn header_checksum(header: &[u8; BLOCK_HEADER], salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &header[..BLOCK_HEADER - 4])
}

/// Returns a number that nobody can foresee.
fn salt() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
