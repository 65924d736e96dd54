//! Downloads packages of any Debian release beside the system's own.
//!
//! Uses the mirror that the machine's sources name, with state, cache and package list of its own: the system's are
//! neither read nor changed, so every dependency, the C library included, is downloaded too.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the machine gets its own release from.
#[derive(Debug, PartialEq)]
pub(super) struct Mirror {
    pub(super) uri: String,
    keyring: String,
}

/// Downloads the packages and all they depend on into `work`, and returns the files.
///
/// # Errors
/// When apt isn't there, no source names a mirror, or the download fails.
pub(super) fn download(release: &str, packages: &[&str], work: &Path) -> Result<Vec<PathBuf>> {
    if !shell::has("apt-get") || !shell::has("dpkg-deb") {
        bail!("apt-get and dpkg-deb are needed: run this on Debian, or in its container image");
    }
    let mirror = Mirror::of_this_machine()?;
    for dir in ["state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(work.join(dir))?;
    }
    std::fs::write(work.join("state/status"), "")?;
    std::fs::write(work.join("sources.list"), format!("deb [signed-by={}] {} {release} main\n", mirror.keyring, mirror.uri))?;
    shell::output(apt(work).arg("update"))?;
    shell::output(apt(work).args(["-y", "--download-only", "install"]).args(packages))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(work.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn apt(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let option = |name: &str, path: &str| format!("{name}={}", work.join(path).display());
    for setting in [
        option("Dir::State", "state"),
        option("Dir::State::status", "state/status"),
        option("Dir::Cache", "cache"),
        option("Dir::Etc::sourcelist", "sources.list"),
        "Dir::Etc::sourceparts=/dev/null".into(),
        "Dir::Etc::preferences=/dev/null".into(),
        "Dir::Etc::preferencesparts=/dev/null".into(),
        "APT::Install-Recommends=0".into(),
        "APT::Sandbox::User=root".into(),
        "Acquire::Languages=none".into(),
        "Acquire::Retries=3".into(),
        // Signatures are checked; a mirror that lags behind serves as well, as these are peers of tests and no updates.
        "Acquire::Check-Valid-Until=false".into(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
    ] {
        command.arg("-o").arg(setting);
    }
    command
}

impl Mirror {
    /// Returns the mirror of the machine's own release.
    ///
    /// # Errors
    /// When no source names one.
    pub(super) fn of_this_machine() -> Result<Self> {
        let release = std::fs::read_to_string("/etc/os-release")?;
        let codename = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no VERSION_CODENAME")?;
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        for entry in std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten() {
            files.push(entry?.path());
        }
        files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .find_map(|text| Self::parse(&text, codename))
            .with_context(|| format!("no source under /etc/apt offers {codename} main"))
    }

    /// Finds the source of `codename main` in a sources file of either format.
    fn parse(text: &str, codename: &str) -> Option<Self> {
        text.lines()
            .find_map(|line| Self::from_line(line, codename))
            .or_else(|| text.split("\n\n").find_map(|part| Self::from_paragraph(part, codename)))
    }

    fn from_line(line: &str, codename: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => ("", rest),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [uri, suite, components @ ..] = words.as_slice() else { return None };
        let keyring = options.split_whitespace().find_map(|word| word.strip_prefix("signed-by="));
        (*suite == codename && components.contains(&"main")).then(|| Self::new(uri, keyring))
    }

    fn from_paragraph(part: &str, codename: &str) -> Option<Self> {
        let field = |name: &str| part.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let lists = |name: &str, word: &str| field(name)?.split_whitespace().find(|w| *w == word);
        lists("Types", "deb")?;
        lists("Suites", codename)?;
        lists("Components", "main")?;
        let uri = field("URIs")?.split_whitespace().next()?;
        Some(Self::new(uri, field("Signed-By")))
    }

    fn new(uri: &str, keyring: Option<&str>) -> Self {
        let keyring = keyring.filter(|path| path.starts_with('/')).unwrap_or(KEYRING);
        Self { uri: uri.to_owned(), keyring: keyring.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror_in_both_formats() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(uri, keyring)| Mirror::new(uri, Some(keyring)));
            assert_eq!(Mirror::parse(text, "bookworm"), expected, "{text}");
        };
        check("", None);
        check("# deb http://a bookworm main", None);
        check("deb http://a bookworm main", Some(("http://a", KEYRING)));
        check("deb http://a bookworm-updates main\ndeb http://b bookworm main", Some(("http://b", KEYRING)));
        check("deb [arch=amd64 signed-by=/k] http://a bookworm contrib main", Some(("http://a", "/k")));
        check("deb-src http://a bookworm main", None);
        check("Types: deb\nURIs: http://a\nSuites: sid\nComponents: main", None);
        check(
            "Types: deb\n# why\nURIs: http://a\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k",
            Some(("http://a", "/k")),
        );
    }
}
