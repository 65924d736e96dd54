//! The store as commands see it: whole keys, read and written.
//!
//! A key of the wrong type is an error that names the key; nothing is ever written over it.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};
use midge_store::{Backend, KeyKind, Store, StoreError, StoreSettings, StoreUrl, Write, Written};

use crate::failure::refused;

/// How many keys are read in one round trip.
pub(crate) const BATCH: usize = 1_000;

/// How long the store may take to be reached, and for each answer: a person is waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open store.
pub(crate) struct Records {
    store: Box<dyn Store>,
    settings: StoreSettings,
}

impl Records {
    /// Opens the store at `url`.
    ///
    /// # Errors
    /// `url` names no store, or the store can't be reached or is held by another process.
    pub(crate) fn open(url: &str, prefix: &str) -> Result<Self> {
        let (backend, settings) = open_backend(url, prefix)?;
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

/// Opens the way to the store at `url`, for a person who waits.
///
/// # Errors
/// As [`Records::open`].
pub(crate) fn open_backend(url: &str, prefix: &str) -> Result<(Box<dyn Backend>, StoreSettings)> {
    let url: StoreUrl = url.parse().map_err(|error| anyhow!("--store: {error}"))?;
    let settings = StoreSettings {
        keys: KeySpace::new(prefix),
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        ..StoreSettings::default()
    };
    Ok((midge_store::open(&url, &settings)?, settings))
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
