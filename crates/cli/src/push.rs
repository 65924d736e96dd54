//! `midge push`: writes a push into the store's stream.
//!
//! Every server reads the stream and passes the push on to its own clients; with `--wait`, what became of it is summed up.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use midge_core::name::{ClientId, GroupName, Username};
use midge_core::push::{Audience, Push};
use midge_store::push::{EntryId, PushWriter, Reader};
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::Output;
use crate::records::open_pushes;
use crate::span::Span;
use crate::target::group_name;

/// A server that has not said anything for this long is taken for one that is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// How often is looked for answers.
const LOOK: Duration = Duration::from_millis(20);

/// What to push, and to whom.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct PushCommand {
    /// The topic of the message.
    topic: String,
    /// What it says; without it and without --file, it is read from standard input.
    payload: Option<String>,
    /// The file with what it says.
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// To all clients of this user, subscribed or not.
    #[arg(long, value_name = "NAME", group = "audience")]
    user: Option<Username>,
    /// To this client, subscribed or not.
    #[arg(long, value_name = "ID", group = "audience")]
    client: Option<ClientId>,
    /// To all clients of this group's users, subscribed or not.
    #[arg(long, value_name = "NAME", value_parser = group_name, group = "audience")]
    group: Option<GroupName>,
    /// To all clients, subscribed or not.
    #[arg(long, group = "audience")]
    all: bool,
    /// The quality of service.
    #[arg(long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Keep it for whoever subscribes to the topic later.
    #[arg(long, conflicts_with = "audience")]
    retain: bool,
    /// How long it is good for, such as 30s, 10m or 2h.
    #[arg(long, value_name = "TIME")]
    expiry: Option<Span>,
    /// What makes it the same push as another one: only the first is delivered.
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    /// Wait for what became of it, at most that long.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10s", require_equals = true)]
    wait: Option<Span>,
}

const HELP: &str = "\
Without --user, --client, --group and --all, the message goes to whoever is subscribed to the topic.
Who may not receive the topic doesn't get it, however it is sent.

With --json: {\"result\": \"pushed\", \"entry\", \"warnings\"}; with --wait also \"delivered\" and \"queued\", the numbers of clients \
that got it and that will get it when they are back, and \"servers\", how many servers said so. A client counts once for each of \
its subscriptions that the message matches.

Examples:
  midge push news/today 'Good morning'
  midge push --user alice --wait chat/alice/1 'hello'
  midge push --group drivers --expiry 10m --id order-4711 orders/new < order.json";

impl PushCommand {
    pub(crate) fn run(&self, url: &str, prefix: &str, output: &mut Output) -> Result<Answer> {
        let push = self.push()?;
        let mut log = open_pushes(url, prefix)?;
        let readers = live(log.as_mut())?;
        if readers.is_empty() {
            output.warn("no server is reading pushes now; those that come back will find it");
        }
        let entry = log.add(&push.fields())?;
        let Some(wait) = self.wait else {
            output.changed("pushed", json!({ "entry": entry.to_string() }), &format!("pushed: {entry}"))?;
            return Ok(Answer::Yes);
        };
        await_readers(log.as_mut(), &readers, entry, wait.into())?;
        let results = log.results(entry)?;
        let delivered: u64 = results.iter().map(|result| result.delivered).sum();
        let queued: u64 = results.iter().map(|result| result.queued).sum();
        let sentence = match (delivered, queued) {
            (0, 0) => format!("pushed: {entry}, nobody was there to get it"),
            _ => format!("pushed: {entry}, delivered to {delivered}, queued for {queued}"),
        };
        let subject = json!({ "entry": entry.to_string(), "delivered": delivered, "queued": queued, "servers": results.len() });
        output.changed("pushed", subject, &sentence)?;
        Ok(if delivered + queued > 0 { Answer::Yes } else { Answer::No })
    }

    fn push(&self) -> Result<Push> {
        let audience = match (&self.user, &self.client, &self.group, self.all) {
            (Some(name), ..) => Audience::User(name.clone()),
            (_, Some(id), ..) => Audience::Client(id.clone()),
            (_, _, Some(name), _) => Audience::Group(name.clone()),
            (.., true) => Audience::All,
            _ => Audience::Subscribers,
        };
        let push = Push {
            audience,
            topic: self.topic.as_str().into(),
            payload: self.read_payload()?,
            qos: self.qos,
            retain: self.retain,
            expiry: self.expiry.map(Duration::from),
            id: self.id.as_deref().map(Into::into),
            wants_result: self.wait.is_some(),
        };
        // As the servers will, so that what they would refuse is refused here.
        let fields = push.fields();
        Ok(Push::parse(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())))?)
    }

    fn read_payload(&self) -> Result<Vec<u8>> {
        match (&self.payload, &self.file) {
            (Some(text), _) => Ok(text.as_bytes().to_vec()),
            (None, Some(path)) => std::fs::read(path).with_context(|| format!("{} can't be read", path.display())),
            (None, None) => {
                let mut payload = Vec::new();
                std::io::stdin().read_to_end(&mut payload).context("standard input can't be read")?;
                Ok(payload)
            }
        }
    }
}

/// Returns the servers that read pushes now.
fn live(log: &mut dyn PushWriter) -> Result<Vec<Reader>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut readers = log.readers()?;
    readers.retain(|reader| reader.unix + SILENCE.as_secs() >= now);
    Ok(readers)
}

/// Waits until all servers have passed the entry on.
fn await_readers(log: &mut dyn PushWriter, readers: &[Reader], entry: EntryId, wait: Duration) -> Result<()> {
    if readers.is_empty() {
        return Err(refused(format!("pushed: {entry}, but no server is reading pushes now")));
    }
    let end = Instant::now() + wait;
    loop {
        let now = log.readers()?;
        let has_come = |node: &str| now.iter().any(|reader| reader.node == node && reader.position >= entry);
        let missing: Vec<&str> = readers.iter().map(|reader| reader.node.as_str()).filter(|node| !has_come(node)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(refused(format!("pushed: {entry}, but no answer came from {} in time", missing.join(", "))));
        }
        std::thread::sleep(LOOK);
    }
}
