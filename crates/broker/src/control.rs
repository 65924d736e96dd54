//! Lets the command use the embedded store of a running server.
//!
//! An embedded store belongs to one process. The server that has it listens at a Unix socket in its directory
//! and makes reads, changes and pushes for [`Client`], which is a [`Store`] like any other; changes act on clients as all changes do.
//! Who may: root, and the user that the server runs as; the operating system says who asks. Whoever may could open the store's file too.
//! Bounded: connections at a time, bytes of a message, and how long each may stay silent.

mod client;
mod conversation;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use midge_store::Backend;

pub use client::Client;

/// The socket's name in the directory of the store.
pub const SOCKET: &str = "control.sock";

/// Connections at a time; further ones wait until one of them is closed.
const MAX_CONNECTIONS: usize = 8;

/// The longest path of a Unix socket, in bytes: what `sun_path` holds with its final zero, unix(7).
const MAX_PATH: usize = 107;

/// The socket and the threads that serve it; dropping it closes all connections and waits for their ends.
pub struct Control {
    shared: Arc<Shared>,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("socket", &self.socket).finish_non_exhaustive()
    }
}

struct Shared {
    listener: UnixListener,
    backend: Arc<dyn Backend>,
    state: Mutex<State>,
    /// A connection has ended, or all shall.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    next: u64,
    open: HashMap<u64, UnixStream>,
}

impl Control {
    /// Listens in `directory`, which is the one of `backend`: nobody else has its lock, so nobody else listens there.
    ///
    /// # Errors
    /// The socket can't be made, or the operating system gave no thread.
    pub fn start(directory: &Path, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let socket = directory.join(SOCKET);
        match fs::symlink_metadata(&socket) {
            // Left behind by a server that was killed.
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&socket)?,
            _ => {}
        }
        let listener = Reach::new(directory)?.bind()?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        let shared = Arc::new(Shared { listener, backend, state: Mutex::default(), changed: Condvar::new() });
        let mut control = Self { shared: Arc::clone(&shared), socket, thread: None };
        let thread = std::thread::Builder::new().name("midge-control".to_owned());
        control.thread = Some(thread.spawn(move || accept(&shared))?);
        Ok(control)
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Nobody shall find a socket that is not answered any more.
        let _ = fs::remove_file(&self.socket);
        let mut state = self.shared.lock();
        state.stopping = true;
        state.open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        self.shared.changed.notify_all();
        // On Linux this ends a thread's waiting in accept(2).
        let _ = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
        while !state.open.is_empty() {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a free place; returns `None` where no more are given.
    fn wait_for_place(&self) -> Option<()> {
        let full = |state: &mut State| !state.stopping && state.open.len() >= MAX_CONNECTIONS;
        let state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        (!state.stopping).then_some(())
    }
}

fn accept(shared: &Arc<Shared>) {
    while shared.wait_for_place().is_some() {
        let stream = match shared.listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.lock().stopping => return,
            Err(error) => {
                log::warn!("the control socket can't accept a connection: {error}");
                // What the operating system lacks, it lacks for a moment.
                std::thread::sleep(std::time::Duration::from_millis(200));
                continue;
            }
        };
        if let Err(error) = converse(shared, stream) {
            log::warn!("the control socket can't serve a connection: {error}");
        }
    }
}

/// Starts the thread of one connection.
fn converse(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid;
    if !peer.is_root() && peer != rustix::process::geteuid() {
        log::warn!("the control socket was asked by the user {}, and answers root and its own only", peer.as_raw());
        return Ok(());
    }
    let place = Place::take(shared, stream.try_clone()?);
    let thread = std::thread::Builder::new().name("midge-control".to_owned());
    thread.spawn(move || {
        if let Err(error) = conversation::serve(&stream, &place.shared.backend) {
            log::warn!("a conversation at the control socket ended: {error}");
        }
    })?;
    Ok(())
}

/// The place of an open connection, which is free again when this is dropped.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Place {
    fn take(shared: &Arc<Shared>, stream: UnixStream) -> Self {
        let mut state = shared.lock();
        let number = state.next;
        state.next += 1;
        if state.stopping {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.open.insert(number, stream);
        drop(state);
        Self { shared: Arc::clone(shared), number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
        self.shared.changed.notify_all();
    }
}

/// A way to the socket in a directory whose path may be too long for a socket's.
struct Reach {
    path: PathBuf,
    /// Held open while `path` goes through it.
    _directory: Option<File>,
}

impl Reach {
    fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(Self { path, _directory: None });
        }
        let directory = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(SOCKET);
        Ok(Self { path, _directory: Some(directory) })
    }

    fn bind(&self) -> io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.path)
    }
}
