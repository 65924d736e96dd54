//! Loads a broker for long, while its store fails.
//!
//! `soak SECONDS FOLDER`, which `cargo xtask soak` runs: a `midge serve` of two event loops over a Redis that is slow, silent or away
//! in turns. Meanwhile there are loads by `midge bench`, clients that come and go, pushes, kicks, changes of rules and reloads.
//! At the end nothing may be lost, and memory and descriptors must be where they were.

mod churn;
mod faults;
mod loads;
mod pushes;
mod samples;
mod stage;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use loads::Loads;
use samples::Samples;
use stage::Stage;
use tally::Tally;

/// Less than this has no time for each fault.
const SHORTEST: u64 = 30;

fn main() -> ExitCode {
    match soak() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, folder] = args.as_slice() else { bail!("soak SECONDS FOLDER") };
    let seconds: u64 = seconds.parse().context("SECONDS is a whole number")?;
    if seconds < SHORTEST {
        bail!("a soak takes at least {SHORTEST} seconds");
    }
    let length = Duration::from_secs(seconds);
    let stage = Arc::new(Stage::start(&PathBuf::from(folder))?);
    let tally = Arc::new(Tally::new(length));
    let idle = samples::now(stage.pid())?;
    println!("midge serve at port {} for {seconds} s; its log: {}", stage.port(), stage.log().display());
    let loads = Loads::start(&stage, length)?;
    let side = |name: &str, body: fn(&Stage, &Tally) -> Result<()>| {
        let (stage, tally, name) = (Arc::clone(&stage), Arc::clone(&tally), name.to_owned());
        thread::spawn(move || {
            if let Err(error) = body(&stage, &tally) {
                tally.complain(format!("{name}: {error:#}"));
            }
        })
    };
    let sides = [side("comings and goings", churn::run), side("faults", faults::run), side("pushes", pushes::run)];
    let mut samples = Samples::default();
    let watched = watch(&stage, &tally, &mut samples);
    // However it went, nothing that was started is left behind.
    tally.end();
    for side in sides {
        if side.join().is_err() {
            tally.complain("a part of the soak has panicked".to_owned());
        }
    }
    watched?;
    let said = loads.finish(&tally)?;
    samples.judge(&tally);
    stage.is_empty_again(idle, &tally)?;
    println!("{said}\n{}", tally.summary(&samples));
    let complaints = tally.complaints();
    complaints.iter().for_each(|complaint| println!("FAILED: {complaint}"));
    if complaints.is_empty() { Ok(()) } else { bail!("{} rules were broken; the log: {}", complaints.len(), stage.log().display()) }
}

/// Takes a sample a second until the end, and sees that the broker is there.
fn watch(stage: &Stage, tally: &Tally, samples: &mut Samples) -> Result<()> {
    while !tally.is_over() {
        tally.rest(Duration::from_secs(1));
        if stage.has_ended()? {
            bail!("midge serve has ended in the middle; its log: {}", stage.log().display());
        }
        if tally.left() > loads::END {
            samples.add(samples::now(stage.pid())?);
            if samples.len().is_multiple_of(30) {
                println!("{}", tally.progress(samples));
            }
        }
    }
    Ok(())
}
