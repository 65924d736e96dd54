//! SCRAM-SHA-256 as MQTT 5 enhanced authentication.
//!
//! The broker gives no place for the state of an exchange, so it is kept by the client's address, bounded in number and time.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use midge_core::gate::{Admission, Asked, Hello, Proof, Refusal, ScramStep, Stranger};
use midge_core::name::{ClientId, Username};
use midge_core::scram::{ClientFirst, MECHANISM, ServerFirst, ServerNonce};

use super::{Plugin, address_of};
use crate::border::{ExtAuthStep, Status};
use crate::host::BrokerThread;

/// How many exchanges may be under way; a further one is refused as busy.
const MAX_EXCHANGES: usize = 10_000;
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(30);

struct Exchange {
    first: ServerFirst,
    began: Duration,
}

/// Exchanges under way, by the client's address.
#[derive(Default)]
pub(super) struct Exchanges(HashMap<usize, Exchange>);

impl Exchanges {
    pub(super) fn forget(&mut self, address: usize) {
        self.0.remove(&address);
    }

    pub(super) fn forget_old(&mut self, now: Duration) {
        if !self.0.is_empty() {
            self.0.retain(|_, exchange| now.saturating_sub(exchange.began) < LONGEST);
        }
    }
}

impl Plugin {
    /// Answers the client's first message.
    pub(crate) fn ext_auth_start(&self, thread: &BrokerThread, step: &ExtAuthStep<'_>) -> (Status, Vec<u8>) {
        // Before 2.0.5 the broker doesn't tell the method, and this is the only one we know.
        if step.method.is_some_and(|method| method != MECHANISM.as_bytes()) {
            return (Status::DEFER, Vec::new());
        }
        // A connected client that proves itself again takes no identifier from anybody.
        let (id, user) = (step.client.id(), step.client.username());
        let again = self.sessions.with(thread, |sessions| {
            id.is_some_and(|id| sessions.at(step.client.handle(), id, user).is_some_and(|session| session.is_connected()))
        });
        if again != Some(true) {
            self.greet(thread, step.client);
        }
        match self.begin(thread, step) {
            Ok(message) => (Status::AUTH_CONTINUE, message),
            Err(refusal) => {
                self.log_refusal(None, step.client.id().unwrap_or_default(), step.client.address(), &refusal);
                (self.status_of(&refusal), Vec::new())
            }
        }
    }

    /// Answers the client's last message, and lets it in or not.
    pub(crate) fn ext_auth_continue(&self, thread: &BrokerThread, step: &ExtAuthStep<'_>) -> (Status, Vec<u8>) {
        let exchange = self.exchanges.with(thread, |exchanges| exchanges.0.remove(&step.client.handle())).flatten();
        let Some(exchange) = exchange else { return (Status::AUTH, Vec::new()) };
        let now = self.clock.now();
        if now.monotonic.saturating_sub(exchange.began) >= LONGEST {
            return (Status::AUTH, Vec::new());
        }
        let user: Result<Username, _> = exchange.first.username().parse();
        let address = address_of(step.client);
        let refused = |refusal: &Refusal| {
            self.log_refusal(
                user.as_ref().ok().map(|user| user.as_str().as_bytes()),
                step.client.id().unwrap_or_default(),
                step.client.address(),
                refusal,
            );
            (self.status_of(refusal), Vec::new())
        };
        let Ok(message) = exchange.first.finish(step.data) else {
            self.gate.failed_login(user.as_ref().ok(), address, now);
            self.service.nudge();
            return refused(&Refusal::BadPassword);
        };
        let (Ok(user), Ok(client)) = (user.clone(), ClientId::from_bytes(step.client.id().unwrap_or_default())) else {
            return refused(&Refusal::Internal);
        };
        let hello = Hello { user: Some(user.clone()), client, address, proof: Proof::Verified, stranger: Stranger::Refused };
        match self.gate.admit(hello, Asked::Store, now) {
            Admission::Admitted(policy) => match self.let_in(thread, step.client, policy, Some(&user)) {
                Status::SUCCESS => {
                    self.gate.passed_login(&user);
                    self.service.nudge();
                    (Status::SUCCESS, message)
                }
                status => (status, Vec::new()),
            },
            Admission::Refused(refusal) => refused(&refusal),
            Admission::Load(_) | Admission::Hash(_) => refused(&Refusal::Internal),
        }
    }

    fn begin(&self, thread: &BrokerThread, step: &ExtAuthStep<'_>) -> Result<Vec<u8>, Refusal> {
        let first = ClientFirst::parse(step.data).map_err(|error| Refusal::BadName(format!("{MECHANISM}: {error}")))?;
        let user: Username = first.username().parse().map_err(|error| Refusal::BadName(format!("username: {error}")))?;
        let address = address_of(step.client);
        let mut asked = Asked::Memory;
        let credential = loop {
            match self.gate.scram(&user, address, asked, self.clock.now())? {
                ScramStep::Credential(credential) => break credential,
                ScramStep::Load(_) if asked != Asked::Memory => return Err(Refusal::Internal),
                ScramStep::Load(_) => asked = self.read_account(&user),
            }
        };
        let nonce = ServerNonce::generate().map_err(|_| Refusal::Internal)?;
        let first = first.challenge(&credential, &nonce);
        let message = first.message().to_vec();
        let exchange = Exchange { first, began: self.clock.now().monotonic };
        let kept = self.exchanges.with(thread, |exchanges| {
            let room = exchanges.0.len() < MAX_EXCHANGES;
            if room {
                exchanges.0.insert(step.client.handle(), exchange);
            }
            room
        });
        if kept == Some(true) { Ok(message) } else { Err(Refusal::Busy) }
    }

    /// Has the store asked about `user`, waiting within the deadline: no broker can delay this kind of login.
    fn read_account(&self, user: &Username) -> Asked {
        let (sender, receiver) = sync_channel(1);
        self.service.prepare(
            user,
            Box::new(move |asked| {
                let _ = sender.try_send(asked);
            }),
        );
        let deadline = self.settings.load().login_deadline;
        self.patience.wait(&self.service, &receiver, deadline).unwrap_or(Asked::StoreAway)
    }
}
