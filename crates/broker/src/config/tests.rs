//! What can be set, and what is said about what can't.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use midge_core::certificate::CertificateField;
use midge_core::gate::Anonymous;
use tempfile::TempDir;

use super::section::{Default as Holds, Setting};
use super::settings::{self, LISTENER, PLUGIN_ONLY};
use super::*;

/// A folder with a `midge.toml` and the files that it names.
struct Folder(TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        for name in ["server.pem", "server.key", "ca.pem"] {
            std::fs::write(folder.0.path().join(name), "").unwrap();
        }
        std::fs::write(folder.path(), text).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("midge.toml")
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources::new();
        sources.file(&self.path());
        sources
    }
}

fn read(text: &str) -> Config {
    Folder::new(text).sources().finish().unwrap_or_else(|faults| panic!("{text}: {faults}"))
}

/// Returns the faults without the folder's name.
fn faults(text: &str) -> Vec<String> {
    let folder = Folder::new(text);
    let faults = folder.sources().finish().expect_err(text).to_string();
    faults.replace(&format!("{}/", folder.0.path().display()), "").lines().map(str::to_owned).collect()
}

fn environment(pairs: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::new();
    sources.environment(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    sources
}

#[test]
fn a_fault_names_place_key_value_and_what_is_allowed() {
    for (text, expected) in [
        ("threads = 0", "midge.toml:1: threads = \"0\": allowed is a number from 1 to 255"),
        ("\n\nlogin_timeout = \"soon\"", "midge.toml:3: login_timeout = \"soon\": allowed is a time from 100ms to 10m"),
        (
            "max_packet_size = \"12 parsecs\"",
            "midge.toml:1: max_packet_size = \"12 parsecs\": allowed is a size from 20 bytes to 256 MiB",
        ),
        ("max_packet_size = 19", "midge.toml:1: max_packet_size = \"19\": allowed is a size from 20 bytes"),
        ("max_packet_size = 268435457", "midge.toml:1: max_packet_size = \"268435457\": allowed is"),
        ("thread = 2", "midge.toml:1: thread: there is no such setting; did you mean threads?"),
        ("unrelated_thing = 2", "midge.toml:1: unrelated_thing: there is no such setting; docs/CONFIG.md lists all"),
        ("[limits]\nthreads = 2", "midge.toml:1: limits: there is no such table: all settings but those of listeners stand"),
        ("unknown_users = \"defer\"", "midge.toml:1: unknown_users: this is a setting of the plugin for Mosquitto"),
        ("threads = 1.5", "midge.toml:1: threads: a text, a whole number or a switch is expected"),
        ("threads = [1]", "midge.toml:1: threads: a text, a whole number or a switch is expected"),
        ("threads =", "midge.toml:1: this is no TOML"),
        ("threads = 1\nthreads = 2", "midge.toml:2: this is no TOML"),
        ("store = \"http://x\"", "midge.toml:1: store = \"http://x\": the scheme \"http\" is unknown"),
        ("max_keep_alive = \"1500ms\"", "midge.toml:1: max_keep_alive = \"1500ms\": it counts whole seconds"),
        ("jwt_key_file = \"absent.pem\"", "midge.toml:1: jwt_key_file = \"absent.pem\": absent.pem can't be read"),
        ("jwt_key_file = \"ca.pem\"", "midge.toml:1: jwt_key_file = \"ca.pem\": ca.pem: "),
        ("store_password_file = \"absent\"", "midge.toml:1: store_password_file = \"absent\": it can't be read"),
        ("listener = 1", "midge.toml:1: listener: it is a list of tables"),
        ("[[listener]]\naddress = \"1883\"", "midge.toml:2: listener 1: address = \"1883\": allowed is an IP address and a port"),
        ("[[listener]]\nprotocol = \"ws\"", "midge.toml:2: listener 1: address: the listener has neither address nor unix"),
        ("[[listener]]\naddress = \"[::]:1\"\nunix = \"s\"", "midge.toml:3: listener 1: unix = \"s\": the listener has an address"),
        (
            "[[listener]]\naddress = \"[::]:1\"\nunix_mode = \"0600\"",
            "midge.toml:3: listener 1: unix_mode = \"0600\": the listener is no",
        ),
        ("[[listener]]\nunix = \"s\"\nunix_mode = \"0999\"", "midge.toml:3: listener 1: unix_mode = \"0999\": allowed is an octal"),
        ("[[listener]]\naddress = \"[::]:1\"\npath = \"/x\"", "midge.toml:3: listener 1: path = \"/x\": the listener speaks plain"),
        (
            "[[listener]]\naddress = \"[::]:1\"\nprotocol = \"ws\"\norigins = \"example.org\"",
            "midge.toml:4: listener 1: origins = \"example.org\": allowed is origins as browsers",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\norigins = \"http://a\"",
            "midge.toml:3: listener 1: origins = \"http://a\": the listener speaks",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\ntls.certificate = \"server.pem\"",
            "midge.toml:3: listener 1: tls.certificate = \"server.pem\": its key is missing",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\n[listener.tls]\ncertificate = \"absent.pem\"\nkey = \"server.key\"",
            "midge.toml:4: listener 1: tls.certificate = \"absent.pem\": absent.pem can't be read",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\ntls.client_ca = \"ca.pem\"",
            "midge.toml:3: listener 1: tls.client_ca = \"ca.pem\": the listener speaks no TLS",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\ntls = { certificate = \"server.pem\", key = \"server.key\", identity = \"cn\" }",
            "midge.toml:3: listener 1: tls.identity = \"cn\": no certificate would be asked for: tls.client_ca is needed",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\n[[listener]]\naddress = \"[::]:1\"",
            "midge.toml:4: listener 2: address = \"[::]:1\": another listener has this address already",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\nthreads = 4",
            "midge.toml:3: listener 1: threads: this is a setting of the whole server",
        ),
        (
            "[[listener]]\nadress = \"[::]:1\"",
            "midge.toml:2: listener 1: adress: there is no such setting of listeners; did you mean address?",
        ),
    ] {
        let found = faults(text);
        assert!(
            found.iter().any(|fault| fault.starts_with(expected)),
            "{text}\nexpected {expected}\nfound    {}",
            found.join("\n")
        );
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = "threads = 0\nnonsense = 1\nretain = \"maybe\"\n[[listener]]\naddress = \"x\"\n[[listener]]\nprotocol = \"http\"\n";
    let places: Vec<String> = faults(text).iter().map(|fault| fault.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places, [1, 2, 3, 5, 7].map(|line| format!("midge.toml:{line}")));
    assert_eq!(faults("a = \nb = \nthreads = 0\n").len(), 2, "of what is no TOML every line");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut sources = Sources::new();
    sources.file(Path::new("/nonexistent/midge.toml"));
    let faults = sources.finish().unwrap_err().to_string();
    assert!(faults.starts_with("/nonexistent/midge.toml: the file can't be read"), "{faults}");
}

#[test]
fn passwords_are_never_shown() {
    for text in ["store = \"redis://me:geheim@host:notaport\"", "store_password = \"\"\nstore = \"redis://:geheim@h:x\""] {
        assert!(!faults(text).join("\n").contains("geheim"), "{text}");
    }
    let config = read("store = \"redis://me:geheim@host\"\nstore_password = \"geheim\"");
    assert!(!config.to_toml().contains("geheim") && !format!("{config:?}").contains("geheim"), "{config:?}");
}

#[test]
fn without_anything_it_is_for_this_machine_only() {
    let mut sources = Sources::new();
    sources.flag("data", "--data", "/d");
    let config = sources.finish().unwrap();
    let addresses: Vec<String> = config.listeners.iter().map(|each| format!("{}://{}", each.scheme(), each.address)).collect();
    assert_eq!(addresses, ["mqtt://127.0.0.1:1883", "ws://127.0.0.1:8083"]);
    assert!(config.listeners.iter().all(Listener::is_local));
    assert_eq!((config.store.to_string().as_str(), config.journal.directory.as_path()), ("file:/d", Path::new("/d/journal")));
    assert!(config.engine.persistence && config.engine.max_packet_size == 1 << 20 && !config.node.is_empty());
}

#[test]
fn a_listener_is_put_together() {
    let config = read(
        "tls_identity = \"dns\"\n[[listener]]\naddress = \"0.0.0.0:8883\"\nmax_connections = 5\nallow_anonymous = true\nproxy_protocol = true\n\
         [listener.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\
         [[listener]]\nunix = \"midge.sock\"\nunix_mode = \"0600\"\nprotocol = \"ws\"\npath = \"*\"\n\
         origins = \"https://a.example, https://b.example:8443\"\n",
    );
    let [tls, unix] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!((tls.scheme(), tls.max_connections, tls.allow_anonymous, tls.proxy_protocol), ("mqtts", Some(5), Some(true), true));
    let clients = tls.tls.as_ref().unwrap().clients.as_ref().unwrap();
    assert!(clients.required && clients.authorities.ends_with("ca.pem") && clients.authorities.is_absolute());
    assert_eq!(tls.identity(), Some(CertificateField::SanDns));
    let origins = vec!["https://a.example".to_owned(), "https://b.example:8443".to_owned()];
    let Address::Unix { path, mode } = &unix.address else { panic!("{unix:?}") };
    assert!(path.is_absolute() && *mode == 0o600 && unix.protocol == Protocol::WebSocket { path: None, origins });
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let folder = Folder::new("data = \"d\"\njournal = \"j\"\nstore = \"file:s\"");
    let config = folder.sources().finish().unwrap();
    let root = folder.0.path();
    assert_eq!((config.data, config.journal.directory), (root.join("d"), root.join("j")));
    assert_eq!(config.store.directory(), Some(root.join("s").as_path()));
    let config = environment(&[("MIDGE_DATA", "d")]).finish().unwrap();
    assert_eq!(config.data, Path::new("d"));
}

#[test]
fn flag_over_variable_over_file_over_default() {
    let folder = Folder::new("threads = 2\nbacklog = 10\nmax_qos = 1\n[[listener]]\naddress = \"127.0.0.1:1\"");
    let variables = [("MIDGE_THREADS", "3"), ("MIDGE_BACKLOG", "11"), ("MIDGE_MAX_QOS", ""), ("HOME", "/")];
    let mut sources = folder.sources();
    sources.environment(variables.map(|(name, value)| (name.into(), value.into())));
    sources.flag("threads", "--threads", "4");
    let config = sources.finish().unwrap();
    assert_eq!((config.threads, config.connections.backlog, config.engine.max_qos as u8), (4, 11, 1));
    let shown = config.to_toml();
    let file = folder.path();
    for line in [
        "threads = 4  # --threads".to_owned(),
        "backlog = 11  # MIDGE_BACKLOG".to_owned(),
        format!("max_qos = 1  # {}:3", file.display()),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(shown.contains("\n#retain = true\n"), "{shown}");
    let again = Folder::new(&shown).sources().finish().unwrap();
    assert_eq!((again.threads, again.connections, again.listeners), (4, config.connections, config.listeners));
}

#[test]
fn listeners_come_from_variables_and_flags_too() {
    let folder = Folder::new("[[listener]]\naddress = \"127.0.0.1:1\"\nprotocol = \"ws\"");
    let mut sources = folder.sources();
    let ca = folder.0.path().join("ca.pem");
    sources.environment(
        [
            ("MIDGE_LISTENER_1_ADDRESS", "127.0.0.1:2"),
            ("MIDGE_LISTENER_2_ADDRESS", "127.0.0.1:3"),
            ("MIDGE_LISTENER_2_TLS_CERTIFICATE", ca.to_str().unwrap()),
            ("MIDGE_LISTENER_2_TLS_KEY", ca.to_str().unwrap()),
        ]
        .map(|(name, value)| (name.into(), value.into())),
    );
    let config = sources.finish().unwrap();
    let all: Vec<String> = config.listeners.iter().map(|each| format!("{}://{}", each.scheme(), each.address)).collect();
    assert_eq!(all, ["ws://127.0.0.1:2", "mqtts://127.0.0.1:3"]);

    let faults = environment(&[("MIDGE_LISTENER_2_ADDRESS", "127.0.0.1:3")]).finish().unwrap_err().to_string();
    assert!(faults.contains("listener 1: address"), "the first is missing: {faults}");

    let mut sources = folder.sources();
    sources.listen("--listen", &["127.0.0.1:9".to_owned(), "[::1]:9".to_owned()]);
    assert_eq!(sources.finish().unwrap().listeners.len(), 2);
    let mut sources = folder.sources();
    sources.listen("--listen", &["1883".to_owned()]);
    assert!(sources.finish().unwrap_err().to_string().starts_with("--listen: listener 1: address = \"1883\": allowed"));
}

#[test]
fn an_unknown_variable_is_a_warning() {
    // As Kubernetes makes them for a service of the name midge.
    let sources = environment(&[("MIDGE_SERVICE_HOST", "10.0.0.1"), ("MIDGE_THREAD", "2"), ("MIDGE_LISTENER_0_ADDRESS", "x")]);
    assert_eq!(sources.warnings().len(), 3);
    assert!(sources.warnings()[1].ends_with("did you mean MIDGE_THREADS?"), "{:?}", sources.warnings());
    assert!(environment(&[("MIDGE_CONFIG", "x"), ("MIDGES", "x")]).warnings().is_empty());
    assert!(sources.finish().is_ok());
    let faults = environment(&[("MIDGE_THREADS", "many")]).finish().unwrap_err().to_string();
    assert_eq!(faults, "MIDGE_THREADS: threads = \"many\": allowed is a number from 1 to 255");
}

#[test]
fn who_gets_in_without_a_name() {
    const OPEN: &str = "[[listener]]\naddress = \"0.0.0.0:1\"\n";
    const LOCAL: &str = "[[listener]]\naddress = \"127.0.0.1:1\"\n";
    const MAPPED: &str = "[[listener]]\naddress = \"[::ffff:127.0.0.1]:1\"\n";
    const UNIX: &str = "[[listener]]\nunix = \"s\"\n";
    const TLS: &str = "tls = { certificate = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", identity = \"cn\" }\n";
    // Settings, whether there is a user; whether anonymous clients get in, whether the listener is good for nothing.
    for (text, any_user, anonymous, useless) in [
        (LOCAL.to_owned(), false, true, false),
        (LOCAL.to_owned(), true, false, false),
        (MAPPED.to_owned(), false, true, false),
        (UNIX.to_owned(), false, true, false),
        (format!("{LOCAL}proxy_protocol = true"), false, false, true),
        (format!("{LOCAL}{TLS}"), false, false, false),
        (OPEN.to_owned(), false, false, true),
        (OPEN.to_owned(), true, false, false),
        (format!("{OPEN}{TLS}"), false, false, false),
        (format!("{OPEN}allow_anonymous = true"), false, true, false),
        (format!("{OPEN}allow_anonymous = false"), false, false, true),
        (format!("anonymous = \"allow\"\n{OPEN}"), true, true, false),
        (format!("anonymous = \"allow\"\n{OPEN}allow_anonymous = false"), true, false, false),
        (format!("anonymous = \"deny\"\n{LOCAL}"), false, false, false),
        (format!("anonymous = \"deny\"\n{OPEN}"), false, false, false),
    ] {
        let config = read(&text);
        let expected = if anonymous { Anonymous::Allow } else { Anonymous::Deny };
        assert_eq!(config.anonymous(&config.listeners[0], any_user), expected, "{text}");
        assert_eq!(config.useless_listener(any_user).is_some(), useless, "{text}");
    }
}

#[test]
fn a_reload_says_what_acts_and_what_waits() {
    let old = read("log_level = \"warn\"\nthreads = 2\n[[listener]]\naddress = \"127.0.0.1:1\"");
    let new = read(
        "log_level = \"error\"\nthreads = 3\nanonymous = \"deny\"\nbacklog = 4096\n[[listener]]\naddress = \"127.0.0.1:2\"\nallow_anonymous = true",
    );
    let (running, changed) = old.reload(&new).unwrap();
    let said: Vec<(&str, bool)> = changed.iter().map(|each| (each.name.as_str(), each.acts)).collect();
    let expected = [
        ("threads", false),
        ("anonymous", true),
        ("log_level", true),
        ("listener 1: address", false),
        ("listener 1: allow_anonymous", true),
    ];
    assert_eq!(said, expected);
    assert_eq!((running.threads, running.log.level, running.users.anonymous), (2, log::LevelFilter::Error, AnonymousPolicy::Deny));
    assert_eq!(running.listeners[0].address.to_string(), "127.0.0.1:1");
    assert_eq!(running.listeners[0].allow_anonymous, Some(true));
    assert_eq!(running.reload(&new).unwrap().1.iter().filter(|each| each.acts).count(), 0, "what was taken is not news");

    let more = read("[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:2\"");
    let (running, changed) = running.reload(&more).unwrap();
    assert!(changed.contains(&Changed { name: "listener".to_owned(), acts: false }) && running.listeners.len() == 1);
}

/// Returns all names, those of listeners as they are in variables.
fn names() -> Vec<&'static str> {
    settings::all().map(|setting| setting.name).chain(LISTENER.iter().map(|setting| setting.name)).collect()
}

#[test]
fn names_are_unique_and_sentences_end() {
    let mut seen = std::collections::HashSet::new();
    for setting in settings::all() {
        assert!(seen.insert(setting.name) && setting.about.ends_with('.'), "{}", setting.name);
    }
    for setting in LISTENER {
        assert!(setting.about.ends_with('.'), "{}", setting.name);
    }
    assert!(PLUGIN_ONLY.iter().all(|(name, _)| !names().contains(name)));
    // Kubernetes sets MIDGE_PORT to a URL for a service of the name midge.
    assert!(!names().contains(&"port"));
}

#[test]
fn documented_defaults_are_the_defaults() {
    let defaults = format!("{:?}", settings::Draft::default());
    let mut draft = settings::Draft::default();
    let mut listener = settings::ListenerDraft::default();
    fn set<T>(setting: &Setting<T>, draft: &mut T) {
        let Holds::Value(text) = setting.default else { return };
        (setting.set)(draft, value::Value { text, base: Path::new("") }).unwrap_or_else(|_| panic!("{}", setting.name));
    }
    for setting in settings::all() {
        set(setting, &mut draft);
        assert_eq!(format!("{draft:?}"), defaults, "{}", setting.name);
    }
    LISTENER.iter().for_each(|setting| set(setting, &mut listener));
    assert_eq!((listener.unix_mode, listener.path.as_deref(), listener.web_socket), (Some(0o660), Some("/mqtt"), false));
}

/// Nothing of the engine's settings can be forgotten: this fails to compile when one comes.
#[test]
fn every_setting_of_the_engine_can_be_set() {
    let midge_engine::limits::Settings {
        persistence: _,
        max_qos: _,
        retain: _,
        shared_subscriptions: _,
        max_packet_size: _,
        receive_maximum: _,
        max_inflight: _,
        topic_alias_maximum: _,
        max_outgoing_aliases: _,
        max_session_expiry: _,
        max_keep_alive: _,
        max_sessions: _,
        max_subscriptions: _,
        max_topic_levels: _,
        max_queued_messages: _,
        max_queued_bytes: _,
        when_full: _,
        max_outgoing_bytes: _,
        memory_max: _,
        retained: midge_engine::retained::Bounds { messages: _, bytes: _ },
        spare_bytes: _,
        tombstone: _,
    } = midge_engine::limits::Settings::default();
    let config = read(
        "persistence = false\nmax_qos = 0\nretain = false\nshared_subscriptions = false\nmax_packet_size = \"2 KiB\"\nreceive_maximum = 2\n\
         max_inflight = 3\ntopic_alias_maximum = 4\nmax_outgoing_aliases = 5\nmax_session_expiry = \"6s\"\nmax_keep_alive = \"7s\"\n\
         max_sessions = 8\nmax_subscriptions = 9\nmax_topic_levels = 10\nmax_queued_messages = 11\nmax_queued_bytes = 12\n\
         when_full = \"drop-new\"\nmax_outgoing_bytes = \"13 KiB\"\nmax_retained_messages = 14\nmax_retained_bytes = 15\nmemory_max = \"18 MiB\"\nspare_bytes = 16\n\
         tombstone = \"17s\"\n",
    );
    let expected = midge_engine::limits::Settings {
        persistence: false,
        max_qos: midge_mqtt::QoS::AtMostOnce,
        retain: false,
        shared_subscriptions: false,
        max_packet_size: 2 << 10,
        receive_maximum: 2,
        max_inflight: 3,
        topic_alias_maximum: 4,
        max_outgoing_aliases: 5,
        max_session_expiry: 6,
        max_keep_alive: 7,
        max_sessions: 8,
        max_subscriptions: 9,
        max_topic_levels: 10,
        max_queued_messages: 11,
        max_queued_bytes: 12,
        when_full: midge_engine::limits::WhenFull::DropNew,
        max_outgoing_bytes: 13 << 10,
        memory_max: 18 << 20,
        retained: midge_engine::retained::Bounds { messages: 14, bytes: 15 },
        spare_bytes: 16,
        tombstone: Duration::from_secs(17),
    };
    assert_eq!(config.engine, expected);
}

#[test]
fn the_full_file_sets_what_holds_anyway() {
    let plain = defaults();
    assert!(read(&plain).given.values.is_empty());
    let active: String = plain
        .lines()
        .filter(|line| line.starts_with('#') && !line.starts_with("# ") && !line.starts_with("##") && !line.ends_with('='))
        .map(|line| format!("{}\n", &line[1..]))
        .take_while(|line| !line.starts_with("[[listener]]"))
        .collect();
    let config = read(&active);
    assert_eq!(config.given.values.len(), settings::all().filter(|setting| matches!(setting.default, Holds::Value(_))).count());
    assert_eq!(format!("{:?}", config.engine), format!("{:?}", read("").engine));
    for name in names() {
        assert!(plain.lines().any(|line| line.starts_with(&format!("#{name} ="))), "{name}");
    }
}

fn root_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

#[test]
fn the_reference_page_says_what_the_table_says() {
    let path = root_file("docs/CONFIG.md");
    let expected = reference();
    if std::env::var_os("MIDGE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/CONFIG.md is out of date: run MIDGE_WRITE_DOCS=1 cargo test -p midge-broker --lib config");
}

/// The same names mean the same in both bodies; what is another's by intention is listed with its reason.
#[test]
fn settings_that_the_plugin_has_are_the_same_here() {
    // A broker needs no Redis; its door on loopback is open until there is somebody to lock it for; a directory can be asked here;
    // and what is said of the plugin or of Mosquitto is said of the server here.
    const OTHER_DEFAULT: [&str; 2] = ["store", "anonymous"];
    const OTHER_WORDS: [&str; 7] = ["store", "anonymous", "report", "presence", "offline_stream", "tls_identity", "log_level"];
    let page = std::fs::read_to_string(root_file("docs/OPTIONS.md")).unwrap();
    let mut seen = 0;
    for section in page.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        if PLUGIN_ONLY.iter().any(|(only, _)| *only == name) {
            continue;
        }
        let line = |start: &str| section.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().replace('`', "");
        let setting = settings::all().find(|setting| setting.name == name);
        let setting =
            setting.unwrap_or_else(|| panic!("{name} is an option of the plugin: take it here, or say in PLUGIN_ONLY why not"));
        if !OTHER_DEFAULT.contains(&name) {
            assert_eq!(setting.default.text(), line("* default: "), "{name}");
        }
        if !OTHER_WORDS.contains(&name) {
            assert_eq!(setting.allowed, line("* allowed: "), "{name}");
            assert!(section.contains(setting.about), "{name}");
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}
