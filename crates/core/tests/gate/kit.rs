//! A hand-made store, a still clock, and a service's loop.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::access::Access;
use midge_core::directory::{Change, Directory, FlawedKey, Identity, Slot};
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, ClientPolicy, Gate, GateSettings, Hello, LoginSettings, Proof, Refusal, Stranger};
use midge_core::key::{Key, KeySpace};
use midge_core::time::Now;
use midge_core::topic::{TopicFilter, TopicName};

pub(crate) fn key(text: &str) -> Key {
    KeySpace::new("").parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a key"))
}

pub(crate) fn hash(fields: &[(&str, &str)]) -> Entry {
    Entry::Hash(fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
}

pub(crate) fn text(value: &str, ttl: Option<u64>) -> Entry {
    Entry::Text { value: value.as_bytes().to_vec(), ttl: ttl.map(Duration::from_secs) }
}

pub(crate) fn hello(user: &str, client: &str, proof: Proof) -> Hello {
    let user = (!user.is_empty()).then(|| user.parse().unwrap());
    Hello { user, client: client.parse().unwrap(), address: Some("192.0.2.1".parse().unwrap()), proof, stranger: Stranger::Refused }
}

pub(crate) fn password(text: &str) -> Proof {
    Proof::Password(text.as_bytes().to_vec().into())
}

/// What came of a login, without the policy.
pub(crate) fn verdict(outcome: &Result<ClientPolicy, Refusal>) -> Result<(), Refusal> {
    outcome.as_ref().map(drop).map_err(Clone::clone)
}

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) store: BTreeMap<Key, Entry>,
    /// Whether the store answers.
    pub(crate) answers: bool,
    pub(crate) now: Now,
    /// Passwords hashed and keys read so far.
    pub(crate) hashed: usize,
    pub(crate) read: usize,
}

impl World {
    /// A world whose store is linked and knows nobody.
    pub(crate) fn new() -> Self {
        Self::with(GateSettings::default(), LoginSettings { hide_unknown: false, ..LoginSettings::default() })
    }

    /// A world that has no automatic subscriptions.
    pub(crate) fn with(mut settings: GateSettings, login: LoginSettings) -> Self {
        settings.directory.lists = false;
        Self::with_all(settings, login)
    }

    /// A world that has automatic subscriptions, if the settings say so.
    pub(crate) fn with_all(settings: GateSettings, login: LoginSettings) -> Self {
        let gate = Gate::new(settings, login).unwrap();
        gate.directory().linked();
        let now = Now { monotonic: Duration::from_secs(100_000), unix: 1_700_000_000 };
        Self { gate, store: BTreeMap::new(), answers: true, now, hashed: 0, read: 0 }
    }

    pub(crate) fn directory(&self) -> &Directory {
        self.gate.directory()
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    /// Writes to the store without a word to the gate.
    pub(crate) fn write(&mut self, at: &str, entry: Entry) {
        match entry {
            Entry::Missing => self.store.remove(&key(at)),
            entry => self.store.insert(key(at), entry),
        };
    }

    /// Writes to the store and has the change announced and read, as a service does.
    pub(crate) fn set(&mut self, at: &str, entry: Entry) -> Vec<FlawedKey> {
        self.write(at, entry);
        self.announce(&[at])
    }

    pub(crate) fn announce(&mut self, changed: &[&str]) -> Vec<FlawedKey> {
        let keys: Vec<Key> = changed.iter().map(|text| key(text)).filter(|key| self.directory().concerns(key)).collect();
        let mut flawed = self.load(&keys);
        let users = keys.iter().filter_map(|key| match key {
            Key::User(user) => Some(self.directory().slots_of(user)),
            _ => None,
        });
        let more: Vec<Key> = users.flatten().flat_map(|slot| self.directory().wants(&slot)).collect();
        flawed.extend(self.load(&more));
        flawed
    }

    pub(crate) fn load(&mut self, keys: &[Key]) -> Vec<FlawedKey> {
        self.read += keys.len();
        let read: Vec<(Key, Entry)> =
            keys.iter().map(|key| (key.clone(), self.store.get(key).cloned().unwrap_or(Entry::Missing))).collect();
        self.gate.directory().apply(&read, self.now)
    }

    /// Reads what `slot` wants, in two rounds.
    pub(crate) fn fill(&mut self, slot: &Slot) {
        let first = self.directory().wants(slot);
        self.load(&first);
        let second: Vec<Key> = self.directory().wants(slot).into_iter().filter(|key| !first.contains(key)).collect();
        self.load(&second);
    }

    /// Logs in as a service would, up to the end.
    pub(crate) fn login(&mut self, hello: &Hello) -> Result<ClientPolicy, Refusal> {
        let mut admission = self.gate.admit(hello.clone(), Asked::Memory, self.now);
        loop {
            admission = match admission {
                Admission::Admitted(policy) => return Ok(policy),
                Admission::Refused(refusal) => return Err(refusal),
                Admission::Hash(job) => {
                    self.hashed += 1;
                    self.gate.conclude(job.run(), self.now)
                }
                Admission::Load(slot) if self.answers => {
                    self.fill(&slot);
                    let of_client: Vec<Key> = self.directory().wants_of_client(&hello.client).into_iter().collect();
                    self.load(&of_client);
                    if hello.stranger == Stranger::Nameless {
                        self.fill(&self.directory().slot(&Identity::ANONYMOUS, self.now));
                    }
                    let again = self.gate.admit(hello.clone(), Asked::Store, self.now);
                    assert!(!matches!(again, Admission::Load(_)), "asks again for what it was given");
                    again
                }
                Admission::Load(_) => self.gate.admit(hello.clone(), Asked::StoreAway, self.now),
            }
        }
    }

    pub(crate) fn by_password(&mut self, user: &str, secret: &str) -> Result<ClientPolicy, Refusal> {
        self.login(&hello(user, "c1", password(secret)))
    }

    /// Returns the usernames whose changes wait, `@` and the identifier for lists of clients, and `*` for bans.
    pub(crate) fn changes(&self) -> Vec<String> {
        let shown = |change: &Change| match change {
            Change::Account(slot) => slot.identity().user.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            Change::Client(client) => format!("@{client}"),
            Change::Bans => "*".to_owned(),
        };
        assert!(self.directory().has_changes() || self.directory().take_changes().is_empty());
        self.directory().take_changes().iter().map(shown).collect()
    }
}

pub(crate) fn may(policy: &ClientPolicy, access: Access, topic: &str) -> bool {
    policy.may(access, TopicName::new(topic).unwrap()).allowed
}

pub(crate) fn publishes(policy: &ClientPolicy, topic: &str) -> bool {
    may(policy, Access::Publish, topic)
}

pub(crate) fn subscribes(policy: &ClientPolicy, filter: &str) -> bool {
    policy.may_subscribe(TopicFilter::new(filter).unwrap()).allowed
}
