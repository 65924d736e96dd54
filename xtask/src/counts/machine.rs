//! What decides how many instructions a path has, beside its source.
//!
//! The compiler makes them, the C library chooses its copying by what the processor can do, and valgrind says what that is.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Returns the compiler with its target, the processor's level, the C library and valgrind, in one line.
///
/// # Errors
/// When one of them doesn't say what it is.
pub(super) fn describe() -> Result<String> {
    let about = shell::output(Command::new("rustc").arg("-vV"))?;
    let rustc = about.lines().next().context("rustc names no version")?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let processor = match std::fs::read_to_string("/proc/cpuinfo") {
        Ok(text) if host.starts_with("x86_64") => level(&text),
        _ => "any processor",
    };
    let library = shell::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let valgrind = shell::output(Command::new("valgrind").arg("--version"))?;
    Ok(format!("{rustc}, {host}, {processor}, {}, {}", library.trim(), valgrind.trim()))
}

/// Returns the level of the x86-64 ABI that a processor reaches, as far as valgrind knows: 4 counts as 3.
fn level(cpuinfo: &str) -> &'static str {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let has = |wanted: &[&str]| wanted.iter().all(|flag| flags.contains(flag));
    if !has(&["cx16", "popcnt", "ssse3", "sse4_1", "sse4_2"]) {
        return "x86-64";
    }
    if has(&["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"]) { "x86-64-v3" } else { "x86-64-v2" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_a_level() {
        let two = "cx16 popcnt ssse3 sse4_1 sse4_2";
        let three = format!("{two} abm avx avx2 bmi1 bmi2 f16c fma movbe");
        for (flags, expected) in [("fpu sse2", "x86-64"), (two, "x86-64-v2"), (&three, "x86-64-v3")] {
            assert_eq!(level(&format!("processor\t: 0\nflags\t\t: {flags}\n")), expected, "{flags}");
        }
    }
}
