//! The store as commands see it: whole keys, read and written.
//!
//! A key of the wrong type is an error that names the key; nothing is ever written over it.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use midge_broker::config::default_data_directory;
use midge_broker::control::{Client, SOCKET};
use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};
use midge_store::hot::HotLog;
use midge_store::push::PushWriter;
use midge_store::{KeyKind, Store, StoreError, StoreSettings, StoreUrl, Write, Written};

use crate::failure::refused;

/// How many keys are read in one round trip.
pub(crate) const BATCH: usize = 1_000;

/// How long the store may take to be reached, and for each answer: a person is waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a Redis listens where nothing else is said.
const LOCAL_REDIS: &str = "redis://127.0.0.1:6379";
/// Where a server keeps its data that was installed for the whole machine.
const SYSTEM_DATA: &str = "/var/lib/midge";

/// Returns the store that is meant where none is named: that of a server on this machine, else a Redis.
pub(crate) fn default_store() -> String {
    // What may not be looked at is there: opening it says what is missing.
    let may_be =
        |path: PathBuf| !matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() != ErrorKind::PermissionDenied);
    let is_store = |directory: &PathBuf| may_be(directory.join("midge.redb")) || may_be(directory.join(SOCKET));
    let places = [default_data_directory(), PathBuf::from(SYSTEM_DATA)];
    places.into_iter().find(is_store).map_or(LOCAL_REDIS.to_owned(), |directory| format!("file:{}", directory.display()))
}

/// An open store.
pub(crate) struct Records {
    store: Box<dyn Store>,
    settings: StoreSettings,
}

impl Records {
    /// Opens the store at `url`; an embedded one that a running server has, through the server.
    ///
    /// # Errors
    /// `url` names no store, or the store can't be reached or is held by a process that doesn't share it.
    pub(crate) fn open(url: &str, prefix: &str) -> Result<Self> {
        let (url, settings) = parse(url, prefix)?;
        // A server that runs has the store for itself, and makes our changes for us.
        if let Some(directory) = url.directory()
            && let Some(client) = Client::find(directory, prefix)?
        {
            return Ok(Self { store: Box::new(client), settings });
        }
        let backend = midge_store::open(&url, &settings)?;
        Ok(Self { store: backend.connect()?, settings })
    }

    /// Returns the key as it stands in the store.
    pub(crate) fn render(&self, key: &Key) -> String {
        self.settings.keys.render(key)
    }

    pub(crate) fn space(&self) -> &KeySpace {
        &self.settings.keys
    }

    /// Returns how many fields a hash may have; servers take one with more as unreadable, and deny.
    pub(crate) fn max_fields(&self) -> usize {
        self.settings.max_fields
    }

    /// Returns what stands under each key, in their order.
    pub(crate) fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        if keys.is_empty() { Ok(Vec::new()) } else { self.store.read(keys) }
    }

    pub(crate) fn read_one(&mut self, key: &Key) -> Result<Entry> {
        self.read(std::slice::from_ref(key))?.pop().context("the store gave no answer")
    }

    /// Returns whether anything stands under `key`.
    pub(crate) fn exists(&mut self, key: &Key) -> Result<bool> {
        Ok(self.read_one(key)? != Entry::Missing)
    }

    /// Returns the fields of a hash; a missing one has none.
    pub(crate) fn fields(&mut self, key: &Key) -> Result<Fields> {
        let entry = self.read_one(key)?;
        fields_of(entry).map_err(|flaw| refused(format!("the key {} can't be read: {flaw}", self.render(key))))
    }

    /// Makes all changes, in order, a bounded number at a time.
    ///
    /// # Errors
    /// The store gave no answer, or refused one of the changes; those before and behind it may have been made.
    pub(crate) fn write(&mut self, writes: &[Write]) -> Result<()> {
        for batch in writes.chunks(BATCH) {
            let written = self.store.write(batch)?;
            ensure!(written.len() == batch.len(), "the store gave {} answers to {} changes", written.len(), batch.len());
            for (write, written) in batch.iter().zip(written) {
                if let Written::Failed(reason) = written {
                    return Err(refused(format!("the store refused to write {}: {reason}", self.render(write.key()))));
                }
            }
        }
        Ok(())
    }

    /// Returns all keys of a kind, sorted, each once.
    pub(crate) fn list(&mut self, kind: KeyKind) -> Result<Vec<Key>, StoreError> {
        let mut keys = Vec::new();
        self.store.list(kind, &mut |key| {
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Calls `visit` with each of `keys` that is still there, and what stands under it.
    pub(crate) fn each(&mut self, keys: &[Key], mut visit: impl FnMut(&Key, Entry) -> Result<()>) -> Result<()> {
        for batch in keys.chunks(BATCH) {
            for (key, entry) in batch.iter().zip(self.read(batch)?) {
                if entry != Entry::Missing {
                    visit(key, entry)?;
                }
            }
        }
        Ok(())
    }
}

/// Opens the way to push through the store at `url`; where a server has it, through the server.
///
/// # Errors
/// As [`Records::open`].
pub(crate) fn open_pushes(url: &str, prefix: &str) -> Result<Box<dyn PushWriter>> {
    let (url, settings) = parse(url, prefix)?;
    if let Some(directory) = url.directory()
        && let Some(client) = Client::find(directory, prefix)?
    {
        return Ok(Box::new(client));
    }
    Ok(midge_store::open(&url, &settings)?.pushes()?)
}

/// Opens the way to counts of topics in the store at `url`.
///
/// # Errors
/// As [`Records::open`], or the store has none.
pub(crate) fn open_hot(url: &str, prefix: &str) -> Result<Box<dyn HotLog>> {
    let (url, settings) = parse(url, prefix)?;
    Ok(midge_store::open(&url, &settings)?.hot()?)
}

fn parse(url: &str, prefix: &str) -> Result<(StoreUrl, StoreSettings)> {
    let url = url.parse().map_err(|error| anyhow!("--store: {error}"))?;
    let settings = StoreSettings {
        keys: KeySpace::new(prefix),
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        ..StoreSettings::default()
    };
    Ok((url, settings))
}

/// Returns the fields of a key that should be a hash, or what is wrong with it.
pub(crate) fn fields_of(entry: Entry) -> Result<Fields, String> {
    match entry {
        Entry::Missing => Ok(Fields::new()),
        Entry::Hash(fields) => Ok(fields),
        Entry::Text { .. } => Err("it is a string, and a hash is expected".to_owned()),
        Entry::Unreadable(reason) => Err(reason),
    }
}

/// Returns a field with its value, as stores take them.
pub(crate) fn field(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}
