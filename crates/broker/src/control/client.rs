//! The other end: a store that a running server has.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use midge_core::entry::Entry;
use midge_core::key::Key;
use midge_store::push::{EntryId, NodeResult, PushWriter, Reader};
use midge_store::{KeyKind, Page, Store, StoreError, Write, Written};

use super::Reach;
use super::wire::{self, Answer, Ask, Bytes, Kind, PATIENCE, Question, VERSION, WireKey, WireReader, WireResult, WireWrite};

/// An embedded store, as the server that has it shows it.
///
/// Each operation has a connection of its own, so that a person may think between two of them for as long as they like.
#[derive(Debug)]
pub struct Client {
    directory: PathBuf,
    prefix: String,
}

impl Client {
    /// Returns the store in `directory` if a server has it; its keys have to begin with `prefix`.
    ///
    /// # Errors
    /// A server has it and doesn't answer us.
    pub fn find(directory: &Path, prefix: &str) -> Result<Option<Self>, StoreError> {
        let mut client = Self { directory: directory.to_owned(), prefix: prefix.to_owned() };
        // Ended before the next one begins: a place may be all that there is left.
        match client.connect().map(drop) {
            Ok(()) => client.ping().map(|()| Some(client)),
            // No socket, or one that a killed server left behind.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(client.failed(&error)),
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = Reach::new(&self.directory)?.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        let place = self.directory.display();
        match error.kind() {
            ErrorKind::PermissionDenied => {
                StoreError::Refused(format!("{place}: its server answers root and the user that it runs as only; try it with sudo"))
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => StoreError::Away(format!("{place}: its server doesn't answer")),
            _ => StoreError::Away(format!("{place}: its server can't be spoken to: {error}")),
        }
    }

    fn ask(&self, stream: &UnixStream, ask: Ask) -> Result<Answer, StoreError> {
        let question = Question { version: VERSION, prefix: self.prefix.clone(), ask };
        let said = || match wire::send(stream, &question)? {
            true => match wire::receive(stream)? {
                Some(bytes) => wire::parse(&bytes),
                None => Err(io::Error::other("it ended the conversation")),
            },
            false => Ok(Answer::TooLarge),
        };
        match said().map_err(|error| self.failed(&error))? {
            Answer::Away(reason) => Err(StoreError::Away(reason)),
            Answer::Refused(reason) => Err(StoreError::Refused(format!("{}: {reason}", self.directory.display()))),
            answer => Ok(answer),
        }
    }

    fn ask_once(&self, ask: Ask) -> Result<Answer, StoreError> {
        self.ask(&self.connect().map_err(|error| self.failed(&error))?, ask)
    }

    fn unexpected(&self) -> StoreError {
        StoreError::Refused(format!("{}: its server gave an answer to something else", self.directory.display()))
    }

    fn too_large(&self) -> StoreError {
        StoreError::Refused(format!("{}: one key holds more than a message to its server may", self.directory.display()))
    }
}

impl PushWriter for Client {
    fn add(&mut self, fields: &[(&str, Vec<u8>)]) -> Result<EntryId, StoreError> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Bytes(value.clone()))).collect();
        match self.ask_once(Ask::Push(fields))? {
            Answer::Pushed(entry) => entry.parse().map_err(|_| self.unexpected()),
            _ => Err(self.unexpected()),
        }
    }

    fn readers(&mut self) -> Result<Vec<Reader>, StoreError> {
        let Answer::Readers(readers) = self.ask_once(Ask::Readers)? else { return Err(self.unexpected()) };
        let read = |reader: WireReader| {
            let position = reader.position.parse().map_err(|_| self.unexpected())?;
            Ok(Reader { node: reader.node, position, unix: reader.unix })
        };
        readers.into_iter().map(read).collect()
    }

    fn results(&mut self, entry: EntryId) -> Result<Vec<NodeResult>, StoreError> {
        let Answer::Results(results) = self.ask_once(Ask::Results(entry.to_string()))? else { return Err(self.unexpected()) };
        let read = |result: WireResult| {
            let WireResult { node, delivered, queued } = result;
            NodeResult { node, delivered, queued }
        };
        Ok(results.into_iter().map(read).collect())
    }
}

impl Store for Client {
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        match self.ask_once(Ask::Read(keys.iter().cloned().map(WireKey).collect()))? {
            Answer::Entries(entries) if entries.len() == keys.len() => Ok(entries.into_iter().map(Into::into).collect()),
            Answer::TooLarge if keys.len() > 1 => {
                let (first, rest) = keys.split_at(keys.len() / 2);
                let mut entries = self.read(first)?;
                entries.extend(self.read(rest)?);
                Ok(entries)
            }
            Answer::TooLarge => Err(self.too_large()),
            _ => Err(self.unexpected()),
        }
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        match self.ask_once(Ask::Write(writes.iter().map(WireWrite::from).collect()))? {
            Answer::Written(written) if written.len() == writes.len() => Ok(written.into_iter().map(Into::into).collect()),
            Answer::TooLarge if writes.len() > 1 => {
                let (first, rest) = writes.split_at(writes.len() / 2);
                let mut written = self.write(first)?;
                written.extend(self.write(rest)?);
                Ok(written)
            }
            Answer::TooLarge => Err(self.too_large()),
            _ => Err(self.unexpected()),
        }
    }

    /// Returns all keys at once: where a listing stands is known to the server only, while a connection lasts.
    fn list_page(&mut self, kind: KeyKind, _: &Page) -> Result<(Vec<Key>, Option<Page>), StoreError> {
        let mut keys = Vec::new();
        self.list(kind, &mut |key| {
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        Ok((keys, None))
    }

    fn list(&mut self, kind: KeyKind, visit: &mut dyn FnMut(Key) -> ControlFlow<()>) -> Result<(), StoreError> {
        let stream = self.connect().map_err(|error| self.failed(&error))?;
        let mut on = false;
        loop {
            match self.ask(&stream, Ask::List { kind: Kind(kind), on })? {
                Answer::Keys { keys, more } => {
                    if keys.into_iter().any(|key| visit(key.0).is_break()) || !more {
                        return Ok(());
                    }
                    on = true;
                }
                Answer::TooLarge => return Err(self.too_large()),
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn replace_field(&mut self, key: &Key, field: &[u8], old: &[u8], new: &[u8]) -> Result<Written, StoreError> {
        let bytes = |bytes: &[u8]| Bytes(bytes.to_vec());
        let ask = Ask::Replace { key: WireKey(key.clone()), field: bytes(field), old: bytes(old), new: bytes(new) };
        match self.ask_once(ask)? {
            Answer::Written(mut written) if written.len() == 1 => Ok(written.remove(0).into()),
            Answer::TooLarge => Err(self.too_large()),
            _ => Err(self.unexpected()),
        }
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        match self.ask_once(Ask::Ping)? {
            Answer::Done => Ok(()),
            _ => Err(self.unexpected()),
        }
    }
}
