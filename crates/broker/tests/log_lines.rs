//! Promise: no client can fill a disk with log lines.
//!
//! Alone in its process, as the log is the process's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use midge_broker::server::{Limits, Settings};
use midge_testkit::{Connect, Protocol, RawClient};

#[path = "server/support.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod support;

use support::{PATIENCE, Running};

static LINES: Lines = Lines(Mutex::new(Vec::new()));

struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().expect("nobody panics with it").push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn what_a_client_causes_is_said_seldom() -> Result<()> {
    log::set_logger(&LINES).expect("there is no other logger");
    log::set_max_level(log::LevelFilter::Info);
    let limits = Limits { max_connections: 20, connect_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut settings = Settings { loops: 1, limits, ..Settings::default() };
    settings.engine.memory_max = 1 << 20;
    let server = Running::start(settings)?;
    let open = || -> Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let mut publisher = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "publisher"))?;
    for number in 0..300 {
        // What is no packet, a flood of connections, one that says nothing, a packet without an end, a message too many.
        let mut broken = open()?;
        broken.write_all(b"\xff\xff\xff\xff\xff\xff")?;
        let _ = broken.read(&mut [0; 16]);
        let _many: Vec<TcpStream> = (0..if number % 50 == 0 { 30 } else { 0 }).map(|_| open()).collect::<Result<_>>()?;
        if let Ok(mut huge) = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "huge")) {
            // The server may have closed it before all is written.
            let _ = huge.send(b"\x30\xff\xff\xff\x7f\x00\x01t\x00").and_then(|()| huge.send(&vec![b'x'; 400_000]));
            let _ = huge.closed(PATIENCE);
        }
        publisher.publish(&format!("t/{number}"), &[b'x'; 20_000], 1, true)?;
    }
    let handle = server.handle().clone();
    server.stop();
    let report = handle.report();
    assert!(report.traffic.malformed >= 250 && report.traffic.closed_memory >= 100, "{report:?}");
    let lines = LINES.0.lock().expect("nobody panics with it").clone();
    let of = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    let (broken, short, full) = (of("closing a connection"), of("memory_max"), of("as many connections"));
    // One in ten seconds of each kind: this takes less than a minute anywhere.
    assert!(broken >= 1 && short >= 1 && full >= 1, "{lines:#?}");
    assert!(lines.len() <= 30, "{lines:#?}");
    Ok(())
}
