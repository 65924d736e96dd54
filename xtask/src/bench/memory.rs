//! What the kernel holds for each idle socket.
//!
//! Read from `/proc/slabinfo`, which belongs to root and to the whole machine: what else opens sockets meanwhile counts, too.
//! Both ends of a connection are on this machine, so a socket has half of what a connection has.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail};

use super::peers::Running;

/// Connections, so few that they fit into what a shell allows a program to open.
const CONNECTIONS: u16 = 400;
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// Returns bytes for each socket; nothing where the kernel doesn't tell.
pub(super) fn bytes_per_socket(running: &Running) -> Result<Option<f64>> {
    let Some(before) = slabs() else { return Ok(None) };
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        clients.push(connect(running, number)?);
    }
    let after = slabs().unwrap_or(before);
    Ok(Some((after - before) / (2.0 * f64::from(CONNECTIONS))))
}

/// Connects with MQTT 3.1.1, a clean session and a minute of keep-alive, which rumqttd insists on.
fn connect(running: &Running, number: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(running.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut packet = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05".to_vec();
    write!(packet, "{number:05}")?;
    stream.write_all(&packet)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != CONNACK {
        bail!("a client isn't let in: {answer:?}");
    }
    Ok(stream)
}

/// Returns the bytes of all objects that are in use.
fn slabs() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    Some(text.lines().filter_map(used).sum())
}

/// Reads the number and size of objects from a line `name active total size …`.
fn used(line: &str) -> Option<f64> {
    let mut words = line.split_whitespace().skip(1);
    let active: f64 = words.next()?.parse().ok()?;
    let size: f64 = words.nth(1)?.parse().ok()?;
    Some(active * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_use_count() {
        for (line, bytes) in [
            ("TCP   10     14   2240   14    8 : tunables    0    0    0 : slabdata      1      1      0", Some(22_400.0)),
            ("slabinfo - version: 2.1", None),
            ("# name            <active_objs> <num_objs> <objsize>", None),
            ("", None),
        ] {
            assert_eq!(used(line), bytes, "{line}");
        }
    }
}
