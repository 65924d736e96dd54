//! Tokens that PyJWT made, at a fixed time.
//!
//! `tests/fixtures/make_tokens.py` made them and threw the private keys away.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    now: u64,
    keys: HashMap<String, String>,
    tokens: HashMap<String, String>,
}

static FIXTURE: LazyLock<Fixture> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../tests/fixtures/jwt.json")).expect("the fixture is JSON"));

fn keys(name: &str) -> JwtKeys {
    let text = &FIXTURE.keys[name];
    match name {
        "secret" => JwtKeys::from_hs256_secret(text.as_bytes()),
        "jwks" => JwtKeys::from_jwks(text),
        _ => JwtKeys::from_pem(text),
    }
    .unwrap()
}

fn verify(key: &str, token: &str, settings: &JwtSettings, after: i64) -> Result<JwtClaims, JwtError> {
    keys(key).verify(&FIXTURE.tokens[token], settings, FIXTURE.now.saturating_add_signed(after), Duration::ZERO)
}

fn is_claim(outcome: &Result<JwtClaims, JwtError>, claim: &str) -> bool {
    matches!(outcome, Err(JwtError::Claim { name, .. }) if name == claim)
}

#[test]
fn a_key_takes_tokens_of_its_own_algorithm() {
    let check = |key: &str, token: &str, expected: Result<(), JwtError>| {
        assert_eq!(verify(key, token, &JwtSettings::default(), 0).map(|_| ()), expected, "{token} with {key}");
    };
    check("secret", "hs", Ok(()));
    check("rsa", "rs", Ok(()));
    check("rsa_pkcs1", "rs", Ok(()));
    check("ec", "es", Ok(()));
    check("secret", "hs_other_key", Err(JwtError::Signature));
    check("rsa", "rs_other_key", Err(JwtError::Signature));
    check("rsa", "hs", Err(JwtError::Algorithm));
    check("rsa", "es", Err(JwtError::Algorithm));
    check("ec", "rs", Err(JwtError::Algorithm));
    check("secret", "rs", Err(JwtError::Algorithm));
    check("rsa", "confused", Err(JwtError::Algorithm));
    check("jwks", "confused", Err(JwtError::Algorithm));
    for other in ["none", "none_capital", "rs512", "ps256", "hs512"] {
        for key in ["secret", "rsa", "ec", "jwks"] {
            check(key, other, Err(JwtError::Algorithm));
        }
    }
    assert!(matches!(verify("secret", "crit", &JwtSettings::default(), 0), Err(JwtError::Malformed(_))));
    assert!(matches!(verify("secret", "not_an_object", &JwtSettings::default(), 0), Err(JwtError::Malformed(_))));
}

#[test]
fn a_key_set_is_asked_by_name() {
    let check = |token: &str, expected: Result<(), JwtError>| {
        assert_eq!(verify("jwks", token, &JwtSettings::default(), 0).map(|_| ()), expected, "{token}");
    };
    assert_eq!(keys("jwks").len(), 3);
    check("rs", Ok(()));
    check("rs_other_key", Ok(()));
    check("es", Ok(()));
    check("rs_kid_two", Ok(()));
    check("es_kid_three", Ok(()));
    check("rs_kid_one_by_two", Err(JwtError::Signature));
    check("rs_kid_unknown", Err(JwtError::KeyUnknown));
    assert!(verify("rsa", "rs_kid_unknown", &JwtSettings::default(), 0).is_ok(), "a key without a name takes any name");

    let all = keys("jwks").with(keys("secret")).unwrap();
    assert!(all.verify(&FIXTURE.tokens["hs"], &JwtSettings::default(), FIXTURE.now, Duration::ZERO).is_ok());
    let confused = all.verify(&FIXTURE.tokens["confused"], &JwtSettings::default(), FIXTURE.now, Duration::ZERO);
    assert_eq!(confused, Err(JwtError::Signature));
}

#[test]
fn time_is_the_caller_s() {
    let check = |token: &str, after: i64, leeway: u64, expected: Result<(), JwtError>| {
        let now = FIXTURE.now.saturating_add_signed(after);
        let outcome =
            keys("secret").verify(&FIXTURE.tokens[token], &JwtSettings::default(), now, Duration::from_secs(leeway)).map(|_| ());
        assert_eq!(outcome, expected, "{token} {after} s later with a leeway of {leeway} s");
    };
    check("hs", 59, 0, Ok(()));
    check("hs", 60, 0, Err(JwtError::Expired));
    check("hs", 69, 10, Ok(()));
    check("hs", 70, 10, Err(JwtError::Expired));
    check("hs", 1_000_000_000, u64::MAX, Ok(()));
    check("nbf_future", 9, 0, Err(JwtError::NotYetValid));
    check("nbf_future", 10, 0, Ok(()));
    check("nbf_future", 5, 5, Ok(()));
    check("exp_float", 0, 0, Err(JwtError::Expired));
    check("exp_float", -1, 0, Ok(()));
    check("exp_negative", 0, 0, Err(JwtError::Expired));
    check("no_exp", 0, 0, Err(JwtError::NoExpiry));
    assert!(is_claim(&verify("secret", "exp_string", &JwtSettings::default(), 0), "exp"));

    let lax = JwtSettings { require_expiry: false, ..JwtSettings::default() };
    assert_eq!(verify("secret", "no_exp", &lax, 0).unwrap().expires_unix, None);
    assert_eq!(verify("secret", "hs", &lax, 60), Err(JwtError::Expired));
    let claims = verify("secret", "nbf_future", &lax, 10).unwrap();
    assert_eq!((claims.expires_unix, claims.not_before), (Some(FIXTURE.now + 60), Some(FIXTURE.now + 10)));
}

#[test]
fn issuer_audience_and_names() {
    let mqtt = JwtSettings { audience: Some("mqtt".to_owned()), ..JwtSettings::default() };
    let example = JwtSettings { issuer: Some("https://id.example".to_owned()), ..JwtSettings::default() };
    let roles = JwtSettings { username_claim: "name".to_owned(), groups_claim: "roles".to_owned(), ..JwtSettings::default() };
    let plain = JwtSettings::default();
    let check = |token: &str, settings: &JwtSettings, expected: Result<(&str, &[&str]), JwtError>| {
        let outcome = verify("secret", token, settings, 0).map(|claims| (claims.subject, claims.groups));
        let expected = expected
            .map(|(subject, groups)| (subject.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>()));
        assert_eq!(outcome, expected, "{token}");
    };
    check("aud_one", &mqtt, Ok(("alice", &[])));
    check("aud_many", &mqtt, Ok(("alice", &[])));
    check("aud_other", &mqtt, Err(JwtError::Audience));
    check("hs", &mqtt, Err(JwtError::Audience));
    check("iss", &example, Ok(("alice", &[])));
    check("iss_list", &example, Err(JwtError::Issuer));
    check("hs", &example, Err(JwtError::Issuer));
    check("groups", &plain, Ok(("alice", &["staff", "night"])));
    check("group_text", &plain, Ok(("alice", &["staff"])));
    check("roles", &roles, Ok(("bob", &["x"])));
    for (token, settings, claim) in
        [("groups_wrong", &plain, "groups"), ("sub_number", &plain, "sub"), ("sub_empty", &plain, "sub"), ("hs", &roles, "name")]
    {
        assert!(is_claim(&verify("secret", token, settings, 0), claim), "{token}");
    }
}

#[test]
fn keys_that_can_not_be_used_are_refused() {
    let pem = |name: &str| JwtKeys::from_pem(&FIXTURE.keys[name]).map(|_| ()).unwrap_err();
    assert_eq!(pem("ec384"), JwtKeyError::Unsuitable("on another curve"));
    assert_eq!(pem("rsa1024"), JwtKeyError::Unsuitable("RSA with too few bits"));
    assert_eq!(pem("private"), JwtKeyError::NotPublicKey("PRIVATE KEY".to_owned()));
    assert_eq!(pem("secret"), JwtKeyError::NotPem);
    assert_eq!(JwtKeys::from_pem("").map(|_| ()).unwrap_err(), JwtKeyError::NotPem);
    assert_eq!(JwtKeys::from_pem(&FIXTURE.keys["rsa"].repeat(2)).unwrap().len(), 2);
    assert_eq!(JwtKeys::from_pem(&FIXTURE.keys["rsa"].repeat(65)).unwrap_err(), JwtKeyError::TooMany(65));
    let secret = |secret: &str| JwtKeys::from_hs256_secret(secret.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(secret("short"), JwtKeyError::ShortSecret(5));
    assert_eq!(secret(&FIXTURE.keys["rsa"]), JwtKeyError::PemAsSecret);
    let jwks = |text: &str| JwtKeys::from_jwks(text).map(|_| ()).unwrap_err();
    assert_eq!(jwks("{}"), JwtKeyError::NotJwks);
    assert_eq!(jwks("[]"), JwtKeyError::NotJwks);
    assert_eq!(jwks(r#"{"keys":[]}"#), JwtKeyError::NoKey);
    assert_eq!(jwks(r#"{"keys":[1,{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AAAA","e":"AQAB"}]}"#), JwtKeyError::NoKey);
    assert!(!format!("{:?}", keys("secret")).contains("thirty-two"));
}

#[test]
fn the_form_of_a_token_is_seen_from_outside() {
    for token in FIXTURE.tokens.values() {
        assert!(looks_like_jwt(token.as_bytes()), "{token}");
    }
    for other in ["", "secret", "a.b.c", "eyJ.b", "eyJ..", "eyJ.b.c.d", "eyJ.b c.d", "eyJ.b.c=", ".eyJ.b"] {
        assert!(!looks_like_jwt(other.as_bytes()), "{other}");
    }
    assert!(!looks_like_jwt(b"eyJ.\xff.c"));
    assert!(!looks_like_jwt(&[b"eyJ.a.".as_slice(), &[b'a'; MAX_TOKEN_BYTES]].concat()));
    let long = "a".repeat(MAX_TOKEN_BYTES + 1);
    let outcome = keys("secret").verify(&long, &JwtSettings::default(), 0, Duration::ZERO);
    assert_eq!(outcome, Err(JwtError::TooLong(MAX_TOKEN_BYTES + 1)));
}

proptest! {
    #[test]
    fn a_changed_token_is_refused(name in prop::sample::select(vec!["hs", "rs", "es"]), at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.=-]") {
        let token = &FIXTURE.tokens[name];
        let at = at.index(token.len());
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != *token);
        for key in ["secret", "rsa", "ec"] {
            prop_assert!(keys(key).verify(&changed, &JwtSettings::default(), FIXTURE.now, Duration::ZERO).is_err());
        }
    }

    #[test]
    fn any_text_is_refused(text in any::<String>(), bytes in any::<Vec<u8>>(), parts in "(eyJ)?[A-Za-z0-9_-]{0,20}[.][A-Za-z0-9_-]{0,20}[.][A-Za-z0-9_-]{0,20}") {
        let _ = looks_like_jwt(&bytes);
        prop_assert!(keys("secret").verify(&text, &JwtSettings::default(), FIXTURE.now, Duration::ZERO).is_err());
        prop_assert!(keys("secret").verify(&parts, &JwtSettings::default(), FIXTURE.now, Duration::ZERO).is_err());
        let _ = JwtKeys::from_pem(&text);
        let _ = JwtKeys::from_jwks(&text);
    }
}
