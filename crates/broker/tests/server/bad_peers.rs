//! Holds peers that waste, stall or flood to their bounds.
//!
//! Nothing here is timed: what others wait beside such peers, `cargo run --example bad_peers -p midge-bench` measures.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use midge_broker::server::{Limits, Listen, Settings, TlsFiles};
use midge_testkit::{Certs, Connect, Protocol, RawClient, until};

use crate::support::{PATIENCE, Running, local};

const MIB: usize = 1 << 20;

fn open(server: &Running) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect(server: &Running, id: &str) -> Result<RawClient> {
    RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))
}

/// Has a client publish to itself: whoever else does what, it is served.
fn is_served(client: &mut RawClient) -> Result<()> {
    client.subscribe(&[("own", 1)])?;
    assert_eq!(client.publish("own", b"x", 1, false)?, 0);
    assert!(client.message(PATIENCE)?.is_some());
    Ok(())
}

#[test]
fn half_open_connections_are_closed_counted_and_cost_nothing_then() -> Result<()> {
    let server = Running::limited(Limits { connect_timeout: Duration::from_millis(300), ..Limits::default() })?;
    let before = server.handle().report().memory;
    let mut silent: Vec<TcpStream> = (0..200).map(|_| open(&server)).collect::<Result<_>>()?;
    // Half of them begin a CONNECT.
    silent.iter_mut().step_by(2).try_for_each(|stream| stream.write_all(b"\x10\xff\x01\x00\x04MQ"))?;
    is_served(&mut connect(&server, "quiet")?)?;
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    server.reported("timeouts", |report| report.traffic.connect_timeouts == 200 && report.memory <= before + 100_000)
}

#[test]
fn a_handshake_that_does_not_end_holds_up_nobody_and_is_closed() -> Result<()> {
    let certs = Certs::new()?;
    let (certificates, key) = (certs.server.cert.clone(), certs.server.key.clone());
    let tls = Some(TlsFiles { certificates, key, client_authorities: None, client_certificate_required: false });
    let limits =
        Limits { connect_timeout: Duration::from_millis(300), max_per_address: NonZeroUsize::new(50), ..Limits::default() };
    let listeners = vec![local(), Listen { tls: tls.clone(), ..local() }, Listen { tls, proxy: true, ..local() }];
    let server = Running::start(Settings { loops: 2, listeners, limits, ..Settings::default() })?;
    let at = |listener: usize| -> Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port_of(listener)))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let mut silent: Vec<TcpStream> = (0..40).map(|_| at(1)).collect::<Result<_>>()?;
    // Half of them begin a record that announces more.
    silent.iter_mut().step_by(2).try_for_each(|stream| stream.write_all(b"\x16\x03\x01\x02\x00\x01"))?;
    is_served(&mut connect(&server, "quiet")?)?;
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    server.reported("timeouts", |report| report.traffic.connect_timeouts == 40)?;
    // What is no TLS is answered with an alert.
    let mut other = at(1)?;
    other.write_all(&Connect::new(Protocol::V5, "no TLS").encode())?;
    let mut answer = Vec::new();
    other.read_to_end(&mut answer)?;
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    server.reported("a malformed one", |report| report.traffic.malformed == 1)?;
    // As many as there may be from one address, of which the last comes through a proxy.
    let full: Vec<TcpStream> = (0..50).map(|_| at(0)).collect::<Result<_>>()?;
    let mut proxied = at(2)?;
    write!(proxied, "PROXY TCP4 127.0.0.1 198.51.100.2 4711 8883\r\n")?;
    assert_eq!(proxied.read(&mut [0; 1]).unwrap_or(0), 0);
    server.reported("one too many", |report| report.traffic.refused_address == 1)?;
    drop(full);
    // The end waits for no handshake.
    let mut last = at(1)?;
    server.stop();
    assert_eq!(last.read(&mut [0; 1]).unwrap_or(0), 0);
    Ok(())
}

#[test]
fn a_byte_now_and_then_keeps_nobody_alive() -> Result<()> {
    let server = Running::plain(2)?;
    let mut connect_packet = Connect::new(Protocol::V5, "dribble");
    connect_packet.keep_alive = 1;
    let mut slow = RawClient::connect(server.port(), &connect_packet)?;
    // A message of 100 bytes, of which a byte comes ten times a second.
    slow.send(b"\x30\x64\x00\x01t\x00")?;
    let closed = until("the end of it", PATIENCE, || {
        Ok(slow.send(b"x").err().map(|_| None).or(slow.closed(Duration::from_millis(100)).ok()))
    })?;
    assert!(closed.is_none_or(|reason| reason == 0x8d), "{closed:x?}");
    server.reported("a keep alive that was over", |report| report.engine.keep_alive_timeouts == 1)
}

#[test]
fn who_publishes_faster_than_another_reads_fills_a_bounded_queue() -> Result<()> {
    let mut settings = Settings { loops: 2, ..Settings::default() };
    settings.engine.max_queued_messages = 100;
    settings.engine.max_outgoing_bytes = 64 << 10;
    settings.engine.max_inflight = 10;
    settings.engine.memory_max = 32 * MIB;
    let server = Running::start(settings)?;
    let mut slow = connect(&server, "slow")?;
    slow.subscribe(&[("t", 1)])?;
    let mut quiet = connect(&server, "quiet")?;
    let mut publisher = connect(&server, "publisher")?;
    let payload = vec![b'x'; 10_000];
    for _ in 0..2000 {
        assert_eq!(publisher.publish("t", &payload, 1, false)?, 0);
    }
    is_served(&mut quiet)?;
    server.reported("what was dropped", |report| {
        let engine = &report.engine;
        engine.queued_messages <= 100 && engine.dropped_full >= 1800 && report.memory < 3 * MIB
    })?;
    publisher.publish("t", b"last", 1, false)?;
    until("the newest message", PATIENCE, || Ok(slow.message(PATIENCE)?.filter(|message| message.payload == b"last"))).map(drop)
}

#[test]
fn clients_that_come_and_go_leave_nothing() -> Result<()> {
    let server = Running::plain(2)?;
    let mut quiet = connect(&server, "quiet")?;
    is_served(&mut quiet)?;
    server.reported("the quiet client", |report| report.engine.sessions == 1)?;
    let before = server.handle().report().memory;
    for round in 0..20 {
        // Some say goodbye, others don't, others take over.
        let mut clients: Vec<RawClient> =
            (0..50).map(|number| connect(&server, &format!("c{}", number % 40 + round))).collect::<Result<_>>()?;
        clients.truncate(25);
        clients.into_iter().try_for_each(RawClient::disconnect)?;
    }
    is_served(&mut quiet)?;
    server.reported("nothing left", |report| {
        let engine = &report.engine;
        (engine.sessions, engine.connections, engine.subscriptions) == (1, 1, 1) && report.memory <= before + 100_000
    })
}

#[test]
fn a_subscription_bomb_is_bounded_answered_and_taken_away_again() -> Result<()> {
    /// Levels of the filters: all combinations match one topic.
    const LEVELS: u32 = 13;
    let mut settings = Settings { loops: 1, ..Settings::default() };
    settings.engine.max_subscriptions = 5000;
    settings.engine.max_topic_levels = 32;
    let server = Running::start(settings)?;
    let mut quiet = connect(&server, "quiet")?;
    is_served(&mut quiet)?;
    let filter = |number: u32| (0..LEVELS).map(|at| if number >> at & 1 == 1 { "+" } else { "a" }).collect::<Vec<_>>().join("/");
    let mut bomb = connect(&server, "bomb")?;
    let filters: Vec<String> = (0..6000).map(filter).collect();
    let mut codes = Vec::new();
    for some in filters.chunks(500) {
        codes.extend(bomb.subscribe(&some.iter().map(|filter| (&**filter, 1)).collect::<Vec<_>>())?);
    }
    assert!(codes[..5000].iter().all(|code| *code == 1) && codes[5000..].iter().all(|code| *code == 0x97));
    assert_eq!(bomb.subscribe(&[(&vec!["+"; 33].join("/"), 0)])?, [0x8f]);
    // Many at once: more work than one turn has. All are delivered once, in their order.
    let topic = vec!["a"; LEVELS as usize].join("/");
    let mut input = Vec::new();
    for number in 0..200_u8 {
        let length = u8::try_from(2 + topic.len() + 2)?;
        input.extend([0x30, length, 0, u8::try_from(topic.len())?]);
        input.extend(topic.as_bytes());
        input.extend([0, number]);
    }
    bomb.send(&input)?;
    is_served(&mut quiet)?;
    for number in 0..200_u8 {
        assert_eq!(bomb.message(PATIENCE)?.expect("each message once").payload, [number]);
    }
    bomb.ping(PATIENCE)?;
    // A client that comes again at once has none of them.
    bomb.disconnect()?;
    let mut again = connect(&server, "bomb")?;
    again.publish(&topic, b"x", 1, false)?;
    assert!(again.message(Duration::from_millis(100))?.is_none());
    server.reported("all taken away", |report| report.engine.subscriptions == 1)?;
    server.reported("what was refused", |report| (report.engine.refused_subscriptions, report.engine.refused_levels) == (1000, 1))
}

#[test]
fn an_announced_size_costs_nothing() -> Result<()> {
    let server = Running::plain(2)?;
    let before = server.handle().report().memory;
    let mut clients: Vec<RawClient> = (0..100).map(|id| connect(&server, &format!("c{id}"))).collect::<Result<_>>()?;
    // 100 times 256 MB would be 25 GB.
    clients.iter_mut().try_for_each(|client| client.send(b"\x30\xff\xff\xff\x7f\x00\x01t\x00and a bit of it"))?;
    is_served(&mut connect(&server, "quiet")?)?;
    server.reported("what they take", |report| report.memory <= before + 100_000)
}
