//! Says in plain words where and for whom it listens.

use anyhow::Result;
use midge_broker::config::{Address, Config, Listener, default_data_directory};
use midge_core::gate::Anonymous;
use serde::Serialize;

use crate::output::{Output, quoted};

/// What is said once at the start.
#[derive(Debug, Serialize)]
pub(super) struct Announcement {
    listeners: Vec<Place>,
    data: String,
    store: String,
    /// Whether what has to survive is written to disk.
    persistence: bool,
    any_user: bool,
    /// The command that adds a user.
    add_user: String,
}

/// One listener, as it is said.
#[derive(Debug, Serialize)]
struct Place {
    url: String,
    /// Whether no other machine can reach it.
    local: bool,
    /// Whether clients without a username get in.
    anonymous: bool,
}

impl Announcement {
    /// Returns what to say of a server that listens at `addresses`, one for each listener.
    pub(super) fn new(config: &Config, addresses: &[Address], any_user: bool) -> Self {
        let place = |(listener, address): (&Listener, &Address)| Place {
            url: match address {
                Address::Tcp(address) => format!("{}://{address}", listener.scheme()),
                Address::Unix { path, .. } => format!("{}+unix://{}", listener.scheme(), path.display()),
            },
            local: listener.is_local(),
            anonymous: config.anonymous(listener, any_user) == Anonymous::Allow,
        };
        Self {
            listeners: config.listeners.iter().zip(addresses).map(place).collect(),
            data: config.data.display().to_string(),
            store: config.store.to_string(),
            persistence: config.engine.persistence,
            any_user,
            add_user: add_user(config),
        }
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<()> {
        if output.is_json() {
            output.document(self)?;
        } else {
            self.lines().iter().try_for_each(|line| output.line(line))?;
        }
        output.flush()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("midge {} listens at", env!("CARGO_PKG_VERSION"))];
        let width = self.listeners.iter().map(|each| each.url.chars().count()).max().unwrap_or(0);
        for each in &self.listeners {
            let reach = if each.local { "this machine only" } else { "other machines can reach it" };
            let who = if each.anonymous { "; clients need no username" } else { "" };
            lines.push(format!("  {:width$}  {reach}{who}", each.url));
        }
        let kept = if self.persistence { "" } else { "; sessions and messages are not kept beyond the end (persistence = false)" };
        lines.push(format!("data   {}{kept}", self.data));
        lines.push(format!("users  {}", self.store));
        match (self.any_user, self.listeners.iter().any(|each| each.anonymous)) {
            (false, true) => {
                lines.push(
                    "There is no user yet. The first one ends that clients need no username, unless it is allowed by name:"
                        .to_owned(),
                );
                lines.push(format!("  {}", self.add_user));
            }
            (false, false) => {
                lines.push("There is no user in the store. To add one:".to_owned());
                lines.push(format!("  {}", self.add_user));
            }
            (true, _) => {}
        }
        lines
    }
}

/// Returns the command that adds a user to the store of `config`, as a shell takes it.
fn add_user(config: &Config) -> String {
    // Whoever pastes it may be in another directory.
    let embedded = config.store_directory().map(|directory| std::path::absolute(directory).unwrap_or(directory.to_owned()));
    let store = embedded.as_ref().map_or(config.store.to_string(), |directory| format!("file:{}", directory.display()));
    let mut command = format!("midge --store {} user add NAME", quoted(&store));
    if embedded == Some(default_data_directory()) {
        "midge user add NAME".clone_into(&mut command);
    }
    if config.store_settings.keys.prefix() != "midge:" {
        command += &format!(" --prefix {}", quoted(config.store_settings.keys.prefix()));
    }
    command
}

/// Returns the error of a listener that other machines can reach while nobody could get in by it.
pub(super) fn nobody_gets_in(config: &Config, listener: &Listener) -> anyhow::Error {
    let reach = if listener.proxy_protocol { "is for clients of other machines" } else { "can be reached from other machines" };
    anyhow::anyhow!(
        "the listener {} {reach}, and there is nobody who could log in: add a user first, with `{}`, or let everybody in by name, \
         with --allow-anonymous or with allow_anonymous = true for this listener, \
         or wait for users who come later, with anonymous = \"deny\"",
        listener.address,
        add_user(config)
    )
}

#[cfg(test)]
mod tests {
    use midge_broker::config::Sources;

    use super::*;

    fn said(listen: &[&str], flags: &[(&str, &'static str, &str)], any_user: bool) -> String {
        let mut sources = Sources::new();
        sources.listen("--listen", &listen.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>());
        sources.flag("data", "--data", "/d");
        flags.iter().for_each(|(name, flag, value)| sources.flag(name, flag, value));
        let config = sources.finish().unwrap();
        let addresses: Vec<Address> = config.listeners.iter().map(|listener| listener.address.clone()).collect();
        let lines = Announcement::new(&config, &addresses, any_user).lines();
        lines[1..].join("\n")
    }

    #[test]
    fn it_says_where_for_whom_and_how_to_go_on() {
        for (listen, flags, any_user, expected) in [
            (
                &[][..],
                &[][..],
                false,
                "  mqtt://127.0.0.1:1883  this machine only; clients need no username\n\
                 \x20 ws://127.0.0.1:8083    this machine only; clients need no username\n\
                 data   /d\n\
                 users  file:/d\n\
                 There is no user yet. The first one ends that clients need no username, unless it is allowed by name:\n\
                 \x20 midge --store file:/d user add NAME",
            ),
            (&["[::]:1883"], &[], true, "  mqtt://[::]:1883  other machines can reach it\ndata   /d\nusers  file:/d"),
            (
                &["10.0.0.1:1"],
                &[
                    ("store", "--store", "redis://me:geheim@host"),
                    ("anonymous", "--allow-anonymous", "allow"),
                    ("prefix", "--prefix", "p:"),
                ],
                false,
                "  mqtt://10.0.0.1:1  other machines can reach it; clients need no username\n\
                 data   /d\n\
                 users  redis://me@host:6379\n\
                 There is no user yet. The first one ends that clients need no username, unless it is allowed by name:\n\
                 \x20 midge --store redis://me@host:6379 user add NAME --prefix p:",
            ),
        ] {
            assert_eq!(said(listen, flags, any_user), expected);
        }
    }
}
