//! Answers Prometheus with what is reported.
//!
//! A thread of its own answers one connection after the other, each within a bounded time, and reads nothing but counters.
//! There is no password: the address is the operator's choice, and the loopback interface is the one to choose.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::node::{Collect, Fact};
use crate::service::Health;

/// How long the thread waits for a connection before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(250);
/// How long one connection may take to ask, and again to be answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait where the address can't be had.
const RETRY: Duration = Duration::from_secs(10);
/// The longest request that is read.
const MAX_REQUEST: usize = 8 << 10;
/// OpenMetrics 1.0, as the library writes it.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Default)]
struct Ending {
    ending: Mutex<bool>,
    changed: Condvar,
}

impl Ending {
    /// Waits for `time`, or for the end; returns whether it has come.
    fn wait(&self, time: Duration) -> bool {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ending, time, |ending| !*ending);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Returns how the store's threads are; called on the thread that answers.
pub type Ask = Box<dyn Fn() -> Health + Send + Sync>;

/// The thread that answers; ends when this is dropped.
pub struct Metrics {
    ending: Arc<Ending>,
    thread: Option<JoinHandle<()>>,
}

impl Metrics {
    /// Starts to answer at `address`, of which it is not sure yet that it can be had: it is tried again until it can.
    ///
    /// `begin` is what the thread does first.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(address: SocketAddr, node: &str, collect: Collect, health: Ask, begin: fn()) -> std::io::Result<Self> {
        let labels = [("node".into(), node.to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("midge", labels.into_iter());
        registry.register_collector(Box::new(Facts { collect, health }));
        let ending = Arc::new(Ending::default());
        let of_thread = ending.clone();
        let thread = std::thread::Builder::new().name("midge-metrics".to_owned()).spawn(move || {
            begin();
            run(address, &registry, &of_thread);
        })?;
        Ok(Self { ending, thread: Some(thread) })
    }
}

impl Drop for Metrics {
    /// Ends the thread and waits for it: the broker may unmap this code afterwards.
    fn drop(&mut self) {
        *self.ending.ending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ending.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(address: SocketAddr, registry: &Registry, ending: &Ending) {
    let mut complained = false;
    while !ending.wait(Duration::ZERO) {
        match TcpListener::bind(address).and_then(|listener| set_look(&listener).map(|()| listener)) {
            Ok(listener) => {
                let bound = listener.local_addr().unwrap_or(address);
                log::info!("metrics are shown at http://{bound}/metrics");
                return serve(&listener, registry, ending);
            }
            Err(error) if !complained => {
                complained = true;
                log::error!("metrics can't be shown at {address}: {error}; it is tried again every {} s", RETRY.as_secs());
            }
            Err(_) => {}
        }
        ending.wait(RETRY);
    }
}

/// Has `accept` end by itself after a while.
fn set_look(listener: &TcpListener) -> std::io::Result<()> {
    Ok(set_socket_timeout(listener, Timeout::Recv, Some(LOOK))?)
}

fn serve(listener: &TcpListener, registry: &Registry, ending: &Ending) {
    while !ending.wait(Duration::ZERO) {
        match listener.accept() {
            // A client that breaks off hears nothing, and nobody else minds.
            Ok((mut stream, _)) => drop(answer(&mut stream, registry)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            // Such as too many open files: it would be the same at once again.
            Err(_) => drop(ending.wait(LOOK)),
        }
    }
}

fn answer(stream: &mut TcpStream, registry: &Registry) -> std::io::Result<()> {
    let request = read_request(stream)?;
    let (status, kind, body) = respond(&request, registry);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n",
        body.len(),
        if status.starts_with("405") { "Allow: GET\r\n" } else { "" }
    );
    write_all(stream, [head.as_bytes(), body.as_bytes()].concat().as_slice())
}

/// Returns status, type and body of the answer to a request's head.
fn respond(request: &[u8], registry: &Registry) -> (&'static str, &'static str, String) {
    let plain = "text/plain; charset=utf-8";
    let line = request.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words[..] {
        ["GET", target, version] if version.starts_with("HTTP/1.") && target.split('?').next() == Some("/metrics") => {
            let mut body = String::new();
            match text::encode(&mut body, registry) {
                Ok(()) => ("200 OK", CONTENT_TYPE, body),
                Err(_) => ("500 Internal Server Error", plain, "the metrics can't be written\n".to_owned()),
            }
        }
        ["GET", _, version] if version.starts_with("HTTP/1.") => ("404 Not Found", plain, "there is /metrics\n".to_owned()),
        [_, _, version] if version.starts_with("HTTP/1.") => ("405 Method Not Allowed", plain, "only GET is answered\n".to_owned()),
        _ => ("400 Bad Request", plain, "this is no request of HTTP/1.1\n".to_owned()),
    }
}

/// Reads up to the empty line behind a request's head.
fn read_request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        stream.set_read_timeout(Some(left(end)?))?;
        let read = stream.read(&mut piece)?;
        if read == 0 || request.len() + read > MAX_REQUEST {
            return Err(ErrorKind::InvalidData.into());
        }
        request.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Ok(request)
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        let written = stream.write(bytes)?;
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn left(end: Instant) -> std::io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// What is reported, as metrics.
struct Facts {
    collect: Collect,
    health: Ask,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Facts")
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let facts = (self.collect)();
        let texts: Vec<(&'static str, String)> = facts.iter().filter_map(text_of).collect();
        let info = Info::new(texts);
        info.encode(encoder.encode_descriptor("node", "Which body and release it is", None, info.metric_type())?)?;
        for (name, fact) in facts.into_iter().chain(of_service(&(self.health)())) {
            let help = help(name);
            match fact {
                Fact::Text(_) => {}
                Fact::Gauge(number) => {
                    let gauge = ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
                    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
                }
                Fact::Counter(number) => {
                    let counter = ConstCounter::new(number);
                    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
                }
            }
        }
        Ok(())
    }
}

fn text_of((name, fact): &(&'static str, Fact)) -> Option<(&'static str, String)> {
    match fact {
        Fact::Text(text) => Some((*name, text.clone())),
        Fact::Gauge(_) | Fact::Counter(_) => None,
    }
}

fn of_service(health: &Health) -> [(&'static str, Fact); 8] {
    [
        ("store_connected", Fact::Gauge(health.connected.into())),
        ("store_following", Fact::Gauge(health.linked.into())),
        ("store_emptied", Fact::Gauge(health.emptied.into())),
        ("store_round_trip_us", Fact::Gauge(u64::try_from(health.round_trip.as_micros()).unwrap_or(u64::MAX))),
        ("store_round_trips", Fact::Counter(health.round_trips)),
        ("store_failures", Fact::Counter(health.failures)),
        ("hashed", Fact::Counter(health.hashed)),
        ("busy", Fact::Counter(health.busy)),
    ]
}

/// What each number is; OPERATIONS.md says more.
const HELP: &[(&str, &str)] = &[
    ("pid", "The broker's process"),
    ("started", "When it started, in seconds since 1970"),
    ("clients", "Connected clients"),
    ("sessions", "Sessions, of clients that are connected or away"),
    ("queued", "Messages that wait for their clients"),
    ("retained", "Retained messages"),
    ("connects", "Clients that came"),
    ("published", "Messages that clients were allowed to publish"),
    ("delivered", "Deliveries that were allowed"),
    ("denied_logins", "Logins that were refused"),
    ("denied_publish", "Messages that were refused"),
    ("denied_receive", "Deliveries that were refused"),
    ("denied_subscribe", "Subscriptions that were refused"),
    ("pushed", "Pushes read from the store"),
    ("pushes_waiting", "Pushes that wait in memory"),
    ("pushes_malformed", "Entries that were no pushes"),
    ("pushes_repeated", "Pushes whose identifier had been there before"),
    ("pushes_expired", "Pushes that were too old when they were read"),
    ("pushes_dropped", "Pushes that were dropped although some broker had not read them"),
    ("presence_waiting", "Comings and goings that wait to be written"),
    ("presence_written", "Comings and goings that were written"),
    ("presence_skipped", "Connections that were over before the store could be told, and are not told of"),
    ("presence_refused", "Comings and goings that the store couldn't take"),
    ("presence_swept", "Clients of brokers that had ended which were entered as gone"),
    ("offline_messages", "Messages for clients that are away which were copied"),
    ("offline_dropped", "Messages for clients that are away which were too many to copy"),
    ("autosub_made", "Automatic subscriptions that were made"),
    ("autosub_removed", "Automatic subscriptions that were taken away"),
    ("autosub_failed", "Automatic subscriptions that the broker didn't take"),
    ("autosub_beyond", "Automatic subscriptions beyond those that a client may have"),
    ("autosub_denied", "Automatic subscriptions that no rule allows"),
    ("autosub_waiting", "Clients whose automatic subscriptions wait to be looked at"),
    ("autosub_copies", "Copies of messages for automatic subscriptions, before Mosquitto 2.1"),
    ("autosub_copies_dropped", "Copies for which there was no room"),
    ("autosub_retained_held", "Retained messages held for automatic subscriptions"),
    ("autosub_retained_sent", "Retained messages sent for automatic subscriptions"),
    ("autosub_retained_refused", "Retained messages for which there was no room"),
    ("hot_flushed", "Counts of topics written to the store"),
    ("hot_failed", "Times that the store took no counts of topics"),
    ("hot_dropped", "Counts of topics lost because the store was away"),
    ("store_connected", "Whether the store's last question was answered"),
    ("store_following", "Whether changes in the store are announced"),
    ("store_emptied", "Whether the store has lost what it held"),
    ("store_round_trip_us", "How long the store took for the last answer, in microseconds"),
    ("store_round_trips", "Questions that the store has answered"),
    ("store_failures", "Questions that the store has not answered"),
    ("hashed", "Passwords hashed"),
    ("busy", "Logins refused because a queue was full"),
];

fn help(name: &str) -> &'static str {
    HELP.iter().find(|(known, _)| *known == name).map_or("See OPERATIONS.md", |(_, help)| help)
}
