//! Answers whoever waits, exactly once, whatever happens.
//!
//! The callback belongs to somebody else: what it breaks stays with it, and never ends a thread of the service.

use crate::guarded::guarded;

/// A callback that has not been called yet; one that is forgotten is called with `otherwise`.
pub(super) struct Reply<T> {
    done: Option<Box<dyn FnOnce(T) + Send>>,
    otherwise: fn() -> T,
}

impl<T> Reply<T> {
    pub(super) fn new(done: Box<dyn FnOnce(T) + Send>, otherwise: fn() -> T) -> Self {
        Self { done: Some(done), otherwise }
    }

    pub(super) fn send(mut self, answer: T) {
        self.call(|| answer);
    }

    fn call(&mut self, answer: impl FnOnce() -> T) {
        if let Some(done) = self.done.take() {
            guarded(|| done(answer()));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let otherwise = self.otherwise;
        self.call(otherwise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_callback_is_called_once_even_when_it_is_forgotten_or_panics() {
        let (sender, answers) = channel();
        let reply = |sender: std::sync::mpsc::Sender<u8>| Reply::new(Box::new(move |answer| sender.send(answer).unwrap()), || 9);
        reply(sender.clone()).send(1);
        drop(reply(sender.clone()));
        guarded(|| {
            let _forgotten = reply(sender);
            panic!("in between");
        });
        Reply::new(Box::new(|_: u8| panic!("in a callback")), || 9).send(2);
        assert_eq!(answers.iter().collect::<Vec<_>>(), [1, 9, 9]);
    }
}
