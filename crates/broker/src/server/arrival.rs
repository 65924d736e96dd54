//! A client comes in: its socket, its CONNECT, its loop.

use midge_engine::exchange::home_of_client;
use midge_engine::shard::Connecting;
use midge_mqtt::{Connack, Connect, DecodeError, Decoded, Packet, Peer as Sender, Properties, ProtocolVersion, ReasonCode, decode};
use mio::Token;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::door::{Hello, Verdict};
use super::event_loop::{EventLoop, turn};
use super::mailbox::{Arrived, Mail};
use super::peer::{Asked, Origin, Peer, PeerId, Phase};
use super::transport::Transport;

impl EventLoop {
    /// Takes a socket that was just accepted.
    pub(super) fn begin(&mut self, transport: Transport, origin: Box<Origin>) {
        if self.stopping {
            self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let at = self.now.monotonic + self.shared.settings.limits.connect_timeout;
        if let Some(id) = self.insert(transport, Phase::New(origin)) {
            self.arriving.push(at, id);
        }
    }

    fn insert(&mut self, transport: Transport, phase: Phase) -> Option<PeerId> {
        self.serial = self.serial.wrapping_add(1);
        let id = PeerId { slot: u32::try_from(self.peers.vacant_key()).ok()?, serial: self.serial };
        let mut peer = Peer::new(transport, phase, self.serial);
        if let Err(error) = peer.transport.socket.register(self.poll.registry(), Token(id.slot as usize)) {
            self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
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
            Ok(Decoded::Incomplete(_)) => {
                self.peer(slot)?.partial.extend_from_slice(input);
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
        } else {
            self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }

    /// Takes a client from another loop.
    pub(super) fn arrived(&mut self, arrived: Arrived) {
        if self.stopping {
            self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
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

    /// Asks whether the client is let in.
    fn ask(&mut self, slot: u32, connect: &Connect<'_>, frame: &[u8], assigned: Option<Box<str>>) {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        let Phase::New(origin) = &peer.phase else { return };
        let id = PeerId { slot, serial: peer.serial };
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let hello = Hello { peer: id, connect, client_id, origin };
        match self.mind.admit(&hello, self.now) {
            Verdict::Later => {
                peer.phase = Phase::Asked(Box::new(Asked { frame: frame.to_vec(), assigned }));
            }
            verdict => self.answer(id, connect, client_id, verdict),
        }
    }

    /// Goes on with a client that waited for a decision.
    pub(super) fn decided(&mut self, id: PeerId, verdict: Verdict) {
        let Some(peer) = self.peers.get_mut(id.slot as usize).filter(|peer| peer.serial == id.serial) else { return };
        if !matches!(peer.phase, Phase::Asked(_)) || matches!(verdict, Verdict::Later) {
            return;
        }
        let Phase::Asked(asked) = std::mem::replace(&mut peer.phase, Phase::Lingering) else { return };
        let early = std::mem::take(&mut peer.partial);
        let Ok(Decoded::Packet(Packet::Connect(connect), _)) = decode(&self.shared.rules(Sender::NewClient), &asked.frame) else {
            return self.drop_peer(id.slot);
        };
        self.answer(id, &connect, asked.assigned.as_deref().unwrap_or(connect.client_id), verdict);
        self.feed(id.slot, &early);
        // Nothing was read meanwhile.
        self.list(id.slot);
    }

    fn answer(&mut self, id: PeerId, connect: &Connect<'_>, client_id: &str, verdict: Verdict) {
        let reason = match verdict {
            Verdict::Admitted { username } => match self.let_in(id, connect, client_id, username.as_ref()) {
                Ok(()) => return,
                Err(reason) => reason,
            },
            Verdict::Refused(reason) => reason,
            Verdict::Later => return,
        };
        self.refuse(id.slot, connect.version, reason);
    }

    fn let_in(
        &mut self,
        peer: PeerId,
        connect: &Connect<'_>,
        client_id: &str,
        username: Option<&Arc<str>>,
    ) -> Result<(), ReasonCode> {
        let connecting = Connecting { connect, client_id, username: username.map(|name| &**name), properties: &[] };
        let connection = self.shard.connect(&connecting, &turn!(self))?;
        self.traffic.connects += 1;
        if self.peer_of.len() <= connection.slot() {
            self.peer_of.resize(connection.slot() + 1, u32::MAX);
        }
        self.peer_of[connection.slot()] = peer.slot;
        if let Some(known) = self.peer(peer.slot) {
            known.phase = Phase::Open { id: connection, version: connect.version };
        }
        if let Some(session) = self.shard.session(client_id) {
            self.mind.connected(peer, session, connection);
        }
        Ok(())
    }

    /// Says no to a client, where its version can, and closes behind it [MQTT-3.2.2-7].
    fn refuse(&mut self, slot: u32, version: ProtocolVersion, reason: ReasonCode) {
        self.traffic.refused_clients += 1;
        let connack = Connack { session_present: false, reason_code: reason, properties: Properties::NONE };
        let mut bytes = Vec::new();
        // A reason that an older version can't say is none: the connection is closed without a word [MQTT-3.2.2-6].
        if connack.encode(version, &mut bytes).is_err() {
            return self.drop_peer(slot);
        }
        self.part(slot, &bytes);
    }

    /// Answers what should have been CONNECT.
    fn no_connect(&mut self, slot: u32, input: &[u8], error: &DecodeError) {
        self.traffic.malformed += 1;
        if let Some(times) = self.broken.now(self.now.monotonic) {
            log::warn!("refusing a connection: {error}; connections closed for what they sent since the last such line: {times}");
        }
        match ProtocolVersion::of_connect(input) {
            Some(ProtocolVersion::V5) => self.refuse(slot, ProtocolVersion::V5, error.reason_code()),
            // Before 5.0 only two of its return codes are for what a packet can show.
            Some(version) if matches!(error, DecodeError::ClientIdentifierNotValid) => {
                self.refuse(slot, version, ReasonCode::ClientIdentifierNotValid);
            }
            _ if matches!(error, DecodeError::UnsupportedProtocolVersion(_)) => {
                self.refuse(slot, ProtocolVersion::V311, ReasonCode::UnsupportedProtocolVersion); // 3.1.1 [MQTT-3.1.2-2]
            }
            _ => self.drop_peer(slot),
        }
    }

    /// Writes the last bytes to a client that the engine doesn't know.
    fn part(&mut self, slot: u32, bytes: &[u8]) {
        let Some(peer) = self.peer(slot) else { return };
        // So few bytes always fit into a socket that nothing was written to.
        let written = peer.transport.write(&[IoSlice::new(bytes)]);
        if written.is_ok_and(|written| written.taken == bytes.len()) { self.linger(slot) } else { self.drop_peer(slot) }
    }
}

/// Returns a client identifier that nobody can guess: who knows one can take the session over.
fn assign_client_id() -> Box<str> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes once it has started");
    format!("auto-{:032x}", u128::from_be_bytes(random)).into()
}
