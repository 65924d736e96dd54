//! Real brokers with the plugin over a real store.
//!
//! What must not come is shown by a message that comes after it, never by waiting; deadlines are generous, since machines are busy.

use std::time::{Duration, Instant};

use midge_testkit::{
    Connect, Mosquitto, MosquittoBuilder, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, until,
};

pub(crate) use crate::stage::SOON;

/// Both protocol versions whose answers differ.
pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::V3_1_1, Protocol::V5];
/// MQTT 5.0's answer to a publish that nobody has subscribed to (section 3.4.2.1).
pub(crate) const NO_SUBSCRIBERS: u8 = 0x10;
/// MQTT 5.0's "not authorized" (section 2.4).
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
/// No login is decided by a deadline, and no guess by the shield.
pub(crate) const CALM: &str = "auth_opt_login_deadline 10s\nauth_opt_shield_user_attempts 0\nauth_opt_shield_address_attempts 0\n";

/// Makes a test of each case for each Mosquitto version.
macro_rules! on_every_broker {
    ($($case:ident),+ $(,)?) => {
        on_every_broker!(@ v2_0_11 V2_0_11 $($case)+);
        on_every_broker!(@ v2_0_21 V2_0_21 $($case)+);
        on_every_broker!(@ v2_1_2 V2_1_2 $($case)+);
    };
    (@ $module:ident $version:ident $($case:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $case() {
                    super::$case(midge_testkit::MosquittoVersion::$version);
                }
            )+
        }
    };
}
pub(crate) use on_every_broker;

/// Starts the store that is tested beside that broker, so that both kinds are.
pub(crate) fn store(version: MosquittoVersion) -> RedisServer {
    let kind = if version == MosquittoVersion::V2_0_21 { RedisVersion::Valkey8 } else { RedisVersion::Redis7 };
    RedisServer::builder(kind).start().unwrap()
}

/// A broker, and the store behind its plugin.
pub(crate) struct Stack {
    pub(crate) broker: Mosquitto,
    pub(crate) redis: RedisServer,
}

impl Stack {
    /// Starts both with further lines for the plugin.
    pub(crate) fn start(version: MosquittoVersion, options: &str) -> Self {
        Self::over(store(version), version, options)
    }

    /// Starts a broker over a store that has its data already.
    pub(crate) fn over(redis: RedisServer, version: MosquittoVersion, options: &str) -> Self {
        let broker = broker(version, &redis.url(), &format!("{CALM}{options}"));
        Self { broker, redis }
    }

    pub(crate) fn port(&self) -> u16 {
        self.broker.port()
    }

    /// Connects as `user`, whose password is `secret`.
    pub(crate) fn client(&self, user: &str, id: &str) -> RawClient {
        self.connect(&connect(Protocol::V5, user, id))
    }

    pub(crate) fn connect(&self, connect: &Connect) -> RawClient {
        RawClient::connect(self.port(), connect).unwrap_or_else(|error| panic!("{error:#}:\n{}", self.broker.log()))
    }

    /// Returns the code of the CONNACK.
    pub(crate) fn code(&self, connect: &Connect) -> u8 {
        code(self.port(), connect)
    }

    /// Waits until this login is answered so.
    pub(crate) fn code_until(&self, connect: &Connect, wanted: impl Fn(u8) -> bool) {
        let mut last = 0;
        until("another answer to a login", SOON, || {
            last = self.code(connect);
            Ok(wanted(last).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}, not {last:#x}: {connect:?}"));
    }
}

/// Writes what an application would, through the store's own command.
pub(crate) trait Policy {
    fn run(&self, command: &[&str]) -> String;

    /// Adds a user whose password is `secret`, with rules as `filter rights` pairs.
    fn user(&self, name: &str, rules: &[(&str, &str)]) {
        self.run(&["HSET", &user_key(name), "password", "{plain}secret"]);
        for (filter, rights) in rules {
            self.rule(name, filter, rights);
        }
    }

    fn set(&self, name: &str, field: &str, value: &str) {
        self.run(&["HSET", &user_key(name), field, value]);
    }

    fn rule(&self, name: &str, filter: &str, rights: &str) {
        self.run(&["HSET", &format!("{}:acl", user_key(name)), filter, rights]);
    }

    fn no_rule(&self, name: &str, filter: &str) {
        self.run(&["HDEL", &format!("{}:acl", user_key(name)), filter]);
    }

    fn group_rule(&self, group: &str, filter: &str, rights: &str) {
        self.run(&["HSET", &format!("midge:group:{{{group}}}:acl"), filter, rights]);
    }

    fn rule_for_all(&self, filter: &str, rights: &str) {
        self.run(&["HSET", "midge:all:acl", filter, rights]);
    }
}

impl Policy for RedisServer {
    fn run(&self, command: &[&str]) -> String {
        self.cli(command).unwrap()
    }
}

pub(crate) fn user_key(name: &str) -> String {
    format!("midge:user:{{{name}}}")
}

/// Starts a broker with the plugin over the store at `url`.
pub(crate) fn broker(version: MosquittoVersion, url: &str, options: &str) -> Mosquitto {
    builder(version, url, options).start().unwrap()
}

pub(crate) fn builder(version: MosquittoVersion, url: &str, options: &str) -> MosquittoBuilder {
    let text = format!(
        "listener {{port}} 127.0.0.1\nmax_queued_messages 100000\nauth_plugin {{plugin}}\nauth_opt_store {url}\nauth_opt_log_level debug\n{options}\n"
    );
    Mosquitto::builder(version).config(&text)
}

pub(crate) fn connect(protocol: Protocol, user: &str, id: &str) -> Connect {
    Connect::new(protocol, id).login(user, "secret")
}

pub(crate) fn code(port: u16, connect: &Connect) -> u8 {
    RawClient::try_connect(port, connect).unwrap().1
}

/// Publishes with QoS 1 and returns whether the broker took it; in MQTT 3.1.1 it doesn't say.
pub(crate) fn publishes(client: &mut RawClient, topic: &str) -> bool {
    let code = client.publish(topic, b"payload", 1, false).unwrap();
    assert!([0, NO_SUBSCRIBERS, NOT_AUTHORIZED].contains(&code), "{topic}: {code:#x}");
    code != NOT_AUTHORIZED
}

/// Subscribes with QoS 1 and returns whether the broker granted it.
pub(crate) fn subscribes(client: &mut RawClient, filter: &str) -> bool {
    let codes = client.subscribe(&[(filter, 1)]).unwrap();
    assert_eq!(codes.len(), 1);
    assert!([0, 1, 0x80, NOT_AUTHORIZED].contains(&codes[0]), "{filter}: {:#x}", codes[0]);
    codes[0] < 0x80
}

/// Returns the topics and payloads of all messages that came before the one to `last`.
pub(crate) fn before(client: &mut RawClient, last: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let message = client.message(SOON).unwrap().unwrap_or_else(|| panic!("no message to {last}, but {all:?}")).text();
        if message.0 == last {
            return all;
        }
        all.push(message);
    }
}

/// Returns the topics that of these messages arrive; `end` is one that does, for sure.
pub(crate) fn delivered(from: &mut RawClient, to: &mut RawClient, topics: &[&str], end: &str) -> Vec<String> {
    for topic in topics {
        publishes(from, topic);
    }
    assert!(publishes(from, end), "{end}");
    before(to, end).into_iter().map(|(topic, _)| topic).collect()
}

/// How long changes took to act.
#[derive(Default)]
pub(crate) struct Figures(Vec<(String, Duration)>);

impl Figures {
    /// Waits until something has happened, and notes when.
    pub(crate) fn until(&mut self, what: &str, mut happened: impl FnMut() -> bool) {
        let start = Instant::now();
        until(what, SOON, || Ok(happened().then_some(()))).unwrap();
        self.0.push((what.to_owned(), start.elapsed()));
    }

    pub(crate) fn note(&mut self, what: &str, start: Instant) {
        self.0.push((what.to_owned(), start.elapsed()));
    }

    pub(crate) fn print(&self, title: &str) {
        for (what, time) in &self.0 {
            println!("{title}: {what}: {} ms", time.as_millis());
        }
    }

    /// Prints them, and holds the promise of one second for the usual case: a busy machine may make single ones wait.
    pub(crate) fn within_a_second(mut self, title: &str) {
        self.0.sort_by_key(|(_, time)| *time);
        self.print(title);
        let (_, median) = &self.0[self.0.len() / 2];
        assert!(*median < Duration::from_secs(1), "{title}: {median:?}");
    }
}
