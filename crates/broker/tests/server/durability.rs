//! What was acknowledged is there after a crash.
//!
//! A crash is a copy of the journal's files as they are at that moment, from which another server begins.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use midge_broker::journal::{Journal, Settings};
use midge_broker::server::Settings as ServerSettings;
use midge_testkit::{Connect, Event, Packet, Protocol, RawClient};
use tempfile::TempDir;

use crate::support::{PATIENCE, Running};

fn copy(from: &Path) -> Result<TempDir> {
    let to = tempfile::tempdir()?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.path().join(entry.file_name()))?;
    }
    Ok(to)
}

/// Connects a client that keeps its session; returns whether there was one.
fn come(server: &Running, id: &str) -> Result<(RawClient, bool)> {
    let connect = Connect::new(Protocol::V5, id).persistent();
    let mut client = RawClient::open(server.port(), Protocol::V5)?;
    client.send(&connect.encode())?;
    match client.receive(PATIENCE)? {
        Event::Packet(Packet::ConnAck { session_present, code: 0, .. }) => Ok((client, session_present)),
        other => anyhow::bail!("{other:?}"),
    }
}

fn loops(loops: u8) -> ServerSettings {
    ServerSettings { loops, ..ServerSettings::default() }
}

fn size(directory: &Path) -> Result<u64> {
    let sizes = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum()
}

#[test]
fn sessions_and_messages_survive_a_crash_and_a_stop() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (journal, recovered) = Journal::open(dir.path(), &Settings::default())?;
    let server = Running::with_journal(loops(2), &journal, &recovered.state)?;
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        let (mut client, present) = come(&server, id)?;
        assert!(!present);
        client.subscribe(&[("news/#", 2)])?;
        client.disconnect()?;
    }
    let (mut publisher, _) = come(&server, "publisher")?;
    for (topic, qos, retain) in [("news/1", 1, false), ("news/2", 2, true), ("state", 1, true), ("news/3", 1, false)] {
        publisher.publish(topic, topic.as_bytes(), qos, retain)?;
    }
    let crashed = copy(dir.path())?;
    server.stop();
    journal.close()?;
    // Another number of loops: sessions find their homes by themselves.
    for (place, number) in [(crashed.path(), 3), (dir.path(), 1)] {
        let (journal, recovered) = Journal::open(place, &Settings::default())?;
        let server = Running::with_journal(loops(number), &journal, &recovered.state)?;
        for id in ids {
            let (mut client, present) = come(&server, id)?;
            assert!(present, "{id}");
            let mut got = Vec::new();
            for _ in 0..3 {
                got.push(client.message(PATIENCE)?.expect("a message that was acknowledged").text().0);
            }
            // The client has a message of QoS 2 only when it is released.
            got.sort();
            assert_eq!(got, ["news/1", "news/2", "news/3"]);
            client.subscribe(&[("state", 0)])?;
            assert_eq!(client.message(PATIENCE)?.expect("the retained message").text().1, "state");
        }
        server.stop();
        journal.close()?;
    }
    Ok(())
}

#[test]
fn what_is_retained_where_something_was_cleared_before_a_start_survives_the_next() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let live = |publish: &[&str]| -> Result<Option<String>> {
        let (journal, recovered) = Journal::open(dir.path(), &Settings::default())?;
        let server = Running::with_journal(loops(2), &journal, &recovered.state)?;
        let mut client = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "c"))?;
        for payload in publish {
            client.publish("t", payload.as_bytes(), 1, true)?;
        }
        client.subscribe(&[("t", 0), ("end", 0)])?;
        client.publish("end", b"", 0, false)?;
        let first = client.message(PATIENCE)?.expect("a message").text();
        server.stop();
        journal.close()?;
        Ok((first.0 == "t").then_some(first.1))
    };
    assert_eq!(live(&["first", ""])?, None);
    assert_eq!(live(&["second"])?.as_deref(), Some("second"));
    assert_eq!(live(&[])?.as_deref(), Some("second"));
    Ok(())
}

#[test]
fn what_the_server_says_of_itself_is_never_written_down() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (journal, recovered) = Journal::open(dir.path(), &Settings::default())?;
    let settings = ServerSettings { sys_interval: Some(Duration::from_millis(20)), ..loops(2) };
    let server = Running::with_journal(settings, &journal, &recovered.state)?;
    let mut client = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "watcher"))?;
    client.publish("kept", b"by a client", 1, true)?;
    client.subscribe(&[("$SYS/broker/#", 0)])?;
    let before = size(dir.path())?;
    // Its own messages change the numbers that it gets.
    for _ in 0..100 {
        assert!(client.message(PATIENCE)?.is_some());
    }
    // Whatever would have come before is on disk with this.
    client.publish("kept", b"by a client", 1, true)?;
    let written = size(dir.path())? - before;
    assert!(written < 200, "{written} bytes for one message");
    server.stop();
    journal.close()?;
    let (journal, recovered) = Journal::open(dir.path(), &Settings::default())?;
    let topics: Vec<&str> = recovered.state.retained.keys().map(|topic| &**topic).collect();
    assert_eq!(topics, ["kept"]);
    journal.close()?;
    Ok(())
}
