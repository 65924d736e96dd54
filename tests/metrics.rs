//! Prometheus reads how a broker is, over HTTP.
//!
//! Spoken to by plain sockets, on every Mosquitto.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use midge_testkit::{Mosquitto, MosquittoVersion, Protocol, RawClient, until};

use crate::support::{Policy, SOON, broker, builder, connect, on_every_broker, publishes, store};

on_every_broker!(
    a_broker_shows_its_numbers,
    a_client_that_says_nothing_keeps_nobody_for_long,
    an_address_that_is_taken_is_waited_for
);

/// Sends a text and returns all that comes back; empty where the connection is ended without an answer.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(port: u16, path: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Returns the value of a metric.
fn value(page: &str, name: &str) -> String {
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name} in:\n{page}")).to_owned()
}

fn start(version: MosquittoVersion, url: &str) -> (Mosquitto, u16) {
    let text = "auth_opt_node one\nauth_opt_metrics 127.0.0.1:{metrics}\nauth_opt_offline_stream true\n";
    let mut broker = builder(version, url, text).port("metrics").start().unwrap();
    broker.process().wait_log("metrics are shown at http://127.0.0.1:", SOON).unwrap();
    let port = broker.named_port("metrics").unwrap();
    (broker, port)
}

fn a_broker_shows_its_numbers(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[("a", "prs")]);
    let (mut broker, port) = start(version, &redis.url());
    let mut ann =
        until("to be let in", SOON, || Ok(RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "ann")).ok())).unwrap();
    assert!(publishes(&mut ann, "a") && !publishes(&mut ann, "b"));
    let page = until("the numbers", SOON, || {
        let page = get(port, "/metrics");
        Ok((value(&page, "midge_clients") == "1").then_some(page))
    })
    .unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.ends_with("# EOF\n"));
    for (name, expected) in [
        ("midge_published_total", "1"),
        ("midge_denied_publish_total", "1"),
        ("midge_connects_total", "1"),
        ("midge_store_connected", "1"),
        ("midge_offline_messages_total", "0"),
        ("midge_node_info", "1"),
    ] {
        assert_eq!(value(body, name), expected, "{name}");
    }
    assert!(body.contains("midge_clients{node=\"one\"} 1\n"), "{body}");
    assert!(!body.contains("See OPERATIONS"), "each has its sentence: {body}");
    assert!(get(port, "/metrics?x=1").starts_with("HTTP/1.1 200 "));
    assert!(get(port, "/").starts_with("HTTP/1.1 404 "));
    assert!(ask(port, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(ask(port, "hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(ask(port, &"x".repeat(20_000)), "", "too long");
    assert!(broker.stop().unwrap().success(), "{}", broker.log());
}

fn a_client_that_says_nothing_keeps_nobody_for_long(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let (mut broker, port) = start(version, &redis.url());
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    silent[0].write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let mut ann =
        until("to be let in", SOON, || Ok(RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "ann")).ok())).unwrap();
    ann.ping(Duration::from_secs(10)).unwrap();
    assert!(get(port, "/metrics").starts_with("HTTP/1.1 200 "));
    let _more: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    assert!(broker.stop().unwrap().success(), "{}", broker.log());
}

fn an_address_that_is_taken_is_waited_for(version: MosquittoVersion) {
    let redis = store(version);
    redis.user("ann", &[]);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut broker = broker(version, &redis.url(), &format!("auth_opt_metrics 127.0.0.1:{port}\n"));
    broker.process().wait_log(&format!("metrics can't be shown at 127.0.0.1:{port}: "), SOON).unwrap();
    let ann = until("to be let in", SOON, || Ok(RawClient::connect(broker.port(), &connect(Protocol::V5, "ann", "ann")).ok()));
    drop((ann.unwrap(), taken));
    broker.process().wait_log("metrics are shown at", SOON).unwrap();
    assert!(get(port, "/metrics").starts_with("HTTP/1.1 200 "));
    assert!(broker.stop().unwrap().success());
}
