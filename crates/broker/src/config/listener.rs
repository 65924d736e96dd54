//! One place where clients come in, checked as a whole.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use midge_core::certificate::CertificateField;

use super::settings::ListenerDraft;

/// The path of WebSocket clients where none is set, as most clients ask for it.
const PATH: &str = "/mqtt";
/// The mode of a Unix socket where none is set: its owner and group may connect.
const UNIX_MODE: u32 = 0o660;

/// One place where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub address: Address,
    /// What is spoken.
    pub protocol: Protocol,
    /// With which keys it speaks TLS; `None` doesn't.
    pub tls: Option<Tls>,
    /// Whether each connection begins with the header of a proxy.
    pub proxy_protocol: bool,
    /// Whether clients without a username get in; `None` leaves it to the setting `anonymous`.
    pub allow_anonymous: Option<bool>,
    /// Connections of this listener, beside those of all together.
    pub max_connections: Option<usize>,
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and port; port 0 lets the operating system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Who may connect, as `chmod` takes it.
        mode: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain MQTT.
    Mqtt,
    /// MQTT in WebSocket.
    WebSocket {
        /// The path that clients ask for; `None` is every one.
        path: Option<String>,
        /// The origins of pages that may connect; empty for all.
        origins: Vec<String>,
    },
}

/// With which keys TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The file of the server's certificate.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
    /// What is asked of clients' certificates; `None` asks for none.
    pub clients: Option<ClientCertificates>,
}

/// What is asked of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The file of the authorities.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is sent away.
    pub required: bool,
    /// Which field is the username.
    pub identity: Option<CertificateField>,
}

impl Listener {
    /// Returns a listener for `protocol` over plain TCP.
    #[must_use]
    pub fn plain(address: SocketAddr, protocol: Protocol) -> Self {
        let address = Address::Tcp(address);
        Self { address, protocol, tls: None, proxy_protocol: false, allow_anonymous: None, max_connections: None }
    }

    /// Returns whether no other machine can reach it, not even through a proxy that says whom it speaks for.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let local = match &self.address {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix { .. } => true,
        };
        local && !self.proxy_protocol
    }

    /// Returns which field of a client's certificate is its username.
    #[must_use]
    pub fn identity(&self) -> Option<CertificateField> {
        self.tls.as_ref()?.clients.as_ref()?.identity
    }

    /// Returns what is spoken, in one word as URLs have it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match (&self.protocol, self.tls.is_some()) {
            (Protocol::Mqtt, false) => "mqtt",
            (Protocol::Mqtt, true) => "mqtts",
            (Protocol::WebSocket { .. }, false) => "ws",
            (Protocol::WebSocket { .. }, true) => "wss",
        }
    }

    /// Returns the listeners where none are set: this machine only.
    pub(super) fn defaults() -> Vec<Self> {
        let web_socket = Protocol::WebSocket { path: Some(PATH.to_owned()), origins: Vec::new() };
        vec![Self::plain(([127, 0, 0, 1], 1883).into(), Protocol::Mqtt), Self::plain(([127, 0, 0, 1], 8083).into(), web_socket)]
    }
}

/// A key, and what is wrong with it in the company of others.
pub(super) type Clash = (&'static str, String);

impl ListenerDraft {
    /// Puts the settings together, with `identity` where the listener names none.
    pub(super) fn finish(self, identity: Option<CertificateField>) -> Result<Listener, Vec<Clash>> {
        let mut clashes = Vec::new();
        let mut clash = |key, problem: &str| clashes.push((key, problem.to_owned()));
        match (&self.address, &self.unix) {
            (Some(_), Some(_)) => clash("unix", "the listener has an address already: allowed is either"),
            (None, None) => clash("address", "the listener has neither address nor unix: one of them is needed"),
            _ => {}
        }
        if self.unix.is_none() && self.unix_mode.is_some() {
            clash("unix_mode", "the listener is no Unix socket: allowed beside unix only");
        }
        if !self.web_socket && self.path.is_some() {
            clash("path", "the listener speaks plain MQTT, which has no paths: allowed with protocol = \"ws\" only");
        }
        if !self.web_socket && !self.origins.is_empty() {
            clash("origins", "the listener speaks plain MQTT, which no page does: allowed with protocol = \"ws\" only");
        }
        let tls = self.tls(identity, &mut clash);
        let mode = self.unix_mode.unwrap_or(UNIX_MODE);
        let address = match (self.address, self.unix) {
            (Some(address), _) => Some(Address::Tcp(address)),
            (None, path) => path.map(|path| Address::Unix { path, mode }),
        };
        let path = self.path.unwrap_or_else(|| PATH.to_owned());
        let protocol = match self.web_socket {
            true => Protocol::WebSocket { path: Some(path).filter(|path| path != "*"), origins: self.origins },
            false => Protocol::Mqtt,
        };
        let (proxy_protocol, allow_anonymous, max_connections) = (self.proxy_protocol, self.allow_anonymous, self.max_connections);
        match address {
            Some(address) if clashes.is_empty() => {
                Ok(Listener { address, protocol, tls, proxy_protocol, allow_anonymous, max_connections })
            }
            _ => Err(clashes),
        }
    }

    fn tls(&self, identity: Option<CertificateField>, clash: &mut impl FnMut(&'static str, &str)) -> Option<Tls> {
        if self.client_ca.is_none() {
            if self.require_client_certificate == Some(true) {
                clash("tls.require_client_certificate", "nothing says whose certificates count: tls.client_ca is needed");
            }
            if matches!(self.identity, Some(Some(_))) {
                clash("tls.identity", "no certificate would be asked for: tls.client_ca is needed");
            }
        }
        let clients = self.client_ca.clone().map(|authorities| ClientCertificates {
            authorities,
            required: self.require_client_certificate.unwrap_or(true),
            identity: self.identity.unwrap_or(identity),
        });
        match (self.certificate.clone(), self.key.clone()) {
            (Some(certificate), Some(key)) => return Some(Tls { certificate, key, clients }),
            (Some(_), None) => clash("tls.certificate", "its key is missing: tls.key is needed"),
            (None, Some(_)) => clash("tls.key", "its certificate is missing: tls.certificate is needed"),
            (None, None) if clients.is_some() => {
                clash("tls.client_ca", "the listener speaks no TLS: tls.certificate and tls.key are needed");
            }
            (None, None) => {}
        }
        None
    }
}

/// Returns the places in `listeners` whose address another one before it has.
pub(super) fn doubles(listeners: &[Listener]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_free = |address: &Address| matches!(address, Address::Tcp(address) if address.port() == 0);
    let mut is_double = |listener: &Listener| !is_free(&listener.address) && !seen.insert(listener.address.clone());
    (0..listeners.len()).filter(|at| is_double(&listeners[*at])).collect()
}
