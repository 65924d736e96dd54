//! MQTT packets to bytes and back, for 3.1, 3.1.1 and 5.0.
//!
//! * [`decode`] reads one packet in place: what it returns borrows from the input and nothing is
//!   allocated. What comes out has been checked as far as one packet alone can be checked; each
//!   violation is a [`DecodeError`] that knows its reason code and its clause of the standard.
//! * [`Packet::encode`] appends to a buffer, once, after computing the exact length.
//! * [`FrameHeader::peek`] tells type and size from the first bytes, so that a packet too large
//!   is refused before it is buffered.
//! * [`PublishLayout`] and [`PublishHeader`] let a fan-out share everything of a PUBLISH but the
//!   few bytes that differ from target to target.
//!
//! What needs a connection's history (packet identifiers in use, topic aliases, receive maximum,
//! what the server supports) is not judged here.
//!
//! Where the standards leave the choice to the receiver: control characters and non-characters
//! (U+0001 to U+001F, U+007F to U+009F, U+FFFE and the like) are accepted in every string, and a
//! payload is not compared with its payload format indicator unless
//! [`Publish::payload_fits_format`] is asked.

mod clause;
mod decode;
mod error;
mod frame;
mod layout;
mod packet;
mod properties;
mod property;
mod reason;
mod sequence;
mod topic;
mod value;
#[cfg(feature = "vectors")]
pub mod vectors;
mod wire;

pub use decode::{Decoded, Peer, Rules, decode, decode_frame};
pub use error::{DecodeError, EncodeError};
pub use frame::{FrameHeader, MAX_PACKET_SIZE, MAX_REMAINING_LENGTH, PacketType};
pub use layout::{PublishHeader, PublishLayout, SharedTail, publish_first_byte};
pub use packet::Packet;
pub use packet::acknowledge::{Puback, Pubcomp, Pubrec, Pubrel};
pub use packet::auth::Auth;
pub use packet::connack::Connack;
pub use packet::connect::{Connect, Will};
pub use packet::disconnect::Disconnect;
pub use packet::publish::{Delivery, Publish};
pub use packet::suback::{ReasonCodes, Suback, Unsuback};
pub use packet::subscribe::{Subscribe, Subscription, Subscriptions, TopicFilters, Unsubscribe};
pub use properties::{Place, Properties};
pub use property::{Property, PropertyId};
pub use reason::ReasonCode;
pub use topic::{SharedFilter, check_topic_filter, check_topic_name};
pub use value::{PacketId, ProtocolVersion, QoS, RetainHandling, Sender, SubscriptionId};
