//! The seam between MQTT and the bytes of a socket.
//!
//! A plain connection is its socket and nothing else.

use std::io::{self, IoSlice};

use super::socket::Socket;

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) socket: Socket,
}

impl Transport {
    pub(super) fn plain(socket: Socket) -> Self {
        Self { socket }
    }

    /// Writes the front of `slices`; returns how many bytes were taken.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write(slices)
    }
}
