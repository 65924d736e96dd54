//! Messages of the server's own for those who are named.
//!
//! Pushes are handed round in the order in which they came, on each loop: one to many takes several calls, and the next waits behind it.
//! Who is named gets it without a subscription, if they may receive its topic; who is away gets QoS 1 and 2 later, if the session lasts.
//! [`Event::Pushed`](super::Event::Pushed) comes when every loop has done its part and what it recorded is committed.

use std::collections::VecDeque;
use std::sync::Arc;

use midge_core::push::Audience;

use super::commit::Then;
use super::deliver::Addressed;
use super::route::Handed;
use super::{SessionId, Shard};
use crate::exchange::{Reach, ReplyTo, ToLoop, home_of_client};
use crate::hash::HashedTopic;
use crate::message::{Message, Publication, Shared};
use crate::permission::Turn;

/// Sessions that are looked at in one call.
const LOOKS: usize = 256;

/// The pushes of one loop.
#[derive(Debug, Default)]
pub(super) struct Pushing {
    queue: VecDeque<Push>,
    /// Whether they wait until it is known whose the sessions are.
    waits: bool,
}

#[derive(Debug)]
struct Push {
    message: Arc<Message>,
    audience: Arc<Audience>,
    stage: Stage,
}

/// How far a push has come.
#[derive(Debug)]
enum Stage {
    /// No loop knows of it.
    Begin { token: u64 },
    /// It is handed round among the sessions here.
    Here { reply: ReplyTo, left: Left, after: u64, reach: Reach },
}

/// Which sessions are still to be looked at.
#[derive(Debug)]
enum Left {
    /// Those that are yet to be found.
    Unknown,
    /// All from this one on.
    From(u32),
    /// These.
    Listed(VecDeque<SessionId>),
}

impl Pushing {
    /// Returns whether there is something to go on with.
    pub(super) fn is_due(&self) -> bool {
        !self.queue.is_empty() && !self.waits
    }
}

impl Shard {
    /// Passes a message of the server's own on to an audience; [`Event::Pushed`](super::Event::Pushed) says under `token` what became of it.
    ///
    /// Nobody is asked whether it may be published. To subscribers it is an ordinary message; others get it without RETAIN.
    /// To be called on one loop of the server: pushes of one loop keep their order.
    pub fn push(&mut self, token: u64, publication: Publication<'_>, audience: Audience, turn: &Turn<'_>) {
        let message = publication.to_message();
        message.charge(&mut self.memory);
        self.line_up(message, Arc::new(audience), Stage::Begin { token }, turn);
    }

    /// Takes a push from the loop that it began on.
    pub(super) fn pushed_here(&mut self, message: Arc<Message>, audience: Arc<Audience>, reply: ReplyTo, turn: &Turn<'_>) {
        self.line_up(message, audience, Stage::here(reply), turn);
    }

    /// Goes on with pushes that are still being handed round.
    pub(super) fn go_on_pushing(&mut self, turn: &Turn<'_>) {
        if self.pushing.queue.is_empty() {
            return;
        }
        self.pushing.waits = !turn.permissions.knows_sessions();
        let mut looks = LOOKS;
        while looks > 0 && !self.pushing.waits {
            let Some(push) = self.pushing.queue.pop_front() else { return };
            looks -= 1;
            let rest = match push.stage {
                Stage::Begin { token } => self.begin_push(&push, token, turn),
                Stage::Here { .. } => self.push_on(push, &mut looks, turn),
            };
            if let Some(rest) = rest {
                self.pushing.queue.push_front(rest);
            }
        }
    }

    fn line_up(&mut self, message: Arc<Message>, audience: Arc<Audience>, stage: Stage, turn: &Turn<'_>) {
        let first = self.pushing.queue.is_empty();
        self.pushing.queue.push_back(Push { message, audience, stage });
        if first {
            self.go_on_pushing(turn);
        }
    }

    /// Tells the loops that have a part in a push; returns this one's own.
    fn begin_push(&mut self, push: &Push, token: u64, turn: &Turn<'_>) -> Option<Push> {
        let then = Then::Pushed(token, Reach::default());
        let loops = self.place.loops;
        let concerned = match &*push.audience {
            Audience::Subscribers => {
                let view = push.message.view();
                let routed = self.route(view, None, true, then, turn);
                turn.permissions.pushed(view.topic, view.payload.len(), routed.deliveries);
                return None;
            }
            Audience::Client(id) => {
                let home = home_of_client(&self.key, id.as_str(), loops);
                home..home + 1
            }
            Audience::User(_) | Audience::Group(_) | Audience::All => 0..loops,
        };
        let mut awaiting = self.awaiting(true);
        let replies: Vec<_> = concerned.filter_map(|event_loop| Some((event_loop, awaiting.ask()?))).collect();
        self.settle(awaiting, 0, then, turn);
        let mut own = None;
        for (event_loop, reply) in replies {
            let (message, audience) = (Arc::clone(&push.message), Arc::clone(&push.audience));
            if event_loop == self.place.event_loop {
                own = Some(Push { message, audience, stage: Stage::here(reply) });
            } else {
                self.tell(event_loop, ToLoop::Push { message, audience, reply }, turn);
            }
        }
        own
    }

    /// Hands a push to the next sessions here; returns what is left of it.
    fn push_on(&mut self, push: Push, looks: &mut usize, turn: &Turn<'_>) -> Option<Push> {
        let Stage::Here { reply, left, mut after, mut reach } = push.stage else { return None };
        if *push.audience == Audience::Subscribers {
            self.route_from(&push.message, Some(reply), turn);
            return None;
        }
        let mut left = match left {
            Left::Unknown => self.find_audience(&push.audience, turn),
            known => known,
        };
        let mut found = Vec::new();
        while *looks > 0
            && let Some(session) = self.next_of(&mut left)
        {
            *looks -= 1;
            if self.is_meant(session, &push.audience, turn) {
                found.push(session);
            }
        }
        if !found.is_empty() {
            let handed = self.hand_to(&push.message, &found, turn);
            after = after.max(handed.after);
            reach.add(handed.reach);
        }
        if !left.is_empty(self.sessions.end()) {
            return Some(Push { stage: Stage::Here { reply, left, after, reach }, ..push });
        }
        let nobody = self.awaiting(false);
        self.settle(nobody, after, Then::Reply(reply, reach), turn);
        None
    }

    fn find_audience(&self, audience: &Audience, turn: &Turn<'_>) -> Left {
        match audience {
            Audience::Client(id) => Left::Listed(self.session(id.as_str()).into_iter().collect()),
            Audience::User(user) => match turn.permissions.sessions_of(user) {
                Some(sessions) => Left::Listed(sessions.into()),
                None => Left::From(0),
            },
            Audience::Subscribers | Audience::Group(_) | Audience::All => Left::From(0),
        }
    }

    /// Returns the next session to be looked at.
    fn next_of(&self, left: &mut Left) -> Option<u32> {
        match left {
            Left::Unknown => None,
            Left::From(next) => (*next < self.sessions.end()).then(|| {
                *next += 1;
                *next - 1
            }),
            Left::Listed(sessions) => sessions.pop_front().map(|session| session.0),
        }
    }

    /// Returns whether a session, if there is one in the slot, belongs to an audience.
    fn is_meant(&self, session: u32, audience: &Audience, turn: &Turn<'_>) -> bool {
        self.client(session).is_some_and(|client| match audience {
            Audience::Subscribers => false,
            Audience::User(user) => client.username == Some(user.as_str()),
            Audience::Client(id) => client.client_id == id.as_str(),
            Audience::Group(group) => turn.permissions.is_member(&client, group),
            Audience::All => true,
        })
    }

    /// Delivers to sessions, subscribed or not.
    ///
    /// What is recorded refers to a message of its own: one of an earlier call may be gone with all its targets.
    fn hand_to(&mut self, message: &Arc<Message>, sessions: &[u32], turn: &Turn<'_>) -> Handed {
        let shared = Shared::of(message);
        let key = self.key.clone();
        let topic = HashedTopic::new(&key, shared.view().topic);
        let qos = shared.view().qos.min(self.settings.max_qos);
        let mut routing = self.routing(&shared, &topic, false, turn);
        routing.forms.set_single(sessions.len() == 1);
        for &session in sessions {
            let to = Addressed { session, qos, retain: false, identifiers: &[], shared: None, patient: false };
            self.deliver(&to, &mut routing, turn);
        }
        self.finish(routing)
    }
}

impl Stage {
    fn here(reply: ReplyTo) -> Self {
        Self::Here { reply, left: Left::Unknown, after: 0, reach: Reach::default() }
    }
}

impl Left {
    fn is_empty(&self, end: u32) -> bool {
        match self {
            Self::Unknown => false,
            Self::From(next) => *next >= end,
            Self::Listed(sessions) => sessions.is_empty(),
        }
    }
}
