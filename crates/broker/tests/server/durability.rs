//! What was acknowledged is there after a crash.
//!
//! A crash is a copy of the journal's files as they are at that moment, from which another server begins.

use std::path::Path;

use anyhow::Result;
use midge_broker::journal::{Journal, Settings};
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

#[test]
fn sessions_and_messages_survive_a_crash_and_a_stop() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (journal, recovered) = Journal::open(dir.path(), &Settings::default())?;
    let server = Running::with_journal(2, &journal, &recovered.state)?;
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
    for (place, loops) in [(crashed.path(), 3), (dir.path(), 1)] {
        let (journal, recovered) = Journal::open(place, &Settings::default())?;
        let server = Running::with_journal(loops, &journal, &recovered.state)?;
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
