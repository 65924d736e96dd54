//! Reads the broker's retained messages once, as a client of it.
//!
//! No function of the broker gives them out, so a thread connects to a listener on the same machine, subscribes to `#` and leaves.
//! It logs in with a secret made at the start, which nobody else knows and the store doesn't; while it is connected, and only
//! at its own address in the broker, it may receive everything that doesn't begin with `$`, and may publish nothing.
//! The messages come with QoS 0, so that all of them stand before the answer to a PINGREQ.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::begin_thread;
use crate::options::{AutosubSettings, ReaderAddress};
use crate::plugin::waker::Waker;

/// How long one wait for the broker may take, after which the thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(200);
/// How long the broker may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the thread rests after a failure at most.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The longest packet that is read: the standard's own bound.
const MAX_PACKET: usize = 268_435_455;
const USERNAME: &str = "midge-retained";

/// Topics and payloads.
type Messages = Vec<(Box<str>, Vec<u8>)>;

/// Who the reader is.
struct Identity {
    id: String,
    password: String,
}

/// What the thread shares with the broker's.
struct Shared {
    identity: Identity,
    /// Where the broker has it; 0 while it isn't connected.
    address: AtomicUsize,
    stopping: AtomicBool,
    has_found: AtomicBool,
    found: Mutex<Option<Messages>>,
    most: usize,
    most_bytes: usize,
}

/// A thread that reads retained messages.
pub(super) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread, which waits for the broker to serve.
    pub(super) fn start(address: ReaderAddress, settings: &AutosubSettings, waker: Arc<Waker>) -> std::io::Result<Self> {
        let mut random = [0_u8; 48];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (id, password) = random.split_at(8);
        let shared = Arc::new(Shared {
            identity: Identity { id: format!("{USERNAME}-{}", hex(id)), password: hex(password) },
            address: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            has_found: AtomicBool::new(false),
            found: Mutex::default(),
            most: settings.retained,
            most_bytes: settings.retained_bytes,
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("midge-retained".to_owned()).spawn(move || {
            begin_thread();
            of_thread.run(&address, &waker);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns whether this is the reader that logs in; in a time that says nothing about its secret.
    pub(super) fn is_it(&self, id: &[u8], password: &[u8]) -> bool {
        let secret = self.shared.identity.password.as_bytes();
        let differs = secret.iter().zip(password).fold(0, |differs, (one, other)| differs | (one ^ other));
        id == self.shared.identity.id.as_bytes() && password.len() == secret.len() && differs == 0
    }

    /// Notes where the broker has it.
    pub(super) fn enter(&self, address: usize) {
        self.shared.address.store(address, Ordering::Release);
    }

    /// Notes that whoever was at `address` has gone.
    pub(super) fn leave(&self, address: usize) {
        let _ = self.shared.address.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Returns whether it is the client at `address`.
    pub(super) fn is_at(&self, address: usize, id: &[u8]) -> bool {
        self.shared.address.load(Ordering::Acquire) == address && id == self.shared.identity.id.as_bytes()
    }

    /// Returns what was found, once; costs one load.
    pub(super) fn take(&self) -> Option<Messages> {
        if !self.shared.has_found.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Reader {
    /// Ends the thread and waits for it.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A connection of either kind.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Shared {
    fn run(&self, address: &ReaderAddress, waker: &Waker) {
        let mut rest = Duration::from_millis(20);
        let mut complained = false;
        while !self.stopping.load(Ordering::Acquire) {
            match self.read(address) {
                Ok(found) => {
                    *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                    self.has_found.store(true, Ordering::Release);
                    waker.call();
                    return;
                }
                Err(problem) => {
                    // The broker opens its listeners after it has loaded us.
                    if rest > Duration::from_secs(1) && !std::mem::replace(&mut complained, true) {
                        log::warn!("retained messages from before the start can't be read through {address}: {problem}");
                    }
                    std::thread::park_timeout(rest);
                    rest = (rest * 2).min(LONGEST_REST);
                }
            }
        }
    }

    fn read(&self, address: &ReaderAddress) -> Result<Messages, String> {
        let mut stream = open(address).map_err(|error| error.to_string())?;
        let mut packets = Packets { stream: stream.as_mut(), buffer: Vec::new(), stopping: &self.stopping };
        packets.send(&self.connect())?;
        match packets.next()? {
            (0x20, body) if body.get(1) == Some(&0) => {}
            (_, body) => return Err(format!("the broker refused with {body:?}")),
        }
        // SUBSCRIBE `#` with QoS 0, PINGREQ.
        packets.send(&[0x82, 6, 0, 1, 0, 1, b'#', 0, 0xc0, 0])?;
        let (mut found, mut bytes) = (Messages::new(), 0);
        loop {
            match packets.next()? {
                (0x90, body) if body.get(2) == Some(&0) => {}
                (0x90, _) => return Err("the broker refused the subscription".to_owned()),
                (0xd0, _) => break,
                // Retained; what is published meanwhile is noted elsewhere.
                (kind, body) if kind & 0xf0 == 0x30 && kind & 1 == 1 => {
                    bytes += body.len();
                    if found.len() < self.most && bytes <= self.most_bytes {
                        found.extend(message(kind, &body));
                    }
                }
                _ => {}
            }
        }
        let _ = packets.send(&[0xe0, 0]);
        Ok(found)
    }

    /// Returns a CONNECT of MQTT 3.1.1 with a clean session.
    fn connect(&self) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
        for text in [&self.identity.id, USERNAME, &self.identity.password] {
            body.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
            body.extend(text.as_bytes());
        }
        let length = u8::try_from(body.len()).unwrap_or(0);
        // Three short texts: between 128 and 255 bytes, so the length takes two.
        let mut packet = vec![0x10, (length & 0x7f) | 0x80, length >> 7];
        packet.append(&mut body);
        packet
    }
}

fn open(address: &ReaderAddress) -> std::io::Result<Box<dyn Stream>> {
    match address {
        ReaderAddress::Tcp(host) => {
            let address = host.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&address, PATIENCE / 10)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
        ReaderAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
    }
}

/// What comes, packet by packet.
struct Packets<'a> {
    stream: &'a mut dyn Stream,
    buffer: Vec<u8>,
    stopping: &'a AtomicBool,
}

impl Packets<'_> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    /// Returns the next packet: its first byte and what is behind its length.
    fn next(&mut self) -> Result<(u8, Vec<u8>), String> {
        let since = Instant::now();
        loop {
            if let Some((kind, from, to)) = frame(&self.buffer)? {
                let body = self.buffer.get(from..to).unwrap_or_default().to_vec();
                self.buffer.drain(..to);
                return Ok((kind, body));
            }
            let mut chunk = [0_u8; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the broker closed the connection".to_owned()),
                Ok(read) => self.buffer.extend(chunk.iter().take(read)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    if self.stopping.load(Ordering::Acquire) || since.elapsed() > PATIENCE {
                        return Err("the broker doesn't answer".to_owned());
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Returns the first byte of the first packet, and from where to where its body is; `None` until all of it is there.
fn frame(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, String> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let from = at + 2;
            return Ok((length <= MAX_PACKET && bytes.len() >= from + length).then_some((*kind, from, from + length)));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err("the broker doesn't speak MQTT".to_owned()) }
}

/// Reads the body of a PUBLISH.
fn message(kind: u8, body: &[u8]) -> Option<(Box<str>, Vec<u8>)> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let payload = if kind & 0x06 == 0 { rest } else { rest.get(2..)? };
    Some((std::str::from_utf8(topic).ok()?.into(), payload.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_framed_whole() {
        for (bytes, expected) in [
            (&[][..], None),
            (&[0x30], None),
            (&[0x30, 2, 0], None),
            (&[0x30, 2, 0, 0, 9], Some((0x30, 2, 4))),
            (&[0xd0, 0], Some((0xd0, 2, 2))),
            (&[0x30, 0x80], None),
        ] {
            assert_eq!(frame(bytes), Ok(expected), "{bytes:?}");
        }
        assert!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
        let mut long = vec![0x31, 0xc8, 0x01];
        long.extend([7; 200]);
        assert_eq!(frame(&long), Ok(Some((0x31, 3, 203))));
    }

    #[test]
    fn publishes_are_read() {
        assert_eq!(message(0x31, &[0, 1, b'a', b'x']), Some(("a".into(), b"x".to_vec())));
        assert_eq!(message(0x33, &[0, 1, b'a', 0, 1, b'x']), Some(("a".into(), b"x".to_vec())));
        for broken in [&[][..], &[0], &[0, 5, b'a'], &[0, 1, 0xff]] {
            assert_eq!(message(0x31, broken), None, "{broken:?}");
        }
    }
}
