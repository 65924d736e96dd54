//! What a run does, and what is refused before it begins.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use midge_mqtt::{ProtocolVersion, QoS, check_topic_name};
use serde::{Deserialize, Serialize};

use crate::{BenchError, Sizes, Target};

/// The most clients of a run.
const MOST_CLIENTS: u64 = 10_000_000;

/// All that is to be known of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The broker.
    pub target: Target,
    /// How it proves who it is.
    pub tls: Tls,
    /// What is spoken.
    pub protocol: Protocol,
    /// Who does what.
    pub scenario: Scenario,
    /// The QoS of publishing and subscribing, 0 to 2.
    pub qos: u8,
    /// Payload sizes.
    pub sizes: Sizes,
    /// When messages are sent.
    pub pace: Pace,
    /// Messages of all publishers together; without, as many as the duration brings.
    pub messages: Option<u64>,
    /// How long is measured.
    pub duration: Duration,
    /// How long is loaded before; what is sent then is counted, but not measured.
    pub warmup: Duration,
    /// How long is waited for messages on their way.
    pub drain: Duration,
    /// How long connecting and subscribing may take.
    pub patience: Duration,
    /// How clients come.
    pub ramp: Ramp,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The username; `%i` in it becomes the client's number.
    pub username: Option<String>,
    /// The password; `%i` in it becomes the client's number.
    pub password: Option<String>,
    /// The clients' own addresses, taken in turn; none leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// What topics and client identifiers begin with.
    pub prefix: String,
    /// What tells this run from others.
    pub run: u32,
    /// Processes, or threads where [`crate::Fleet`] says so.
    pub processes: u32,
    /// The broker's process on this machine, to tell what the run costs it.
    pub pid: Option<u32>,
}

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// How TLS is verified.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tls {
    /// The file with the authorities, in PEM.
    pub authorities: Option<PathBuf>,
    /// Takes any certificate.
    pub insecure: bool,
    /// The client's own certificate and key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// When a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// Open loop: so many a second of all publishers together, whatever the broker does.
    Rate(f64),
    /// Closed loop: so many of each publisher on their way.
    Window(u32),
}

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Connections begun in a second by all processes together; without, as the broker lets in.
    pub rate: Option<f64>,
    /// The most that are under way at once in a process, where there is no rate.
    pub concurrent: u32,
}

/// Who does what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Scenario {
    /// Clients connect; a latency is a CONNACK's.
    Connect {
        /// Clients in all.
        clients: u32,
    },
    /// Connected clients subscribe; a latency is a SUBACK's.
    Subscribe {
        /// Clients in all.
        clients: u32,
        /// Topic filters of each, one SUBSCRIBE for each.
        filters: u32,
    },
    /// Publishers without subscribers; a latency is an acknowledgement's, none with QoS 0.
    Publish {
        /// Publishers in all.
        publishers: u32,
    },
    /// Each publisher has a subscriber of its own.
    Pairs {
        /// Pairs in all.
        pairs: u32,
    },
    /// All publishers send to the same subscribers.
    FanIn {
        /// Publishers in all.
        publishers: u32,
        /// Subscribers, each of which gets everything.
        subscribers: u32,
    },
    /// Few publishers, many subscribers, each of which gets everything.
    FanOut {
        /// Publishers in all.
        publishers: u32,
        /// Subscribers in all.
        subscribers: u32,
    },
    /// Shared subscriptions: each group gets a message once.
    Shared {
        /// Publishers in all.
        publishers: u32,
        /// Members of all groups together.
        subscribers: u32,
        /// Groups; the members of one are in one process.
        groups: u32,
    },
    /// Requests and answers; a latency is a round trip's.
    RequestResponse {
        /// Clients that ask.
        requesters: u32,
        /// Clients that answer.
        responders: u32,
    },
    /// Phones: mostly idle, with keep-alive and rare pushes, that lose their connections together.
    Phones {
        /// Phones, each with a topic and a session of its own.
        phones: u32,
        /// Clients that push to them.
        publishers: u32,
        /// How often a storm begins; 0 is never.
        storm_every: Duration,
        /// The part of the phones that a storm concerns, 0 to 1.
        storm_part: f64,
    },
}

impl Plan {
    /// Returns a plan with a scenario and defaults for the rest: QoS 0, 64 bytes, one in flight, ten seconds, one process.
    ///
    /// # Errors
    /// Never for payloads of 64 bytes.
    pub fn new(target: Target, scenario: Scenario) -> Result<Self, BenchError> {
        Ok(Self {
            target,
            tls: Tls::default(),
            protocol: Protocol::V311,
            scenario,
            qos: 0,
            sizes: Sizes::fixed(64)?,
            pace: Pace::Window(1),
            messages: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            ramp: Ramp { rate: None, concurrent: 64 },
            keep_alive: 60,
            username: None,
            password: None,
            sources: Vec::new(),
            prefix: "bench".to_owned(),
            run: u32::try_from(crate::clock::now() >> 10 & 0xffff_ffff).unwrap_or(0),
            processes: 1,
            pid: None,
        })
    }

    /// Checks what single values can't show.
    ///
    /// # Errors
    /// What can't be carried out.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let refuse = |why: &str| Err(BenchError::Plan(why.to_owned()));
        if self.scenario.numbers().contains(&0) || self.processes == 0 || self.ramp.concurrent == 0 {
            return refuse("a number of clients, filters, groups, processes or connections under way is 0");
        }
        if self.clients() > MOST_CLIENTS {
            return refuse("more than 10,000,000 clients");
        }
        if QoS::new(self.qos).is_none() {
            return refuse("the QoS is 0, 1 or 2");
        }
        let rates = [self.ramp.rate, if let Pace::Rate(rate) = self.pace { Some(rate) } else { None }];
        if rates.into_iter().flatten().any(|rate| !(1e-3..=1e9).contains(&rate)) || self.pace == Pace::Window(0) {
            return refuse("a rate is 0.001 to 1,000,000,000 a second, and a window at least 1");
        }
        if check_topic_name(&self.prefix).is_err() || self.prefix.starts_with('$') || self.prefix.len() > 1_000 {
            return refuse("the prefix is no topic name");
        }
        if self.sources.iter().any(|source| source.is_ipv4() != self.target.address.is_ipv4()) {
            return refuse("the clients' own addresses are of another family than the broker's");
        }
        if self.password.is_some() && self.username.is_none() && self.protocol == Protocol::V311 {
            return refuse("MQTT 3.1.1 has no password without a username");
        }
        if self.target.tls && self.tls.authorities.is_none() && !self.tls.insecure {
            return refuse("TLS needs a file of authorities, or to take any certificate");
        }
        match self.scenario {
            Scenario::Shared { subscribers, groups, .. } if subscribers < groups => refuse("a group without a member"),
            Scenario::RequestResponse { requesters, responders } if requesters < responders => refuse("more answer than ask"),
            Scenario::Phones { storm_part, .. } if !(0.0..=1.0).contains(&storm_part) => refuse("a part of phones is 0 to 1"),
            Scenario::Phones { .. } if matches!(self.pace, Pace::Window(_)) => refuse("phones need a rate of pushes"),
            Scenario::FanIn { .. } | Scenario::Shared { .. }
                if self.processes > 1 && self.qos == 0 && matches!(self.pace, Pace::Window(_)) =>
            {
                refuse("with QoS 0, publishers of one process can't see what arrives in another: give a rate")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        match self.protocol {
            Protocol::V311 => ProtocolVersion::V311,
            Protocol::V5 => ProtocolVersion::V5,
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        QoS::new(self.qos).unwrap_or(QoS::AtMostOnce)
    }

    /// Returns how many deliveries one message has to have.
    pub(crate) fn copies(&self) -> u64 {
        match self.scenario {
            Scenario::Connect { .. } | Scenario::Subscribe { .. } | Scenario::Publish { .. } => 0,
            Scenario::Pairs { .. } | Scenario::RequestResponse { .. } | Scenario::Phones { .. } => 1,
            Scenario::FanIn { subscribers, .. } | Scenario::FanOut { subscribers, .. } => subscribers.into(),
            Scenario::Shared { groups, .. } => groups.into(),
        }
    }

    /// Returns whether the run is one of steps that clients take, not of messages.
    pub(crate) fn is_stepwise(&self) -> bool {
        matches!(self.scenario, Scenario::Connect { .. } | Scenario::Subscribe { .. })
    }

    /// Returns whether nothing is left out of the measurement at the beginning.
    pub(crate) fn measures_all(&self) -> bool {
        self.is_stepwise() || self.messages.is_some()
    }

    /// Returns the clients of all processes.
    pub(crate) fn clients(&self) -> u64 {
        let [first, second, ..] = self.scenario.numbers().map(u64::from);
        match self.scenario {
            Scenario::Connect { .. } | Scenario::Subscribe { .. } | Scenario::Publish { .. } => first,
            Scenario::Pairs { .. } => 2 * first,
            _ => first + second,
        }
    }
}

impl Scenario {
    /// Returns the name on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Subscribe { .. } => "subscribe",
            Self::Publish { .. } => "publish",
            Self::Pairs { .. } => "pairs",
            Self::FanIn { .. } => "fan-in",
            Self::FanOut { .. } => "fan-out",
            Self::Shared { .. } => "shared",
            Self::RequestResponse { .. } => "request-response",
            Self::Phones { .. } => "phones",
        }
    }

    pub(crate) fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Returns its numbers, with 1 where it has fewer than three.
    fn numbers(&self) -> [u32; 3] {
        match *self {
            Self::Connect { clients } => [clients, 1, 1],
            Self::Subscribe { clients, filters } => [clients, filters, 1],
            Self::Publish { publishers } => [publishers, 1, 1],
            Self::Pairs { pairs } => [pairs, 1, 1],
            Self::FanIn { publishers, subscribers } | Self::FanOut { publishers, subscribers } => [publishers, subscribers, 1],
            Self::Shared { publishers, subscribers, groups } => [publishers, subscribers, groups],
            Self::RequestResponse { requesters, responders } => [requesters, responders, 1],
            Self::Phones { phones, publishers, .. } => [phones, publishers, 1],
        }
    }
}
