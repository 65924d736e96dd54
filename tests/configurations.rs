//! Starts every ready configuration as a user would.
//!
//! The files are taken as they are, but for what a user edits too: ports, the store's URL, and where files lie.

use std::time::Duration;

use midge_testkit::{
    Certs, Connect, FakeHost, Finished, HostKind, Mosquitto, MosquittoBuilder, MosquittoVersion, Protocol, RawClient, RedisServer,
    RedisVersion, mosquitto_pub, plugin, until, workspace,
};

const SOON: Duration = Duration::from_secs(20);
const PLUGIN: &str = "/usr/local/lib/midge.so";
const STORE: &str = "redis://127.0.0.1:6379";

fn store() -> RedisServer {
    let store = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    store.cli(&["HSET", "midge:user:{alice}", "password", "{plain}wonderland"]).unwrap();
    store.cli(&["HSET", "midge:user:{alice}:acl", "chat/#", "prs"]).unwrap();
    store.cli(&["HSET", "midge:all:acl", "open/#", "p"]).unwrap();
    store
}

fn builder(version: MosquittoVersion, file: &str, store: &RedisServer) -> MosquittoBuilder {
    let builder = Mosquitto::builder(version).config_file(format!("mosquitto-conf/{file}")).unwrap();
    builder.replace(PLUGIN, &plugin().unwrap().display()).replace(STORE, &store.url())
}

/// Logs alice in and returns the code of her first publish to `topic`; a refusal by the login itself is its negative code.
fn first_publish(port: u16, password: &str, topic: &str) -> i32 {
    let connect = Connect::new(Protocol::V5, "phone").login("alice", password);
    match RawClient::try_connect(port, &connect).unwrap() {
        (mut client, 0) => i32::from(client.publish(topic, b"hello", 1, false).unwrap()),
        (_, code) => -i32::from(code),
    }
}

/// A publish that nobody has subscribed to is answered by 0x10 (MQTT 5.0 section 3.4.2.1).
fn is_accepted(code: i32) -> bool {
    code == 0 || code == 0x10
}

fn check_password_login(port: u16) {
    until("alice to be let in", SOON, || Ok(Some(()).filter(|()| is_accepted(first_publish(port, "wonderland", "chat/x")))))
        .unwrap();
    assert_eq!(first_publish(port, "wonderland", "elsewhere"), 0x87);
    assert!(first_publish(port, "wrong", "chat/x") < 0);
}

fn check_warnings(broker: &Mosquitto) {
    let log = broker.log();
    assert!(!log.contains("is unknown") && !log.contains("has no meaning"), "{log}");
    // per-listener.conf says so itself: 2.1 has no other way that older releases know too.
    let deprecated = |line: &str| line.contains("deprecated") && !line.contains("per_listener_settings");
    assert!(!log.lines().any(deprecated), "{log}");
}

#[test]
fn minimal_full_and_old_configurations_serve() {
    let store = store();
    for version in MosquittoVersion::ALL {
        for file in ["minimal.conf", "full.conf", "mosquitto-1.6.conf", "quickstart.conf"] {
            let builder = builder(version, file, &store).replace("dist/midge.so", &plugin().unwrap().display());
            // Every broker of a test has this line already, and 2.0 refuses a second one.
            let builder = builder.replace("\nuser root\n", "\n");
            let builder = builder.replace("listener 1883", "listener {port}").replace("listener 1884", "listener {port}");
            let broker = builder.start().unwrap();
            check_password_login(broker.port());
            check_warnings(&broker);
        }
    }
}

#[test]
fn listeners_have_settings_of_their_own() {
    let store = store();
    for version in MosquittoVersion::ALL {
        let builder = builder(version, "per-listener.conf", &store).port("visitors");
        let builder = builder.replace("listener 1883", "listener {port}").replace("listener 1884", "listener {visitors}");
        let broker = builder.start().unwrap();
        let visitors = broker.named_port("visitors").unwrap();
        for port in [broker.port(), visitors] {
            check_password_login(port);
        }
        let stranger = Connect::new(Protocol::V5, "stranger");
        assert_ne!(RawClient::try_connect(broker.port(), &stranger).unwrap().1, 0, "{version:?}");
        let mut visitor = RawClient::connect(visitors, &stranger).unwrap();
        assert!(is_accepted(i32::from(visitor.publish("open/x", b"hello", 1, false).unwrap())), "{version:?}");
        assert_eq!(visitor.publish("chat/x", b"hello", 1, false).unwrap(), 0x87, "{version:?}");
        check_warnings(&broker);
    }
}

#[test]
fn a_certificate_is_the_username() {
    let store = store();
    let certs = Certs::new().unwrap();
    let (alice, mallory) = (certs.client("alice").unwrap(), certs.client("mallory").unwrap());
    for version in MosquittoVersion::ALL {
        let broker = builder(version, "tls.conf", &store)
            .replace("listener 8883", "listener {port}")
            .replace("/etc/mosquitto/certs/server.crt", &certs.server.cert.display())
            .replace("/etc/mosquitto/certs/server.key", &certs.server.key.display())
            .replace("/etc/mosquitto/certs/ca.crt", &certs.ca.display())
            .start()
            .unwrap();
        let publish = |further: &[&str]| -> Finished {
            let ca = certs.ca.display().to_string();
            let arguments = [&["--cafile", &ca, "-t", "chat/x", "-m", "hello", "-q", "1", "-i", "phone"], further].concat();
            mosquitto_pub(version, broker.port(), &arguments).unwrap()
        };
        let with = |identity: &midge_testkit::Identity| {
            let (cert, key) = (identity.cert.display().to_string(), identity.key.display().to_string());
            publish(&["--cert", &cert, "--key", &key])
        };
        until("alice to be let in", SOON, || Ok(with(&alice).status.success().then_some(()))).unwrap();
        assert!(broker.log().contains("u'alice'"), "{}", broker.log());
        assert!(!with(&mallory).status.success());
        assert!(!publish(&["-u", "alice", "-P", "wonderland"]).status.success());
        check_warnings(&broker);
    }
}

#[test]
fn the_old_configuration_serves_where_the_old_interface_is() {
    let store = store();
    let text = std::fs::read_to_string(workspace().join("mosquitto-conf/mosquitto-1.6.conf")).unwrap().replace(STORE, &store.url());
    let options: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("auth_opt_")).filter_map(|line| line.split_once(' ')).collect();
    for kind in [HostKind::V1_5, HostKind::V1_6] {
        let mut host = FakeHost::start(kind).unwrap();
        assert_eq!(host.load(&plugin().unwrap()).unwrap(), if kind == HostKind::V1_5 { 3 } else { 4 });
        assert_eq!(host.init(&options).unwrap(), 0);
        host.client(0, Some("192.0.2.1"), 4).unwrap();
        until("alice to be let in", SOON, || {
            Ok((host.auth(0, Some("phone"), Some("alice"), Some("wonderland"))? == 0).then_some(()))
        })
        .unwrap();
        assert_eq!((host.acl(0, 2, "chat/x").unwrap(), host.acl(0, 2, "elsewhere").unwrap()), (0, 12));
        assert_eq!(host.auth(1, Some("phone"), Some("alice"), Some("wrong")).unwrap(), 11);
        assert_eq!(host.cleanup().unwrap(), 0);
        host.finish().unwrap();
    }
}

#[test]
fn every_file_is_started_by_a_test() {
    let mut files: Vec<String> = std::fs::read_dir(workspace().join("mosquitto-conf"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    // The test of the compose file starts docker.conf.
    assert_eq!(
        files,
        ["docker.conf", "full.conf", "minimal.conf", "mosquitto-1.6.conf", "per-listener.conf", "quickstart.conf", "tls.conf"]
    );
}
