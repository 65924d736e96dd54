//! Brings Mosquitto to its tick when something waits for it.
//!
//! The broker may sleep in its wait for network events; a signal ends that wait. One that arrives just before the wait is lost,
//! so it is repeated until the answers have been taken.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::host::{begin_thread, wake_broker};

const REPEAT: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    waiting: bool,
    stopping: bool,
    thread: Option<JoinHandle<()>>,
}

/// A thread that signals while something waits.
#[derive(Default)]
pub(super) struct Waker {
    state: Mutex<State>,
    changed: Condvar,
}

impl Waker {
    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let waker = self.clone();
        let thread = std::thread::Builder::new().name("midge-wake".to_owned()).spawn(move || {
            begin_thread();
            waker.run();
        })?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).thread = Some(thread);
        Ok(())
    }

    /// Begins to signal.
    pub(super) fn call(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting = true;
        self.changed.notify_one();
    }

    /// Ends it: the broker's thread has come.
    pub(super) fn answered(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting = false;
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopping = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_one();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn run(&self) {
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let state =
                self.changed.wait_while(state, |state| !state.waiting && !state.stopping).unwrap_or_else(PoisonError::into_inner);
            if state.stopping {
                return;
            }
            wake_broker();
            drop(self.changed.wait_timeout_while(state, REPEAT, |state| state.waiting && !state.stopping));
        }
    }
}
