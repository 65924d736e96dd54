//! Keeps the plugin loadable by every supported Mosquitto.
//!
//! A single undefined broker symbol makes an older Mosquitto refuse to start, so none may be there; the entry points
//! are exactly those that Mosquitto looks up.

use super::Fault;
use crate::shell;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Every symbol that the plugin exports.
const EXPORTED: &[&str] = &[
    "mosquitto_auth_acl_check",
    "mosquitto_auth_continue",
    "mosquitto_auth_plugin_cleanup",
    "mosquitto_auth_plugin_init",
    "mosquitto_auth_plugin_version",
    "mosquitto_auth_psk_key_get",
    "mosquitto_auth_security_cleanup",
    "mosquitto_auth_security_init",
    "mosquitto_auth_start",
    "mosquitto_auth_unpwd_check",
    "mosquitto_plugin_cleanup",
    "mosquitto_plugin_init",
    "mosquitto_plugin_version",
];

/// Returns what is wrong with a plugin file's dynamic symbols.
///
/// # Errors
/// When `nm` can't read the file.
pub(super) fn check(plugin: &Path) -> Result<Vec<Fault>> {
    let listing = shell::output(Command::new("nm").arg("-D").arg(plugin))?;
    let file = plugin.strip_prefix(shell::root()).unwrap_or(plugin).display().to_string();
    Ok(faults(&listing).into_iter().map(|rule| Fault { file: file.clone(), line: 0, rule }).collect())
}

fn faults(listing: &str) -> Vec<String> {
    let mut defined = Vec::new();
    let mut faults = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., kind, name] = words.as_slice() else { continue };
        match *kind {
            "U" | "w" | "v" if name.starts_with("mosquitto_") => {
                faults.push(format!("undefined broker symbol {name}: look it up with dlsym"));
            }
            "U" | "w" | "v" => {}
            _ => defined.push(*name),
        }
    }
    for name in EXPORTED.iter().filter(|name| !defined.contains(name)) {
        faults.push(format!("does not export {name}"));
    }
    for name in defined.iter().filter(|name| !EXPORTED.contains(name)) {
        faults.push(format!("exports {name}, which is not in the list"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_with_the_list() {
        let all: String = EXPORTED.iter().map(|name| format!("0000000000001000 T {name}\n")).collect();
        let check = |listing: String, expected: &[&str]| assert_eq!(faults(&listing), expected);
        check(all.clone(), &[]);
        check(format!("{all}                 U malloc@GLIBC_2.2.5\n"), &[]);
        check(
            format!("{all}                 w mosquitto_kick\n"),
            &["undefined broker symbol mosquitto_kick: look it up with dlsym"],
        );
        check(format!("{all}0000000000001000 T extra\n"), &["exports extra, which is not in the list"]);
        check(
            all.replace("mosquitto_plugin_init\n", "x\n"),
            &["does not export mosquitto_plugin_init", "exports x, which is not in the list"],
        );
    }
}
