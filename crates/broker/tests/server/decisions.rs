//! Clients are let in or not, at once or later.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use midge_broker::server::{
    Admission, Authentication, Entering, Handle, Hello, Listen, Mind, OpenDoor, Origin, PeerId, Settings, TlsFiles, Verdict,
};
use midge_core::time::Now;
use midge_core::topic::TopicName;
use midge_engine::message::Publication;
use midge_engine::permission::{Permissions, Turn};
use midge_engine::shard::{ConnectionId, SessionId, Shard};
use midge_mqtt::{Auth, QoS, ReasonCode, Subscription};
use midge_testkit::{Certs, Connect, Event, MosquittoVersion, Packet, Property, Protocol, RawClient, Value, mosquitto_pub};

use crate::support::{PATIENCE, Running, local};

/// Says who came, and decides by the username: `later` waits, `no` is refused, `feed` is subscribed to `feed/#`.
///
/// Its one method of authentication is `riddle`: the data must be the answer to what it asks.
struct Clerk {
    seen: Sender<(String, Origin)>,
    waiting: Sender<PeerId>,
    answers: Arc<Mutex<VecDeque<(PeerId, Verdict)>>>,
}

fn riddle(data: &str) -> Authentication {
    Authentication { method: "riddle".into(), data: Some(data.as_bytes().into()) }
}

impl Mind for Clerk {
    fn permissions(&self) -> &dyn Permissions {
        &OpenDoor
    }

    fn admit(&mut self, hello: &Hello<'_>, _: Now) -> Verdict {
        let _ = self.seen.send((hello.client_id.to_owned(), hello.origin.clone()));
        if hello.connect.properties.authentication_method() == Some("riddle") {
            return Verdict::Challenge(riddle("what?"));
        }
        match hello.connect.username {
            Some("later") => {
                let _ = self.waiting.send(hello.peer);
                Verdict::Later
            }
            Some("no") => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
            name => Verdict::Admitted(Admission { username: name.map(Into::into), authentication: None }),
        }
    }

    fn respond(&mut self, _: PeerId, _: Option<SessionId>, auth: &Auth<'_>, _: Now) -> Verdict {
        match (auth.reason_code, auth.properties.authentication_data()) {
            (ReasonCode::ReAuthenticate, _) => Verdict::Challenge(riddle("again?")),
            (_, Some(b"that")) => Verdict::Admitted(Admission { username: None, authentication: Some(riddle("well")) }),
            _ => Verdict::Refused(ReasonCode::NotAuthorized),
        }
    }

    fn let_in(&mut self, entering: &Entering<'_>, shard: &mut Shard, now: Now) -> Result<ConnectionId, ReasonCode> {
        let turn = Turn { now, permissions: &OpenDoor };
        let connection = entering.connect(shard, &turn)?;
        if entering.connect.username == Some("feed") {
            let session = shard.session(entering.client_id).expect("it has begun");
            shard.subscribe(session, &Subscription::new("feed/#", QoS::AtLeastOnce), &turn);
        }
        Ok(connection)
    }

    fn next_answer(&mut self) -> Option<(PeerId, Verdict)> {
        self.answers.lock().expect("nobody panics with it").pop_front()
    }
}

struct Office {
    server: Running,
    seen: Receiver<(String, Origin)>,
    waiting: Receiver<PeerId>,
    answers: Arc<Mutex<VecDeque<(PeerId, Verdict)>>>,
}

impl Office {
    fn open(listeners: Vec<Listen>) -> Result<Self> {
        let ((seen_to, seen), (waiting_to, waiting)) = (channel(), channel());
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let mind = |_: &Handle| -> Box<dyn Mind> {
            Box::new(Clerk { seen: seen_to.clone(), waiting: waiting_to.clone(), answers: Arc::clone(&answers) })
        };
        // One loop, as answers go to whoever asks first.
        let server = Running::with_minds(Settings { loops: 1, listeners, ..Settings::default() }, mind)?;
        Ok(Self { server, seen, waiting, answers })
    }

    fn answer(&self, peer: PeerId, verdict: Verdict) {
        self.answers.lock().expect("nobody panics with it").push_back((peer, verdict));
        self.server.handle().wake(0);
    }

    fn came(&self) -> Result<(String, Origin)> {
        Ok(self.seen.recv_timeout(PATIENCE)?)
    }
}

#[test]
fn a_decision_may_come_later_and_nothing_is_heard_until_then() -> Result<()> {
    for (protocol, refusal) in [(Protocol::V3_1_1, 4), (Protocol::V5, 0x86)] {
        let office = Office::open(vec![local()])?;
        let connect = |name: &str, user: &str| Connect::new(protocol, name).login(user, "");
        let refused = RawClient::try_connect(office.server.port(), &connect("refused", "no"))?;
        assert_eq!(refused.1, refusal);
        for (verdict, code) in
            [(Verdict::Admitted(Admission::default()), 0), (Verdict::Refused(ReasonCode::BadUserNameOrPassword), refusal)]
        {
            let mut client = RawClient::open(office.server.port(), protocol)?;
            // PINGREQ directly behind CONNECT [MQTT-3.1.4-5].
            client.send(&[&connect("c", "later").encode()[..], b"\xc0\x00"].concat())?;
            let peer = office.waiting.recv_timeout(PATIENCE)?;
            client.send(b"\xc0\x00")?;
            office.answer(peer, verdict);
            let connack = client.expect("CONNACK", |packet| matches!(packet, midge_testkit::Packet::ConnAck { .. }))?;
            assert!(matches!(connack, midge_testkit::Packet::ConnAck { code: found, .. } if found == code), "{connack:?}");
            if code == 0 {
                for _ in 0..2 {
                    client.expect("PINGRESP", |packet| matches!(packet, midge_testkit::Packet::PingResp))?;
                }
                client.disconnect()?;
            } else {
                client.closed(PATIENCE)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_decision_for_a_client_that_is_gone_does_no_harm() -> Result<()> {
    let office = Office::open(vec![local()])?;
    let mut client = RawClient::open(office.server.port(), Protocol::V5)?;
    client.send(&Connect::new(Protocol::V5, "gone").login("later", "").encode())?;
    let peer = office.waiting.recv_timeout(PATIENCE)?;
    drop(client);
    office.answer(peer, Verdict::Admitted(Admission::default()));
    RawClient::connect(office.server.port(), &Connect::new(Protocol::V5, "next"))?.ping(PATIENCE)
}

#[test]
fn a_proxy_says_where_a_client_comes_from() -> Result<()> {
    let office = Office::open(vec![Listen { proxy: true, ..local() }])?;
    let port = office.server.port();
    let check = |header: &[u8], size: usize, expected: Option<&str>| -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        for part in [header, &Connect::new(Protocol::V5, "c").encode()].concat().chunks(size) {
            stream.write_all(part)?;
        }
        let (_, origin) = office.came()?;
        let expected = expected.map_or(stream.local_addr()?, |address| address.parse().expect("an address"));
        assert_eq!(origin.address, Some(expected));
        Ok(())
    };
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x07\x5b";
    for size in [1, 1000] {
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n", size, Some("192.0.2.1:4711"))?;
        check(v2, size, Some("192.0.2.1:4711"))?;
        check(b"PROXY UNKNOWN\r\n", size, None)?;
    }
    // Without a header nobody gets in.
    let mut client = RawClient::open(port, Protocol::V5)?;
    client.send(&Connect::new(Protocol::V5, "c").encode())?;
    assert_eq!(client.closed(PATIENCE)?, None);
    Ok(())
}

#[test]
fn a_certificate_says_who_a_client_is() -> Result<()> {
    let certs = Certs::new()?;
    let alice = certs.client("alice")?;
    let files = TlsFiles {
        certificates: certs.server.cert.clone(),
        key: certs.server.key.clone(),
        client_authorities: Some(certs.ca.clone()),
        client_certificate_required: false,
    };
    let office = Office::open(vec![Listen { tls: Some(files), ..local() }])?;
    let (ca, cert, key) = (certs.ca.to_str(), alice.cert.to_str(), alice.key.to_str());
    let (ca, cert, key) = (ca.expect("ASCII"), cert.expect("ASCII"), key.expect("ASCII"));
    let publish = ["--cafile", ca, "-t", "t", "-m", "x"];
    mosquitto_pub(MosquittoVersion::V2_1_2, office.server.port(), &publish)?.success()?;
    assert_eq!(office.came()?.1.certificate, None);
    mosquitto_pub(MosquittoVersion::V2_1_2, office.server.port(), &[&publish[..], &["--cert", cert, "--key", key]].concat())?
        .success()?;
    let certificate = office.came()?.1.certificate.expect("a certificate");
    assert!(certificate.windows(5).any(|bytes| bytes == b"alice"));
    Ok(())
}

/// Returns the data of a packet of authentication, as text; it and the method are all that the packet says.
fn data(properties: &[Property]) -> Option<String> {
    let methods: Vec<_> = properties.iter().filter(|property| property.0 == Property::AUTH_METHOD).collect();
    assert!(matches!(methods[..], [Property(_, Value::Bytes(method))] if method == b"riddle"), "{properties:?}"); // [MQTT-4.12.0-5]
    // No reason string, no user property that could make it too large [MQTT-3.15.2-2] [MQTT-3.15.2-3].
    assert!(!properties.iter().any(|property| [Property::REASON, 0x26].contains(&property.0)), "{properties:?}");
    let data = properties.iter().find(|property| property.0 == Property::AUTH_DATA)?;
    let Value::Bytes(bytes) = &data.1 else { return None };
    String::from_utf8(bytes.clone()).ok()
}

#[test]
fn a_conversation_decides_before_connack_and_again_later() -> Result<()> {
    let office = Office::open(vec![local()])?;
    let mut connect = Connect::new(Protocol::V5, "sphinx");
    connect.properties.push(Property(Property::AUTH_METHOD, Value::Bytes(b"riddle".to_vec())));
    let begin = || -> Result<RawClient> {
        let mut client = RawClient::open(office.server.port(), Protocol::V5)?;
        client.send(&connect.encode())?;
        let Event::Packet(Packet::Auth { code: 0x18, properties }) = client.receive(PATIENCE)? else { panic!("a challenge") };
        assert_eq!(data(&properties).as_deref(), Some("what?"));
        Ok(client)
    };
    let mut client = begin()?;
    client.send_auth(0x18, "riddle", b"that")?;
    let Event::Packet(Packet::ConnAck { code: 0, properties, .. }) = client.receive(PATIENCE)? else { panic!("CONNACK") };
    assert_eq!(data(&properties).as_deref(), Some("well"));
    client.send_auth(0x19, "riddle", b"")?;
    let Event::Packet(Packet::Auth { code: 0x18, properties }) = client.receive(PATIENCE)? else { panic!("a challenge") };
    assert_eq!(data(&properties).as_deref(), Some("again?"));
    client.send_auth(0x18, "riddle", b"that")?;
    assert!(matches!(client.receive(PATIENCE)?, Event::Packet(Packet::Auth { code: 0, .. })));
    client.send_auth(0x19, "riddle", b"")?;
    client.receive(PATIENCE)?;
    client.send_auth(0x18, "riddle", b"this")?;
    assert_eq!(client.closed(PATIENCE)?, Some(0x87));

    let mut wrong = begin()?;
    wrong.send_auth(0x18, "riddle", b"this")?;
    assert!(matches!(wrong.receive(PATIENCE)?, Event::Packet(Packet::ConnAck { code: 0x87, .. })));
    // Nothing but AUTH before CONNACK [MQTT-3.1.2-30].
    let mut hasty = begin()?;
    hasty.send(b"\xc0\x00")?;
    assert!(matches!(hasty.receive(PATIENCE)?, Event::Packet(Packet::ConnAck { code: 0x82, .. })));
    Ok(())
}

#[test]
fn the_server_subscribes_and_publishes_on_its_own_account() -> Result<()> {
    let office = Office::open(vec![local()])?;
    let message = |topic: &str, retain| {
        let topic = TopicName::new(topic).expect("a topic name");
        Publication { topic, properties: &[], payload: b"x", qos: QoS::AtLeastOnce, retain, expires: None, stamp: 0 }.to_message()
    };
    office.server.handle().publish(message("feed/kept", true));
    let mut client = RawClient::connect(office.server.port(), &Connect::new(Protocol::V5, "c").login("feed", ""))?;
    assert_eq!(client.message(PATIENCE)?.expect("the retained message").text().0, "feed/kept");
    office.server.handle().publish(message("feed/new", false));
    assert_eq!(client.message(PATIENCE)?.expect("the message").text().0, "feed/new");
    Ok(())
}
