//! Changes of shared subscriptions, for the group's home loop.
//!
//! A group with members on several loops must pick one member for a message, so one loop keeps all of a group: its [`home`].
//! The loop of a member sends each change there with its next batch; [`SubscriptionTree::apply`] takes it in.

use midge_core::topic::TopicError;

use super::{SubscriberId, SubscriptionFilter, SubscriptionOptions, SubscriptionTree};
use crate::hash::HashKey;

/// A change that can wait in a batch for another loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A subscription was made or replaced.
    Add {
        /// The text of the topic filter, `$share/NAME/` included.
        filter: Box<str>,
        /// Who subscribed.
        subscriber: SubscriberId,
        /// How.
        options: SubscriptionOptions,
    },
    /// A subscription was withdrawn.
    Remove {
        /// The text of the topic filter, `$share/NAME/` included.
        filter: Box<str>,
        /// Whose it was.
        subscriber: SubscriberId,
    },
    /// The session is over, and all its subscriptions with it.
    RemoveAll {
        /// Whose session.
        subscriber: SubscriberId,
    },
    /// The client connected or left, and its session stays.
    Online {
        /// Whose client.
        subscriber: SubscriberId,
        /// Whether it is connected.
        online: bool,
    },
}

/// Returns the loop of `loops`, at least one, that keeps the group of a shared subscription; `None` for an ordinary one.
#[must_use]
pub fn home(key: &HashKey, filter: SubscriptionFilter<'_>, loops: u8) -> Option<u8> {
    let name = filter.share_name()?;
    let hash = key.text(name) ^ key.text(filter.filter().as_str()).rotate_left(1);
    u8::try_from(hash % u64::from(loops.max(1))).ok()
}

impl SubscriptionTree {
    /// Takes in a change that another loop sent.
    ///
    /// # Errors
    /// The filter is none; nothing was changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), TopicError> {
        match change {
            Change::Add { filter, subscriber, options } => {
                self.subscribe(SubscriptionFilter::new(filter)?, *subscriber, *options);
            }
            Change::Remove { filter, subscriber } => {
                self.unsubscribe(SubscriptionFilter::new(filter)?, *subscriber);
            }
            Change::RemoveAll { subscriber } => {
                self.remove_all(*subscriber);
            }
            Change::Online { subscriber, online } => self.set_online(*subscriber, *online),
        }
        Ok(())
    }
}
