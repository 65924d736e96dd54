//! Stored passwords against vectors of other tools, and against garbage.
//!
//! `tests/fixtures/make_passwords.py` made the vectors and says with what.

use proptest::prelude::*;

use super::*;

const VECTORS: &str = include_str!("../../tests/fixtures/passwords.tsv");

fn vectors() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    VECTORS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        (fields[0], fields[1], parse::hex(Encoding::Plain, fields[2]).unwrap().to_vec())
    })
}

#[test]
fn every_vector_is_recognised_and_verified() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, stored, password) in vectors() {
        let parsed = StoredPassword::parse(stored).unwrap_or_else(|error| panic!("{stored}: {error}"));
        assert_eq!(parsed.encoding().name(), name, "{stored}");
        assert!(parsed.verify(&password), "{stored}");
        seen.insert(name);
    }
    assert_eq!(seen.len(), 11, "an encoding has no vector: {seen:?}");
}

#[test]
fn no_vector_takes_another_password() {
    for (_, stored, password) in vectors().filter(|(_, stored, _)| !stored.contains("m=47104")) {
        let parsed = StoredPassword::parse(stored).unwrap();
        let mut flipped = password.clone();
        match flipped.first_mut() {
            Some(byte) => *byte ^= 0x20,
            None => flipped.push(b'x'),
        }
        assert!(!parsed.verify(&flipped), "{stored}");
        if !password.is_empty() {
            assert!(!parsed.verify(b""), "{stored}");
        }
        if password.len() < 72 {
            assert!(!parsed.verify(&[&password[..], b"x"].concat()), "{stored}");
        }
    }
}

#[test]
fn bcrypt_takes_72_bytes_and_counts_nul() {
    let salt = [7; 16];
    let long = [b'x'; 100];
    assert_eq!(bcrypt_key(4, salt, &long), bcrypt_key(4, salt, &long[..72]));
    assert_ne!(bcrypt_key(4, salt, &long[..72]), bcrypt_key(4, salt, &long[..71]));
    assert_ne!(bcrypt_key(4, salt, b"a\0b"), bcrypt_key(4, salt, b"a\0c"));
    assert_ne!(bcrypt_key(4, salt, b"a\0b"), bcrypt_key(4, salt, b"a"));
}

#[test]
fn what_can_not_be_read_is_an_error() {
    let check = |text: &str, expected: &str| {
        let error = StoredPassword::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    let key64 = "A".repeat(86) + "==";
    let key32 = "A".repeat(43);
    let sha256 = "0".repeat(64);
    for bare in
        ["", "secret", "$", "$$", "true", "$1$abc$def", "$5$abc$def", "$2$10$x", "$2x$10$x", "$y$j9T$x", "{", "{}", "{ssha}x"]
    {
        check(bare, "allowed are");
    }
    check("5f4dcc3b5aa765d61d8327deb882cf99", "allowed are");
    check("$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$AAAA", "allowed are");
    check("$argon2id$v=16$m=4096,t=3,p=1$c29tZXNhbHQ$AAAA", "v=19");
    check("$argon2id$m=4096,t=3,p=1$c29tZXNhbHQ$AAAA", "fields");
    check(&format!("$argon2id$v=19$m=4096,t=3,p=1$c29t${key32}"), "salt is shorter");
    check("$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$AAAA", "key is shorter");
    check(&format!("$argon2id$v=19$m=4294967295,t=3,p=1$c29tZXNhbHQ${key32}"), "memory");
    check(&format!("$argon2id$v=19$m=99999999999999999999,t=3,p=1$c29tZXNhbHQ${key32}"), "memory");
    check(&format!("$argon2id$v=19$m=4096,t=17,p=1$c29tZXNhbHQ${key32}"), "passes (t) 17");
    check(&format!("$argon2id$v=19$m=1048576,t=5,p=1$c29tZXNhbHQ${key32}"), "m·t");
    check(&format!("$argon2id$v=19$m=4096,t=0,p=1$c29tZXNhbHQ${key32}"), "passes");
    check(&format!("$argon2id$v=19$m=4096,t=1,p=0$c29tZXNhbHQ${key32}"), "lanes");
    check(&format!("$argon2id$v=19$m=15,t=1,p=2$c29tZXNhbHQ${key32}"), "16 to");
    check(&format!("$argon2id$v=19$t=1,m=4096,p=1$c29tZXNhbHQ${key32}"), "out of order");
    check(&format!("$7$10000001$AAAA${key64}"), "allowed is 1 to 10000000");
    check(&format!("$7$0$AAAA${key64}"), "allowed is 1");
    check(&format!("$7$+5$AAAA${key64}"), "number");
    check(&format!("$7$$AAAA${key64}"), "number");
    check("$7$101$AAAA$AAAA", "64 bytes");
    check("$6$AAAA$AAAA", "64 bytes");
    check(&format!("$6$rounds=5000$AAAA${}", "A".repeat(86)), "fields");
    check(&format!("$6$saltsalt${}", "A".repeat(86)), "base64");
    check("PBKDF2$sha512$1000$AAAA", "fields");
    check(&format!("PBKDF2$whirlpool$1000$AAAA${key32}"), "digest");
    check(&format!("PBKDF2$sha1$9000000$AAAA${key32}"), "allowed is 1 to 5000000");
    check("PBKDF2$sha512$1000$AAAA$AAAA", "key is shorter");
    check(&format!("$pbkdf2-sha512$i=1000,l=64$AAAA${key32}"), "as long as");
    check("pbkdf2_sha256$1000$salt", "fields");
    check("$2a$17$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", "allowed is 4 to 16");
    check("$2a$03$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", "allowed is 4 to 16");
    check("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s", "60 characters");
    check("$2a$06$DCq7YPn5Rq63x1Lad4cllöTV4S6ytwfsfvkgY8jIucDrjc8deX1s", "60 characters");
    check("{sha256}00", "hex digits");
    check(&format!("{{sha256:middle:x}}{sha256}"), "prefix:SALT");
    check(&format!("{{sha256:prefix}}{sha256}"), "prefix:SALT");
    check(&format!("{{sha256}}{}", "g".repeat(64)), "hex");
    check(&format!("{{pbkdf2-sha256:1000}}{sha256}"), "missing");
    check(&format!("{{pbkdf2-md4:1000:x}}{sha256}"), "digest");
    check(&format!("{{plain}}{}", "x".repeat(MAX_STORED_BYTES)), "at most 4096");
}

#[test]
fn an_error_and_debug_show_nothing_of_the_record() {
    let stored = StoredPassword::parse("{plain}hunter2").unwrap();
    assert!(!format!("{stored:?}").contains("hunter2"));
    assert!(!StoredPassword::parse("hunter2").unwrap_err().to_string().contains("hunter2"));
    assert!(!StoredPassword::parse("PBKDF2$hunter2$1$a$b").unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn parts_of_a_schema_are_the_same_as_the_text() {
    // printf '%s' secret | md5sum
    let md5 = "5ebe2294ecd0e0f08eab7690d2a6ee69";
    assert!(StoredPassword::digest(Digest::Md5, None, md5).unwrap().verify(b"secret"));
    assert!(StoredPassword::digest(Digest::Md5, Some((SaltPosition::Prefix, b"sec")), md5).unwrap().verify(b"ret"));
    assert!(StoredPassword::digest(Digest::Md5, Some((SaltPosition::Suffix, b"ret")), md5).unwrap().verify(b"sec"));
    assert!(StoredPassword::digest(Digest::Sha256, None, md5).is_err());
    assert!(StoredPassword::digest(Digest::from_hex_len(md5.len()).unwrap(), None, &md5.to_uppercase()).unwrap().verify(b"secret"));
    assert!(StoredPassword::plain(b"\xff\0").verify(b"\xff\0"));
    assert!(!StoredPassword::plain(b"\xff\0").verify(b"\xff"));
    assert!(StoredPassword::plain(b"").verify(b""));
    assert!(StoredPassword::pbkdf2_hex(Digest::Sha256, 0, b"", &md5.repeat(2)).is_err());
}

#[test]
fn a_policy_writes_what_it_reads() {
    let policies = [HashPolicy::argon2id(256, 1, 1).unwrap(), HashPolicy::mosquitto7(1000).unwrap()];
    for policy in policies {
        for password in [&b""[..], b"secret", b"\xff\0\xfe", &[b'x'; 500]] {
            let text = policy.hash(password).unwrap();
            let stored = StoredPassword::parse(&text).unwrap();
            assert!(stored.verify(password), "{text}");
            assert!(!stored.verify(b"other"), "{text}");
            assert!(!stored.needs_rehash(&policy));
            assert_ne!(policy.hash(password).unwrap(), text, "the salt is new each time");
        }
        assert!(!policy.dummy().verify(b""));
        assert!(!policy.dummy().verify(b"secret"));
        assert!(!policy.dummy().needs_rehash(&policy));
    }
    assert!(HashPolicy::default().hash(b"secret").unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(HashPolicy::argon2id(MAX_ARGON2_MEMORY_KIB + 1, 1, 1).is_err());
    assert!(HashPolicy::mosquitto7(0).is_err());
}

#[test]
fn weaker_records_are_replaced_and_stronger_ones_are_not() {
    let argon2 = HashPolicy::argon2id(4096, 2, 1).unwrap();
    let mosquitto = HashPolicy::mosquitto7(1000).unwrap();
    let check = |stored: &str, for_argon2: bool, for_mosquitto: bool| {
        let stored = StoredPassword::parse(stored).unwrap();
        assert_eq!((stored.needs_rehash(&argon2), stored.needs_rehash(&mosquitto)), (for_argon2, for_mosquitto), "{stored:?}");
    };
    let key = "A".repeat(43);
    let key64 = "A".repeat(86) + "==";
    check("{plain}x", true, true);
    check("{md5}5ebe2294ecd0e0f08eab7690d2a6ee69", true, true);
    check("{md5:prefix:x}5ebe2294ecd0e0f08eab7690d2a6ee69", true, true);
    check(&format!("$6$AAAA${key64}"), true, true);
    check(&format!("$7$101$AAAA${key64}"), true, true);
    check(&format!("$7$1000$AAAA${key64}"), true, false);
    check(&format!("PBKDF2$sha256$5000$AAAA${key}"), true, false);
    check(&format!("PBKDF2$sha1$5000$AAAA${key}"), true, true);
    check("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", true, false);
    check(&format!("$argon2id$v=19$m=4096,t=1,p=1$c29tZXNhbHQ${key}"), true, false);
    check(&format!("$argon2id$v=19$m=2048,t=2,p=1$c29tZXNhbHQ${key}"), true, false);
    check(&format!("$argon2id$v=19$m=8192,t=2,p=4$c29tZXNhbHQ${key}"), false, false);
}

fn texts() -> Vec<&'static str> {
    vectors().map(|(_, stored, _)| stored).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), mark in prop::sample::select(vec![
        "$argon2id$", "$7$", "$6$", "PBKDF2$sha512$", "$pbkdf2-sha256$", "pbkdf2_sha256$", "$2a$", "$2b$10$", "{", "{plain}", "{sha256:",
    ])) {
        let _ = StoredPassword::parse(&text);
        let _ = StoredPassword::parse(&format!("{mark}{text}"));
    }

    #[test]
    fn a_cut_record_is_refused_or_never_matches(stored in prop::sample::select(texts()), keep in any::<prop::sample::Index>()) {
        let mut cut = keep.index(stored.len());
        while !stored.is_char_boundary(cut) {
            cut -= 1;
        }
        // Only the plain form, whose every prefix is a text, and PBKDF2 keys of any length stay readable.
        if let Ok(parsed) = StoredPassword::parse(&stored[..cut]) {
            prop_assert!(matches!(
                parsed.encoding(),
                Encoding::Plain | Encoding::GoAuthPbkdf2 | Encoding::DjangoPbkdf2 | Encoding::HexPbkdf2 | Encoding::Argon2id
            ), "{}", &stored[..cut]);
        }
    }

    #[test]
    fn a_changed_record_never_panics(
        stored in prop::sample::select(texts()), at in any::<prop::sample::Index>(), with in any::<char>(), password in any::<Vec<u8>>()
    ) {
        let mut chars: Vec<char> = stored.chars().collect();
        let at = at.index(chars.len());
        chars[at] = with;
        if let Ok(parsed) = StoredPassword::parse(&chars.into_iter().collect::<String>())
            && !matches!(parsed.encoding(), Encoding::Argon2id | Encoding::Bcrypt)
        {
            let _ = parsed.verify(&password);
        }
    }
}
