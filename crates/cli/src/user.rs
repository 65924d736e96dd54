//! `midge user`: makes, changes, lists and removes users.
//!
//! What is written is first read by core's own parser, so that no server finds a flaw in what this command wrote.

mod edit;
mod view;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use midge_core::entry::{Entry, Fields};
use midge_core::key::Key;
use midge_core::name::{GroupName, Username};
use midge_store::{KeyKind, Write};
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::{Output, quoted};
use crate::records::{Records, field};
use crate::secret::PasswordOptions;
use crate::target::group_name;
use edit::SetArgs;
pub(crate) use edit::{check, groups_of, joined};
use view::UserView;

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; asks for the password on the terminal unless told where it comes from.
    Add(AddArgs),
    /// Change what is given and nothing else.
    #[command(after_help = SET_HELP)]
    Set(SetArgs),
    /// List all users.
    #[command(after_help = LIST_HELP)]
    List {
        /// Only members of this group.
        #[arg(short, long, value_name = "NAME", value_parser = group_name)]
        group: Option<GroupName>,
    },
    /// Show one user: how the password is stored (never the password), groups, rules, subscriptions, flaws.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// The user.
        name: Username,
    },
    /// Remove users with their rules and subscriptions; bans stay.
    Remove {
        /// The users; where one of them doesn't exist, none is removed.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Username>,
    },
}

const SET_HELP: &str = "\
A new password replaces a stored SCRAM credential too: by one of the new password, or by none where only its \
encoding is known.

With --json: {\"result\", \"user\", \"changed\": [field, ...], \"warnings\"}.";

const LIST_HELP: &str = "\
With --json, an array of {\"name\", \"enabled\", \"superuser\", \"password\": {\"encoding\", \"strength\"} or null, \
\"scram\", \"groups\", \"client_id\", \"flaws\"}.";

const SHOW_HELP: &str = "\
With --json, the object of `user list` with \"rules\": [{\"target\", \"filter\", \"rights\", \"flaw\"}], in the order user, \
groups, everyone, and \"subscriptions\": [{\"target\", \"filter\", \"options\", \"flaw\"}].";

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The username.
    name: Username,
    /// A group that the user is in; may be given several times.
    #[arg(short, long = "group", value_name = "NAME", value_parser = group_name)]
    groups: Vec<GroupName>,
    /// Allow every topic.
    #[arg(long)]
    superuser: bool,
    /// Let the user not log in yet.
    #[arg(long)]
    disabled: bool,
    /// The client identifiers that the user may have: * stands for any characters, ? for one, %u for the username.
    #[arg(long, value_name = "PATTERN")]
    client_id: Option<String>,
    #[command(flatten)]
    password: PasswordOptions,
}

impl UserCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        match self {
            Self::Add(add) => add.run(records, output),
            Self::Set(set) => set.run(records, output),
            Self::List { group } => list(group.as_ref(), records, output),
            Self::Show { name } => view::show(name, records, output),
            Self::Remove { names } => remove(names, records, output),
        }?;
        Ok(Answer::Yes)
    }
}

impl AddArgs {
    fn run(&self, records: &mut Records, output: &mut Output) -> Result<()> {
        let key = Key::User(self.name.clone());
        if records.exists(&key)? {
            let name = quoted(self.name.as_str());
            return Err(refused(format!("the user \"{}\" exists already; to change it: midge user set {name} ...", self.name)));
        }
        let mut fields: Fields = vec![field("enabled", if self.disabled { "0" } else { "1" })];
        if self.superuser {
            fields.push(field("superuser", "1"));
        }
        if !self.groups.is_empty() {
            fields.push(field("groups", &joined(&self.groups)));
        }
        if let Some(pattern) = &self.client_id {
            fields.push(field("client_id", pattern));
        }
        check(&fields)?;
        let new = self.password.read(false)?;
        fields.extend(new.password.iter().map(|password| field("password", password)));
        fields.extend(new.scram.iter().map(|scram| field("scram", scram)));
        if !self.name.expandable() {
            output.warn("the name holds +, #, / or a control character: rules with %u say nothing for this user");
        }
        records.write(&[Write::SetFields(key, fields)])?;
        if records.exists(&Key::UserAcl(self.name.clone()))? {
            output.warn("there are rules for this name already; they hold for the new user");
        }
        let sentence = format!("user \"{}\" added{}", self.name, if new.password.is_some() { "" } else { ", without a password" });
        output.changed("added", json!({ "user": self.name.as_str() }), &sentence)
    }
}

fn list(group: Option<&GroupName>, records: &mut Records, output: &mut Output) -> Result<()> {
    let users = records.list(KeyKind::User)?;
    let mut listing = output.listing(view::COLUMNS);
    records.each(&users, |key, entry| {
        let view = UserView::new(key, entry);
        match group {
            Some(group) if !view.is_in(group) => Ok(()),
            _ => listing.row(&view, view.cells()),
        }
    })?;
    listing.end(if group.is_some() { "no members" } else { "no users" })
}

fn remove(names: &[Username], records: &mut Records, output: &mut Output) -> Result<()> {
    let keys: Vec<Key> = names
        .iter()
        .flat_map(|name| [Key::User(name.clone()), Key::UserAcl(name.clone()), Key::UserAutosub(name.clone())])
        .collect();
    let read = records.read(&keys)?;
    ensure!(read.len() == keys.len(), "the store gave {} answers to {} questions", read.len(), keys.len());
    // Rules without a record, as for users who log in by token, are something to remove as well.
    let missing: Vec<String> = names
        .iter()
        .zip(read.chunks(3))
        .filter(|(_, entries)| entries.iter().all(|entry| *entry == Entry::Missing))
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    if !missing.is_empty() {
        return Err(refused(format!("no such user: {}; nothing was removed", missing.join(", "))));
    }
    records.write(&keys.into_iter().map(Write::Remove).collect::<Vec<_>>())?;
    let names: Vec<&str> = names.iter().map(Username::as_str).collect();
    let sentence = names.iter().map(|name| format!("user \"{name}\" removed")).collect::<Vec<_>>().join("; ");
    output.changed("removed", json!({ "users": names }), &sentence)
}
