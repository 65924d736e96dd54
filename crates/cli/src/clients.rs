//! `midge clients`: who is online, and where.
//!
//! Servers enter their clients in the store; what a server has entered that isn't there any more counts as gone.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use midge_core::entry::Entry;
use midge_core::key::Key;
use midge_core::name::{NodeName, Username};
use midge_store::KeyKind;
use serde_json::json;

use crate::failure::Answer;
use crate::output::{Listing, Output};
use crate::records::{Records, fields_of};
use crate::span::Span;

/// Whom to show.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ClientsCommand {
    /// Only this user's clients.
    #[arg(long, value_name = "NAME")]
    user: Option<Username>,
    /// Only clients of this server.
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
}

const HELP: &str = "\
Servers tell the store who is online unless their option `presence` is false.
For a user none of whose clients is online, it says when the last of them went.

With --json: an array of {\"client\", \"user\", \"node\", \"since\"}, since in milliseconds since 1970; \
`user` is null for a client without a username.";

/// A client as it was entered.
struct Online {
    client: String,
    node: NodeName,
    /// Milliseconds since 1970.
    since: u64,
}

impl ClientsCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        let keys = match &self.user {
            Some(user) => vec![Key::Online(Some(user.clone()))],
            None => records.list(KeyKind::Online)?,
        };
        let nothing = self.nothing(records)?;
        let mut alive = Alive::default();
        let mut listing = output.listing(["CLIENT", "USER", "NODE", "ONLINE"]);
        let mut pages: Vec<(Key, Vec<Online>)> = Vec::new();
        for batch in keys.chunks(crate::records::BATCH) {
            records.each(batch, |key, entry| {
                pages.push((key.clone(), self.wanted(entry)));
                Ok(())
            })?;
            for (key, clients) in pages.drain(..) {
                self.show(&key, clients, &mut alive, records, &mut listing)?;
            }
        }
        listing.end(&nothing)?;
        Ok(Answer::Yes)
    }

    /// Returns the clients of a user's key that are asked for.
    fn wanted(&self, entry: Entry) -> Vec<Online> {
        let clients = fields_of(entry).unwrap_or_default().into_iter().filter_map(|(client, place)| online(client, &place));
        clients.filter(|client| self.node.as_ref().is_none_or(|node| *node == client.node)).collect()
    }

    fn show(
        &self,
        key: &Key,
        mut clients: Vec<Online>,
        alive: &mut Alive,
        records: &mut Records,
        listing: &mut Listing<'_, 4>,
    ) -> Result<()> {
        let Key::Online(user) = key else { return Ok(()) };
        clients.sort_by(|a, b| a.client.cmp(&b.client));
        for Online { client, node, since } in clients {
            if !alive.has(&node, records)? {
                continue;
            }
            let user = user.as_ref().map(Username::as_str);
            let document = json!({ "client": client, "user": user, "node": node.as_str(), "since": since });
            listing.row(&document, [client, user.unwrap_or("-").to_owned(), node.to_string(), ago(since)])?;
        }
        Ok(())
    }

    /// Returns what to say where nobody is online.
    fn nothing(&self, records: &mut Records) -> Result<String> {
        let Some(user) = &self.user else { return Ok("no client is online".to_owned()) };
        let seen = records.fields(&Key::Seen(user.clone()))?;
        let text = |name: &str| {
            let found = seen.iter().find(|(field, _)| field == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        Ok(match (text("at").and_then(|at| at.parse().ok()), text("client"), text("node")) {
            (Some(at), Some(client), Some(node)) => {
                format!("no client of {user} is online; the last was {client} on {node}, {} ago", ago(at))
            }
            _ => format!("no client of {user} is online"),
        })
    }
}

/// Which servers are there.
#[derive(Default)]
struct Alive(HashMap<NodeName, bool>);

impl Alive {
    fn has(&mut self, node: &NodeName, records: &mut Records) -> Result<bool> {
        if let Some(alive) = self.0.get(node) {
            return Ok(*alive);
        }
        let alive = records.exists(&Key::Node(node.clone()))?;
        self.0.insert(node.clone(), alive);
        Ok(alive)
    }
}

fn online(client: Vec<u8>, place: &[u8]) -> Option<Online> {
    let (node, since) = std::str::from_utf8(place).ok()?.rsplit_once(' ')?;
    Some(Online { client: String::from_utf8(client).ok()?, node: node.parse().ok()?, since: since.parse().ok()? })
}

/// Returns how long ago a moment was, in words.
fn ago(unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let past = now.saturating_sub(Duration::from_millis(unix_ms));
    Span::left(Duration::from_secs(past.as_secs())).to_string()
}
