//! Clients come and go, and messages wait for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use midge_testkit::{Protocol, RawClient, Will};

use crate::stage::{PATIENCE, Stage};
use crate::tally::{Tally, add};

/// Messages for a session that is away.
const KEPT: usize = 5;
/// The time between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn run(stage: &Stage, tally: &Tally) -> Result<()> {
    let mut speaker = stage.client("speaker", Protocol::V5)?;
    let mut listener = stage.client("listener", Protocol::V5)?;
    listener.subscribe(&[("will/+", 1)])?;
    for round in 0_u64.. {
        if tally.left() < Duration::from_secs(5) {
            break;
        }
        let protocol = if round.is_multiple_of(2) { Protocol::V5 } else { Protocol::V3_1_1 };
        away(stage, tally, &mut speaker, round, protocol).with_context(|| format!("round {round}, a session away"))?;
        will(stage, tally, &mut listener, round, protocol).with_context(|| format!("round {round}, a will"))?;
        retained(stage, tally, &mut speaker, round, protocol).with_context(|| format!("round {round}, a retained message"))?;
        tally.rest(PAUSE);
    }
    Ok(())
}

/// A session goes without a word, misses messages, and comes back for them.
fn away(stage: &Stage, tally: &Tally, speaker: &mut RawClient, round: u64, protocol: Protocol) -> Result<()> {
    let (id, topic) = (format!("away-{}", round % 50), format!("away/{}", round % 50));
    let hello = stage.hello(&id, protocol).persistent();
    let mut client = RawClient::connect(stage.port(), &hello)?;
    ensure!(client.subscribe(&[(&topic, 1)])? == [1], "the subscription was refused");
    drop(client);
    add(&tally.connects);
    let expected: Vec<String> = (0..KEPT).map(|number| format!("{round}-{number}")).collect();
    for payload in &expected {
        speaker.publish(&topic, payload.as_bytes(), 1, false)?;
    }
    let mut client = RawClient::connect(stage.port(), &hello)?;
    add(&tally.connects);
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let Some(message) = client.message(PATIENCE)? else { bail!("{} of {KEPT} came", got.len()) };
        let payload = message.text().1;
        // The first one is sent again where the connection ended before it was acknowledged.
        if got.last() != Some(&payload) {
            got.push(payload);
        }
    }
    ensure!(got == expected, "{got:?} came instead of {expected:?}");
    tally.kept.fetch_add(KEPT as u64, Ordering::Relaxed);
    client.disconnect()
}

/// A client goes without a word, and its will is published.
fn will(stage: &Stage, tally: &Tally, listener: &mut RawClient, round: u64, protocol: Protocol) -> Result<()> {
    let topic = format!("will/{round}");
    let will = Will { topic: topic.clone().into_bytes(), payload: b"gone".to_vec(), qos: 1, retain: false, properties: Vec::new() };
    let mut client = RawClient::connect(stage.port(), &stage.hello(&format!("mortal-{}", round % 7), protocol).will(will))?;
    client.ping(PATIENCE)?;
    add(&tally.connects);
    drop(client);
    let Some(message) = listener.message(PATIENCE)? else { bail!("it did not come") };
    ensure!(message.text().0 == topic, "{:?} came instead", message.text());
    add(&tally.wills);
    Ok(())
}

/// A message is retained, found by who comes later, and cleared.
fn retained(stage: &Stage, tally: &Tally, speaker: &mut RawClient, round: u64, protocol: Protocol) -> Result<()> {
    let topic = format!("retained/{}", round % 20);
    let payload = round.to_string();
    speaker.publish(&topic, payload.as_bytes(), 1, true)?;
    let mut client = stage.client(&format!("later-{}", round % 7), protocol)?;
    add(&tally.connects);
    client.subscribe(&[(&topic, 1)])?;
    let Some(message) = client.message(PATIENCE)? else { bail!("it did not come") };
    ensure!(message.retain && message.text().1 == payload, "{message:?} came instead");
    speaker.publish(&topic, b"", 1, true)?;
    let Some(message) = client.message(PATIENCE)? else { bail!("that it was cleared did not come") };
    ensure!(message.payload.is_empty(), "{message:?} came instead");
    add(&tally.retained);
    client.disconnect()
}
