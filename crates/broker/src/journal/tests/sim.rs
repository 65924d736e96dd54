//! A disk in memory that forgets what was not synced.
//!
//! It can fail at any operation, and it can end: by the death of the process, after which the operating system still has all that was written, or by loss of power, after which only what was synced is sure to be there.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::journal::disk::{Disk, Sink};

#[derive(Clone, Debug, Default)]
pub(super) struct Sim {
    world: Arc<Mutex<World>>,
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug, Default)]
struct World {
    files: Vec<Content>,
    names: Names,
    /// What the directory was at the last sync.
    synced_names: Names,
    /// What was changed since: these names went, and this one came. Any of it may get to the disk before the rest.
    changes: Vec<Change>,
    operations: usize,
    crash_at: Option<usize>,
    /// Operations that fail, without the end of the world: those with this rest.
    fails: Option<(usize, usize)>,
    crashed: bool,
}

#[derive(Clone, Debug, Default)]
struct Change {
    gone: Option<String>,
    came: Option<(String, usize)>,
}

impl Change {
    fn apply(&self, names: &mut Names) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, file)) = &self.came {
            names.insert(name.clone(), *file);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many bytes are surely on the disk.
    synced: usize,
    /// Whether a sync has failed: what it should have written will never be on the disk, whatever later ones say.
    lost: bool,
}

/// What is left of a disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// All that was written.
    Kill,
    /// All that was synced, and any part of the rest.
    Power(u64),
}

impl Sim {
    /// Has those operations fail whose number has this rest, or none any more.
    pub(super) fn fail(&self, fails: Option<(usize, usize)>) {
        self.world().fails = fails;
    }

    /// Has the world end at an operation, from 0.
    pub(super) fn crash_at(&self, operation: usize) {
        self.world().crash_at = Some(operation);
    }

    pub(super) fn operations(&self) -> usize {
        self.world().operations
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.world().crashed
    }

    /// Ends the world now.
    pub(super) fn crash(&self) {
        self.world().crashed = true;
    }

    /// Returns the disk as it is found afterwards.
    pub(super) fn after(&self, crash: Crash) -> Self {
        let mut world = self.world().clone();
        (world.operations, world.crash_at, world.crashed, world.fails) = (0, None, false, None);
        if let Crash::Power(seed) = crash {
            world.lose(&mut Random(seed.wrapping_add(1)));
        }
        Self { world: Arc::new(Mutex::new(world)) }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].bytes.clone()
    }

    pub(super) fn total(&self) -> usize {
        let world = self.world();
        world.names.values().map(|&file| world.files[file].bytes.len()).sum()
    }

    /// Changes what is on the disk.
    pub(super) fn set(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world();
        let file = world.names[name];
        world.files[file] = Content { synced: bytes.len(), bytes, lost: false };
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl World {
    /// Counts an operation, which may be the one that fails, or the last.
    fn operate(&mut self) -> io::Result<()> {
        let operation = self.operations;
        self.operations += 1;
        self.crashed |= self.crash_at == Some(operation);
        if self.crashed {
            return Err(io::Error::other("the world has ended"));
        }
        let fails = self.fails.is_some_and(|(divisor, rest)| operation % divisor == rest % divisor);
        if fails { Err(io::Error::other("the disk says no")) } else { Ok(()) }
    }

    fn change_names(&mut self, gone: Option<&str>, came: Option<(&str, usize)>) {
        let change = Change { gone: gone.map(str::to_owned), came: came.map(|(name, file)| (name.to_owned(), file)) };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn lose(&mut self, random: &mut Random) {
        self.names = self.synced_names.clone();
        for change in std::mem::take(&mut self.changes) {
            if random.below(2) == 0 {
                change.apply(&mut self.names);
            }
        }
        self.synced_names = self.names.clone();
        for file in &mut self.files {
            let unsynced = file.bytes.len() - file.synced;
            file.bytes.truncate(file.synced + random.below(unsynced + 1));
            for sector in file.bytes[file.synced..].chunks_mut(64) {
                if random.below(3) == 0 {
                    sector.fill(0);
                }
            }
            (file.synced, file.lost) = (file.bytes.len(), false);
        }
    }
}

impl Disk for Sim {
    fn path(&self) -> &Path {
        Path::new("/sim")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let mut world = self.world();
        world.operate()?;
        world.files.push(Content::default());
        let file = world.files.len() - 1;
        world.change_names(None, Some((name, file)));
        Ok(Box::new(SimSink { sim: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        let bytes = {
            let world = self.world();
            let file = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            world.files[file].bytes.clone()
        };
        let length = bytes.len() as u64;
        Ok((Box::new(Cursor::new(bytes)), length))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let result = world.operate();
        // One that fails may have happened.
        let happens = result.is_ok() || (!world.crashed && world.operations.is_multiple_of(2));
        let file = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if happens {
            world.change_names(Some(from), Some((to, file)));
        }
        result
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        if !world.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change_names(Some(name), None);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        world.changes.clear();
        world.synced_names = world.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct SimSink {
    sim: Sim,
    file: usize,
}

impl Sink for SimSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.sim.world();
        let was_over = world.crashed;
        let result = world.operate();
        let part = match result {
            Ok(()) => bytes.len(),
            Err(_) if was_over => 0,
            // Any part of it may have been written, and all of it as well.
            Err(_) => bytes.len() * (world.operations % 5) / 4,
        };
        world.files[self.file].bytes.extend_from_slice(&bytes[..part]);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.sim.world();
        let result = world.operate();
        let file = &mut world.files[self.file];
        match result {
            Ok(()) if !file.lost => file.synced = file.bytes.len(),
            Ok(()) => {}
            Err(_) => file.lost = true,
        }
        result
    }
}

/// Marsaglia's xorshift, of 64 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}
