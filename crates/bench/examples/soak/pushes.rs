//! Pushes through the store: each arrives, whatever the store does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use midge_testkit::Protocol;

use crate::stage::{PATIENCE, Stage};
use crate::tally::{Tally, add};

/// The time between two.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(stage: &Stage, tally: &Tally) -> Result<()> {
    let mut client = stage.client("pushed", Protocol::V5)?;
    client.subscribe(&[("push/+", 1)])?;
    let (mut missing, mut number) = (BTreeSet::new(), 0_u64);
    while tally.left() > Duration::from_secs(5) {
        number += 1;
        let (text, topic) = (number.to_string(), format!("push/{}", number % 10));
        stage.redis().cli(&["XADD", "midge:push", "*", "topic", &topic, "payload", &text, "id", &text])?;
        missing.insert(number);
        while let Some(message) = client.message(PAUSE)? {
            take(&mut missing, &message.text().1, tally)?;
        }
    }
    while !missing.is_empty() {
        let Some(message) = client.message(PATIENCE)? else { break };
        take(&mut missing, &message.text().1, tally)?;
    }
    ensure!(missing.is_empty(), "{} of {number} pushes did not come, the first is {:?}", missing.len(), missing.first());
    Ok(())
}

fn take(missing: &mut BTreeSet<u64>, payload: &str, tally: &Tally) -> Result<()> {
    add(if missing.remove(&payload.parse()?) { &tally.pushed } else { &tally.repeated });
    Ok(())
}
