//! Where the broker is: mqtt://, mqtts://, ws:// or wss://.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::BenchError;

/// A broker's address, resolved once for the whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// The path of a WebSocket.
    pub(crate) websocket: Option<String>,
}

impl Target {
    /// Returns whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for Target {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = || BenchError::Plan(format!("{text:?} is no mqtt://, mqtts://, ws:// or wss:// address"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("mqtt", text));
        let (tls, websocket, port) = match scheme {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "ssl" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') || (!websocket && !path.is_empty()) {
            return Err(wrong());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => (host, digits.parse().map_err(|_| wrong())?),
            _ => (authority, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let found = (host.as_str(), port).to_socket_addrs().map_err(BenchError::io(format!("no address for {host}")))?.next();
        let address = found.ok_or_else(wrong)?;
        let path = if path.is_empty() { "/mqtt".to_owned() } else { format!("/{path}") };
        Ok(Self { host, address, tls, websocket: websocket.then_some(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("127.0.0.1", "127.0.0.1:1883", false, None),
            ("mqtt://127.0.0.1:1", "127.0.0.1:1", false, None),
            ("mqtts://127.0.0.1", "127.0.0.1:8883", true, None),
            ("ws://127.0.0.1", "127.0.0.1:80", false, Some("/mqtt")),
            ("wss://[::1]:9/a/b", "[::1]:9", true, Some("/a/b")),
            ("mqtt://[::1]", "[::1]:1883", false, None),
        ];
        for (text, address, tls, path) in cases {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.address.to_string().as_str(), target.tls, target.websocket.as_deref()),
                (address, tls, path),
                "{text}"
            );
        }
        for text in ["http://127.0.0.1", "mqtt://", "mqtt://u:p@127.0.0.1", "mqtt://127.0.0.1/x", "127.0.0.1:x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
