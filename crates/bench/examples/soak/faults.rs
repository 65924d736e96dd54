//! The store fails in all ways in turn.
//!
//! Between the faults an operator is at work.

use std::time::Duration;

use anyhow::{Result, ensure};
use midge_testkit::{Connect, Mode, Protocol, RawClient, until};

use crate::stage::{PASSWORD, PATIENCE, Stage};
use crate::tally::{Tally, add};

const MODES: [Mode; 4] = [Mode::Refuse, Mode::BlackHole, Mode::Delay(Duration::from_millis(200)), Mode::Reset];

/// How long a fault lasts at most.
const LONGEST: Duration = Duration::from_secs(20);
/// The part of the whole after which the next fault comes.
const PARTS: u32 = 12;

pub(crate) fn run(stage: &Stage, tally: &Tally) -> Result<()> {
    let period = (tally.length() / PARTS).min(LONGEST * 3);
    for round in 0.. {
        if tally.left() < period + Duration::from_secs(5) {
            break;
        }
        stage.proxy().set(MODES[round % MODES.len()])?;
        add(&tally.faults);
        tally.rest(period / 3);
        stage.proxy().set(Mode::Pass)?;
        operate(stage, tally)?;
        tally.rest(period / 3);
    }
    Ok(())
}

/// Reloads, takes a right away and gives it back, which shows once the store is there again, and then kicks somebody.
fn operate(stage: &Stage, tally: &Tally) -> Result<()> {
    stage.reload()?;
    add(&tally.reloads);
    let hello = Connect::new(Protocol::V5, "live").login("live", PASSWORD);
    let mut live = until("a login", PATIENCE, || Ok(RawClient::connect(stage.port(), &hello).ok()))?;
    for (rights, expected) in [("!p", 0x87), ("p", 0)] {
        stage.command(&["acl", "set", "--user", "live", "live/topic", rights], "")?;
        let acts = |code: u8| if expected == 0 { code < 0x80 } else { code == expected };
        until("a change of rules", PATIENCE, || Ok(acts(live.publish("live/topic", b"x", 1, false)?).then_some(())))?;
        add(&tally.changes);
    }
    ensure!(stage.command(&["status"], "")?.contains("soak"), "the node doesn't say how it is");
    live.disconnect()?;
    let mut client = stage.client("kicked", Protocol::V5)?;
    stage.command(&["kick", "client:kicked"], "")?;
    client.closed(PATIENCE)?;
    add(&tally.kicks);
    until("the kicked client's return", PATIENCE, || Ok(stage.client("kicked", Protocol::V5).ok()))?.disconnect()
}
