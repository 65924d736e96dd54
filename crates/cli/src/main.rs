//! The `midge` command: manages accounts and rules, explains decisions, pushes.
//!
//! Thin: what a name, a rule or a stored password may be is decided by `midge-core`, and where it lies by `midge-store`.
//! Every answer goes to standard output, as a table or as one JSON document; everything else goes to standard error.
//! A password is never taken from an argument, which other users of the machine could read, and never printed.

mod acl;
mod args;
mod ban;
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
mod span;
mod status;
mod target;
mod user;

use std::process::ExitCode;

use clap::Parser;
use midge_store::{StoreError, StoreUrl};

use crate::args::{Cli, Command};
use crate::failure::{Answer, exit_code, is_closed_pipe};
use crate::output::Output;
use crate::records::Records;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
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
    match run(&cli) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(failure::NO),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("midge: {}", output::printable(&format!("{error:#}")));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Answer> {
    let mut output = Output::new(cli.json);
    let answer = answer(cli, &mut output).map_err(|error| match cli.store.parse::<StoreUrl>() {
        // An embedded store names itself.
        Ok(url) if error.is::<StoreError>() && url.directory().is_none() => error.context(format!("the store {url}")),
        _ => error,
    })?;
    output.flush()?;
    Ok(answer)
}

fn answer(cli: &Cli, output: &mut Output) -> anyhow::Result<Answer> {
    let open = || Records::open(&cli.store, &cli.prefix);
    match &cli.command {
        Command::User(command) => command.run(&mut open()?, output),
        Command::Group(command) => command.run(&mut open()?, output),
        Command::Acl(command) => command.run(&mut open()?, output),
        Command::Ban(command) => command.run(&mut open()?, output),
        Command::Explain(question) => question.run(&mut open()?, output),
        Command::Kick(kick) => kick.run(&mut open()?, output),
        Command::Status(status) => status.run(&mut open()?, output),
        Command::Hot(hot) => hot.run(&cli.store, &cli.prefix, output),
        Command::Push(push) => push.run(&cli.store, &cli.prefix, output),
        Command::Completions { shell } => document::completions(*shell, output),
        Command::Man { directory } => document::man(directory.as_deref(), output),
    }
}
