//! Keeps the crates apart that must not know each other.
//!
//! Direct edges come from `cargo metadata`; what the plugin links, from `cargo tree` with the plugin's own features.

use super::Fault;
use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;

/// Each crate and the crates of this workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("midge-core", &[]),
    ("midge-mqtt", &[]),
    ("midge-testkit", &[]),
    ("xtask", &[]),
    ("midge-bench", &["midge-mqtt"]),
    ("midge-store", &["midge-core"]),
    ("midge-engine", &["midge-mqtt", "midge-core"]),
    ("midge-broker", &["midge-engine", "midge-mqtt", "midge-store", "midge-core"]),
    ("midge-admin", &["midge-store", "midge-core"]),
    ("midge-plugin", &["midge-store", "midge-core"]),
    ("midge", &["midge-bench", "midge-broker", "midge-admin", "midge-store", "midge-core", "midge-engine", "midge-mqtt"]),
];

/// What must never be linked into a host's process.
const NOT_IN_PLUGIN: &[&str] = &["tokio", "axum", "midge-mqtt", "midge-engine", "midge-testkit"];

/// Returns the edges that are not allowed.
///
/// # Errors
/// When Cargo can't be asked.
pub(super) fn check() -> Result<Vec<Fault>> {
    let text = shell::output(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut faults: Vec<Fault> = packages.iter().flat_map(edges).collect();
    let tree = shell::output(shell::cargo().args(["tree", "--package", "midge-plugin", "--edges", "normal", "--prefix", "none"]))?;
    faults.extend(linked(&tree).map(|name| Fault {
        file: "Cargo.toml".into(),
        line: 1,
        rule: format!("the plugin links {name}, which has no place in a host's process"),
    }));
    Ok(faults)
}

fn edges(package: &Value) -> Vec<Fault> {
    let name = package["name"].as_str().unwrap_or_default();
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let manifest_text = std::fs::read_to_string(manifest).unwrap_or_default();
    let fault = |dependency: &str, rule: String| Fault {
        file: manifest.strip_prefix(&format!("{}/", shell::root().display())).unwrap_or(manifest).into(),
        line: manifest_text.lines().position(|line| line.starts_with(dependency)).map_or(1, |at| at + 1),
        rule,
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return vec![fault("name", format!("{name} is missing in the table of allowed edges"))];
    };
    package["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|dependency| dependency["kind"] != "dev" && dependency["path"].is_string())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| fault(dependency, format!("{name} must not depend on {dependency}")))
        .collect()
}

fn linked(tree: &str) -> impl Iterator<Item = &'static str> {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found: Vec<&'static str> = NOT_IN_PLUGIN.iter().copied().filter(|name| names.contains(name)).collect();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refuses_edges_outside_the_table() {
        let check = |name: &str, dependencies: Value, expected: &[&str]| {
            let package = json!({"name": name, "manifest_path": "m", "dependencies": dependencies});
            let rules: Vec<String> = edges(&package).into_iter().map(|fault| fault.rule).collect();
            assert_eq!(rules, expected);
        };
        check("midge-store", json!([{"name": "midge-core", "kind": null, "path": "p"}]), &[]);
        check(
            "midge-core",
            json!([{"name": "midge-store", "kind": null, "path": "p"}]),
            &["midge-core must not depend on midge-store"],
        );
        check("midge-core", json!([{"name": "midge-testkit", "kind": "dev", "path": "p"}]), &[]);
        check(
            "midge-core",
            json!([{"name": "midge-testkit", "kind": "build", "path": "p"}]),
            &["midge-core must not depend on midge-testkit"],
        );
        check("new", json!([]), &["new is missing in the table of allowed edges"]);
    }

    #[test]
    fn sees_what_the_plugin_links() {
        let tree = "midge-plugin v0.1.0 (/x)\ntokio-util v0.7\ntokio v1.0 (*)";
        assert_eq!(linked(tree).collect::<Vec<_>>(), ["tokio"]);
    }
}
