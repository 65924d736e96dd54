//! What the plugin's file exports, and what it needs.
//!
//! One undefined broker symbol, and an older Mosquitto refuses to start.

use std::process::Command;

use midge_testkit::plugin;

const EXPORTED: [&str; 13] = [
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

fn symbols(which: &str) -> Vec<String> {
    let listing = Command::new("nm").args(["-D", "--format=posix", which]).arg(plugin().unwrap()).output().unwrap();
    assert!(listing.status.success(), "{listing:?}");
    let text = String::from_utf8(listing.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(|name| name.split('@').next().unwrap().to_owned()).collect()
}

#[test]
fn it_exports_the_entry_points_and_nothing_else() {
    let mut exported = symbols("--defined-only");
    exported.sort();
    assert_eq!(exported, EXPORTED);
}

#[test]
fn it_needs_no_symbol_of_a_broker_or_of_its_tls() {
    let needed = symbols("--undefined-only");
    let foreign = |name: &&String| ["mosquitto_", "SSL_", "X509_", "i2d_"].iter().any(|prefix| name.starts_with(prefix));
    assert_eq!(needed.iter().find(foreign), None);
}
