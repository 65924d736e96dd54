//! `midge user set`: changes the given fields of one user.

use anyhow::{Result, bail};
use clap::Args;
use midge_core::entry::Fields;
use midge_core::key::Key;
use midge_core::name::{GroupName, Username};
use midge_core::record::UserRecord;
use midge_store::Write;
use serde_json::json;

use crate::failure::refused;
use crate::output::{Output, quoted};
use crate::records::{Records, field};
use crate::secret::PasswordOptions;
use crate::target::group_name;

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The username.
    name: Username,
    /// Put the user into this group; may be given several times.
    #[arg(short, long = "group", value_name = "NAME", value_parser = group_name)]
    groups: Vec<GroupName>,
    /// Take the user out of this group; may be given several times.
    #[arg(long = "no-group", value_name = "NAME", value_parser = group_name)]
    no_groups: Vec<GroupName>,
    /// The groups, separated by commas, in place of all that were there; an empty text is none.
    #[arg(long = "groups", value_name = "LIST", conflicts_with_all = ["groups", "no_groups"])]
    all_groups: Option<String>,
    /// Allow every topic.
    #[arg(long, conflicts_with = "no_superuser")]
    superuser: bool,
    /// Let rules decide again.
    #[arg(long)]
    no_superuser: bool,
    /// Let the user log in.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Let the user not log in; connected clients are disconnected.
    #[arg(long)]
    disable: bool,
    /// The client identifiers that the user may have: * stands for any characters, ? for one, %u for the username.
    #[arg(long, value_name = "PATTERN", conflicts_with = "no_client_id")]
    client_id: Option<String>,
    /// Let the user have any client identifier.
    #[arg(long)]
    no_client_id: bool,
    /// Ask for a new password on the terminal.
    #[arg(long, group = "password_source")]
    password: bool,
    /// Remove the SCRAM credential.
    #[arg(long, conflicts_with = "scram")]
    no_scram: bool,
    #[command(flatten)]
    new_password: PasswordOptions,
}

/// What of a record changes.
#[derive(Default)]
struct Changes {
    set: Fields,
    remove: Vec<&'static str>,
}

impl Changes {
    fn set(&mut self, name: &str, value: &str) {
        self.set.push(field(name, value));
    }

    fn names(&self) -> Vec<String> {
        let set = self.set.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        set.chain(self.remove.iter().map(|name| (*name).to_owned())).collect()
    }
}

impl SetArgs {
    pub(super) fn run(&self, records: &mut Records, output: &mut Output) -> Result<()> {
        if let Some(option) = self.new_password.about_password()
            && !self.password
            && !self.new_password.names_source()
        {
            bail!("{option} needs the password: give --password or --password-stdin as well");
        }
        let key = Key::User(self.name.clone());
        let old = records.fields(&key)?;
        if old.is_empty() {
            let name = quoted(self.name.as_str());
            return Err(refused(format!("no such user: \"{}\"; to add it: midge user add {name}", self.name)));
        }
        let mut changes = self.switches();
        self.change_groups(&old, records, &mut changes)?;
        check(&changes.set)?;
        self.change_password(&old, &mut changes, output)?;
        let names = changes.names();
        if names.is_empty() {
            bail!("nothing to change was given; `midge user set --help` lists what can be");
        }
        let removed = changes.remove.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut writes = Vec::new();
        if !changes.set.is_empty() {
            writes.push(Write::SetFields(key.clone(), changes.set));
        }
        if !removed.is_empty() {
            writes.push(Write::RemoveFields(key, removed));
        }
        records.write(&writes)?;
        let sentence = format!("user \"{}\" changed: {}", self.name, names.join(", "));
        output.changed("changed", json!({ "user": self.name.as_str(), "changed": names }), &sentence)
    }

    fn switches(&self) -> Changes {
        let mut changes = Changes::default();
        for (name, on, off) in [("enabled", self.enable, self.disable), ("superuser", self.superuser, self.no_superuser)] {
            if on || off {
                changes.set(name, if on { "1" } else { "0" });
            }
        }
        if let Some(pattern) = &self.client_id {
            changes.set("client_id", pattern);
        }
        if self.no_client_id {
            changes.remove.push("client_id");
        }
        if self.no_scram {
            changes.remove.push("scram");
        }
        changes
    }

    fn change_groups(&self, old: &Fields, records: &Records, changes: &mut Changes) -> Result<()> {
        if let Some(list) = &self.all_groups {
            changes.set("groups", list);
            return Ok(());
        }
        if self.groups.is_empty() && self.no_groups.is_empty() {
            return Ok(());
        }
        let mut groups = groups_of(old).map_err(|flaw| {
            let key = records.render(&Key::User(self.name.clone()));
            refused(format!("the groups in {key} can't be read: {flaw}; to write them anew: --groups LIST"))
        })?;
        for group in &self.no_groups {
            if !groups.contains(group) {
                return Err(refused(format!("the user \"{}\" is not in the group \"{group}\"", self.name)));
            }
        }
        groups.retain(|group| !self.no_groups.contains(group));
        groups.extend(self.groups.iter().filter(|group| !groups.contains(group)).cloned().collect::<Vec<_>>());
        changes.set("groups", &joined(&groups));
        Ok(())
    }

    /// A password that is replaced must not go on working by SCRAM.
    fn change_password(&self, old: &Fields, changes: &mut Changes, output: &mut Output) -> Result<()> {
        if !self.password && !self.new_password.names_source() {
            return Ok(());
        }
        let had = |name: &[u8]| old.iter().any(|(field, _)| field == name);
        let had_scram = had(b"scram") && !self.no_scram;
        let new = self.new_password.read(had_scram)?;
        match new.password {
            Some(password) => changes.set("password", &password),
            None => changes.remove.push("password"),
        }
        match new.scram {
            Some(scram) => changes.set("scram", &scram),
            None if had_scram => {
                changes.remove.push("scram");
                output.warn("the SCRAM credential was of the old password and is removed");
            }
            None => {}
        }
        Ok(())
    }
}

/// Returns the groups that a record names, or what is wrong with them.
pub(crate) fn groups_of(fields: &Fields) -> Result<Vec<GroupName>, String> {
    let groups = fields.iter().filter(|(name, _)| name == b"groups").cloned().collect();
    let (record, flaws) = UserRecord::parse(&groups);
    flaws.into_iter().next().map_or_else(|| Ok(record.groups.to_vec()), Err)
}

/// Returns groups as a record holds them.
pub(crate) fn joined(groups: &[GroupName]) -> String {
    groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(",")
}

/// Refuses fields that a server would find a flaw in.
pub(crate) fn check(fields: &Fields) -> Result<()> {
    if fields.iter().any(|(name, value)| name == b"client_id" && value.is_empty()) {
        bail!("the pattern of client identifiers is empty, which no client has; to allow any: --client-id '*'");
    }
    let (_, flaws) = UserRecord::parse(fields);
    match flaws.first() {
        Some(flaw) => bail!("{flaw}"),
        None => Ok(()),
    }
}
