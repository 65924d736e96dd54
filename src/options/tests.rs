//! What can be set, and what is said about what can't.

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
    let error = read(&[("store", "redis://me:geheim@host:notaport")]).expect_err("no port").to_string();
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn go_auth_names_lead_to_the_same_store() {
    let (settings, warnings) =
        read(&[("backends", "redis"), ("redis_host", "10.0.0.1"), ("redis_db", "2"), ("redis_password", "x")]).unwrap();
    assert_eq!(settings.store, "redis://10.0.0.1:6379/2");
    assert_eq!(settings.store_password.as_deref(), Some("x"));
    assert!(warnings.is_empty());
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
