//! How options and the file go together, and second starts.
//!
//! A line of the broker's configuration beats the file; each load of the plugin has its own.

use std::path::Path;

use midge_testkit::{Connect, Mosquitto, MosquittoVersion, Protocol, until};

use crate::support::{CALM, Policy, SOON, builder, code, connect, on_every_broker, store};

on_every_broker!(
    a_missing_file_stops_one_start_and_not_the_next,
    a_line_beats_the_file,
    both_spellings_serve,
    each_listener_reloads_its_own_file,
    the_log_names_the_node,
);

const ALLOW: &str = "anonymous = \"allow\"\n";
const DENY: &str = "anonymous = \"deny\"\n";

fn anonymous(port: u16) -> bool {
    code(port, &Connect::new(Protocol::V5, "nobody")) == 0
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Has the files read again, by as many loads as there are.
fn reload(broker: &mut Mosquitto, loads: usize) {
    let before = broker.log().len();
    broker.reload().unwrap();
    until("the files to be read again", SOON, || {
        Ok((broker.log()[before..].matches("configuration read again").count() >= loads).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}:\n{}", broker.log()));
}

fn a_missing_file_stops_one_start_and_not_the_next(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("midge.toml").display().to_string();
    let builder = builder(version, &redis.url(), &format!("{CALM}auth_opt_config {path}\n"));
    let Err(error) = builder.start() else { panic!("it started without its file") };
    let said = format!("{error:#}");
    let line = said.lines().find(|line| line.contains("midge: can't start")).unwrap_or_else(|| panic!("{said}"));
    for word in ["auth_opt_config", &path, "can't be read"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    file(folder.path(), "midge.toml", ALLOW);
    let mut broker = builder.start().unwrap();
    for _ in 0..2 {
        assert!(anonymous(broker.port()));
        assert_eq!(code(broker.port(), &connect(Protocol::V5, "ann", "ann")), 0);
        assert!(broker.stop().unwrap().success(), "{}", broker.log());
        broker.start_again().unwrap();
    }
}

fn a_line_beats_the_file(version: MosquittoVersion) {
    let redis = store(version);
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "midge.toml", ALLOW);
    for (line, allowed) in [("", true), ("auth_opt_anonymous deny\n", false)] {
        let lines = format!("{CALM}{line}auth_opt_config {path}\n");
        let mut broker = builder(version, &redis.url(), &lines).start().unwrap();
        assert_eq!(anonymous(broker.port()), allowed, "{line}");
        reload(&mut broker, 1);
        assert_eq!(anonymous(broker.port()), allowed, "{line} after a reload");
    }
}

fn the_log_names_the_node(version: MosquittoVersion) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (line, name) in [("", host.trim()), ("auth_opt_node left\n", "left")] {
        let broker = builder(version, "redis://127.0.0.1:6", line).start().unwrap();
        assert!(broker.log().contains(&format!("as node \"{name}\"")), "{}", broker.log());
    }
}

fn both_spellings_serve(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    for (load, option) in [("auth_plugin", "auth_opt"), ("plugin", "plugin_opt"), ("plugin", "auth_opt")] {
        let text = |anonymous: &str| {
            format!(
                "listener {{port}} 127.0.0.1\n{load} {{plugin}}\n{option}_store {}\n{option}_anonymous {anonymous}\n{option}_nonsense 1\n",
                redis.url()
            )
        };
        let broker = Mosquitto::builder(version).config(&text("allow")).start().unwrap();
        assert!(anonymous(broker.port()), "{load} {option}");
        until("ann to be let in", SOON, || Ok((code(broker.port(), &connect(Protocol::V5, "ann", "ann")) == 0).then_some(())))
            .unwrap();
        assert!(broker.log().contains("nonsense is unknown"), "{load} {option}:\n{}", broker.log());
        let Err(error) = Mosquitto::builder(version).config(&text("perhaps")).start() else { panic!("{load} {option}") };
        let said = format!("{error:#}");
        assert!(["anonymous", "perhaps", "deny or allow"].iter().all(|word| said.contains(word)), "{load} {option}: {said}");
    }
}

fn each_listener_reloads_its_own_file(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let folder = tempfile::tempdir().unwrap();
    let paths = ["left", "right"].map(|name| file(folder.path(), name, DENY));
    let listener = |port: &str, path: &str| {
        format!(
            "listener {{{port}}} 127.0.0.1\nauth_plugin {{plugin}}\nauth_opt_store {}\n{CALM}auth_opt_config {path}\n",
            redis.url()
        )
    };
    let text = format!("per_listener_settings true\n{}{}", listener("port", &paths[0]), listener("right", &paths[1]));
    let mut broker = Mosquitto::builder(version).config(&text).port("right").start().unwrap();
    let ports = [broker.port(), broker.named_port("right").unwrap()];
    assert_eq!(ports.map(anonymous), [false, false]);
    for (left, right, allowed) in [(DENY, ALLOW, [false, true]), (ALLOW, DENY, [true, false]), (ALLOW, ALLOW, [true, true])] {
        file(folder.path(), "left", left);
        file(folder.path(), "right", right);
        reload(&mut broker, 2);
        assert_eq!(ports.map(anonymous), allowed, "{left}{right}");
        assert_eq!(ports.map(|port| code(port, &connect(Protocol::V5, "ann", "ann"))), [0, 0]);
    }
}
