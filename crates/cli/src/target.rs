//! Whose rules: one user's, one group's, everyone's.

use std::fmt;

use clap::Args;
use midge_core::key::Key;
use midge_core::name::{GroupName, NameError, Username};

/// Whose rules are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    User(Username),
    Group(GroupName),
    All,
}

impl Target {
    /// Returns the key that holds the rules.
    pub(crate) fn acl(&self) -> Key {
        match self {
            Self::User(name) => Key::UserAcl(name.clone()),
            Self::Group(name) => Key::GroupAcl(name.clone()),
            Self::All => Key::AllAcl,
        }
    }

    /// Returns the key that holds the automatic subscriptions.
    pub(crate) fn autosub(&self) -> Key {
        match self {
            Self::User(name) => Key::UserAutosub(name.clone()),
            Self::Group(name) => Key::GroupAutosub(name.clone()),
            Self::All => Key::AllAutosub,
        }
    }

    /// Returns whose rules `key` holds, if it holds rules.
    pub(crate) fn of_acl(key: &Key) -> Option<Self> {
        match key {
            Key::UserAcl(name) => Some(Self::User(name.clone())),
            Key::GroupAcl(name) => Some(Self::Group(name.clone())),
            Key::AllAcl => Some(Self::All),
            _ => None,
        }
    }

    /// Returns the options that name this target on the command line.
    pub(crate) fn as_options(&self) -> String {
        match self {
            Self::User(name) => format!("--user {}", crate::output::quoted(name.as_str())),
            Self::Group(name) => format!("--group {}", crate::output::quoted(name.as_str())),
            Self::All => "--all".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// The options that name a target.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetOptions {
    /// The rules of one user.
    #[arg(long, value_name = "NAME")]
    user: Option<Username>,
    /// The rules of a group; those of `anonymous` are for clients without a username.
    #[arg(long, value_name = "NAME", value_parser = group_name)]
    group: Option<GroupName>,
    /// The rules for everyone.
    #[arg(long)]
    all: bool,
}

impl TargetOptions {
    pub(crate) fn target(&self) -> Target {
        let user = self.user.clone().map(Target::User);
        user.or_else(|| self.group.clone().map(Target::Group)).unwrap_or(Target::All)
    }
}

/// Parses the name of a group, for clap.
///
/// Spaces around a name would be lost between the commas of a user's record.
pub(crate) fn group_name(text: &str) -> Result<GroupName, String> {
    match text.trim() == text {
        true => text.parse().map_err(|error: NameError| error.to_string()),
        false => Err("a group name can't begin or end with a space".to_owned()),
    }
}
