//! Every server, client and fault of the kit once, for real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use midge_testkit::{
    Certs, Connect, Event, FaultProxy, Mode, Mosquitto, MosquittoSub, MosquittoVersion, Packet, Printed, Property, Protocol,
    RawClient, RedisCluster, RedisSentinel, RedisServer, RedisVersion, Value, Will, mosquitto_passwd, mosquitto_pub, python, stall,
    until,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const NOTHING: Duration = Duration::from_millis(200);

fn open_broker(version: MosquittoVersion) -> Mosquitto {
    Mosquitto::builder(version).config("allow_anonymous true\n").start().unwrap()
}

#[test]
fn every_mosquitto_carries_a_message_between_its_own_clients() {
    for version in MosquittoVersion::ALL {
        let mut broker = open_broker(version);
        let mut sub = MosquittoSub::start(version, broker.port(), &["-t", "a/#", "-q", "1"]).unwrap();
        let args = ["-t", "a/b", "-m", "hello there", "-q", "1"];
        mosquitto_pub(version, broker.port(), &args).unwrap().success().unwrap();
        let expected = Printed { topic: "a/b".into(), payload: "hello there".into(), qos: 1, retain: false };
        assert_eq!(sub.wait(1, SOON).unwrap(), [expected]);
        broker.reload().unwrap();
        assert!(broker.stop().unwrap().success(), "{}", broker.log());
        broker.start_again().unwrap();
        RawClient::connect(broker.port(), &Connect::new(Protocol::V5, "x")).unwrap();
        assert!(version.dynamic_security().unwrap().exists());
    }
}

#[test]
fn a_broker_that_does_not_start_says_why() {
    let broken = Mosquitto::builder(MosquittoVersion::V2_1_2).config("no_such_setting true\n");
    let error = format!("{:#}", broken.start().unwrap_err());
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn raw_client_speaks_every_protocol_and_quality() {
    let broker = open_broker(MosquittoVersion::V2_1_2);
    for protocol in [Protocol::V3_1, Protocol::V3_1_1, Protocol::V5] {
        let mut client = RawClient::connect(broker.port(), &Connect::new(protocol, "raw")).unwrap();
        assert_eq!(client.subscribe(&[("t/+", 2), ("u", 1)]).unwrap(), [2, 1]);
        for qos in 0..3 {
            assert_eq!(client.publish("t/x", &[qos], qos, false).unwrap(), 0);
            let message = client.message(SOON).unwrap().unwrap();
            assert_eq!((message.qos, message.payload.as_slice()), (qos, [qos].as_slice()));
        }
        client.ping(SOON).unwrap();
        let codes = client.unsubscribe(&["t/+"]).unwrap();
        assert_eq!(codes, if protocol == Protocol::V5 { vec![0] } else { vec![] });
        client.publish("t/x", b"", 1, false).unwrap();
        assert_eq!(client.message(NOTHING).unwrap(), None);
        client.disconnect().unwrap();
    }
}

#[test]
fn raw_client_sees_refusals_takeovers_and_wills() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    mosquitto_passwd(MosquittoVersion::V2_1_2, &file, "ann", "secret").unwrap();
    let broker = Mosquitto::builder(MosquittoVersion::V2_1_2)
        .config("allow_anonymous false\npassword_file {passwords}\n")
        .replace("{passwords}", &file.display())
        .start()
        .unwrap();
    let connect = |protocol, password: &[u8]| {
        let connect = Connect::new(protocol, "me").login("ann", password);
        RawClient::try_connect(broker.port(), &connect)
    };
    assert_eq!(connect(Protocol::V3_1_1, b"wrong").unwrap().1, 5);
    assert_eq!(connect(Protocol::V5, b"\xff\x00").unwrap().1, 135);
    let (mut old, code) = connect(Protocol::V5, b"secret").unwrap();
    assert_eq!(code, 0);
    let (mut new, _) = connect(Protocol::V5, b"secret").unwrap();
    assert_eq!(old.closed(SOON).unwrap(), Some(142));

    let will = Will { topic: "gone".into(), payload: "bye".into(), qos: 0, retain: false, properties: vec![] };
    let other = Connect::new(Protocol::V5, "other").login("ann", "secret").will(will).persistent();
    assert_eq!(new.subscribe(&[("gone", 0)]).unwrap(), [0]);
    drop(RawClient::connect(broker.port(), &other).unwrap());
    assert_eq!(new.message(SOON).unwrap().unwrap().text(), ("gone".into(), "bye".into()));
}

#[test]
fn raw_client_gets_the_answer_to_an_authentication_method() {
    let broker = open_broker(MosquittoVersion::V2_1_2);
    let mut connect = Connect::new(Protocol::V5, "scram");
    connect.properties.push(Property(Property::AUTH_METHOD, Value::Bytes("NONE".into())));
    let mut client = RawClient::open(broker.port(), Protocol::V5).unwrap();
    client.send(&connect.encode()).unwrap();
    let answer = client.receive(SOON).unwrap();
    // 140 is "bad authentication method".
    assert!(matches!(answer, Event::Packet(Packet::ConnAck { code: 140, .. })), "{answer:?}");
}

#[test]
fn a_frozen_broker_shows_as_a_stall() {
    let mut broker = open_broker(MosquittoVersion::V2_0_11);
    let port = broker.port();
    let mut client = RawClient::connect(port, &Connect::new(Protocol::V5, "ping")).unwrap();
    let freeze = Duration::from_millis(300);
    let ((), seen) = stall(&mut client, || {
        broker.process().signal(rustix::process::Signal::STOP).unwrap();
        std::thread::sleep(freeze);
        broker.process().signal(rustix::process::Signal::CONT).unwrap();
    })
    .unwrap();
    assert!(seen.worst >= freeze / 2 && seen.pings > 0, "{seen:?}");
}

#[test]
fn paho_receives_what_it_publishes() {
    let broker = open_broker(MosquittoVersion::V2_0_21);
    let script = "
import sys, paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect = lambda c, *_: c.subscribe('p', 1)
client.on_subscribe = lambda c, *_: c.publish('p', sys.argv[2], 1)
client.on_message = lambda c, _, m: (print(m.topic, m.payload.decode()), c.disconnect())
client.connect('127.0.0.1', int(sys.argv[1]))
client.loop_forever()
";
    let done = python(script, &[&broker.port().to_string(), "hi"], Duration::from_secs(30)).unwrap();
    assert_eq!(done.success().unwrap(), "p hi\n");
}

#[test]
fn every_store_keeps_its_data_over_a_stop_and_loses_it_when_told() {
    for version in RedisVersion::ALL {
        let mut server = RedisServer::builder(version).password("pw").acl_user("reader", "on >word ~a* +get").start().unwrap();
        assert_eq!(server.cli(&["SET", "a", "1"]).unwrap(), "OK");
        let reader = ["--user", "reader", "--pass", "word", "GET"];
        assert_eq!(server.cli(&[&reader[..], &["a"]].concat()).unwrap(), "1");
        assert!(server.cli(&[&reader[..], &["b"]].concat()).is_err());
        assert!(server.socket().exists());
        assert!(server.url().starts_with("redis://:pw@127.0.0.1:"));
        server.stop().unwrap();
        assert!(server.cli(&["PING"]).is_err());
        server.start().unwrap();
        assert_eq!(server.cli(&["GET", "a"]).unwrap(), "1");
        server.restart_empty().unwrap();
        assert_eq!(server.cli(&["EXISTS", "a"]).unwrap(), "0");
    }
}

#[test]
fn a_paused_store_accepts_but_does_not_answer() {
    let mut server = RedisServer::builder(RedisVersion::Valkey8).start().unwrap();
    server.pause().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    stream.set_read_timeout(Some(NOTHING)).unwrap();
    let mut answer = [0; 7];
    assert!(stream.read(&mut answer).is_err());
    server.resume().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn tls_is_served_with_our_authority() {
    let server = RedisServer::builder(RedisVersion::Redis7).tls().start().unwrap();
    let (port, certs) = server.tls().unwrap();
    let ca = certs.ca.display().to_string();
    let args = ["--tls", "--cacert", &ca, "-h", "localhost", "-p", &port.to_string(), "PING"];
    assert_eq!(server.cli(&args).unwrap(), "PONG");
    let strange = Certs::new().unwrap().ca.display().to_string();
    let args = ["--tls", "--cacert", &strange, "-p", &port.to_string(), "PING"];
    assert!(server.cli(&args).is_err());
    let client = certs.client("device-7").unwrap();
    assert!(client.cert.exists() && client.key.exists());
}

#[test]
fn sentinels_promote_the_replica() {
    let mut group = RedisSentinel::start(RedisVersion::Redis7, 3).unwrap();
    assert_eq!(group.master_port().unwrap(), group.master.port());
    group.fail_over().unwrap();
    assert_eq!(group.master_port().unwrap(), group.replica.port());
    assert_eq!(group.ports().len(), 3);
}

#[test]
fn a_cluster_redirects_to_the_owner_of_a_slot() {
    let cluster = RedisCluster::start(RedisVersion::Valkey8).unwrap();
    assert_eq!(cluster.ports().len(), 3);
    // The slot of "foo" is 12182, which the third node owns.
    let error = format!("{:#}", cluster.nodes[0].cli(&["SET", "foo", "1"]).unwrap_err());
    assert!(error.contains("MOVED 12182"), "{error}");
    assert_eq!(cluster.nodes[2].cli(&["SET", "foo", "1"]).unwrap(), "OK");
}

#[test]
fn the_proxy_breaks_the_network_in_every_mode() {
    let server = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let open = || {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    };
    let ping = |stream: &mut TcpStream| -> std::io::Result<()> {
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; 7])
    };
    let mut stream = open();
    ping(&mut stream).unwrap();
    assert_eq!(proxy.accepted(), 1);

    proxy.set(Mode::BlackHole).unwrap();
    stream.set_read_timeout(Some(NOTHING)).unwrap();
    assert!(ping(&mut stream).is_err());
    let mut fresh = open();
    fresh.set_read_timeout(Some(NOTHING)).unwrap();
    assert!(ping(&mut fresh).is_err());
    proxy.set(Mode::Pass).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_exact(&mut [0; 7]).unwrap();

    let delay = Duration::from_millis(50);
    proxy.set(Mode::Delay(delay)).unwrap();
    let sent = Instant::now();
    ping(&mut stream).unwrap();
    assert!(sent.elapsed() >= 2 * delay);

    proxy.set(Mode::Refuse).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", proxy.port())).is_err());
    assert!(ping(&mut stream).is_err());

    proxy.set(Mode::Pass).unwrap();
    let mut stream = open();
    ping(&mut stream).unwrap();
    proxy.set(Mode::Reset).unwrap();
    let kind = until("the reset", SOON, || Ok(stream.read(&mut [0; 1]).err().map(|error| error.kind())));
    assert_eq!(kind.unwrap(), std::io::ErrorKind::ConnectionReset);
    assert!(ping(&mut open()).is_err());
}
