//! Settings of what clients may take, all of it bounded.

use std::time::Duration;

use midge_engine::limits::WhenFull;
use midge_mqtt::QoS;

use super::super::section::Setting;
use super::{Draft, SWITCH};

pub(super) const CONNECTIONS: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "memory_max",
        "half of the memory of the machine, or of the control group",
        "a size from 1 MiB to 1024 GiB, or none",
        "Bytes that clients may take together: partial packets, output, queued and retained messages, sessions and subscriptions. \
         Beyond six eighths, what is new is neither queued nor retained; beyond seven, new sessions are refused with 0x89 (server busy), \
         subscriptions with 0x97 (quota exceeded), and clients that don't read get nothing more; \
         at the bound, or a quarter of it for partial packets, whoever has the largest is closed with 0x97.",
        |s, v| {
            let bound = v.unless_none(|v| v.size(1 << 20, 1 << 40))?;
            s.engine.memory_max = bound.unwrap_or(usize::MAX);
            Ok(())
        },
    )
    .in_words(),
    Setting::<Draft>::new(
        "max_connections",
        "1000000",
        "a number from 1 to 10000000",
        "Connections of all listeners together; more are closed as soon as they are accepted.",
        |s, v| v.number(1, 10_000_000).map(|v| s.connections.max = v),
    ),
    Setting::<Draft>::new(
        "max_connections_per_user",
        "none",
        "a number from 1 to 10000000, or none",
        "Connections of one user; a further one is refused with 0x97 (quota exceeded).",
        |s, v| v.bound(10_000_000).map(|v| s.connections.max_per_user = v),
    ),
    Setting::<Draft>::new(
        "max_connections_per_address",
        "none",
        "a number from 1 to 10000000, or none",
        "Connections from one IP address; more are closed as soon as they are accepted.",
        |s, v| v.bound(10_000_000).map(|v| s.connections.max_per_address = v),
    ),
    Setting::<Draft>::new(
        "connect_rate",
        "none",
        "a number from 1 to 1000000, or none",
        "Connections accepted in a second, of all listeners together; more wait in the operating system's queue.",
        |s, v| {
            s.connections.rate = v.unless_none(|v| v.number(1, 1_000_000))?.and_then(super::at_most_per_second);
            Ok(())
        },
    ),
    Setting::<Draft>::new(
        "backlog",
        "4096",
        "a number from 1 to 65535",
        "Connections that wait to be accepted, for each listener; the operating system may bear fewer.",
        |s, v| v.number(1, 65_535).map(|v| s.connections.backlog = v),
    ),
    Setting::<Draft>::new(
        "login_timeout",
        "10s",
        "a time from 100ms to 10m",
        "How long a connection may take until its CONNECT is there, all handshakes included.",
        |s, v| v.duration(Duration::from_millis(100), Duration::from_secs(600)).map(|v| s.connections.login_timeout = v),
    ),
    Setting::<Draft>::new(
        "close_timeout",
        "5s",
        "a time from 0s to 1m",
        "How long a closing connection may take for its last bytes.",
        |s, v| v.duration(Duration::ZERO, Duration::from_secs(60)).map(|v| s.connections.close_timeout = v),
    ),
    Setting::<Draft>::new(
        "max_connect_size",
        "384 KiB",
        "a size from 1 KiB to 16 MiB",
        "The largest CONNECT: it is buffered before anybody knows who sends it.",
        |s, v| v.size(1 << 10, 16 << 20).map(|v| s.connections.max_connect_size = v),
    ),
    Setting::<Draft>::new(
        "max_packet_size",
        "1 MiB",
        "a size from 20 bytes to 256 MiB",
        "The largest packet taken from a client; a larger one ends its connection with 0x95 (packet too large).",
        |s, v| v.size(20, 256 << 20).map(|v| s.engine.max_packet_size = v),
    ),
    Setting::<Draft>::new(
        "max_outgoing_bytes",
        "1 MiB",
        "a size from 4 KiB to 1 GiB",
        "Bytes that wait to be written to a client; beyond it, messages of QoS 0 are dropped and those above wait in its queue.",
        |s, v| v.size(4 << 10, 1 << 30).map(|v| s.engine.max_outgoing_bytes = v),
    ),
    Setting::<Draft>::new(
        "max_keep_alive",
        "none",
        "a time from 1s to 65535s, or none",
        "The longest keep alive of clients of MQTT 5.0; longer ones are cut, and the client is told.",
        |s, v| {
            let seconds = v.unless_none(|v| v.seconds(Duration::from_secs(1), Duration::from_secs(65_535)))?;
            s.engine.max_keep_alive = seconds.unwrap_or(0);
            Ok(())
        },
    ),
    Setting::<Draft>::new(
        "spare_bytes",
        "8 MiB",
        "a size from 0 to 1 GiB",
        "Idle buffers that each event loop keeps for reuse.",
        |s, v| v.size(0, 1 << 30).map(|v| s.engine.spare_bytes = v),
    ),
];

pub(super) const ENGINE: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "max_qos",
        "2",
        "0, 1 or 2",
        "The greatest QoS that clients may publish and are granted; a PUBLISH above it ends the connection with 0x9B.",
        |s, v| {
            let all = [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)];
            v.one_of(&all).map(|v| s.engine.max_qos = v)
        },
    ),
    Setting::<Draft>::new(
        "retain",
        "true",
        SWITCH,
        "Whether messages are retained; without, a PUBLISH or will with RETAIN ends the connection with 0x9A.",
        |s, v| v.switch().map(|v| s.engine.retain = v),
    ),
    Setting::<Draft>::new(
        "shared_subscriptions",
        "true",
        SWITCH,
        "Whether shared subscriptions are granted; without, they are answered with 0x9E.",
        |s, v| v.switch().map(|v| s.engine.shared_subscriptions = v),
    ),
    Setting::<Draft>::new(
        "receive_maximum",
        "1024",
        "a number from 1 to 65535",
        "Messages of QoS 1 and 2 that a client may have unacknowledged towards us; more end a connection of MQTT 5.0 with 0x93.",
        |s, v| v.number(1, u16::MAX).map(|v| s.engine.receive_maximum = v),
    ),
    Setting::<Draft>::new(
        "max_inflight",
        "100",
        "a number from 1 to 65535",
        "Messages of QoS 1 and 2 in flight to a client, beside its own receive maximum; more wait in its queue.",
        |s, v| v.number(1, u16::MAX).map(|v| s.engine.max_inflight = v),
    ),
    Setting::<Draft>::new(
        "topic_alias_maximum",
        "16",
        "a number from 0 to 65535",
        "Topic aliases that a client may use; a greater one ends the connection with 0x94.",
        |s, v| v.number(0, u16::MAX).map(|v| s.engine.topic_alias_maximum = v),
    ),
    Setting::<Draft>::new(
        "max_outgoing_aliases",
        "16",
        "a number from 0 to 65535",
        "Topic aliases used towards a client, beside its own maximum.",
        |s, v| v.number(0, u16::MAX).map(|v| s.engine.max_outgoing_aliases = v),
    ),
    Setting::<Draft>::new(
        "max_session_expiry",
        "none",
        "a time from 1s to 366d, or none",
        "The longest session expiry interval; longer ones are cut, and clients of MQTT 5.0 told.",
        |s, v| {
            let seconds = v.unless_none(|v| v.seconds(Duration::from_secs(1), Duration::from_secs(366 * 86_400)))?;
            s.engine.max_session_expiry = seconds.unwrap_or(u32::MAX);
            Ok(())
        },
    ),
    Setting::<Draft>::new(
        "max_sessions",
        "16777216",
        "a number from 1 to 16777216",
        "Sessions of each event loop, with and without a connection; more are refused with 0x97 (quota exceeded).",
        |s, v| v.number(1, 1 << 24).map(|v| s.engine.max_sessions = v),
    ),
    Setting::<Draft>::new(
        "max_subscriptions",
        "10000",
        "a number from 1 to 1000000",
        "Subscriptions of a client; more are answered with 0x97 (quota exceeded), before MQTT 5.0 with 0x80.",
        |s, v| v.number(1, 1_000_000).map(|v| s.engine.max_subscriptions = v),
    ),
    Setting::<Draft>::new(
        "max_topic_levels",
        "256",
        "a number from 1 to 32768",
        "Levels of topic names and filters; deeper names are answered with 0x90, deeper filters with 0x8F.",
        |s, v| v.number(1, 32_768).map(|v| s.engine.max_topic_levels = v),
    ),
    Setting::<Draft>::new(
        "max_queued_messages",
        "10000",
        "a number from 0 to 10000000",
        "Messages of QoS 1 and 2 that wait for a client.",
        |s, v| v.number(0, 10_000_000).map(|v| s.engine.max_queued_messages = v),
    ),
    Setting::<Draft>::new(
        "max_queued_bytes",
        "64 MiB",
        "a size from 0 to 64 GiB",
        "Bytes of the messages of QoS 1 and 2 that wait for a client.",
        |s, v| v.size(0, 64 << 30).map(|v| s.engine.max_queued_bytes = v),
    ),
    Setting::<Draft>::new(
        "when_full",
        "drop-oldest",
        "drop-oldest or drop-new",
        "What gives way where more would wait: the message that has waited longest, or the new one; both are counted.",
        |s, v| {
            let all = [("drop-oldest", WhenFull::DropOldest), ("drop-new", WhenFull::DropNew)];
            v.one_of(&all).map(|v| s.engine.when_full = v)
        },
    ),
    Setting::<Draft>::new(
        "max_retained_messages",
        "1000000",
        "a number from 0 to 1000000000",
        "Retained messages; beyond it what is new is delivered, counted and not retained.",
        |s, v| v.number(0, 1_000_000_000).map(|v| s.engine.retained.messages = v),
    ),
    Setting::<Draft>::new(
        "max_retained_bytes",
        "1 GiB",
        "a size from 0 to 1024 GiB",
        "Bytes of retained messages and their topics; beyond it what is new is delivered, counted and not retained.",
        |s, v| v.size(0, 1 << 40).map(|v| s.engine.retained.bytes = v),
    ),
    Setting::<Draft>::new(
        "tombstone",
        "60s",
        "a time from 1s to 1h",
        "How long it is remembered that a retained message was cleared: longer than any event loop lags behind another.",
        |s, v| v.duration(Duration::from_secs(1), Duration::from_secs(3600)).map(|v| s.engine.tombstone = v),
    ),
];
