//! Whole exchanges, then everything a client can get wrong.

use proptest::prelude::*;

use super::*;

const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";

fn nonce(text: &str) -> ServerNonce {
    ServerNonce::new(text).unwrap()
}

/// RFC 7677, section 3.
#[test]
fn the_example_of_the_standard_passes() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let credential = ScramCredential::with_salt(b"pencil", &salt, 4096);
    let client = ClientFirst::parse(FIRST).unwrap();
    assert_eq!(client.username(), "user");
    let server = client.challenge(&credential, &nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"));
    assert_eq!(server.message(), b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(server.finish(last).unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// Both sides from scramp 1.5.0: `ScramMechanism("SCRAM-SHA-256").make_auth_info(password, 4096, bytes(range(16)))`
/// and `ScramClient(["SCRAM-SHA-256"], user, password, c_nonce="rOprNGfwEbeRWgbNEkqO")`.
#[test]
fn a_foreign_client_with_a_foreign_credential_passes() {
    let check = |password: &str, stored: &str, first: &str, user: &str, last: &str, expected: &str| {
        let credential: ScramCredential = stored.parse().unwrap();
        assert_eq!(credential.to_string(), stored);
        assert!(credential.verify(password.as_bytes()));
        assert!(!credential.verify(b"other"));
        assert_eq!(ScramCredential::with_salt(password.as_bytes(), &credential.salt, 4096), credential);
        let client = ClientFirst::parse(first.as_bytes()).unwrap();
        assert_eq!(client.username(), user);
        let server = client.challenge(&credential, &nonce("server"));
        assert_eq!(server.message(), b"r=rOprNGfwEbeRWgbNEkqOserver,s=AAECAwQFBgcICQoLDA0ODw==,i=4096");
        assert_eq!(String::from_utf8(server.finish(last.as_bytes()).unwrap()).unwrap(), expected);
    };
    check(
        "pencil",
        "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$zHCdol2044/ZyWzPLi7oxApCkamKw9Z+E4U/QApd/5Y=:dd5peBOitVnLNFu7VmwP+HiDaaw4OUCv396eVCWhYiE=",
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "user",
        "c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=JjLDJFwRyxUEOetpkms7jVFaP2yKFEAm14u0IlZsyOk=",
        "v=Clc566EuQgVjyFGz0BEw9jSa1AQ+QP/MI5wyI5IHLMg=",
    );
    check(
        "pässword",
        "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$ntNylROS8hDb1mqCr3WIuk2sH9C9qHAGcAKKvAz+d9k=:HL1mHNuZofBBxg9LPX2G4wvjmMvs65LZ9sF3jJ5y4n4=",
        "n,,n=a=2Cb=3Dc,r=rOprNGfwEbeRWgbNEkqO",
        "a,b=c",
        "c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=We6rTyi2K+2OYx2n0Zx/tP/DITkuzNMPkwsS/cVis0Y=",
        "v=EaRt3UTfPBN0wtIyTwn3LzTSx9PhcP6UyiF7nR2AAXo=",
    );
}

#[test]
fn first_messages() {
    let check = |message: &[u8], expected: Result<&str, &str>| {
        let outcome = ClientFirst::parse(message).map(|client| client.username).map_err(|error| error.to_string());
        match (&outcome, expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            _ => panic!("{}: {outcome:?}", message.escape_ascii()),
        }
    };
    check(b"y,,n=user,r=abc", Ok("user"));
    check(b"n,a=user,n=user,r=abc", Ok("user"));
    check(b"n,,n=user,r=abc,x=ext,y=more", Ok("user"));
    check("n,,n=ü=3D=2C,r=abc".as_bytes(), Ok("ü=,"));
    check(b"n,a=root,n=user,r=abc", Err("authorization identity"));
    check(b"n,b=user,n=user,r=abc", Err("missing or out of order"));
    check(b"p=tls-exporter,,n=user,r=abc", Err("channel binding"));
    check(b"n,,m=ext,n=user,r=abc", Err("mandatory"));
    check(b"n,,n=user,r=abc,m=ext", Err("mandatory"));
    check(b"n,,n=user,r=abc,", Err("no attribute"));
    check(b"n,,n=user,r=abc,x", Err("no attribute"));
    check(b"n,,n=user,r=", Err("nonce"));
    check(b"n,,n=user,r=a b", Err("nonce"));
    check("n,,n=user,r=ü".as_bytes(), Err("nonce"));
    check(b"n,,n=user", Err("missing"));
    check(b"n,,r=abc,n=user", Err("out of order"));
    check(b"n,,n=,r=abc", Err("empty"));
    check(b"n,,n=us=er,r=abc", Err("2C or 3D"));
    check(b"n,,n=us=2c,r=abc", Err("2C or 3D"));
    check(b"n,,n=a\0b,r=abc", Err("U+0000"));
    check(b"n,,n=\xff,r=abc", Err("UTF-8"));
    check(b"n,", Err("no end"));
    check(b"x,,n=user,r=abc", Err("none of n, y"));
    check(b"", Err("no header"));
    check(&[b'n'; MAX_MESSAGE_BYTES + 1], Err("at most 4096"));
}

#[test]
fn last_messages() {
    let credential = ScramCredential::with_salt(b"pencil", b"salt", 4096);
    let check = |first: &[u8], last: &[u8], expected: &str| {
        let server = ClientFirst::parse(first).unwrap().challenge(&credential, &nonce("srv"));
        let error = server.finish(last).unwrap_err().to_string();
        assert!(error.contains(expected), "{}: {error}", last.escape_ascii());
    };
    let first = b"n,,n=user,r=cli";
    let zeros = "A".repeat(43) + "=";
    let last = |start: &str| format!("{start},p={zeros}").into_bytes();
    check(first, &last("c=biws,r=clisrv"), "proof is wrong");
    check(first, &last("c=biws,r=clisrv,x=ext"), "proof is wrong");
    check(first, &last("c=biws,r=clisrv,m=ext"), "mandatory");
    check(first, &last("c=biws,r=cli"), "nonce or the channel binding");
    check(first, &last("c=eSws,r=clisrv"), "nonce or the channel binding");
    check(b"y,,n=user,r=cli", &last("c=biws,r=clisrv"), "nonce or the channel binding");
    check(first, &last("c=bi!s,r=clisrv"), "base64");
    check(first, &last("r=clisrv,c=biws"), "out of order");
    check(first, b"c=biws,r=clisrv,p=AAAA", "32 bytes");
    check(first, b"c=biws,r=clisrv,p=", "32 bytes");
    check(first, b"c=biws,r=clisrv", "no proof");
    check(first, b"", "no proof");
    check(first, &[b'c'; MAX_MESSAGE_BYTES + 1], "at most 4096");
}

#[test]
fn an_unknown_user_looks_like_a_known_one() {
    let key = FakeKey::from([9; 32]);
    let fake = ScramCredential::fake("nobody", &key, 4096);
    assert_eq!(fake, ScramCredential::fake("nobody", &key, 4096));
    assert_ne!(fake.salt, ScramCredential::fake("somebody", &key, 4096).salt);
    assert_ne!(fake.salt, ScramCredential::fake("nobody", &FakeKey::from([8; 32]), 4096).salt);
    let real = ScramCredential::derive(b"pencil", ScramCredential::DEFAULT_ITERATIONS).unwrap();
    assert_eq!(fake.to_string().len(), real.to_string().len());
    assert_ne!(real, ScramCredential::derive(b"pencil", 4096).unwrap());
}

#[test]
fn credentials_that_can_not_be_used_are_refused() {
    let key = "A".repeat(43) + "=";
    let check = |text: &str, expected: &str| {
        let error = text.parse::<ScramCredential>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "is not SCRAM-SHA-256$");
    check(&format!("SCRAM-SHA-1$4096:AAAA${key}:{key}"), "is not");
    check(&format!("SCRAM-SHA-256$4096:AAAA${key}"), "is not");
    check(&format!("SCRAM-SHA-256$4096:${key}:{key}"), "is not");
    check(&format!("SCRAM-SHA-256$+4096:AAAA${key}:{key}"), "is not");
    check(&format!("SCRAM-SHA-256$4096:AAAA${key}:AAAA"), "is not");
    check(&format!("SCRAM-SHA-256$0:AAAA${key}:{key}"), "0 iterations");
    check(&format!("SCRAM-SHA-256$99999999999:AAAA${key}:{key}"), "iterations");
    assert!(matches!(ScramCredential::derive(b"x", 4095), Err(ScramError::Iterations(4095))));
    assert!(ServerNonce::new("a,b").is_err());
    assert_ne!(ServerNonce::generate().unwrap(), ServerNonce::generate().unwrap());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(first in any::<Vec<u8>>(), tail in "[nyp]?[,=a-z0-9]{0,40}", last in any::<Vec<u8>>(), bits in "(c=biws)?[,=rpc]{0,9}.{0,60}") {
        let _ = ClientFirst::parse(&first);
        let _ = ClientFirst::parse(tail.as_bytes());
        let _ = tail.parse::<ScramCredential>();
        let _ = format!("SCRAM-SHA-256${bits}").parse::<ScramCredential>();
        let credential = ScramCredential::fake("user", &FakeKey::from([1; 32]), 4096);
        let server = ClientFirst::parse(FIRST).unwrap().challenge(&credential, &nonce("srv"));
        prop_assert!(server.clone().finish(&last).is_err());
        prop_assert!(server.finish(bits.as_bytes()).is_err());
    }

    #[test]
    fn any_user_with_any_password_logs_in(name in "[^\0]{1,30}", password in any::<Vec<u8>>()) {
        let credential = ScramCredential::with_salt(&password, b"salt", 2);
        let escaped = name.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n,,n={escaped},r=cli");
        let client = ClientFirst::parse(first.as_bytes()).unwrap();
        prop_assert_eq!(client.username(), &name);
        let server = client.challenge(&credential, &nonce("srv"));
        // The client's side, as RFC 5802, section 3, has it.
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(&password, b"salt", 2, &mut salted);
        let client_key = hmac_sha256(&salted, &[b"Client Key"]);
        let signed = format!("{},{},c=biws,r=clisrv", &first[3..], server.message);
        let signature = hmac_sha256(&Sha256::digest(client_key).into(), &[signed.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        let last = format!("c=biws,r=clisrv,p={}", STANDARD.encode(proof));
        prop_assert!(server.finish(last.as_bytes()).is_ok());
    }
}
