//! The broker's clients, by the address it knows them by.
//!
//! Addresses are reused at once, and not every client's end is told, so an entry counts only for the same identifier and username.
//! A client that has gone stays for a while: its will is checked after it, and a persistent session is delivered to for days.

pub(super) mod address;
mod session;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use address::ByAddress;
use midge_core::access::Access;
use midge_core::autosub::Subscription;
use midge_core::gate::ClientPolicy;
use midge_core::policy::{Decision, Latest, Policy};
use midge_core::topic::TopicName;
use midge_store::presence::{Attendance, unix_ms};
pub(super) use session::Session;

use super::presence::who;
use crate::host::{Client, SessionStart};

/// How long a client that can't come back stays known, for its will.
const TRANSIENT: Duration = Duration::from_secs(60);
/// How many who are asked about without being connected are remembered.
const MAX_STRANGERS: usize = 10_000;

/// A session at its address, and what spares a delivery from looking further: all in one cache line.
struct Place {
    session: Box<Session>,
    /// The era in which the client's names were read and are the session's, and `policy` is what the client may do.
    good_in: u64,
    policy: Option<Policy>,
}

/// A session that was found for a client.
pub(super) struct Found<'a> {
    pub(super) session: &'a mut Session,
    /// What it may do, where that is known without looking at its account, and the latest decisions.
    at_hand: Option<(&'a Policy, &'a mut Latest)>,
}

impl Found<'_> {
    /// Decides whether the client may do that, as its policy is now.
    pub(super) fn may(&mut self, access: Access, topic: TopicName<'_>) -> Decision {
        match &mut self.at_hand {
            Some((policy, latest)) => latest.decide(policy, access, topic, Some(&self.session.policy.who())),
            None => self.session.policy.may(access, topic),
        }
    }
}

/// All clients.
pub(super) struct Sessions {
    by_address: ByAddress<Place>,
    /// The latest decisions.
    latest: Latest,
    /// A number that grows whenever what many places rely on may have changed: each second, and with any account.
    era: u64,
    /// The directory's generation in this era.
    generation: u64,
    /// The latest address of each identifier, by a keyed hash of it; whoever looks there compares the identifier.
    by_id: HashMap<u64, usize>,
    ids: RandomState,
    /// The addresses of each username, by a keyed hash of it; kept from the first time that somebody asks for them.
    by_user: Option<HashMap<u64, Vec<usize>>>,
    /// How many are connected, and how many ever came.
    connected: usize,
    entered: u64,
    strangers: ByAddress<Box<Session>>,
    strangers_since: Duration,
    has_expiring: bool,
    /// Whether the broker tells of each client's end.
    ends_are_told: bool,
    second: u64,
    /// Who has gone and can't come back, in order.
    leaving: VecDeque<(Duration, usize)>,
    /// Who has gone and may come back, in order; some of them have.
    returning: VecDeque<(Duration, usize)>,
    offline_bound: usize,
    /// Whose session is to outlive the disconnection that is under way.
    spared: Option<usize>,
    /// Who hears of comings and goings.
    attendance: Option<Attendance>,
    /// Who is being disconnected by us.
    kicked: Option<usize>,
    /// Automatic subscriptions of sessions that are here no more, by the address that these had; kept where anybody wants them.
    left: Option<Vec<(usize, Vec<Subscription>)>>,
}

impl Sessions {
    pub(super) fn new(offline_bound: usize, ends_are_told: bool, attendance: Option<Attendance>) -> Self {
        Self {
            attendance,
            by_address: ByAddress::default(),
            latest: Latest::default(),
            era: 1,
            generation: 0,
            by_id: HashMap::new(),
            ids: RandomState::new(),
            by_user: None,
            connected: 0,
            entered: 0,
            strangers: ByAddress::default(),
            strangers_since: Duration::ZERO,
            has_expiring: false,
            ends_are_told,
            second: 0,
            leaving: VecDeque::new(),
            returning: VecDeque::new(),
            offline_bound,
            spared: None,
            kicked: None,
            left: None,
        }
    }

    /// Has the automatic subscriptions of sessions that end kept for [`Self::take_left`].
    pub(super) fn keep_left(&mut self) {
        self.left = Some(Vec::new());
    }

    /// Returns the automatic subscriptions of sessions that have ended since the last call, with their addresses.
    pub(super) fn take_left(&mut self) -> Vec<(usize, Vec<Subscription>)> {
        self.left.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Says who is being disconnected by us; none when it is over.
    pub(super) fn kick(&mut self, address: Option<usize>) {
        self.kicked = address;
    }

    /// Returns whether the client at `address` is being disconnected, when the broker asks about the subscriptions it has.
    pub(super) fn is_kicked(&self, address: usize) -> bool {
        self.kicked == Some(address)
    }

    /// Says whose session is to outlive the disconnection that begins now; none when it is over.
    pub(super) fn spare(&mut self, address: Option<usize>) {
        self.spared = address;
    }

    /// Returns whether the session at `address` is to outlive its disconnection, which is under way.
    pub(super) fn spares(&self, address: usize) -> bool {
        self.spared == Some(address)
    }

    /// Returns the session at `address`, if it is of this identifier and username.
    pub(super) fn at(&mut self, address: usize, id: &[u8], user: Option<&[u8]>) -> Option<&mut Session> {
        self.by_address.get_mut(&address).map(|place| place.session.as_mut()).filter(|session| session.is(id, user))
    }

    /// Returns what rules that name nobody say of that client, if what is at hand tells: its session's own memory, cold again by
    /// the next message, isn't looked at.
    ///
    /// `generation` is the directory's, read just before; the topic is looked at where the latest decision doesn't answer.
    #[inline]
    pub(super) fn decide_at_hand(&mut self, address: usize, generation: u64, (access, topic): (Access, &[u8])) -> Option<Decision> {
        self.see(generation);
        let place = self.by_address.get(&address).filter(|place| place.good_in == self.era)?;
        let policy = place.policy.as_ref()?;
        // A message is asked about by who publishes it and once for each who receives it: most of these are answered here.
        if let Some(decision) = self.latest.recall(policy, access, topic) {
            return Some(decision);
        }
        let name = TopicName::new(std::str::from_utf8(topic).ok()?).ok()?;
        Some(self.latest.decide(policy, access, name, None)).filter(|decision| !decision.personal)
    }

    /// Returns the session of a client: at its address, or else the one that its identifier and username have elsewhere.
    ///
    /// The names are read once a second per client. Between, it is enough that it is at its address: the end of a connected
    /// client is told before its memory is given to another, and whoever turns up there is noted by [`Self::arrive`].
    pub(super) fn find(&mut self, client: Client<'_>, generation: u64) -> Option<Found<'_>> {
        self.see(generation);
        let (address, era) = (client.handle(), self.era);
        let here = self.by_address.get_mut(&address).is_some_and(|place| {
            if place.good_in == era {
                return true;
            }
            let same = client.id().is_some_and(|id| place.session.is(id, client.username()));
            if same && self.ends_are_told && place.session.is_plain() {
                place.policy = Some(place.session.policy.account().policy().clone());
                place.good_in = era;
            }
            same
        });
        if !here {
            let session = self.elsewhere(address, client.id()?, client.username())?;
            return Some(Found { session, at_hand: None });
        }
        let place = self.by_address.get_mut(&address)?;
        let policy = place.policy.as_ref().filter(|_| place.good_in == era);
        Some(Found { session: &mut place.session, at_hand: policy.map(|policy| (policy, &mut self.latest)) })
    }

    /// Begins a new era where an account has changed since the last question.
    fn see(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.era += 1;
        }
    }

    /// Notes that a client of this identifier turns up at `address`: one of another identifier that was there has gone, told or
    /// not, and the names of one of the same are read at the next question.
    pub(super) fn arrive(&mut self, address: usize, id: &[u8], now: Duration) {
        let Some(place) = self.by_address.get_mut(&address) else { return };
        place.good_in = 0;
        if place.session.is_connected() && place.session.policy.client().as_str().as_bytes() != id {
            place.session.departed = Some(now);
            place.session.transient = true;
            self.connected -= 1;
            tell_end(self.attendance.as_ref(), &place.session);
            self.leaving.push_back((now, address));
        }
    }

    #[cold]
    fn elsewhere(&mut self, address: usize, id: &[u8], user: Option<&[u8]>) -> Option<&mut Session> {
        if self.strangers.get(&address).is_some_and(|session| session.is(id, user)) {
            return self.strangers.get_mut(&address).map(Box::as_mut);
        }
        self.named(id, user)
    }

    /// Returns the session of this identifier and username, wherever it is.
    fn named(&mut self, id: &[u8], user: Option<&[u8]>) -> Option<&mut Session> {
        let address = self.address_of(id)?;
        self.at(address, id, user)
    }

    /// Returns the address of the connected client of this identifier.
    pub(super) fn named_address(&self, id: &str) -> Option<usize> {
        let address = self.address_of(id.as_bytes())?;
        self.session_at(address).filter(|session| session.is_connected()).map(|_| address)
    }

    /// Returns whether a connected client of another identifier is at `address`.
    pub(super) fn is_taken_by_another(&self, address: usize, id: &str) -> bool {
        self.session_at(address).is_some_and(|session| session.is_connected() && session.policy.client().as_str() != id)
    }

    /// Takes in a client that was let in; an earlier one at its address, or a departed one of its identifier, is forgotten.
    pub(super) fn enter(&mut self, address: usize, policy: ClientPolicy, start: SessionStart) {
        let earlier = self.address_of(policy.client().as_str().as_bytes());
        // The same user's persistent session goes on, and its subscriptions with it; so does that of a client that proves itself again.
        let goes_on = |(at, session): &(usize, &Session)| {
            let same = *at == address && session.is_connected();
            (same || start == SessionStart::Resumed) && session.policy.user() == policy.user()
        };
        let before = earlier.and_then(|earlier| Some((earlier, self.session_at(earlier)?)));
        let filters = before.filter(goes_on).and_then(|(_, session)| session.filters.clone());
        // Another user who resumes the session has them in the broker too, until they are taken away.
        let made = before
            .filter(|(at, session)| start == SessionStart::Resumed || (*at == address && session.is_connected()))
            .and_then(|(_, session)| session.made.clone());
        let before = self.take_out(address);
        let goes_on = |before: &&Session| before.is_connected() && who(&before.policy) == who(&policy);
        let since = before.as_deref().filter(goes_on).map_or_else(unix_ms, |before| before.since);
        if let Some(before) = before.filter(|before| before.is_connected() && !goes_on(&before.as_ref())) {
            tell_end(self.attendance.as_ref(), &before);
        }
        if let Some(attendance) = &self.attendance {
            attendance.online(who(&policy), since);
        }
        if let Some(earlier) = earlier.filter(|earlier| self.session_at(*earlier).is_some_and(|session| !session.is_connected())) {
            self.remove(earlier);
        }
        self.has_expiring |= policy.expires_unix().is_some();
        self.by_id.insert(self.ids.hash_one(policy.client().as_str().as_bytes()), address);
        if let (Some(by_user), Some(user)) = (&mut self.by_user, policy.user()) {
            by_user.entry(self.ids.hash_one(user.as_str())).or_default().push(address);
        }
        let mut session = Session::new(policy, filters, since);
        session.made = made;
        self.by_address.insert(address, Place { session, good_in: 0, policy: None });
        self.connected += 1;
        self.entered += 1;
    }

    /// Remembers for a while who is asked about without being connected: a session from before the start, the author of a
    /// retained message. Its address may be anything, and takes nothing from a client that is.
    pub(super) fn remember_stranger(&mut self, address: usize, policy: ClientPolicy) {
        if self.strangers.len() >= MAX_STRANGERS {
            self.strangers.clear();
        }
        self.strangers.insert(address, Session::new(policy, None, 0));
    }

    /// Returns whether some client's login ends by itself.
    pub(super) fn has_expiring(&self) -> bool {
        self.has_expiring
    }

    /// Notes that the client at `address` has gone.
    pub(super) fn depart(&mut self, address: usize, id: &[u8], transient: bool, now: Duration) {
        let Some(place) = self.by_address.get_mut(&address) else { return };
        let session = &mut place.session;
        if session.policy.client().as_str().as_bytes() != id || session.departed.is_some() {
            return;
        }
        session.departed = Some(now);
        session.transient = transient;
        self.connected -= 1;
        tell_end(self.attendance.as_ref(), session);
        place.good_in = 0;
        if transient { &mut self.leaving } else { &mut self.returning }.push_back((now, address));
    }

    /// Forgets the client at `address`.
    pub(super) fn remove(&mut self, address: usize) {
        if let Some(session) = self.take_out(address).filter(|session| session.is_connected()) {
            tell_end(self.attendance.as_ref(), &session);
        }
    }

    /// Takes the client at `address` out, and tells nobody of its end.
    fn take_out(&mut self, address: usize) -> Option<Box<Session>> {
        let Place { mut session, .. } = self.by_address.remove(&address)?;
        self.connected -= usize::from(session.is_connected());
        if let (Some(left), Some(made)) = (&mut self.left, session.made.take()) {
            left.push((address, *made));
        }
        let id = self.ids.hash_one(session.policy.client().as_str().as_bytes());
        if self.by_id.get(&id) == Some(&address) {
            self.by_id.remove(&id);
        }
        if let (Some(by_user), Some(user)) = (&mut self.by_user, session.policy.user()) {
            let hash = self.ids.hash_one(user.as_str());
            let left = by_user.get_mut(&hash).map(|addresses| {
                addresses.retain(|known| *known != address);
                addresses.len()
            });
            if left == Some(0) {
                by_user.remove(&hash);
            }
        }
        Some(session)
    }

    /// Returns how many clients are connected, and how many have come since the start.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.connected, self.entered)
    }

    /// Returns the addresses of a user's clients, among those of others whose name has the same hash.
    pub(super) fn of_user(&mut self, user: &str) -> Vec<usize> {
        let by_user = self.by_user.get_or_insert_with(|| {
            let mut by_user: HashMap<u64, Vec<usize>> = HashMap::new();
            for (address, place) in &self.by_address {
                if let Some(user) = place.session.policy.user() {
                    by_user.entry(self.ids.hash_one(user.as_str())).or_default().push(*address);
                }
            }
            by_user
        });
        by_user.get(&self.ids.hash_one(user)).cloned().unwrap_or_default()
    }

    /// Returns the address of the client of this identifier, connected or not.
    pub(super) fn of_client(&self, id: &str) -> Option<usize> {
        self.address_of(id.as_bytes())
    }

    /// Returns the addresses of all clients.
    pub(super) fn all(&self) -> Vec<usize> {
        self.by_address.keys().copied().collect()
    }

    /// Returns the latest address of the client of this identifier.
    fn address_of(&self, id: &[u8]) -> Option<usize> {
        let address = *self.by_id.get(&self.ids.hash_one(id))?;
        self.session_at(address).filter(|session| session.policy.client().as_str().as_bytes() == id).map(|_| address)
    }

    /// Returns the session at `address`, if its identifier has not turned up elsewhere since.
    pub(super) fn latest_at(&self, address: usize) -> Option<&Session> {
        let session = self.session_at(address)?;
        let latest = self.by_id.get(&self.ids.hash_one(session.policy.client().as_str().as_bytes()));
        (latest == Some(&address)).then_some(session)
    }

    /// Returns the session at `address`, to be changed in what decides nothing.
    pub(super) fn session_at_mut(&mut self, address: usize) -> Option<&mut Session> {
        self.by_address.get_mut(&address).map(|place| place.session.as_mut())
    }

    /// Returns the session at `address`.
    pub(super) fn session_at(&self, address: usize) -> Option<&Session> {
        self.by_address.get(&address).map(|place| place.session.as_ref())
    }

    /// Returns whether the session at `address` is of a client that is away.
    pub(super) fn is_away(&self, address: usize) -> bool {
        self.by_address.get(&address).is_some_and(|place| !place.session.is_connected())
    }

    /// Forgets those who can't come back, and the longest gone beyond the bound. Costs nothing while there are none.
    pub(super) fn forget_departed(&mut self, now: Duration) {
        if std::mem::replace(&mut self.second, now.as_secs()) != now.as_secs() {
            self.era += 1;
        }
        while self.leaving.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= TRANSIENT) {
            let gone = self.leaving.pop_front();
            self.forget_if_still_gone(gone);
        }
        if now.saturating_sub(self.strangers_since) >= TRANSIENT {
            self.strangers.clear();
            self.strangers_since = now;
        }
        while self.returning.len() > self.offline_bound {
            let gone = self.returning.pop_front();
            self.forget_if_still_gone(gone);
        }
    }

    fn forget_if_still_gone(&mut self, gone: Option<(Duration, usize)>) {
        let Some((at, address)) = gone else { return };
        if self.session_at(address).is_some_and(|session| session.departed == Some(at)) {
            self.remove(address);
        }
    }

    /// Returns all sessions with their addresses, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Session)> {
        self.era += 1;
        self.by_address.iter_mut().map(|(address, place)| (*address, place.session.as_mut()))
    }
}

/// Says that a connection has ended.
fn tell_end(attendance: Option<&Attendance>, session: &Session) {
    if let Some(attendance) = attendance {
        attendance.offline(&who(&session.policy), session.since);
    }
}
