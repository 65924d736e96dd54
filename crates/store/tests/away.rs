//! A Redis that is away is an error in time.
//!
//! What can't be answered is said to be away where waiting helps, and refused where an operator has to act.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use midge_core::key::Key;
use midge_store::{Backend, Store, StoreError, StoreSettings, StoreUrl, WatchPolicy, Write};
use midge_testkit::{FaultProxy, Mode, RedisBuilder, RedisCluster, RedisSentinel, RedisServer, RedisVersion, until};

const CONNECT: Duration = Duration::from_millis(700);
const RESPONSE: Duration = Duration::from_millis(900);
/// How long it may take on a busy machine until a thread whose time is over goes on.
const BUSY: Duration = Duration::from_secs(8);

fn open(url: &str) -> Box<dyn Backend> {
    let settings = StoreSettings { connect_timeout: CONNECT, response_timeout: RESPONSE, ..StoreSettings::default() };
    midge_store::open(&url.parse::<StoreUrl>().unwrap(), &settings).unwrap()
}

fn redis7() -> RedisBuilder {
    RedisServer::builder(RedisVersion::Redis7)
}

fn user(name: &str) -> Key {
    Key::User(name.parse().unwrap())
}

/// Enough that waiting for each answer by itself would be noticed.
fn many() -> Vec<Key> {
    (0..500).map(|n| user(&format!("u{n}"))).collect()
}

/// Runs `body`, which has to end in an error, and soon.
fn fails<T>(what: &str, body: impl FnOnce() -> Result<T, StoreError>) -> StoreError {
    let start = Instant::now();
    let Err(error) = body() else { panic!("{what}: there should be no answer") };
    assert!(start.elapsed() < CONNECT + RESPONSE + BUSY, "{what} took {:?}: {error}", start.elapsed());
    error
}

fn is_away(what: &str, error: &StoreError) {
    assert!(error.is_away(), "{what}: {error}");
}

#[test]
fn faults_before_a_connection_is_made() {
    let server = redis7().start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    // A database makes a second question of the greeting.
    for url in [format!("redis://127.0.0.1:{}", proxy.port()), format!("redis://127.0.0.1:{}/4", proxy.port())] {
        let backend = open(&url);
        for mode in [Mode::Refuse, Mode::BlackHole, Mode::Reset, Mode::Delay(Duration::from_secs(2))] {
            proxy.set(mode).unwrap();
            is_away(&format!("connect with {mode:?}"), &fails("connect", || backend.connect()));
            is_away(&format!("watch with {mode:?}"), &fails("watch", || backend.watch()));
        }
        proxy.set(Mode::Pass).unwrap();
        backend.connect().unwrap().ping().unwrap();
    }
}

#[test]
fn faults_while_connected() {
    let server = redis7().start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let backend = open(&format!("redis://127.0.0.1:{}", proxy.port()));
    for mode in [Mode::Refuse, Mode::BlackHole, Mode::Reset, Mode::Delay(Duration::from_secs(2))] {
        for question in 0..4 {
            proxy.set(Mode::Pass).unwrap();
            let mut store = until("a connection", BUSY, || Ok(backend.connect().ok())).unwrap();
            store.read(&many()).unwrap();
            proxy.set(mode).unwrap();
            let error = fails(&format!("{mode:?}"), || match question {
                0 => store.read(&many()).map(drop),
                1 => store.write(&many().into_iter().map(Write::Remove).collect::<Vec<_>>()).map(drop),
                2 => store.ping(),
                _ => store.replace_field(&user("a"), b"password", b"old", b"new").map(drop),
            });
            is_away(&format!("{mode:?}"), &error);
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_an_answer() {
    let server = redis7().start().unwrap();
    let script = "for n = 1, 300000 do redis.call('hset', KEYS[1], 'field' .. n, string.rep('v', 50)) end";
    server.cli(&["EVAL", script, "1", "midge:user:{large}"]).unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let settings = StoreSettings { response_timeout: Duration::from_secs(30), ..StoreSettings::default() };
    let backend = midge_store::open(&format!("redis://127.0.0.1:{}", proxy.port()).parse().unwrap(), &settings).unwrap();
    let mut store = backend.connect().unwrap();
    // 20 MB in pieces of 16 KiB, each of them late: it is on its way when it ends.
    proxy.set(Mode::Delay(Duration::from_millis(20))).unwrap();
    let reading = std::thread::spawn(move || store.read(&[user("large"), user("small")]));
    until("the answer to begin", BUSY, || {
        let clients = server.cli(&["CLIENT", "LIST"])?;
        Ok(clients.lines().any(|line| line.contains("cmd=exists") && !line.contains("omem=0 ")).then_some(()))
    })
    .unwrap();
    proxy.set(Mode::Reset).unwrap();
    let error = fails("a cut answer", || reading.join().unwrap());
    is_away("a cut answer", &error);
}

#[test]
fn a_restart_ends_the_connection_and_the_next_one_works() {
    let mut server = redis7().start().unwrap();
    let backend = open(&server.url());
    let mut store = backend.connect().unwrap();
    store.write(&[Write::SetFields(user("a"), vec![(b"f".to_vec(), b"v".to_vec())])]).unwrap();
    server.stop().unwrap();
    server.start().unwrap();
    is_away("after a restart", &fails("after a restart", || store.read(&many())));
    is_away("still", &fails("still", || store.ping()));
    assert!(backend.connect().unwrap().read(&[user("a")]).is_ok());
}

#[test]
fn a_server_that_answers_nobody_says_nothing_about_keys() {
    let server = redis7().start().unwrap();
    let backend = open(&server.url());
    let mut store = backend.connect().unwrap();
    // A script that runs on is answered by BUSY to everybody else.
    server.cli(&["CONFIG", "SET", "busy-reply-threshold", "1"]).unwrap();
    let port = server.port();
    let script = std::thread::spawn(move || {
        let url = format!("redis://127.0.0.1:{port}");
        let client = std::net::TcpStream::connect(url.trim_start_matches("redis://")).unwrap();
        std::io::Write::write_all(&mut &client, b"EVAL \"while true do end\" 0\r\n").unwrap();
        let mut answer = [0; 64];
        let _ = std::io::Read::read(&mut &client, &mut answer);
    });
    until("a busy server", BUSY, || {
        let busy = match store.read(&[user("a"), Key::AllAcl]) {
            Ok(_) => false,
            Err(error) => {
                is_away("busy", &error);
                error.to_string().contains("BUSY")
            }
        };
        Ok(busy.then_some(()))
    })
    .unwrap();
    server.cli(&["SCRIPT", "KILL"]).unwrap();
    script.join().unwrap();
}

#[test]
fn loading_is_away() {
    let mut server = redis7().config("rdb-key-save-delay 0").config("loading-process-events-interval-bytes 1024").start().unwrap();
    server.cli(&["EVAL", "for n = 1, 3000 do redis.call('set', 'k' .. n, string.rep('x', 500)) end", "0"]).unwrap();
    server.stop().unwrap();
    // Each key takes a moment, so that the server is seen at it.
    let path = server.dir().join("redis.conf");
    let slow = std::fs::read_to_string(&path).unwrap() + "key-load-delay 2000\n";
    std::fs::write(&path, slow).unwrap();
    let url = server.url();
    let backend = open(&url);
    let starting = std::thread::spawn(move || server.start().map(|()| server));
    let seen = until("a loading server", Duration::from_secs(20), || {
        let answer = backend.connect().and_then(|mut store| store.read(&[user("a")]));
        match answer {
            Ok(_) => Ok(Some(false)),
            Err(error) => {
                is_away("loading", &error);
                Ok(error.to_string().contains("LOADING").then_some(true))
            }
        }
    });
    assert!(seen.unwrap(), "the server was never seen loading");
    drop(starting.join().unwrap().unwrap());
}

#[test]
fn a_server_that_became_a_replica_takes_no_writes() {
    let (master, other) = (redis7().start().unwrap(), redis7().start().unwrap());
    let mut store = open(&master.url()).connect().unwrap();
    master.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    let error = fails("a write to a replica", || store.write(&[Write::Remove(user("a"))]));
    is_away("a write to a replica", &error);
    assert!(error.to_string().contains("READONLY"), "{error}");
}

#[test]
fn a_failover_is_followed_by_a_new_connection() {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    // The first of the two sentinels never answers, and is waited for briefly.
    let silent = FaultProxy::start(group.ports()[0]).unwrap();
    silent.set(Mode::BlackHole).unwrap();
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/{}", silent.port(), group.ports()[0], RedisSentinel::NAME);
    let backend = open(&url);
    let mut store = until("the first master", BUSY * 2, || Ok(backend.connect().ok())).unwrap();
    store.write(&[Write::SetFields(user("a"), vec![(b"f".to_vec(), b"v".to_vec())])]).unwrap();
    group.fail_over().unwrap();
    is_away("the old master", &fails("the old master", || store.ping()));
    let mut store = until("the new master", BUSY * 2, || Ok(backend.connect().ok())).unwrap();
    store.write(&[Write::Remove(user("a"))]).unwrap();
}

#[test]
fn a_cluster_without_one_of_its_servers_is_away() {
    let mut cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let ports: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let backend = open(&format!("redis+cluster://{}", ports.join(",")));
    let mut store = backend.connect().unwrap();
    store.read(&many()).unwrap();
    cluster.nodes[0].pause().unwrap();
    is_away("one is silent", &fails("one is silent", || store.read(&many())));
    is_away("no new one", &fails("no new one", || backend.connect().and_then(|mut store| store.read(&many()))));
    cluster.nodes[0].resume().unwrap();
    until("the cluster", Duration::from_secs(30), || Ok(backend.connect().and_then(|mut store| store.read(&many())).ok())).unwrap();
}

#[test]
fn what_an_operator_has_to_mend_is_refused() {
    let server = redis7().password("right").tls().start().unwrap();
    let (port, tls) = (server.port(), server.tls().unwrap().0);
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:wrong@127.0.0.1:{port}"),
        format!("redis://nobody:right@127.0.0.1:{port}"),
        format!("redis://:right@127.0.0.1:{port}/77"),
        format!("rediss://:right@localhost:{tls}"),
        format!("rediss://:right@localhost:{port}"),
    ] {
        let error = fails(&url, || open(&url).connect());
        assert!(!error.is_away() || url.ends_with(&format!("localhost:{port}")), "{url}: {error}");
        assert!(!error.to_string().contains("right") && !error.to_string().contains(":wrong"), "{error}");
        let watched = fails(&url, || open(&url).watch());
        assert_eq!(watched.is_away(), error.is_away(), "{url}: {watched}");
    }
    let settings = StoreSettings { watch: WatchPolicy::Tracking, ..StoreSettings::default() };
    let wrong: StoreUrl = format!("redis://:wrong@127.0.0.1:{port}").parse().unwrap();
    assert!(midge_store::open(&wrong, &settings).unwrap().watch().is_err());
}

#[test]
fn a_server_that_speaks_nonsense() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaking = std::thread::spawn(move || {
        for nonsense in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\xff\xff\xff\xff", b"$-7\r\n", b"*1000000000\r\n", b"%1\r\n+server\r\n"]
        {
            let (mut client, _) = listener.accept().unwrap();
            let _ = std::io::Write::write_all(&mut client, nonsense);
            let _ = std::io::Read::read(&mut client, &mut [0; 1024]);
        }
    });
    let backend = open(&format!("redis://127.0.0.1:{port}"));
    for _ in 0..5 {
        fails("nonsense", || backend.connect().and_then(|mut store: Box<dyn Store>| store.read(&[user("a")])));
    }
    speaking.join().unwrap();
}
