//! Settings of the process, its files, its store and its log.

use std::time::Duration;

use midge_core::key::KeySpace;
use midge_core::setting::without_password;
use midge_store::WatchPolicy;

use super::super::LogFormat;
use super::super::section::Setting;
use super::super::value::Value;
use super::Draft;

pub(super) const SERVER: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "data",
        "systemd's STATE_DIRECTORY; /var/lib/midge for root; ~/.local/share/midge for others",
        "a directory, which is made where it isn't there",
        "Where everything is kept that outlives the process.",
        |s, v| v.path().map(|v| s.data = Some(v)),
    )
    .in_words(),
    Setting::<Draft>::new(
        "node",
        "the host's name",
        "a text",
        "What this broker is called among several, each of which needs another name: its state and its pushes are kept under this one.",
        |s, v| v.text().map(|v| s.node = Some(v)),
    )
    .in_words(),
    Setting::<Draft>::new(
        "threads",
        "as many as there are cores",
        "a number from 1 to 255",
        "Event loops, each of which has clients of its own.",
        |s, v| v.number(1, u8::MAX).map(|v| s.threads = v),
    )
    .in_words(),
    Setting::<Draft>::new(
        "sys_interval",
        "10s",
        "a time from 0s to 1h; 0s switches it off",
        "How often the topics below $SYS are published.",
        |s, v| {
            let interval = v.duration(Duration::ZERO, Duration::from_secs(3600))?;
            s.sys_interval = Some(interval).filter(|interval| !interval.is_zero());
            Ok(())
        },
    ),
];

pub(super) const PUSHES: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "push",
        "true",
        super::SWITCH,
        "Whether pushes that applications write into the store are passed on; it takes a further thread and connection.",
        |s, v| v.switch().map(|v| s.push = v),
    ),
    Setting::<Draft>::new(
        "push_queue",
        "1000",
        "a number from 1 to 100000",
        "Pushes that wait in memory; at the bound the others wait in the store.",
        |s, v| v.number(1, 100_000).map(|v| s.push_settings.queue = v),
    ),
    Setting::<Draft>::new(
        "push_queue_bytes",
        "16777216",
        "a number from 1 to 1073741824",
        "Bytes of the pushes that wait in memory; at the bound no further batch of up to 256 is read.",
        |s, v| v.number(1, 1 << 30).map(|v| s.push_settings.queue_bytes = v),
    ),
    Setting::<Draft>::new(
        "push_backlog",
        "1000000",
        "a number from 1 to 1000000000",
        "Pushes kept in the store for brokers that have not read them; at the bound the oldest are dropped, counted and logged.",
        |s, v| v.number(1, 1_000_000_000).map(|v| s.push_settings.backlog = v),
    ),
    Setting::<Draft>::new(
        "push_absence",
        "7d",
        "a time from 1m to 366d",
        "How long the store keeps pushes for a broker that doesn't come back.",
        |s, v| v.duration(Duration::from_secs(60), Duration::from_secs(366 * 86_400)).map(|v| s.push_settings.absence = v),
    ),
    Setting::<Draft>::new(
        "push_id_ttl",
        "24h",
        "a time from 1s to 30d",
        "How long the identifier of a push makes a second one void.",
        |s, v| v.duration(Duration::from_secs(1), Duration::from_secs(30 * 86_400)).map(|v| s.push_settings.id_ttl = v),
    ),
    Setting::<Draft>::new(
        "push_dead_letters",
        "10000",
        "a number from 1 to 10000000",
        "Entries kept of those that were no pushes; at the bound the oldest are dropped.",
        |s, v| v.number(1, 10_000_000).map(|v| s.push_settings.dead_letters = v),
    ),
];

pub(super) const JOURNAL: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "persistence",
        "true",
        super::SWITCH,
        "Whether sessions, retained messages and what waits for clients survive the end of the process; \
         without, an acknowledgement promises nothing beyond it.",
        |s, v| v.switch().map(|v| s.engine.persistence = v),
    ),
    Setting::<Draft>::new("journal", "the folder journal in the data directory", "a directory", "Where these are kept.", |s, v| {
        v.path().map(|v| s.journal.directory = v)
    })
    .in_words(),
    Setting::<Draft>::new(
        "journal_queue_bytes",
        "64 MiB",
        "a size from 64 KiB to 64 GiB",
        "What may wait for the disk; beyond it nothing is read from clients until there is room.",
        |s, v| v.size(64 << 10, 64 << 30).map(|v| s.journal.queue_bytes = v),
    ),
    Setting::<Draft>::new(
        "journal_compact_bytes",
        "64 MiB",
        "a size from 64 KiB to 1024 GiB",
        "The journal is compacted only where it has grown by this much.",
        |s, v| v.size(64 << 10, 1 << 40).map(|v| s.journal.compact_bytes = v),
    ),
    Setting::<Draft>::new(
        "journal_compact_percent",
        "100",
        "a number from 1 to 10000",
        "The journal is compacted where it has grown by this many per cent of what was alive then.",
        |s, v| v.number(1, 10_000).map(|v| s.journal.compact_percent = v),
    ),
    Setting::<Draft>::new(
        "journal_compact_age",
        "1h",
        "a time from 1m to 366d",
        "When the journal is compacted at the latest: so long does a message stay on disk that nobody waits for any more.",
        |s, v| v.duration(Duration::from_secs(60), Duration::from_secs(366 * 86_400)).map(|v| s.journal.compact_age = v),
    ),
    Setting::<Draft>::new(
        "journal_retry",
        "1s",
        "a time from 10ms to 1m",
        "How long to wait after a failed write before the next attempt; nothing is acknowledged meanwhile.",
        |s, v| v.duration(Duration::from_millis(10), Duration::from_secs(60)).map(|v| s.journal.retry = v),
    ),
];

pub(super) const STORE: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "store",
        "an embedded store in the data directory",
        "file:DIRECTORY, or a URL: redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://",
        "Where the users and rules are.",
        |s, v| {
            // A directory is relative to the file that names it, as every other path is.
            s.store = Some(match v.text.strip_prefix("file:") {
                Some(directory) if !directory.is_empty() && !directory.starts_with("//") => {
                    format!("file:{}", v.base.join(directory).display())
                }
                _ => v.text()?,
            });
            Ok(())
        },
    )
    .in_words()
    .shown_as(without_password),
    Setting::<Draft>::new(
        "store_user",
        "none",
        "a name",
        "The name to log in to the store with, where it is not in the URL.",
        |s, v| v.text().map(|v| s.store_user = Some(v)),
    )
    .in_words(),
    Setting::<Draft>::new(
        "store_password",
        "none",
        "a text",
        "The password for the store, where it is not in the URL.",
        |s, v| v.text().map(|v| s.store_password = Some(v)),
    )
    .in_words()
    .shown_as(|_| "…".to_owned()),
    Setting::<Draft>::new(
        "store_password_file",
        "none",
        "a readable file",
        "A file with the password for the store; its last line end is not part of it.",
        |s, v| {
            let password = std::fs::read_to_string(v.path()?).map_err(|error| format!("it can't be read: {error}"))?;
            s.store_password = Some(password.trim_end_matches(['\r', '\n']).to_owned());
            Ok(())
        },
    )
    .in_words(),
    Setting::<Draft>::new("schema", "midge", "midge", "Whose keys the store holds.", |_, v| {
        v.one_of(&[("midge", ()), ("native", ())])
    }),
    Setting::<Draft>::new("prefix", "midge:", "a text", "What every key begins with.", |s, v| {
        s.store_settings.keys = KeySpace::new(v.text);
        Ok(())
    }),
    Setting::<Draft>::new("connect_timeout", "3s", "a time from 10ms to 60s", "How long a connection to the store may take.", |s, v| {
        v.duration(Duration::from_millis(10), Duration::from_secs(60)).map(|v| s.store_settings.connect_timeout = v)
    }),
    Setting::<Draft>::new(
        "response_timeout",
        "5s",
        "a time from 10ms to 60s",
        "How long the store may take for an answer, before it counts as away.",
        |s, v| v.duration(Duration::from_millis(10), Duration::from_secs(60)).map(|v| s.store_settings.response_timeout = v),
    ),
    Setting::<Draft>::new(
        "watch",
        "auto",
        "auto, tracking, keyspace or polling",
        "How changes in the store are followed; auto takes the first of the others that the store allows.",
        |s, v| {
            use WatchPolicy::{Auto, Keyspace, Polling, Tracking};
            let policies = [("auto", Auto), ("tracking", Tracking), ("keyspace", Keyspace), ("polling", Polling)];
            v.one_of(&policies).map(|v| s.store_settings.watch = v)
        },
    ),
    Setting::<Draft>::new(
        "report",
        "true",
        super::SWITCH,
        "Whether the store is told every two seconds how this broker is, for `midge status`.",
        |s, v| v.switch().map(|v| s.report = v),
    ),
    Setting::<Draft>::new(
        "metrics",
        "none",
        "none, or an IP address and a port, such as 127.0.0.1:9234",
        "Where Prometheus is answered, without a password.",
        |s, v| v.unless_none(Value::socket_address).map(|v| s.metrics = v),
    ),
];

pub(super) const LOG: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "log_level",
        "info",
        "error, warn, info or debug",
        "From which level on something is logged; it goes to standard error.",
        |s, v| {
            use log::LevelFilter::{Debug, Error, Info, Warn};
            v.one_of(&[("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug)]).map(|v| s.log.level = v)
        },
    )
    .reloads(),
    Setting::<Draft>::new(
        "log_format",
        "auto",
        "auto, text, journal or json",
        "What a line of the log looks like; auto is journal where systemd's journal reads it, else text.",
        |s, v| {
            use LogFormat::{Auto, Journal, Json, Text};
            v.one_of(&[("auto", Auto), ("text", Text), ("journal", Journal), ("json", Json)]).map(|v| s.log.format = v)
        },
    ),
];
