//! A stream socket of whatever family.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

/// A connected socket.
#[derive(Debug)]
pub(in crate::server) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_slices(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_slices(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    pub(in crate::server) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    /// Writes from several slices with one system call.
    pub(in crate::server) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // The kernel looks at one slice faster than at a list of one.
        match (self, slices) {
            (Self::Tcp(stream), [one]) => stream.write(one),
            (Self::Tcp(stream), _) => stream.write_vectored(slices),
            (Self::Unix(stream), _) => stream.write_vectored(slices),
        }
    }

    /// Tells the other side that nothing more comes.
    pub(in crate::server) fn end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Registers for reading and writing, once for all: it is told of changes only.
    pub(in crate::server) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, token, both),
            Self::Unix(stream) => registry.register(stream, token, both),
        }
    }

    pub(in crate::server) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => registry.deregister(stream),
            Self::Unix(stream) => registry.deregister(stream),
        }
    }
}
