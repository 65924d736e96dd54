//! A fake host with the plugin, over a real Redis.
//!
//! What a login comes to is waited for, never for how long.

use std::time::Duration;

use midge_testkit::fake_host::{none, text};
use midge_testkit::{FakeHost, HostKind, RedisServer, RedisVersion, plugin, python, until};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) const RECEIVE: u8 = 1;
pub(crate) const PUBLISH: u8 = 2;
pub(crate) const SUBSCRIBE: u8 = 4;
pub(crate) const UNSUBSCRIBE: u8 = 8;

pub(crate) const OK: i32 = 0;
pub(crate) const AUTH: i32 = 11;
pub(crate) const DENIED: i32 = 12;
pub(crate) const UNKNOWN: i32 = 13;
pub(crate) const DEFER: i32 = 17;
pub(crate) const AUTH_CONTINUE: i32 = -4;
pub(crate) const AUTH_DELAYED: i32 = -5;

/// Keeps the broker's thread waiting as long as a busy machine needs, so that no login of a test is decided by a deadline.
pub(crate) const PATIENT: (&str, &str) = ("login_deadline", "10s");
/// Switches the brute-force shield off, for tests that guess on purpose.
pub(crate) const UNSHIELDED: [(&str, &str); 2] = [("shield_user_attempts", "0"), ("shield_address_attempts", "0")];

/// A host, and the store behind the plugin that it has loaded.
pub(crate) struct Stage {
    pub(crate) host: FakeHost,
    pub(crate) redis: RedisServer,
}

impl Stage {
    /// Loads the plugin into a host of that release.
    pub(crate) fn new(kind: HostKind, options: &[(&str, &str)]) -> Self {
        Self::with(FakeHost::start(kind).unwrap(), options)
    }

    /// Loads the plugin into a host.
    pub(crate) fn with(host: FakeHost, options: &[(&str, &str)]) -> Self {
        let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
        let mut stage = Self { host, redis };
        stage.host.load(&plugin().unwrap()).unwrap();
        assert_eq!(stage.init(options), OK);
        stage
    }

    /// Initialises the plugin, once more too.
    pub(crate) fn init(&mut self, options: &[(&str, &str)]) -> i32 {
        let url = self.redis.url();
        // Lists of hot topics come by the clock, among whatever calls are looked at.
        let mut all = vec![("store", url.as_str()), PATIENT, ("hot_list", "0")];
        all.extend(options);
        self.host.init(&all).unwrap()
    }

    /// Adds a user whose password is stored as it is, with rules as `filter rights` pairs.
    pub(crate) fn user(&self, name: &str, password: &str, rules: &[(&str, &str)]) {
        self.redis.cli(&["HSET", &format!("midge:user:{{{name}}}"), "password", &format!("{{plain}}{password}")]).unwrap();
        for (filter, rights) in rules {
            self.rule(name, filter, rights);
        }
    }

    pub(crate) fn rule(&self, name: &str, filter: &str, rights: &str) {
        self.redis.cli(&["HSET", &format!("midge:user:{{{name}}}:acl"), filter, rights]).unwrap();
    }

    /// Logs a client in, and waits for an answer that comes later.
    pub(crate) fn login(&mut self, handle: u16, id: &str, user: &str, password: &str) -> i32 {
        let arguments = [handle.to_string(), text(id), text(user), text(password)];
        match self.host.command("auth", &arguments).unwrap().code {
            AUTH_DELAYED => self.answer(id),
            code => code,
        }
    }

    /// Logs a client in that gives no name.
    pub(crate) fn login_anonymous(&mut self, handle: u16, id: &str) -> i32 {
        match self.host.command("auth", &[handle.to_string(), text(id), none(), none()]).unwrap().code {
            AUTH_DELAYED => self.answer(id),
            code => code,
        }
    }

    /// Waits for the answer to a login that was delayed.
    pub(crate) fn answer(&mut self, id: &str) -> i32 {
        let call = self.host.tick_until(&format!("complete_basic_auth {id} "), SOON).unwrap();
        call.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn acl(&mut self, handle: u16, access: u8, topic: &str) -> i32 {
        let arguments = [handle.to_string(), access.to_string(), text(topic), text("payload")];
        self.host.command("acl", &arguments).unwrap().code
    }

    /// Asks until the answer is that one.
    pub(crate) fn acl_until(&mut self, handle: u16, access: u8, topic: &str, code: i32) {
        let what = format!("{code} for {access} {topic}");
        until(&what, SOON, || {
            self.host.tick()?;
            Ok((self.acl(handle, access, topic) == code).then_some(()))
        })
        .unwrap();
    }

    /// Ticks until the plugin has logged a line with all these words, and returns it.
    pub(crate) fn logged(&mut self, words: &[&str]) -> String {
        let mut seen = Vec::new();
        let found = until(&format!("a log line with {words:?}"), SOON, || {
            self.host.tick()?;
            seen.extend(self.host.calls());
            let fits = |line: &&String| line.starts_with("log ") && words.iter().all(|word| line.contains(word));
            Ok(seen.iter().find(fits).cloned())
        });
        found.unwrap_or_else(|error| panic!("{error:#}: {seen:#?}"))
    }

    /// Returns the calls so far, with the log lines that wait for a tick.
    pub(crate) fn calls(&mut self) -> Vec<String> {
        self.host.tick().unwrap();
        self.host.calls()
    }

    /// Ends plugin and host in the order of a broker that stops; returns the calls that the host saw last.
    pub(crate) fn finish(mut self) -> Vec<String> {
        assert_eq!(self.host.cleanup().unwrap(), OK);
        self.host.finish().unwrap()
    }

    /// Returns how many threads the host has.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.host.id())).unwrap().count()
    }

    /// Waits until the host has so many threads: one that was joined is still listed until the kernel has closed its files.
    pub(crate) fn has_threads(&self, count: usize) {
        until("the threads to be gone", SOON, || Ok((self.threads() == count).then_some(()))).unwrap();
    }

    /// Returns how much memory the host has in use, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.host.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// A SCRAM-SHA-256 client that knows one password.
pub(crate) struct ScramClient {
    bare: String,
    password: String,
}

impl ScramClient {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self { bare: format!("n={user},r=a-nonce-of-the-client"), password: password.to_owned() }
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// Returns the client's last message, in answer to the server's first.
    pub(crate) fn last(&self, server_first: &[u8]) -> Vec<u8> {
        let server_first = std::str::from_utf8(server_first).unwrap();
        let said = python(SCRAM, &[&self.bare, server_first, &self.password], SOON).unwrap().success().unwrap();
        said.trim_end().as_bytes().to_vec()
    }
}

/// RFC 5802, section 3, with what Python's library has.
const SCRAM: &str = r#"
import sys, hmac, hashlib, base64
bare, first, password = sys.argv[1:4]
nonce, salt, count = [part[2:] for part in first.split(",")]
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(count))
mac = lambda key, text: hmac.new(key, text, hashlib.sha256).digest()
key = mac(salted, b"Client Key")
last = "c=biws,r=" + nonce
proof = mac(hashlib.sha256(key).digest(), ",".join([bare, first, last]).encode())
print(last + ",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, proof))).decode())
"#;

/// Returns the bytes that a field such as `x6162` stands for.
pub(crate) fn unhex(field: &str) -> Vec<u8> {
    let digits = field.strip_prefix('x').unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
