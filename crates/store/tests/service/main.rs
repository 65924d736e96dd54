//! Accounts are read in batches, followed, and kept.
//!
//! Everybody who asks is answered exactly once, and nobody waits for a store that is known not to answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fake;
mod redis;
mod rights;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fake::Fake;
use midge_core::entry::Entry;
use midge_core::gate::{
    Anonymous, Asked, ClientPolicy, Gate, GateSettings, Hello, LoginSettings, Proof, Refusal, StoreDown, Stranger,
};
use midge_core::key::Key;
use midge_core::password::HashPolicy;
use midge_core::shield::ShieldSettings;
use midge_core::topic::TopicFilter;
use midge_store::service::{Clock, Service, ServiceSettings, Verdict};
use midge_store::{Backend, Change, StoreSettings, WatchPolicy};
use midge_testkit::until;

/// Generous: what shall take a second on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(20);

struct Node {
    gate: Arc<Gate>,
    service: Option<Service>,
}

fn logins() -> LoginSettings {
    LoginSettings { hide_unknown: false, ..LoginSettings::default() }
}

impl Node {
    fn start(backend: Box<dyn Backend>) -> Self {
        Self::with(backend, logins(), ServiceSettings::default())
    }

    fn with(backend: Box<dyn Backend>, login: LoginSettings, settings: ServiceSettings) -> Self {
        let shield = ShieldSettings { user_attempts: 3, first: Duration::from_secs(60), ..ShieldSettings::default() };
        let gate = Arc::new(Gate::new(GateSettings { shield, ..GateSettings::default() }, login).unwrap());
        let service = Service::start(gate.clone(), backend, settings, Clock::start()).unwrap();
        Self { gate, service: Some(service) }
    }

    fn redis(url: &str, watch: WatchPolicy) -> Self {
        let settings = StoreSettings {
            watch,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            ..StoreSettings::default()
        };
        Self::start(midge_store::open(&url.parse().unwrap(), &settings).unwrap())
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    /// Asks for `user`; a password of "" is one that somebody else has checked.
    fn ask(&self, user: &str, password: &str) -> Receiver<Verdict> {
        let (sender, answer) = channel();
        self.service().login(hello(user, password), Box::new(move |verdict| sender.send(verdict).unwrap()));
        answer
    }

    fn login(&self, user: &str, password: &str) -> Verdict {
        self.ask(user, password).recv_timeout(SOON).unwrap()
    }

    fn is_linked(&self) {
        until("a link", SOON, || Ok((self.service().health().linked && self.service().health().connected).then_some(()))).unwrap();
    }

    fn leaves(&self, client: &ClientPolicy) -> Option<Refusal> {
        client.revoked(&self.gate, self.service().clock().now())
    }

    fn has_to_leave(&self, client: &ClientPolicy, expected: &Refusal, what: &str) {
        until(what, SOON, || Ok((self.leaves(client).as_ref() == Some(expected)).then_some(()))).unwrap();
    }

    fn is_away(&self) {
        until("a store that is away", SOON, || Ok((!self.service().health().connected).then_some(()))).unwrap();
    }
}

fn hello(user: &str, password: &str) -> Hello {
    let proof = if password.is_empty() { Proof::Verified } else { Proof::Password(password.as_bytes().to_vec().into()) };
    Hello { user: Some(user.parse().unwrap()), client: "c".parse().unwrap(), address: None, proof, stranger: Stranger::Refused }
}

fn user(name: &str) -> Key {
    Key::User(name.parse().unwrap())
}

fn record(pairs: &[(&str, &str)]) -> Entry {
    Entry::Hash(pairs.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
}

fn enabled() -> Entry {
    record(&[("enabled", "1")])
}

fn refused(verdict: Verdict) -> Refusal {
    verdict.map(drop).expect_err("it should be refused")
}

#[test]
fn logins_that_wait_share_round_trips() {
    let fake = Fake::new();
    for n in 0..1_000 {
        fake.put(user(&format!("u{n}")), record(&[("enabled", "1"), ("groups", "staff")]));
    }
    let node = Node::start(fake.backend());
    node.is_linked();
    node.login("u0", "").unwrap();
    fake.hold(true);
    let first = node.ask("u1", "");
    until("a held question", SOON, || Ok((fake.holding() > 0).then_some(()))).unwrap();
    let others: Vec<_> = (2..1_000).map(|n| node.ask(&format!("u{n}"), "")).collect();
    let before = fake.reads();
    fake.hold(false);
    for answer in std::iter::once(first).chain(others) {
        answer.recv_timeout(SOON).unwrap().unwrap();
    }
    let asked = fake.reads() - before;
    assert!(asked <= 6, "{asked} round trips for 1,000 logins");
    assert!(matches!(refused(node.login("nobody", "")), Refusal::NoSuchUser));
    let before = fake.reads();
    node.login("u500", "").unwrap();
    assert_eq!(fake.reads(), before, "who is known and fresh is not asked about");
}

#[test]
fn a_name_that_nobody_has_is_read_together_with_nobody() {
    let fake = Fake::new();
    fake.put(user("alice"), enabled());
    let node = Node::with(fake.backend(), LoginSettings { anonymous: Anonymous::Allow, ..logins() }, ServiceSettings::default());
    node.is_linked();
    let login = |name: &str| {
        let (sender, answer) = channel();
        let hello = Hello { stranger: Stranger::Nameless, ..hello(name, "whatever") };
        node.service().login(hello, Box::new(move |verdict| sender.send(verdict).unwrap()));
        answer.recv_timeout(SOON).unwrap()
    };
    for (name, questions) in [("stranger", 1), ("stranger", 0), ("other", 1)] {
        let before = fake.reads();
        assert!(login(name).unwrap().user().is_none(), "{name}");
        assert_eq!(fake.reads() - before, questions, "{name}");
    }
    assert!(matches!(refused(login("alice")), Refusal::NoPassword));
}

#[test]
fn passwords_are_hashed_once_and_upgraded_unless_they_have_changed() {
    let weak = HashPolicy::argon2id(8, 1, 1).unwrap();
    let strong = HashPolicy::argon2id(16, 1, 1).unwrap();
    let (old, other) = (weak.hash(b"secret").unwrap(), weak.hash(b"other").unwrap());
    let fake = Fake::new();
    for name in ["alice", "bob"] {
        fake.put(user(name), record(&[("password", &old)]));
    }
    let login = LoginSettings { rehash: Some(strong), ..logins() };
    let node = Node::with(fake.backend(), login, ServiceSettings::default());
    node.login("alice", "secret").unwrap();
    until("a stronger password", SOON, || Ok((fake.field(&user("alice"), "password") != old).then_some(()))).unwrap();
    let hashed = node.service().health().hashed;
    node.login("alice", "secret").unwrap();
    assert_eq!(node.service().health().hashed, hashed, "a right password is remembered");
    assert!(matches!(refused(node.login("alice", "wrong")), Refusal::BadPassword));
    // Bob's password is replaced by an operator while it is being verified.
    node.service().prepare(&"bob".parse().unwrap(), Box::new(|_| ()));
    fake.swap_before_replacing(user("bob"), record(&[("password", &other)]));
    node.login("bob", "secret").unwrap();
    until("the question whether to replace", SOON, || Ok((fake.replaces() >= 2).then_some(()))).unwrap();
    assert_eq!(fake.field(&user("bob"), "password"), other, "the operator's is the newer one");
}

#[test]
fn while_the_store_is_away_nobody_waits() {
    let fake = Fake::new();
    fake.put(user("known"), enabled());
    fake.put(user("new"), enabled());
    let node = Node::start(fake.backend());
    node.is_linked();
    let client = node.login("known", "").unwrap();
    fake.away(true);
    node.is_away();
    for _ in 0..100 {
        // The answer is there when the question returns.
        assert!(node.ask("known", "").try_recv().unwrap().is_ok());
        assert!(matches!(refused(node.ask("new", "").try_recv().unwrap()), Refusal::StoreAway));
    }
    let (sender, prepared) = channel();
    node.service().prepare(&"new".parse().unwrap(), Box::new(move |asked| sender.send(asked).unwrap()));
    assert_eq!(prepared.try_recv().unwrap(), Asked::StoreAway);
    assert!(!node.service().is_prompt(SOON) && node.leaves(&client).is_none());
    fake.away(false);
    until("the return of the store", SOON, || Ok(node.login("new", "").ok())).unwrap();
    assert!(node.service().is_prompt(SOON));
}

#[test]
fn store_down_deny_refuses_the_known_too() {
    let fake = Fake::new();
    fake.put(user("known"), enabled());
    let node = Node::with(fake.backend(), LoginSettings { store_down: StoreDown::Deny, ..logins() }, ServiceSettings::default());
    node.is_linked();
    let client = node.login("known", "").unwrap();
    fake.away(true);
    node.is_away();
    until("a lost link", SOON, || Ok((!node.service().health().linked).then_some(()))).unwrap();
    assert!(matches!(refused(node.login("known", "")), Refusal::StoreAway));
    assert!(node.leaves(&client).is_none(), "who is connected stays");
}

#[test]
fn what_is_lost_with_all_else_is_not_deleted() {
    let fake = Fake::new();
    for name in ["a", "b", "idle"] {
        fake.put(user(name), enabled());
    }
    fake.put(Key::Ban("user:villain".parse().unwrap()), Entry::Text { value: b"why".to_vec(), ttl: None });
    let node = Node::start(fake.backend());
    node.is_linked();
    let (a, b) = (node.login("a", "").unwrap(), node.login("b", "").unwrap());
    drop(node.login("idle", "").unwrap());
    until("the ban", SOON, || Ok(matches!(node.login("villain", ""), Err(Refusal::Banned { .. })).then_some(()))).unwrap();
    // The store is asked before anybody has announced that it was emptied.
    fake.deaf(true);
    until("a lost link", SOON, || Ok((!node.service().health().linked).then_some(()))).unwrap();
    fake.clear();
    node.login("idle", "").unwrap();
    until("the loss to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
    fake.deaf(false);
    node.is_linked();
    node.login("idle", "").unwrap();
    assert!(matches!(refused(node.login("villain", "")), Refusal::Banned { .. }));
    assert!(node.leaves(&a).is_none() && node.leaves(&b).is_none());
    // A key that is named counts, also now.
    fake.announce(&Change::Key(user("a")));
    node.has_to_leave(&a, &Refusal::NoSuchUser, "a deleted user to leave");
    assert!(node.leaves(&b).is_none());
    // Somebody fills it again, without b.
    fake.put(user("idle"), enabled());
    fake.announce(&Change::Key(user("idle")));
    node.has_to_leave(&b, &Refusal::NoSuchUser, "the end of the emptiness");
    assert!(!node.service().health().emptied);
    node.login("idle", "").unwrap();
}

#[test]
fn a_change_just_before_everything_is_lost_deletes_nobody() {
    for policy in [&[user("a")][..], &[user("a"), Key::UserAcl("a".parse().unwrap())], &[Key::Ban("user:villain".parse().unwrap())]]
    {
        let fake = Fake::new();
        for name in ["a", "b"] {
            fake.put(user(name), enabled());
            fake.put(Key::UserAcl(name.parse().unwrap()), record(&[("t/#", "prs")]));
        }
        fake.put(Key::Ban("user:villain".parse().unwrap()), Entry::Text { value: b"why".to_vec(), ttl: None });
        let node = Node::start(fake.backend());
        node.is_linked();
        let clients = ["a", "b"].map(|name| node.login(name, "").unwrap());
        until("the ban", SOON, || Ok(matches!(node.login("villain", ""), Err(Refusal::Banned { .. })).then_some(()))).unwrap();
        // The change is known, and all is lost before it is read.
        fake.hold(true);
        for key in policy {
            fake.announce(&Change::Key(key.clone()));
        }
        until("the question", SOON, || Ok((fake.holding() > 0).then_some(()))).unwrap();
        fake.flush();
        fake.hold(false);
        until("the loss to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
        for client in &clients {
            assert_eq!(node.leaves(client), None, "{policy:?}");
            assert!(client.may_subscribe(TopicFilter::new("t/1").unwrap()).allowed, "{policy:?}");
        }
        assert!(matches!(refused(node.login("villain", "")), Refusal::Banned { .. }), "{policy:?}");
        // Deleted by itself, it is gone.
        fake.announce(&Change::Key(user("a")));
        node.has_to_leave(&clients[0], &Refusal::NoSuchUser, "a deleted user to leave");
    }
}

#[test]
fn an_emptied_store_is_believed_after_the_bounded_age() {
    for (store_down, stays) in [(StoreDown::LastKnownGood(Duration::from_secs(2)), true), (StoreDown::Deny, false)] {
        let fake = Fake::new();
        fake.put(user("a"), enabled());
        let node = Node::with(fake.backend(), LoginSettings { store_down, ..logins() }, ServiceSettings::default());
        node.is_linked();
        let a = node.login("a", "").unwrap();
        fake.clear();
        fake.announce(&Change::Everything);
        if stays {
            until("the loss to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
        }
        node.has_to_leave(&a, &Refusal::NoSuchUser, "the end of the bounded age");
        until("no emptiness", SOON, || Ok((!node.service().health().emptied).then_some(()))).unwrap();
        // And the next gap does not begin it anew.
        fake.announce(&Change::Everything);
        assert!(matches!(refused(node.login("a", "")), Refusal::NoSuchUser | Refusal::StoreAway));
        // A store that was filled and is emptied again is another matter.
        fake.put(user("a"), enabled());
        fake.announce(&Change::Key(user("a")));
        let a = until("the user again", SOON, || Ok(node.login("a", "").ok())).unwrap();
        fake.clear();
        fake.announce(&Change::Everything);
        node.has_to_leave(&a, &Refusal::NoSuchUser, "the end of the second age");
    }
}

#[test]
fn after_a_gap_all_live_accounts_are_read_again() {
    const LIVE: usize = 10_000;
    let fake = Fake::new();
    for n in 0..LIVE {
        fake.put(user(&format!("u{n}")), enabled());
    }
    let node = Node::start(fake.backend());
    node.is_linked();
    let answers: Vec<_> = (0..LIVE).map(|n| node.ask(&format!("u{n}"), "")).collect();
    let clients: Vec<ClientPolicy> = answers.iter().map(|answer| answer.recv_timeout(SOON).unwrap().unwrap()).collect();
    fake.deaf(true);
    until("a lost link", SOON, || Ok((!node.service().health().linked).then_some(()))).unwrap();
    for n in [0, LIVE / 2, LIVE - 1] {
        fake.remove(&user(&format!("u{n}")));
    }
    fake.put(user("u7"), record(&[("enabled", "0")]));
    let before = fake.reads();
    fake.deaf(false);
    for n in [0, LIVE / 2, LIVE - 1] {
        node.has_to_leave(&clients[n], &Refusal::NoSuchUser, "a deleted user to leave");
    }
    node.has_to_leave(&clients[7], &Refusal::Disabled, "a disabled user to leave");
    assert_eq!(clients.iter().filter(|client| node.leaves(client).is_some()).count(), 4);
    let asked = fake.reads() - before;
    assert!(asked <= 300, "{asked} round trips for 10,000 accounts");
}

#[test]
fn whoever_is_followed_anew_is_asked_anew() {
    let fake = Fake::new();
    let node = Node::start(fake.backend());
    node.is_linked();
    assert_eq!(fake.connects(), 1);
    // As after a failover whose old master still answers.
    fake.deaf(true);
    until("a lost link", SOON, || Ok((!node.service().health().linked).then_some(()))).unwrap();
    fake.deaf(false);
    until("another connection", SOON, || Ok((fake.connects() == 2).then_some(()))).unwrap();
    node.is_linked();
}

#[test]
fn announcements_of_everything_starve_nobody() {
    const LIVE: usize = 3_000;
    let fake = Fake::new();
    for n in 0..LIVE {
        fake.put(user(&format!("u{n}")), enabled());
    }
    let node = Node::start(fake.backend());
    node.is_linked();
    let clients: Vec<ClientPolicy> = (0..LIVE).map(|n| node.login(&format!("u{n}"), "").unwrap()).collect();
    // A sweep takes longer than the time between two of them.
    fake.slow(Duration::from_millis(10));
    fake.flood(Duration::from_millis(5));
    fake.put(user("late"), enabled());
    for n in 0..LIVE {
        fake.remove(&user(&format!("u{n}")));
    }
    node.login("late", "").unwrap();
    for client in &clients {
        node.has_to_leave(client, &Refusal::NoSuchUser, "each of them to be read");
    }
    node.login("late", "").unwrap();
}

#[test]
fn full_queues_answer_busy() {
    let fake = Fake::new();
    let stored = HashPolicy::argon2id(8, 1, 1).unwrap().hash(b"secret").unwrap();
    for n in 0..20 {
        fake.put(user(&format!("u{n}")), record(&[("password", &stored)]));
    }
    let settings = ServiceSettings { hash_threads: 1, hash_queue: 2, login_queue: 5 };
    let node = Node::with(fake.backend(), logins(), settings);
    node.is_linked();
    fake.hold(true);
    let first = node.ask("u0", "");
    until("a held question", SOON, || Ok((fake.holding() > 0).then_some(()))).unwrap();
    let others: Vec<_> = (1..20).map(|n| node.ask(&format!("u{n}"), "")).collect();
    for (at, answer) in others.iter().enumerate().skip(5) {
        assert!(matches!(answer.try_recv(), Ok(Err(Refusal::Busy))), "{at}");
    }
    assert_eq!(node.service().health().busy, 14);
    fake.hold(false);
    for answer in std::iter::once(&first).chain(&others[..5]) {
        answer.recv_timeout(SOON).unwrap().unwrap();
    }
    // The one thread that hashes is kept busy by whoever is told first.
    let (sender, stuck) = channel();
    let (release, released) = channel::<()>();
    node.service().login(
        hello("u0", "secret"),
        Box::new(move |verdict| {
            sender.send(verdict.is_ok()).unwrap();
            released.recv_timeout(SOON).unwrap();
        }),
    );
    assert!(stuck.recv_timeout(SOON).unwrap());
    let waiting: Vec<_> = (1..5).map(|n| node.ask(&format!("u{n}"), "secret")).collect();
    assert!(waiting[2..].iter().all(|answer| matches!(answer.recv_timeout(SOON), Ok(Err(Refusal::Busy)))));
    release.send(()).unwrap();
    assert!(waiting[..2].iter().all(|answer| answer.recv_timeout(SOON).unwrap().is_ok()));
}

#[test]
fn everybody_is_answered_once_whatever_ends() {
    let stored = HashPolicy::argon2id(8, 1, 1).unwrap().hash(b"secret").unwrap();
    for round in 0..6 {
        let fake = Fake::new();
        for n in 0..300 {
            fake.put(user(&format!("u{n}")), record(&[("password", &stored)]));
        }
        let mut node = Node::start(fake.backend());
        let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..300).map(|_| AtomicUsize::new(0)).collect());
        for n in 0..300 {
            match (round, n) {
                (1, 100) => fake.away(true),
                (2, 100) => fake.hold(true),
                (3, 100) => fake.away(true),
                (3, 200) => fake.away(false),
                (4, 100) => fake.panicking(true),
                (4, 200) => fake.panicking(false),
                _ => {}
            }
            let counts = counts.clone();
            let password = if n % 3 == 0 { "wrong" } else { "secret" };
            let done = move |_| {
                counts[n].fetch_add(1, Ordering::SeqCst);
                assert!(round != 5 || n % 7 != 0, "a callback that panics");
            };
            node.service().login(hello(&format!("u{n}"), password), Box::new(done));
        }
        let start = Instant::now();
        node.service = None;
        assert!(start.elapsed() < SOON, "round {round} took {:?} to end", start.elapsed());
        let counts: Vec<usize> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        assert!(counts.iter().all(|count| *count == 1), "round {round}: {counts:?}");
    }
}

#[test]
fn a_panic_in_a_callback_ends_no_thread() {
    let fake = Fake::new();
    let stored = HashPolicy::argon2id(8, 1, 1).unwrap().hash(b"secret").unwrap();
    for n in 0..10 {
        fake.put(user(&format!("u{n}")), record(&[("password", &stored)]));
    }
    let settings = ServiceSettings { hash_threads: 1, ..ServiceSettings::default() };
    let node = Node::with(fake.backend(), logins(), settings);
    for n in 0..5 {
        for password in ["secret", ""] {
            node.service().login(hello(&format!("u{n}"), password), Box::new(|_| panic!("a callback that panics")));
        }
    }
    fake.panicking(true);
    drop(node.login("u6", ""));
    fake.panicking(false);
    until("a login after panics", SOON, || Ok(node.login("u7", "secret").ok())).unwrap();
    node.login("u8", "").unwrap();
}

#[test]
fn a_store_that_takes_no_writes_still_answers() {
    let fake = Fake::new();
    let stored = HashPolicy::argon2id(8, 1, 1).unwrap().hash(b"secret").unwrap();
    for n in 0..50 {
        fake.put(user(&format!("u{n}")), record(&[("password", &stored)]));
    }
    fake.read_only(true);
    let node = Node::start(fake.backend());
    node.is_linked();
    assert!(matches!(refused(node.login("u0", "wrong")), Refusal::BadPassword));
    until("the failed write", SOON, || Ok((node.service().health().failures > 0).then_some(()))).unwrap();
    let failures = node.service().health().failures;
    until("the store again", SOON, || Ok(node.service().health().connected.then_some(()))).unwrap();
    for n in 1..50 {
        assert!(matches!(refused(node.login(&format!("u{n}"), "wrong")), Refusal::BadPassword), "{n}");
    }
    assert!(node.service().health().failures <= failures + 1, "further failures of logins don't cut the connection each");
}

#[test]
fn lists_of_subscriptions_are_known_at_the_login_and_followed() {
    let list = |filters: &[&str]| record(&filters.iter().map(|filter| (*filter, "1")).collect::<Vec<_>>());
    let fake = Fake::new();
    fake.put(user("ann"), record(&[("enabled", "1"), ("groups", "staff")]));
    fake.put(Key::AllAcl, record(&[("#", "rs")]));
    fake.put(Key::UserAutosub("ann".parse().unwrap()), list(&["u"]));
    fake.put(Key::GroupAutosub("staff".parse().unwrap()), list(&["g"]));
    fake.put(Key::AllAutosub, list(&["all"]));
    let of_client = Key::ClientAutosub("c".parse().unwrap());
    fake.put(of_client.clone(), list(&["c"]));
    let node = Node::start(fake.backend());
    let ann = node.login("ann", "").unwrap();
    let filters = || {
        let plan = ann.subscriptions(&node.gate, "", 10);
        assert!(plan.complete);
        plan.subscriptions().iter().map(|one| one.filter.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(filters(), ["all", "c", "g", "u"]);
    node.is_linked();
    let change = |key: &Key, filters: &[&str]| {
        fake.put(key.clone(), list(filters));
        fake.announce(&Change::Key(key.clone()));
    };
    let has = |wanted: &[&str]| until(&format!("{wanted:?}"), SOON, || Ok((filters() == wanted).then_some(()))).unwrap();
    change(&of_client, &["c", "d"]);
    has(&["all", "c", "d", "g", "u"]);
    // Behind a gap, and nobody says what has changed.
    fake.remove(&of_client);
    fake.put(Key::AllAutosub, list(&["everyone"]));
    fake.announce(&Change::Everything);
    has(&["everyone", "g", "u"]);
    // All is known of those who have no list: the next login of another asks for nothing.
    let other = || {
        node.gate.admit(Hello { client: "other".parse().unwrap(), ..hello("ann", "") }, Asked::Memory, node.service().clock().now())
    };
    until("all lists", SOON, || Ok(matches!(other(), midge_core::gate::Admission::Admitted(_)).then_some(()))).unwrap();
    // A store that has lost everything has lost no list.
    fake.flush();
    until("the loss to be noticed", SOON, || Ok(node.service().health().emptied.then_some(()))).unwrap();
    assert_eq!(filters(), ["everyone", "g", "u"]);
}
