//! Bytes come in any portions; wrong ones are answered.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use anyhow::Result;
use midge_broker::server::Settings;
use midge_testkit::{Connect, Event, Packet, Protocol, RawClient, Value, Will};

use crate::support::{PATIENCE, Running};

/// Sends bytes in portions and returns all that comes until the server closes.
fn exchange(port: u16, portions: &[&[u8]]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for portion in portions {
        stream.write_all(portion)?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(protocol: Protocol, id: &str) -> Vec<u8> {
    Connect::new(protocol, id).encode()
}

#[test]
fn packets_may_come_in_any_portions() -> Result<()> {
    for loops in [1, 4] {
        let server = Running::plain(loops)?;
        for id in ["a", "b", "c", "d", "e"] {
            let mut input = connect(Protocol::V3_1_1, id);
            // SUBSCRIBE to "t" with QoS 1, PUBLISH to it with QoS 1, PINGREQ, DISCONNECT.
            input.extend(b"\x82\x06\x00\x01\x00\x01t\x01\x32\x06\x00\x01t\x00\x02x\xc0\x00\xe0\x00");
            let expected = b"\x20\x02\x00\x00\x90\x03\x00\x01\x01\x32\x06\x00\x01t\x00\x01x\x40\x02\x00\x02\xd0\x00";
            let whole = exchange(server.port(), &[&input])?;
            assert_eq!(whole.len(), expected.len(), "{whole:x?}");
            for size in [1, 2, 3, 7, 16] {
                let portions: Vec<&[u8]> = input.chunks(size).collect();
                let mut answer = exchange(server.port(), &portions)?;
                // What the client gets as subscriber and as publisher may come in either order.
                let mut expected = expected.to_vec();
                answer.sort_unstable();
                expected.sort_unstable();
                assert_eq!(answer, expected, "in portions of {size}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_message_larger_than_any_buffer_comes_through() -> Result<()> {
    let server = Running::plain(2)?;
    let mut sub = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "sub"))?;
    sub.subscribe(&[("big", 1)])?;
    let mut publisher = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "pub"))?;
    for size in [65_535, 65_536, 300_000, 3_000_000] {
        let payload: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        publisher.publish("big", &payload, 1, false)?;
        let message = sub.message(PATIENCE)?.expect("a message");
        assert!(message.payload == payload, "{size} bytes");
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_answered_as_the_version_can() -> Result<()> {
    let server = Running::plain(2)?;
    let check = |input: &[u8], expected: &[u8]| -> Result<()> {
        assert_eq!(exchange(server.port(), &[input])?, expected, "to {input:x?}");
        Ok(())
    };
    // Something else than CONNECT [MQTT-3.1.0-1].
    check(b"\xc0\x00", b"")?;
    check(b"GET / HTTP/1.1\r\n\r\n", b"")?;
    // An unknown protocol level, 3.1.1 [MQTT-3.1.2-2].
    check(b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x01c", b"\x20\x02\x00\x01")?;
    // An unknown protocol name [MQTT-3.1.2-1].
    check(b"\x10\x0d\x00\x04MQXX\x04\x02\x00\x3c\x00\x01c", b"")?;
    // No client identifier without clean session, 3.1.1 [MQTT-3.1.3-8].
    check(b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00", b"\x20\x02\x00\x02")?;
    // The reserved flag of CONNECT [MQTT-3.1.2-3].
    check(b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01c", b"")?;
    check(b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01c", b"\x20\x03\x00\x81\x00")?;
    // An authentication method that nobody knows, 5.0 [MQTT-4.12.0-1].
    check(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x15\x00\x02XX\x00\x01c", b"\x20\x03\x00\x8c\x00")?;
    // Room for no CONNACK at all, and for one that says no, 5.0 [MQTT-3.1.2-24].
    check(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x04\x00\x01c", b"")?;
    check(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x05\x00\x01c", b"\x20\x03\x00\x95\x00")?;
    // Broken behind CONNECT: 5.0 says why, older versions can't.
    let broken = |protocol, id| [&connect(protocol, id)[..], b"\x36\x05\x00\x01t\x00\x01"].concat();
    let answer = exchange(server.port(), &[&broken(Protocol::V5, "v5")])?;
    assert!(answer.ends_with(b"\xe0\x01\x81"), "{answer:x?}");
    check(&broken(Protocol::V3_1_1, "v4"), b"\x20\x02\x00\x00")?;
    // A second CONNECT [MQTT-3.1.0-2].
    let twice = connect(Protocol::V5, "twice").repeat(2);
    assert!(exchange(server.port(), &[&twice])?.ends_with(b"\xe0\x01\x82"));
    Ok(())
}

#[test]
fn a_packet_that_is_too_large_is_refused_by_its_first_bytes() -> Result<()> {
    let mut settings = Settings { loops: 2, ..Settings::default() };
    settings.engine.max_packet_size = 1000;
    let server = Running::start(settings)?;
    let mut input = connect(Protocol::V5, "c");
    input.extend(b"\x30\xff\xff\xff\x7f");
    let answer = exchange(server.port(), &[&input])?;
    assert!(answer.ends_with(b"\xe0\x01\x95"), "{answer:x?}");
    Ok(())
}

#[test]
fn a_client_that_comes_again_takes_its_session_over() -> Result<()> {
    let server = Running::plain(3)?;
    for id in ["a", "b", "c", "d"] {
        let mut first = RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))?;
        let mut second = RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))?;
        assert_eq!(first.closed(PATIENCE)?, Some(0x8e));
        second.ping(PATIENCE)?;
    }
    Ok(())
}

#[test]
fn stopping_tells_clients_and_publishes_wills() -> Result<()> {
    let server = Running::plain(2)?;
    let mut clients = Vec::new();
    for id in ["a", "b", "c", "d"] {
        clients.push(RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))?);
    }
    let mut old = RawClient::connect(server.port(), &Connect::new(Protocol::V3_1_1, "old"))?;
    let will = Will { topic: b"will".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: true, properties: Vec::new() };
    clients.push(RawClient::connect(server.port(), &Connect::new(Protocol::V5, "willing").will(will))?);
    let idle = RawClient::open(server.port(), Protocol::V5)?;
    let handle = server.handle().clone();
    let stopper = std::thread::spawn(move || server.stop());
    for mut client in clients {
        assert_eq!(client.closed(PATIENCE)?, Some(0x8b));
    }
    assert_eq!(old.closed(PATIENCE)?, None);
    drop(idle);
    drop(old);
    stopper.join().expect("it stops");
    assert_eq!(handle.report().engine.wills, 1);
    Ok(())
}

#[test]
fn a_client_without_an_identifier_gets_one() -> Result<()> {
    let server = Running::plain(2)?;
    let mut assigned = Vec::new();
    for _ in 0..3 {
        let mut client = RawClient::open(server.port(), Protocol::V5)?;
        client.send(&connect(Protocol::V5, ""))?;
        let Event::Packet(Packet::ConnAck { code: 0, properties, .. }) = client.receive(PATIENCE)? else { panic!("a CONNACK") };
        // Nobody else has it [MQTT-3.2.2-16].
        let id = properties.into_iter().find(|property| property.0 == 0x12).expect("the identifier").1;
        assert!(matches!(&id, Value::Bytes(id) if !id.is_empty()) && !assigned.contains(&id), "{id:?} after {assigned:?}");
        assigned.push(id);
        client.ping(PATIENCE)?;
    }
    // Before 5.0 nobody can say which it is.
    RawClient::connect(server.port(), &Connect::new(Protocol::V3_1_1, ""))?.ping(PATIENCE)
}
