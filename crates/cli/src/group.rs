//! `midge group`: who is in which group.
//!
//! A group is not stored by itself: it is there while users name it or keys hold its rules.
//! Membership stands in the users' records, so finding a group's members reads all users.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use clap::Subcommand;
use midge_core::entry::Entry;
use midge_core::key::Key;
use midge_core::name::{GroupName, Username};
use midge_store::{KeyKind, Write};
use serde::Serialize;
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::Output;
use crate::records::{Records, field, fields_of};
use crate::rules::RuleView;
use crate::target::{Target, group_name};
use crate::user::{check, groups_of, joined};

/// What to do with groups.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum GroupCommand {
    /// Put users into a group.
    Add {
        /// The group.
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// The users; where one of them doesn't exist, nothing is changed.
        #[arg(required = true, value_name = "USER")]
        users: Vec<Username>,
    },
    /// Make these users the members of a group, and nobody else.
    Set {
        /// The group.
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// All members.
        #[arg(required = true, value_name = "USER")]
        users: Vec<Username>,
    },
    /// List all groups with their numbers of members, rules and automatic subscriptions.
    List,
    /// Show a group's members, rules and automatic subscriptions.
    Show {
        /// The group.
        #[arg(value_parser = group_name)]
        name: GroupName,
    },
    /// Take users out of a group, or remove the whole group.
    Remove {
        /// The group.
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// The members to take out; where one of them is no member, nothing is changed.
        #[arg(value_name = "USER", required_unless_present = "all")]
        users: Vec<Username>,
        /// Remove the group's rules and automatic subscriptions, and take out every member.
        #[arg(long, conflicts_with = "users")]
        all: bool,
    },
}

const HELP: &str = "\
A group needs no making: it is there as soon as it has a member or a rule.
Its rules are written with `midge acl add --group NAME FILTER RIGHTS`.
The group `anonymous` has no members; its rules are for clients without a username.

With --json: `list` answers an array of {\"name\", \"members\", \"rules\", \"subscriptions\"}, all three as counts; \
`show` answers {\"name\", \"members\": [name, ...], \"rules\": [{\"target\", \"filter\", \"rights\", \"flaw\"}], \
\"subscriptions\": [{\"target\", \"filter\", \"options\", \"flaw\"}]}.";

impl GroupCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        match self {
            Self::Add { name, users } => {
                let (mut edits, members) = named(name, users, records)?;
                edits.retain(|(user, _)| !members.contains(user));
                edits.iter_mut().for_each(|(_, groups)| groups.push(name.clone()));
                write(name, &edits, "added", records, output)
            }
            Self::Set { name, users } => set(name, users, records, output),
            Self::List => list(records, output),
            Self::Show { name } => show(name, records, output),
            Self::Remove { name, all: true, .. } => remove_all(name, records, output),
            Self::Remove { name, users, .. } => {
                let (mut edits, members) = named(name, users, records)?;
                if let Some(user) = users.iter().find(|user| !members.contains(*user)) {
                    return Err(refused(format!("the user \"{user}\" is not in the group \"{name}\"; nothing was changed")));
                }
                edits.iter_mut().for_each(|(_, groups)| groups.retain(|group| group != name));
                write(name, &edits, "removed", records, output)
            }
        }?;
        Ok(Answer::Yes)
    }
}

/// Users with the groups they shall be in.
type Edits = Vec<(Username, Vec<GroupName>)>;

/// What is known of one group.
#[derive(Default, Serialize)]
struct Counts {
    members: usize,
    rules: usize,
    subscriptions: usize,
}

#[derive(Serialize)]
struct ListedGroup<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: &'a Counts,
}

#[derive(Serialize)]
struct FullGroup<'a> {
    name: &'a str,
    members: Vec<&'a str>,
    rules: Vec<RuleView>,
    subscriptions: Vec<RuleView>,
}

/// Returns the named users with their groups, and which of them are members of `name`.
fn named(name: &GroupName, users: &[Username], records: &mut Records) -> Result<(Edits, BTreeSet<Username>)> {
    let users: BTreeSet<&Username> = users.iter().collect();
    let keys: Vec<Key> = users.iter().map(|user| Key::User((*user).clone())).collect();
    let mut edits = Edits::new();
    let mut members = BTreeSet::new();
    for (user, entry) in users.into_iter().zip(records.read(&keys)?) {
        if entry == Entry::Missing {
            return Err(refused(format!("no such user: \"{user}\"; nothing was changed")));
        }
        let groups = fields_of(entry).and_then(|fields| groups_of(&fields));
        let groups = groups.map_err(|flaw| {
            let key = records.render(&Key::User(user.clone()));
            refused(format!("the groups in {key} can't be read: {flaw}; nothing was changed"))
        })?;
        if groups.contains(name) {
            members.insert(user.clone());
        }
        edits.push((user.clone(), groups));
    }
    Ok((edits, members))
}

/// Returns the members of `name` with their groups, from all users.
fn members_of(name: &GroupName, records: &mut Records) -> Result<Edits> {
    let users = records.list(KeyKind::User)?;
    let mut members = Edits::new();
    records.each(&users, |key, entry| {
        if let (Key::User(user), Ok(groups)) = (key, fields_of(entry).and_then(|fields| groups_of(&fields)))
            && groups.contains(name)
        {
            members.push((user.clone(), groups));
        }
        Ok(())
    })?;
    Ok(members)
}

fn writes(edits: &Edits) -> Result<Vec<Write>> {
    let write = |(user, groups): &(Username, Vec<GroupName>)| {
        let fields = vec![field("groups", &joined(groups))];
        check(&fields)?;
        Ok(Write::SetFields(Key::User(user.clone()), fields))
    };
    edits.iter().map(write).collect()
}

fn write(name: &GroupName, edits: &Edits, done: &str, records: &mut Records, output: &mut Output) -> Result<()> {
    records.write(&writes(edits)?)?;
    let users: Vec<&str> = edits.iter().map(|(user, _)| user.as_str()).collect();
    let result = if users.is_empty() { "unchanged" } else { done };
    let sentence = match (users.is_empty(), done) {
        (true, _) => format!("nothing to change: all of them are in the group \"{name}\""),
        (_, "added") => format!("in the group \"{name}\": {}", users.join(", ")),
        _ => format!("no longer in the group \"{name}\": {}", users.join(", ")),
    };
    output.changed(result, json!({ "group": name.as_str(), "users": users }), &sentence)
}

fn set(name: &GroupName, users: &[Username], records: &mut Records, output: &mut Output) -> Result<()> {
    let (mut joining, members) = named(name, users, records)?;
    joining.retain(|(user, _)| !members.contains(user));
    joining.iter_mut().for_each(|(_, groups)| groups.push(name.clone()));
    let mut leaving = members_of(name, records)?;
    leaving.retain(|(user, _)| !users.contains(user));
    leaving.iter_mut().for_each(|(_, groups)| groups.retain(|group| group != name));
    let mut all = writes(&joining)?;
    all.extend(writes(&leaving)?);
    let result = if all.is_empty() { "unchanged" } else { "changed" };
    records.write(&all)?;
    let names = |edits: &Edits| edits.iter().map(|(user, _)| user.to_string()).collect::<Vec<_>>();
    let (added, removed) = (names(&joining), names(&leaving));
    let words = |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let sentence = format!("group \"{name}\": added {}, removed {}", words(&added), words(&removed));
    output.changed(result, json!({ "group": name.as_str(), "added": added, "removed": removed }), &sentence)
}

fn list(records: &mut Records, output: &mut Output) -> Result<()> {
    let mut groups: BTreeMap<GroupName, Counts> = BTreeMap::new();
    let users = records.list(KeyKind::User)?;
    records.each(&users, |_, entry| {
        for group in fields_of(entry).and_then(|fields| groups_of(&fields)).unwrap_or_default() {
            groups.entry(group).or_default().members += 1;
        }
        Ok(())
    })?;
    for kind in [KeyKind::GroupAcl, KeyKind::GroupAutosub] {
        let keys = records.list(kind)?;
        records.each(&keys, |key, entry| {
            let count = fields_of(entry).map_or(0, |fields| fields.len());
            match key {
                Key::GroupAcl(name) => groups.entry(name.clone()).or_default().rules = count,
                Key::GroupAutosub(name) => groups.entry(name.clone()).or_default().subscriptions = count,
                _ => {}
            }
            Ok(())
        })?;
    }
    let mut listing = output.listing(["NAME", "MEMBERS", "RULES", "SUBSCRIPTIONS"]);
    for (name, counts) in &groups {
        let numbers = [counts.members, counts.rules, counts.subscriptions].map(|count| count.to_string());
        let [members, rules, subscriptions] = numbers;
        listing.row(&ListedGroup { name: name.as_str(), counts }, [name.to_string(), members, rules, subscriptions])?;
    }
    listing.end("no groups")
}

fn show(name: &GroupName, records: &mut Records, output: &mut Output) -> Result<()> {
    let target = Target::Group(name.clone());
    let read = records.read(&[target.acl(), target.autosub()])?;
    let [acl, autosub]: [Entry; 2] = read.try_into().map_err(|_| anyhow::anyhow!("the store gave no answer"))?;
    let members = members_of(name, records)?;
    if members.is_empty() && acl == Entry::Missing && autosub == Entry::Missing {
        return Err(no_such(name));
    }
    let group = FullGroup {
        name: name.as_str(),
        members: members.iter().map(|(user, _)| user.as_str()).collect(),
        rules: RuleView::rules(&target, acl),
        subscriptions: RuleView::subscriptions(&target, autosub),
    };
    if output.is_json() {
        return output.document(&group);
    }
    output.line(&format!("name     {name}"))?;
    output.line(&format!("members  {}", if members.is_empty() { "none".to_owned() } else { group.members.join(", ") }))?;
    output.line("")?;
    crate::rules::print(&group.rules, "RIGHTS", "no rules", output)?;
    if group.subscriptions.is_empty() {
        return Ok(());
    }
    output.line("")?;
    crate::rules::print(&group.subscriptions, "SUBSCRIBED", "", output)
}

fn remove_all(name: &GroupName, records: &mut Records, output: &mut Output) -> Result<()> {
    let target = Target::Group(name.clone());
    let keys = [target.acl(), target.autosub()];
    let read = records.read(&keys)?;
    ensure!(read.len() == keys.len(), "the store gave no answer");
    let mut members = members_of(name, records)?;
    if members.is_empty() && read.iter().all(|entry| *entry == Entry::Missing) {
        return Err(no_such(name));
    }
    members.iter_mut().for_each(|(_, groups)| groups.retain(|group| group != name));
    let mut all = writes(&members)?;
    // The members first: rules that deny must not end before the membership does.
    all.extend(keys.map(Write::Remove));
    records.write(&all)?;
    let users: Vec<&str> = members.iter().map(|(user, _)| user.as_str()).collect();
    let sentence = format!("group \"{name}\" removed, {} in all were members", users.len());
    output.changed("removed", json!({ "group": name.as_str(), "users": users }), &sentence)
}

fn no_such(name: &GroupName) -> anyhow::Error {
    refused(format!("no such group: \"{name}\" has no member and no rule"))
}
