//! Redis and Valkey: alone, behind Sentinel, as a Cluster.
//!
//! Connections are plain ones to single servers; which server has a key is found out here, so that one batch is one pipeline
//! per server, and an error about one key is about that key alone.

mod commands;
mod hot;
mod lives;
mod nodes;
mod presence;
mod push;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ::redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value};
use midge_core::entry::Entry;
use midge_core::key::{Key, KeySpace};

use crate::hot::HotLog;
use crate::presence::PresenceLog;
use crate::push::PushLog;
use crate::url::TlsFiles;
use crate::{Backend, KeyKind, Page, Part, Store, StoreError, StoreSettings, StoreUrl, Watch, Write, Written};
use lives::Lives;
use nodes::Nodes;

/// How often a batch is tried again after a cluster has moved some of its keys.
const MOVES: usize = 3;

/// How to reach the servers of one store.
pub(crate) struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    url: StoreUrl,
    settings: StoreSettings,
    certificates: Option<TlsCertificates>,
    /// Which of the servers that the URL names answered last, so that one that is gone is waited for once only.
    seed: AtomicUsize,
    lives: Lives,
}

impl Redis {
    pub(crate) fn new(url: &StoreUrl, settings: &StoreSettings) -> Result<Self, StoreError> {
        // Somebody may have chosen a provider before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificates = url.tls.as_ref().map(read_certificates).transpose()?;
        Ok(Self {
            shared: Arc::new(Shared {
                url: url.clone(),
                settings: settings.clone(),
                certificates,
                seed: AtomicUsize::new(0),
                lives: Lives::default(),
            }),
        })
    }
}

fn read_certificates(files: &TlsFiles) -> Result<TlsCertificates, StoreError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| StoreError::Refused(format!("{} can't be read: {error}", path.display())))
    };
    let root_cert = files.ca.as_ref().map(read).transpose()?;
    let client_tls = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            Some(::redis::ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        (None, None) => None,
        _ => return Err(StoreError::Refused("a client certificate needs both parameters, cert and key".to_owned())),
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

impl Backend for Redis {
    fn connect(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Connected { nodes: Nodes::open(self.shared.clone())? }))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        watch::open(self.shared.clone())
    }

    fn pushes(&self) -> Result<Box<dyn PushLog>, StoreError> {
        Ok(Box::new(push::Log::open(self.shared.clone())?))
    }

    fn presence(&self) -> Result<Box<dyn PresenceLog>, StoreError> {
        Ok(Box::new(presence::Log::open(self.shared.clone())?))
    }

    fn hot(&self) -> Result<Box<dyn HotLog>, StoreError> {
        Ok(Box::new(hot::Log::open(self.shared.clone())?))
    }

    fn key_space(&self) -> &KeySpace {
        &self.shared.settings.keys
    }
}

struct Connected {
    nodes: Nodes,
}

/// What the two answers to one item were.
type Answers = Result<[Value; 2], RedisError>;

/// Whether a field was replaced, or which command was refused.
type Replaced = Result<bool, (&'static str, RedisError)>;

impl Connected {
    /// Sends two commands per item to whoever has its key, all of one server in one pipeline, and reads all answers.
    fn ask<T, A>(
        &mut self,
        items: &[T],
        key: impl Fn(&T) -> &Key,
        command: impl Fn(&mut Pipeline, &T, &str),
        answer: impl Fn(&T, Answers) -> Result<A, StoreError>,
    ) -> Result<Vec<A>, StoreError> {
        let keys: Vec<String> = items.iter().map(|item| self.nodes.keys().render(key(item))).collect();
        let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
        let mut missing: Vec<usize> = (0..items.len()).collect();
        for _ in 0..MOVES {
            let mut moved = Vec::new();
            for (node, of_node) in self.nodes.group(&keys, &missing)? {
                let mut pipeline = ::redis::pipe();
                for at in &of_node {
                    command(&mut pipeline, &items[*at], &keys[*at]);
                }
                let mut values = self.nodes.query(node, &pipeline)?.into_iter();
                for at in of_node {
                    match pair(&mut values)? {
                        Err(error) if is_ask(&error) => {
                            let mut pipeline = ::redis::pipe();
                            command(&mut pipeline, &items[at], &keys[at]);
                            match self.nodes.query_importing(&error, &pipeline)? {
                                Some(values) => answers[at] = Some(answer(&items[at], pair(&mut values.into_iter())?)?),
                                None => moved.push(at),
                            }
                        }
                        Err(error) if is_move(&error) => moved.push(at),
                        Err(error) if is_away(&error) => return Err(classify(&error)),
                        values => answers[at] = Some(answer(&items[at], values)?),
                    }
                }
            }
            if moved.is_empty() {
                return answers.into_iter().map(|answer| answer.ok_or_else(incomplete)).collect();
            }
            self.nodes.look_again()?;
            missing = moved;
        }
        Err(moving())
    }

    /// Replaces a field in a transaction; returns whether it did, or the command that was refused and why.
    fn replace_once(&mut self, name: &str, field: &[u8], old: &[u8], new: &[u8]) -> Result<Replaced, StoreError> {
        let node = self.nodes.of(name)?;
        let mut look = ::redis::pipe();
        look.cmd("WATCH").arg(name).cmd("HGET").arg(name).arg(field).cmd("MULTI");
        let mut looked = self.nodes.query(node, &look)?.into_iter().zip(["WATCH", "HGET", "MULTI"]);
        let mut next = || looked.next().map(|(answer, command)| answer.map_err(|error| (command, error))).ok_or_else(incomplete);
        let (watched, found, begun) = (next()?, next()?, next()?);
        let in_transaction = begun.is_ok();
        let may = match (watched, found, begun) {
            (Err(refused), _, _) | (_, Err(refused), _) | (_, _, Err(refused)) => Err(refused),
            (_, Ok(found), _) => Ok(found == Value::BulkString(old.to_vec())),
        };
        if !in_transaction {
            return Ok(may);
        }
        // An empty transaction takes the watch back, and needs no right of its own. One that is refused is over as well.
        let mut change = ::redis::pipe();
        if matches!(may, Ok(true)) {
            change.cmd("HSET").arg(name).arg(field).arg(new);
        }
        let mut changed = self.nodes.query(node, change.cmd("EXEC"))?;
        let executed = changed.pop().ok_or_else(incomplete)?;
        let queued = changed.pop();
        if !matches!(may, Ok(true)) {
            return Ok(may);
        }
        Ok(match (queued, executed) {
            (Some(Err(error)), _) => Err(("HSET", error)),
            (_, Err(error)) => Err(("EXEC", error)),
            (_, Ok(Value::Nil)) => Ok(false),
            (_, Ok(Value::Array(results))) => match results.into_iter().next() {
                Some(Value::ServerError(error)) => Err(("HSET", error.into())),
                result => Ok(result.is_some()),
            },
            (_, Ok(_)) => return Err(StoreError::Away("the answer is of an unknown form".to_owned())),
        })
    }
}

fn moving() -> StoreError {
    StoreError::Away("the cluster is moving its keys".to_owned())
}

fn incomplete() -> StoreError {
    StoreError::Away("an answer is missing".to_owned())
}

/// Takes the answers to one item, of which the first error counts.
fn pair(values: &mut impl Iterator<Item = RedisResult<Value>>) -> Result<Answers, StoreError> {
    let (first, second) = values.next().zip(values.next()).ok_or_else(incomplete)?;
    Ok(first.and_then(|first| Ok([first, second?])))
}

impl Store for Connected {
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        let most = self.nodes.max_fields();
        self.ask(keys, |key| key, commands::read, |key, values| commands::entry(key, values, most))
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        self.ask(writes, Write::key, commands::write, |_, values| Ok(commands::written(values)))
    }

    fn list_page(&mut self, kind: KeyKind, page: &Page) -> Result<(Vec<Key>, Option<Page>), StoreError> {
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(page.cursor).arg("MATCH").arg(commands::pattern(self.nodes.keys(), kind)).arg("COUNT").arg(1_000);
        let (cursor, names): (u64, Vec<Vec<u8>>) = self.nodes.query_one(page.node, &scan)?;
        let keys = names.iter().filter_map(|name| self.nodes.keys().parse(name)).filter(|key| KeyKind::of(key) == Some(kind));
        let next = match cursor {
            0 => Some(page.node + 1).filter(|node| *node < self.nodes.len()).map(|node| Page { node, ..Page::default() }),
            cursor => Some(Page { node: page.node, cursor, after: None }),
        };
        Ok((keys.collect(), next))
    }

    fn part_of(&self, key: &Key) -> Part {
        self.nodes.part_of(&self.nodes.keys().render(key))
    }

    fn first_page(&self, part: &Part) -> Option<Page> {
        Some(Page { node: self.nodes.find(part)?, ..Page::default() })
    }

    fn beginnings(&self) -> u64 {
        self.nodes.beginnings()
    }

    fn replace_field(&mut self, key: &Key, field: &[u8], old: &[u8], new: &[u8]) -> Result<Written, StoreError> {
        let name = self.nodes.keys().render(key);
        for _ in 0..MOVES {
            match self.replace_once(&name, field, old, new)? {
                Ok(replaced) => return Ok(Written::Count(u64::from(replaced))),
                Err((_, error)) if is_move(&error) || is_ask(&error) => self.nodes.look_again()?,
                Err((_, error)) if is_away(&error) => return Err(classify(&error)),
                Err((command, error)) => return Ok(Written::Failed(format!("{command} is refused: {}", commands::said(&error)))),
            }
        }
        Err(moving())
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        self.nodes.ping(std::time::Duration::MAX)
    }
}

fn is_move(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::TryAgain))
}

/// Returns whether the key is on its way to another server, which has to be asked for it this once.
fn is_ask(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Ask))
}

/// Returns whether the server answers everybody so, whatever is asked of it.
fn is_away(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            )
    ) || error.code() == Some("BUSY")
}

/// Tells an error that passes from one that an operator has to do something about.
fn classify(error: &RedisError) -> StoreError {
    let text = match (error.is_timeout(), error.code(), error.detail()) {
        (true, _, _) => "no answer in time".to_owned(),
        (false, Some(_), Some(_)) => commands::said(error),
        _ => commands::without_arguments(&error.to_string()).to_owned(),
    };
    let refused = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::Server(ServerErrorKind::NoPerm)
    ) || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
        || is_no_trust(error);
    if refused { StoreError::Refused(text) } else { StoreError::Away(text) }
}

/// Returns whether TLS came to nothing: a certificate that is not to be trusted, or a server that speaks no TLS.
fn is_no_trust(error: &RedisError) -> bool {
    // The client library hands out its cause in the box it keeps it in.
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    cause.is_some_and(|cause| {
        let invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
        cause.is::<rustls::Error>() || cause.downcast_ref::<std::io::Error>().is_some_and(invalid)
    })
}
