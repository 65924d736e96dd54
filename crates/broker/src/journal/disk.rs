//! The few things the journal does to a directory.
//!
//! They are a trait so that a test can end the world between any two of them.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory whose files are written once, from the beginning to the end.
pub(super) trait Disk: Debug + Send + Sync {
    /// Returns where it is, for messages.
    fn path(&self) -> &Path;
    /// Returns the names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>>;
    /// Opens a file to read it from the beginning, and says how long it is.
    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Waits until what was made, renamed and removed is so on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being written.
pub(super) trait Sink: Debug + Send {
    /// Writes all of it behind what there is.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Waits until all that was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory where it is missing; only its owner may read it then.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Disk for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // A name that isn't text is none of ours.
        std::fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default())).collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        let file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len();
        Ok((Box::new(file), length))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
