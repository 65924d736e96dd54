//! `midge kick`: disconnects clients, wherever they are connected.
//!
//! A kick is a ban of a few seconds: every server disconnects whom it is for, and lets them in again when it ends.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use midge_core::entry::Entry;
use midge_core::key::{BanTarget, Key};
use midge_store::Write;
use serde_json::json;

use crate::failure::{Answer, refused};
use crate::output::{Output, quoted};
use crate::records::Records;
use crate::span::Span;

/// The longest kick; what shall last longer is a ban.
const LONGEST: u64 = 60;

/// Whom to disconnect.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct KickCommand {
    /// Who is disconnected: user:NAME, client:ID, ip:ADDRESS or ip:ADDRESS/PREFIX.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<BanTarget>,
    /// How long they are kept out, from 1s to 1m.
    #[arg(long = "for", value_name = "TIME", default_value = "3s")]
    span: Span,
    /// Why, as the servers' logs say it.
    #[arg(long, value_name = "TEXT", default_value = "kicked")]
    reason: String,
}

const HELP: &str = "\
Clients may connect again as soon as the time is over. A session that outlives its connection is kept.
Whoever is banned already is refused here: nobody is let in earlier by being kicked.

With --json: {\"result\": \"kicked\", \"targets\", \"seconds\", \"warnings\"}.";

impl KickCommand {
    pub(crate) fn run(&self, records: &mut Records, output: &mut Output) -> Result<Answer> {
        let seconds = self.span.seconds();
        ensure!(
            seconds <= LONGEST,
            "--for: allowed is a time from 1s to 1m; to keep somebody out for longer: midge ban add ... --for"
        );
        let keys: Vec<Key> = self.targets.iter().cloned().map(Key::Ban).collect();
        let read = records.read(&keys)?;
        if let Some((target, _)) = self.targets.iter().zip(&read).find(|(_, entry)| **entry != Entry::Missing) {
            let show = quoted(&target.to_string());
            return Err(refused(format!("there is a ban on {target} already; to see it: midge ban show {show}")));
        }
        let (value, ttl) = (self.reason.as_bytes().to_vec(), Some(Duration::from_secs(seconds)));
        let write = |key| Write::SetText { key, value: value.clone(), ttl };
        records.write(&keys.into_iter().map(write).collect::<Vec<_>>())?;
        let names: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let sentence = format!("kicked: {}, out for {}", names.join(", "), self.span);
        output.changed("kicked", json!({ "targets": names, "seconds": seconds }), &sentence)?;
        Ok(Answer::Yes)
    }
}
