//! May this client do that: answered from memory, whatever happens.
//!
//! Only three answers leave here: yes, no, and "somebody else decides", since Mosquitto cuts off clients on any other.
//! Log lines wait for the tick, no broker function with side effects is called, nothing is allocated for a known client who may.

use std::sync::mpsc::sync_channel;

use midge_core::access::Access;
use midge_core::gate::{Admission, Asked, ClientPolicy, Hello, Proof, Stranger};
use midge_core::name::{ClientId, Shown, Username};
use midge_core::policy::{Decision, Reason};
use midge_core::topic::{TopicFilter, TopicName};
use midge_store::presence::Who;

use super::presence::who;
use super::sessions::Sessions;
use super::{Plugin, address_of};
use crate::abi;
use crate::border::Status;
use crate::events::AclCheck;
use crate::host::{BrokerThread, SessionStart};
use crate::options::UnknownUsers;

/// What an access check asks.
enum Question<'a> {
    Topic(Access, TopicName<'a>),
    Subscribe(&'a str, TopicFilter<'a>),
    Unsubscribe(&'a str),
}

impl<'a> Question<'a> {
    fn of(check: &AclCheck<'a>) -> Option<Self> {
        let topic = std::str::from_utf8(check.topic).ok()?;
        if let Some(access) = on_topic(check.access) {
            return Some(Self::Topic(access, TopicName::new(topic).ok()?));
        }
        match u32::try_from(check.access).ok()? {
            abi::MIDGE_ACL_SUBSCRIBE => Some(Self::Subscribe(topic, TopicFilter::new(topic).ok()?)),
            abi::MIDGE_ACL_UNSUBSCRIBE => Some(Self::Unsubscribe(topic)),
            _ => None,
        }
    }

    fn decide(&self, policy: &ClientPolicy) -> Decision {
        match self {
            Self::Topic(access, topic) => policy.may(*access, *topic),
            Self::Subscribe(_, filter) => policy.may_subscribe(*filter),
            // Nothing is gained by leaving, so no rule is asked for it.
            Self::Unsubscribe(_) => Decision::allowed(Reason::NoRule),
        }
    }

    fn allowed_by(&self, policy: &ClientPolicy) -> bool {
        self.decide(policy).allowed
    }
}

/// Returns what is asked about one topic; `None` where it is about a filter.
#[inline]
fn on_topic(access: i32) -> Option<Access> {
    match u32::try_from(access).ok()? {
        abi::MIDGE_ACL_READ => Some(Access::Receive),
        abi::MIDGE_ACL_WRITE => Some(Access::Publish),
        _ => None,
    }
}

/// Returns whether the reader of retained messages may do that.
fn reads(question: &Question<'_>) -> bool {
    match question {
        Question::Topic(Access::Receive, topic) => !topic.is_reserved(),
        Question::Topic(..) => false,
        Question::Subscribe(text, _) => *text == "#",
        Question::Unsubscribe(_) => true,
    }
}

fn answer(allowed: bool) -> Status {
    if allowed { Status::SUCCESS } else { Status::ACL_DENIED }
}

impl Plugin {
    /// Decides on the broker's thread.
    pub(crate) fn acl(&self, thread: &BrokerThread, check: &AclCheck<'_>) -> Status {
        let (status, here) = self.acl_by_thread(thread, check);
        self.traffic.count(check.access, status);
        self.count_permission(thread, check, status, here);
        if self.pushing.is_counting() {
            self.count_delivery(thread, check, status);
        }
        status
    }

    /// Returns the answer, and whether the client is known to be there.
    #[inline]
    fn acl_by_thread(&self, thread: &BrokerThread, check: &AclCheck<'_>) -> (Status, bool) {
        let generation = self.gate.directory().generation();
        let mut decision = None;
        if let Some(access) = on_topic(check.access) {
            let ask = |sessions: &mut Sessions| sessions.decide_at_hand(check.client.handle(), generation, (access, check.topic));
            decision = self.sessions.with(thread, ask).flatten();
            if decision.is_some_and(|decision| decision.allowed) {
                return (Status::SUCCESS, true);
            }
        }
        let Some(question) = Question::of(check) else { return (Status::ACL_DENIED, false) };
        (self.acl_in_full(thread, check, (&question, decision), generation), false)
    }

    #[inline(never)]
    fn acl_in_full(
        &self,
        thread: &BrokerThread,
        check: &AclCheck<'_>,
        (question, decided): (&Question<'_>, Option<Decision>),
        generation: u64,
    ) -> Status {
        let (mut gave_up, mut last_words) = (false, false);
        let known = self.sessions.with(thread, |sessions| {
            // A broker that disconnects a client asks about each subscription of a persistent session, and would take those that a
            // user who is disabled for a while may not hold. Nothing is delivered to them meanwhile, and they are checked again after.
            if matches!(question, Question::Subscribe(..)) && sessions.spares(check.client.handle()) {
                return Some(true);
            }
            let is_kicked = sessions.is_kicked(check.client.handle());
            let mut found = sessions.find(check.client, generation)?;
            let decision = decided.unwrap_or_else(|| match question {
                Question::Topic(access, topic) => found.may(*access, *topic),
                other => other.decide(found.session.policy()),
            });
            let session = found.session;
            // The broker asks about what a client has that is being disconnected: it isn't the client who asks.
            let asks_itself = !is_kicked;
            match question {
                Question::Topic(Access::Receive, topic) if decision.allowed && session.withholds(*topic) => return Some(false),
                Question::Topic(Access::Receive, topic) if decision.allowed && session.is_awaited() => {
                    self.note_missed(thread, check, who(session.policy()), topic.as_str());
                }
                Question::Subscribe(text, _) if decision.allowed && asks_itself => session.granted(text),
                // What a list says ends when the list says so.
                Question::Unsubscribe(text) if session.made_to(text).is_some() => return Some(false),
                Question::Unsubscribe(text) => {
                    session.given_up(text);
                    gave_up = true;
                }
                Question::Topic(Access::Publish, _) => last_words = decision.allowed && !session.is_connected(),
                _ => {}
            }
            if !decision.allowed {
                self.note_denial(session.policy(), question, decision);
            }
            Some(decision.allowed)
        });
        if gave_up {
            self.autosub.want(thread, [check.client.handle()]);
        }
        if last_words {
            self.hear_last_words(thread, check);
        }
        match known {
            Some(Some(allowed)) => answer(allowed),
            // Entered again from inside a change of the table: refusing is the safe answer.
            None => Status::ACL_DENIED,
            Some(None) if self.is_reader(check.client) => answer(reads(question)),
            Some(None) => {
                let Some(id) = check.client.id() else { return Status::ACL_DENIED };
                self.acl_of_stranger(thread, check, question, id, check.client.username())
            }
        }
    }

    /// Notes a message that the broker keeps for a client that is away.
    fn note_missed(&self, thread: &BrokerThread, check: &AclCheck<'_>, who: Who, topic: &str) {
        // Of quality of service 0 the broker keeps nothing.
        if check.qos > 0 && self.presenting.wants_missed() {
            self.presenting.put_aside(thread, who, topic, check.payload, check.qos);
        }
    }

    /// Notes what a client publishes that has gone: its will, rather than a retained message whose author is asked about.
    #[cold]
    fn hear_last_words(&self, thread: &BrokerThread, check: &AclCheck<'_>) {
        let (id, address) = (check.client.id().unwrap_or_default(), check.client.handle());
        let at_its_place = self.sessions.with(thread, |sessions| {
            sessions.session_at(address).is_some_and(|session| session.policy().client().as_str().as_bytes() == id)
        });
        if at_its_place == Some(true) {
            self.note_will(thread, check);
        }
    }

    /// Counts a denial, and logs some of them.
    #[cold]
    fn note_denial(&self, policy: &ClientPolicy, question: &Question<'_>, decision: Decision) {
        let (access, topic) = match question {
            Question::Topic(access, topic) => (*access, topic.as_str()),
            Question::Subscribe(text, _) => (Access::Subscribe, *text),
            Question::Unsubscribe(_) => return,
        };
        let monotonic = self.clock.monotonic();
        self.gate.denials().topic(policy, access, topic, decision, monotonic, || self.clock.now().unix);
        // A line about the log's own topic would make the next one.
        if !topic.starts_with("$SYS/") && self.patience.may_log(monotonic) {
            let user = policy.user().map_or("-", |user| user.as_str());
            log::info!(
                "denied user \"{}\" client \"{}\" to {access} \"{}\"",
                Shown(user),
                Shown(policy.client().as_str()),
                Shown(topic)
            );
        }
    }

    /// Decides on another thread, such as that of 2.1's HTTP listener, from the directory alone.
    pub(crate) fn acl_elsewhere(&self, check: &AclCheck<'_>) -> Status {
        let (Some(question), Some(id)) = (Question::of(check), check.client.id()) else { return Status::ACL_DENIED };
        let Some(hello) = verified(check, id, check.client.username()) else { return Status::ACL_DENIED };
        match self.gate.admit(hello, Asked::Memory, self.clock.now()) {
            Admission::Admitted(policy) => answer(question.allowed_by(&policy)),
            _ => Status::ACL_DENIED,
        }
    }

    /// Decides about a client that never logged in here: a session from before the start, the owner of a retained message,
    /// somebody whom the listener or another plugin has let in.
    fn acl_of_stranger(
        &self,
        thread: &BrokerThread,
        check: &AclCheck<'_>,
        question: &Question<'_>,
        id: &[u8],
        user: Option<&[u8]>,
    ) -> Status {
        let Some(hello) = verified(check, id, user) else { return Status::ACL_DENIED };
        match self.admit_stranger(hello) {
            Some(policy) => {
                let allowed = question.allowed_by(&policy);
                let handle = check.client.handle();
                // Without an address it is no connection.
                let connected = check.client.address().is_some();
                if let (Question::Topic(Access::Receive, topic), true, false) = (question, allowed, connected) {
                    self.note_missed(thread, check, who(&policy), topic.as_str());
                }
                self.sessions.with(thread, |sessions| {
                    if !connected {
                        return sessions.remember_stranger(handle, policy);
                    }
                    sessions.enter(handle, policy, SessionStart::Resumed);
                    if let (Question::Subscribe(text, _), true, Some(session)) = (question, allowed, sessions.at(handle, id, user))
                    {
                        session.granted(text);
                    }
                });
                answer(allowed)
            }
            None if self.settings.load().unknown_users == UnknownUsers::Defer => Status::DEFER,
            None => Status::ACL_DENIED,
        }
    }

    /// Returns the policy of somebody whom the host vouches for, waiting for the store as for a login.
    pub(super) fn admit_stranger(&self, hello: Hello) -> Option<ClientPolicy> {
        let slot = match self.gate.admit(hello.clone(), Asked::Memory, self.clock.now()) {
            Admission::Admitted(policy) => return Some(policy),
            Admission::Load(slot) => slot,
            Admission::Refused(_) | Admission::Hash(_) => return None,
        };
        let (sender, receiver) = sync_channel(1);
        let user = slot.identity().user.clone()?;
        self.service.prepare(
            &user,
            Box::new(move |asked| {
                let _ = sender.try_send(asked);
            }),
        );
        let deadline = self.settings.load().login_deadline;
        let asked = self.patience.wait(&self.service, &receiver, deadline).unwrap_or(Asked::StoreAway);
        match self.gate.admit(hello, asked, self.clock.now()) {
            Admission::Admitted(policy) => Some(policy),
            _ => None,
        }
    }
}

/// Returns the hello of a client that the host has let in; `None` where its names can't be names.
pub(super) fn verified(check: &AclCheck<'_>, id: &[u8], user: Option<&[u8]>) -> Option<Hello> {
    let user = match user {
        Some(user) => Some(Username::from_bytes(user).ok()?),
        None => None,
    };
    Some(Hello {
        user,
        client: ClientId::from_bytes(id).ok()?,
        address: address_of(check.client),
        proof: Proof::Verified,
        stranger: Stranger::Refused,
    })
}
