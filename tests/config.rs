//! What an operator sets, and what real brokers make of it.
//!
//! A wrong value stops the start and says why; after the start it changes nothing.

use std::path::Path;

use midge_testkit::{Connect, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, until};

use crate::support::{CALM, Policy, SOON, builder, code, connect, on_every_broker, store};

on_every_broker!(
    a_wrong_value_stops_the_start_and_is_explained,
    an_unknown_option_is_a_warning,
    a_reload_reads_the_file_again,
    a_reload_ends_who_would_not_be_let_in_by_it,
    a_wrong_file_changes_nothing,
    signals_are_the_brokers_own,
    options_of_go_auth_lead_to_the_same_store,
);

/// Returns what a broker says that doesn't start with these lines.
fn refusal(version: MosquittoVersion, url: &str, lines: &str) -> String {
    match builder(version, url, lines).start() {
        Ok(_) => panic!("it started with {lines}"),
        Err(error) => format!("{error:#}"),
    }
}

fn check_said(said: &str, words: &[&str]) {
    let line = said.lines().find(|line| line.contains("midge: can't start"));
    let line = line.unwrap_or_else(|| panic!("no reason for {words:?} in:\n{said}"));
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
}

fn a_wrong_value_stops_the_start_and_is_explained(version: MosquittoVersion) {
    let url = "redis://127.0.0.1:6";
    for (option, value, allowed) in [
        ("login_deadline", "250", "a time from 0ms to 10s"),
        ("login_deadline", "11s", "from 0ms to 10s"),
        ("anonymous", "maybe", "deny or allow"),
        ("store_down", "allow", "last-known-good or deny"),
        ("hash_threads", "many", "from 1 to 64"),
        ("schema", "other", "midge"),
        ("tls_identity", "dn", "cn, dns, email or uri"),
        ("jwt_secret_file", "/nowhere/secret", "can't be read"),
        ("redis_port", "65536", "from 1 to 65535"),
        ("backends", "files, mysql", "redis"),
    ] {
        let said = refusal(version, url, &format!("auth_opt_{option} {value}"));
        let words: Vec<&str> = ["auth_opt_", option, value].into_iter().chain(allowed.split(", ")).collect();
        check_said(&said, &words);
    }
    for store in ["http://127.0.0.1", "redis://:geheim@", "127.0.0.1:6379", "redis+sentinel://127.0.0.1:1"] {
        let said = refusal(version, store, "");
        check_said(&said, &["auth_opt_store", "redis"]);
        assert!(!said.contains("geheim"), "{said}");
    }
}

fn an_unknown_option_is_a_warning(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let lines =
        format!("{CALM}auth_opt_log_leve debug\nplugin_opt_something else\nplugin_opt_anonymous allow\nauth_opt_cache true\n");
    let broker = builder(version, &redis.url(), &lines).start().unwrap();
    assert_eq!(code(broker.port(), &connect(Protocol::V5, "ann", "ann")), 0);
    assert_eq!(code(broker.port(), &Connect::new(Protocol::V5, "nobody")), 0);
    wait_log(&broker, &["auth_opt_log_leve ", "did you mean log_level?"]);
    wait_log(&broker, &["auth_opt_something is unknown"]);
    wait_log(&broker, &["auth_opt_cache has no meaning here"]);
}

fn wait_log(broker: &Mosquitto, words: &[&str]) {
    until(&format!("{words:?} in the log"), SOON, || {
        Ok(broker.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}:\n{}", broker.log()));
}

/// A broker whose plugin reads a file, with one user.
struct Site {
    broker: Mosquitto,
    _redis: RedisServer,
    folder: tempfile::TempDir,
}

impl Site {
    fn start(version: MosquittoVersion, file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = store(version);
        redis.user("ann", &[]);
        write(folder.path(), file);
        // Without it Mosquitto itself ends clients without a username at each reload.
        let lines = format!("{CALM}allow_anonymous true\nauth_opt_config {}\n", path(folder.path()));
        let broker = builder(version, &redis.url(), &lines).start().unwrap();
        Self { broker, _redis: redis, folder }
    }

    /// Writes the file anew, has it read, and waits until the plugin has said that much.
    fn reload(&mut self, file: &str, said: &str) {
        write(self.folder.path(), file);
        let before = self.broker.log().len();
        self.broker.reload().unwrap();
        let what = format!("{said:?} after a reload with {file:?}");
        until(&what, SOON, || Ok(self.broker.log()[before..].contains(said).then_some(()))).unwrap();
    }

    fn anonymous(&self) -> bool {
        code(self.broker.port(), &Connect::new(Protocol::V5, "nobody")) == 0
    }

    fn check_ann(&self) {
        assert_eq!(code(self.broker.port(), &connect(Protocol::V3_1_1, "ann", "ann")), 0);
    }
}

fn path(folder: &Path) -> String {
    folder.join("midge.toml").display().to_string()
}

fn write(folder: &Path, file: &str) {
    std::fs::write(path(folder), file).unwrap();
}

fn a_reload_reads_the_file_again(version: MosquittoVersion) {
    let mut site = Site::start(version, "anonymous = \"deny\"\n");
    assert!(!site.anonymous());
    for allow in [true, false, true] {
        let word = if allow { "allow" } else { "deny" };
        site.reload(&format!("# changed\nanonymous = \"{word}\"\nshield_user_attempts = 0\n"), "configuration read again");
        assert_eq!(site.anonymous(), allow);
        site.check_ann();
    }
    // What is not set any more has its default again, and what takes a restart is said.
    site.reload("hash_threads = 7\n", "takes a restart");
    assert!(!site.anonymous());
    site.check_ann();
}

fn wait_closed(client: &mut RawClient) {
    until("the connection's end", SOON, || Ok(client.ping(SOON).is_err().then_some(()))).unwrap();
}

fn a_reload_ends_who_would_not_be_let_in_by_it(version: MosquittoVersion) {
    let mut site = Site::start(version, "anonymous = \"allow\"\n");
    let client = |connect: &Connect| RawClient::try_connect(site.broker.port(), connect).unwrap().0;
    let (mut nobody, mut ann) = (client(&Connect::new(Protocol::V5, "nobody")), client(&connect(Protocol::V5, "ann", "live")));
    site.reload("anonymous = \"allow\"\nshield_user_attempts = 0\n", "configuration read again");
    nobody.ping(SOON).unwrap();
    site.reload("anonymous = \"deny\"\n", "configuration read again");
    wait_closed(&mut nobody);
    ann.ping(SOON).unwrap();
}

fn a_wrong_file_changes_nothing(version: MosquittoVersion) {
    let mut site = Site::start(version, "anonymous = \"allow\"\n");
    assert!(site.anonymous());
    for (file, said) in [
        ("anonymous = \"perhaps\"\n", "midge.toml:1: anonymous: \"perhaps\": allowed is deny or allow"),
        ("\n\nlogin_deadline = 250\n", "midge.toml:3: login_deadline: \"250\": allowed is a time"),
        ("anonymous = [\"deny\"]\n", "a text, a whole number or a switch is expected"),
        ("anonymous = \"deny\n", "the configuration stays as it was"),
        ("jwt_secret_file = \"/nowhere/secret\"\nanonymous = \"deny\"\n", "can't be read"),
        ("\u{0}", "the configuration stays as it was"),
    ] {
        site.reload(file, said);
        assert!(site.anonymous(), "{file:?}");
        site.check_ann();
    }
    std::fs::remove_file(path(site.folder.path())).unwrap();
    site.broker.reload().unwrap();
    wait_log(&site.broker, &["the configuration stays as it was", "can't be read", "midge.toml"]);
    assert!(site.anonymous());
    site.reload("anonymous = \"deny\"\nanonymus = 1\n", "did you mean anonymous?");
    assert!(!site.anonymous());
    // At the start it is as wrong as an option.
    write(site.folder.path(), "anonymous = \"perhaps\"\n");
    let said = refusal(version, "redis://127.0.0.1:6", &format!("auth_opt_config {}\n", path(site.folder.path())));
    check_said(&said, &["midge.toml:1", "anonymous", "perhaps", "deny or allow"]);
}

fn signals_are_the_brokers_own(version: MosquittoVersion) {
    let mut site = Site::start(version, "metrics = \"127.0.0.1:0\"\nautosub_reader = \"127.0.0.1:1\"\n");
    site.check_ann();
    // Of a process that hangs up, is interrupted or is to end: signals 1, 2 and 15, the lowest bit being signal 1.
    const THEIRS: u64 = 0x4003;
    let broker = site.broker.process().id();
    let mut ours = 0;
    for thread in std::fs::read_dir(format!("/proc/{broker}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let blocked = u64::from_str_radix(field("SigBlk:"), 16).unwrap() & THEIRS;
        // The broker's own thread takes them between two waits.
        if field("Pid:") != broker.to_string() {
            assert_eq!(blocked, THEIRS, "{status}");
            ours += 1;
        }
    }
    assert!(ours > 5, "{ours} threads");
}

fn options_of_go_auth_lead_to_the_same_store(version: MosquittoVersion) {
    let redis = RedisServer::builder(midge_testkit::RedisVersion::Redis7).password("geheim").start().unwrap();
    redis.run(&["-n", "2", "HSET", "midge:user:{ann}", "password", "{plain}secret"]);
    let text = format!(
        "listener {{port}} 127.0.0.1\nauth_plugin {{plugin}}\n{CALM}auth_opt_backends redis\nauth_opt_redis_host 127.0.0.1\n\
         auth_opt_redis_port {}\nauth_opt_redis_db 2\nauth_opt_redis_password geheim\nauth_opt_hasher bcrypt\n\
         auth_opt_log_level info\nauth_opt_cache true\nauth_opt_cache_type redis\nauth_opt_acl_cache_seconds 30\n",
        redis.port()
    );
    let broker = Mosquitto::builder(version).config(&text).start().unwrap();
    assert_eq!(code(broker.port(), &connect(Protocol::V5, "ann", "ann")), 0, "{}", broker.log());
    assert_ne!(code(broker.port(), &connect(Protocol::V5, "bob", "bob")), 0);
    assert!(!broker.log().contains("geheim") && !broker.log().contains("is unknown"), "{}", broker.log());
}
