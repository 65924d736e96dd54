//! Every bound, with its default, its counter and what happens there.

use std::time::Duration;

use midge_mqtt::QoS;

use crate::retained::Bounds;

/// What gives way when a client's queue of QoS 1 and 2 is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The message that has waited longest; of a feed, the newest state is worth most.
    #[default]
    DropOldest,
    /// The new message; what was promised first is kept.
    DropNew,
}

/// What a loop offers and what it bears.
///
/// What is dropped at a bound is counted in [`Counters`]; the publisher is not told, as its message was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether what must survive is reported as records, and acknowledgements wait until these are committed.
    pub persistence: bool,
    /// The greatest QoS that clients may publish and are granted; a PUBLISH above it ends the connection with 0x9B.
    pub max_qos: QoS,
    /// Whether messages are retained; without, a PUBLISH or will with RETAIN ends the connection with 0x9A.
    pub retain: bool,
    /// Whether shared subscriptions are granted; without, they are answered with 0x9E.
    pub shared_subscriptions: bool,
    /// The largest packet taken from a client, in bytes; told to clients of 5.0, kept by the decoder.
    pub max_packet_size: u32,
    /// Messages of QoS 1 and 2 that a client may have unacknowledged towards us, from 1; more ends a connection of 5.0 with 0x93.
    pub receive_maximum: u16,
    /// Messages of QoS 1 and 2 in flight to a client, from 1, beside its own receive maximum; more wait in its queue.
    pub max_inflight: u16,
    /// Topic aliases that a client may use; a greater one ends the connection with 0x94.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards a client, beside its own maximum.
    pub max_outgoing_aliases: u16,
    /// The longest session expiry interval, in seconds; 0xFFFFFFFF means no limit. Longer ones are cut, and clients of 5.0 told.
    pub max_session_expiry: u32,
    /// The longest keep alive of clients of 5.0, in seconds; 0 means no limit. Longer ones, and none, are cut, and the client is told; older versions have no way to tell, so their own holds.
    pub max_keep_alive: u16,
    /// Sessions of this loop, at most 2^24; more are refused with 0x97.
    pub max_sessions: usize,
    /// Subscriptions of a client; more are answered with 0x97, before 5.0 with 0x80.
    pub max_subscriptions: usize,
    /// Levels of topic names and filters, from 1; deeper names are answered with 0x90, deeper filters with 0x8F.
    pub max_topic_levels: usize,
    /// Messages of QoS 1 and 2 that wait for a client.
    pub max_queued_messages: usize,
    /// Their bytes.
    pub max_queued_bytes: usize,
    /// What gives way there.
    pub when_full: WhenFull,
    /// Bytes that wait to be written to a client: beyond it, messages of QoS 0 are dropped and those above wait in the queue.
    pub max_outgoing_bytes: usize,
    /// Retained messages and their bytes; what is new is not retained, though delivered, and what it would have replaced is not either.
    pub retained: Bounds,
    /// Bytes that peers of all loops may take together, as [`crate::memory`] counts them; `usize::MAX` for no bound. Where it is short, what is new isn't queued or retained, then nobody comes in and nothing is subscribed to, as [`crate::memory::Share`] says.
    pub memory_max: usize,
    /// Bytes of idle buffers kept for reuse.
    pub spare_bytes: usize,
    /// How long it is remembered that a retained message was cleared, where there are several loops: longer than any loop lags behind another.
    pub tombstone: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            persistence: false,
            max_qos: QoS::ExactlyOnce,
            retain: true,
            shared_subscriptions: true,
            max_packet_size: midge_mqtt::MAX_PACKET_SIZE,
            receive_maximum: 1024,
            max_inflight: 100,
            topic_alias_maximum: 16,
            max_outgoing_aliases: 16,
            max_session_expiry: u32::MAX,
            max_keep_alive: 0,
            max_sessions: 1 << 24,
            max_subscriptions: 10_000,
            max_topic_levels: 256,
            max_queued_messages: 10_000,
            max_queued_bytes: 64 << 20,
            when_full: WhenFull::default(),
            max_outgoing_bytes: 1 << 20,
            retained: Bounds { messages: 1_000_000, bytes: 1 << 30 },
            memory_max: usize::MAX,
            spare_bytes: 8 << 20,
            tombstone: Duration::from_secs(60),
        }
    }
}

/// What there is in a loop now, and what has happened since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Sessions, with and without a connection.
    pub sessions: usize,
    /// Connections that have a session.
    pub connections: usize,
    /// Subscriptions, each member of a shared one counted where the group is kept.
    pub subscriptions: usize,
    /// Shared subscriptions kept here.
    pub shared_subscriptions: usize,
    /// Messages retained; every loop keeps all of them.
    pub retained_messages: usize,
    /// Their bytes.
    pub retained_bytes: usize,
    /// Messages of QoS 1 and 2 that wait for clients.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Messages taken from clients.
    pub received: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Messages written for clients.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Packets written for clients that are no messages.
    pub answers: u64,
    /// Messages of QoS 0 dropped because the client did not read fast enough.
    pub dropped_slow: u64,
    /// Messages of QoS 1 and 2 dropped because the client's queue was full.
    pub dropped_full: u64,
    /// Messages dropped, or not retained, because memory was short.
    pub dropped_memory: u64,
    /// Sessions and subscriptions refused because memory was short.
    pub refused_memory: u64,
    /// Messages dropped because they expired before they were sent.
    pub expired: u64,
    /// Messages not sent because the client takes no packet of that size.
    pub too_large: u64,
    /// Messages that a client wasn't allowed to publish.
    pub denied_publish: u64,
    /// Messages that a client wasn't allowed to receive.
    pub denied_receive: u64,
    /// Subscriptions refused by permission.
    pub denied_subscribe: u64,
    /// Subscriptions refused because a client has as many as it may.
    pub refused_subscriptions: u64,
    /// Topic names and filters refused because of their levels.
    pub refused_levels: u64,
    /// Sessions refused because there are as many as may be.
    pub refused_sessions: u64,
    /// Messages for a shared subscription that nobody was left for.
    pub dropped_shared: u64,
    /// Connections closed because their keep alive was over.
    pub keep_alive_timeouts: u64,
    /// Connections taken over by a newer one.
    pub takeovers: u64,
    /// Sessions whose expiry interval was over.
    pub expired_sessions: u64,
    /// Wills published.
    pub wills: u64,
}
