//! Answers the questions of one connection, one after the other.

use std::io;
use std::os::unix::net::UnixStream;

use midge_store::push::{EntryIdError, NodeResult, PushLog, Reader};
use midge_store::{Backend, KeyKind, Page, Store, StoreError};

use super::wire::{self, Answer, Ask, Head, PATIENCE, Question, VERSION, WireKey, WireReader, WireResult};

/// Answers until the other side ends, is silent for too long or says what nobody understands.
pub(super) fn serve(stream: &UnixStream, backend: &dyn Backend) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answers = Answers { backend, store: None, pushes: None, listing: None };
    while let Some(bytes) = wire::receive(stream)? {
        let answer = match wire::parse::<Head>(&bytes)?.version {
            VERSION => answers.answer(wire::parse(&bytes)?),
            other => {
                let reason =
                    format!("the server speaks version {VERSION} of the control protocol and was asked in version {other}");
                Answer::Refused(format!("{reason}: use the `midge` of the server's own version"))
            }
        };
        if !wire::send(stream, &answer)? {
            wire::send(stream, &Answer::TooLarge)?;
        }
    }
    Ok(())
}

/// What is kept from one question of a connection to the next.
struct Answers<'a> {
    backend: &'a dyn Backend,
    store: Option<Box<dyn Store>>,
    pushes: Option<Box<dyn PushLog>>,
    /// Where a listing goes on.
    listing: Option<(KeyKind, Page)>,
}

impl Answers<'_> {
    fn answer(&mut self, question: Question) -> Answer {
        let prefix = self.backend.key_space().prefix();
        if question.prefix != prefix {
            return Answer::Refused(format!("the server's keys begin with {prefix:?} and not with {:?}", question.prefix));
        }
        self.ask(question.ask).unwrap_or_else(|error| {
            // A connection is not used again after an error.
            (self.store, self.pushes) = (None, None);
            match error {
                StoreError::Away(reason) => Answer::Away(reason),
                other => Answer::Refused(other.to_string()),
            }
        })
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, StoreError> {
        match ask {
            Ask::Push(_) | Ask::Readers | Ask::Results(_) => self.ask_for_pushes(ask),
            ask => self.ask_store(ask),
        }
    }

    fn ask_for_pushes(&mut self, ask: Ask) -> Result<Answer, StoreError> {
        let pushes = match &mut self.pushes {
            Some(pushes) => pushes,
            none => none.insert(self.backend.pushes()?),
        };
        Ok(match ask {
            Ask::Push(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.0.clone())).collect();
                Answer::Pushed(pushes.add(&fields)?.to_string())
            }
            Ask::Results(entry) => {
                let entry = entry.parse().map_err(|error: EntryIdError| StoreError::Refused(error.to_string()))?;
                let result = |result: NodeResult| {
                    let NodeResult { node, delivered, queued } = result;
                    WireResult { node, delivered, queued }
                };
                Answer::Results(pushes.results(entry)?.into_iter().map(result).collect())
            }
            _ => {
                let reader =
                    |reader: Reader| WireReader { node: reader.node, position: reader.position.to_string(), unix: reader.unix };
                Answer::Readers(pushes.readers()?.into_iter().map(reader).collect())
            }
        })
    }

    fn ask_store(&mut self, ask: Ask) -> Result<Answer, StoreError> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(self.backend.connect()?),
        };
        Ok(match ask {
            Ask::Ping => store.ping().map(|()| Answer::Done)?,
            Ask::Read(keys) => {
                let keys: Vec<_> = keys.into_iter().map(|key| key.0).collect();
                Answer::Entries(store.read(&keys)?.into_iter().map(Into::into).collect())
            }
            Ask::Write(writes) => {
                let writes: Vec<_> = writes.into_iter().map(Into::into).collect();
                Answer::Written(store.write(&writes)?.into_iter().map(Into::into).collect())
            }
            Ask::List { kind, on } => {
                let begun = self.listing.take().filter(|(of, _)| on && *of == kind.0);
                let page = begun.map_or_else(Page::default, |(_, page)| page);
                let (keys, next) = store.list_page(kind.0, &page)?;
                let more = next.is_some();
                self.listing = next.map(|page| (kind.0, page));
                Answer::Keys { keys: keys.into_iter().map(WireKey).collect(), more }
            }
            Ask::Replace { key, field, old, new } => {
                Answer::Written(vec![store.replace_field(&key.0, &field.0, &old.0, &new.0)?.into()])
            }
            Ask::Push(_) | Ask::Readers | Ask::Results(_) => Answer::Done,
        })
    }
}
