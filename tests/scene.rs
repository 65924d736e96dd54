//! A real Mosquitto with the plugin, and a store.
//!
//! What a test asserts is what a client sees; waiting is for a condition, with a deadline.

use std::time::Duration;

use midge_testkit::{Connect, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, plugin, until};

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// A message that is to come at all has come by then.
pub(crate) const QUIET: Duration = Duration::from_millis(400);
const DENIED: u8 = 0x87;

/// A broker, and the store that it asks.
pub(crate) struct Scene {
    pub(crate) broker: Mosquitto,
    pub(crate) redis: RedisServer,
}

/// Options that keep a busy machine from deciding a test.
const PATIENT: &str = "auth_opt_login_deadline 10s\nauth_opt_shield_user_attempts 0\nauth_opt_shield_address_attempts 0\n";

/// Starts a broker on the store at `url`, with further lines of configuration.
pub(crate) fn broker(version: MosquittoVersion, url: &str, more: &str) -> Mosquitto {
    let text = format!(
        "listener {{port}} 127.0.0.1\nallow_anonymous false\nmax_queued_messages 10000\nauth_plugin {}\nauth_opt_store {url}\n{more}",
        plugin().unwrap().display()
    );
    Mosquitto::builder(version).config(&text).start().unwrap()
}

impl Scene {
    /// Starts both, and waits until the plugin follows the store.
    pub(crate) fn new(version: MosquittoVersion, more: &str) -> Self {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        let broker = broker(version, &redis.url(), &format!("{PATIENT}{more}"));
        let scene = Self { broker, redis };
        scene.wait_log("following changes");
        scene
    }

    pub(crate) fn wait_log(&self, text: &str) {
        until(text, SOON, || Ok(self.broker.log().contains(text).then_some(()))).unwrap();
    }

    /// Runs a command of `redis-cli`.
    pub(crate) fn set(&self, command: &[&str]) {
        self.redis.cli(command).unwrap();
    }

    /// Adds a user with a stored password and rules.
    pub(crate) fn user(&self, name: &str, stored: &str, rules: &[(&str, &str)]) {
        self.set(&["HSET", &format!("midge:user:{{{name}}}"), "password", stored]);
        for (filter, rights) in rules {
            self.set(&["HSET", &format!("midge:user:{{{name}}}:acl"), filter, rights]);
        }
    }

    /// Lets a client in; each login of a user is tried until the broker has seen what was just written.
    pub(crate) fn client(&self, protocol: Protocol, id: &str, user: &str, password: &str) -> RawClient {
        self.connect(&Connect::new(protocol, id).login(user, password))
    }

    pub(crate) fn connect(&self, connect: &Connect) -> RawClient {
        until("to be let in", SOON, || {
            let (client, code) = RawClient::try_connect(self.broker.port(), connect)?;
            Ok((code == 0).then_some(client))
        })
        .unwrap()
    }

    /// Returns the code that a login gets.
    pub(crate) fn login(&self, protocol: Protocol, id: &str, user: &str, password: &[u8]) -> u8 {
        RawClient::try_connect(self.broker.port(), &Connect::new(protocol, id).login(user, password)).unwrap().1
    }

    /// Waits until a publish to `topic` is allowed, or is not.
    pub(crate) fn wait_publish(&self, client: &mut RawClient, topic: &str, allowed: bool) {
        until("the rule to act on publishing", SOON, || {
            Ok(((client.publish(topic, b"?", 1, false)? != DENIED) == allowed).then_some(()))
        })
        .unwrap();
    }
}

/// Returns whether a probe published to `topic` reaches `receiver`.
pub(crate) fn reaches(sender: &mut RawClient, receiver: &mut RawClient, topic: &str, probe: &str) -> bool {
    sender.publish(topic, probe.as_bytes(), 1, false).unwrap();
    while let Some(message) = receiver.message(QUIET).unwrap() {
        if message.text() == (topic.to_owned(), probe.to_owned()) {
            return true;
        }
    }
    false
}
