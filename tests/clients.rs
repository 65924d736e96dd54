//! What clients of a real Mosquitto may do, and may not.
//!
//! Each test runs on every version: who gets in, and which topics they reach.

use midge_testkit::{Connect, MosquittoVersion, Protocol, RawClient, Will, mosquitto_pub, python};

use crate::scene::{QUIET, SOON, Scene, reaches};

/// Stored passwords and what they store; made by the tools named, the rest by `hashlib`.
const ENCODINGS: &[(&str, &str)] = &[
    ("{plain}secret", "secret"),
    // printf secret | md5sum, sha1sum, sha256sum, sha512sum
    ("{md5}5ebe2294ecd0e0f08eab7690d2a6ee69", "secret"),
    ("{sha1}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "secret"),
    ("{sha256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "secret"),
];

/// Makes one stored password of each encoding that Python's library can compute.
const MAKE: &str = r#"
import hashlib, base64
b = lambda x: base64.b64encode(x).decode()
n = lambda x: b(x).rstrip("=")
salt = b"0123456789ab"
print("$6$" + b(salt) + "$" + b(hashlib.sha512(b"secret" + salt).digest()))
for s in (salt, bytes(range(64))):
    print("$7$1000$" + b(s) + "$" + b(hashlib.pbkdf2_hmac("sha512", b"secret", s, 1000, 64)))
for d, l in (("sha256", 32), ("sha512", 64), ("sha1", 20)):
    print("PBKDF2$%s$1000$%s$%s" % (d, b(salt), b(hashlib.pbkdf2_hmac(d, b"secret", salt, 1000, l))))
    print("PBKDF2$%s$1000$%s$%s" % (d, b(salt), b(hashlib.pbkdf2_hmac(d, b"secret", b(salt).encode(), 1000, l))))
print("$pbkdf2-sha512$i=1000,l=64$%s$%s" % (n(salt), n(hashlib.pbkdf2_hmac("sha512", b"secret", salt, 1000, 64))))
print("pbkdf2_sha256$1000$salty$" + b(hashlib.pbkdf2_hmac("sha256", b"secret", b"salty", 1000, 32)))
print("{sha256:prefix:pepper}" + hashlib.sha256(b"peppersecret").hexdigest())
print("{sha512:suffix:pepper}" + hashlib.sha512(b"secretpepper").hexdigest())
print("{pbkdf2-sha256:1000:pepper}" + hashlib.pbkdf2_hmac("sha256", b"secret", b"pepper", 1000, 32).hex())
"#;

#[test]
fn every_encoding_lets_the_right_password_in() {
    let made = python(MAKE, &[], SOON).unwrap();
    let made: Vec<(String, &str)> = made.stdout.lines().map(|line| (line.to_owned(), "secret")).collect();
    assert!(made.len() >= 14);
    // By `argon2-cffi` and Python's `bcrypt`, which core's fixtures have more of.
    let more = [
        ("$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie", "correctbatteryhorsestapler"),
        ("$2a$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie", "correctbatteryhorsestapler"),
    ];
    let owned =
        |all: &[(&str, &'static str)]| all.iter().map(|(stored, password)| ((*stored).to_owned(), *password)).collect::<Vec<_>>();
    let all: Vec<_> = made.into_iter().chain(owned(ENCODINGS)).chain(owned(&more)).collect();
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        for (n, (stored, _)) in all.iter().enumerate() {
            scene.user(&format!("user{n}"), stored, &[]);
        }
        for (n, (stored, password)) in all.iter().enumerate() {
            let user = format!("user{n}");
            assert_eq!(scene.login(Protocol::V5, "x", &user, b"wrong"), 0x87, "{version:?} {stored}");
            assert_eq!(scene.login(Protocol::V5, "x", &user, password.as_bytes()), 0, "{version:?} {stored}");
            assert_eq!(scene.login(Protocol::V3_1_1, "x", &user, b""), 5, "{version:?} {stored}");
        }
    }
}

#[test]
fn nobody_gets_in_by_mistake() {
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        for (name, field, value) in [("off", "enabled", "0"), ("bound", "client_id", "bound-*"), ("root", "superuser", "1")] {
            scene.user(name, "{plain}p", &[]);
            scene.set(&["HSET", &format!("midge:user:{{{name}}}"), field, value]);
        }
        scene.user("banned", "{plain}p", &[]);
        scene.set(&["SET", "midge:ban:{user:banned}", "spam"]);
        scene.set(&["SET", "midge:ban:{client:evil}", "spam"]);
        scene.wait_log("following changes");
        for (id, user, password, let_in) in [
            ("x", "off", "p", false),
            ("bound-1", "bound", "p", true),
            ("other", "bound", "p", false),
            ("x", "root", "p", true),
            ("x", "root", "P", false),
            ("x", "nobody", "p", false),
            ("x", "midge:user:{root}", "p", false),
            ("x", "root:acl", "1", false),
        ] {
            let code = scene.login(Protocol::V3_1_1, id, user, password.as_bytes());
            assert_eq!(code == 0, let_in, "{version:?} {id} {user} {password}: {code}");
        }
        for (id, user) in [("x", "banned"), ("evil", "root")] {
            midge_testkit::until(
                "the ban to hold",
                SOON,
                || Ok((scene.login(Protocol::V3_1_1, id, user, b"p") != 0).then_some(())),
            )
            .unwrap();
        }
        let (_, code) = RawClient::try_connect(scene.broker.port(), &Connect::new(Protocol::V3_1_1, "nameless")).unwrap();
        assert_eq!(code, 5, "{version:?}");
    }
}

#[test]
fn topics_follow_the_rules_and_a_denial_cuts_nobody_off() {
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        let rules = [
            ("open/#", "prs"),
            ("open/closed", "!p"),
            ("in/#", "rs"),
            ("out/#", "p"),
            ("own/%u/%c", "prs"),
            ("#", "s"),
            ("deaf/#", "ps"),
        ];
        scene.user("ann", "{plain}p", &rules);
        scene.user("bob", "{plain}p", &[("#", "prs"), ("secret/#", "!prs")]);
        for protocol in [Protocol::V3_1_1, Protocol::V5] {
            let mut ann = scene.client(protocol, "phone", "ann", "p");
            let mut bob = scene.client(Protocol::V5, "desk", "bob", "p");
            let refused = if protocol == Protocol::V5 { 0x87 } else { 0x80 };
            let codes = ann
                .subscribe(&[("open/+", 1), ("$SYS/#", 0), ("in/x", 0), ("own/ann/phone", 0), ("deaf/#", 0), ("$share/g/in/y", 0)])
                .unwrap();
            assert_eq!(codes, [1, refused, 0, 0, 0, 0], "{version:?} {protocol:?}");
            assert_eq!(bob.subscribe(&[("secret/x", 0), ("+/x", 0), ("open/+", 0)]).unwrap(), [0x87, 0x87, 0], "{version:?}");
            for (topic, expected) in
                [("open/x", true), ("open/closed", false), ("in/x", false), ("own/ann/phone", true), ("own/bob/phone", false)]
            {
                let code = ann.publish(topic, b"m", 1, false).unwrap();
                if protocol == Protocol::V5 {
                    assert_eq!(code != 0x87, expected, "{version:?} {topic}: {code}");
                }
            }
            assert!(reaches(&mut bob, &mut ann, "in/x", "delivered"), "{version:?}");
            assert!(!reaches(&mut bob, &mut ann, "deaf/x", "not for her"), "{version:?}");
            assert!(reaches(&mut bob, &mut ann, "open/x", "still there"), "{version:?}");
            ann.unsubscribe(&["open/+"]).unwrap();
            assert!(!reaches(&mut bob, &mut ann, "open/x", "gone"), "{version:?}");
            ann.ping(SOON).unwrap();
        }
    }
}

#[test]
fn retained_messages_and_wills_meet_the_rules() {
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        scene.user("ann", "{plain}p", &[("news/#", "prs"), ("last/ann", "p")]);
        scene.user("bob", "{plain}p", &[("news/#", "s"), ("news/open", "r"), ("last/#", "rs")]);
        let mut ann = scene.client(Protocol::V5, "a", "ann", "p");
        for topic in ["news/open", "news/closed"] {
            ann.publish(topic, b"kept", 1, true).unwrap();
        }
        let mut bob = scene.client(Protocol::V5, "b", "bob", "p");
        assert_eq!(bob.subscribe(&[("news/#", 0), ("last/#", 0)]).unwrap(), [0, 0]);
        let first = bob.message(SOON).unwrap().map(|message| message.text());
        assert_eq!(first, Some(("news/open".to_owned(), "kept".to_owned())), "{version:?}");
        assert!(bob.message(QUIET).unwrap().is_none(), "{version:?}");
        for (topic, heard) in [("last/ann", true), ("last/other", false)] {
            let will = Will { topic: topic.into(), payload: b"farewell".to_vec(), qos: 0, retain: false, properties: Vec::new() };
            drop(scene.connect(&Connect::new(Protocol::V3_1_1, "dying").login("ann", "p").will(will)));
            let will = bob.message(if heard { SOON } else { QUIET }).unwrap();
            assert_eq!(will.is_some(), heard, "{version:?} {topic}");
        }
    }
}

#[test]
fn a_client_that_takes_over_keeps_its_rights() {
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        scene.user("ann", "{plain}p", &[("a/#", "prs")]);
        scene.user("bob", "{plain}p", &[("b/#", "prs")]);
        let mut first = scene.client(Protocol::V5, "same", "ann", "p");
        let mut second = scene.client(Protocol::V5, "same", "bob", "p");
        first.closed(SOON).unwrap();
        assert_ne!(second.publish("b/x", b"m", 1, false).unwrap(), 0x87, "{version:?}");
        assert_eq!(second.publish("a/x", b"m", 1, false).unwrap(), 0x87, "{version:?}");
        // A refused login under the identifier of a connected client changes nothing for that.
        assert_eq!(scene.login(Protocol::V5, "same", "ann", b"wrong"), 0x87, "{version:?}");
        assert_ne!(second.publish("b/x", b"m", 1, false).unwrap(), 0x87, "{version:?}");
    }
}

#[test]
fn clients_of_others_work() {
    const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
done = threading.Event()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "paho", protocol=mqtt.MQTTv5)
client.username_pw_set("ann", "p")
client.on_connect = lambda c, *_: c.subscribe("open/x", 1)
client.on_subscribe = lambda c, *_: c.publish("open/x", b"hello", 1)
client.on_message = lambda c, u, m: (print(m.topic, m.payload.decode()), done.set())
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
sys.exit(0 if done.wait(20) else 1)
"#;
    for version in MosquittoVersion::ALL {
        let scene = Scene::new(version, "");
        scene.user("ann", "{plain}p", &[("open/#", "prs")]);
        let port = scene.broker.port();
        let sent = mosquitto_pub(version, port, &["-u", "ann", "-P", "p", "-t", "open/x", "-m", "x", "-q", "1"]).unwrap();
        assert!(sent.status.success(), "{version:?}: {}", sent.stderr);
        let refused = mosquitto_pub(version, port, &["-u", "ann", "-P", "q", "-t", "open/x", "-m", "x"]).unwrap();
        assert!(!refused.status.success(), "{version:?}");
        let paho = python(PAHO, &[&port.to_string()], SOON * 2).unwrap();
        assert_eq!(paho.stdout.trim(), "open/x hello", "{version:?}: {}", paho.stderr);
    }
}
