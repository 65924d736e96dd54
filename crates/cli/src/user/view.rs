//! How users are shown: everything about a password except itself.

use anyhow::Result;
use midge_core::entry::{Entry, Fields};
use midge_core::key::Key;
use midge_core::name::{GroupName, Username};
use midge_core::password::{StoredPassword, Strength};
use midge_core::record::UserRecord;
use serde::Serialize;

use crate::failure::refused;
use crate::output::{Output, quoted};
use crate::records::{Records, fields_of};
use crate::rules::RuleView;
use crate::target::Target;

/// The columns of a list of users.
pub(super) const COLUMNS: [&str; 6] = ["NAME", "PASSWORD", "STATE", "GROUPS", "CLIENT ID", "FLAWS"];

/// A user as shown.
#[derive(Serialize)]
pub(super) struct UserView {
    name: String,
    enabled: bool,
    superuser: bool,
    password: Option<PasswordView>,
    scram: bool,
    groups: Vec<String>,
    client_id: Option<String>,
    flaws: Vec<String>,
}

#[derive(Serialize)]
struct PasswordView {
    encoding: &'static str,
    strength: &'static str,
}

#[derive(Serialize)]
struct FullView {
    #[serde(flatten)]
    user: UserView,
    rules: Vec<RuleView>,
    subscriptions: Vec<RuleView>,
}

impl UserView {
    /// Returns the user whose record stands under `key`.
    pub(super) fn new(key: &Key, entry: Entry) -> Self {
        let name = if let Key::User(name) = key { name.to_string() } else { String::new() };
        let (fields, flaw) = match fields_of(entry) {
            Ok(fields) => (fields, None),
            Err(flaw) => (Fields::new(), Some(format!("the key can't be read: {flaw}"))),
        };
        let readable = flaw.is_none();
        let (record, flaws) = UserRecord::parse(&fields);
        let pattern = fields.iter().find(|(field, _)| field == b"client_id");
        Self {
            name,
            enabled: record.enabled && readable,
            superuser: record.superuser,
            password: record.password.as_ref().and_then(|text| StoredPassword::parse(text).ok()).map(|stored| PasswordView {
                encoding: stored.encoding().name(),
                strength: strength(stored.encoding().strength()),
            }),
            scram: record.scram.is_some(),
            groups: record.groups.iter().map(ToString::to_string).collect(),
            client_id: pattern.map(|(_, value)| String::from_utf8_lossy(value).into_owned()),
            flaws: flaw.into_iter().chain(flaws).collect(),
        }
    }

    pub(super) fn is_in(&self, group: &GroupName) -> bool {
        self.groups.iter().any(|name| name == group.as_str())
    }

    pub(super) fn cells(&self) -> [String; 6] {
        let flaws = if self.flaws.is_empty() { String::new() } else { format!("! {}", self.flaws.join("; ")) };
        [
            self.name.clone(),
            self.password.as_ref().map_or("none", |password| password.encoding).to_owned(),
            self.state(),
            self.groups.join(","),
            self.client_id.clone().unwrap_or_default(),
            flaws,
        ]
    }

    fn state(&self) -> String {
        let superuser = if self.superuser { ", superuser" } else { "" };
        format!("{}{superuser}", if self.enabled { "enabled" } else { "disabled" })
    }

    fn print(&self, output: &mut Output) -> Result<()> {
        let password = match (&self.password, self.scram) {
            (Some(password), scram) => {
                format!("{} ({}){}", password.encoding, password.strength, if scram { ", and SCRAM-SHA-256" } else { "" })
            }
            (None, true) => "none, but SCRAM-SHA-256".to_owned(),
            (None, false) => "none".to_owned(),
        };
        output.line(&format!("name       {}", self.name))?;
        output.line(&format!("state      {}", self.state()))?;
        output.line(&format!("password   {password}"))?;
        output.line(&format!("groups     {}", if self.groups.is_empty() { "none".to_owned() } else { self.groups.join(", ") }))?;
        output.line(&format!("client id  {}", self.client_id.as_deref().unwrap_or("any")))?;
        self.flaws.iter().try_for_each(|flaw| output.line(&format!("flaw       {flaw}")))
    }
}

/// Shows one user with all that applies to it.
pub(super) fn show(name: &Username, records: &mut Records, output: &mut Output) -> Result<()> {
    let key = Key::User(name.clone());
    let entry = records.read_one(&key)?;
    if entry == Entry::Missing {
        let add = quoted(name.as_str());
        let rules = if records.exists(&Key::UserAcl(name.clone()))? { " (there are rules for it)" } else { "" };
        return Err(refused(format!("no such user: \"{name}\"{rules}; to add it: midge user add {add}")));
    }
    let user = UserView::new(&key, entry);
    let groups = user.groups.iter().filter_map(|group| group.parse().ok()).map(Target::Group);
    let targets: Vec<Target> = std::iter::once(Target::User(name.clone())).chain(groups).chain([Target::All]).collect();
    let rules = records.read(&targets.iter().map(Target::acl).collect::<Vec<_>>())?;
    let rules = targets.iter().zip(rules).flat_map(|(target, entry)| RuleView::rules(target, entry)).collect();
    let subscriptions = records.read(&targets.iter().map(Target::autosub).collect::<Vec<_>>())?;
    let subscriptions =
        targets.iter().zip(subscriptions).flat_map(|(target, entry)| RuleView::subscriptions(target, entry)).collect();
    let view = FullView { user, rules, subscriptions };
    if output.is_json() {
        return output.document(&view);
    }
    view.user.print(output)?;
    output.line("")?;
    crate::rules::print(&view.rules, "RIGHTS", "no rules", output)?;
    if view.subscriptions.is_empty() {
        return Ok(());
    }
    output.line("")?;
    crate::rules::print(&view.subscriptions, "SUBSCRIBED", "", output)
}

/// Returns how well the encoding keeps the password from whoever steals the records.
fn strength(strength: Strength) -> &'static str {
    match strength {
        Strength::Plain => "not protected",
        Strength::Digest => "very weak",
        Strength::SaltedDigest => "weak",
        Strength::Pbkdf2 | Strength::Bcrypt => "good",
        Strength::Argon2id => "strong",
    }
}
