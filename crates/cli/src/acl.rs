//! `midge acl`: writes and lists rules.
//!
//! A rule is read by core's own parser before it is written, and warned of where it hardly does what was meant.

mod advice;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use midge_core::access::{AccessSet, Rights};
use midge_core::entry::Fields;
use midge_core::key::Key;
use midge_core::rules::RuleSet;
use midge_store::{KeyKind, Write};
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::{Output, quoted};
use crate::records::{Records, field};
use crate::rules::{COLUMNS, RuleView};
use crate::target::{Target, TargetOptions};

/// What to do with rules.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum AclCommand {
    /// Add a rule; rights join those of a rule that stands on the same filter.
    Add(RuleArgs),
    /// Write a rule in place of one that stands on the same filter.
    Set(RuleArgs),
    /// List the rules of one target, or all.
    #[command(mut_group("TargetOptions", |group| group.required(false)))]
    List {
        #[command(flatten)]
        target: Option<TargetOptions>,
    },
    /// Show one rule.
    Show {
        #[command(flatten)]
        target: TargetOptions,
        /// The filter, as it was written.
        filter: String,
    },
    /// Remove rules.
    Remove {
        #[command(flatten)]
        target: TargetOptions,
        /// The filters, as they were written; where there is no rule on one of them, none is removed.
        #[arg(value_name = "FILTER", required_unless_present = "every_rule")]
        filters: Vec<String>,
        /// Remove all rules of the target.
        #[arg(long, conflicts_with = "filters")]
        every_rule: bool,
    },
}

const HELP: &str = "\
FILTER is an MQTT topic filter. In it %u (or ${username}) stands for the username and %c (or ${clientid}) for the client \
identifier; for a client whose name holds + # / or a control character such a rule says nothing.

RIGHTS are letters: p publish, r receive, s subscribe; a ! before them denies.

A denial beats every allowance, wherever each is written, and what no rule allows is denied. Order means nothing.

To subscribe to a filter, one rule with s has to cover all of it; a rule with !s denies every filter that shares a topic \
with its own. To receive what a subscription brings takes r as well.

# and + at the first level don't reach topics that begin with $, such as $SYS.

With --json: `list` answers an array of {\"target\", \"filter\", \"rights\", \"flaw\"}, `show` one such object.

Examples:
  midge acl add --user alice 'chat/#' prs
  midge acl add --group staff 'office/%u/inbox' rs
  midge acl add --all 'admin/#' '!prs'";

#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    #[command(flatten)]
    target: TargetOptions,
    /// The topic filter.
    filter: String,
    /// The rights: any of p, r and s, after a ! to deny.
    rights: Rights,
}

impl AclCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        match self {
            Self::Add(rule) => rule.add(records, output),
            Self::Set(rule) => rule.set(records, output),
            Self::List { target: Some(target) } => list_one(&target.target(), records, output),
            Self::List { target: None } => list_all(records, output),
            Self::Show { target, filter } => show(&target.target(), filter, records, output),
            Self::Remove { target, every_rule: true, .. } => remove_all(&target.target(), records, output),
            Self::Remove { target, filters, .. } => remove(&target.target(), filters, records, output),
        }?;
        Ok(Answer::Yes)
    }
}

impl RuleArgs {
    fn add(&self, records: &mut Records, output: &mut Output) -> Result<()> {
        let target = self.target.target();
        self.check()?;
        let fields = records.fields(&target.acl())?;
        let Some(old) = value_of(&fields, &self.filter) else {
            return self.write(self.rights, "added", &target, &fields, records, output);
        };
        let replace =
            format!("midge acl set {} {} {}", target.as_options(), quoted(&self.filter), quoted(&self.rights.to_string()));
        let Ok(rights) = old.parse::<Rights>() else {
            return Err(refused(format!(
                "the rule on \"{}\" for {target} has rights that can't be read: \"{old}\"; to replace it: {replace}",
                self.filter
            )));
        };
        if rights.deny != self.rights.deny {
            let verb = if rights.deny { "denies" } else { "allows" };
            return Err(refused(format!(
                "the rule on \"{}\" for {target} {verb} \"{}\", and one rule can't both allow and deny; to replace it: {replace}",
                self.filter, rights.access
            )));
        }
        let joined = Rights { access: rights.access.union(self.rights.access), deny: rights.deny };
        let result = if joined == rights { "unchanged" } else { "changed" };
        self.write(joined, result, &target, &fields, records, output)
    }

    fn set(&self, records: &mut Records, output: &mut Output) -> Result<()> {
        let target = self.target.target();
        self.check()?;
        let fields = records.fields(&target.acl())?;
        let old = value_of(&fields, &self.filter);
        let result = match old.as_deref().map(str::parse::<Rights>) {
            None => "added",
            Some(Ok(rights)) if rights == self.rights => "unchanged",
            Some(_) => "changed",
        };
        self.write(self.rights, result, &target, &fields, records, output)
    }

    fn check(&self) -> Result<()> {
        let (_, flaws) = RuleSet::parse(&vec![field(&self.filter, &self.rights.to_string())]);
        match flaws.first() {
            Some(flaw) => {
                let reason = flaw.reason.to_string();
                bail!("\"{}\" is no filter of a rule: {}", self.filter, reason.trim_end_matches("; the field is ignored"))
            }
            None => Ok(()),
        }
    }

    fn write(
        &self,
        rights: Rights,
        result: &str,
        target: &Target,
        others: &Fields,
        records: &mut Records,
        output: &mut Output,
    ) -> Result<()> {
        if result == "added" && others.len() >= records.max_fields() {
            return Err(refused(format!("there are {} rules for {target} already, and servers read no more", others.len())));
        }
        if result != "unchanged" {
            records.write(&[Write::SetFields(target.acl(), vec![field(&self.filter, &rights.to_string())])])?;
        }
        if let Target::User(name) = target
            && !records.exists(&Key::User(name.clone()))?
        {
            output.warn(&format!("there is no user \"{name}\" yet; the rule waits for one"));
        }
        for advice in advice::on(target, &self.filter, rights, others) {
            output.warn(&advice);
        }
        let sentence = format!("{result}: {target} may{}", in_words(&self.filter, rights));
        let subject = json!({ "target": target.to_string(), "filter": self.filter, "rights": rights.to_string() });
        output.changed(result, subject, &sentence)
    }
}

/// Returns what comes after "may".
fn in_words(filter: &str, rights: Rights) -> String {
    let words: Vec<&str> = names(rights.access).collect();
    format!("{} {} \"{filter}\"", if rights.deny { " not" } else { "" }, words.join(", "))
}

fn names(access: AccessSet) -> impl Iterator<Item = &'static str> {
    midge_core::access::Access::ALL.into_iter().filter(move |kind| access.contains(*kind)).map(midge_core::access::Access::name)
}

fn value_of(fields: &Fields, filter: &str) -> Option<String> {
    let value = fields.iter().find(|(field, _)| field == filter.as_bytes()).map(|(_, value)| value);
    value.map(|value| String::from_utf8_lossy(value).into_owned())
}

fn list_one(target: &Target, records: &mut Records, output: &mut Output) -> Result<()> {
    let views = RuleView::rules(target, records.read_one(&target.acl())?);
    let mut listing = output.listing(COLUMNS);
    views.iter().try_for_each(|view| listing.row(view, view.cells()))?;
    listing.end(&format!("no rules for {target}"))
}

fn list_all(records: &mut Records, output: &mut Output) -> Result<()> {
    let mut keys = vec![Key::AllAcl];
    for kind in [KeyKind::GroupAcl, KeyKind::UserAcl] {
        keys.extend(records.list(kind)?);
    }
    let mut listing = output.listing(COLUMNS);
    records.each(&keys, |key, entry| {
        let views = Target::of_acl(key).map(|target| RuleView::rules(&target, entry));
        views.into_iter().flatten().try_for_each(|view| listing.row(&view, view.cells()))
    })?;
    listing.end("no rules")
}

fn show(target: &Target, filter: &str, records: &mut Records, output: &mut Output) -> Result<()> {
    let views = RuleView::rules(target, records.read_one(&target.acl())?);
    let Some(view) = views.into_iter().find(|view| view.filter == filter) else {
        return Err(no_rule(target, &[filter]));
    };
    if output.is_json() {
        return output.document(&view);
    }
    output.line(&format!("for      {target}"))?;
    output.line(&format!("filter   {filter}"))?;
    match view.says().parse::<Rights>() {
        Ok(rights) => output.line(&format!("rights   {rights}: may{}", in_words(filter, rights)))?,
        Err(_) => output.line(&format!("rights   {}", view.says()))?,
    }
    output.line(&format!("key      {}", records.render(&target.acl())))?;
    view.flaw.iter().try_for_each(|flaw| output.line(&format!("flaw     {flaw}")))
}

fn remove(target: &Target, filters: &[String], records: &mut Records, output: &mut Output) -> Result<()> {
    let fields = records.fields(&target.acl())?;
    let missing: Vec<&str> = filters.iter().filter(|filter| value_of(&fields, filter).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(no_rule(target, &missing));
    }
    let names = filters.iter().map(|filter| filter.as_bytes().to_vec()).collect();
    records.write(&[Write::RemoveFields(target.acl(), names)])?;
    let sentence = format!("removed for {target}: {}", filters.join(", "));
    output.changed("removed", json!({ "target": target.to_string(), "filters": filters }), &sentence)
}

fn remove_all(target: &Target, records: &mut Records, output: &mut Output) -> Result<()> {
    let views = RuleView::rules(target, records.read_one(&target.acl())?);
    if views.is_empty() {
        return Err(refused(format!("there are no rules for {target}")));
    }
    records.write(&[Write::Remove(target.acl())])?;
    let filters: Vec<&str> = views.iter().map(|view| view.filter.as_str()).collect();
    let sentence = format!("removed for {target}: every rule, {} in all", filters.len());
    output.changed("removed", json!({ "target": target.to_string(), "filters": filters }), &sentence)
}

fn no_rule(target: &Target, filters: &[&str]) -> anyhow::Error {
    let filters: Vec<String> = filters.iter().map(|filter| format!("\"{filter}\"")).collect();
    let list = format!("midge acl list {}", target.as_options());
    refused(format!("there is no rule for {target} on {}; what there is: {list}", filters.join(", ")))
}
