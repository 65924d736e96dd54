//! A client is let in, or not.
//!
//! The mind decides, at once or later, perhaps after a conversation by AUTH; until CONNACK nothing else is heard.

use std::io::IoSlice;
use std::sync::Arc;

use midge_engine::shard::{ConnectionId, SessionId};
use midge_mqtt::{
    Auth, Connack, Connect, DecodeError, Decoded, Packet, Peer as Sender, Properties, ProtocolVersion, ReasonCode, decode,
};

use super::door::{Admission, Entering, Hello, Verdict};
use super::event_loop::{EventLoop, turn};
use super::peer::{Asked, PeerId, Phase};

/// The bytes of a CONNACK of 5.0 that says no: fixed header, flags, reason, no properties.
const SMALLEST_REFUSAL: usize = 5;

impl EventLoop {
    /// Asks whether the client is let in.
    pub(super) fn ask(&mut self, slot: u32, connect: &Connect<'_>, frame: &[u8], assigned: Option<Box<str>>) {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        let Phase::New(origin) = &peer.phase else { return };
        let id = PeerId { slot, serial: peer.serial };
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let hello = Hello { peer: id, connect, client_id, origin };
        match self.mind.admit(&hello, self.now) {
            Verdict::Later | Verdict::Challenge(_) if !self.shared.memory.receive(frame.len()) => {
                self.traffic.closed_memory += 1;
                self.refuse(slot, connect.version, ReasonCode::ServerBusy);
            }
            verdict @ (Verdict::Later | Verdict::Challenge(_)) => {
                let asked = Asked { frame: frame.to_vec(), assigned, challenged: false };
                self.wait(id, Box::new(asked), verdict);
            }
            verdict => self.conclude(id, connect, client_id, verdict),
        }
    }

    /// Goes on with a client that waited for a decision.
    pub(super) fn decided(&mut self, id: PeerId, verdict: Verdict) {
        let Some(peer) = self.peers.get_mut(id.slot as usize).filter(|peer| peer.serial == id.serial) else { return };
        match &peer.phase {
            &Phase::Open { id: connection, session, .. } => self.conclude_again(id, session, connection, verdict),
            Phase::Asked(_) => {
                let Phase::Asked(asked) = std::mem::replace(&mut peer.phase, Phase::Lingering) else { return };
                self.go_on(id, asked, verdict);
            }
            Phase::New(_) | Phase::Closing { .. } | Phase::Lingering => {}
        }
    }

    /// Handles what a client says that was challenged; returns how much of it was taken.
    pub(super) fn response(&mut self, slot: u32, input: &[u8]) -> Option<usize> {
        let peer = self.peers.get_mut(slot as usize)?;
        let id = PeerId { slot, serial: peer.serial };
        match decode(&self.shared.rules(Sender::Client(ProtocolVersion::V5)), input) {
            Ok(Decoded::Packet(Packet::Auth(auth), length)) => {
                self.traffic.packets_received += 1;
                let Phase::Asked(asked) = std::mem::replace(&mut peer.phase, Phase::Lingering) else { return None };
                let verdict = self.mind.respond(id, None, &auth, self.now);
                self.go_on(id, asked, verdict);
                Some(length)
            }
            Ok(Decoded::Incomplete(size)) => {
                self.keep(slot, input, size);
                None
            }
            // Nothing else may come before CONNACK [MQTT-3.1.2-30].
            Ok(Decoded::Packet(..)) => {
                self.refuse(slot, ProtocolVersion::V5, ReasonCode::ProtocolError);
                None
            }
            Err(error) => {
                self.note_malformed(&error);
                self.refuse(slot, ProtocolVersion::V5, error.reason_code());
                None
            }
        }
    }

    /// A client that is connected authenticates itself again, or goes on with it (section 4.12.1).
    pub(super) fn authenticate_again(&mut self, slot: u32, connection: ConnectionId, auth: &Auth<'_>) {
        let Some(peer) = self.peer(slot) else { return };
        let id = PeerId { slot, serial: peer.serial };
        let Phase::Open { session, .. } = peer.phase else { return };
        let verdict = self.mind.respond(id, Some(session), auth, self.now);
        self.conclude_again(id, session, connection, verdict);
    }

    fn conclude_again(&mut self, id: PeerId, session: SessionId, connection: ConnectionId, verdict: Verdict) {
        let (reason, authentication) = match verdict {
            Verdict::Later => return,
            Verdict::Refused(reason) => return self.shard.disconnect(connection, reason, &turn!(self)),
            Verdict::Challenge(authentication) => (ReasonCode::ContinueAuthentication, Some(authentication)),
            Verdict::Admitted(admission) => {
                self.mind.proved(id, session);
                (ReasonCode::Success, admission.authentication)
            }
        };
        let Some(authentication) = authentication else { return };
        let properties = authentication.properties();
        let auth = Auth { reason_code: reason, properties: Properties::new(&properties) };
        if self.shard.send(connection, &Packet::Auth(auth)).is_err() {
            self.shard.disconnect(connection, ReasonCode::ImplementationSpecificError, &turn!(self));
        }
    }

    fn go_on(&mut self, id: PeerId, asked: Box<Asked>, verdict: Verdict) {
        if matches!(verdict, Verdict::Later | Verdict::Challenge(_)) {
            return self.wait(id, asked, verdict);
        }
        self.shared.memory.received(asked.frame.len());
        let early = self.take_partial(id.slot);
        let Ok(Decoded::Packet(Packet::Connect(connect), _)) = decode(&self.shared.rules(Sender::NewClient), &asked.frame) else {
            return self.drop_peer(id.slot);
        };
        self.conclude(id, &connect, asked.assigned.as_deref().unwrap_or(connect.client_id), verdict);
        self.feed(id.slot, &early);
        // Nothing was read meanwhile.
        self.list(id.slot);
    }

    /// Keeps a client until more is known of it.
    fn wait(&mut self, id: PeerId, mut asked: Box<Asked>, verdict: Verdict) {
        let challenge = if let Verdict::Challenge(authentication) = verdict { Some(authentication) } else { None };
        asked.challenged = challenge.is_some();
        let Some(peer) = self.peer(id.slot) else { return };
        peer.phase = Phase::Asked(asked);
        let Some(authentication) = challenge else { return };
        let properties = authentication.properties();
        let auth = Auth { reason_code: ReasonCode::ContinueAuthentication, properties: Properties::new(&properties) };
        let mut bytes = Vec::new();
        if auth.encode(ProtocolVersion::V5, &mut bytes).is_err() || !self.say(id.slot, &bytes) {
            return self.drop_peer(id.slot);
        }
        self.list(id.slot);
    }

    fn conclude(&mut self, id: PeerId, connect: &Connect<'_>, client_id: &str, verdict: Verdict) {
        let reason = match verdict {
            Verdict::Admitted(admission) => match self.let_in(id, connect, client_id, &admission) {
                Ok(()) => return,
                Err(reason) => reason,
            },
            Verdict::Refused(reason) => reason,
            Verdict::Later | Verdict::Challenge(_) => return,
        };
        let most = connect.properties.maximum_packet_size().map_or(usize::MAX, |most| most.get() as usize);
        if most < SMALLEST_REFUSAL {
            // It couldn't take the answer [MQTT-3.1.2-24].
            self.traffic.refused_clients += 1;
            return self.drop_peer(id.slot);
        }
        self.refuse(id.slot, connect.version, reason);
    }

    fn let_in(&mut self, peer: PeerId, connect: &Connect<'_>, client_id: &str, admission: &Admission) -> Result<(), ReasonCode> {
        self.seat_user(peer.slot, client_id, admission.username.as_ref())?;
        let entering = Entering { peer, connect, client_id, admission };
        let connection = self.mind.let_in(&entering, &mut self.shard, self.now)?;
        self.traffic.connects += 1;
        if self.peer_of.len() <= connection.slot() {
            self.peer_of.resize(connection.slot() + 1, u32::MAX);
        }
        self.peer_of[connection.slot()] = peer.slot;
        let session = self.shard.session(client_id).ok_or(ReasonCode::UnspecifiedError)?;
        if let Some(known) = self.peer(peer.slot) {
            known.phase = Phase::Open { id: connection, session, version: connect.version };
        }
        Ok(())
    }

    fn seat_user(&mut self, slot: u32, client_id: &str, username: Option<&Arc<str>>) -> Result<(), ReasonCode> {
        let Some(username) = username.filter(|_| self.shared.settings.limits.max_per_user.is_some()) else { return Ok(()) };
        let takes_over = self.shard.session(client_id).is_some_and(|session| self.shard.connection(session).is_some());
        let Some(peer) = self.peer(slot) else { return Ok(()) };
        if peer.transport.seat.set_user(username, takes_over) {
            return Ok(());
        }
        self.traffic.refused_user += 1;
        Err(ReasonCode::QuotaExceeded)
    }

    /// Says no to a client, where its version can, and closes behind it [MQTT-3.2.2-7].
    pub(super) fn refuse(&mut self, slot: u32, version: ProtocolVersion, reason: ReasonCode) {
        self.traffic.refused_clients += 1;
        let connack = Connack { session_present: false, reason_code: reason, properties: Properties::NONE };
        let mut bytes = Vec::new();
        // A reason that an older version can't say is none: the connection is closed without a word [MQTT-3.2.2-6].
        if connack.encode(version, &mut bytes).is_ok() && self.say(slot, &bytes) {
            self.linger(slot);
        } else {
            self.drop_peer(slot);
        }
    }

    /// Answers what should have been CONNECT.
    pub(super) fn no_connect(&mut self, slot: u32, input: &[u8], error: &DecodeError) {
        self.note_malformed(error);
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

    /// Writes to a client that the engine doesn't know; returns whether all was taken.
    fn say(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let Some(peer) = self.peer(slot) else { return false };
        // So few bytes always fit into a socket that nearly nothing was written to.
        peer.transport.write(&[IoSlice::new(bytes)]).is_ok_and(|written| written.taken == bytes.len())
    }
}
