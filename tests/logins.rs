//! Who gets in, and who doesn't, on real brokers.
//!
//! Each test asks the same of every supported Mosquitto; no deadline and no shield decides, but where one is what is tested.

use std::time::Duration;

use midge_testkit::{
    Certs, Connect, Identity, Mosquitto, MosquittoBuilder, MosquittoSub, MosquittoVersion, Packet, Property, Protocol, RawClient,
    RedisServer, RedisVersion, Value, mosquitto_pub, python, until,
};

use crate::stage::ScramClient;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A listener's lines; a test that needs the shield leaves out `shield`.
const CALM: &str = "auth_opt_login_deadline 10s\n";
const UNSHIELDED: &str = "auth_opt_shield_user_attempts 0\nauth_opt_shield_address_attempts 0\n";

pub(crate) fn redis() -> RedisServer {
    RedisServer::builder(RedisVersion::Redis7).start().unwrap()
}

/// Returns a broker-to-be that trusts the plugin alone, with further lines of configuration.
pub(crate) fn broker_with(version: MosquittoVersion, store: &RedisServer, lines: &str) -> MosquittoBuilder {
    let text = format!("auth_plugin {{plugin}}\nauth_opt_store {}\n{CALM}{lines}", store.url());
    Mosquitto::builder(version).config(&text)
}

pub(crate) fn broker(version: MosquittoVersion, store: &RedisServer, lines: &str) -> Mosquitto {
    broker_with(version, store, &format!("{UNSHIELDED}{lines}")).start().unwrap()
}

/// Adds a user with the password `right` and further fields.
pub(crate) fn user(store: &RedisServer, name: &str, fields: &[&str]) {
    let key = format!("midge:user:{{{name}}}");
    store.cli(&[&["HSET", &key, "password", "{plain}right"], fields].concat()).unwrap();
}

pub(crate) fn rules(store: &RedisServer, key: &str, fields: &[&str]) {
    store.cli(&[&["HSET", &format!("midge:{key}:acl")], fields].concat()).unwrap();
}

/// Returns the code of the CONNACK.
fn code(port: u16, connect: &Connect) -> u8 {
    RawClient::try_connect(port, connect).unwrap().1
}

fn login(protocol: Protocol, id: &str, name: &str, password: &str) -> Connect {
    Connect::new(protocol, id).login(name, password)
}

/// A publish that nobody has subscribed to is answered by 0x10 (MQTT 5.0 section 3.4.2.1).
fn may_publish(client: &mut RawClient, topic: &str) -> bool {
    match client.publish(topic, b"hello", 1, false).unwrap() {
        0 | 0x10 => true,
        0x87 => false,
        code => panic!("{code:#x} for {topic}"),
    }
}

const VECTORS: &str = include_str!("../crates/core/tests/fixtures/passwords.tsv");

fn unhex(digits: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// Returns stored texts with their passwords, such as the old brokers hand over whole: up to the first NUL, and none that is empty.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    let all = fields.map(|fields| (fields[1], unhex(fields[2])));
    all.filter(|(_, password)| !password.is_empty() && !password.contains(&0)).collect()
}

#[test]
fn every_encoding_lets_the_right_password_in_and_no_other() {
    let store = redis();
    let vectors = vectors();
    for encoding in ["{plain}", "{sha256}", "{sha256:prefix:", "$7$", "$6$", "$argon2id$", "PBKDF2$", "$2", "{pbkdf2-"] {
        assert!(vectors.iter().any(|(stored, _)| stored.starts_with(encoding)), "{encoding} has no vector");
    }
    for (number, (stored, _)) in vectors.iter().enumerate() {
        store.cli(&["HSET", &format!("midge:user:{{u{number}}}"), "password", stored]).unwrap();
    }
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        for (number, (stored, password)) in vectors.iter().enumerate() {
            let attempt =
                |password: &[u8]| code(broker.port(), &Connect::new(Protocol::V3_1_1, "c").login(format!("u{number}"), password));
            assert_eq!(attempt(password), 0, "{version:?} {stored}");
            let mut wrong = password.clone();
            wrong[0] ^= 0x20;
            assert_ne!(attempt(&wrong), 0, "{version:?} {stored}");
            assert_eq!(attempt(password), 0, "{version:?} {stored} remembered");
        }
    }
}

#[test]
fn accounts_decide_who_gets_in() {
    let store = redis();
    user(&store, "alice", &[]);
    user(&store, "off", &["enabled", "0"]);
    user(&store, "bound", &["client_id", "%u-*"]);
    store.cli(&["HSET", "midge:user:{bare}", "superuser", "1"]).unwrap();
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        for protocol in [Protocol::V3_1, Protocol::V3_1_1, Protocol::V5] {
            for (id, name, password, let_in) in [
                ("phone", "alice", "right", true),
                ("phone", "alice", "wrong", false),
                ("phone", "alice", "", false),
                ("phone", "Alice", "right", false),
                ("phone", "nobody", "right", false),
                ("phone", "", "right", false),
                ("phone", "off", "right", false),
                ("bound-7", "bound", "right", true),
                ("phone", "bound", "right", false),
                ("phone", "bare", "", false),
            ] {
                let code = code(broker.port(), &login(protocol, id, name, password));
                assert_eq!(code == 0, let_in, "{version:?} {protocol:?} {id} {name} {password}: {code}");
            }
            assert_ne!(code(broker.port(), &Connect::new(protocol, "nameless")), 0, "{version:?} {protocol:?}");
        }
    }
}

#[test]
fn the_nameless_have_the_rules_of_everyone_and_of_their_group() {
    let store = redis();
    rules(&store, "all", &["open/#", "p"]);
    rules(&store, "group:{anonymous}", &["visit/%c", "p", "open/closed", "!p"]);
    for version in MosquittoVersion::ALL {
        // That the broker itself lets them in is not enough, nor is it needed.
        let denying = broker(version, &store, "allow_anonymous true\n");
        assert_ne!(code(denying.port(), &Connect::new(Protocol::V5, "n")), 0, "{version:?}");
        let allowing = broker(version, &store, "allow_anonymous false\nauth_opt_anonymous allow\n");
        let mut visitor = RawClient::connect(allowing.port(), &Connect::new(Protocol::V5, "n")).unwrap();
        for (topic, allowed) in [("open/x", true), ("visit/n", true), ("visit/m", false), ("open/closed", false), ("else", false)] {
            assert_eq!(may_publish(&mut visitor, topic), allowed, "{version:?} {topic}");
        }
        assert_ne!(code(allowing.port(), &login(Protocol::V5, "n2", "nobody", "right")), 0, "{version:?}");
    }
}

#[test]
fn superusers_may_all_and_members_what_their_groups_may() {
    let store = redis();
    user(&store, "root", &["superuser", "1"]);
    user(&store, "anna", &["groups", "staff, night"]);
    user(&store, "otto", &[]);
    rules(&store, "group:{staff}", &["work/#", "ps"]);
    rules(&store, "group:{night}", &["gate/#", "p", "work/day", "!p"]);
    rules(&store, "user:{root}", &["locked", "!p"]);
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        for (name, topic, allowed) in [
            ("root", "any/where", true),
            ("root", "locked", true),
            ("anna", "work/x", true),
            ("anna", "work/day", false),
            ("anna", "gate/1", true),
            ("anna", "elsewhere", false),
            ("otto", "work/x", false),
        ] {
            let mut client = RawClient::connect(broker.port(), &login(Protocol::V5, name, name, "right")).unwrap();
            assert_eq!(may_publish(&mut client, topic), allowed, "{version:?} {name} {topic}");
        }
    }
}

#[test]
fn the_banned_stay_out_until_their_ban_ends() {
    let store = redis();
    user(&store, "bob", &[]);
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        for ban in ["user:bob", "client:evil", "ip:127.0.0.1", "ip:127.0.0.0/8"] {
            let key = format!("midge:ban:{{{ban}}}");
            let attempt = || code(broker.port(), &login(Protocol::V5, "evil", "bob", "right"));
            assert_eq!(attempt(), 0, "{version:?} before {ban}");
            store.cli(&["SET", &key, "abuse"]).unwrap();
            until("the ban to hold", SOON, || Ok((attempt() != 0).then_some(()))).unwrap();
            store.cli(&["DEL", &key]).unwrap();
            until("the ban to end", SOON, || Ok((attempt() == 0).then_some(()))).unwrap();
        }
    }
}

const SECRET: &str = "a secret of thirty-two bytes, or more";

/// Prints tokens, one a line, for `secret header:claims…`.
const TOKENS: &str = r#"
import sys, hmac, hashlib, base64, time
b = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
for claims in sys.argv[2:]:
    head, claims = claims.split(" ", 1)
    for name, seconds in (("SOON", 3), ("LATER", 3600), ("PAST", -3600)):
        claims = claims.replace(name, str(int(time.time()) + seconds))
    text = b(b'{"alg":"%s","typ":"JWT"}' % head.encode()) + "." + b(claims.encode())
    print(text + "." + ("" if head == "none" else b(hmac.new(sys.argv[1].encode(), text.encode(), hashlib.sha256).digest())))
"#;

fn tokens(secret: &str, claims: &[&str]) -> Vec<String> {
    let said = python(TOKENS, &[&[secret], claims].concat(), SOON).unwrap().success().unwrap();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_token_lets_its_subject_in_until_it_ends() {
    let store = redis();
    user(&store, "tess", &[]);
    rules(&store, "user:{tess}", &["t/#", "p"]);
    rules(&store, "group:{crew}", &["crew/#", "p"]);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    for version in MosquittoVersion::ALL {
        let lines = format!("{UNSHIELDED}auth_opt_jwt_leeway 0s\nauth_opt_jwt_secret_file {}\n", file.display());
        let broker = broker_with(version, &store, &lines).start().unwrap();
        let good = r#"HS256 {"sub":"tess","exp":LATER,"groups":["crew"]}"#;
        let made = tokens(
            SECRET,
            &[
                good,
                r#"HS256 {"sub":"tess","exp":PAST}"#,
                r#"HS256 {"sub":"tess"}"#,
                r#"none {"sub":"tess","exp":LATER}"#,
                r#"HS256 {"sub":"+","exp":LATER}"#,
                r#"HS256 {"exp":LATER}"#,
            ],
        );
        let attempt = |name: &str, token: &str| code(broker.port(), &login(Protocol::V5, "t", name, token));
        assert_eq!(attempt("tess", &made[0]), 0, "{version:?}");
        for (token, claims) in made[1..].iter().zip(["past", "no end", "no signature", "a name that is no name", "no name"]) {
            assert_ne!(attempt("tess", token), 0, "{version:?} {claims}");
        }
        assert_ne!(attempt("other", &made[0]), 0, "{version:?}");
        assert_ne!(attempt("tess", &tokens("another secret of thirty-two bytes", &[good])[0]), 0, "{version:?}");
        let mut client = RawClient::connect(broker.port(), &login(Protocol::V5, "t", "tess", &made[0])).unwrap();
        for (topic, allowed) in [("t/x", true), ("crew/x", true), ("x", false)] {
            assert_eq!(may_publish(&mut client, topic), allowed, "{version:?} {topic}");
        }
        let brief = &tokens(SECRET, &[r#"HS256 {"sub":"tess","exp":SOON}"#])[0];
        let mut brief = RawClient::connect(broker.port(), &login(Protocol::V5, "brief", "tess", brief)).unwrap();
        brief.closed(SOON).unwrap();
        client.ping(SOON).unwrap();
    }
}

#[test]
fn certificates_name_their_users() {
    let store = redis();
    user(&store, "alice", &[]);
    rules(&store, "user:{alice}", &["chat/#", "prs"]);
    user(&store, "off", &["enabled", "0"]);
    let certs = Certs::new().unwrap();
    let (alice, off) = (certs.client("alice").unwrap(), certs.client("off").unwrap());
    let shown = |who: &Identity| {
        let files = [("--cafile", &certs.ca), ("--cert", &who.cert), ("--key", &who.key)];
        files.into_iter().flat_map(|(option, file)| [option.to_owned(), file.display().to_string()]).collect::<Vec<_>>()
    };
    for version in MosquittoVersion::ALL {
        for name in ["auth_opt_tls_identity cn\n", "use_identity_as_username true\n"] {
            let (ca, key, cert) = (certs.ca.display(), certs.server.key.display(), certs.server.cert.display());
            let tls =
                format!("listener {{port}} 127.0.0.1\ncafile {ca}\nkeyfile {key}\ncertfile {cert}\nrequire_certificate true\n");
            let mut broker = broker(version, &store, &format!("{tls}{name}"));
            let port = broker.port();
            let publish = |who: &Identity, topic: &str| {
                let arguments = ["-V", "5", "-d", "-q", "1", "-t", topic, "-m", "hello", "-i", "phone"];
                let done = mosquitto_pub(
                    version,
                    port,
                    &[&shown(who)[..], &arguments.map(str::to_owned)].concat().iter().map(String::as_str).collect::<Vec<_>>(),
                )
                .unwrap();
                done.stdout + &done.stderr
            };
            let allowed = publish(&alice, "chat/x");
            assert!(allowed.contains("RC:0)") || allowed.contains("RC:16)"), "{version:?} {name}: {allowed}");
            assert!(publish(&alice, "elsewhere").contains("RC:135)"), "{version:?} {name}");
            let disabled = publish(&off, "chat/x");
            assert!(!disabled.contains("RC:0)") && !disabled.contains("RC:16)"), "{version:?} {name}: {disabled}");

            let arguments = [&shown(&alice)[..], &["-t", "chat/#", "-i", "watch"].map(str::to_owned)].concat();
            let mut watch = MosquittoSub::start(version, port, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            broker.reload().unwrap();
            publish(&alice, "chat/after");
            watch.wait(1, SOON).unwrap();
            assert!(
                !broker.log().contains("Client watch [") && !broker.log().contains("Client watch disconnected"),
                "{}",
                broker.log()
            );
            store.cli(&["HSET", "midge:user:{alice}", "enabled", "0"]).unwrap();
            broker.process().wait_log("disconnected client \"watch\"", SOON).unwrap();
            store.cli(&["HSET", "midge:user:{alice}", "enabled", "1"]).unwrap();
        }
    }
}

/// Prints what is stored for a password, as RFC 5802 section 3 says.
const STORED: &str = r#"
import sys, hmac, hashlib, base64
b = lambda data: base64.b64encode(data).decode()
salt = b"sixteen byte salt"[:16]
salted = hashlib.pbkdf2_hmac("sha256", sys.argv[1].encode(), salt, 4096)
mac = lambda text: hmac.new(salted, text, hashlib.sha256).digest()
print("SCRAM-SHA-256$4096:%s$%s:%s" % (b(salt), b(hashlib.sha256(mac(b"Client Key")).digest()), b(mac(b"Server Key"))))
"#;

/// Runs one exchange and returns the client where it was let in.
fn scram(port: u16, id: &str, name: &str, password: &str) -> Option<RawClient> {
    const METHOD: &str = "SCRAM-SHA-256";
    let exchange = ScramClient::new(name, password);
    let mut connect = Connect::new(Protocol::V5, id);
    connect.properties.push(Property(Property::AUTH_METHOD, Value::Bytes(METHOD.into())));
    connect.properties.push(Property(Property::AUTH_DATA, Value::Bytes(exchange.first())));
    let mut client = RawClient::open(port, Protocol::V5).unwrap();
    client.send(&connect.encode()).unwrap();
    let Packet::Auth { code: 0x18, properties } = client.expect("an AUTH", |packet| matches!(packet, Packet::Auth { .. })).unwrap()
    else {
        panic!("the exchange doesn't go on")
    };
    let data = properties.iter().find_map(|property| match property {
        Property(Property::AUTH_DATA, Value::Bytes(data)) => Some(data.clone()),
        _ => None,
    });
    client.send_auth(0x18, METHOD, &exchange.last(&data.unwrap())).unwrap();
    match client.expect("a CONNACK", |packet| matches!(packet, Packet::ConnAck { .. })).unwrap() {
        Packet::ConnAck { code: 0, .. } => Some(client),
        _ => None,
    }
}

#[test]
fn scram_lets_in_whoever_knows_the_password() {
    let store = redis();
    let stored = python(STORED, &["pencil"], SOON).unwrap().success().unwrap();
    store.cli(&["HSET", "midge:user:{sam}", "scram", stored.trim_end()]).unwrap();
    store.cli(&["HSET", "midge:user:{off}", "scram", stored.trim_end(), "enabled", "0"]).unwrap();
    user(&store, "paula", &[]);
    rules(&store, "user:{sam}", &["s/#", "p"]);
    for version in MosquittoVersion::ALL {
        let mut broker = broker(version, &store, "");
        let mut sam = scram(broker.port(), "phone", "sam", "pencil").unwrap_or_else(|| panic!("{version:?}"));
        assert!(may_publish(&mut sam, "s/x"), "{version:?}");
        assert!(!may_publish(&mut sam, "x"), "{version:?}");
        for (name, password) in [("sam", "pen"), ("nobody", "pencil"), ("off", "pencil"), ("paula", "right")] {
            assert!(scram(broker.port(), "other", name, password).is_none(), "{version:?} {name} {password}");
        }
        broker.reload().unwrap();
        sam.ping(SOON).unwrap_or_else(|error| panic!("{version:?}: {error}\n{}", broker.log()));
        assert!(may_publish(&mut sam, "s/x"), "{version:?}");
    }
}

#[test]
fn the_shield_stops_guesses_but_no_password_that_was_right_before() {
    for version in MosquittoVersion::ALL {
        let store = redis();
        user(&store, "known", &[]);
        user(&store, "fresh", &[]);
        let lines = "auth_opt_shield_user_attempts 3\nauth_opt_shield_address_attempts 0\nauth_opt_shield_first 10m\n";
        let broker = broker_with(version, &store, lines).start().unwrap();
        let attempt = |name: &str, password: &str| code(broker.port(), &login(Protocol::V5, name, name, password));
        assert_eq!(attempt("known", "right"), 0, "{version:?}");
        for name in ["known", "fresh"] {
            for guess in 0..5 {
                assert_ne!(attempt(name, &format!("guess {guess}")), 0, "{version:?} {name}");
            }
        }
        assert_eq!(attempt("known", "right"), 0, "{version:?}");
        assert_ne!(attempt("fresh", "right"), 0, "{version:?}");
        // The count is the store's, so that a restart doesn't forget it.
        let mut keys = String::new();
        until("the count in the store", SOON, || {
            keys = store.cli(&["KEYS", "midge:shield:*"])?;
            Ok(keys.contains("user:fresh").then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_takeover_ends_the_first_client_and_no_right_of_the_second() {
    let store = redis();
    user(&store, "tim", &[]);
    rules(&store, "user:{tim}", &["t/#", "prs"]);
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        for protocol in [Protocol::V3_1_1, Protocol::V5] {
            for connect in [login(protocol, "one", "tim", "right"), login(protocol, "two", "tim", "right").persistent()] {
                let mut clients = vec![RawClient::connect(broker.port(), &connect).unwrap()];
                for round in 0..3 {
                    let mut next = RawClient::connect(broker.port(), &connect).unwrap();
                    clients.last_mut().unwrap().closed(SOON).unwrap();
                    assert_eq!(next.subscribe(&[("t/#", 1)]).unwrap(), [1], "{version:?} {protocol:?}");
                    let payload = format!("round {round}");
                    assert_eq!(next.publish("t/x", payload.as_bytes(), 1, false).unwrap(), 0, "{version:?} {protocol:?}");
                    let message = next.message(SOON).unwrap().unwrap_or_else(|| panic!("{version:?} {protocol:?}"));
                    assert_eq!(message.text(), ("t/x".to_owned(), payload), "{version:?} {protocol:?}");
                    clients.push(next);
                }
            }
        }
    }
}

/// Subscribes, publishes to itself, and prints what it gets.
const PAHO: &str = r#"
import sys
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "paho", protocol=mqtt.MQTTv5)
client.username_pw_set("pia", "right")
client.on_connect = lambda c, u, f, code, p: c.subscribe("p/#", 1)
client.on_subscribe = lambda c, u, i, codes, p: c.publish("p/x", b"hello", 1)
def message(c, u, m):
    print(m.topic, m.payload.decode(), flush=True)
    c.disconnect()
client.on_message = message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"#;

#[test]
fn paho_logs_in_and_hears_itself() {
    let store = redis();
    user(&store, "pia", &[]);
    rules(&store, "user:{pia}", &["p/#", "prs"]);
    for version in MosquittoVersion::ALL {
        let broker = broker(version, &store, "");
        let said = python(PAHO, &[&broker.port().to_string()], SOON).unwrap().success().unwrap();
        assert_eq!(said.trim_end(), "p/x hello", "{version:?}");
    }
}
