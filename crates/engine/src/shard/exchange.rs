//! Takes in what another loop tells, and tells.

use super::Shard;
use super::commit::Then;
use crate::exchange::{Reach, ToLoop};
use crate::permission::Turn;

impl Shard {
    /// Takes what another loop told this one.
    pub fn receive(&mut self, told: ToLoop, turn: &Turn<'_>) {
        match told {
            ToLoop::Publish { message, reply } => self.route_from(&message, reply, turn),
            ToLoop::Deliver { message, subscriber, shared, options, attempts, reply } => {
                self.deliver_from(&message, (subscriber, options), &shared, attempts, reply, turn);
            }
            ToLoop::Redeliver { message, shared, qos, attempts, reply } => {
                self.redeliver_here(&message, &shared, qos, attempts, reply, turn);
            }
            ToLoop::Group { change, reply } => {
                // The filter was checked where the subscription was made.
                let applied = self.tree.apply(&change);
                debug_assert!(applied.is_ok(), "{change:?}");
                if let Some(reply) = reply {
                    let nobody = self.awaiting(false);
                    self.settle(nobody, 0, Then::Reply(reply, Reach::default()), turn);
                }
            }
            ToLoop::Push { message, audience, reply } => self.pushed_here(message, audience, reply, turn),
            ToLoop::Done { ticket, reach } => self.answered(ticket, reach, turn),
        }
    }

    /// Tells a loop something, which may be this one.
    pub(super) fn tell(&mut self, event_loop: u8, told: ToLoop, turn: &Turn<'_>) {
        if event_loop == self.place.event_loop {
            return self.receive(told, turn);
        }
        if let Some(outbox) = self.outboxes.get_mut(usize::from(event_loop)) {
            outbox.push(told);
        }
    }
}
