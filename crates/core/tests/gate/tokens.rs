//! A token's word and the store's word count together.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use midge_core::entry::Entry;
use midge_core::gate::{GateSettings, LoginSettings, Refusal};
use midge_core::jwt::{JwtKeys, JwtSettings};
use midge_core::name::Username;
use sha2::Sha256;

use crate::kit::{World, hash, hello, password, publishes, text};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

type Expected = fn(&Refusal) -> bool;

fn token(claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn world() -> World {
    let jwt = Some((JwtKeys::from_hs256_secret(SECRET).unwrap(), JwtSettings::default()));
    let login = LoginSettings { jwt, jwt_leeway: Duration::from_secs(10), hide_unknown: false, ..LoginSettings::default() };
    World::with(GateSettings::default(), login)
}

fn alice(world: &World, groups: &str) -> String {
    token(&format!(r#"{{"sub":"alice","groups":[{groups}],"exp":{}}}"#, world.now.unix + 60), SECRET)
}

#[test]
fn a_token_names_user_groups_and_end() {
    let mut world = world();
    world.write("group:{staff}:acl", hash(&[("staff/%u", "p")]));
    world.write("group:{record}:acl", hash(&[("record", "p")]));
    let bearer = alice(&world, r#""staff""#);
    for user in ["", "alice"] {
        let policy = world.login(&hello(user, "c", password(&bearer))).unwrap();
        assert_eq!(policy.user().map(Username::as_str), Some("alice"));
        assert_eq!(policy.expires_unix(), Some(world.now.unix + 70));
        assert!(publishes(&policy, "staff/alice") && !publishes(&policy, "record"));
        assert_eq!(policy.revoked(&world.gate, world.now.plus(Duration::from_secs(69))), None);
        assert_eq!(policy.revoked(&world.gate, world.now.plus(Duration::from_secs(70))), Some(Refusal::TokenExpired));
    }
    // A token without the group is another account of the same user.
    let plain = alice(&world, "");
    let policy = world.login(&hello("alice", "c", password(&plain))).unwrap();
    assert!(!publishes(&policy, "staff/alice"));
    world.set("user:{alice}", hash(&[("groups", "record")]));
    assert!(publishes(&policy, "record"));
}

#[test]
fn what_is_wrong_with_a_token_or_its_bearer() {
    let mut world = world();
    let good = alice(&world, "");
    let old = token(&format!(r#"{{"sub":"alice","exp":{}}}"#, world.now.unix - 10), SECRET);
    let endless = token(r#"{"sub":"alice"}"#, SECRET);
    let forged = token(r#"{"sub":"alice","exp":9999999999}"#, b"another secret of thirty-two bytes or more");
    let comma = token(r#"{"sub":"alice","exp":9999999999,"groups":["a,b"]}"#, SECRET);
    for (user, bearer) in [("bob", &good), ("alice", &old), ("alice", &endless), ("alice", &forged), ("alice", &comma)] {
        let outcome = world.login(&hello(user, "c", password(bearer))).map(drop);
        assert!(matches!(outcome, Err(Refusal::Token(_))), "{user} {bearer}: {outcome:?}");
    }
    world.login(&hello("alice", "c", password(&good))).unwrap();
}

#[test]
fn bans_and_the_record_hold_for_bearers_who_give_no_username() {
    let changes: [(&str, Entry, Expected); 4] = [
        ("ban:{user:alice}", text("spam", None), |refusal| matches!(refusal, Refusal::Banned { .. })),
        ("user:{alice}", hash(&[("enabled", "0")]), |refusal| *refusal == Refusal::Disabled),
        ("user:{alice}", hash(&[("client_id", "%u-1")]), |refusal| *refusal == Refusal::ClientId),
        ("user:{alice}", text("x", None), |refusal| *refusal == Refusal::Unreadable),
    ];
    for (at, entry, expected) in changes {
        let mut world = world();
        let bearer = alice(&world, "");
        let policy = world.login(&hello("", "c", password(&bearer))).unwrap();
        world.set(at, entry);
        assert!(policy.revoked(&world.gate, world.now).as_ref().is_some_and(expected), "{at}");
        for user in ["", "alice"] {
            let outcome = world.login(&hello(user, "c", password(&bearer))).map(drop);
            assert!(outcome.as_ref().is_err_and(expected), "{at}: {outcome:?}");
        }
    }
}

#[test]
fn without_keys_a_token_is_a_password() {
    let mut world = World::new();
    let bearer = alice(&world, "");
    world.write("user:{alice}", hash(&[("password", &format!("{{plain}}{bearer}"))]));
    world.by_password("alice", &bearer).unwrap();
    assert_eq!(world.login(&hello("", "c", password(&bearer))).unwrap_err(), Refusal::Anonymous);
}
