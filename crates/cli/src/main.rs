//! The `midge` command: serves MQTT, manages accounts, explains decisions, pushes.
//!
//! Thin: what a name, a rule or a stored password may be is decided by `midge-core`, and where it lies by `midge-store`.
//! Every answer goes to standard output, as a table or as one JSON document; everything else goes to standard error.
//! A password is never taken from an argument, which other users of the machine could read, and never printed.

mod acl;
mod args;
mod ban;
mod bench;
mod clients;
mod config;
mod document;
mod explain;
mod failure;
mod group;
mod hot;
mod kick;
mod output;
mod push;
mod records;
mod rules;
mod secret;
mod serve;
mod span;
mod status;
mod target;
mod user;

use std::process::ExitCode;

use midge_broker::config::Faults;
use midge_store::{StoreError, StoreUrl};

use crate::args::{Cli, Command};
use crate::failure::{Answer, exit_code, is_closed_pipe};
use crate::output::Output;
use crate::records::Records;

fn main() -> ExitCode {
    let (cli, command) = match Cli::parse_words(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            // Without any word to go by, clap answers with the help, which is no complaint.
            let text = error.render().to_string();
            eprint!("{}", text.strip_prefix("error: ").map_or(text.clone(), |complaint| format!("midge: {complaint}")));
            return ExitCode::from(failure::BAD_INPUT);
        }
        Err(help) => {
            // Whoever closed the pipe has read enough of the help.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(&cli, &command) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(failure::NO),
        Ok(Answer::Wrong) => ExitCode::from(failure::BAD_INPUT),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Says on standard error what went wrong; of a configuration every fault on a line of its own.
fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Faults>() {
        Some(faults) => faults.iter().for_each(|fault| eprintln!("midge: {}", output::printable(&fault.to_string()))),
        None => eprintln!("midge: {}", output::printable(&format!("{error:#}"))),
    }
}

fn run(cli: &Cli, command: &Command) -> anyhow::Result<Answer> {
    let mut output = Output::new(cli.json);
    let answer = answer(cli, command, &mut output)?;
    output.flush()?;
    Ok(answer)
}

fn answer(cli: &Cli, command: &Command, output: &mut Output) -> anyhow::Result<Answer> {
    match command {
        Command::Serve(serve) => serve.run(cli.store.as_deref(), cli.prefix.as_deref(), output),
        Command::Config(command) => command.run(output),
        Command::Bench(bench) => bench.run(output),
        Command::BenchProcess => bench::obey(),
        Command::Completions { shell } => document::completions(*shell, output),
        Command::Man { directory } => document::man(directory.as_deref(), output),
        // What works on the store, of which some commands open more than the keys.
        _ => {
            let store = cli.store.clone().unwrap_or_else(records::default_store);
            manage(cli, command, &store, output).map_err(|error| match store.parse::<StoreUrl>() {
                // An embedded store names itself.
                Ok(url) if error.is::<StoreError>() && url.directory().is_none() => error.context(format!("the store {url}")),
                _ => error,
            })
        }
    }
}

/// Runs a command that works on the store.
fn manage(cli: &Cli, command: &Command, store: &str, output: &mut Output) -> anyhow::Result<Answer> {
    let prefix = cli.prefix.as_deref().unwrap_or(args::DEFAULT_PREFIX);
    let open = || Records::open(store, prefix);
    match command {
        Command::User(command) => command.run(&mut open()?, output),
        Command::Group(command) => command.run(&mut open()?, output),
        Command::Acl(command) => command.run(&mut open()?, output),
        Command::Ban(command) => command.run(&mut open()?, output),
        Command::Explain(question) => question.run(&mut open()?, output),
        Command::Kick(kick) => kick.run(&mut open()?, output),
        Command::Clients(clients) => clients.run(&mut open()?, output),
        Command::Status(status) => status.run(&mut open()?, output),
        Command::Hot(hot) => hot.run(store, prefix, output),
        Command::Push(push) => push.run(store, prefix, output),
        Command::Serve(_)
        | Command::Config(_)
        | Command::Bench(_)
        | Command::BenchProcess
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(Answer::Yes),
    }
}
