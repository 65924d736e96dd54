//! What lies between client and network: nothing, TLS, WebSocket, both.

mod tls;
mod websocket;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::{ClientConfig, ClientConnection};

pub(crate) use tls::client_config;
use websocket::WebSocket;

use crate::Target;

/// A client's way to the broker.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    websocket: Option<Box<WebSocket>>,
    /// Bytes for TLS or the network that the WebSocket has made.
    below: Vec<u8>,
}

impl Transport {
    /// Begins to connect, from `source` where there is one.
    pub(crate) fn open(target: &Target, source: Option<IpAddr>, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let family = if target.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(source) = source {
            rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
        }
        match rustix::net::connect(&socket, &target.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from_std(std::net::TcpStream::from(socket));
        stream.set_nodelay(true)?;
        let tls = tls.map(|config| tls::begin(config, &target.host)).transpose()?;
        let mut transport = Self { stream, tls, websocket: None, below: Vec::new() };
        if let Some(path) = &target.websocket {
            transport.websocket = Some(Box::new(WebSocket::new(&target.host, path, &mut transport.below)));
        }
        Ok(transport)
    }

    /// Reads once and appends what it means to `clear`; returns whether there may be more.
    pub(crate) fn read(&mut self, scratch: &mut [u8], clear: &mut Vec<u8>) -> io::Result<bool> {
        let length = match self.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let more = length == scratch.len();
        let raw = &scratch[..length];
        match (&mut self.tls, &mut self.websocket) {
            (None, None) => clear.extend_from_slice(raw),
            (Some(tls), None) => tls::read(tls, raw, clear)?,
            (None, Some(websocket)) => websocket.read(raw, clear, &mut self.below)?,
            (Some(tls), Some(websocket)) => {
                let mut plain = Vec::new();
                tls::read(tls, raw, &mut plain)?;
                websocket.read(&plain, clear, &mut self.below)?;
            }
        }
        Ok(more)
    }

    /// Returns whether bytes go out that no packet asked for.
    pub(crate) fn is_layered(&self) -> bool {
        self.tls.is_some() || self.websocket.is_some()
    }

    /// Writes what the network takes; what is written is gone from `output`.
    pub(crate) fn write(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        if !self.is_layered() {
            return drain(&mut self.stream, output);
        }
        match &mut self.websocket {
            Some(websocket) => websocket.write(output, &mut self.below),
            None => self.below.append(output),
        }
        let Some(tls) = &mut self.tls else { return drain(&mut self.stream, &mut self.below) };
        tls.writer().write_all(&self.below)?;
        self.below.clear();
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn drain(stream: &mut TcpStream, output: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    let result = loop {
        let rest = &output[written..];
        if rest.is_empty() {
            break Ok(());
        }
        match stream.write(rest) {
            // A short write means that the next one would block.
            Ok(length) if length < rest.len() => {
                written += length;
                break Ok(());
            }
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    output.drain(..written);
    result
}
