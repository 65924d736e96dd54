//! What can be set, and what is said about what can't.

use super::table::Setting;
use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<(Settings, Vec<String>), OptionError> {
    Settings::read(&Given::new(pairs))
}

#[test]
fn wrong_values_name_option_value_and_what_is_allowed() {
    for (key, value) in [
        ("login_deadline", "250"),
        ("login_deadline", "soon"),
        ("store_down", "allow"),
        ("anonymous", "true"),
        ("hash_threads", "0"),
        ("store", "http://x"),
        ("store", ""),
        ("log_level", "loud"),
        ("redis_port", "99999"),
        ("backends", "files"),
        ("jwt_leeway", "1d"),
        ("store_password_file", "/nonexistent"),
    ] {
        let error = read(&[(key, value)]).expect_err(key).to_string();
        assert!(error.contains(&format!("auth_opt_{key}")) && error.contains("allowed"), "{error}");
    }
}

#[test]
fn unknown_options_are_named_and_not_fatal() {
    let (_, warnings) = read(&[("stor", "x"), ("hasher", "bcrypt"), ("something_else_entirely", "1")]).unwrap();
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].contains("auth_opt_stor ") && warnings[0].contains("did you mean store?"), "{}", warnings[0]);
    assert!(warnings[1].contains("hasher"));
}

#[test]
fn a_password_is_never_shown() {
    for url in ["redis://me:geheim@host:notaport", "redis://me:geheim", "redis://me:1/geheim@host", "redis://me:geheim?x@host"] {
        let error = read(&[("store", url)]).expect_err(url).to_string();
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn go_auth_names_lead_to_the_same_store() {
    let (settings, warnings) =
        read(&[("backends", "redis"), ("redis_host", "10.0.0.1"), ("redis_db", "2"), ("redis_password", "x")]).unwrap();
    assert_eq!(settings.store, "redis://10.0.0.1:6379/2");
    assert_eq!(settings.store_password.as_deref(), Some("x"));
    assert!(warnings.is_empty());
    let (settings, _) = read(&[("redis_host", "h"), ("redis_password", "x")]).unwrap();
    assert_eq!(settings.store, "redis://h:6379/1");
    let (settings, _) = read(&[("redis_host", "h"), ("redis_pass", "x")]).unwrap();
    assert_eq!((settings.store.as_str(), settings.store_password.as_deref()), ("redis://h:6379/0", Some("x")));
    let (settings, _) = read(&[("redis_mode", "cluster"), ("redis_cluster_addresses", "a:1,b:2")]).unwrap();
    assert_eq!(settings.store, "redis+cluster://a:1,b:2");
    let (settings, _) = read(&[("store", "redis://own"), ("redis_host", "other")]).unwrap();
    assert_eq!(settings.store, "redis://own");
}

#[test]
fn options_win_over_the_file_whose_errors_name_the_line() {
    let dir = std::env::temp_dir().join(format!("midge-options-{}", std::process::id()));
    std::fs::write(&dir, "anonymous = \"allow\"\nhash_threads = 3\nstore_down = \"deny\"\n").unwrap();
    let path = dir.to_str().unwrap();
    let (settings, _) = read(&[("config", path), ("store_down", "last-known-good")]).unwrap();
    assert_eq!((settings.anonymous, settings.service.hash_threads, settings.store_down_deny), (Anonymous::Allow, 3, false));
    std::fs::write(&dir, "hash_threads = 3\nanonymous = \"maybe\"\n").unwrap();
    let error = read(&[("config", path)]).expect_err("maybe").to_string();
    assert!(error.contains(&format!("{path}:2: anonymous")), "{error}");
    std::fs::write(&dir, "not toml").unwrap();
    assert!(read(&[("config", path)]).expect_err("not TOML").to_string().contains(path));
    std::fs::remove_file(&dir).unwrap();
    assert!(read(&[("config", path)]).is_err());
}

#[test]
fn names_are_long_enough_for_the_broker_and_unique() {
    for (at, setting) in SETTINGS.iter().enumerate() {
        assert!(setting.name.len() >= 3, "{}", setting.name);
        assert!(!SETTINGS.iter().skip(at + 1).any(|other| other.name == setting.name), "{}", setting.name);
        assert!(setting.about.ends_with('.'), "{}", setting.name);
    }
}

/// Returns whether a setting's default is a value that can be set, rather than the description of one.
fn is_literal(setting: &Setting) -> bool {
    !matches!(setting.default, "none" | "any") && !setting.default.contains(' ')
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut settings = Settings::default();
    for setting in SETTINGS.iter().filter(|setting| is_literal(setting)) {
        (setting.set)(&mut settings, setting.default).expect(setting.name);
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()), "{}", setting.name);
    }
}

#[test]
fn the_reference_page_and_the_full_configuration_say_what_the_table_says() {
    for (file, expected) in [("docs/OPTIONS.md", reference_page()), ("mosquitto-conf/full.conf", full_configuration())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("MIDGE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{file} is out of date: run MIDGE_WRITE_DOCS=1 cargo test -p midge-plugin --lib options");
    }
}

/// Settings of the tests' own build are no part of what is documented.
fn documented() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| !setting.name.starts_with("fault_"))
}

fn reference_page() -> String {
    let mut page = PAGE_HEAD.to_owned();
    for setting in documented() {
        let reload = if setting.reloads { "yes" } else { "no" };
        page += &format!(
            "\n## {}\n\n{}\n\n* default: {}\n* allowed: {}\n* taken by a reload: {reload}\n",
            setting.name,
            setting.about,
            if is_literal(setting) { format!("`{}`", setting.default) } else { setting.default.to_owned() },
            setting.allowed,
        );
        if setting.secret {
            page += "* never shown in logs\n";
        }
    }
    page
}

fn full_configuration() -> String {
    let mut text = FULL_HEAD.to_owned();
    for setting in documented() {
        let reload = if setting.reloads { " A reload takes it from the TOML file." } else { "" };
        let off = if is_literal(setting) { "" } else { "#" };
        text += &format!(
            "\n# {}\n# Allowed: {}.{reload}\n{off}auth_opt_{} {}\n",
            setting.about, setting.allowed, setting.name, setting.default
        );
    }
    text
}

const PAGE_HEAD: &str = "\
# Options

This page is made from the table in `src/options/table.rs` by `MIDGE_WRITE_DOCS=1 cargo test -p midge-plugin --lib options`.

Each name below is an option behind `auth_opt_` in `mosquitto.conf`, below the line that loads the plugin:

    auth_plugin /usr/local/lib/midge.so
    auth_opt_store redis://127.0.0.1:6379
    auth_opt_login_deadline 100ms

Mosquitto 2.x takes `plugin` and `plugin_opt_` as well; `auth_plugin` and `auth_opt_` work in every release.

Mosquitto reads its options once, at the start.
What shall be changeable by a reload (SIGHUP) goes into a TOML file, which the option `config` names:

    auth_opt_config /etc/mosquitto/midge.toml

The file has the same names without `auth_opt_`:

    anonymous = \"allow\"
    login_deadline = \"100ms\"
    hash_threads = 4

An option in `mosquitto.conf` wins over the file.
A wrong value stops the start, and the message names the option, the value and what is allowed.
A wrong value in the file at a reload changes nothing, and is an error in the log.
An unknown name is a warning.
A time is a whole number with its unit: `250ms`, `30s`, `10m`, `24h`, `7d`.

The options of mosquitto-go-auth that say where Redis is have their meaning, unless `store` is given: `backends`, `redis_host`, \
`redis_port`, `redis_db`, `redis_username`, `redis_password`, `redis_tls`, `redis_mode`, `redis_cluster_addresses`.
Without `redis_db` it is database 1, as there; beside `redis_pass`, the name in mosquitto-auth-plug, it is 0.
Its other options are known by name, mean nothing here, and are a warning.
";

const FULL_HEAD: &str = "\
# Every setting of Midge with its default, for Mosquitto 1.5 to 2.1.
# This file is made from the table in src/options/table.rs, as docs/OPTIONS.md is.
# A line with # before auth_opt_ shows in words what holds as long as nothing is set.

listener 1883 127.0.0.1

auth_plugin /usr/local/lib/midge.so

# A TOML file with the same settings, without auth_opt_; a reload (SIGHUP) reads it again. Options here win over it.
# Allowed: a readable file.
#auth_opt_config /etc/mosquitto/midge.toml
";
