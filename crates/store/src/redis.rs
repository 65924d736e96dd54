//! Redis and Valkey as the store: alone, behind Sentinel, or as a Cluster.
//!
//! Connections are plain ones to single servers; which server has a key is found out here, so that one batch is one pipeline
//! per server, and an error about one key is about that key alone.

mod commands;
mod nodes;
mod watch;

use std::ops::ControlFlow;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerErrorKind, TlsCertificates};
use midge_core::entry::Entry;
use midge_core::key::{Key, KeySpace};

use crate::url::TlsFiles;
use crate::{Backend, KeyKind, Store, StoreError, StoreSettings, StoreUrl, Watch, Write, Written};
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
}

impl Redis {
    pub(crate) fn new(url: &StoreUrl, settings: &StoreSettings) -> Result<Self, StoreError> {
        // Somebody may have chosen a provider before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificates = url.tls.as_ref().map(read_certificates).transpose()?;
        Ok(Self { shared: Arc::new(Shared { url: url.clone(), settings: settings.clone(), certificates }) })
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

    fn key_space(&self) -> &KeySpace {
        &self.shared.settings.keys
    }
}

struct Connected {
    nodes: Nodes,
}

impl Connected {
    /// Sends one command per item to whoever has its key, all of one server in one pipeline, and reads all answers.
    fn ask<T, A>(
        &mut self,
        items: &[T],
        key: impl Fn(&T) -> &Key,
        command: impl Fn(&mut ::redis::Pipeline, &T, &str),
        answer: impl Fn(&T, Result<&[::redis::Value], &RedisError>) -> Result<A, StoreError>,
        commands_per_item: usize,
    ) -> Result<Vec<A>, StoreError> {
        let keys: Vec<String> = items.iter().map(|item| self.nodes.keys().render(key(item))).collect();
        let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
        let mut missing: Vec<usize> = (0..items.len()).collect();
        for _ in 0..MOVES {
            let mut moved = Vec::new();
            for (node, of_node) in self.nodes.group(&keys, &missing)? {
                let mut pipeline = ::redis::pipe();
                pipeline.ignore_errors();
                for at in &of_node {
                    command(&mut pipeline, &items[*at], &keys[*at]);
                }
                let values = self.nodes.query(node, &pipeline)?;
                for (at, values) in of_node.into_iter().zip(values.chunks(commands_per_item)) {
                    match values.iter().find_map(|value| value.as_ref().err()) {
                        Some(error) if is_move(error) => moved.push(at),
                        Some(error) if is_away(error) => return Err(classify(error)),
                        Some(error) => answers[at] = Some(answer(&items[at], Err(error))?),
                        None => {
                            let values: Vec<::redis::Value> =
                                values.iter().filter_map(|value| value.as_ref().ok().cloned()).collect();
                            answers[at] = Some(answer(&items[at], Ok(&values))?);
                        }
                    }
                }
            }
            if moved.is_empty() {
                return answers
                    .into_iter()
                    .map(|answer| answer.ok_or_else(|| StoreError::Away("an answer is missing".to_owned())))
                    .collect();
            }
            self.nodes.look_again()?;
            missing = moved;
        }
        Err(StoreError::Away("the cluster is moving its keys".to_owned()))
    }
}

impl Store for Connected {
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        let most = self.nodes.max_fields();
        self.ask(keys, |key| key, commands::read, |key, values| Ok(commands::entry(key, values, most)), 2)
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        self.ask(writes, Write::key, commands::write, |_, values| Ok(commands::written(values)), 2)
    }

    fn list(&mut self, kind: KeyKind, visit: &mut dyn FnMut(Key) -> ControlFlow<()>) -> Result<(), StoreError> {
        let pattern = commands::pattern(self.nodes.keys(), kind);
        for node in 0..self.nodes.len() {
            let mut cursor = 0_u64;
            loop {
                let mut scan = ::redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
                let (next, keys): (u64, Vec<Vec<u8>>) = self.nodes.query_one(node, &scan)?;
                for key in keys.iter().filter_map(|key| self.nodes.keys().parse(key)) {
                    if KeyKind::of(&key) == Some(kind) && visit(key).is_break() {
                        return Ok(());
                    }
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        for node in 0..self.nodes.len() {
            self.nodes.query_one::<::redis::Value>(node, &::redis::cmd("PING"))?;
        }
        Ok(())
    }
}

fn is_move(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain))
}

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
    )
}

/// Tells an error that passes from one that an operator has to do something about.
fn classify(error: &RedisError) -> StoreError {
    let text = match (error.is_timeout(), error.code(), error.detail()) {
        (true, _, _) => "no answer in time".to_owned(),
        (false, Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    let refused = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::Server(ServerErrorKind::NoPerm)
    ) || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
    if refused { StoreError::Refused(text) } else { StoreError::Away(text) }
}
