//! `midge hot`: which topics carry the most, over all servers.
//!
//! Reads the sets that the servers keep ready in the store; it adds up nothing by itself.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use midge_core::hot::{HotTopic, Metric, Window};
use midge_store::hot::HotLog;

use crate::failure::Answer;
use crate::output::Output;
use crate::records::open_hot;

/// What to show.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct HotCommand {
    /// How far to look back.
    #[arg(long, value_name = "1m|1h|24h|7d", default_value_t = Window::Minute)]
    window: Window,
    /// What to rank by: messages, bytes, deliveries or publishers.
    #[arg(long, value_name = "METRIC", default_value_t = Metric::Messages)]
    by: Metric,
    /// How many topics.
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
    /// Show it again every two seconds, until it is interrupted.
    #[arg(long)]
    watch: bool,
}

const HELP: &str = "\
Servers count every publish unless their option `hot` is false; topics that begin with $ are not counted.

MESSAGES is how many were published, BYTES those of their payloads, DELIVERIES how many went to clients, PUBLISHERS how many \
clients published them, an estimate with a standard error of 13 %. A window reaches back its length and up to a seventh more.

With --json: an array with an object for each topic: \"topic\", \"messages\", \"bytes\", \"deliveries\", \"publishers\".

Examples:
  midge hot
  midge hot --window 24h --by bytes -n 5
  midge hot --watch";

/// How often is looked again.
const AGAIN: Duration = Duration::from_secs(2);

impl HotCommand {
    pub(crate) fn run(&self, url: &str, prefix: &str, output: &mut Output) -> Result<Answer> {
        let mut log = open_hot(url, prefix)?;
        loop {
            self.show(log.as_mut(), output)?;
            if !self.watch {
                return Ok(Answer::Yes);
            }
            output.line("")?;
            output.flush()?;
            std::thread::sleep(AGAIN);
        }
    }

    fn show(&self, log: &mut dyn HotLog, output: &mut Output) -> Result<()> {
        let topics = log.top(self.window, self.by, self.count.into())?;
        let mut listing = output.listing(["MESSAGES", "BYTES", "DELIVERIES", "PUBLISHERS", "TOPIC"]);
        for topic in topics {
            let HotTopic { messages, bytes, deliveries, publishers, .. } = topic;
            let figures = [messages, bytes, deliveries, publishers].map(|figure| figure.to_string());
            let [messages, bytes, deliveries, publishers] = figures;
            listing.row(&topic, [messages, bytes, deliveries, publishers, topic.name.clone()])?;
        }
        listing.end("nothing was published, or no server counts for this store")
    }
}
