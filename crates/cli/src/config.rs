//! `midge config`: says what is wrong, and what holds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use midge_broker::config::{Config, Faults, Sources, defaults};
use serde_json::json;

use crate::failure::Answer;
use crate::output::Output;

/// What to do with the broker's configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong with the configuration, and change nothing.
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The file; MIDGE_... variables count as they do for `serve`.
        #[arg(env = "MIDGE_CONFIG", value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print what holds and where it was set; without a file, what holds then.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Print a complete file instead, with what every setting does and its default.
        #[arg(long, conflicts_with = "config")]
        defaults: bool,
        /// The file.
        #[arg(long, env = "MIDGE_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

const CHECK_HELP: &str = "\
Exit code 2 where anything is wrong.

With --json: {\"faults\": [text, ...], \"warnings\": [text, ...]}.";

const SHOW_HELP: &str = "\
The answer is a file that sets the same, without passwords.

With --json, an array of {\"listener\", \"name\", \"value\", \"source\"}, listener being absent for settings of the whole server.";

/// What `serve` takes beside the file and the environment.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Typed {
    /// The configuration file; without it nothing but variables, flags and defaults holds.
    #[arg(long, env = "MIDGE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Listen here for plain MQTT, and nowhere else; may be given several times.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<String>,
    /// Where everything is kept that outlives the process.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Let clients in that give no username, from other machines as well.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
}

impl ConfigCommand {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Answer> {
        match self {
            Self::Check { file } => check(sources(file.as_deref()), output),
            Self::Show { defaults: true, .. } => {
                output.raw(defaults().as_bytes())?;
                Ok(Answer::Yes)
            }
            Self::Show { config, .. } => {
                let (config, warnings) = finish(sources(config.as_deref()))?;
                warnings.iter().for_each(|warning| output.warn(warning));
                if output.is_json() {
                    output.document(&config.shown())?;
                } else {
                    output.raw(config.to_toml().as_bytes())?;
                }
                Ok(Answer::Yes)
            }
        }
    }
}

impl Typed {
    /// Reads the file, the environment and what was typed; `store` and `prefix` are options of every command.
    pub(crate) fn read(&self, store: Option<&str>, prefix: Option<&str>) -> Result<(Config, Vec<String>), Faults> {
        let mut sources = sources(self.config.as_deref());
        sources.listen("--listen", &self.listen);
        let anonymous = self.allow_anonymous.then_some("allow");
        let flags = [
            ("data", "--data", self.data.as_deref()),
            ("store", "--store", typed(store, "MIDGE_STORE")),
            ("prefix", "--prefix", typed(prefix, "MIDGE_PREFIX")),
            ("anonymous", "--allow-anonymous", anonymous),
        ];
        for (name, flag, value) in flags {
            if let Some(value) = value {
                sources.flag(name, flag, value);
            }
        }
        finish(sources)
    }
}

/// Returns the value of an option unless it comes from the variable, which the sources read themselves.
fn typed<'a>(value: Option<&'a str>, variable: &str) -> Option<&'a str> {
    value.filter(|value| std::env::var_os(variable) != Some(OsString::from(value)))
}

fn sources(file: Option<&Path>) -> Sources {
    let mut sources = Sources::new();
    if let Some(file) = file {
        sources.file(file);
    }
    sources.environment(std::env::vars_os());
    sources
}

fn finish(sources: Sources) -> Result<(Config, Vec<String>), Faults> {
    let warnings = sources.warnings().to_vec();
    sources.finish().map(|config| (config, warnings))
}

fn check(sources: Sources, output: &mut Output) -> Result<Answer> {
    let warnings = sources.warnings().to_vec();
    let found = sources.finish();
    if output.is_json() {
        let faults: Vec<String> = found.as_ref().err().iter().flat_map(|faults| faults.iter()).map(ToString::to_string).collect();
        output.document(&json!({ "faults": faults, "warnings": warnings }))?;
        return Ok(if faults.is_empty() { Answer::Yes } else { Answer::Wrong });
    }
    warnings.iter().for_each(|warning| output.warn(warning));
    found?;
    output.line("nothing is wrong")?;
    Ok(Answer::Yes)
}
