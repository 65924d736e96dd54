//! Shows that what arrives is what is counted.
//!
//! * [`brokers`]: Midge and Mosquitto, of which every message arrives once, whatever lies between.
//! * [`faults`]: a broker that loses, repeats, reorders and stalls, and what is said of it.

mod brokers;
mod faults;

use std::time::Duration;

use anyhow::Result;
use midge_bench::{Fleet, Plan, Report, Scenario};

/// Returns a plan that is quick, for a broker on this port.
fn plan(url: &str, scenario: Scenario) -> Result<Plan> {
    let mut plan = Plan::new(url.parse()?, scenario)?;
    plan.messages = Some(200);
    plan.drain = Duration::from_secs(10);
    Ok(plan)
}

fn run(plan: &Plan) -> Result<Report> {
    Ok(midge_bench::run(plan, &Fleet::Threads, &mut |_| {})?)
}
