//! `midge ban`: keeps users, client identifiers and addresses out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Subcommand;
use midge_core::entry::Entry;
use midge_core::key::{BanTarget, Key};
use midge_store::{KeyKind, Write};
use serde::Serialize;
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::{Output, quoted};
use crate::records::Records;
use crate::span::Span;

/// What to do with bans.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum BanCommand {
    /// Ban somebody; connected clients are disconnected.
    Add {
        /// Who is banned.
        target: BanTarget,
        /// Why, as `explain` and the servers' logs say it.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// How long, such as 10m, 2h or 7d; without it, until it is removed.
        #[arg(long = "for", value_name = "TIME")]
        span: Option<Span>,
    },
    /// Change what is given of a ban and nothing else.
    Set {
        /// Who is banned.
        target: BanTarget,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// How long from now.
        #[arg(long = "for", value_name = "TIME")]
        span: Option<Span>,
        /// Until it is removed.
        #[arg(long, conflicts_with = "span")]
        forever: bool,
    },
    /// List all bans.
    List,
    /// Show one ban.
    Show {
        /// Who is banned.
        target: BanTarget,
    },
    /// Remove bans.
    Remove {
        /// Who is banned; where one of them isn't, nothing is removed.
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<BanTarget>,
    },
}

const HELP: &str = "\
TARGET is one of
  user:NAME           everybody with this username
  client:ID           everybody with this client identifier
  ip:ADDRESS          everybody from this address
  ip:ADDRESS/PREFIX   everybody from these addresses, such as ip:192.0.2.0/24 or ip:2001:db8::/32

With --json: `list` answers an array of {\"target\", \"reason\", \"seconds_left\", \"until_unix\", \"flaw\"}, `show` one such \
object; a ban without end has null for both times.";

/// A ban as shown.
#[derive(Serialize)]
struct BanView {
    target: String,
    reason: String,
    seconds_left: Option<u64>,
    until_unix: Option<u64>,
    flaw: Option<String>,
}

impl BanCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        match self {
            Self::Add { target, reason, span } => add(target, reason, *span, records, output),
            Self::Set { target, reason: None, span: None, forever: false } => {
                bail!("nothing to change was given for {target}; allowed are --reason, --for and --forever")
            }
            Self::Set { target, reason, span, forever } => {
                let (old, ttl) = existing(target, records)?;
                let ttl = if *forever { None } else { span.map(Duration::from).or(ttl) };
                write(target, reason.as_deref().map_or(old.as_slice(), str::as_bytes), ttl, "changed", records, output)
            }
            Self::List => list(records, output),
            Self::Show { target } => show(target, records, output),
            Self::Remove { targets } => remove(targets, records, output),
        }?;
        Ok(Answer::Yes)
    }
}

impl BanView {
    /// Returns the ban under a target's key; whatever stands there bans, as servers see it.
    fn new(target: &BanTarget, entry: Entry) -> Self {
        let view = Self { target: target.to_string(), reason: String::new(), seconds_left: None, until_unix: None, flaw: None };
        match entry {
            Entry::Text { value, ttl } => {
                let left = ttl.map(|ttl| Span::left(ttl).seconds());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let until_unix = left.map(|left| now + left);
                Self { reason: String::from_utf8_lossy(&value).into_owned(), seconds_left: left, until_unix, ..view }
            }
            _ => Self { flaw: Some("the key holds no string; it bans all the same, without end".to_owned()), ..view },
        }
    }

    fn cells(&self) -> [String; 4] {
        let flaw = self.flaw.as_ref().map(|flaw| format!("! {flaw}")).unwrap_or_default();
        [self.target.clone(), self.left(), self.reason.clone(), flaw]
    }

    fn left(&self) -> String {
        self.seconds_left.map_or("no end".to_owned(), |seconds| Span::left(Duration::from_secs(seconds)).to_string())
    }
}

fn add(target: &BanTarget, reason: &str, span: Option<Span>, records: &mut Records, output: &mut Output) -> Result<()> {
    if records.exists(&Key::Ban(target.clone()))? {
        let set = quoted(&target.to_string());
        return Err(refused(format!("there is a ban on {target} already; to change it: midge ban set {set} ...")));
    }
    write(target, reason.as_bytes(), span.map(Duration::from), "added", records, output)
}

fn write(
    target: &BanTarget,
    reason: &[u8],
    ttl: Option<Duration>,
    result: &str,
    records: &mut Records,
    output: &mut Output,
) -> Result<()> {
    let key = Key::Ban(target.clone());
    records.write(&[Write::SetText { key, value: reason.to_vec(), ttl }])?;
    if matches!(target, BanTarget::Network(net) if net.prefix_len() == 0) {
        output.warn("this is every address of its kind: nobody can connect from any");
    }
    let view = BanView::new(target, Entry::Text { value: reason.to_vec(), ttl });
    let sentence =
        format!("{result}: ban on {target}, {}", ttl.map_or("without end".to_owned(), |_| format!("for {}", view.left())));
    let subject = json!({ "target": view.target, "seconds_left": view.seconds_left, "until_unix": view.until_unix });
    output.changed(result, subject, &sentence)
}

fn existing(target: &BanTarget, records: &mut Records) -> Result<(Vec<u8>, Option<Duration>)> {
    match records.read_one(&Key::Ban(target.clone()))? {
        Entry::Text { value, ttl } => Ok((value, ttl)),
        Entry::Missing => Err(no_ban(&[target])),
        Entry::Hash(_) | Entry::Unreadable(_) => {
            let remove = quoted(&target.to_string());
            Err(refused(format!("the key of the ban on {target} holds no string; to remove it: midge ban remove {remove}")))
        }
    }
}

fn list(records: &mut Records, output: &mut Output) -> Result<()> {
    let keys = records.list(KeyKind::Ban)?;
    let mut listing = output.listing(["TARGET", "LEFT", "REASON", "FLAW"]);
    records.each(&keys, |key, entry| {
        let Key::Ban(target) = key else { return Ok(()) };
        let view = BanView::new(target, entry);
        listing.row(&view, view.cells())
    })?;
    listing.end("no bans")
}

fn show(target: &BanTarget, records: &mut Records, output: &mut Output) -> Result<()> {
    let entry = records.read_one(&Key::Ban(target.clone()))?;
    if entry == Entry::Missing {
        return Err(no_ban(&[target]));
    }
    let view = BanView::new(target, entry);
    if output.is_json() {
        return output.document(&view);
    }
    output.line(&format!("target  {target}"))?;
    output.line(&format!("reason  {}", view.reason))?;
    output.line(&format!("left    {}", view.left()))?;
    output.line(&format!("key     {}", records.render(&Key::Ban(target.clone()))))?;
    view.flaw.iter().try_for_each(|flaw| output.line(&format!("flaw    {flaw}")))
}

fn remove(targets: &[BanTarget], records: &mut Records, output: &mut Output) -> Result<()> {
    let keys: Vec<Key> = targets.iter().cloned().map(Key::Ban).collect();
    let read = records.read(&keys)?;
    let missing: Vec<&BanTarget> =
        targets.iter().zip(&read).filter(|(_, entry)| **entry == Entry::Missing).map(|(target, _)| target).collect();
    if !missing.is_empty() {
        return Err(no_ban(&missing));
    }
    records.write(&keys.into_iter().map(Write::Remove).collect::<Vec<_>>())?;
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    output.changed("removed", json!({ "targets": names }), &format!("removed: ban on {}", names.join(", ")))
}

fn no_ban(targets: &[&BanTarget]) -> anyhow::Error {
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    refused(format!("there is no ban on {}; what there is: midge ban list", names.join(", ")))
}
