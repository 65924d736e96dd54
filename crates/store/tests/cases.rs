//! Every store answers the same questions in the same way.
//!
//! One table of cases runs over the embedded store and over Redis and Valkey in every way of reaching them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace, ShieldTarget};
use midge_store::{Backend, KeyKind, Store, StoreError, StoreSettings, StoreUrl, Write, Written};
use midge_testkit::{RedisBuilder, RedisCluster, RedisSentinel, RedisServer, RedisVersion};

/// A prefix that means many things as a pattern, and itself only as a key.
const GLOB_PREFIX: &str = "m*[i-d]?g\\e:";
const MAX_FIELDS: usize = 100_000;

fn settings(prefix: &str) -> StoreSettings {
    StoreSettings {
        keys: KeySpace::new(prefix),
        connect_timeout: Duration::from_secs(20),
        response_timeout: Duration::from_secs(60),
        max_fields: MAX_FIELDS,
        ..StoreSettings::default()
    }
}

fn open(url: &str, prefix: &str) -> Box<dyn Backend> {
    let url: StoreUrl = url.parse().unwrap();
    midge_store::open(&url, &settings(prefix)).unwrap()
}

fn run(url: &str, prefix: &str) {
    let backend = open(url, prefix);
    cases(backend.connect().unwrap().as_mut());
}

fn cases(store: &mut dyn Store) {
    store.ping().unwrap();
    reads(store);
    names(store);
    hashes(store);
    strings(store);
    leases(store);
    wrong_types(store);
    replacing(store);
    large(store);
    lists(store);
    many(store);
    store.ping().unwrap();
}

fn user(name: &str) -> Key {
    Key::User(name.parse().unwrap())
}

fn ban(target: &str) -> Key {
    Key::Ban(target.parse().unwrap())
}

fn shield(name: &str) -> Key {
    Key::Shield(ShieldTarget::User(name.parse().unwrap()))
}

fn fields(pairs: &[(&[u8], &[u8])]) -> Fields {
    pairs.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

fn write_one(store: &mut dyn Store, write: Write) -> Written {
    let mut written = store.write(&[write]).unwrap();
    assert_eq!(written.len(), 1);
    written.remove(0)
}

fn read_one(store: &mut dyn Store, key: &Key) -> Entry {
    let mut read = store.read(std::slice::from_ref(key)).unwrap();
    assert_eq!(read.len(), 1);
    match read.remove(0) {
        Entry::Hash(mut fields) => {
            fields.sort();
            Entry::Hash(fields)
        }
        other => other,
    }
}

fn text(value: &str, ttl: Option<Duration>) -> Entry {
    Entry::Text { value: value.as_bytes().to_vec(), ttl }
}

fn is_failure(written: &Written) -> bool {
    matches!(written, Written::Failed(_))
}

fn reads(store: &mut dyn Store) {
    assert_eq!(store.read(&[]).unwrap(), []);
    assert_eq!(store.write(&[]).unwrap(), []);
    let one = fields(&[(b"\x00\xff\n", b"\x80\r\n\x00"), (b"empty", b"")]);
    let written = store.write(&[
        Write::SetFields(user("r1"), one.clone()),
        Write::SetFields(user("r2"), fields(&[(b"n", b"2")])),
        Write::SetText { key: ban("user:r"), value: b"\xff\x00 bytes".to_vec(), ttl: None },
    ]);
    assert_eq!(written.unwrap(), [Written::Count(2), Written::Count(1), Written::Count(1)]);
    let keys = [user("r2"), ban("user:r"), user("missing"), user("r1"), user("r2"), ban("user:missing"), Key::AllAcl];
    let read = store.read(&keys).unwrap();
    let two = Entry::Hash(fields(&[(b"n", b"2")]));
    let reason = Entry::Text { value: b"\xff\x00 bytes".to_vec(), ttl: None };
    assert_eq!(read[..3], [two.clone(), reason, Entry::Missing]);
    assert_eq!(read[4..], [two, Entry::Missing, Entry::Missing]);
    assert_eq!(read_one(store, &user("r1")), Entry::Hash(one));
}

fn node(name: &str) -> Key {
    Key::Node(name.parse().unwrap())
}

fn leases(store: &mut dyn Store) {
    let renew = |name: &str, pairs: &[(&[u8], &[u8])], ttl| Write::Renew { key: node(name), fields: fields(pairs), ttl };
    let hour = Duration::from_secs(3600);
    assert_eq!(write_one(store, renew("l", &[(b"a", b"1"), (b"b", b"2")], hour)), Written::Count(2));
    assert_eq!(write_one(store, renew("l", &[(b"b", b"3"), (b"c", b"4")], hour)), Written::Count(1));
    let all = Entry::Hash(fields(&[(b"a", b"1"), (b"b", b"3"), (b"c", b"4")]));
    assert_eq!(read_one(store, &node("l")), all);
    assert!(listed(store, KeyKind::Node).contains(&node("l")));
    assert!(is_failure(&write_one(store, renew("l", &[], hour))));
    let brief = Duration::from_millis(50);
    write_one(store, renew("brief", &[(b"a", b"1")], brief));
    midge_testkit::until("the end of a lease", Duration::from_secs(20), || {
        Ok((read_one(store, &node("brief")) == Entry::Missing && !listed(store, KeyKind::Node).contains(&node("brief")))
            .then_some(()))
    })
    .unwrap();
    // What was renewed in time has not ended with the earlier lease, and begins anew after its end.
    write_one(store, renew("long", &[(b"a", b"1")], brief));
    write_one(store, renew("long", &[(b"b", b"2")], hour));
    write_one(store, renew("marker", &[(b"a", b"1")], brief));
    midge_testkit::until("the end of the earlier lease", Duration::from_secs(20), || {
        Ok((read_one(store, &node("marker")) == Entry::Missing).then_some(()))
    })
    .unwrap();
    assert!(matches!(read_one(store, &node("long")), Entry::Hash(_)));
    assert_eq!(write_one(store, renew("brief", &[(b"b", b"2")], hour)), Written::Count(1));
    assert_eq!(read_one(store, &node("brief")), Entry::Hash(fields(&[(b"b", b"2")])));
    for name in ["l", "long", "brief"] {
        assert_eq!(write_one(store, Write::Remove(node(name))), Written::Count(1));
    }
}

fn names(store: &mut dyn Store) {
    for name in ["}", "{}", "a}b{c", "new\nline\r\n", " sp ace ", "größe-名前-🦟", "*", "a?[b-c]\\", "x}:acl", "$6", "a'b\"c", ":"]
    {
        let keys = [user(name), Key::UserAcl(name.parse().unwrap()), ban(&format!("user:{name}"))];
        let value = fields(&[(b"name", name.as_bytes())]);
        let written = store.write(&[
            Write::SetFields(keys[0].clone(), value.clone()),
            Write::SetFields(keys[1].clone(), fields(&[(b"acl", b"read")])),
            Write::SetText { key: keys[2].clone(), value: name.as_bytes().to_vec(), ttl: None },
        ]);
        assert_eq!(written.unwrap(), [Written::Count(1), Written::Count(1), Written::Count(1)], "{name:?}");
        let read = store.read(&keys).unwrap();
        assert_eq!(read[0], Entry::Hash(value), "{name:?}");
        assert_eq!(read[2], text(name, None), "{name:?}");
        for (kind, key) in [(KeyKind::User, &keys[0]), (KeyKind::UserAcl, &keys[1]), (KeyKind::Ban, &keys[2])] {
            assert!(listed(store, kind).contains(key), "{name:?} as {kind:?}");
        }
        let gone = store.write(&keys.clone().map(Write::Remove)).unwrap();
        assert_eq!(gone, [Written::Count(1), Written::Count(1), Written::Count(1)], "{name:?}");
        assert_eq!(store.read(&keys).unwrap(), [Entry::Missing, Entry::Missing, Entry::Missing], "{name:?}");
    }
}

fn hashes(store: &mut dyn Store) {
    let key = user("h");
    let set = |pairs: &[(&[u8], &[u8])]| Write::SetFields(key.clone(), fields(pairs));
    let remove = |names: &[&[u8]]| Write::RemoveFields(key.clone(), names.iter().map(|name| name.to_vec()).collect());
    for (write, count) in [
        (remove(&[b"a"]), 0),
        (set(&[(b"a", b"1"), (b"b", b"2")]), 2),
        (set(&[(b"b", b"3"), (b"c", b"4")]), 1),
        (remove(&[b"a", b"x"]), 1),
    ] {
        assert_eq!(write_one(store, write.clone()), Written::Count(count), "{write:?}");
    }
    assert_eq!(read_one(store, &key), Entry::Hash(fields(&[(b"b", b"3"), (b"c", b"4")])));
    assert!(is_failure(&write_one(store, set(&[]))));
    assert!(is_failure(&write_one(store, remove(&[]))));
    assert_eq!(write_one(store, remove(&[b"b", b"c"])), Written::Count(2));
    assert_eq!(read_one(store, &key), Entry::Missing);
    assert!(!listed(store, KeyKind::User).contains(&key));
    assert_eq!(write_one(store, Write::Remove(key.clone())), Written::Count(0));
}

fn strings(store: &mut dyn Store) {
    let (key, hour) = (ban("ip:192.0.2.0/24"), Duration::from_secs(3600));
    for ttl in [Some(hour), None] {
        assert_eq!(write_one(store, Write::SetText { key: key.clone(), value: b"why".to_vec(), ttl }), Written::Count(1));
        match (read_one(store, &key), ttl) {
            (Entry::Text { value, ttl: Some(left) }, Some(ttl)) => assert!(value == b"why" && left <= ttl && left > ttl / 2),
            (entry, _) => assert_eq!(entry, text("why", None)),
        }
    }
    let (counter, brief) = (shield("s"), Duration::from_millis(400));
    for count in 1..=3 {
        assert_eq!(write_one(store, Write::Increment { key: counter.clone(), ttl: hour }), Written::Count(count));
    }
    let Entry::Text { value, ttl: Some(left) } = read_one(store, &counter) else { panic!("the counter ends some time") };
    assert!(value == b"3" && left <= hour);
    write_one(store, Write::Increment { key: counter.clone(), ttl: brief });
    write_one(store, Write::SetText { key: key.clone(), value: b"brief".to_vec(), ttl: Some(brief) });
    midge_testkit::until("the end of a ban and a counter", Duration::from_secs(20), || {
        let read = store.read(&[key.clone(), counter.clone()]).unwrap();
        Ok((read == [Entry::Missing, Entry::Missing]).then_some(()))
    })
    .unwrap();
    assert!(!listed(store, KeyKind::Ban).contains(&key));
    assert_eq!(write_one(store, Write::Increment { key: counter.clone(), ttl: hour }), Written::Count(1));
    for value in ["many", "9223372036854775807"] {
        write_one(store, Write::SetText { key: counter.clone(), value: value.into(), ttl: None });
        assert!(is_failure(&write_one(store, Write::Increment { key: counter.clone(), ttl: hour })), "{value}");
    }
}

fn wrong_types(store: &mut dyn Store) {
    let (hash, string) = (user("w"), ban("user:w"));
    write_one(store, Write::SetText { key: hash.clone(), value: b"plain".to_vec(), ttl: None });
    write_one(store, Write::SetFields(string.clone(), fields(&[(b"a", b"1")])));
    let written = store.write(&[
        Write::SetFields(hash.clone(), fields(&[(b"a", b"1")])),
        Write::RemoveFields(hash.clone(), vec![b"a".to_vec()]),
        Write::Increment { key: string.clone(), ttl: Duration::from_secs(9) },
        Write::SetFields(user("w2"), fields(&[(b"a", b"1")])),
    ]);
    let written = written.unwrap();
    assert!(written[..3].iter().all(is_failure), "{written:?}");
    assert_eq!(written[3], Written::Count(1), "one failure is no other's");
    let read = store.read(&[hash.clone(), string.clone(), user("w2")]).unwrap();
    assert_eq!(read[0], Entry::Unreadable("holds another type; a hash is expected".to_owned()));
    assert_eq!(read[1], Entry::Unreadable("holds another type; a string is expected".to_owned()));
    assert!(matches!(read[2], Entry::Hash(_)));
    assert_eq!(write_one(store, Write::SetText { key: string.clone(), value: b"new".to_vec(), ttl: None }), Written::Count(1));
    assert_eq!(read_one(store, &string), text("new", None));
    assert_eq!(write_one(store, Write::Remove(hash.clone())), Written::Count(1));
    assert_eq!(read_one(store, &hash), Entry::Missing);
}

fn replacing(store: &mut dyn Store) {
    let key = user("replaced");
    assert_eq!(store.replace_field(&key, b"password", b"old", b"new").unwrap(), Written::Count(0));
    assert_eq!(read_one(store, &key), Entry::Missing);
    write_one(store, Write::SetFields(key.clone(), fields(&[(b"password", b"old"), (b"other", b"x")])));
    for (old, new, expected) in [("wrong", "a", 0), ("old", "new", 1), ("old", "late", 0)] {
        let written = store.replace_field(&key, b"password", old.as_bytes(), new.as_bytes()).unwrap();
        assert_eq!(written, Written::Count(expected), "{old} to {new}");
    }
    assert_eq!(read_one(store, &key), Entry::Hash(fields(&[(b"other", b"x"), (b"password", b"new")])));
}

fn large(store: &mut dyn Store) {
    let key = Key::UserAcl("large".parse().unwrap());
    let many: Fields = (0..MAX_FIELDS).map(|n| (format!("t/{n:06}").into_bytes(), b"read".to_vec())).collect();
    assert_eq!(write_one(store, Write::SetFields(key.clone(), many.clone())), Written::Count(MAX_FIELDS as u64));
    assert!(read_one(store, &key) == Entry::Hash(many), "all of 100,000 fields");
    write_one(store, Write::SetFields(key.clone(), fields(&[(b"one more", b"")])));
    assert_eq!(read_one(store, &key), Entry::Unreadable("has 100001 fields, at most 100000 are read".to_owned()));
    assert_eq!(write_one(store, Write::Remove(key)), Written::Count(1));
}

fn listed(store: &mut dyn Store, kind: KeyKind) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    store
        .list(kind, &mut |key| {
            found.insert(key);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn lists(store: &mut dyn Store) {
    let name = "kind*[a]?}:acl";
    let keys = [
        (KeyKind::User, user(name)),
        (KeyKind::UserAcl, Key::UserAcl(name.parse().unwrap())),
        (KeyKind::UserAutosub, Key::UserAutosub(name.parse().unwrap())),
        (KeyKind::GroupAcl, Key::GroupAcl(name.parse().unwrap())),
        (KeyKind::GroupAutosub, Key::GroupAutosub(name.parse().unwrap())),
        (KeyKind::ClientAutosub, Key::ClientAutosub(name.parse().unwrap())),
        (KeyKind::AllAcl, Key::AllAcl),
        (KeyKind::Ban, ban(&format!("client:{name}"))),
    ];
    for (_, key) in &keys {
        write_one(store, Write::SetFields(key.clone(), fields(&[(b"a", b"b")])));
    }
    for (kind, own) in &keys {
        let found = listed(store, *kind);
        for (other, key) in &keys {
            assert_eq!(found.contains(key), other == kind, "{key:?} in a list of {kind:?}");
        }
        assert!(found.iter().all(|key| KeyKind::of(key) == Some(*kind)), "{own:?}");
    }
    store.write(&keys.map(|(_, key)| Write::Remove(key))).unwrap();
    assert_eq!(listed(store, KeyKind::AllAcl), BTreeSet::new());
}

fn many(store: &mut dyn Store) {
    const MANY: usize = 100_000;
    let names: Vec<Key> = (0..MANY).map(|n| Key::GroupAcl(format!("many{n}").parse().unwrap())).collect();
    for chunk in names.chunks(20_000) {
        let writes: Vec<Write> = chunk.iter().map(|key| Write::SetFields(key.clone(), fields(&[(b"a", b"r")]))).collect();
        assert!(store.write(&writes).unwrap().iter().all(|written| *written == Written::Count(1)));
    }
    assert!(listed(store, KeyKind::GroupAcl) == names.iter().cloned().collect::<BTreeSet<_>>(), "all of 100,000 keys");
    let mut seen = 0;
    let stopped = store.list(KeyKind::GroupAcl, &mut |_| {
        seen += 1;
        if seen == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    stopped.unwrap();
    assert_eq!(seen, 10, "a listing ends where it is told to");
    let some: Vec<Key> = (0..5_000).map(|n| if n % 2 == 0 { names[n].clone() } else { user(&format!("no{n}")) }).collect();
    let expected = Entry::Hash(fields(&[(b"a", b"r")]));
    for (at, entry) in store.read(&some).unwrap().into_iter().enumerate() {
        assert_eq!(entry, if at % 2 == 0 { expected.clone() } else { Entry::Missing }, "answer {at} of 5,000");
    }
}

fn redis7() -> RedisBuilder {
    RedisServer::builder(RedisVersion::Redis7)
}

#[test]
fn embedded() {
    let dir = tempfile::tempdir().unwrap();
    run(&format!("file:{}", dir.path().display()), GLOB_PREFIX);
}

#[test]
fn redis() {
    let server = redis7().start().unwrap();
    run(&server.url(), GLOB_PREFIX);
}

#[test]
fn valkey() {
    let server = RedisServer::builder(RedisVersion::Valkey8).start().unwrap();
    run(&server.url(), "");
}

#[test]
fn unix_socket_and_database() {
    let server = redis7().start().unwrap();
    run(&format!("redis+unix://{}?db=2", server.socket().display()), "midge:");
    assert_ne!(server.cli(&["-n", "2", "DBSIZE"]).unwrap(), "0");
    assert_eq!(server.cli(&["-n", "0", "DBSIZE"]).unwrap(), "0");
    let Err(error) = open(&format!("{}/99", server.url()), "midge:").connect() else { panic!("there is no database 99") };
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("database 99")), "{error}");
}

#[test]
fn tls_with_a_client_certificate() {
    let server = redis7().tls().config("tls-auth-clients yes").start().unwrap();
    let (port, certs) = server.tls().unwrap();
    let client = certs.client("midge").unwrap();
    let ca = certs.ca.display();
    let identity = format!("cert={}&key={}", client.cert.display(), client.key.display());
    run(&format!("rediss://localhost:{port}?ca={ca}&{identity}"), "midge:");
    let strange = midge_testkit::Certs::new().unwrap();
    for (parameters, refused) in [(format!("ca={ca}"), false), (format!("ca={}&{identity}", strange.ca.display()), true)] {
        let Err(error) = open(&format!("rediss://localhost:{port}?{parameters}"), "midge:").connect() else {
            panic!("{parameters} should not do")
        };
        assert!(!refused || !error.is_away(), "{error}");
    }
    let missing: StoreUrl = format!("rediss://localhost:{port}?ca=/nowhere/ca.pem").parse().unwrap();
    let Err(error) = midge_store::open(&missing, &settings("midge:")) else { panic!("there is no such file") };
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

/// All that a store is asked to do, and nothing else.
const RIGHTS: &str = "on >se:cr@et resetkeys ~midge:* resetchannels -@all +ping +exists +hgetall +hget +hset +hdel +get +set +del \
                      +incr +pttl +pexpire +scan +watch +multi +exec +client|tracking";

#[test]
fn a_user_with_no_more_rights_than_needed() {
    let server = redis7().config("user default off").acl_user("midge", RIGHTS);
    let server = server.config("user admin on nopass ~* &* +@all").start();
    // The kit asks as the default user whether the server is up, who is switched off only afterwards.
    let server = match server {
        Ok(server) => server,
        Err(_) => {
            let server = redis7().acl_user("midge", RIGHTS).start().unwrap();
            server.cli(&["ACL", "SETUSER", "default", "resetpass", ">other"]).unwrap();
            server
        }
    };
    run(&format!("redis://midge:se%3Acr%40et@127.0.0.1:{}", server.port()), "midge:");
    for login in ["", "midge:wrong@", "nobody:x@"] {
        let Err(error) =
            open(&format!("redis://{login}127.0.0.1:{}", server.port()), "midge:").connect().and_then(|mut store| store.ping())
        else {
            panic!("{login:?} should not do")
        };
        assert!(!error.is_away(), "{login:?}: {error}");
    }
    let mut elsewhere = open(&format!("redis://midge:se%3Acr%40et@127.0.0.1:{}", server.port()), "other:").connect().unwrap();
    let refused = elsewhere.read(&[user("a")]);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "what may not be read is no word about the user: {refused:?}");
}

/// Adds the user `midge` with [`RIGHTS`] and `more` to each server; an access control list is replicated nowhere.
fn grant<'s>(servers: impl IntoIterator<Item = &'s RedisServer>, more: &str) {
    for server in servers {
        let words = ["ACL", "SETUSER", "midge"].into_iter().chain(RIGHTS.split_whitespace()).chain(more.split(' '));
        server.cli(&words.collect::<Vec<_>>()).unwrap();
    }
}

fn nothing_was_refused<'s>(servers: impl IntoIterator<Item = &'s RedisServer>) {
    for server in servers {
        assert_eq!(server.cli(&["ACL", "LOG"]).unwrap().trim(), "", "port {}", server.port());
    }
}

#[test]
fn a_user_with_no_more_rights_than_needed_behind_sentinel() {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    grant([&group.master, &group.replica], "+role");
    let sentinel = "ACL SETUSER finder on >other resetchannels -@all +sentinel|get-master-addr-by-name";
    group.sentinels[0].cli(&sentinel.split(' ').collect::<Vec<_>>()).unwrap();
    let finder = |password| format!("sentinel_user=finder&sentinel_password={password}");
    let url = |password| {
        let (port, name) = (group.ports()[0], RedisSentinel::NAME);
        format!("redis+sentinel://midge:se%3Acr%40et@127.0.0.1:{port}/{name}?{}", finder(password))
    };
    let (right, wrong) = (url("other"), url("wrong"));
    run(&right, "midge:");
    nothing_was_refused([&group.master, &group.sentinels[0]]);
    let Err(error) = open(&wrong, "midge:").connect() else { panic!("a wrong password should not do") };
    assert!(!error.is_away() && !error.to_string().contains("wrong"), "{error}");
    group.fail_over().unwrap();
    group.replica.cli(&["FLUSHALL"]).unwrap();
    run(&right, "midge:");
    nothing_was_refused([&group.replica]);
}

#[test]
fn a_user_with_no_more_rights_than_needed_in_a_cluster() {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    grant(&cluster.nodes, "+cluster|slots +asking");
    let url = format!("redis+cluster://midge:se%3Acr%40et@{}", hosts(&cluster.ports()));
    run(&url, "midge:");
    moving_slots(&cluster, &url);
    nothing_was_refused(&cluster.nodes);
}

#[test]
fn a_user_who_may_only_read() {
    let server = redis7().acl_user("reader", "on >secret ~midge:* &* +@all -@write -@transaction").start().unwrap();
    server.cli(&["HSET", "midge:user:{a}", "password", "old"]).unwrap();
    for (rights, lacks) in [("-@write -@transaction", "watch"), ("+watch", "unwatch"), ("+unwatch +multi +exec", "hset")] {
        server.cli(&[&["ACL", "SETUSER", "reader"], &*rights.split(' ').collect::<Vec<_>>()].concat()).unwrap();
        let mut store = open(&format!("redis://reader:secret@127.0.0.1:{}", server.port()), "midge:").connect().unwrap();
        for _ in 0..2 {
            let replaced = store.replace_field(&user("a"), b"password", b"old", b"new").unwrap();
            assert!(
                matches!(&replaced, Written::Failed(why) if why.contains(lacks) || lacks == "unwatch"),
                "{lacks}: {replaced:?}"
            );
            assert!(matches!(write_one(store.as_mut(), Write::Remove(user("a"))), Written::Failed(_)));
            assert_eq!(
                read_one(store.as_mut(), &user("a")),
                Entry::Hash(fields(&[(b"password", b"old")])),
                "the connection still serves"
            );
        }
    }
}

#[test]
fn password_and_database() {
    let server = redis7().password("se/cret").start().unwrap();
    run(&format!("redis://:se%2Fcret@127.0.0.1:{}/3", server.port()), "midge:");
    assert_ne!(server.cli(&["-n", "3", "DBSIZE"]).unwrap(), "0");
}

#[test]
fn sentinel() {
    let group = RedisSentinel::start(RedisVersion::Redis7, 3).unwrap();
    run(&format!("redis+sentinel://{}/{}", hosts(&group.ports()), RedisSentinel::NAME), "midge:");
    let Err(error) = open(&format!("redis+sentinel://{}/unknown", hosts(&group.ports())), "midge:").connect() else {
        panic!("nobody knows that service")
    };
    assert!(error.to_string().contains("unknown"), "{error}");
}

#[test]
fn cluster() {
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    let url = format!("redis+cluster://{}", hosts(&cluster.ports()));
    run(&url, GLOB_PREFIX);
    moving_slots(&cluster, &url);
}

#[test]
fn a_cluster_and_a_sentinel_need_little_more_rights() {
    let login = "midge:se%3Acr%40et@";
    let grant = |server: &RedisServer, user: &str, rights: &str| {
        let words: Vec<&str> = ["ACL", "SETUSER", user].into_iter().chain(rights.split_whitespace()).collect();
        assert_eq!(server.cli(&words).unwrap(), "OK", "{words:?}");
    };
    let cluster = RedisCluster::start(RedisVersion::Redis7).unwrap();
    for node in &cluster.nodes {
        grant(node, "midge", &format!("{RIGHTS} +cluster|slots +asking"));
    }
    let url = format!("redis+cluster://{login}{}", hosts(&cluster.ports()));
    run(&url, "midge:");
    moving_slots(&cluster, &url);

    let group = RedisSentinel::start(RedisVersion::Redis7, 1).unwrap();
    grant(&group.master, "midge", &format!("{RIGHTS} +role"));
    grant(&group.sentinels[0], "asker", "on >pass -@all +sentinel|get-master-addr-by-name");
    let asker = "sentinel_user=asker&sentinel_password=pass";
    run(&format!("redis+sentinel://{login}{}/{}?{asker}", hosts(&group.ports()), RedisSentinel::NAME), "midge:");
}

fn hosts(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

/// While a slot moves, and after it has, an open connection finds its keys.
fn moving_slots(cluster: &RedisCluster, url: &str) {
    let mut store = open(url, "midge:").connect().unwrap();
    let key = user("mover");
    write_one(store.as_mut(), Write::SetFields(key.clone(), fields(&[(b"a", b"1")])));
    let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", "midge:user:{mover}"]).unwrap();
    let owner = usize::from(slot.parse::<u16>().unwrap()) * 3 / 16_384;
    let (from, to) = (&cluster.nodes[owner], &cluster.nodes[(owner + 1) % 3]);
    let id = |node: &RedisServer| node.cli(&["CLUSTER", "MYID"]).unwrap();
    to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]).unwrap();
    from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]).unwrap();
    from.cli(&["MIGRATE", "127.0.0.1", &to.port().to_string(), "midge:user:{mover}", "0", "5000"]).unwrap();
    let expected = Entry::Hash(fields(&[(b"a", b"1")]));
    assert_eq!(read_one(store.as_mut(), &key), expected, "while the slot moves");
    for node in [to, from] {
        node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]).unwrap();
    }
    assert_eq!(read_one(store.as_mut(), &key), expected, "after the slot has moved");
}
