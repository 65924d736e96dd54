//! What happens where there is too much of something.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use midge_broker::server::{Limits, Listen, Settings};
use midge_testkit::{Connect, Protocol, RawClient, until};

use crate::support::{PATIENCE, Running, local};

fn open(server: &Running) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect(server: &Running, id: &str) -> Result<RawClient> {
    RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))
}

#[test]
fn connections_beyond_the_limit_are_closed_and_places_are_given_again() -> Result<()> {
    let server = Running::limited(Limits { max_connections: 3, ..Limits::default() })?;
    let mut clients: Vec<RawClient> = ["a", "b", "c"].iter().map(|id| connect(&server, id)).collect::<Result<_>>()?;
    assert_eq!(open(&server)?.read(&mut [0; 1]).unwrap_or(0), 0);
    clients.pop().into_iter().try_for_each(RawClient::disconnect)?;
    until("a place", PATIENCE, || Ok(connect(&server, "d").ok())).map(drop)
}

#[test]
fn each_listener_has_a_limit_of_its_own() -> Result<()> {
    let server = Running::listening(2, vec![Listen { max_connections: Some(1), ..local() }, local()])?;
    let _only = connect(&server, "a")?;
    assert_eq!(open(&server)?.read(&mut [0; 1]).unwrap_or(0), 0);
    RawClient::connect(server.port_of(1), &Connect::new(Protocol::V5, "b"))?.ping(PATIENCE)
}

#[test]
fn each_address_has_so_many_connections_also_behind_a_proxy() -> Result<()> {
    let limits = Limits { max_per_address: NonZeroUsize::new(1), ..Limits::default() };
    let listeners = vec![local(), Listen { proxy: true, ..local() }];
    let server = Running::start(Settings { loops: 2, listeners, limits, ..Settings::default() })?;
    let client = connect(&server, "a")?;
    assert_eq!(open(&server)?.read(&mut [0; 1]).unwrap_or(0), 0);
    let proxied = |address: &str| -> Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port_of(1)))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "PROXY TCP4 {address} 198.51.100.2 4711 1883\r\n")?;
        // The server may have closed already.
        let _ = stream.write_all(&Connect::new(Protocol::V3_1_1, address).encode());
        Ok(stream.read(&mut [0; 4]).unwrap_or(0) == 4)
    };
    assert!(!proxied("127.0.0.1")?);
    assert!(proxied("192.0.2.1")?);
    client.disconnect()?;
    until("a place", PATIENCE, || Ok(connect(&server, "b").ok())).map(drop)
}

#[test]
fn each_user_has_so_many_connections_and_may_come_again() -> Result<()> {
    let server = Running::limited(Limits { max_per_user: NonZeroUsize::new(1), ..Limits::default() })?;
    let login = |id: &str, user: &str| RawClient::try_connect(server.port(), &Connect::new(Protocol::V5, id).login(user, ""));
    let (_first, code) = login("phone", "alice")?;
    assert_eq!(code, 0);
    assert_eq!(login("tablet", "alice")?.1, 0x97);
    let (_other, code) = login("other", "bob")?;
    assert_eq!(code, 0);
    // The same client again takes its own place.
    let (again, code) = login("phone", "alice")?;
    assert_eq!(code, 0);
    again.disconnect()?;
    until("alice's place", PATIENCE, || Ok(login("tablet", "alice").ok().filter(|(_, code)| *code == 0))).map(drop)
}

#[test]
fn who_says_nothing_in_time_is_closed() -> Result<()> {
    let server = Running::limited(Limits { connect_timeout: Duration::from_millis(200), ..Limits::default() })?;
    let mut connected = connect(&server, "connected")?;
    let mut silent = open(&server)?;
    let mut slow = open(&server)?;
    slow.write_all(b"\x10\x20\x00")?;
    assert_eq!(silent.read(&mut [0; 1])?, 0);
    assert_eq!(slow.read(&mut [0; 1]).unwrap_or(0), 0);
    connected.ping(PATIENCE)
}

#[test]
fn a_connect_that_is_too_large_is_refused() -> Result<()> {
    let server = Running::limited(Limits { max_connect_size: 1000, ..Limits::default() })?;
    let mut stream = open(&server)?;
    stream.write_all(b"\x10\xe9\x07\x00\x04MQTT\x05")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert_eq!(answer, b"\x20\x03\x00\x95\x00");
    Ok(())
}

#[test]
fn clients_beyond_the_rate_wait_and_get_in() -> Result<()> {
    let server = Running::limited(Limits { connect_rate: 20, ..Limits::default() })?;
    for id in 0..30 {
        connect(&server, &id.to_string())?;
    }
    Ok(())
}

#[test]
fn a_reader_that_never_reads_costs_no_more_than_its_bound() -> Result<()> {
    let mut settings = Settings { loops: 2, ..Settings::default() };
    settings.engine.max_outgoing_bytes = 100_000;
    let server = Running::start(settings)?;
    let mut deaf = connect(&server, "deaf")?;
    let mut reader = connect(&server, "reader")?;
    deaf.subscribe(&[("t", 0)])?;
    reader.subscribe(&[("t", 0)])?;
    let mut publisher = connect(&server, "publisher")?;
    let payload = vec![7; 50_000];
    for _ in 0..400 {
        publisher.publish("t", &payload, 0, false)?;
        assert!(reader.message(PATIENCE)?.is_some());
    }
    // What the sockets and the bound have room for comes, and not all of 20 MB.
    publisher.publish("end", b"", 1, false)?;
    let mut got = 0;
    while deaf.message(Duration::from_millis(300))?.is_some() {
        got += 1;
    }
    assert!(got > 0 && got < 400, "{got} messages");
    // It takes part again.
    publisher.publish("t", &payload, 0, false)?;
    assert!(deaf.message(PATIENCE)?.is_some());
    Ok(())
}

#[test]
fn a_client_that_asks_without_reading_is_not_heard_any_more_until_it_reads() -> Result<()> {
    let mut settings = Settings { loops: 1, ..Settings::default() };
    settings.engine.max_outgoing_bytes = 10_000;
    let server = Running::start(settings)?;
    let mut stream = open(&server)?;
    stream.write_all(&Connect::new(Protocol::V3_1_1, "c").encode())?;
    stream.read_exact(&mut [0; 4])?;
    let pings = b"\xc0\x00".repeat(5000);
    let total = 3000 * pings.len();
    // 30 MB of pings don't fit into the sockets: the writer must wait until the reader has read.
    let mut reading = stream.try_clone()?;
    let writer = std::thread::spawn(move || (0..3000).try_for_each(|_| stream.write_all(&pings)));
    let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
    while got < total {
        let length = reading.read(&mut buffer)?;
        assert!(length > 0 && buffer[..length].iter().all(|byte| [0xd0, 0].contains(byte)));
        got += length;
    }
    writer.join().expect("it doesn't panic")?;
    Ok(())
}
