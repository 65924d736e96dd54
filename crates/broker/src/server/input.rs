//! Bytes come in and become packets.
//!
//! Packets are decoded where they were read; only the front of one that isn't complete is copied, into [memory](super::memory) that all of them share.

use std::io::ErrorKind;

use midge_engine::shard::ConnectionId;
use midge_mqtt::{DecodeError, Decoded, Packet, Peer as Sender, ProtocolVersion, decode};
use mio::event::Event;

use super::event_loop::{EventLoop, turn};
use super::peer::Phase;
use super::transport::Opened;

/// Work that the packets of one socket make in one turn, as the engine counts it: half a millisecond. The others have their turn then.
const WORK: u64 = 5000;

impl EventLoop {
    /// Something happened to a socket.
    pub(super) fn socket_event(&mut self, slot: u32, event: &Event, crowded: bool) {
        let Some(peer) = self.peer(slot) else { return };
        peer.ended |= event.is_read_closed();
        if event.is_error() {
            return self.lost(slot);
        }
        if event.is_writable() && peer.blocked {
            peer.blocked = false;
            if peer.connection().is_some() {
                self.flush_peer(slot);
            } else if !self.push(slot) {
                return;
            }
        }
        if event.is_readable() || event.is_read_closed() {
            // Who is listed has its share later in this turn, and no second one now.
            let listed = self.peer(slot).is_some_and(|peer| peer.listed);
            if crowded || listed { self.list(slot) } else { self.read(slot) }
        }
    }

    /// Has a socket read in the next turn.
    pub(super) fn list(&mut self, slot: u32) {
        let Some(peer) = self.peers.get_mut(slot as usize).filter(|peer| !peer.listed) else { return };
        peer.listed = true;
        self.again.push(slot);
    }

    /// Reads from those sockets that had more than their share.
    pub(super) fn read_again(&mut self, mut slots: Vec<u32>, crowded: bool) {
        if crowded {
            return self.again.append(&mut slots);
        }
        for slot in slots.drain(..) {
            if let Some(peer) = self.peer(slot) {
                peer.listed = false;
                self.read(slot);
            }
        }
        if self.again.is_empty() {
            // Its memory serves the next turn.
            self.again = slots;
        }
    }

    /// Reads a socket's share and handles all packets in it.
    fn read(&mut self, slot: u32) {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        let wanted = match peer.phase {
            Phase::New(_) | Phase::Closing { .. } | Phase::Lingering => true,
            Phase::Asked(ref asked) => asked.challenged,
            Phase::Open { id, .. } => self.shard.wants_input(id),
        };
        if !wanted {
            peer.unread = true;
            return;
        }
        if std::mem::take(&mut peer.deferred) {
            let rest = self.take_partial(slot);
            self.list(slot);
            return self.feed(slot, &rest);
        }
        let plain = peer.transport.layers.is_none();
        let mut buffer = std::mem::take(&mut self.buffer);
        match peer.transport.socket.read(&mut buffer) {
            Ok(0) => self.lost(slot),
            Ok(length) => {
                // Less than was asked for is all there was, and an end of the stream would be told of.
                if length == buffer.len() || peer.ended {
                    self.list(slot);
                }
                self.traffic.bytes_received += length as u64;
                if plain {
                    self.feed(slot, &buffer[..length]);
                } else {
                    self.open(slot, &buffer[..length]);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.list(slot),
            Err(_) => self.lost(slot),
        }
        self.buffer = buffer;
    }

    /// Takes bytes that aren't MQTT yet.
    fn open(&mut self, slot: u32, raw: &[u8]) {
        let Some(peer) = self.peers.get_mut(slot as usize).filter(|peer| !matches!(peer.phase, Phase::Lingering)) else { return };
        let (mut clear, mut scratch) = (std::mem::take(&mut self.clear), std::mem::take(&mut self.scratch));
        clear.clear();
        let opened = peer.transport.open(raw, &mut clear, &mut scratch);
        if let (Ok(Opened { address: Some(address), .. }), Phase::New(origin)) = (&opened, &mut peer.phase) {
            origin.address = Some(*address);
            if !peer.transport.seat.set_address(address.ip()) {
                self.traffic.refused_address += 1;
                self.drop_peer(slot);
            }
        }
        self.scratch = scratch;
        match opened {
            Ok(opened) => {
                if self.push(slot) {
                    self.feed(slot, &clear);
                }
                if opened.ended {
                    self.part_from(slot);
                }
            }
            Err(error) => {
                self.note_malformed(&error);
                self.part_from(slot);
            }
        }
        self.clear = clear;
    }

    /// Handles what a client sent.
    pub(super) fn feed(&mut self, slot: u32, input: &[u8]) {
        let mut rest = input;
        if self.peers.get(slot as usize).is_some_and(|peer| !peer.partial.is_empty()) {
            rest = self.complete(slot, rest);
        }
        while !rest.is_empty() {
            let Some(peer) = self.peers.get_mut(slot as usize) else { return };
            match peer.phase {
                Phase::Open { id, version, .. } => return self.packets(slot, id, version, rest),
                Phase::New(_) => match self.first_packet(slot, rest) {
                    Some(length) => rest = &rest[length..],
                    None => return,
                },
                Phase::Asked(ref asked) if asked.challenged => match self.response(slot, rest) {
                    Some(length) => rest = &rest[length..],
                    None => return,
                },
                Phase::Asked(_) => {
                    self.keep(slot, rest, rest.len());
                    return;
                }
                Phase::Closing { .. } | Phase::Lingering => return,
            }
        }
    }

    /// Handles the packet that began in an earlier read; returns what follows it.
    fn complete<'a>(&mut self, slot: u32, mut input: &'a [u8]) -> &'a [u8] {
        while let Some(peer) = self.peers.get_mut(slot as usize) {
            let rules = match peer.phase {
                Phase::New(_) => self.shared.rules(Sender::NewClient),
                Phase::Open { version, .. } => self.shared.rules(Sender::Client(version)),
                Phase::Asked(ref asked) if asked.challenged => self.shared.rules(Sender::Client(ProtocolVersion::V5)),
                Phase::Asked(_) => break,
                Phase::Closing { .. } | Phase::Lingering => return &[],
            };
            if let Ok(Decoded::Incomplete(size)) = decode(&rules, &peer.partial) {
                let missing = size - peer.partial.len();
                let (front, rest) = input.split_at(missing.min(input.len()));
                input = rest;
                if !self.keep(slot, front, size) || front.len() < missing {
                    return &[];
                }
            } else {
                let new = matches!(peer.phase, Phase::New(_));
                let mut packet = self.take_partial(slot);
                if new {
                    // Another loop may be the client's, and then it gets all of it.
                    packet.extend_from_slice(std::mem::take(&mut input));
                }
                self.feed(slot, &packet);
                break;
            }
        }
        input
    }

    /// Handles all packets of a client that is connected: the hottest loop of the server.
    fn packets(&mut self, slot: u32, id: ConnectionId, version: ProtocolVersion, mut input: &[u8]) {
        let rules = self.shared.rules(Sender::Client(version));
        let most = self.shard.work() + WORK;
        while !input.is_empty() {
            match decode(&rules, input) {
                Ok(Decoded::Packet(packet, length)) => {
                    self.traffic.packets_received += 1;
                    match packet {
                        Packet::Auth(auth) => self.authenticate_again(slot, id, &auth),
                        packet => self.shard.packet(id, &packet, &turn!(self)),
                    }
                    input = &input[length..];
                    if self.shard.work() > most && !input.is_empty() {
                        return self.defer(slot, input);
                    }
                }
                Ok(Decoded::Incomplete(size)) => {
                    self.keep(slot, input, size);
                    return;
                }
                Err(error) => return self.malformed(id, &error),
            }
        }
    }

    /// Leaves packets for the next turn.
    fn defer(&mut self, slot: u32, input: &[u8]) {
        if self.keep(slot, input, input.len())
            && let Some(peer) = self.peer(slot)
        {
            peer.deferred = true;
            self.list(slot);
        }
    }

    fn malformed(&mut self, id: ConnectionId, error: &DecodeError) {
        self.note_malformed(error);
        self.shard.malformed(id, error, &turn!(self));
    }

    /// Counts a connection that is closed for what it sent.
    pub(super) fn note_malformed(&mut self, error: &dyn std::error::Error) {
        self.traffic.malformed += 1;
        if let Some(times) = self.broken.now(self.now.monotonic) {
            log::warn!("closing a connection: {error}; connections closed for what they sent since the last such line: {times}");
        }
    }
}
