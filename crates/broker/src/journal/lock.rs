//! Keeps a second server out of the directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::JournalError;

const NAME: &str = "lock";

/// The right to a directory; the operating system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the directory, and leaves word there of who has it.
    pub(super) fn take(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(NAME);
        let io = |action| {
            let path = path.clone();
            move |cause| JournalError::Io { path, action, cause }
        };
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(io("opening"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Locked { directory: directory.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(cause)) => return Err(io("locking")(cause)),
        }
        file.set_len(0).map_err(io("writing"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("writing"))?;
        Ok(Self { _file: file })
    }
}

/// Says who has the lock: its number, and its name where the system tells it.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let number = match file.take(20).read_to_string(&mut text) {
        Ok(_) => text.trim().parse::<u32>().ok(),
        Err(_) => None,
    };
    let Some(number) = number else { return "another process".to_owned() };
    match std::fs::read_to_string(format!("/proc/{number}/comm")) {
        Ok(name) => format!("process {number} ({})", name.trim().escape_default()),
        Err(_) => format!("process {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let text = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(lock);
        Lock::take(directory.path()).unwrap();
    }
}
