//! Looks at every source file for headers, length, `unsafe` and paths.
//!
//! Reads what lies in the tree, committed or not, but nothing that is generated.

use super::{Fault, source};
use crate::shell;
use anyhow::Result;
use std::path::{Path, PathBuf};

const HEADER_WORDS: usize = 11;
const LONG_FILE: usize = 600;
const LONG_REASON: &str = "This file is long:";

const MAY_BE_UNSAFE: &[&str] = &["src/abi.rs", "src/host.rs", "src/border.rs", "src/events.rs", "src/legacy.rs"];

/// Folders that hold nothing written by hand.
const SKIPPED: &[&str] = &["target", "dist", "node_modules", ".git", "corpus", "artifacts"];

const TEXT: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "conf", "c", "h", "py", "js", "json", "html"];

// Written in two parts, or this file would be the first to break the rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Returns the faults of all files.
///
/// # Errors
/// When a folder or file can't be read.
pub(super) fn check() -> Result<Vec<Fault>> {
    let mut files = Vec::new();
    collect(shell::root(), &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    for path in files {
        let name = path.strip_prefix(shell::root()).unwrap_or(&path).display().to_string();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        faults.extend(check_file(&name, &text).into_iter().map(|(line, rule)| Fault { file: name.clone(), line, rule }));
    }
    Ok(faults)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| TEXT.iter().any(|t| e == *t)) {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS.iter().filter(|path| line.contains(*path)) {
            faults.push((at + 1, format!("names a path of one machine ({path}…)")));
        }
    }
    if name.ends_with(".rs") {
        check_rust(name, text, &mut faults);
    }
    faults
}

fn check_rust(name: &str, text: &str, faults: &mut Vec<(usize, String)>) {
    if name == "mod.rs" || name.ends_with("/mod.rs") {
        faults.push((1, "is a mod.rs: name the file after its module, beside the folder".into()));
    }
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let header = header.join(" ");
    let words = first_sentence(&header).split_whitespace().count();
    if words == 0 {
        faults.push((1, "does not open with a //! header".into()));
    } else if words > HEADER_WORDS {
        faults.push((1, format!("the header's first sentence has {words} words, at most {HEADER_WORDS}")));
    }
    let length = text.lines().count();
    if length > LONG_FILE && !header.contains(LONG_REASON) {
        faults.push((length, format!("has {length} lines: split it, or say why in the header ({LONG_REASON:?} …)")));
    }
    if MAY_BE_UNSAFE.contains(&name) {
        return;
    }
    for (at, line) in source::code(text).lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|word| word == "unsafe") {
            faults.push((at + 1, format!("unsafe belongs into {}", MAY_BE_UNSAFE.join(", "))));
        }
    }
}

fn first_sentence(header: &str) -> &str {
    let header = header.trim();
    let end = header.char_indices().find(|(at, c)| matches!(c, '.' | '!' | '?') && header[at + 1..].starts_with([' ', '\t']));
    end.map_or(header, |(at, _)| &header[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_rule() {
        let check = |name: &str, text: &str, expected: &[usize]| {
            let lines: Vec<usize> = check_file(name, text).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, expected, "{name}: {text}");
        };
        check("a.rs", "//! Short header.\n", &[]);
        check("a.rs", "//! one two three four five six\n//! seven eight nine ten eleven.\n", &[]);
        check("a.rs", "//! one two three four five six\n//! seven eight nine ten eleven twelve. More.\n", &[1]);
        check("a.rs", "//! Reads 1.4 files. All of them, however many words this has now.\n", &[]);
        check("a.rs", "fn main() {}\n", &[1]);
        check("a/mod.rs", "//! Short.\n", &[1]);
        check("a.rs", "//! Short.\n// unsafe\nunsafe fn f() {}\n", &[3]);
        check("a.rs", "//! Short.\n#![forbid(unsafe_code)]\n", &[]);
        check("src/abi.rs", "//! Short.\nunsafe fn f() {}\n", &[]);
        check("crates/a/src/abi.rs", "//! Short.\nunsafe fn f() {}\n", &[2]);
        check("a.md", &format!("x\n{}x\n", MACHINE_PATHS[0]), &[2]);
        let long = "\n".repeat(LONG_FILE);
        check("a.rs", &format!("//! Short.\n{long}"), &[LONG_FILE + 1]);
        check("a.rs", &format!("//! Short.\n//! {LONG_REASON} one table.\n{long}"), &[]);
    }
}
