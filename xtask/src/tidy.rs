//! Keeps the house rules that a compiler doesn't.
//!
//! Every fault is one line: file, line, rule.

mod edges;
mod files;
mod source;
mod symbols;

use crate::plugin;
use anyhow::Result;
use std::fmt;
use std::path::Path;

/// A broken rule and where it was broken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Checks everything, prints the faults, and returns whether there were none.
///
/// # Errors
/// When Cargo or `nm` can't be asked, or a file can't be read.
pub(crate) fn run() -> Result<bool> {
    let mut faults = edges::check()?;
    faults.extend(files::check()?);
    let plugin = plugin::debug_file();
    if plugin.exists() {
        faults.extend(symbols::check(&plugin)?);
    } else {
        println!("tidy: symbols not checked, the plugin isn't built (`cargo xtask test` builds it)");
    }
    for fault in &faults {
        println!("{fault}");
    }
    println!("tidy: {} faults", faults.len());
    Ok(faults.is_empty())
}

/// Returns what is wrong with a built plugin's symbols.
///
/// # Errors
/// When `nm` can't read the file.
pub(crate) fn symbols(plugin: &Path) -> Result<Vec<Fault>> {
    symbols::check(plugin)
}
