//! Every message arrives once: on Midge, on Mosquitto, through every transport.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use midge_bench::{Pace, Plan, Protocol, Ramp, Report, Scenario, Sizes, Tls};
use midge_broker::server::{Address, Beginning, Listen, OpenDoor, Server, Settings, TlsFiles, WebSocketSettings};
use midge_engine::record::State;
use midge_store::service::Clock;
use midge_testkit::{Certs, Mosquitto, MosquittoVersion};

use super::{plan, run};

/// A server in this process.
struct Midge(Option<Server>, Vec<u16>);

impl Midge {
    fn start(listeners: Vec<Listen>) -> Result<Self> {
        let settings = Settings { loops: 2, listeners, ..Settings::default() };
        let beginning = Beginning { state: &State::default(), journal: None, clock: Clock::start() };
        let server = Server::start(settings, &beginning, |_, _| Box::new(OpenDoor))?;
        let port = |address: &Address| if let Address::Tcp(address) = address { address.port() } else { 0 };
        let ports = server.addresses().iter().map(port).collect();
        Ok(Self(Some(server), ports))
    }
}

impl Drop for Midge {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Server::stop);
    }
}

fn local() -> Listen {
    Listen::tcp((Ipv4Addr::LOCALHOST, 0).into())
}

/// Runs every scenario with every version and QoS, in one process and in two, and looks at all that was counted.
fn all(url: &str) -> Result<()> {
    let storm = Duration::from_millis(100);
    let scenarios = [
        (Scenario::Publish { publishers: 3 }, 200, 0, 3),
        (Scenario::Pairs { pairs: 7 }, 200, 200, 14),
        (Scenario::FanIn { publishers: 7, subscribers: 2 }, 200, 400, 9),
        (Scenario::FanOut { publishers: 2, subscribers: 9 }, 200, 1_800, 11),
        (Scenario::Shared { publishers: 3, subscribers: 7, groups: 2 }, 200, 400, 10),
        (Scenario::RequestResponse { requesters: 5, responders: 2 }, 400, 400, 7),
        (Scenario::Phones { phones: 20, publishers: 3, storm_every: storm, storm_part: 0.5 }, 200, 200, 23),
    ];
    for (scenario, sent, received, clients) in scenarios {
        for (protocol, qos, processes) in
            [(Protocol::V311, 0, 1), (Protocol::V311, 2, 2), (Protocol::V5, 1, 1), (Protocol::V5, 2, 2)]
        {
            let phones = matches!(scenario, Scenario::Phones { .. });
            let rate = phones || processes > 1;
            let pace = if rate { Pace::Rate(2_000.0) } else { Pace::Window(3) };
            let scenario = match scenario {
                // What is published to a phone that is away is not kept with QoS 0.
                Scenario::Phones { phones, publishers, storm_part, .. } if qos == 0 => {
                    Scenario::Phones { phones, publishers, storm_every: Duration::ZERO, storm_part }
                }
                other => other,
            };
            let report = run(&Plan { protocol, qos, processes, pace, ..plan(url, scenario)? })?;
            let what = format!("{protocol:?}, {report}");
            assert_eq!((report.sent, report.received, report.connected), (sent, received, clients), "{what}");
            assert!(report.is_clean() && report.foreign == 0 && report.troubles.is_empty(), "{what}");
            let measured = match scenario {
                Scenario::RequestResponse { .. } => 200,
                Scenario::Publish { .. } => 200,
                _ => received,
            };
            assert_eq!(report.measured, measured, "{what}");
            assert_eq!(report.acknowledged, if qos == 0 { 0 } else { sent }, "{what}");
        }
    }
    steps(url)
}

/// Clients that connect, and clients that subscribe.
fn steps(url: &str) -> Result<()> {
    for protocol in [Protocol::V311, Protocol::V5] {
        for processes in [1, 2] {
            let ramp = Ramp { rate: (processes == 2).then_some(2_000.0), concurrent: 8 };
            let sources = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
            let of = |scenario| -> Result<Report> {
                let plan = Plan { protocol, processes, ramp, sources: sources.clone(), ..plan(url, scenario)? };
                run(&plan)
            };
            let report = of(Scenario::Connect { clients: 101 })?;
            assert_eq!((report.connected, report.measured, report.is_clean()), (101, 101, true), "{report}");
            let report = of(Scenario::Subscribe { clients: 11, filters: 7 })?;
            assert_eq!((report.subscribed, report.measured, report.is_clean()), (77, 77, true), "{report}");
        }
    }
    Ok(())
}

#[test]
fn midge_delivers_all() -> Result<()> {
    let midge = Midge::start(vec![local()])?;
    all(&format!("mqtt://127.0.0.1:{}", midge.1[0]))
}

#[test]
fn mosquitto_delivers_all() -> Result<()> {
    let config = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nlog_type error\nlog_type notice\n";
    let mosquitto = Mosquitto::builder(MosquittoVersion::V2_1_2).config(config).start()?;
    all(&format!("mqtt://127.0.0.1:{}", mosquitto.port()))
}

#[test]
fn every_transport() -> Result<()> {
    let certs = Certs::new()?;
    let files = TlsFiles {
        certificates: certs.server.cert.clone(),
        key: certs.server.key.clone(),
        client_authorities: None,
        client_certificate_required: false,
    };
    let (tls, websocket) = (Some(files), Some(WebSocketSettings::default()));
    let midge = Midge::start(vec![
        local(),
        Listen { tls: tls.clone(), ..local() },
        Listen { websocket: websocket.clone(), ..local() },
        Listen { tls, websocket, ..local() },
    ])?;
    for (scheme, port) in ["mqtt", "mqtts", "ws", "wss"].iter().zip(&midge.1) {
        let url = format!("{scheme}://localhost:{port}");
        let authorities = Tls { authorities: Some(certs.ca.clone()), ..Tls::default() };
        for trust in [authorities, Tls { insecure: true, ..Tls::default() }] {
            // Payloads of many records and frames, and many in one.
            let sizes: Sizes = "32..200000:1,32..300:9".parse()?;
            let plan = Plan { tls: trust, sizes, qos: 1, pace: Pace::Window(20), ..plan(&url, Scenario::Pairs { pairs: 3 })? };
            let report = run(&plan)?;
            assert_eq!((report.sent, report.received, report.is_clean()), (200, 200, true), "{url}: {report}");
        }
    }
    Ok(())
}
