//! A broker that does everything wrong, and whether it shows.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use midge_bench::{BenchError, Fleet, Pace, Plan, Protocol, Scenario};
use midge_mqtt::{
    Connack, Decoded, Packet, Peer, Properties, Property, ProtocolVersion, Puback, ReasonCode, ReasonCodes, Rules, Suback, decode,
};

use super::{plan, run};

const VERSION: ProtocolVersion = ProtocolVersion::V5;

/// What becomes of the message of a number: how many times it goes out, and whether it waits for the next one.
type Fate = fn(u64) -> (usize, bool);

/// Serves one publisher and one subscriber until both are gone; returns its address.
fn broker(fate: Fate, stall: Option<(u64, Duration)>, code: ReasonCode) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("mqtt://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        let subscriber = Arc::new(Mutex::new(None));
        for stream in listener.incoming().take(2).map_while(Result::ok) {
            let subscriber = Arc::clone(&subscriber);
            std::thread::spawn(move || serve(stream, &subscriber, fate, stall, code));
        }
    });
    Ok(url)
}

fn serve(
    mut stream: TcpStream,
    subscriber: &Mutex<Option<TcpStream>>,
    fate: Fate,
    stall: Option<(u64, Duration)>,
    code: ReasonCode,
) -> Result<()> {
    let (mut input, mut buffer, mut peer, mut held) = (Vec::new(), [0; 4096], Peer::NewClient, Vec::new());
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            length => input.extend_from_slice(&buffer[..length?]),
        }
        while !input.is_empty()
            && let Decoded::Packet(packet, length) = decode(&Rules::new(peer), &input)?
        {
            let mut answer = Vec::new();
            match packet {
                Packet::Connect(_) => {
                    peer = Peer::Client(VERSION);
                    let one = [Property::ReceiveMaximum(1.try_into()?)];
                    let connack = Connack { session_present: false, reason_code: code, properties: Properties::new(&one) };
                    connack.encode(VERSION, &mut answer)?;
                }
                Packet::Subscribe(subscribe) => {
                    let codes = [ReasonCode::Success];
                    let (packet_id, reason_codes) = (subscribe.packet_id, ReasonCodes::new(&codes));
                    Suback { packet_id, properties: Properties::NONE, reason_codes }.encode(VERSION, &mut answer)?;
                    *subscriber.lock().expect("nobody panics with it") = Some(stream.try_clone()?);
                }
                Packet::Publish(publish) => {
                    let number = u64::from_be_bytes(publish.payload[8..16].try_into()?);
                    if let Some((at, time)) = stall
                        && at == number
                    {
                        std::thread::sleep(time);
                    }
                    if let Some(id) = publish.delivery.packet_id() {
                        Puback::success(id).encode(VERSION, &mut answer)?;
                    }
                    let plain = midge_mqtt::Publish { delivery: midge_mqtt::Delivery::AtMostOnce, ..publish };
                    let (times, waits) = fate(number);
                    let mut out = Vec::new();
                    for _ in 0..times {
                        plain_encode(&plain, &mut out)?;
                    }
                    if waits {
                        held = out;
                    } else {
                        out.append(&mut held);
                        subscriber.lock().expect("nobody panics with it").as_mut().expect("it came first").write_all(&out)?;
                    }
                }
                _ => {}
            }
            input.drain(..length);
            stream.write_all(&answer)?;
        }
    }
}

fn plain_encode(publish: &midge_mqtt::Publish<'_>, out: &mut Vec<u8>) -> Result<()> {
    Ok(publish.encode(VERSION, out)?)
}

fn one_pair(url: &str) -> Result<Plan> {
    let plan = plan(url, Scenario::Pairs { pairs: 1 })?;
    let drain = Duration::from_millis(500);
    Ok(Plan { protocol: Protocol::V5, messages: Some(100), pace: Pace::Rate(5_000.0), drain, ..plan })
}

#[test]
fn what_goes_wrong_is_counted() -> Result<()> {
    // Name, fate, then lost, duplicated and misordered of a hundred.
    let cases: [(&str, Fate, [u64; 3]); 5] = [
        ("all well", |_| (1, false), [0, 0, 0]),
        ("a tenth lost", |number| (usize::from(number % 10 != 3), false), [10, 0, 0]),
        ("the last lost", |number| (usize::from(number < 99), false), [1, 0, 0]),
        ("a tenth three times", |number| (if number % 10 == 5 { 3 } else { 1 }, false), [0, 20, 0]),
        ("a tenth behind the next", |number| (1, number % 10 == 7), [0, 0, 10]),
    ];
    for (name, fate, expected) in cases {
        let report = run(&one_pair(&broker(fate, None, ReasonCode::Success)?)?)?;
        assert_eq!([report.lost, report.duplicated, report.misordered], expected, "{name}: {report}");
        assert_eq!(report.received - report.duplicated + report.lost, 100, "{name}: {report}");
        assert_eq!(report.is_clean(), expected == [0, 0, 0]);
    }
    Ok(())
}

#[test]
fn a_window_goes_on_after_a_loss() -> Result<()> {
    let url = broker(|number| (usize::from(number != 2), false), None, ReasonCode::Success)?;
    let plan = Plan { messages: Some(5), pace: Pace::Window(1), drain: Duration::from_secs(5), ..one_pair(&url)? };
    let report = run(&plan)?;
    assert_eq!((report.sent, report.received, report.lost), (5, 4, 1), "{report}");
    Ok(())
}

#[test]
fn a_stall_is_not_hidden_by_what_was_not_sent() -> Result<()> {
    // A hundred messages of QoS 1 in a tenth of a second, one at a time; the eleventh is answered half a second late.
    let stall = Duration::from_millis(500);
    let url = broker(|_| (1, false), Some((10, stall)), ReasonCode::Success)?;
    let report = run(&Plan { qos: 1, pace: Pace::Rate(1_000.0), ..one_pair(&url)? })?;
    assert_eq!((report.sent, report.measured, report.is_clean()), (100, 100, true), "{report}");
    // Nine of ten were due while nothing could be sent, and at least 400 ms before it could again.
    assert!(report.latency.p50 >= 400_000.0, "{report}");
    assert!(report.latency_uncorrected.p50 < report.latency.p50, "{report}");
    Ok(())
}

#[test]
fn who_is_refused_is_told_why() -> Result<()> {
    let url = broker(|_| (1, false), None, ReasonCode::NotAuthorized)?;
    let plan = Plan { patience: Duration::from_millis(300), ..one_pair(&url)? };
    let refused = midge_bench::run(&plan, &Fleet::Threads, &mut |_| {});
    let Err(BenchError::NotReady(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("0 of 2 clients") && why.contains("NotAuthorized"), "{why}");
    Ok(())
}

#[test]
fn plans_that_make_no_sense() -> Result<()> {
    let base = plan("127.0.0.1:1", Scenario::Pairs { pairs: 1 })?;
    let fan_in = Scenario::FanIn { publishers: 1, subscribers: 1 };
    let cases = [
        (Plan { qos: 3, ..base.clone() }, "QoS"),
        (Plan { processes: 0, ..base.clone() }, "is 0"),
        (Plan { pace: Pace::Rate(0.0), ..base.clone() }, "rate"),
        (Plan { pace: Pace::Window(0), ..base.clone() }, "window"),
        (Plan { prefix: "a/#".to_owned(), ..base.clone() }, "prefix"),
        (Plan { sources: vec!["::1".parse()?], ..base.clone() }, "family"),
        (Plan { target: "mqtts://127.0.0.1:1".parse()?, ..base.clone() }, "authorities"),
        (Plan { scenario: fan_in, processes: 2, ..base.clone() }, "give a rate"),
        (Plan { scenario: Scenario::Shared { publishers: 1, subscribers: 1, groups: 2 }, ..base }, "member"),
    ];
    for (plan, word) in cases {
        let Err(BenchError::Plan(why)) = midge_bench::run(&plan, &Fleet::Threads, &mut |_| {}) else { panic!("{word}") };
        assert!(why.contains(word), "{why}");
    }
    Ok(())
}

#[test]
fn who_never_hears_is_counted() -> Result<()> {
    // Connections wait in the queue of a listener that nobody looks at.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("mqtt://{}", listener.local_addr()?);
    let plan = Plan { patience: Duration::from_millis(300), ..plan(&url, Scenario::Connect { clients: 3 })? };
    let report = run(&plan)?;
    assert_eq!((report.connected, report.unanswered, report.is_clean()), (0, 3, false), "{report}");
    Ok(())
}
