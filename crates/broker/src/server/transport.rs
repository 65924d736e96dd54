//! The seam between MQTT and the bytes of a socket.
//!
//! A plain connection is its socket and nothing else; what lies between for others is a box that only they have.

pub(super) mod proxy;
mod socket;
pub(super) mod tls;
pub(super) mod websocket;

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use super::seats::Seat;
pub(super) use socket::Socket;
use tls::Tls;
use websocket::WebSocket;

/// Slices of one vectored write, one for a header included.
pub(super) const SLICES: usize = 32;

/// Bytes that are taken at once for a connection whose bytes have to be changed, and so copied.
const AT_ONCE: usize = 64 << 10;

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) socket: Socket,
    pub(super) layers: Option<Box<Layers>>,
    /// Counts it for as long as it is open.
    pub(super) seat: Seat,
}

/// What lies between a socket and MQTT, from the outside in.
#[derive(Debug, Default)]
pub(super) struct Layers {
    proxy: Option<proxy::Header>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
}

/// What a write has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes that need not be offered again.
    pub(super) taken: usize,
    /// Whether the socket takes no more now.
    pub(super) blocked: bool,
}

/// What was learned from bytes of the socket beside those of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// The client's own address, from a proxy.
    pub(super) address: Option<SocketAddr>,
    /// Whether the client has ended the stream of MQTT.
    pub(super) ended: bool,
}

/// Why a connection can't go on; what is to be said of it lies ready to be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("bad PROXY header: {0}")]
    Proxy(&'static str),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("WebSocket: {0}")]
    WebSocket(&'static str),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Transport {
    /// Returns a connection with the layers that a listener asks for.
    ///
    /// # Errors
    /// When TLS can't begin.
    pub(super) fn new(socket: Socket, kind: &Kind, seat: Seat) -> Result<Self, rustls::Error> {
        let tls = kind.tls.as_ref().map(|config| Tls::new(Arc::clone(config))).transpose()?;
        let websocket = kind.websocket.as_ref().map(|settings| WebSocket::new(Arc::clone(settings)));
        let layers = Layers { proxy: kind.proxy.then(proxy::Header::default), tls, websocket };
        let plain = layers.proxy.is_none() && layers.tls.is_none() && layers.websocket.is_none();
        Ok(Self { socket, layers: (!plain).then(|| Box::new(layers)), seat })
    }

    /// Writes the front of `slices`.
    #[inline]
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let Some(layers) = &mut self.layers else {
            let taken = self.socket.write_slices(slices)?;
            return Ok(Written { taken, blocked: taken < slices.iter().map(|slice| slice.len()).sum() });
        };
        layers.write(&mut self.socket, slices)
    }

    /// Writes what the layers themselves have to say; returns whether all of it is written.
    pub(super) fn push(&mut self) -> io::Result<bool> {
        self.layers.as_mut().map_or(Ok(true), |layers| layers.push(&mut self.socket))
    }

    /// Appends to `clear` what bytes of the socket mean for MQTT; `scratch` is memory to work in.
    pub(super) fn open(&mut self, raw: &[u8], clear: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<Opened, Broken> {
        let Some(layers) = &mut self.layers else {
            clear.extend_from_slice(raw);
            return Ok(Opened::default());
        };
        let opened = layers.open(raw, clear, scratch)?;
        if layers.proxy.is_none() && layers.tls.is_none() && layers.websocket.is_none() {
            self.layers = None;
        }
        Ok(opened)
    }

    /// Returns whether what is read next costs public-key cryptography.
    #[inline]
    pub(super) fn is_handshaking(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.tls.as_ref().is_some_and(Tls::is_handshaking))
    }

    /// Returns the certificate that the client has proved, as DER.
    pub(super) fn certificate(&self) -> Option<Box<[u8]>> {
        self.layers.as_ref()?.tls.as_ref()?.certificate()
    }

    /// Tells the other side that nothing more comes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if let Some(layers) = &mut self.layers {
            if let Some(websocket) = &mut layers.websocket {
                websocket.close(websocket::NORMAL);
            }
            layers.push(&mut self.socket)?;
            if let Some(tls) = &mut layers.tls {
                tls.close();
                tls.push(&mut self.socket)?;
            }
        }
        self.socket.end()
    }
}

/// What kind of connections a listener has.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    pub(super) proxy: bool,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) websocket: Option<Arc<websocket::Settings>>,
}

impl Layers {
    fn open(&mut self, raw: &[u8], clear: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<Opened, Broken> {
        let mut opened = Opened::default();
        let behind;
        let mut raw = raw;
        if let Some(header) = &mut self.proxy {
            let Some((address, rest)) = header.take(raw)? else { return Ok(opened) };
            opened.address = address;
            self.proxy = None;
            behind = rest;
            raw = &behind;
        }
        match (&mut self.tls, &mut self.websocket) {
            (None, None) => clear.extend_from_slice(raw),
            (Some(tls), None) => opened.ended = tls.open(raw, clear)?,
            (None, Some(websocket)) => opened.ended = websocket.open(raw, clear)?,
            (Some(tls), Some(websocket)) => {
                scratch.clear();
                let ended = tls.open(raw, scratch)?;
                opened.ended = websocket.open(scratch, clear)? || ended;
            }
        }
        Ok(opened)
    }

    fn write(&mut self, socket: &mut Socket, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let pushed = self.tls.as_mut().map_or(Ok(true), |tls| tls.push(socket))?;
        if !pushed {
            return Ok(Written { taken: 0, blocked: true });
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = offered.min(AT_ONCE);
        let Some(websocket) = &mut self.websocket else {
            return write_below(self.tls.as_mut(), socket, &[], slices, taken);
        };
        let mut list = [IoSlice::new(&[]); SLICES];
        let used = slices.len().min(SLICES);
        list[..used].copy_from_slice(&slices[..used]);
        let mut rest = &mut list[..used];
        let mut done = 0;
        loop {
            let (head, length) = websocket.begin(rest, taken - done);
            let before = head.len();
            let written = write_below(self.tls.as_mut(), socket, head, rest, length)?;
            let payload = written.taken.saturating_sub(before);
            websocket.wrote(written.taken.min(before), payload);
            done += payload;
            if written.blocked || done == taken {
                return Ok(Written { taken: done, blocked: written.blocked });
            }
            IoSlice::advance_slices(&mut rest, payload);
        }
    }

    fn push(&mut self, socket: &mut Socket) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls
            && !tls.push(socket)?
        {
            return Ok(false);
        }
        let Some(websocket) = &mut self.websocket else { return Ok(true) };
        let head = websocket.waiting();
        if head.is_empty() {
            return Ok(true);
        }
        let written = write_below(self.tls.as_mut(), socket, head, &[], 0)?;
        websocket.wrote(written.taken, 0);
        Ok(!written.blocked)
    }
}

/// Writes `head` and the first `length` bytes of `slices`, encrypted where there is TLS.
fn write_below(
    tls: Option<&mut Tls>,
    socket: &mut Socket,
    head: &[u8],
    slices: &[IoSlice<'_>],
    length: usize,
) -> io::Result<Written> {
    let mut list = [IoSlice::new(&[]); SLICES + 1];
    let (mut used, mut left) = (0, length);
    let cut = slices.iter().map(|slice| {
        let part = slice.get(..left.min(slice.len())).unwrap_or_default();
        left -= part.len();
        part
    });
    for (place, part) in list.iter_mut().zip(std::iter::once(head).chain(cut).filter(|part| !part.is_empty())) {
        *place = IoSlice::new(part);
        used += 1;
    }
    let list = &list[..used];
    let offered = list.iter().map(|slice| slice.len()).sum();
    if let Some(tls) = tls {
        let taken = tls.write(list)?;
        return Ok(Written { taken, blocked: !tls.push(socket)? });
    }
    match socket.write_slices(list) {
        Ok(taken) => Ok(Written { taken, blocked: taken < offered }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Written { taken: 0, blocked: true }),
        Err(error) => Err(error),
    }
}
