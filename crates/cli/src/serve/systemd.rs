//! Tells systemd how it goes, and takes its sockets.
//!
//! As sd_notify(3) and sd_listen_fds(3) have it; without systemd, nothing happens.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::path::Path;

use listenfd::ListenFd;
use midge_broker::config::{Address, Listener};

/// Tells systemd of a new state; an error is none of ours, as nobody waits for it.
pub(super) fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        let sent = socket.to_str().ok_or_else(|| io::Error::other("its name is no UTF-8")).and_then(|name| send(name, state));
        if let Err(error) = sent {
            log::warn!("systemd can't be told {state:?}: {error}");
        }
    }
}

/// Returns what says that a reload begins, for services of type `notify-reload`.
pub(super) fn reloading() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={micros}")
}

fn send(name: &str, state: &str) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name)?,
        None => UnixAddress::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// A socket that was bound by somebody else.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets for those listeners that systemd has bound, each with the listener's place in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<(usize, Bound)>);

impl Inherited {
    /// Takes all sockets that were passed on, and finds the listener of each by its address.
    ///
    /// # Errors
    /// One of them listens at no address of the configuration: its clients would wait for ever.
    pub(super) fn take(listeners: &[Listener]) -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut bound = Vec::new();
        for at in 0..passed.len() {
            // The kind of a socket is found by trying: the wrong one leaves it where it is.
            if let Ok(Some(socket)) = passed.take_tcp_listener(at) {
                bound.push(Bound::Tcp(socket));
            } else if let Some(socket) = passed.take_unix_listener(at)? {
                bound.push(Bound::Unix(socket));
            }
        }
        Self::assign(bound, listeners)
    }

    fn assign(bound: Vec<Bound>, listeners: &[Listener]) -> io::Result<Self> {
        let place = |bound: Bound| {
            let place = listeners.iter().position(|listener| bound.is_at(&listener.address));
            place.map(|place| (place, bound.shown())).ok_or_else(|| bound.shown()).map(|(place, _)| (place, bound))
        };
        let lost = |address: String| {
            io::Error::other(format!(
                "systemd passes a socket at {address}, and no listener has this address: one of both configurations has to be changed"
            ))
        };
        bound.into_iter().map(place).map(|placed| placed.map_err(lost)).collect::<io::Result<_>>().map(Self)
    }

    /// Returns the sockets, each with the place of its listener.
    pub(crate) fn into_sockets(self) -> Vec<(usize, Bound)> {
        self.0
    }
}

impl Bound {
    fn is_at(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Tcp(socket), Address::Tcp(address)) => socket.local_addr().is_ok_and(|bound| bound == *address),
            (Self::Unix(socket), Address::Unix { path, .. }) => {
                socket.local_addr().is_ok_and(|bound| bound.as_pathname() == Some(path.as_path()))
            }
            _ => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(|address| address.to_string()),
            Self::Unix(socket) => {
                socket.local_addr().map(|address| address.as_pathname().unwrap_or(Path::new("?")).display().to_string())
            }
        }
        .unwrap_or_else(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use midge_broker::config::Protocol;

    use super::*;

    #[test]
    fn systemd_hears_what_it_is_told() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        let name = format!("midge-test-{}", std::process::id());
        let hidden = UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
        send(&format!("@{name}"), &reloading()).unwrap();
        for (socket, expected) in [(socket, "READY=1"), (hidden, "RELOADING=1\nMONOTONIC_USEC=")] {
            let mut bytes = [0; 100];
            let length = socket.recv(&mut bytes).unwrap();
            assert!(std::str::from_utf8(&bytes[..length]).unwrap().starts_with(expected));
        }
        assert!(send("/nonexistent/notify", "READY=1").is_err());
    }

    #[test]
    fn sockets_find_their_listeners_by_address() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("mqtt.sock");
        let (tcp, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let mut unix = Listener::plain(tcp.local_addr().unwrap(), Protocol::Mqtt);
        unix.address = Address::Unix { path: path.clone(), mode: 0o660 };
        let listeners = [unix, Listener::plain(tcp.local_addr().unwrap(), Protocol::Mqtt)];
        let bound = vec![Bound::Tcp(tcp), Bound::Unix(UnixListener::bind(&path).unwrap())];
        let places: Vec<usize> =
            Inherited::assign(bound, &listeners).unwrap().into_sockets().into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, [1, 0]);
        let address = other.local_addr().unwrap().to_string();
        let error = Inherited::assign(vec![Bound::Tcp(other)], &listeners).unwrap_err().to_string();
        assert!(error.contains(&address), "{error}");
    }
}
