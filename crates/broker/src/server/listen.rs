//! Listeners, and how many clients they let in.
//!
//! Where clients come faster than they may, or the operating system has nothing left, they wait in the backlog.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcp};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnix;
use std::path::PathBuf;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::event_loop::{EventLoop, MAILBOX};
use super::handshake::Errand;
use super::peer::Origin;
use super::seldom::Seldom;
use super::settings::{Address, Limits, Listen};
use super::transport::{Kind, Socket, Transport};

/// Connections accepted in one turn, so that those that are there are served meanwhile.
const AT_ONCE: usize = 64;

/// How long accepting rests where the operating system has no descriptor or memory left.
const REST: Duration = Duration::from_millis(200);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Accepting,
    kind: Kind,
    /// Whether clients may be waiting.
    ready: bool,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    /// With the path that is its own to remove.
    Unix(UnixListener, Option<PathBuf>),
}

/// All listeners of a server, which one loop has.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// Accepting rests until then.
    rest: Option<Duration>,
    rate: Rate,
    /// The thread that gets the next TLS handshake.
    next_vestibule: usize,
    full: Seldom,
    exhausted: Seldom,
}

impl Listener {
    /// Binds a listener.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub(super) fn bind(listen: &Listen, kind: Kind, limits: &Limits) -> io::Result<Self> {
        let inherited = listen.inherited.as_ref().map(|socket| socket.try_clone()).transpose()?;
        let socket = match &listen.address {
            Address::Tcp(address) => {
                let listener = inherited.map_or_else(|| StdTcp::bind(address), |socket| Ok(socket.into()))?;
                // Accepted sockets inherit it, which saves a system call for each.
                rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
                rustix::net::listen(&listener, limits.backlog)?;
                listener.set_nonblocking(true)?;
                Accepting::Tcp(TcpListener::from_std(listener))
            }
            Address::Unix(path) => {
                let own = inherited.is_none().then(|| path.clone());
                let listener = inherited.map_or_else(|| bind_unix(path, listen.unix_mode), |socket| Ok(socket.into()))?;
                rustix::net::listen(&listener, limits.backlog)?;
                listener.set_nonblocking(true)?;
                Accepting::Unix(UnixListener::from_std(listener), own)
            }
        };
        Ok(Self { socket, kind, ready: true })
    }

    /// Returns the address, with the port that the operating system chose.
    pub(super) fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Accepting::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?)),
            Accepting::Unix(listener, _) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }

    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.socket {
            Accepting::Tcp(listener) => listener.accept().map(|(stream, address)| (Socket::Tcp(stream), Some(address))),
            Accepting::Unix(listener, _) => listener.accept().map(|(stream, _)| (Socket::Unix(stream), None)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Accepting::Unix(_, Some(path)) = &self.socket {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &PathBuf, mode: Option<u32>) -> io::Result<StdUnix> {
    remove_stale(path)?;
    let listener = StdUnix::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

/// Removes the file of a Unix socket that nobody listens at any more.
fn remove_stale(path: &PathBuf) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Either there is none, or binding will say what is wrong with it.
        _ => Ok(()),
    }
}

impl Listeners {
    /// Takes listeners and has their clients told of.
    ///
    /// # Errors
    /// When they can't be watched.
    pub(super) fn open(&mut self, listeners: Vec<Listener>, limits: &Limits, registry: &Registry) -> io::Result<()> {
        self.rate = Rate::new(limits.connect_rate);
        self.all = listeners;
        for (index, listener) in self.all.iter_mut().enumerate() {
            let token = Token(MAILBOX.0 - 1 - index);
            match &mut listener.socket {
                Accepting::Tcp(socket) => registry.register(socket, token, Interest::READABLE)?,
                Accepting::Unix(socket, _) => registry.register(socket, token, Interest::READABLE)?,
            }
        }
        Ok(())
    }

    pub(super) fn close(&mut self, registry: &Registry) {
        for mut listener in self.all.drain(..) {
            let _ = match &mut listener.socket {
                Accepting::Tcp(socket) => registry.deregister(socket),
                Accepting::Unix(socket, _) => registry.deregister(socket),
            };
        }
    }

    pub(super) fn is_listener(&self, token: Token) -> bool {
        token.0 >= MAILBOX.0 - self.all.len()
    }

    pub(super) fn ready(&mut self, token: Token) {
        if let Some(listener) = self.all.get_mut(MAILBOX.0 - 1 - token.0) {
            listener.ready = true;
        }
    }

    /// Returns whether somebody can be accepted now.
    pub(super) fn is_ready(&self) -> bool {
        self.rest.is_none() && self.all.iter().any(|listener| listener.ready)
    }

    /// Returns when accepting goes on.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.rest
    }
}

impl EventLoop {
    /// Lets clients in.
    pub(super) fn accept(&mut self) {
        let now = self.now.monotonic;
        if self.listeners.rest.is_some_and(|until| until > now) {
            return;
        }
        self.listeners.rest = None;
        for index in 0..self.listeners.all.len() {
            for _ in 0..AT_ONCE {
                if !self.listeners.all[index].ready {
                    break;
                }
                if let Err(wait) = self.listeners.rate.take(now) {
                    self.traffic.rate_pauses += 1;
                    self.listeners.rest = Some(now + wait);
                    return;
                }
                if !self.accept_one(index) {
                    break;
                }
            }
        }
    }

    /// Accepts a client; returns whether there may be another.
    fn accept_one(&mut self, index: usize) -> bool {
        let listener = &mut self.listeners.all[index];
        match listener.accept() {
            Ok((socket, address)) => {
                self.accepted(socket, Origin { listener: index, address, certificate: None });
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.ready = false;
                false
            }
            Err(error) if is_exhausted(&error) => {
                self.traffic.exhausted += 1;
                self.listeners.rest = Some(self.now.monotonic + REST);
                if let Some(times) = self.listeners.exhausted.now(self.now.monotonic) {
                    log::error!("cannot accept connections, {times} times since the last such line: {error}");
                }
                false
            }
            // The client is gone already, accept(2).
            Err(_) => true,
        }
    }

    fn accepted(&mut self, socket: Socket, origin: Origin) {
        let Some(mut seat) = self.shared.seats.take(origin.listener) else {
            self.traffic.refused_full += 1;
            if let Some(times) = self.listeners.full.now(self.now.monotonic) {
                log::warn!("as many connections are open as may be: {times} closed since the last such line");
            }
            return;
        };
        let kind = &self.listeners.all[origin.listener].kind;
        // Behind a proxy, the address comes later.
        let address = origin.address.filter(|_| !kind.proxy);
        if address.is_some_and(|address| !seat.set_address(address.ip())) {
            self.traffic.refused_address += 1;
            return;
        }
        self.traffic.accepted += 1;
        let kind = if kind.tls.is_some() { self.shared.kind(origin.listener) } else { kind.clone() };
        let transport = match Transport::new(socket, &kind, seat) {
            Ok(transport) => transport,
            Err(error) => {
                log::error!("cannot begin TLS: {error}");
                return;
            }
        };
        if kind.tls.is_none() {
            let at = self.now.monotonic + self.shared.settings.limits.connect_timeout;
            self.begin(transport, Box::new(origin), at);
            return;
        }
        let next = self.listeners.next_vestibule;
        self.listeners.next_vestibule = (next + 1) % self.shared.vestibules.len().max(1);
        if let Some(vestibule) = self.shared.vestibules.get(next) {
            vestibule.send(Errand::Begin(Box::new((transport, origin))));
        }
    }
}

/// Returns whether an error goes away when others close what they have, accept(2).
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// A token bucket that holds one second's tokens at most.
#[derive(Debug, Default)]
struct Rate {
    per_second: u32,
    /// Since when tokens were saved.
    since: Duration,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        Self { per_second, since: Duration::ZERO }
    }

    /// Takes a token, or says how long it takes until there is one.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if self.per_second == 0 {
            return Ok(());
        }
        let one = Duration::from_secs(1) / self.per_second;
        let since = self.since.max(now.saturating_sub(Duration::from_secs(1)));
        if since + one > now {
            // The clock of the operating system counts in milliseconds here.
            return Err((since + one - now).max(Duration::from_millis(1)));
        }
        self.since = since + one;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_seconds_burst_through_and_then_its_pace() {
        let mut rate = Rate::new(10);
        let at = |millis: u64| Duration::from_millis(5000 + millis);
        for _ in 0..10 {
            assert_eq!(rate.take(at(0)), Ok(()));
        }
        assert_eq!(rate.take(at(0)), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(at(99)), Err(Duration::from_millis(1)));
        assert_eq!(rate.take(at(100)), Ok(()));
        assert_eq!(rate.take(at(100)), Err(Duration::from_millis(100)));
        assert!((0..100).all(|_| Rate::new(0).take(at(0)).is_ok()));
    }
}
