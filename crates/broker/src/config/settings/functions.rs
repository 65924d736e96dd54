//! Settings of what the server does beside MQTT.

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
