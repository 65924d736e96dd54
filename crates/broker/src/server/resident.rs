//! The broker's own mind, as the event loops ask it.

use std::sync::Arc;
use std::time::Duration;

use midge_core::scram::MECHANISM;
use midge_core::time::Now;
use midge_engine::permission::Permissions;
use midge_engine::record::State;
use midge_engine::shard::{ConnectionId, SessionId, Shard};
use midge_mqtt::{Auth, ReasonCode};
use midge_store::presence::{Attendance, Stay};

use super::door::{Admission, Authentication, Entering, Hello, Mind, Verdict};
use super::peer::PeerId;
use crate::mind::{self, Admitted, LoopMind};

/// Decides by the gate of [`crate::mind::Mind`].
pub struct Resident {
    mind: LoopMind<PeerId>,
    /// Who was admitted just now.
    admitted: Option<(PeerId, Admitted)>,
    attendance: Option<Attendance>,
    /// What is told of as online, by the peer's slot.
    present: Vec<Option<Stay>>,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident").field("mind", &self.mind).finish_non_exhaustive()
    }
}

impl Resident {
    /// Returns the mind of one event loop; `handle` and the loop's number are what it is woken by.
    #[must_use]
    pub fn new(mind: &mind::Mind, handle: &super::Handle, event_loop: u8) -> Self {
        let handle = handle.clone();
        let attendance = mind.attendance().cloned();
        let mind = mind.loop_mind(event_loop == 0, move || handle.wake(event_loop));
        Self { mind, admitted: None, attendance, present: Vec::new() }
    }

    fn verdict(&mut self, peer: PeerId, verdict: mind::Verdict) -> Verdict {
        let authentication = |data: &[u8]| Authentication { method: MECHANISM.into(), data: Some(data.into()) };
        match verdict {
            mind::Verdict::Admitted(admitted) => {
                let (username, authentication) = (admitted.username().map(Arc::from), admitted.data().map(authentication));
                self.admitted = Some((peer, admitted));
                Verdict::Admitted(Admission { username, authentication })
            }
            mind::Verdict::Refused(reason) => Verdict::Refused(reason),
            mind::Verdict::Later => Verdict::Later,
            mind::Verdict::Challenge(data) => Verdict::Challenge(authentication(&data)),
        }
    }

    fn take_admitted(&mut self, peer: PeerId) -> Option<Admitted> {
        self.admitted.take().filter(|(of, _)| *of == peer).map(|(_, admitted)| admitted)
    }
}

impl Mind for Resident {
    fn permissions(&self) -> &dyn Permissions {
        &self.mind
    }

    fn admit(&mut self, hello: &Hello<'_>, now: Now) -> Verdict {
        let Hello { peer, connect, client_id, origin } = *hello;
        let address = origin.address.map(|address| address.ip());
        let certificate = origin.certificate.as_deref();
        let verdict =
            self.mind.connect(peer, &mind::Hello { connect, client_id, address, certificate, door: origin.listener }, now);
        self.verdict(peer, verdict)
    }

    fn respond(&mut self, peer: PeerId, session: Option<SessionId>, auth: &Auth<'_>, now: Now) -> Verdict {
        let verdict = match session {
            Some(session) if auth.reason_code == ReasonCode::ReAuthenticate => self.mind.reauthenticate(peer, session, auth, now),
            _ => self.mind.auth(peer, auth, now),
        };
        self.verdict(peer, verdict)
    }

    fn let_in(&mut self, entering: &Entering<'_>, shard: &mut Shard, now: Now) -> Result<ConnectionId, ReasonCode> {
        let admitted = self.take_admitted(entering.peer).ok_or(ReasonCode::UnspecifiedError)?;
        let who = self.attendance.as_ref().map(|_| admitted.who());
        let connection = self.mind.let_in(shard, entering.connect, admitted, now)?;
        if let (Some(attendance), Some(who)) = (&self.attendance, who) {
            let stay = attendance.online(who, attendance.stamp());
            put(&mut self.present, entering.peer.slot as usize, stay);
        }
        Ok(connection)
    }

    fn proved(&mut self, peer: PeerId, session: SessionId) {
        if let Some(admitted) = self.take_admitted(peer) {
            self.mind.proved(session, admitted);
        }
    }

    fn gone(&mut self, peer: PeerId) {
        self.mind.forget(peer);
        let stay = self.present.get_mut(peer.slot as usize).and_then(Option::take);
        if let (Some(attendance), Some(stay)) = (&self.attendance, stay) {
            attendance.left(stay);
        }
    }

    fn session_ended(&mut self, session: SessionId, client_id: &str, shard: &Shard) {
        self.mind.ended(session, client_id, shard);
    }

    fn restored(&mut self, state: &State, shard: &Shard) {
        self.mind.restored(state, shard);
    }

    fn work(&mut self, shard: &mut Shard, now: Now) {
        self.mind.work(shard, now);
    }

    fn next_answer(&mut self) -> Option<(PeerId, Verdict)> {
        let (peer, verdict) = self.mind.next_answer()?;
        Some((peer, self.verdict(peer, verdict)))
    }

    fn next_deadline(&self, now: Now) -> Option<Duration> {
        self.mind.next_deadline(now)
    }
}

/// Enters a stay at its slot; room grows by a quarter, as there is one for each client.
fn put(present: &mut Vec<Option<Stay>>, slot: usize, stay: Stay) {
    if let Some(missing) = (slot + 1).checked_sub(present.len()) {
        if present.capacity() <= slot {
            present.reserve_exact(missing + present.len() / 4);
        }
        present.resize(slot + 1, None);
    }
    present[slot] = Some(stay);
}
