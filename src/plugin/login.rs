//! Lets clients in: at once, later, or within a deadline.
//!
//! A delayed answer is addressed by client identifier alone, and a client that leaves while it waits is not announced.
//! So every login of an identifier gets a new number, and only an answer to the newest number is passed on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use midge_core::certificate::identity_from_der;
use midge_core::gate::{Admission, Asked, ClientPolicy, Hello, Proof, Refusal, Stranger};
use midge_core::name::{ClientId, Username};
use midge_store::service::{Done, Verdict};

use super::{Plugin, address_of};
use crate::border::Status;
use crate::events::Login;
use crate::host::{BrokerThread, Client, Level, SessionStart, host};
use crate::options::UnknownUsers;

/// How many logins may be under way; the service's own queues are shorter.
const MAX_DELAYED: usize = 100_000;

struct Answer {
    client: ClientId,
    number: u64,
    verdict: Verdict,
}

struct Asker {
    number: u64,
    handle: usize,
    start: SessionStart,
    user: Option<Username>,
    address: Option<IpAddr>,
}

/// Logins whose answer comes later.
pub(super) struct Delayed {
    askers: HashMap<ClientId, Asker>,
    last_number: u64,
    sender: Sender<Answer>,
    receiver: Receiver<Answer>,
}

impl Default for Delayed {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { askers: HashMap::new(), last_number: 0, sender, receiver }
    }
}

impl Plugin {
    /// Decides about a login on the broker's thread.
    pub(crate) fn basic_auth(&self, thread: &BrokerThread, login: &Login<'_>) -> Status {
        if let Some(status) = self.admit_reader(thread, login.client, login.password) {
            return status;
        }
        let status = self.decide_again(thread, login).unwrap_or_else(|| {
            self.catch_up(thread);
            self.decide(thread, login)
        });
        if status != Status::AUTH_DELAYED && status != Status::SUCCESS {
            self.service.nudge();
        }
        status
    }

    /// Decides about a login on another thread, such as that of 2.1's HTTP listener, which may wait.
    pub(crate) fn basic_auth_elsewhere(&self, login: &Login<'_>) -> Status {
        let Ok(hello) = hello_of(login, None) else { return Status::AUTH };
        let (sender, receiver) = sync_channel(1);
        self.service.login(
            hello,
            Box::new(move |verdict| {
                let _ = sender.try_send(verdict.is_ok());
            }),
        );
        let longest = self.settings.load().response_timeout;
        if receiver.recv_timeout(longest).unwrap_or(false) { Status::SUCCESS } else { Status::AUTH }
    }

    /// Notes that a new client turns up; to be called first, however it proves itself.
    ///
    /// Logins that are under way for its identifier were somebody else's, or its own before it left, and are void.
    /// Whoever was known at its address has gone, unless the names are the same.
    pub(super) fn greet(&self, thread: &BrokerThread, client: Client<'_>) {
        if let Some(Ok(id)) = client.id().map(std::str::from_utf8) {
            self.delayed.with(thread, |delayed| delayed.askers.remove(id));
        }
        self.forget_reader(client.handle());
        let (id, now) = (client.id().unwrap_or_default(), self.clock.now().monotonic);
        self.sessions.with(thread, |sessions| sessions.arrive(client.handle(), id, now));
    }

    /// Decides about a client that was let in before; `None` for one that wasn't.
    ///
    /// After a reload the broker asks again about every client, and every session that is kept, and ends those who aren't let
    /// in at once. They have proved who they are, some in a way that isn't asked for here, so only what was taken from them
    /// since counts, by the store or by the settings.
    fn decide_again(&self, thread: &BrokerThread, login: &Login<'_>) -> Option<Status> {
        if !self.reload.is_under_way() {
            return None;
        }
        let (id, address) = (login.client.id()?, login.client.handle());
        // On 2.1 a new client has its identifier with the broker only once it is let in.
        if self.level == Level::Delayed && host().find(thread, std::str::from_utf8(id).ok()?) != Some(address) {
            return None;
        }
        let revoked = self.sessions.with(thread, |sessions| {
            // The end of a connected client is always told, that of a kept session isn't.
            let session = sessions
                .at(address, id, login.client.username())
                .filter(|session| session.is_connected() || self.reload.has_an_end())?;
            Some(session.policy().revoked(&self.gate, self.clock.now()))
        })?;
        let by_settings = || self.gate.refusal_by_settings(&hello_of(login, None).ok()?, self.clock.now());
        match revoked.map(|refusal| refusal.or_else(by_settings)) {
            Some(None) => Some(Status::SUCCESS),
            Some(Some(refusal)) => Some(self.refuse(login, &refusal)),
            // Another plugin let it in.
            None if self.level == Level::Delayed && self.settings.load().unknown_users == UnknownUsers::Defer => {
                Some(Status::DEFER)
            }
            None => None,
        }
    }

    fn decide(&self, thread: &BrokerThread, login: &Login<'_>) -> Status {
        self.greet(thread, login.client);
        let identity = match self.certified(thread, login.client) {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse(login, &refusal),
        };
        let hello = match hello_of(login, identity.clone()) {
            Ok(hello) => hello,
            Err(refusal) => return self.refuse(login, &refusal),
        };
        let admission = self.gate.admit(hello.clone(), Asked::Memory, self.clock.now());
        let verdict = match admission {
            Admission::Admitted(policy) => Ok(policy),
            Admission::Refused(refusal) => Err(refusal),
            Admission::Load(_) | Admission::Hash(_)
                if self.delays() && login.client.id() != Some(b"http-api") && is_named(&hello) =>
            {
                return self.delay(thread, login, admission, hello);
            }
            later => self.wait_for(later, hello),
        };
        match verdict {
            Ok(policy) => self.let_in(thread, login.client, policy, identity.as_ref()),
            Err(refusal) => self.refuse(login, &refusal),
        }
    }

    fn delays(&self) -> bool {
        self.level == Level::Delayed && self.settings.load().delayed_login
    }

    /// Has a login decided while the broker's thread waits, within the deadline.
    fn wait_for(&self, admission: Admission, hello: Hello) -> Verdict {
        let deadline = self.settings.load().login_deadline;
        let (done, answer) = mailbox();
        let admission = match admission {
            Admission::Load(_) => {
                self.service.go_on(admission, hello.clone(), done);
                match self.patience.wait(&self.service, &answer, deadline) {
                    Some(verdict) => return verdict,
                    // The store is slow or away: what is known has to do. The worker goes on, and the next login finds more.
                    None => self.gate.admit(hello.clone(), Asked::StoreAway, self.clock.now()),
                }
            }
            other => other,
        };
        // Only hashing can be left, which no store holds up.
        let (done, answer) = mailbox();
        self.service.go_on(admission, hello, done);
        answer.recv_timeout(deadline).unwrap_or(Err(Refusal::Busy))
    }

    fn delay(&self, thread: &BrokerThread, login: &Login<'_>, admission: Admission, hello: Hello) -> Status {
        let client = hello.client.clone();
        // Once the answer is there the client can't be reached any more to give it the name that its certificate proves.
        if let Some(name) = hello.user.as_ref().map(Username::as_str)
            && login.client.username() != Some(name.as_bytes())
            && !login.client.set_username(thread, name)
        {
            return self.refuse(login, &Refusal::Internal);
        }
        let registered = self.delayed.with(thread, |delayed| {
            if delayed.askers.len() >= MAX_DELAYED {
                return None;
            }
            delayed.last_number += 1;
            let number = delayed.last_number;
            delayed.askers.insert(
                client.clone(),
                Asker {
                    number,
                    handle: login.client.handle(),
                    start: login.client.session_start(),
                    user: hello.user.clone(),
                    address: hello.address,
                },
            );
            Some((number, delayed.sender.clone()))
        });
        let Some(Some((number, sender))) = registered else { return self.refuse(login, &Refusal::Busy) };
        let waker = self.waker.clone();
        self.service.go_on(
            admission,
            hello,
            Box::new(move |verdict| {
                if sender.send(Answer { client, number, verdict }).is_ok() {
                    waker.call();
                }
            }),
        );
        Status::AUTH_DELAYED
    }

    /// Passes on the answers that have come.
    pub(super) fn complete_logins(&self, thread: &BrokerThread) {
        if self.level != Level::Delayed {
            return;
        }
        loop {
            let next = self.delayed.with(thread, |delayed| {
                let answer = delayed.receiver.try_recv().ok()?;
                let newest = delayed.askers.get(&answer.client).is_some_and(|asker| asker.number == answer.number);
                let asker = newest.then(|| delayed.askers.remove(&answer.client)).flatten();
                Some((answer, asker))
            });
            let Some(Some((answer, asker))) = next else { return };
            if let Some(asker) = asker {
                self.complete(thread, answer, &asker);
            }
        }
    }

    fn complete(&self, thread: &BrokerThread, answer: Answer, asker: &Asker) {
        let id = answer.client.as_str();
        // What changed since the decision was announced while nobody was here to hear it.
        let still_allowed = |policy: ClientPolicy| match policy.revoked(&self.gate, self.clock.now()) {
            Some(refusal) => Err(refusal),
            None => Ok(policy),
        };
        match answer.verdict.and_then(still_allowed) {
            // It had left without a word, and its place was given to another.
            Ok(_) if self.is_taken(thread, asker.handle, id) => {}
            Ok(policy) => {
                // First, since the broker asks about the client before the call returns.
                self.sessions.with(thread, |sessions| sessions.enter(asker.handle, policy, asker.start));
                host().complete_login(thread, id, Status::SUCCESS.code());
                if host().find(thread, id) != Some(asker.handle) {
                    // It had left without a word.
                    self.sessions.with(thread, |sessions| sessions.remove(asker.handle));
                }
            }
            Err(refusal) => {
                let address = asker.address.map(|address| address.to_string());
                let user = asker.user.as_ref().map(|user| user.as_str().as_bytes());
                self.log_refusal(user, id.as_bytes(), address.as_deref().map(str::as_bytes), &refusal);
                host().complete_login(thread, id, Status::AUTH.code());
            }
        }
    }

    fn is_taken(&self, thread: &BrokerThread, handle: usize, id: &str) -> bool {
        self.sessions.with(thread, |sessions| sessions.is_taken_by_another(handle, id)).unwrap_or(true)
    }

    /// Returns whether the broker's thread is waited for.
    pub(super) fn is_waiting(&self, thread: &BrokerThread) -> bool {
        self.delayed.with(thread, |delayed| !delayed.askers.is_empty()).unwrap_or(true)
    }

    pub(super) fn let_in(
        &self,
        thread: &BrokerThread,
        client: Client<'_>,
        policy: ClientPolicy,
        identity: Option<&Username>,
    ) -> Status {
        // What changed since the decision was announced while nobody was here to hear it.
        if let Some(refusal) = policy.revoked(&self.gate, self.clock.now()) {
            return self.status_of(&refusal);
        }
        let given = client.username();
        let proven = identity.or(policy.user()).cloned();
        if let Some(name) = proven.filter(|name| given != Some(name.as_str().as_bytes()))
            && !client.set_username(thread, name.as_str())
        {
            log::error!(
                "the broker doesn't take the username that client \"{}\" has proved",
                midge_core::name::Shown(policy.client().as_str())
            );
            return Status::AUTH;
        }
        match self.sessions.with(thread, |sessions| sessions.enter(client.handle(), policy, client.session_start())) {
            Some(()) => {
                // 2.1 has it under its identifier only later, and says so.
                if self.level < Level::Delayed {
                    self.subscribe_newcomer(thread, client);
                }
                Status::SUCCESS
            }
            None => Status::AUTH,
        }
    }

    fn refuse(&self, login: &Login<'_>, refusal: &Refusal) -> Status {
        if *refusal == Refusal::NoSuchUser && self.settings.load().unknown_users == UnknownUsers::Defer {
            return Status::DEFER;
        }
        self.log_refusal(login.username, login.client.id().unwrap_or_default(), login.client.address(), refusal);
        self.status_of(refusal)
    }

    pub(super) fn status_of(&self, refusal: &Refusal) -> Status {
        match refusal {
            _ if self.level < Level::Delayed => Status::AUTH,
            Refusal::Banned { .. } => Status::BANNED,
            Refusal::Busy | Refusal::BackOff(_) => Status::SERVER_BUSY,
            Refusal::StoreAway | Refusal::TooOld => Status::SERVER_UNAVAILABLE,
            _ => Status::AUTH,
        }
    }

    /// Returns the username that the client's certificate gives it, where that is asked for.
    fn certified(&self, thread: &BrokerThread, client: Client<'_>) -> Result<Option<Username>, Refusal> {
        let Some(field) = self.settings.load().tls_identity else { return Ok(None) };
        let Some(der) = client.certificate(thread) else { return Ok(None) };
        let name = identity_from_der(&der, field).map_err(|error| Refusal::BadName(format!("certificate: {error}")))?;
        name.parse().map(Some).map_err(|error| Refusal::BadName(format!("certificate: {error}")))
    }
}

/// Returns where a verdict is put, and where it is taken from.
fn mailbox() -> (Done, Receiver<Verdict>) {
    let (sender, receiver) = sync_channel(1);
    let done: Done = Box::new(move |verdict| {
        let _ = sender.try_send(verdict);
    });
    (done, receiver)
}

/// Returns whether the username is known before the login is decided: a token without one brings it only then.
fn is_named(hello: &Hello) -> bool {
    hello.user.is_some() || !matches!(hello.proof, Proof::Password(_))
}

fn hello_of(login: &Login<'_>, identity: Option<Username>) -> Result<Hello, Refusal> {
    let bad = |what: &str, error: midge_core::name::NameError| Refusal::BadName(format!("{what}: {error}"));
    let client = ClientId::from_bytes(login.client.id().unwrap_or_default()).map_err(|error| bad("client identifier", error))?;
    let proof = match (&identity, login.password) {
        (Some(_), _) => Proof::Verified,
        (None, Some(password)) => Proof::Password(password.to_vec().into()),
        (None, None) => Proof::None,
    };
    let user = match (identity, login.username) {
        (Some(identity), _) => Some(identity),
        // An empty name with nothing behind it is what some clients send for no name.
        (None, None | Some(b"")) => None,
        (None, Some(name)) => Some(Username::from_bytes(name).map_err(|error| bad("username", error))?),
    };
    Ok(Hello { user, client, address: address_of(login.client), proof, stranger: Stranger::Refused })
}
