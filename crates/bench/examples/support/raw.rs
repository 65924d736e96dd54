//! A client of bytes, and what a broker's process costs.
//!
//! MQTT 3.1.1, blocking, in the reader's order: what a scenario says is what goes over the wire.

#![allow(dead_code, reason = "each program uses its part")]

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const UNSUBACK: u8 = 0xB0;
pub(crate) const PINGRESP: u8 = 0xD0;

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Raw {
    /// Opens a connection and says nothing.
    pub(crate) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, stream.try_clone()?), stream, body: Vec::new() })
    }

    /// Returns the connection, open as long as it is kept.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Connects a client.
    pub(crate) fn connect(port: u16, id: &str, clean: bool) -> Result<Self> {
        let mut client = Self::open(port)?;
        client.send(&connect(id, clean))?;
        let code = client.expect(CONNACK)?.get(1).copied();
        if code == Some(0) { Ok(client) } else { bail!("{id} is refused: {code:?}") }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads the next packet: its kind and what follows its length.
    pub(crate) fn next(&mut self) -> Result<(u8, &[u8])> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        let kind = byte[0] & 0xF0;
        let (mut length, mut shift) = (0, 0);
        loop {
            self.reader.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body)?;
        Ok((kind, &self.body))
    }

    /// Reads until a packet of this kind comes, and returns it.
    pub(crate) fn expect(&mut self, wanted: u8) -> Result<Vec<u8>> {
        loop {
            let (kind, body) = self.next()?;
            if kind == wanted {
                return Ok(body.to_vec());
            }
        }
    }

    pub(crate) fn ping(&mut self) -> Result<()> {
        self.send(&[0xC0, 0])?;
        self.expect(PINGRESP).map(drop)
    }
}

pub(crate) fn connect(id: &str, clean: bool) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.extend([u8::from(clean) << 1, 0, 0]);
    put_text(&mut body, id);
    packet(0x10, &body)
}

/// Returns SUBSCRIBE with QoS 0 for all of `filters`.
pub(crate) fn subscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        put_text(&mut body, &filter);
        body.push(0);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = vec![0, 1];
    filters.for_each(|filter| put_text(&mut body, &filter));
    packet(0xA2, &body)
}

/// Returns PUBLISH; a quality of service above 0 is 1, with packet identifier 1.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    if qos > 0 {
        body.extend([0, 1]);
    }
    body.extend(payload);
    packet(0x30 | (qos.min(1) << 1) | u8::from(retain), &body)
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = length > 0x7F;
        bytes.push(u8::try_from(length & 0x7F).unwrap_or(0) | (u8::from(more) << 7));
        length >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend(text.as_bytes());
}

/// What a process has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of all its threads, in the nanoseconds that the scheduler counts.
    pub(crate) cpu: Duration,
    /// Resident bytes.
    pub(crate) resident: i64,
}

impl Cost {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: i64 = statm.split(' ').nth(1).context("statm")?.parse()?;
        Ok(Self { cpu: Duration::from_nanos(nanoseconds), resident: pages * 4096 })
    }
}

/// A quiet client that asks for an answer again and again, on a thread of its own.
pub(crate) struct Pinger {
    times: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) count: usize,
    pub(crate) p50: u128,
    pub(crate) p99: u128,
    pub(crate) max: u128,
}

impl Pinger {
    /// Connects a client that asks every `pause`.
    pub(crate) fn start(port: u16, id: &str, pause: Duration) -> Result<Self> {
        let mut client = Raw::connect(port, id, true)?;
        let (times, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&times), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let start = Instant::now();
                if let Err(error) = client.ping() {
                    eprintln!("a quiet client was not answered: {error:#}");
                    return;
                }
                into.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
                std::thread::sleep(pause);
            }
        });
        Ok(Self { times, stop, thread: Some(thread) })
    }

    /// Returns how long answers took since this was asked last.
    pub(crate) fn take(&self) -> Times {
        Times::of(std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at =
            |part: usize| times.get((times.len() * part / 1000).min(times.len().saturating_sub(1))).map_or(0, Duration::as_micros);
        Self { count: times.len(), p50: at(500), p99: at(990), max: at(1000) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} us, p99 {} us, longest {} us of {}", self.p50, self.p99, self.max, self.count)
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Returns whether an error is a connection that the broker has ended.
pub(crate) fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}
