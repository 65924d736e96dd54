//! All clients together take no more memory than they may.

use std::time::Duration;

use anyhow::Result;
use midge_broker::server::Settings;
use midge_testkit::{Connect, Protocol, RawClient, until};

use crate::support::{PATIENCE, Running};

const MIB: usize = 1 << 20;

fn bounded(memory_max: usize) -> Result<Running> {
    let mut settings = Settings { loops: 2, ..Settings::default() };
    settings.engine.memory_max = memory_max;
    Running::start(settings)
}

fn connect(server: &Running, id: &str) -> Result<RawClient> {
    RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))
}

#[test]
fn packets_that_never_end_give_way_to_those_that_do() -> Result<()> {
    let server = bounded(16 * MIB)?;
    let before = server.handle().report().memory;
    let mut quiet = connect(&server, "quiet")?;
    quiet.subscribe(&[("t", 0)])?;
    let mut greedy: Vec<RawClient> = (0..12).map(|id| connect(&server, &format!("greedy{id}"))).collect::<Result<_>>()?;
    // Each announces 256 MB and sends one.
    let piece = vec![b'x'; MIB];
    for client in &mut greedy {
        client.send(b"\x30\xff\xff\xff\x7f\x00\x01t\x00")?;
        // The server may have closed it before all is written.
        let _ = client.send(&piece);
        quiet.ping(PATIENCE)?;
        assert!(server.handle().report().memory <= 16 * MIB);
    }
    server.reported("those that gave way", |report| report.traffic.closed_memory >= 4)?;
    // A packet in two parts, beside them.
    quiet.send(b"\x30\x06\x00\x01t")?;
    connect(&server, "other")?.ping(PATIENCE)?;
    quiet.send(b"\x00xy")?;
    assert_eq!(quiet.message(PATIENCE)?.expect("its own message").text().1, "xy");
    let told = greedy.iter_mut().filter_map(|client| client.closed(Duration::from_millis(300)).ok().flatten()).collect::<Vec<_>>();
    assert!(told.iter().all(|reason| *reason == 0x97), "{told:x?}");
    drop(greedy);
    drop(quiet);
    server.reported("all given back", |report| report.memory <= before + MIB)
}

#[test]
fn what_is_retained_stops_growing_and_can_still_change() -> Result<()> {
    let server = bounded(4 * MIB)?;
    let mut client = connect(&server, "c")?;
    let mut watcher = connect(&server, "w")?;
    watcher.subscribe(&[("#", 0)])?;
    let payload = vec![b'x'; 60_000];
    for number in 0..100 {
        assert_eq!(client.publish(&format!("t/{number}"), &payload, 1, true)?, 0);
        // What isn't kept is delivered.
        assert_eq!(watcher.message(PATIENCE)?.expect("every message").topic, format!("t/{number}").as_bytes());
        assert!(server.handle().report().memory <= 4 * MIB);
    }
    // Fifty-two of them fill six eighths.
    server.reported("what was dropped", |report| (45..55).contains(&report.engine.dropped_memory))?;
    // A value may change, and be cleared, which makes room.
    let changed = vec![b'y'; 60_000];
    client.publish("t/0", &changed, 1, true)?;
    client.publish("t/1", b"", 1, true)?;
    let mut late = connect(&server, "late")?;
    late.subscribe(&[("t/0", 0), ("t/1", 0)])?;
    assert_eq!(late.message(PATIENCE)?.expect("what is retained").payload, changed);
    assert!(late.message(Duration::from_millis(100))?.is_none());
    Ok(())
}

#[test]
fn what_waits_gives_way_in_its_own_queue_and_is_counted_once() -> Result<()> {
    let server = bounded(4 * MIB)?;
    for id in 0..50 {
        let mut away = RawClient::connect(server.port(), &Connect::new(Protocol::V5, &format!("away{id}")).persistent())?;
        away.subscribe(&[("t", 1)])?;
        away.disconnect()?;
    }
    let mut client = connect(&server, "c")?;
    let payload = vec![b'x'; 60_000];
    // Fifty sessions wait for the same ten messages.
    for _ in 0..10 {
        client.publish("t", &payload, 1, false)?;
    }
    server.reported("all that waits", |report| report.engine.queued_messages == 500 && report.engine.dropped_memory == 0)?;
    for _ in 0..100 {
        client.publish("t", &payload, 1, false)?;
        assert!(server.handle().report().memory <= 4 * MIB);
    }
    client.publish("t", b"last", 1, false)?;
    server.reported("what gave way", |report| report.engine.dropped_memory >= 50 * 50)?;
    let mut back = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "away7").persistent())?;
    let mut last = Vec::new();
    while let Some(message) = back.message(Duration::from_millis(500))? {
        last = message.payload;
    }
    assert_eq!(last, b"last", "the oldest gave way");
    Ok(())
}

#[test]
fn who_does_not_read_gets_nothing_more_and_who_reads_gets_all() -> Result<()> {
    let server = bounded(8 * MIB)?;
    let mut deaf: Vec<RawClient> = (0..20).map(|id| connect(&server, &format!("deaf{id}"))).collect::<Result<_>>()?;
    for client in &mut deaf {
        client.subscribe(&[("t", 0)])?;
    }
    let mut reader = connect(&server, "reader")?;
    reader.subscribe(&[("t", 0)])?;
    let mut publisher = connect(&server, "publisher")?;
    let payload = vec![7; 1000];
    // Up to a MiB may wait for each of the deaf.
    for _ in 0..20_000 {
        publisher.publish("t", &payload, 0, false)?;
        assert!(reader.message(PATIENCE)?.is_some());
    }
    assert!(server.handle().report().memory <= 8 * MIB);
    server.reported("what was dropped", |report| report.engine.dropped_memory > 0)
}

#[test]
fn nobody_new_comes_in_and_who_is_there_goes_on() -> Result<()> {
    let server = bounded(2 * MIB)?;
    let mut hoarder = connect(&server, "hoarder")?;
    let mut there = connect(&server, "there")?;
    there.subscribe(&[("t", 1)])?;
    let mut codes = Vec::new();
    for number in 0..60 {
        let filter = format!("{number}/{}", "x".repeat(50_000));
        codes.extend(hoarder.subscribe(&[(&filter, 0)])?);
    }
    assert!(codes.contains(&0) && codes.ends_with(&[0x97]), "{codes:?}");
    let mut numbers = 0_u32..;
    // Whoever is refused leaves room for a moment, and so does a buffer that has become empty.
    let mut fill = || -> Result<()> {
        let mut more = || hoarder.subscribe(&[(&numbers.next().unwrap_or_default().to_string(), 0)]);
        while more()? != [0x97] {}
        Ok(())
    };
    let come = |protocol, id: &str| RawClient::try_connect(server.port(), &Connect::new(protocol, id)).map(|(_, code)| code);
    for (protocol, busy) in [(Protocol::V5, 0x89), (Protocol::V3_1_1, 3)] {
        until("a refusal", PATIENCE, || {
            fill()?;
            assert!(server.handle().report().memory <= 2 * MIB);
            Ok((come(protocol, "new")? == busy).then_some(()))
        })?;
    }
    assert_eq!(there.publish("t", b"x", 1, false)?, 0);
    assert!(there.message(PATIENCE)?.is_some());
    server.reported("refusals", |report| report.engine.refused_memory >= 3)?;
    hoarder.disconnect()?;
    until("room", PATIENCE, || Ok((come(Protocol::V5, "new")? == 0).then_some(())))
}
