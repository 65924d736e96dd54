//! A Redis user that lacks one right.
//!
//! A write that is refused costs that write; a question that is refused is asked again no faster than the back-off.

use std::sync::{Mutex, Once};
use std::time::Duration;

use midge_core::gate::LoginSettings;
use midge_core::password::HashPolicy;
use midge_store::service::ServiceSettings;
use midge_store::{StoreSettings, WatchPolicy};
use midge_testkit::{RedisServer, RedisVersion, until};

use crate::{Node, SOON, logins};

/// What every broker needs, one right each.
const LEAST: [&str; 12] = [
    "%R~midge:*",
    "~midge:shield:*",
    "+ping",
    "+client|tracking",
    "+get",
    "+hgetall",
    "+exists",
    "+pttl",
    "+scan",
    "+incr",
    "+pexpire",
    "+del",
];
/// What `rehash_on_login` needs besides.
const REHASH: [&str; 6] = ["%W~midge:user:*", "+hget", "+hset", "+watch", "+multi", "+exec"];

/// Lines that were logged, by whichever test of this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

fn logged(part: &str) -> Vec<String> {
    LINES.lock().unwrap().iter().filter(|line| line.contains(part)).cloned().collect()
}

fn collect_log() {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// Starts a server whose user `midge` has all of `rights` but `lacking`.
fn server(rights: &[&str], lacking: &str) -> RedisServer {
    let rights: Vec<&str> = rights.iter().filter(|right| **right != lacking).copied().collect();
    let rules = format!("on nopass resetkeys resetchannels -@all {}", rights.join(" "));
    RedisServer::builder(RedisVersion::Redis7).acl_user("midge", &rules).start().unwrap()
}

fn node(server: &RedisServer, watch: WatchPolicy, login: LoginSettings) -> Node {
    let url = format!("redis://midge:x@127.0.0.1:{}", server.port());
    let settings = StoreSettings { watch, ..StoreSettings::default() };
    Node::with(midge_store::open(&url.parse().unwrap(), &settings).unwrap(), login, ServiceSettings::default())
}

#[test]
fn a_right_that_lacks_for_a_better_encoding_costs_that_write_only() {
    collect_log();
    let (weak, strong) = (HashPolicy::argon2id(8, 1, 1).unwrap(), HashPolicy::argon2id(16, 1, 1).unwrap());
    let stored = weak.hash(b"secret").unwrap();
    for (lacking, said) in [
        ("+hget", "HGET is refused"),
        ("+hset", "HSET is refused"),
        ("+watch", "WATCH is refused"),
        ("+multi", "MULTI is refused"),
        ("+exec", "EXEC is refused"),
        ("%W~midge:user:*", "HSET is refused"),
        ("", ""),
    ] {
        let server = server(&[&LEAST[..], &REHASH[..]].concat(), lacking);
        let mark = format!("lacks-{}", said.split(' ').next().unwrap_or_default());
        let name = |n: usize| format!("{mark}-{}-{n}", server.port());
        for n in 0..30 {
            server.cli(&["HSET", &format!("midge:user:{{{}}}", name(n)), "password", &stored]).unwrap();
        }
        let node = node(&server, WatchPolicy::Auto, LoginSettings { rehash: Some(strong.clone()), ..logins() });
        node.is_linked();
        for n in 0..30 {
            node.login(&name(n), "secret").unwrap_or_else(|refusal| panic!("without {lacking}, login {n}: {refusal:?}"));
            assert!(node.service().is_prompt(SOON), "without {lacking} the store is away after login {n}");
        }
        let password = |n| server.cli(&["HGET", &format!("midge:user:{{{}}}", name(n)), "password"]).unwrap();
        if lacking.is_empty() {
            until("the last password", SOON, || Ok((password(29) != stored).then_some(()))).unwrap();
            continue;
        }
        let port = server.port().to_string();
        let lines = || logged(&mark).into_iter().filter(|line| line.contains(&port)).collect::<Vec<_>>();
        until("the refusal to be logged", SOON, || Ok(lines().first().map(drop))).unwrap();
        let lines = lines();
        assert!(
            lines[0].contains(&format!("midge:user:{{{}}}", name(0))) && lines[0].contains(said) && lines[0].contains("NOPERM"),
            "{lines:?}"
        );
        // Two minutes' worth, as one may end meanwhile.
        assert!(lines.len() <= 12, "{lines:?}");
        assert_eq!((node.service().health().failures, password(0)), (0, stored.clone()), "without {lacking}");
    }
}

#[test]
fn a_right_that_lacks_makes_no_storm() {
    /// Long enough that a storm would show, at twenty a second.
    const WINDOW: Duration = Duration::from_secs(6);
    let keyspace = [&LEAST[..], &["+psubscribe", "+config|get", "+info", "allchannels"]].concat();
    let cases: Vec<(&str, WatchPolicy, RedisServer)> = LEAST
        .into_iter()
        .map(|lacking| (lacking, WatchPolicy::Auto, server(&LEAST, lacking)))
        .chain([("+client|tracking", WatchPolicy::Tracking, server(&LEAST, "+client|tracking"))])
        .chain(
            ["+psubscribe", "+info", "allchannels", "+ping"]
                .map(|lacking| (lacking, WatchPolicy::Keyspace, server(&keyspace, lacking))),
        )
        .collect();
    let nodes: Vec<Node> = cases
        .iter()
        .map(|(_, watch, server)| {
            server.cli(&["HSET", "midge:user:{a}", "enabled", "1"]).unwrap();
            server.cli(&["SET", "midge:ban:{user:b}", "why"]).unwrap();
            node(server, *watch, logins())
        })
        .collect();
    std::thread::sleep(WINDOW);
    for ((lacking, watch, server), node) in cases.iter().zip(&nodes) {
        let stats = server.cli(&["INFO", "stats"]).unwrap();
        let count = |name: &str| {
            let line = stats.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
            line.parse::<u64>().unwrap()
        };
        let connections = count("total_connections_received:");
        println!("{watch:?} without {lacking}: {connections} connections, {:?}", node.service().health());
        // Two back-offs of eight waits each; with all three ways of learning of changes refused, three connections at each.
        assert!(connections <= 48, "{watch:?} without {lacking}: {connections} connections in {WINDOW:?}");
    }
}
