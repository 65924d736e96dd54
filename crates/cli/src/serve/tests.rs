//! A server's life, with event loops that only take notes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use midge_broker::config::{Address, Sources};
use midge_core::key::Key;
use midge_store::{Write, Written};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

use super::*;
use crate::records::Records;

/// Event loops that take notes of what they are told.
struct Notes {
    said: Rc<RefCell<Vec<String>>>,
    addresses: Vec<Address>,
}

impl Body for Notes {
    fn addresses(&self) -> Vec<Address> {
        self.addresses.clone()
    }

    fn reload(&mut self, config: &Config) -> Result<()> {
        self.said.borrow_mut().push(format!("reload {} {}", config.log.level, config.threads));
        kill_process(getpid(), Signal::TERM).map_err(Into::into)
    }

    fn stop(self) -> Result<()> {
        self.said.borrow_mut().push("stop".to_owned());
        Ok(())
    }
}

fn configured(file: &std::path::Path) -> Result<(Config, Vec<String>)> {
    let mut sources = Sources::new();
    sources.file(file);
    Ok((sources.finish()?, vec!["a warning".to_owned()]))
}

/// One test, as signals are the whole process's.
#[test]
fn a_server_starts_shares_its_store_reloads_and_ends() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("midge.toml");
    std::fs::write(&file, "data = \"data\"\nthreads = 1").unwrap();
    let said = Rc::new(RefCell::new(Vec::new()));
    let url = format!("file:{}", folder.path().join("data").display());
    let start = |config: &Config, parts: Parts| {
        assert!(parts.inherited.into_sockets().is_empty());
        // The store is held by the server, and the command uses it all the same.
        let alice = Key::User("alice".parse().unwrap());
        let mut records = Records::open(&url, "midge:")?;
        records.write(&[Write::SetFields(alice.clone(), vec![(b"enabled".to_vec(), b"1".to_vec())])])?;
        assert_eq!(parts.backend.connect()?.write(&[Write::Remove(alice)])?, [Written::Count(1)]);
        std::fs::write(&file, "data = \"data\"\nthreads = 2\nlog_level = \"error\"")?;
        kill_process(getpid(), Signal::HUP)?;
        let addresses = config.listeners.iter().map(|listener| listener.address.clone()).collect();
        Ok(Notes { said: Rc::clone(&said), addresses })
    };
    let answer = serve(&|| configured(&file), &mut Output::new(true), start).unwrap();
    assert_eq!(answer, Answer::Yes);
    assert_eq!(*said.borrow(), ["reload ERROR 1", "stop"]);
    let held = midge_testkit::until("the store is free", Duration::from_secs(10), || {
        Ok(midge_store::open(&url.parse()?, &midge_store::StoreSettings::default()).ok())
    });
    assert!(held.is_ok() && !folder.path().join("data/control.sock").exists());
}
