//! What matched a message, each subscriber once.
//!
//! The standard lets a server send one copy for overlapping subscriptions, with the greatest QoS and all identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3], or one for each.
//! [`Matches`] is for one copy; who wants several reads [`SubscriptionTree::matches`] itself.

use midge_mqtt::{QoS, SubscriptionId};

use super::{GroupRef, SubscriberId, Subscription, SubscriptionTree, Target};
use crate::hash::HashedTopic;

/// A buffer for the subscriptions that matched; kept between messages, it allocates only to sort long lists that overlap.
#[derive(Debug, Default)]
pub struct Matches {
    found: Vec<Subscription>,
    lists: usize,
    left_out: bool,
}

/// One copy of the message for one subscriber.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a>(&'a [Subscription]);

impl Matches {
    /// Collects what matches `topic`; groups go to `shared` at once.
    ///
    /// Subscriptions with no-local are left out where the subscriber is the `publisher` [MQTT-3.8.3-3].
    pub fn collect<'t>(
        &mut self,
        tree: &'t SubscriptionTree,
        topic: &HashedTopic<'_>,
        publisher: Option<SubscriberId>,
        mut shared: impl FnMut(GroupRef<'t>),
    ) {
        self.found.clear();
        self.lists = 0;
        self.left_out = false;
        tree.matches(topic, &mut |target| match target {
            Target::Subscribers(subscribers) => {
                self.lists += 1;
                for run in subscribers.runs() {
                    match publisher {
                        None => self.found.extend_from_slice(run),
                        Some(publisher) => {
                            let before = self.found.len();
                            self.found
                                .extend(run.iter().filter(|found| found.subscriber != publisher || !found.options.no_local()));
                            self.left_out |= self.found.len() - before < run.len();
                        }
                    }
                }
            }
            Target::Group(group) => shared(group),
        });
        // The subscribers of one filter are in order already.
        if self.lists > 1 {
            self.found.sort_by_key(|found| found.subscriber);
        }
    }

    /// Returns one delivery for each subscriber, in ascending order: grouped by loop.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery<'_>> {
        self.found.chunk_by(|a, b| a.subscriber == b.subscriber).map(Delivery)
    }

    /// Returns how many subscriptions matched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns whether nothing matched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns whether a subscription of the publisher matched and was left out.
    #[must_use]
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    /// Gives memory back after a message with very many subscribers.
    pub fn shrink_to(&mut self, subscriptions: usize) {
        self.found.clear();
        self.found.shrink_to(subscriptions);
    }
}

impl<'a> Delivery<'a> {
    /// Returns who gets the copy.
    #[must_use]
    pub fn subscriber(self) -> SubscriberId {
        self.0[0].subscriber
    }

    /// Returns the greatest QoS of the subscriptions.
    #[must_use]
    pub fn qos(self) -> QoS {
        self.0.iter().map(|found| found.options.qos()).max().unwrap_or_default()
    }

    /// Returns whether a subscription wants the RETAIN flag as it was published.
    #[must_use]
    pub fn retain_as_published(self) -> bool {
        self.0.iter().any(|found| found.options.retain_as_published())
    }

    /// Returns the subscription identifiers, each as often as it was given.
    pub fn identifiers(self) -> impl Iterator<Item = SubscriptionId> + 'a {
        self.0.iter().filter_map(|found| found.options.identifier())
    }

    /// Returns the subscriptions, at least one.
    #[must_use]
    pub fn subscriptions(self) -> &'a [Subscription] {
        self.0
    }
}
