//! Topic aliases, in both directions, for one connection.
//!
//! Towards the client a topic has one place, by the hash of its name, and takes it over from the topic that had it: recent topics have aliases, and nothing is searched.

use std::num::NonZeroU16;

use crate::frame::Alias;

/// The aliases of a connection.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    incoming: Vec<Option<Box<str>>>,
    outgoing: Vec<String>,
}

impl Aliases {
    /// Notes what the client's alias stands for from now on.
    pub(crate) fn set(&mut self, alias: NonZeroU16, topic: &str) {
        let at = usize::from(alias.get()) - 1;
        if self.incoming.len() <= at {
            self.incoming.resize(at + 1, None);
        }
        if self.incoming[at].as_deref() != Some(topic) {
            self.incoming[at] = Some(topic.into());
        }
    }

    /// Returns what the client's alias stands for.
    pub(crate) fn find(&self, alias: NonZeroU16) -> Option<&str> {
        self.incoming.get(usize::from(alias.get()) - 1)?.as_deref()
    }

    /// Returns the alias of a topic towards the client, one of `maximum`, at least 1.
    pub(crate) fn assign(&mut self, topic: &str, hash: u64, maximum: u16) -> Alias {
        if self.outgoing.len() < usize::from(maximum) {
            self.outgoing.resize(usize::from(maximum), String::new());
        }
        let place = u16::try_from(hash % u64::from(maximum.max(1))).unwrap_or(0);
        let number = NonZeroU16::MIN.saturating_add(place);
        let known = &mut self.outgoing[usize::from(place)];
        let alias = Alias { number, known: known == topic };
        if !alias.known {
            known.clear();
            known.push_str(topic);
        }
        alias
    }

    /// Forgets an alias that the client was not told after all.
    pub(crate) fn unassign(&mut self, alias: Alias) {
        if let Some(known) = self.outgoing.get_mut(usize::from(alias.number.get()) - 1).filter(|_| !alias.known) {
            known.clear();
        }
    }
}
