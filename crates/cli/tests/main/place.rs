//! A store for one test, and the command over it.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use midge_broker::control::Control;
use midge_store::StoreSettings;
use midge_testkit::{RedisCluster, RedisServer, RedisVersion};
use tempfile::TempDir;

/// The command under test.
pub(crate) const MIDGE: &str = env!("CARGO_BIN_EXE_midge");

/// An empty store.
pub(crate) enum Place {
    Redis(Box<RedisServer>),
    Cluster(RedisCluster),
    Embedded(TempDir),
    /// An embedded store that a server has, which answers at its control socket.
    Served {
        directory: TempDir,
        _control: Control,
    },
}

impl Place {
    pub(crate) fn redis() -> Self {
        Self::Redis(Box::new(RedisServer::builder(RedisVersion::Redis7).start().unwrap()))
    }

    pub(crate) fn embedded() -> Self {
        Self::Embedded(TempDir::new().unwrap())
    }

    pub(crate) fn both() -> [Self; 2] {
        [Self::redis(), Self::embedded()]
    }

    pub(crate) fn cluster() -> Self {
        Self::Cluster(RedisCluster::start(RedisVersion::Redis7).unwrap())
    }

    pub(crate) fn served() -> Self {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("store");
        let url = format!("file:{}", store.display()).parse().unwrap();
        let backend = Arc::from(midge_store::open(&url, &StoreSettings::default()).unwrap());
        let _control = Control::start(&store, backend).unwrap();
        Self::Served { directory, _control }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Redis(server) => server.url(),
            Self::Cluster(cluster) => format!("redis+cluster://127.0.0.1:{}", cluster.nodes[0].port()),
            Self::Embedded(directory) | Self::Served { directory, .. } => {
                format!("file:{}", directory.path().join("store").display())
            }
        }
    }

    /// Returns the answer of the server's own command line client.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        match self {
            Self::Redis(server) => server.cli(args).unwrap(),
            Self::Cluster(_) | Self::Embedded(_) | Self::Served { .. } => panic!("only a single Redis is looked into"),
        }
    }

    /// Returns the command with this store, its own words still to come.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(MIDGE);
        command.env_clear().env("MIDGE_STORE", self.url()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str], input: &str) -> Ran {
        let mut child = self.command().args(words).stdin(Stdio::piped()).spawn().unwrap();
        // A command that ends without reading closes the pipe, which is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(&child.wait_with_output().unwrap())
    }

    /// Returns the standard output of a command that has to do well.
    pub(crate) fn ok(&self, words: &[&str], input: &str) -> String {
        let ran = self.run(words, input);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran.out
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}
