//! A TCP proxy whose network can be broken at run time.
//!
//! Sits on loopback between a client and a server; every change of [`Mode`] takes hold of open connections too.

use crate::process::free_port;
use crate::wait::until;
use anyhow::Result;
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How the proxy treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Pass,
    /// Connections are accepted and nothing moves; what was sent moves on when the mode changes back.
    BlackHole,
    /// Nobody listens; open connections are closed.
    Refuse,
    /// Each piece waits that long, in both directions.
    Delay(Duration),
    /// Open connections are reset, new ones as soon as they are accepted.
    Reset,
}

/// A proxy on a loopback port.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    listening: AtomicBool,
    over: AtomicBool,
    accepted: AtomicUsize,
    target: SocketAddr,
}

/// How long a thread may need to notice a new mode.
const TURN: Duration = Duration::from_millis(5);

impl FaultProxy {
    /// Starts a proxy to a loopback port, in [`Mode::Pass`].
    ///
    /// # Errors
    /// When no port can be opened.
    pub fn start(target: u16) -> Result<Self> {
        let (listener, port) = loop {
            let port = free_port()?;
            if let Ok(listener) = listen(port) {
                break (listener, port);
            }
        };
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            listening: AtomicBool::new(true),
            over: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, target)),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(listener, port)
        });
        Ok(Self { shared, port, acceptor: Some(acceptor) })
    }

    /// Returns the port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Changes the mode, and returns once new connections meet it.
    ///
    /// # Errors
    /// When the port can't be closed or opened again in ten seconds.
    pub fn set(&self, mode: Mode) -> Result<()> {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        let wanted = mode != Mode::Refuse;
        until("the proxy's port", Duration::from_secs(10), || {
            Ok((self.shared.listening.load(Ordering::Acquire) == wanted).then_some(()))
        })
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn accept(self: &Arc<Self>, listener: TcpListener, port: u16) {
        let mut listener = Some(listener);
        while !self.is_over() {
            if self.mode() == Mode::Refuse {
                listener = None;
            } else if listener.is_none() {
                listener = listen(port).ok();
            }
            self.listening.store(listener.is_some(), Ordering::Release);
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    let shared = Arc::clone(self);
                    thread::spawn(move || shared.serve(client));
                }
                _ => thread::sleep(TURN),
            }
        }
    }

    /// Carries one connection until it ends or the mode ends it.
    fn serve(self: Arc<Self>, client: TcpStream) {
        while self.mode() == Mode::BlackHole && !self.is_over() {
            thread::sleep(TURN);
        }
        if self.mode() == Mode::Reset {
            return reset(&client);
        }
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let (Ok(client_side), Ok(server_side)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let shared = Arc::clone(&self);
        thread::spawn(move || shared.pump(server_side, client_side));
        self.pump(client, server);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let _ = from.set_nonblocking(false);
        let _ = from.set_read_timeout(Some(TURN));
        let _ = to.set_nodelay(true);
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.mode() {
                _ if self.is_over() => break,
                Mode::BlackHole => {
                    thread::sleep(TURN);
                    continue;
                }
                Mode::Reset => {
                    reset(&from);
                    reset(&to);
                    return;
                }
                Mode::Refuse => break,
                Mode::Pass | Mode::Delay(_) => {}
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.hold();
                    // The piece may have come while the mode was changed.
                    if matches!(self.mode(), Mode::Refuse | Mode::Reset) {
                        continue;
                    }
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// Keeps a piece that was just read for as long as the mode says.
    fn hold(&self) {
        if let Mode::Delay(time) = self.mode() {
            thread::sleep(time);
        }
        while self.mode() == Mode::BlackHole && !self.is_over() {
            thread::sleep(TURN);
        }
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes the close of the socket's last handle a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
