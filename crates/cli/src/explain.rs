//! `midge explain`: what a server would decide, and by which key.
//!
//! The account is read as a server reads it, and core's own gate gives the answer.

use std::net::IpAddr;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, ValueEnum};
use ipnet::IpNet;
use midge_core::access::Access;
use midge_core::directory::{FlawedKey, Identity};
use midge_core::explain::{Explanation, Inquiry, Question};
use midge_core::gate::{Anonymous, Gate, GateSettings, LoginSettings};
use midge_core::key::{BanTarget, Key};
use midge_core::name::{ClientId, Username};
use midge_core::time::Now;
use midge_store::service::Clock;
use serde::Serialize;

use crate::failure::Answer;
use crate::output::Output;
use crate::records::Records;

/// Who asks for what.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
#[command(group(ArgGroup::new("who").args(["user", "anonymous"]).required(true)))]
pub(crate) struct Explain {
    /// The user.
    #[arg(long, value_name = "NAME")]
    user: Option<Username>,
    /// A client without a username, where the server lets such clients in.
    #[arg(long)]
    anonymous: bool,
    /// The client identifier.
    #[arg(long, value_name = "ID")]
    client: ClientId,
    /// Where the client connects from, for bans of addresses.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// What the client wants to do.
    access: AccessKind,
    /// The topic; to subscribe, the topic filter.
    topic: String,
}

const HELP: &str = "\
The password is taken as right. Exit code 0 is allowed, 1 is denied.

With --json: {\"user\", \"client\", \"access\", \"topic\", \"allowed\", \"stage\", \"text\", \"key\", \"filter\", \"rights\", \"groups\", \
\"flaws\"}; stage says which step decided: ban, account, client-id, rule, no-rule or unreadable; flaws are \
{\"key\", \"flaws\"} of everything that was read on the way.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessKind {
    /// Send a message to a topic.
    #[value(alias = "p")]
    Publish,
    /// Be delivered a message of a topic.
    #[value(alias = "r")]
    Receive,
    /// Hold a subscription to a topic filter.
    #[value(alias = "s")]
    Subscribe,
}

impl From<AccessKind> for Access {
    fn from(kind: AccessKind) -> Self {
        match kind {
            AccessKind::Publish => Self::Publish,
            AccessKind::Receive => Self::Receive,
            AccessKind::Subscribe => Self::Subscribe,
        }
    }
}

#[derive(Serialize)]
struct ExplainView<'a> {
    user: Option<&'a str>,
    client: &'a str,
    access: &'static str,
    topic: &'a str,
    #[serde(flatten)]
    explanation: Explanation,
    groups: Vec<String>,
    flaws: Vec<FlawView>,
}

#[derive(Serialize)]
struct FlawView {
    key: String,
    flaws: Vec<String>,
}

impl Explain {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        let access = Access::from(self.access);
        let question =
            Question::new(access, &self.topic).with_context(|| format!("\"{}\" can't be asked about to {access}", self.topic))?;
        let identity = self.user.as_ref().map_or(Identity::ANONYMOUS, Identity::user);
        let login = LoginSettings { anonymous: Anonymous::Allow, ..LoginSettings::default() };
        let gate = Gate::new(GateSettings::default(), login)?;
        let now = Clock::start().now();
        let flawed = self.load(&gate, &identity, now, records)?;
        let inquiry = Inquiry { identity: &identity, client: &self.client, address: self.address, question };
        let explanation = gate.explain(&inquiry, records.space(), now);
        let account = gate.directory().slot(&identity, now);
        let groups = account.account().record().map(|record| record.groups.iter().map(ToString::to_string).collect());
        let view = ExplainView {
            user: self.user.as_ref().map(Username::as_str),
            client: self.client.as_str(),
            access: access.name(),
            topic: &self.topic,
            explanation,
            groups: groups.unwrap_or_default(),
            flaws: flawed.into_iter().map(|flawed| FlawView { key: records.render(&flawed.key), flaws: flawed.flaws }).collect(),
        };
        match output.is_json() {
            true => output.document(&view),
            false => view.print(output),
        }?;
        Ok(if view.explanation.allowed { Answer::Yes } else { Answer::No })
    }

    /// Reads the account as a server does: user and rules first, then the groups that the record names.
    fn load(&self, gate: &Gate, identity: &Identity, now: Now, records: &mut Records) -> Result<Vec<FlawedKey>> {
        let directory = gate.directory();
        directory.linked();
        let slot = directory.slot(identity, now);
        let mut flawed = Vec::new();
        let mut keys = directory.wants(&slot);
        keys.extend(self.bans());
        while !keys.is_empty() {
            let read = records.read(&keys)?;
            let read: Vec<_> = keys.into_iter().zip(read).collect();
            flawed.extend(directory.apply(&read, now));
            keys = directory.wants(&slot);
            // A key that is still wanted after it was read would be wanted for ever.
            keys.retain(|key| !read.iter().any(|(known, _)| known == key));
        }
        Ok(flawed)
    }

    /// Returns the keys of every ban that could concern the client: there are few, however long the list of bans is.
    fn bans(&self) -> Vec<Key> {
        let user = self.user.clone().map(BanTarget::User);
        let networks = self.address.into_iter().flat_map(spellings).flat_map(|address| {
            let longest = IpNet::from(address).max_prefix_len();
            (0..=longest).filter_map(move |length| IpNet::new(address, length).ok()).map(|net| BanTarget::Network(net.trunc()))
        });
        user.into_iter().chain([BanTarget::Client(self.client.clone())]).chain(networks).map(Key::Ban).collect()
    }
}

/// Returns the address as bans may write it: one of IPv4 is also one of IPv6.
fn spellings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let mapped = if let IpAddr::V4(four) = address { Some(IpAddr::V6(four.to_ipv6_mapped())) } else { None };
    std::iter::once(address).chain(mapped)
}

impl ExplainView<'_> {
    fn print(&self, output: &mut Output) -> Result<()> {
        let who = self.user.map_or("an anonymous client".to_owned(), |user| format!("\"{user}\""));
        let answer = if self.explanation.allowed { "allowed" } else { "denied" };
        output.line(&format!("{answer}: {who} as client \"{}\", {} \"{}\"", self.client, self.access, self.topic))?;
        output.line(&format!("reason   {}", self.explanation.text))?;
        if let (Some(filter), Some(rights)) = (&self.explanation.filter, &self.explanation.rights) {
            output.line(&format!("rule     {filter}  {rights}"))?;
        }
        if let Some(key) = &self.explanation.key {
            output.line(&format!("key      {key}"))?;
        }
        if !self.groups.is_empty() {
            output.line(&format!("groups   {}", self.groups.join(", ")))?;
        }
        for flawed in &self.flaws {
            flawed.flaws.iter().try_for_each(|flaw| output.line(&format!("flaw     {}: {flaw}", flawed.key)))?;
        }
        Ok(())
    }
}
