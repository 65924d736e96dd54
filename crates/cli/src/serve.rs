//! `midge serve`: the server from its start to its end.
//!
//! Builds what holds from file, environment and flags, opens the store, says in plain words where it listens and who gets in,
//! and follows signals: SIGTERM and SIGINT end it in order, a second one at once, SIGHUP reads the configuration again.
//! What it needs of the event loops is [`Body`].

mod announce;
mod body;
mod logger;
mod systemd;
#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use midge_broker::config::Config;
use midge_broker::control::Control;
use midge_store::{Backend, KeyKind, Store};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Typed;
use crate::failure::{Answer, cannot_serve};
use crate::output::Output;
use announce::Announcement;
use body::{Body, Parts};
use systemd::{Inherited, notify};

/// The exit code after a second signal, which lost patience with the end.
const IMPATIENT: i32 = 130;

/// Run the server.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    typed: Typed,
}

const HELP: &str = "\
Without a configuration it listens on 127.0.0.1:1883, and on 127.0.0.1:8083 for WebSocket, and keeps everything in its data \
directory, users included. Clients on this machine need no username as long as there is no user. A listener that other \
machines can reach needs users, or --allow-anonymous.

All settings: `midge config show --defaults`. Each can be set in the file, or as MIDGE_NAME in the environment.

Signals:
  SIGTERM, SIGINT  end in order: clients are told, what has to survive is written; a second one ends at once
  SIGHUP           read the configuration and the files it names again

Exit codes:
  0    ended by a signal, in order
  2    wrong usage or a wrong configuration, or a listener nobody could get in by
  3    the store can't be used
  4    the server can't start, as with an address that is in use, or has ended by an error
  130  ended by a second signal

With --json, what is said at the start is one JSON object with \"listeners\", \"data\", \"store\", \"anonymous\", \"add_user\".";

impl ServeArgs {
    pub(crate) fn run(&self, store: Option<&str>, prefix: Option<&str>, output: &mut Output) -> Result<Answer> {
        let read = || self.typed.read(store, prefix).map_err(anyhow::Error::from);
        serve(&read, output, body::start)
    }
}

/// What reads the configuration, at the start and at each reload.
type Read<'a> = &'a dyn Fn() -> Result<(Config, Vec<String>)>;

fn serve<B: Body>(read: Read<'_>, output: &mut Output, start: impl FnOnce(&Config, Parts) -> Result<B>) -> Result<Answer> {
    let (config, warnings) = read()?;
    logger::install(config.log)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // From here on a signal is an order, and no end in the middle of something.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot_serve)?;
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&stopping)).map_err(cannot_serve)?;
    }
    let inherited = Inherited::take(&config.listeners).map_err(cannot_serve)?;
    let data = &config.data;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("the data directory {} can't be made", data.display())).map_err(cannot_serve)?;
    let backend: Arc<dyn Backend> = midge_store::open(&config.store, &config.store_settings)?.into();
    let any_user = any_user(&*backend).with_context(|| format!("the store {}", config.store))?;
    if let Some(listener) = config.useless_listener(any_user) {
        return Err(announce::nobody_gets_in(&config, listener));
    }
    let control = config.store_directory().map(|directory| Control::start(directory, backend.clone()));
    let control = control.transpose().context("the control socket can't be made").map_err(cannot_serve)?;
    let mut body = start(&config, Parts { inherited, backend: Arc::clone(&backend) })?;
    Announcement::new(&config, &body.addresses(), any_user).print(output)?;
    notify("READY=1");
    follow(&mut signals, &stopping, config, read, &mut body);
    notify("STOPPING=1");
    // The store is nobody's to change while what rests on it is being written.
    drop(control);
    body.stop()?;
    log::info!("ended in order");
    Ok(Answer::Yes)
}

/// Does what signals ask for, until one asks for the end.
fn follow(signals: &mut Signals, stopping: &AtomicBool, mut config: Config, read: Read<'_>, body: &mut impl Body) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            stopping.store(true, Ordering::SeqCst);
            log::info!("ending, as a signal asks for; a second one ends at once");
            return;
        }
        notify(&systemd::reloading());
        match reload(&config, read, body) {
            Ok(reloaded) => config = reloaded,
            Err(error) => log::error!("nothing is changed, as the configuration can't be read: {error:#}"),
        }
        notify("READY=1");
    }
}

/// Reads the configuration again and has acted on what can be; says what has changed.
fn reload(config: &Config, read: Read<'_>, body: &mut impl Body) -> Result<Config> {
    let (new, warnings) = read()?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let (reloaded, changed) = config.reload(&new)?;
    body.reload(&reloaded)?;
    log::set_max_level(reloaded.log.level);
    let names = |acts| {
        let names: Vec<&str> = changed.iter().filter(|each| each.acts == acts).map(|each| each.name.as_str()).collect();
        names.join(", ")
    };
    let (now, later) = (names(true), names(false));
    match (now.is_empty(), later.is_empty()) {
        (true, true) => log::info!("read again: nothing has changed; certificates and keys are read anew"),
        (false, true) => log::info!("read again: these act now: {now}"),
        (true, false) => log::warn!("read again: these need a restart: {later}"),
        (false, false) => log::warn!("read again: these act now: {now}; these need a restart: {later}"),
    }
    Ok(reloaded)
}

/// Returns whether there is any user in the store; one that can't be asked counts as having some, so that it opens no door.
fn any_user(backend: &dyn Backend) -> Result<bool> {
    let asked = backend.connect().and_then(|mut store: Box<dyn Store>| {
        let mut any = false;
        store.list(KeyKind::User, &mut |_| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    });
    match asked {
        Err(error) if error.is_away() => {
            log::warn!("the store doesn't answer yet, so nobody is known: {error}");
            Ok(true)
        }
        asked => Ok(asked?),
    }
}
