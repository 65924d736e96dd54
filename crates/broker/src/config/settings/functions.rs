//! Settings of what the server does beside MQTT.

use std::sync::Arc;
use std::time::Duration;

use midge_core::hot::RollUp;

use super::super::section::Setting;
use super::Draft;

pub(super) const AUTOSUB: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "autosub",
        "true",
        super::SWITCH,
        "Whether clients are subscribed to what their lists in the store say.",
        |s, v| v.switch().map(|v| s.users.gate.directory.lists = v),
    ),
    Setting::<Draft>::new(
        "autosub_per_client",
        "1000",
        "a number from 0 to 100000",
        "Automatic subscriptions of one client; those beyond, of the lists farthest from it, are not made, counted and logged.",
        |s, v| v.number(0, 100_000).map(|v| s.users.max_automatic = v),
    ),
    Setting::<Draft>::new(
        "autosub_client_lists",
        "100000",
        "a number from 0 to 10000000",
        "Lists of single client identifiers that are held; further ones subscribe nobody, which the log says.",
        |s, v| v.number(0, 10_000_000).map(|v| s.users.gate.directory.client_lists = v),
    ),
];

/// A day, in seconds.
const DAY: u64 = 86_400;

pub(super) const PRESENCE: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "presence",
        "true",
        super::SWITCH,
        "Whether the store is told who is online, with events unless it is a directory; it takes `report` and a further thread.",
        |s, v| v.switch().map(|v| s.presence = v),
    ),
    Setting::<Draft>::new(
        "presence_events",
        "100000",
        "a number from 1 to 100000000",
        "About how many events the store keeps: who came, who went, what was denied; beyond, the oldest are dropped.",
        |s, v| v.number(1, 100_000_000).map(|v| s.presence_settings.bounds.events = v),
    ),
    Setting::<Draft>::new(
        "presence_seen",
        "30d",
        "a time from 0s to 366d; 0s switches it off",
        "How long the store keeps when a user was there last.",
        |s, v| v.duration(Duration::ZERO, Duration::from_secs(366 * DAY)).map(|v| s.presence_settings.bounds.seen = v),
    ),
    Setting::<Draft>::new(
        "offline_stream",
        "false",
        super::SWITCH,
        "Whether messages that are kept for clients that are away are copied into the store's stream, \
         for a service that reaches these otherwise.",
        |s, v| v.switch().map(|v| s.presence_settings.missed = v),
    ),
    Setting::<Draft>::new(
        "offline_stream_kept",
        "100000",
        "a number from 1 to 100000000",
        "About how many of these messages the store keeps; beyond, the oldest are dropped.",
        |s, v| v.number(1, 100_000_000).map(|v| s.presence_settings.bounds.missed = v),
    ),
    Setting::<Draft>::new(
        "offline_stream_rate",
        "1000",
        "a number from 1 to 100000",
        "How many of these messages are copied in a second at most; further ones are counted.",
        |s, v| v.number(1, 100_000).map(|v| s.presence_settings.missed_rate = v),
    ),
    Setting::<Draft>::new(
        "offline_stream_payload",
        "4096",
        "a number from 0 to 262144",
        "Bytes of the longest payload that is copied; of a longer one the size is told.",
        |s, v| v.number(0, 262_144).map(|v| s.presence_settings.missed_payload = v),
    ),
];

pub(super) const HOT: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "hot",
        "true",
        super::SWITCH,
        "Whether publishes are counted by topic and added up in the store; it takes a further thread and connection.",
        |s, v| v.switch().map(|v| s.hot = v),
    ),
    Setting::<Draft>::new(
        "hot_patterns",
        "none",
        "up to 64 topic filters between commas, none of which begins with $",
        "Filters under which topics are counted together, such as `chat/+/msg`; the first that matches takes a topic.",
        |s, v| {
            let patterns = RollUp::new(v.text.split(',').map(str::trim)).map_err(|error| error.to_string())?;
            s.hot_settings.roll_up = Arc::new(patterns);
            Ok(())
        },
    )
    .in_words(),
    Setting::<Draft>::new(
        "hot_list",
        "20",
        "a number from 0 to 1000; 0 publishes none",
        "How many topics each list below `$SYS/midge/hot/` has.",
        |s, v| v.number(0, 1_000).map(|v| s.hot_settings.list = v),
    ),
    Setting::<Draft>::new("hot_interval", "10s", "a time from 1s to 1h", "How often these lists are published.", |s, v| {
        v.duration(Duration::from_secs(1), Duration::from_secs(3_600)).map(|v| s.hot_settings.interval = v)
    }),
];
