//! The reference page and the full file, made from the table.

use std::fmt::Write as _;

use super::section::{Default, Setting};
use super::settings::{LISTENER, PLUGIN_ONLY, SECTIONS};
use super::source::variable_of;

/// Returns a complete `midge.toml` in which every setting stands behind `#` with its default.
///
/// Without the one `#` before a name it is a file that sets what holds anyway; where the default is no value, words say what holds.
#[must_use]
pub fn defaults() -> String {
    let mut text = FILE_HEAD.to_owned();
    for section in SECTIONS {
        let _ = write!(text, "\n## {}\n", section.title);
        section.settings.iter().for_each(|setting| describe(&mut text, setting));
    }
    text += FILE_LISTENERS;
    LISTENER.iter().for_each(|setting| describe(&mut text, setting));
    text
}

/// Returns the reference page in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = PAGE_HEAD.to_owned();
    for (name, why) in PLUGIN_ONLY {
        let _ = writeln!(page, "* `{name}`: {why}");
    }
    for section in SECTIONS {
        let _ = write!(page, "\n## {}\n", section.title);
        for setting in section.settings {
            entry(&mut page, setting, &variable_of(setting.name));
        }
    }
    page += PAGE_LISTENERS;
    for setting in LISTENER {
        entry(&mut page, setting, &variable_of(&format!("LISTENER_n_{}", setting.name.replace('.', "_"))).replace("_N_", "_n_"));
    }
    page
}

/// Returns a value as TOML has it: numbers and switches bare, all else as a text.
pub(super) fn toml_value(text: &str) -> String {
    let is_number = !text.is_empty() && text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_bare = matches!(text, "true" | "false") || text == "0" || is_number && !text.starts_with('0');
    if is_bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

fn describe<T>(text: &mut String, setting: &Setting<T>) {
    let reload = if setting.reloads { " A reload takes it." } else { "" };
    let _ = write!(text, "\n# {}\n# Allowed: {}.{reload}\n", setting.about, setting.allowed);
    let _ = match setting.default {
        Default::Value(value) => writeln!(text, "#{} = {}", setting.name, toml_value(value)),
        Default::Words(words) => writeln!(text, "# Default: {words}.\n#{} =", setting.name),
    };
}

fn entry<T>(page: &mut String, setting: &Setting<T>, variable: &str) {
    let default = match setting.default {
        Default::Value(value) => format!("`{value}`"),
        Default::Words(words) => words.to_owned(),
    };
    let reload = if setting.reloads { "yes" } else { "no" };
    let _ = write!(
        page,
        "\n### {}\n\n{}\n\n* default: {default}\n* allowed: {}\n* variable: `{variable}`\n* taken by a reload: {reload}\n",
        setting.name, setting.about, setting.allowed
    );
    if (setting.shown)("redis://user:secret@host") != "redis://user:secret@host" {
        *page += "* never shown with a password in it\n";
    }
}

const FILE_HEAD: &str = "\
# Every setting of `midge serve` with its default: the start of a midge.toml of one's own.
# To set one, take the # before its name away. `midge config check FILE` says what is wrong, all of it at once.
# A time is a whole number with its unit: 250ms, 30s, 10m, 24h, 7d. A size has KiB, MiB or GiB, or is a number of bytes.
# A relative path is relative to the file. Settings of listeners stand last, each listener below its own [[listener]].
";

const FILE_LISTENERS: &str = "
## Listeners

# Where clients come in. Without any [[listener]] there are two, for this machine only:
#[[listener]]
#address = \"127.0.0.1:1883\"
#[[listener]]
#address = \"127.0.0.1:8083\"
#protocol = \"ws\"

# All that a listener may have:
#[[listener]]
";

const PAGE_HEAD: &str = "\
# Configuration of the broker

This page is made from the tables in `crates/broker/src/config/settings` by \
`MIDGE_WRITE_DOCS=1 cargo test -p midge-broker --lib config`.

`midge serve` needs no configuration: it listens on this machine only, and says where, where its data are, who gets in, \
and how the first user is added.
What shall be otherwise stands in a file, `midge serve --config midge.toml`:

    data = \"/var/lib/midge\"
    max_packet_size = \"256 KiB\"

    [[listener]]
    address = \"[::]:8883\"
    tls.certificate = \"server.pem\"
    tls.key = \"server.key\"

    [[listener]]
    address = \"127.0.0.1:8083\"
    protocol = \"ws\"

`midge config show --defaults` prints a complete file with every setting, its default and what it does.
`midge config check midge.toml` says what is wrong with a file, all of it at once: line, key, value and what is allowed.
`midge config show --config midge.toml` says what holds and where each value comes from.

A time is a whole number with its unit: `250ms`, `30s`, `10m`, `24h`, `7d`.
A size is a whole number with `KiB`, `MiB` or `GiB` (or `kB`, `MB`, `GB`, powers of 1000), or a number of bytes.
A relative path is relative to the file that it stands in, and elsewhere to the working directory.

A flag wins over a variable of the environment, a variable over the file, the file over the default.
The variable of a setting is `MIDGE_` and its name in capitals, such as `MIDGE_MAX_PACKET_SIZE=64KiB`; an empty one counts for nothing.
`MIDGE_LISTENER_1_ADDRESS` is the address of the first listener in the file, or of a new one where the file has fewer; \
the dot in names such as `tls.key` is `_`.
`MIDGE_CONFIG` names the file where `--config` doesn't.
`--listen` takes the place of all listeners.

A wrong value stops the start, and so does an unknown key in the file, as it is the broker's own.
An unknown variable is a warning.

SIGHUP reads the file again, with the variables and flags of the start.
What a reload takes acts at once; what else has changed is named in the log, and the old value holds until a restart.
Files that settings name, certificates and keys of tokens, are read again as well.
Where anything is wrong, nothing changes, and the log says what it is.

The settings of who gets in have the names, units and defaults of the plugin's options (`OPTIONS.md`); \
only `store` and `anonymous` have other defaults.
These of its options mean nothing here:

";

const PAGE_LISTENERS: &str = "
## Listeners

Each listener is a table `[[listener]]` below all other settings.
Without any there are two, `127.0.0.1:1883` for plain MQTT and `127.0.0.1:8083` for MQTT in WebSocket.
A listener that other machines can reach needs somebody who can log in there: a user in the store, a key for tokens, \
a certificate's field as username, or anonymous clients that are allowed by name. Without, the start stops and says so.
`n` in the variables is the listener's number, from 1.
";
