//! SCRAM-SHA-256 as enhanced authentication of MQTT 5, at any time.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use midge_core::gate::{Admission, Asked, Hello as Claim, Proof, Refusal, ScramStep, Stranger};
use midge_core::name::{ClientId, Username};
use midge_core::scram::{ClientFirst, MECHANISM, ServerFirst, ServerNonce};
use midge_core::time::Now;
use midge_engine::shard::SessionId;
use midge_mqtt::{Auth, ReasonCode};

use super::hello::{Hello, username};
use super::inbox::Answer;
use super::login::{LoopMind, Waiting, Who};
use super::table::Client;
use super::verdict::{Admitted, Verdict};

/// How many exchanges may be under way in a loop; a further one is refused as busy.
const MAX_EXCHANGES: usize = 10_000;
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(30);

/// An exchange under way.
pub(super) struct Exchange {
    user: Username,
    client: ClientId,
    address: Option<IpAddr>,
    door: usize,
    began: Duration,
    /// The session of a client that was let in before.
    session: Option<SessionId>,
}

/// What is waited for in an exchange.
pub(super) enum Step {
    /// That the account is read.
    Account(Box<ClientFirst>),
    /// The client's proof.
    Proof(Box<ServerFirst>),
}

impl Exchange {
    fn who(&self) -> Who<'_> {
        Who { user: Some(&self.user), client: self.client.as_str(), address: self.address }
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    /// Goes on with an exchange: takes the client's AUTH with reason code 0x18.
    pub fn auth(&mut self, key: K, auth: &Auth<'_>, now: Now) -> Verdict {
        // Nobody is asked twice, or before the question is known.
        let Some(Waiting::Exchange(exchange, Step::Proof(first))) = self.waiting.remove(&key) else {
            return Verdict::Refused(ReasonCode::ProtocolError);
        };
        if auth.reason_code != ReasonCode::ContinueAuthentication {
            return Verdict::Refused(ReasonCode::ProtocolError);
        }
        // Each AUTH has the method of the first [MQTT-4.12.0-5].
        if auth.properties.authentication_method() != Some(MECHANISM) {
            return Verdict::Refused(ReasonCode::BadAuthenticationMethod);
        }
        self.prove(&exchange, *first, auth.properties.authentication_data().unwrap_or_default(), now)
    }

    /// Begins another exchange with a client that is connected: takes its AUTH with reason code 0x19.
    ///
    /// Only who was let in by an exchange may do so, by the same method [MQTT-4.12.1-1] and as the same user.
    pub fn reauthenticate(&mut self, key: K, session: SessionId, auth: &Auth<'_>, now: Now) -> Verdict {
        let Some(entry) = self.table.get(session).filter(|entry| entry.client.exchanged) else {
            return Verdict::Refused(ReasonCode::ProtocolError);
        };
        if auth.properties.authentication_method() != Some(MECHANISM) {
            return Verdict::Refused(ReasonCode::BadAuthenticationMethod);
        }
        if auth.reason_code != ReasonCode::ReAuthenticate || self.waiting.contains_key(&key) {
            return Verdict::Refused(ReasonCode::ProtocolError);
        }
        let policy = &entry.client.policy;
        let (client, address) = (policy.client().clone(), policy.address());
        let data = auth.properties.authentication_data().unwrap_or_default();
        self.first_message(key, data, Told { client, address, door: 0, session: Some(session) }, now)
    }

    /// Takes over what a client has proved anew; its session goes on.
    pub fn proved(&mut self, session: SessionId, admitted: Admitted) {
        let Some(connection) = self.table.get(session).map(|entry| entry.connection) else { return };
        let Admitted { policy, guest, .. } = admitted;
        self.enter(session, Client { policy, guest, exchanged: true }, connection);
    }

    /// Answers a CONNECT that names a method.
    pub(super) fn begin_exchange(&mut self, key: K, hello: &Hello<'_>, method: &str, now: Now) -> Verdict {
        let who = Who { user: None, client: hello.client_id, address: hello.address };
        if method != MECHANISM {
            return Verdict::Refused(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        match hello.client() {
            Ok(client) => {
                let data = hello.connect.properties.authentication_data().unwrap_or_default();
                self.first_message(key, data, Told { client, address: hello.address, door: hello.door, session: None }, now)
            }
            Err(refusal) => self.refuse_login(&who, &refusal, now),
        }
    }

    /// Takes notice that an account was read, or couldn't be.
    pub(super) fn prepared(&mut self, key: K, asked: Asked, now: Now) {
        let Some(Waiting::Exchange(exchange, Step::Account(first))) = self.waiting.remove(&key) else { return };
        let verdict = self.challenge(key, exchange, *first, asked, now);
        self.ready.push_back((key, verdict));
    }

    fn first_message(&mut self, key: K, data: &[u8], told: Told, now: Now) -> Verdict {
        let Told { client, address, door, session } = told;
        let parsed = ClientFirst::parse(data)
            .map_err(|error| Refusal::BadName(format!("{MECHANISM}: {error}")))
            .and_then(|first| Ok((username(first.username())?, first)));
        let (user, first) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                let who = Who { user: None, client: client.as_str(), address };
                return if session.is_some() {
                    self.refuse_again(&who, &refusal, now)
                } else {
                    self.refuse_login(&who, &refusal, now)
                };
            }
        };
        let exchange = Box::new(Exchange { user, client, address, door, began: now.monotonic, session });
        if self.waiting.len() >= MAX_EXCHANGES {
            return self.refuse_exchange(&exchange, &Refusal::Busy, now);
        }
        self.challenge(key, exchange, first, Asked::Memory, now)
    }

    /// Answers the first message, or has the account read for that.
    fn challenge(&mut self, key: K, exchange: Box<Exchange>, first: ClientFirst, asked: Asked, now: Now) -> Verdict {
        let credential = match self.shared.gate.scram(&exchange.user, exchange.address, asked, now) {
            Ok(ScramStep::Credential(credential)) => credential,
            Ok(ScramStep::Load(_)) if asked == Asked::Memory => {
                let reply = self.inbox.reply(move |asked| Answer::Prepared(key, asked));
                self.shared.service.prepare(&exchange.user, reply);
                self.waiting.insert(key, Waiting::Exchange(exchange, Step::Account(Box::new(first))));
                return Verdict::Later;
            }
            Ok(ScramStep::Load(_)) => return self.refuse_exchange(&exchange, &Refusal::Internal, now),
            Err(refusal) => return self.refuse_exchange(&exchange, &refusal, now),
        };
        let Ok(nonce) = ServerNonce::generate() else { return self.refuse_exchange(&exchange, &Refusal::Internal, now) };
        let first = first.challenge(&credential, &nonce);
        let message = first.message().into();
        self.waiting.insert(key, Waiting::Exchange(exchange, Step::Proof(Box::new(first))));
        Verdict::Challenge(message)
    }

    /// Answers the last message, and lets the client in or not.
    fn prove(&mut self, exchange: &Exchange, first: ServerFirst, data: &[u8], now: Now) -> Verdict {
        if now.monotonic.saturating_sub(exchange.began) >= LONGEST {
            return self.refuse_exchange(exchange, &Refusal::BadPassword, now);
        }
        let Ok(message) = first.finish(data) else {
            self.shared.gate.failed_login(Some(&exchange.user), exchange.address, now);
            return self.refuse_exchange(exchange, &Refusal::BadPassword, now);
        };
        let claim = Claim {
            user: Some(exchange.user.clone()),
            client: exchange.client.clone(),
            address: exchange.address,
            proof: Proof::Verified,
            stranger: Stranger::Refused,
        };
        match self.shared.gate.admit(claim, Asked::Store, now) {
            Admission::Admitted(policy) => {
                let known = exchange.session.map(|session| self.table.get(session).map(|entry| entry.client.policy.user()));
                if known.is_some_and(|known| known != Some(policy.user())) {
                    return self.refuse_exchange(exchange, &Refusal::ClientId, now);
                }
                self.shared.gate.passed_login(&exchange.user);
                self.shared.service.nudge();
                self.let_through(policy, exchange.door, Some(message.into()), now)
            }
            Admission::Refused(refusal) => self.refuse_exchange(exchange, &refusal, now),
            Admission::Load(_) | Admission::Hash(_) => self.refuse_exchange(exchange, &Refusal::Internal, now),
        }
    }

    fn refuse_exchange(&self, exchange: &Exchange, refusal: &Refusal, now: Now) -> Verdict {
        match exchange.session {
            Some(_) => self.refuse_again(&exchange.who(), refusal, now),
            None => self.tell_refusal(&exchange.who(), refusal, now),
        }
    }
}

/// Who begins an exchange.
struct Told {
    client: ClientId,
    address: Option<IpAddr>,
    door: usize,
    session: Option<SessionId>,
}
