//! What can be typed: the command, its options, its help.
//!
//! The completions and the manual page are generated from these types, so that they never say anything else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::acl::AclCommand;
use crate::ban::BanCommand;
use crate::bench::BenchCommand;
use crate::clients::ClientsCommand;
use crate::config::ConfigCommand;
use crate::explain::Explain;
use crate::group::GroupCommand;
use crate::hot::HotCommand;
use crate::kick::KickCommand;
use crate::push::PushCommand;
use crate::serve::ServeArgs;
use crate::status::StatusCommand;
use crate::user::UserCommand;

/// What keys begin with where nothing else is said.
pub(crate) const DEFAULT_PREFIX: &str = "midge:";

/// The heading over options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// Serves MQTT, and says who may connect, what they may do there, and why.
#[derive(Debug, Parser)]
#[command(name = "midge", version, after_help = AFTER_HELP, propagate_version = false, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The store: redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster:// or file:DIRECTORY.
    ///
    /// Where nothing is said: the embedded store of a `midge serve` on this machine, if there is one where it keeps it by
    /// default, else redis://127.0.0.1:6379. A URL with a password is better put into MIDGE_STORE: other users of this
    /// machine can read arguments.
    #[arg(long, global = true, env = "MIDGE_STORE", value_name = "URL", hide_env_values = true, help_heading = EVERYWHERE)]
    pub(crate) store: Option<String>,

    /// What every key in the store begins with; midge: where nothing is said.
    #[arg(long, global = true, env = "MIDGE_PREFIX", value_name = "TEXT", help_heading = EVERYWHERE)]
    pub(crate) prefix: Option<String>,

    /// Print the answer as one JSON document.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    /// Without one, `serve`.
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// Parses what was typed.
    pub(crate) fn parse_words(mut words: Vec<OsString>) -> Result<(Self, Command), clap::Error> {
        let mut cli = Self::try_parse_from(&words)?;
        if cli.command.is_none() {
            words.push("serve".into());
            cli = Self::try_parse_from(&words)?;
        }
        let command = cli.command.take();
        command.map(|command| (cli, command)).ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server; the same as `midge` alone.
    Serve(ServeArgs),
    /// The server's configuration: what is wrong with it, and what holds.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Users: who may log in.
    #[command(subcommand)]
    User(UserCommand),
    /// Groups: rules that several users share.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Rules: which topics may be published, received, subscribed to.
    #[command(subcommand)]
    Acl(AclCommand),
    /// Bans: who is kept out, whatever else is said.
    #[command(subcommand)]
    Ban(BanCommand),
    /// Disconnect clients, and keep them out for a moment.
    Kick(KickCommand),
    /// Say whether a client may do something, and which rule decides.
    Explain(Explain),
    /// Push a message to subscribers, a user, a client, a group or all.
    Push(PushCommand),
    /// Show who is online, and where.
    Clients(ClientsCommand),
    /// Show which topics are hot, over all servers.
    Hot(HotCommand),
    /// Show how all servers are.
    Status(StatusCommand),
    /// Load a broker, any broker, and count what becomes of it.
    Bench(Box<BenchCommand>),
    /// One of the processes of `bench`.
    #[command(hide = true)]
    BenchProcess,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one page for each command.
    Man {
        /// The folder for the pages; without it, the page of `midge` itself is printed.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done; `explain`: allowed; `push --wait`: it reached somebody
  1  not found, or refused because of what the store holds; `explain`: denied; `push --wait`: it reached nobody;
     `bench --strict`: something was lost, came twice or out of order
  2  wrong usage or bad input
  3  the store can't be reached
  4  `serve`: the server can't start, or has ended by an error

Changes act on connected clients within a second; no server has to be restarted.
With --json, every command that changes something answers {\"result\", ..., \"warnings\"}, where result is \
added, changed, unchanged or removed; lists are arrays of objects. \
Errors are text on standard error in any case.

Examples:
  midge serve
  midge user add alice --group staff
  midge acl add --user alice 'chat/%u/#' prs
  midge explain --user alice --client phone publish chat/alice/1
  midge push --user alice --wait chat/alice/1 'hello'";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
