//! Has changes in the store act on connected clients.
//!
//! What a client may do changes by itself, with the account that its policy points to.
//! Here follows what that doesn't do: who lost the account is disconnected, and who lost a filter is unsubscribed from it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use midge_core::directory::{Change, Slot, Standing};
use midge_core::gate::Refusal;

use super::Plugin;
use super::sessions::Session;
use crate::border::Status;
use crate::host::{BrokerThread, Client, Level, host};

/// How many clients are disconnected or unsubscribed in one tick at most; the rest waits for the next.
const PER_TICK: usize = 500;

/// What is still to be done.
#[derive(Default)]
pub(super) struct Pending {
    actions: VecDeque<Action>,
    /// The second in which ended tokens were last looked for.
    looked_at: u64,
}

pub(super) enum Action {
    Kick {
        address: usize,
        id: Box<str>,
        why: String,
        /// Whether a persistent session keeps its subscriptions.
        spare: bool,
    },
    Unsubscribe {
        id: Box<str>,
        filter: Box<str>,
    },
}

impl Pending {
    /// Has these done in the next ticks.
    pub(super) fn add(&mut self, actions: Vec<Action>) {
        self.actions.extend(actions);
    }
}

impl Plugin {
    /// Looks at the clients whose accounts have changed, and does a tick's share of what follows.
    pub(super) fn follow_changes(&self, thread: &BrokerThread) {
        let now = self.clock.now();
        let changes = if self.gate.directory().has_changes() { self.gate.directory().take_changes() } else { Vec::new() };
        let second_passed = self.pending.with(thread, |pending| std::mem::replace(&mut pending.looked_at, now.unix) != now.unix);
        let may_expire = || self.sessions.with(thread, |sessions| sessions.has_expiring()) == Some(true);
        if !changes.is_empty() || (second_passed == Some(true) && may_expire()) {
            let bans = changes.iter().any(|change| matches!(change, Change::Bans));
            let slots: HashSet<*const Slot> = changes
                .iter()
                .filter_map(|change| match change {
                    Change::Account(slot) => Some(Arc::as_ptr(slot)),
                    Change::Client(_) | Change::Bans => None,
                })
                .collect();
            self.look_at_sessions(thread, bans, &slots);
            let clients = changes.iter().filter_map(|change| match change {
                Change::Client(client) => Some(client),
                Change::Account(_) | Change::Bans => None,
            });
            let concerned: Vec<usize> = clients
                .filter_map(|client| self.sessions.with(thread, |sessions| sessions.of_client(client.as_str())).flatten())
                .collect();
            self.autosub.want(thread, concerned);
        }
        for action in self.pending.with(thread, |pending| drain(&mut pending.actions)).unwrap_or_default() {
            self.act(thread, action);
        }
    }

    fn look_at_sessions(&self, thread: &BrokerThread, bans: bool, slots: &HashSet<*const Slot>) {
        let now = self.clock.now();
        let can_unsubscribe = self.level == Level::Delayed;
        let looked_at = self.sessions.with(thread, |sessions| {
            let (mut actions, mut changed_at) = (Vec::new(), Vec::new());
            for (address, session) in sessions.iter_mut() {
                let changed = !slots.is_empty() && slots.contains(&Arc::as_ptr(session.policy().slot()));
                let expired = session.policy().expires_unix().is_some_and(|end| now.unix >= end);
                if !(changed || expired || bans) {
                    continue;
                }
                let refusal = session.policy().revoked(&self.gate, now);
                if let Some(refusal) = &refusal {
                    actions.extend(kick(address, session, &refusal.to_string(), true));
                }
                // A session outlives a ban, and nobody looks at its filters again when that ends.
                let has_rules = || session.policy().slot().account().standing() == Standing::Active;
                if changed {
                    changed_at.push(address);
                }
                if changed && (refusal.is_none() || has_rules()) {
                    recheck(address, session, can_unsubscribe, &mut actions);
                }
            }
            (actions, changed_at)
        });
        let (actions, changed_at) = looked_at.unwrap_or_default();
        self.pending.with(thread, |pending| pending.actions.extend(actions));
        self.autosub.want(thread, changed_at);
    }

    fn act(&self, thread: &BrokerThread, action: Action) {
        match action {
            Action::Kick { address, id, why, spare } => {
                // Somebody else may have taken the identifier over since, who is none of this business.
                let still_there = self.sessions.with(thread, |sessions| {
                    let there = sessions.named_address(&id) == Some(address);
                    sessions.spare((there && spare).then_some(address));
                    sessions.kick(there.then_some(address));
                    there
                });
                if still_there == Some(true) && host().kick(thread, &id) {
                    log::info!("disconnected client \"{}\": {why}", midge_core::name::Shown(&id));
                }
                self.sessions.with(thread, |sessions| {
                    sessions.spare(None);
                    sessions.kick(None);
                });
            }
            Action::Unsubscribe { id, filter } => {
                host().unsubscribe(thread, &id, &filter);
            }
        }
    }

    /// Forgets clients that can't come back.
    pub(super) fn forget_departed(&self, thread: &BrokerThread) {
        let now = self.clock.now().monotonic;
        let gone = self.sessions.with(thread, |sessions| sessions.forget_departed(now));
        debug_assert!(gone.is_some(), "the tick borrows nothing before");
        self.exchanges.with(thread, |exchanges| exchanges.forget_old(now));
    }

    /// Notes that a client's connection has ended.
    pub(crate) fn disconnect(&self, thread: &BrokerThread, client: Client<'_>) -> Status {
        // From 2.1 on this is told only when the session has ended too.
        let transient = self.level == Level::Delayed || client.is_transient();
        self.depart(thread, client, transient)
    }

    /// Notes that a client has gone whose session stays; 2.1 only.
    pub(crate) fn offline(&self, thread: &BrokerThread, client: Client<'_>) -> Status {
        self.depart(thread, client, false)
    }

    fn depart(&self, thread: &BrokerThread, client: Client<'_>, transient: bool) -> Status {
        let now: Duration = self.clock.now().monotonic;
        let (id, address) = (client.id(), client.handle());
        self.exchanges.with(thread, |exchanges| exchanges.forget(address));
        self.forget_reader(address);
        if let Some(id) = id {
            self.sessions.with(thread, |sessions| sessions.depart(address, id, transient, now));
            self.hot.departed(thread, id, now);
        }
        Status::SUCCESS
    }

    /// Notes that a client is connected; 2.1 only.
    pub(crate) fn connect(&self, thread: &BrokerThread, client: Client<'_>) -> Status {
        if self.is_reader(client) {
            return Status::SUCCESS;
        }
        self.meet(thread, client);
        self.subscribe_newcomer(thread, client);
        Status::SUCCESS
    }

    /// Has the account at hand of a client that the listener itself has let in.
    fn meet(&self, thread: &BrokerThread, client: Client<'_>) -> Status {
        self.greet(thread, client);
        let (Some(id), user) = (client.id(), client.username()) else { return Status::SUCCESS };
        let known = self
            .sessions
            .with(thread, |sessions| sessions.at(client.handle(), id, user).is_some_and(|session| session.is_connected()));
        if known != Some(false) {
            return Status::SUCCESS;
        }
        let check = crate::events::AclCheck { client, topic: b"", access: 0, payload: &[], qos: 0, retain: false };
        let Some(hello) = super::access::verified(&check, id, user) else { return Status::SUCCESS };
        let address = client.handle();
        if let Some(policy) = self.admit_stranger(hello.clone()) {
            self.sessions.with(thread, |sessions| sessions.enter(address, policy, client.session_start()));
        } else if let Some(refusal @ Refusal::Banned { .. }) =
            self.gate.banned(hello.user.as_ref(), &hello.client, hello.address, self.clock.now())
        {
            let why = refusal.to_string();
            // Not from inside its own event: from the next tick.
            self.pending.with(thread, |pending| {
                pending.actions.push_back(Action::Kick { address, id: hello.client.as_str().into(), why, spare: true })
            });
        }
        Status::SUCCESS
    }
}

fn drain(actions: &mut VecDeque<Action>) -> Vec<Action> {
    let share = actions.len().min(PER_TICK);
    actions.drain(..share).collect()
}

/// Returns what disconnects the client at `address`, if it is connected.
pub(super) fn kick(address: usize, session: &Session, why: &str, spare: bool) -> Option<Action> {
    let id = session.policy().client().as_str().into();
    session.is_connected().then(|| Action::Kick { address, id, why: why.to_owned(), spare })
}

/// Takes from a client the filters that it may no longer hold.
fn recheck(address: usize, session: &mut Session, can_unsubscribe: bool, actions: &mut Vec<Action>) {
    let Some(withdrawn) = session.take_withdrawn() else {
        actions.extend(kick(address, session, "its rules have changed, and it holds too many subscriptions to check each", false));
        return;
    };
    if withdrawn.is_empty() {
        return;
    }
    if !can_unsubscribe {
        session.withhold(withdrawn);
        return;
    }
    let id: Box<str> = session.policy().client().as_str().into();
    actions.extend(withdrawn.into_iter().map(|filter| Action::Unsubscribe { id: id.clone(), filter }));
}
