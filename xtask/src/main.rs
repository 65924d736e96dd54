//! Builds, tests and checks the project: `cargo xtask COMMAND`.
//!
//! Needs nothing but a Rust toolchain to build, so that it can fetch everything else.

mod bench;
mod counts;
mod fuzz;
mod plugin;
mod setup;
mod shell;
mod soak;
mod test;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  test [--fast]   everything a change must pass; --fast: unit tests of the crates only
  tidy            edges between crates, file headers, unsafe, paths, symbols
  plugin          builds dist/midge.so and dist/bin/midge, and says how to load the plugin
  bench           Midge beside its peers on this machine, into docs/benchmarks; [--rounds N] [--seconds N]
                  [--only ROW,ROW] [--peers A,B]; a wrong name shows all
  counts          instructions of the hot paths by callgrind, compared with those kept in docs/BENCHMARKS.md; [--keep]
  fuzz            libFuzzer over every reader of what others wrote, see fuzz/README.md; [--minutes N] [TARGET [INPUT]]
  soak            the broker under mixed traffic while its store fails, see docs/BENCH.md; [LENGTH], such as 10m; an hour where nothing is said
  setup           fetches the servers and clients the tests run against
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<bool> {
    match words {
        ["test"] => test::everything(),
        ["test", "--fast"] => test::fast(),
        ["tidy"] => tidy::run(),
        ["bench", words @ ..] => bench::run(words),
        ["counts", words @ ..] => counts::run(words),
        ["fuzz", words @ ..] => fuzz::run(words).map(|()| true),
        ["soak", words @ ..] => soak::run(words).map(|()| true),
        ["plugin"] => plugin::run().map(|()| true),
        ["setup"] => setup::run().map(|()| true),
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(true)
        }
        _ => bail!("unknown arguments: {}\n{HELP}", words.join(" ")),
    }
}
