//! Knows whether the store has any user at all.
//!
//! As long as it has none, nobody could log in, and clients of this very machine need no username.
//! The first user that is found ends that for the life of the server; a store that can't be asked never begins it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use midge_store::{Backend, KeyKind, Page, Store, StoreError};

/// How long each look at the store is apart from the next.
const PAUSE: Duration = Duration::from_millis(250);
/// How many pages of the store's keys are looked at before anybody is let in.
const AT_ONCE: usize = 100;

/// Looks for users until there is one.
pub(super) struct House {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    open: AtomicBool,
    stopping: Mutex<bool>,
    stopped: Condvar,
}

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// There is a user.
    User,
    /// All keys have been looked at, and none is a user's.
    Nobody,
    /// There is more to look at.
    Part,
}

impl House {
    /// Returns a house that stays closed.
    pub(super) fn closed() -> Self {
        Self { state: Arc::default(), thread: None }
    }

    /// Looks at the store now, and goes on as long as no user is found; `ring` is called when the house is closed.
    pub(super) fn watch(backend: Arc<dyn Backend>, ring: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let mut house = Self::closed();
        let mut search = Search { backend, store: None, page: Page::default() };
        for _ in 0..AT_ONCE {
            match search.look() {
                Ok(Seen::User) => return Ok(house),
                Ok(Seen::Part) => {}
                Ok(Seen::Nobody) => {
                    house.state.open.store(true, Ordering::Release);
                    break;
                }
                Err(_) => break,
            }
        }
        let state = house.state.clone();
        let body = move || {
            while state.wait() {
                match search.look() {
                    Ok(Seen::User) => {
                        if state.open.swap(false, Ordering::AcqRel) {
                            log::info!("there are users now: who has no username may no longer do everything");
                            ring();
                        }
                        return;
                    }
                    Ok(Seen::Nobody) => state.open.store(true, Ordering::Release),
                    Ok(Seen::Part) | Err(_) => {}
                }
            }
        };
        house.thread = Some(std::thread::Builder::new().name("midge-users".to_owned()).spawn(body)?);
        Ok(house)
    }

    /// Returns whether the store has no user, as far as anybody has looked.
    pub(super) fn is_open(&self) -> bool {
        self.state.open.load(Ordering::Acquire)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        *self.state.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Waits until the next look; returns whether there shall be one.
    fn wait(&self) -> bool {
        let stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopping, _) =
            self.stopped.wait_timeout_while(stopping, PAUSE, |stopping| !*stopping).unwrap_or_else(PoisonError::into_inner);
        !*stopping
    }
}

struct Search {
    backend: Arc<dyn Backend>,
    store: Option<Box<dyn Store>>,
    page: Page,
}

impl Search {
    /// Looks at one page of keys, going on where the last look ended.
    fn look(&mut self) -> Result<Seen, StoreError> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(self.backend.connect()?),
        };
        let answer = store.list_page(KeyKind::User, &self.page);
        if answer.is_err() {
            (self.store, self.page) = (None, Page::default());
        }
        let (keys, more) = answer?;
        let seen = match (keys.is_empty(), &more) {
            (false, _) => Seen::User,
            (true, Some(_)) => Seen::Part,
            (true, None) => Seen::Nobody,
        };
        self.page = more.unwrap_or_default();
        Ok(seen)
    }
}
