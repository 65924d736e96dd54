//! Answers operators who ask over MQTT.
//!
//! The broker asks the rules who may publish to [`midge_core::control::TOPIC`], as for any topic, and passes it on to nobody but us.
//! Answers go from the tick to who asked: accounts that nobody has asked for have to be read first.
//! What can't be answered, for whatever reason, is answered so; the client is never cut off for it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use midge_core::control::{Command, Explain, RESPONSE_TOPIC, Request, Responses};
use midge_core::directory::{Identity, Standing};
use midge_core::explain::{Inquiry, Question};
use midge_core::gate::ClientPolicy;
use midge_core::key::{BanTarget, KeySpace};
use midge_core::name::Shown;
use midge_store::node::{Collect, Fact};
use serde_json::{Map, Value, json};

use super::{Plugin, changes};
use crate::border::Status;
use crate::events::Control;
use crate::host::{BrokerCell, BrokerThread, Publication, host};

/// Messages that may wait for their answers; a further one is answered as too many.
const MAX_WAITING: usize = 64;
/// How long an answer waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is of control in one load.
#[derive(Default)]
pub(super) struct Controlling {
    about: Option<About>,
    waiting: BrokerCell<VecDeque<Waiting>>,
}

/// What is answered from.
struct About {
    keys: KeySpace,
    node: String,
    collect: Collect,
}

/// A message that waits for its answer.
struct Waiting {
    client: Box<str>,
    requests: Vec<Request>,
    /// How many accounts are still being read.
    open: Arc<AtomicUsize>,
    until: Duration,
}

impl Controlling {
    pub(super) fn new(keys: &KeySpace, node: &str, collect: Collect) -> Self {
        let about = About { keys: keys.clone(), node: node.to_owned(), collect };
        Self { about: Some(about), waiting: BrokerCell::default() }
    }
}

impl Plugin {
    /// Returns whether the broker has to pass on what is asked.
    pub(crate) fn wants_control(&self) -> bool {
        self.controlling.about.is_some()
    }

    /// Takes a message of an operator.
    pub(crate) fn control(&self, thread: &BrokerThread, control: &Control<'_>) -> Status {
        let Some(client) = control.client.id().and_then(|id| std::str::from_utf8(id).ok()) else { return Status::SUCCESS };
        let requests = Request::parse(control.payload);
        let open = Arc::new(AtomicUsize::new(0));
        let unread = requests.iter().filter_map(|request| match &request.command {
            Ok(Command::Explain(explain)) if !self.is_known(explain) => explain.username.clone(),
            _ => None,
        });
        for user in unread {
            open.fetch_add(1, Ordering::AcqRel);
            let (open, waker) = (open.clone(), self.waker.clone());
            let done = move |_| {
                open.fetch_sub(1, Ordering::AcqRel);
                waker.call();
            };
            self.service.prepare(&user, Box::new(done));
        }
        let waiting = Waiting { client: client.into(), requests, open, until: self.clock.monotonic() + PATIENCE };
        let refused = self.controlling.waiting.with(thread, |all| {
            if all.len() >= MAX_WAITING {
                return Some(waiting);
            }
            all.push_back(waiting);
            None
        });
        if let Some(Some(waiting)) = refused {
            self.respond(thread, waiting, |_| Err(format!("{MAX_WAITING} messages wait for their answers already")));
        }
        Status::SUCCESS
    }

    /// Answers what can be answered; returns whether more waits.
    pub(super) fn answer_questions(&self, thread: &BrokerThread) -> bool {
        let Some(about) = &self.controlling.about else { return false };
        let now = self.clock.monotonic();
        let ready = |waiting: &mut VecDeque<Waiting>| {
            let first = waiting.front()?;
            if first.open.load(Ordering::Acquire) == 0 || now >= first.until { waiting.pop_front() } else { None }
        };
        while let Some(Some(waiting)) = self.controlling.waiting.with(thread, ready) {
            let asker = waiting.client.clone();
            self.respond(thread, waiting, |command| match command {
                Command::Status => Ok(about.status()),
                Command::Explain(explain) => self.explain(about, explain),
                Command::Kick(target) => Ok(self.kick(thread, &asker, target)),
            });
        }
        self.controlling.waiting.with(thread, |waiting| !waiting.is_empty()) == Some(true)
    }

    fn respond(&self, thread: &BrokerThread, waiting: Waiting, answer: impl Fn(&Command) -> Result<Value, String>) {
        let mut responses = Responses::default();
        for request in waiting.requests {
            let answered = request.command.as_ref().map_err(Clone::clone).and_then(&answer);
            responses.add(request, answered);
        }
        let payload = responses.to_payload();
        let client = Some(&*waiting.client);
        let message = Publication { client, topic: RESPONSE_TOPIC, payload: &payload, qos: 1, retain: false, expiry: None };
        if !host().publish(thread, &message) {
            log::debug!("client \"{}\" has gone before its answer", Shown(&waiting.client));
        }
    }

    /// Returns whether all that decides about the client is in memory.
    fn is_known(&self, explain: &Explain) -> bool {
        let slot = self.gate.directory().slot(&identity(explain), self.clock.now());
        let account = slot.account();
        account.standing() != Standing::Unknown && account.is_decided()
    }

    fn explain(&self, about: &About, explain: &Explain) -> Result<Value, String> {
        let question = Question::new(explain.access, &explain.topic)
            .map_err(|error| format!("topic = \"{}\": {error}", Shown(&explain.topic)))?;
        let identity = identity(explain);
        let inquiry = Inquiry { identity: &identity, client: &explain.client, address: explain.address, question };
        let explanation = self.gate.explain(&inquiry, &about.keys, self.clock.now());
        serde_json::to_value(explanation).map_err(|error| error.to_string())
    }

    fn kick(&self, thread: &BrokerThread, asker: &str, target: &BanTarget) -> Value {
        let why = format!("client \"{}\" asked for it", Shown(asker));
        let actions = self.sessions.with(thread, |sessions| {
            let concerned = sessions.iter_mut().filter(|(_, session)| is_meant(target, session.policy()));
            concerned.filter_map(|(address, session)| changes::kick(address, session, &why, true)).collect::<Vec<_>>()
        });
        let actions = actions.unwrap_or_default();
        let count = actions.len();
        self.pending.with(thread, |pending| pending.add(actions));
        json!({ "disconnected": count })
    }
}

impl About {
    fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("node".to_owned(), Value::from(self.node.as_str()));
        for (name, fact) in (self.collect)() {
            let value = match fact {
                Fact::Text(text) => Value::from(text),
                Fact::Gauge(number) | Fact::Counter(number) => Value::from(number),
            };
            status.insert(name.to_owned(), value);
        }
        Value::Object(status)
    }
}

fn identity(explain: &Explain) -> Identity {
    explain.username.as_ref().map_or(Identity::ANONYMOUS, Identity::user)
}

fn is_meant(target: &BanTarget, policy: &ClientPolicy) -> bool {
    match target {
        BanTarget::User(user) => policy.user() == Some(user),
        BanTarget::Client(client) => policy.client() == client,
        BanTarget::Network(network) => {
            policy.address().is_some_and(|address| network.contains(&address) || network.contains(&IpAddr::to_canonical(&address)))
        }
    }
}
