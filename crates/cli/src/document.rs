//! Completions and manual pages, generated from the command itself.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::failure::Answer;
use crate::output::Output;

pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "midge", &mut script);
    output.raw(&script)?;
    Ok(Answer::Yes)
}

/// Writes one page per command into `directory`, or prints the page of `midge`.
pub(crate) fn man(directory: Option<&Path>, output: &mut Output) -> Result<Answer> {
    match directory {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory)
            .with_context(|| format!("the pages can't be written into {}", directory.display()))?,
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            output.raw(&page)?;
        }
    }
    Ok(Answer::Yes)
}
