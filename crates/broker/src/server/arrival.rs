//! A client comes in: its socket, its CONNECT, its loop.

use std::time::Duration;

use midge_engine::exchange::home_of_client;
use midge_mqtt::{Connect, Decoded, Packet, Peer as Sender, decode};
use mio::Token;

use super::event_loop::EventLoop;
use super::handshake::{Outcome, Shaken};
use super::mailbox::{Arrived, Mail};
use super::peer::{Origin, Peer, PeerId, Phase};
use super::transport::Transport;

impl EventLoop {
    /// Takes a socket from which CONNECT is to come, until `at`.
    pub(super) fn begin(&mut self, transport: Transport, origin: Box<Origin>, at: Duration) -> Option<u32> {
        if self.stopping {
            return None;
        }
        let id = self.insert(transport, Phase::New(origin))?;
        self.arriving.push(at, id);
        Some(id.slot)
    }

    /// Takes a connection whose TLS handshake is over.
    pub(super) fn shaken(&mut self, shaken: Shaken) {
        let Shaken { transport, origin, until, received, outcome } = shaken;
        self.traffic.bytes_received += received;
        match outcome {
            Outcome::Refused => self.traffic.refused_address += 1,
            Outcome::Late => self.traffic.connect_timeouts += 1,
            Outcome::Broken(error) => {
                self.note_malformed(&error);
                if let Some(slot) = self.begin(transport, Box::new(origin), until) {
                    self.part_from(slot);
                }
            }
            Outcome::Done { clear, ended } => {
                let Some(slot) = self.begin(transport, Box::new(origin), until) else { return };
                if self.push(slot) {
                    self.feed(slot, &clear);
                }
                if ended {
                    self.part_from(slot);
                }
            }
        }
    }

    fn insert(&mut self, transport: Transport, phase: Phase) -> Option<PeerId> {
        self.serial = self.serial.wrapping_add(1);
        let id = PeerId { slot: u32::try_from(self.peers.vacant_key()).ok()?, serial: self.serial };
        let mut peer = Peer::new(transport, phase, self.serial);
        if let Err(error) = peer.transport.socket.register(self.poll.registry(), Token(id.slot as usize)) {
            if self.broken.now(self.now.monotonic).is_some() {
                log::error!("cannot watch a socket: {error}");
            }
            return None;
        }
        self.peers.insert(peer);
        Some(id)
    }

    /// Handles the first packet, which must be CONNECT [MQTT-3.1.0-1]; returns its length unless the peer is somewhere else now.
    pub(super) fn first_packet(&mut self, slot: u32, input: &[u8]) -> Option<usize> {
        match decode(&self.shared.rules(Sender::NewClient), input) {
            Ok(Decoded::Packet(Packet::Connect(connect), length)) => {
                self.traffic.packets_received += 1;
                self.identify(slot);
                self.came(slot, &connect, input, length).then_some(length)
            }
            Ok(Decoded::Packet(..)) => {
                self.drop_peer(slot);
                None
            }
            Ok(Decoded::Incomplete(size)) => {
                self.keep(slot, input, size);
                None
            }
            Err(error) => {
                self.no_connect(slot, input, &error);
                None
            }
        }
    }

    /// Notes what the client has proved before it said anything.
    fn identify(&mut self, slot: u32) {
        let Some(peer) = self.peer(slot) else { return };
        let certificate = peer.transport.certificate();
        if let Phase::New(origin) = &mut peer.phase {
            origin.certificate = certificate;
        }
    }

    /// Brings a client to its loop; returns whether that is this one.
    fn came(&mut self, slot: u32, connect: &Connect<'_>, input: &[u8], length: usize) -> bool {
        let assigned = connect.client_id.is_empty().then(assign_client_id);
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let home = home_of_client(&self.shared.key, client_id, self.place.loops);
        if home == self.place.event_loop {
            self.ask(slot, connect, &input[..length], assigned);
            return true;
        }
        if let Some(mut peer) = self.peers.try_remove(slot as usize)
            && let Phase::New(origin) = peer.phase
            && peer.transport.socket.deregister(self.poll.registry()).is_ok()
        {
            let arrived = Arrived { transport: peer.transport, origin, assigned, input: input.to_vec(), ended: peer.ended };
            self.shared.mailboxes[usize::from(home)].send(Mail::Arrived(Box::new(arrived)));
        }
        false
    }

    /// Takes a client from another loop.
    pub(super) fn arrived(&mut self, arrived: Arrived) {
        if self.stopping {
            return;
        }
        let Some(id) = self.insert(arrived.transport, Phase::New(arrived.origin)) else { return };
        self.arriving.push(self.now.monotonic + self.shared.settings.limits.connect_timeout, id);
        if let Some(peer) = self.peer(id.slot) {
            peer.ended = arrived.ended;
        }
        let input = arrived.input;
        let Ok(Decoded::Packet(Packet::Connect(connect), length)) = decode(&self.shared.rules(Sender::NewClient), &input) else {
            return self.drop_peer(id.slot);
        };
        self.ask(id.slot, &connect, &input[..length], arrived.assigned);
        self.feed(id.slot, &input[length..]);
    }
}

/// Returns a client identifier that nobody can guess: who knows one can take the session over.
fn assign_client_id() -> Box<str> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes once it has started");
    format!("auto-{:032x}", u128::from_be_bytes(random)).into()
}
