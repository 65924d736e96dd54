//! `midge status`: how all servers are.
//!
//! Each renews its record in the store every two seconds, and one without is not running or can't reach the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use midge_core::entry::Entry;
use midge_core::key::Key;
use midge_core::name::NodeName;
use midge_store::KeyKind;
use serde_json::{Map, Value};

use crate::failure::{Answer, refused};
use crate::output::Output;
use crate::records::{Records, fields_of};
use crate::span::Span;

/// What to show.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusCommand {
    /// One server, with all that it tells.
    node: Option<NodeName>,
    /// Show it again every two seconds, until it is interrupted.
    #[arg(long)]
    watch: bool,
}

const HELP: &str = "\
Servers report to the store unless their option `report` is false; one that has not for 10 seconds isn't shown.

CLIENTS is how many are connected, IN and OUT how many messages a second came and went, DENIED how many accesses were refused \
since the start, FOLLOWS how changes in the store reach the server.

With --json: an array with an object for each server, or one object; numbers are numbers.";

/// How often is looked again.
const AGAIN: Duration = Duration::from_secs(2);

/// What a server tells, by name.
type Facts = BTreeMap<String, String>;

impl StatusCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        loop {
            match &self.node {
                Some(node) => one(node, records, output)?,
                None => all(records, output)?,
            }
            if !self.watch {
                return Ok(Answer::Yes);
            }
            output.line("")?;
            output.flush()?;
            std::thread::sleep(AGAIN);
        }
    }
}

fn all(records: &mut Records, output: &mut Output) -> Result<()> {
    let keys = records.list(KeyKind::Node)?;
    let mut listing = output.listing(["NODE", "BODY", "VERSION", "UP", "CLIENTS", "IN", "OUT", "DENIED", "FOLLOWS"]);
    records.each(&keys, |key, entry| {
        let Key::Node(name) = key else { return Ok(()) };
        let facts = facts(entry);
        listing.row(&document(name, &facts), row(name, &facts))
    })?;
    listing.end("no server reports to this store")
}

fn one(name: &NodeName, records: &mut Records, output: &mut Output) -> Result<()> {
    let entry = records.read_one(&Key::Node(name.clone()))?;
    if entry == Entry::Missing {
        return Err(refused(format!("no server \"{name}\" reports to this store; those that do: midge status")));
    }
    let facts = facts(entry);
    if output.is_json() {
        return output.document(&document(name, &facts));
    }
    let width = facts.keys().map(String::len).max().unwrap_or(0);
    output.line(&format!("{:width$}  {name}", "node"))?;
    facts.iter().try_for_each(|(field, value)| output.line(&format!("{field:width$}  {value}")))
}

/// Returns what a record says; one of another type says nothing.
fn facts(entry: Entry) -> Facts {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    fields_of(entry).unwrap_or_default().into_iter().map(|(field, value)| (text(field), text(value))).collect()
}

fn document(name: &NodeName, facts: &Facts) -> Value {
    let number = |text: &String| text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
    let mut document = Map::new();
    document.insert("node".to_owned(), name.as_str().into());
    document.extend(facts.iter().map(|(field, value)| (field.clone(), number(value).unwrap_or_else(|_| value.as_str().into()))));
    document.into()
}

fn row(name: &NodeName, facts: &Facts) -> [String; 9] {
    let text = |field: &str| facts.get(field).cloned().unwrap_or_else(|| "-".to_owned());
    let denied = ["denied_logins", "denied_publish", "denied_receive", "denied_subscribe"];
    let denied: u64 = denied.iter().filter_map(|field| facts.get(*field)?.parse::<u64>().ok()).sum();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let started = facts.get("started").and_then(|text| text.parse::<u64>().ok());
    let up = started.map(|started| Span::left(Duration::from_secs(now.saturating_sub(started))).to_string());
    [
        name.to_string(),
        text("body"),
        text("version"),
        up.unwrap_or_else(|| "-".to_owned()),
        text("clients"),
        text("published_rate"),
        text("delivered_rate"),
        denied.to_string(),
        text("following"),
    ]
}
