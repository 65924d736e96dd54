//! The file that records are being appended to.

use std::io;

use super::chain::{log_name, unfinished};
use super::disk::{Disk, Sink};
use super::format::{BLOCK_HEADER, BlockHeader, FileHeader};

/// A log; after an error it must not be written to any more.
#[derive(Debug)]
pub(super) struct Log {
    sink: Box<dyn Sink>,
    salt: u64,
    /// Its length in bytes.
    pub(super) length: u64,
}

impl Log {
    /// Writes a log that begins with the block `first`, which may be given at once; it has no name yet that counts.
    pub(super) fn prepare(disk: &dyn Disk, number: u64, first: u64, block: Option<&mut [u8]>) -> io::Result<Self> {
        let temporary = unfinished(&log_name(number));
        let prepared = Self::write_first(disk, &temporary, FileHeader::log(first), block);
        if prepared.is_err() {
            // It may not even have been made. If it stays, the next start removes it.
            let _ = disk.remove(&temporary);
        }
        prepared
    }

    /// Gives it its name. From then on, and after an error too, no older log may be written to: it counts up to here only.
    pub(super) fn publish(disk: &dyn Disk, number: u64) -> io::Result<()> {
        let name = log_name(number);
        disk.rename(&unfinished(&name), &name)?;
        disk.sync()
    }

    /// Writes a block, whose first [`BLOCK_HEADER`] bytes are kept free, and waits until it is safe.
    pub(super) fn commit(&mut self, block: &mut [u8], sequence: u64) -> io::Result<()> {
        self.write(block, sequence)?;
        self.sink.sync()
    }

    /// Writes that this is the end.
    pub(super) fn close(mut self, sequence: u64) -> io::Result<()> {
        self.sink.write(&BlockHeader::end(sequence, self.salt))?;
        self.sink.sync()
    }

    fn write_first(disk: &dyn Disk, name: &str, header: FileHeader, block: Option<&mut [u8]>) -> io::Result<Self> {
        let mut sink = disk.create(name)?;
        let bytes = header.encode();
        sink.write(&bytes)?;
        let mut log = Self { sink, salt: header.salt, length: bytes.len() as u64 };
        if let Some(block) = block {
            log.write(block, header.first)?;
        }
        log.sink.sync()?;
        Ok(log)
    }

    fn write(&mut self, block: &mut [u8], sequence: u64) -> io::Result<()> {
        debug_assert!(block.len() > BLOCK_HEADER, "a block holds records");
        BlockHeader::seal(block, sequence, self.salt);
        self.sink.write(block)?;
        self.length += block.len() as u64;
        Ok(())
    }
}
