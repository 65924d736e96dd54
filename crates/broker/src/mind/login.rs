//! Lets clients in: at once, or after store and hash.
//!
//! What changed between a decision and the client's entry counts as well: it is asked for once more when the client is entered.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use midge_core::gate::{Admission, Asked, ClientPolicy, Hello as Claim, Refusal, Stranger};
use midge_core::name::{ClientId, Shown, Username};
use midge_core::policy::{Latest, Policy};
use midge_core::time::Now;
use midge_engine::permission::Turn;
use midge_engine::shard::{Connecting, ConnectionId, SessionId, Shard};
use midge_mqtt::{Connect, ReasonCode};
use midge_store::service;

use super::counting::Counting;
use super::follow::Followed;
use super::hello::Hello;
use super::inbox::{Answer, Bell, Inbox};
use super::lines::Lines;
use super::restored::Restored;
use super::scram::{Exchange, Step};
use super::table::{Client, Entry, Guest, Table};
use super::verdict::{Admitted, Verdict, of_end, of_login, properties};
use super::{Anonymity, Door, Shared, permissions};

/// Who is let in by one event loop and what they may.
///
/// `K` is the loop's name for a socket. See [`super`] for when to call what.
pub struct LoopMind<K> {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Inbox<K>,
    /// Who waits for an answer, or has to give one.
    pub(super) waiting: HashMap<K, Waiting>,
    /// Answers that have not been taken.
    pub(super) ready: VecDeque<(K, Verdict)>,
    pub(super) table: Table,
    /// Who is being let in at this moment.
    pub(super) arriving: Option<Client>,
    pub(super) latest: RefCell<Latest>,
    /// Filters that clients have made their own.
    pub(super) claims: RefCell<Vec<(SessionId, Box<str>)>>,
    pub(super) followed: Followed,
    pub(super) restored: Restored,
    pub(super) counting: Option<Counting>,
    /// What those may who need no username and have no rules.
    pub(super) open_house: Policy,
    pub(super) refusal_lines: Lines,
    pub(super) denial_lines: Lines,
    pub(super) end_lines: Lines,
}

/// Somebody who is neither let in nor refused yet.
pub(super) enum Waiting {
    /// For its account, or its password's hash.
    Login(Box<Asker>),
    /// In an exchange.
    Exchange(Box<Exchange>, Step),
}

/// Somebody whose login is being decided.
pub(super) struct Asker {
    door: usize,
    user: Option<Username>,
    client: ClientId,
    address: Option<IpAddr>,
}

/// Who is refused, for the log and the counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) user: Option<&'a Username>,
    pub(super) client: &'a str,
    pub(super) address: Option<IpAddr>,
}

impl<K> std::fmt::Debug for LoopMind<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoopMind").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    pub(super) fn new(shared: Arc<Shared>, bell: Arc<Bell>, publishes: bool) -> Self {
        Self {
            inbox: Inbox::new(bell),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            table: Table::default(),
            arriving: None,
            latest: RefCell::default(),
            claims: RefCell::default(),
            followed: Followed::default(),
            restored: Restored::default(),
            counting: shared.observers.hot.clone().map(|topics| Counting::new(topics, publishes)),
            open_house: permissions::open_house(),
            refusal_lines: Lines::default(),
            denial_lines: Lines::default(),
            end_lines: Lines::default(),
            shared,
        }
    }

    /// Decides whether a client is let in; `key` names it from here on.
    pub fn connect(&mut self, key: K, hello: &Hello<'_>, now: Now) -> Verdict {
        let door = self.shared.doors.load().get(hello.door).copied().unwrap_or_default();
        if let Some(method) = hello.connect.properties.authentication_method() {
            return self.begin_exchange(key, hello, method, now);
        }
        let claim = match hello.claim(door.identity, self.stranger_at(&door)) {
            Ok(claim) => claim,
            Err(refusal) => {
                let who = Who { user: None, client: hello.client_id, address: hello.address };
                return self.refuse_login(&who, &refusal, now);
            }
        };
        match self.shared.gate.admit(claim.clone(), Asked::Memory, now) {
            Admission::Admitted(policy) => self.let_through(policy, hello.door, None, now),
            Admission::Refused(refusal) => self.tell_refusal(&who(&claim), &refusal, now),
            later => {
                let (user, client, address) = (claim.user.clone(), claim.client.clone(), claim.address);
                self.waiting.insert(key, Waiting::Login(Box::new(Asker { door: hello.door, user, client, address })));
                let done = self.inbox.reply(move |verdict| Answer::Login(key, verdict));
                self.shared.service.go_on(later, claim, done);
                Verdict::Later
            }
        }
    }

    /// Forgets a client that waits no more, whatever its last verdict was.
    pub fn forget(&mut self, key: K) {
        self.waiting.remove(&key);
    }

    /// Returns the next answer to somebody who waited; to be asked after [`Self::work`] until there is none.
    pub fn next_answer(&mut self) -> Option<(K, Verdict)> {
        self.ready.pop_front()
    }

    /// Begins the connection of a client that was admitted: has the engine let it in, enters it, and makes its automatic
    /// subscriptions, of which it misses nothing.
    ///
    /// # Errors
    /// The reason code for the CONNACK that refuses it: what the engine says, or what changed since it was admitted.
    pub fn let_in(
        &mut self,
        shard: &mut Shard,
        connect: &Connect<'_>,
        admitted: Admitted,
        now: Now,
    ) -> Result<ConnectionId, ReasonCode> {
        self.settle_claims();
        if let Some(refusal) = self.leaves(&admitted.policy, admitted.guest, now) {
            let policy = &admitted.policy;
            let who = Who { user: policy.user(), client: policy.client().as_str(), address: policy.address() };
            self.note_refusal(&who, &refusal, now);
            return Err(of_login(&refusal));
        }
        let client_id = admitted.policy.client().clone();
        let username = admitted.policy.user().cloned();
        let Admitted { policy, guest, data } = admitted;
        let properties = properties(data.as_deref());
        let connecting = Connecting {
            connect,
            client_id: client_id.as_str(),
            username: username.as_ref().map(Username::as_str),
            properties: &properties,
        };
        self.arriving = Some(Client { policy, guest, exchanged: data.is_some() });
        let connected = shard.connect(&connecting, &Turn { now, permissions: &*self });
        let client = self.arriving.take();
        let connection = connected?;
        if let (Some(client), Some(session)) = (client, shard.session(client_id.as_str())) {
            self.enter(session, client, Some(connection));
            self.reconcile(session, shard, now);
        }
        Ok(connection)
    }

    /// Learns that a session is over; `client_id` is whose it was, as the engine's event says.
    pub fn ended(&mut self, session: SessionId, client_id: &str, shard: &Shard) {
        let same = self.table.get(session).is_some_and(|entry| entry.client.policy.client().as_str() == client_id);
        // The same client may have begun another under the same number, before the end of the first was told.
        if same && shard.session(client_id) != Some(session) {
            self.table.remove(session);
        }
    }

    /// Enters a session; what lists had subscribed it to stays known.
    pub(super) fn enter(&mut self, session: SessionId, client: Client, connection: Option<ConnectionId>) {
        if let Some(end) = client.policy.expires_unix() {
            self.followed.expires(end, session);
        }
        if client.guest != Guest::No {
            self.followed.guest_came();
        }
        let id: ClientId = client.policy.client().clone();
        let before = self.table.enter(Entry::new(session, client, connection));
        let before = before.filter(|before| *before.client.policy.client() == id);
        if let (Some(before), Some(entry)) = (before, self.table.get_mut(session)) {
            entry.automatic = before.automatic;
            entry.listed = before.listed;
        }
    }

    /// Takes the answer to a login.
    pub(super) fn login_answered(&mut self, key: K, verdict: service::Verdict, now: Now) {
        // Whoever has gone meanwhile is none of our business.
        let Some(Waiting::Login(asker)) = self.waiting.remove(&key) else { return };
        let who = Who { user: asker.user.as_ref(), client: asker.client.as_str(), address: asker.address };
        let verdict = match verdict {
            Ok(policy) => self.let_through(policy, asker.door, None, now),
            Err(refusal) => self.tell_refusal(&who, &refusal, now),
        };
        self.ready.push_back((key, verdict));
    }

    /// Returns what becomes of a name that no user has: as long as nobody has one, it is no more than none.
    fn stranger_at(&self, door: &Door) -> Stranger {
        let is_open = matches!(door.anonymous, Anonymity::WhileNoUsers | Anonymity::Open) && self.shared.house.is_open();
        if is_open { Stranger::Nameless } else { Stranger::Refused }
    }

    /// Returns the verdict on somebody whom the gate lets in.
    pub(super) fn let_through(&self, policy: ClientPolicy, door: usize, data: Option<Box<[u8]>>, now: Now) -> Verdict {
        let anonymity = self.shared.doors.load().get(door).map(|door| door.anonymous).unwrap_or_default();
        let guest = match (policy.user(), anonymity) {
            (Some(_), _) | (None, Anonymity::Allow) => Guest::No,
            (None, Anonymity::Open) => Guest::Open,
            (None, Anonymity::WhileNoUsers) if self.shared.house.is_open() => Guest::WhileNoUsers,
            (None, _) => {
                let who = Who { user: None, client: policy.client().as_str(), address: policy.address() };
                return self.refuse_login(&who, &Refusal::Anonymous, now);
            }
        };
        Verdict::Admitted(Admitted { policy, guest, data })
    }

    /// Returns why a client has to leave, if it has to.
    pub(super) fn leaves(&self, policy: &ClientPolicy, guest: Guest, now: Now) -> Option<Refusal> {
        let shown_out = guest == Guest::WhileNoUsers && !self.shared.house.is_open();
        policy.revoked(&self.shared.gate, now).or_else(|| shown_out.then_some(Refusal::Anonymous))
    }

    /// Refuses a login for a reason that the gate doesn't know of.
    pub(super) fn refuse_login(&self, who: &Who<'_>, refusal: &Refusal, now: Now) -> Verdict {
        self.note_refusal(who, refusal, now);
        Verdict::Refused(of_login(refusal))
    }

    /// Refuses a login as the gate did, which has counted it.
    pub(super) fn tell_refusal(&self, who: &Who<'_>, refusal: &Refusal, now: Now) -> Verdict {
        self.log_refusal(who, refusal, now);
        self.shared.service.nudge();
        Verdict::Refused(of_login(refusal))
    }

    /// Refuses a client that was let in before, and wants to prove itself again.
    pub(super) fn refuse_again(&self, who: &Who<'_>, refusal: &Refusal, now: Now) -> Verdict {
        self.log_refusal(who, refusal, now);
        self.shared.service.nudge();
        Verdict::Refused(of_end(refusal))
    }

    fn note_refusal(&self, who: &Who<'_>, refusal: &Refusal, now: Now) {
        let client = who.client.parse::<ClientId>().ok();
        self.shared.gate.denials().login(who.user, client.as_ref(), who.address, refusal, now);
        self.log_refusal(who, refusal, now);
    }

    pub(super) fn log_refusal(&self, who: &Who<'_>, refusal: &Refusal, now: Now) {
        if self.refusal_lines.may(now.monotonic) {
            let user = who.user.map_or("-", Username::as_str);
            let address = who.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            log::warn!("refused user \"{}\" client \"{}\" from {address}: {refusal}", Shown(user), Shown(who.client));
        }
    }
}

fn who(claim: &Claim) -> Who<'_> {
    Who { user: claim.user.as_ref(), client: claim.client.as_str(), address: claim.address }
}
