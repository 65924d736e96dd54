//! Where a password may appear: in memory, and nowhere else.

use crate::place::{MIDGE, Place, Ran};
use midge_core::password::StoredPassword;
use midge_core::scram::ScramCredential;
use midge_testkit::until;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const PASSWORD: &str = "correct horse battery staple";
const TIME: Duration = Duration::from_secs(30);

#[test]
fn a_password_is_neither_shown_nor_stored_nor_an_argument() {
    for place in Place::both() {
        for (name, hash) in [("alice", "argon2id"), ("bob", "pbkdf2")] {
            let words = ["user", "add", name, "--scram", "--hash", hash, "--password-stdin"];
            let mut child = place.command().args(words).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.as_ref().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
            for file in ["cmdline", "environ"] {
                let seen = std::fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
                assert!(!contains(&seen, PASSWORD), "{file}");
            }
            drop(child.stdin.take());
            let ran = Ran::of(&child.wait_with_output().unwrap());
            assert_eq!(ran.code, 0, "{ran:?}");
            assert!(!ran.out.contains(PASSWORD) && !ran.err.contains(PASSWORD), "{ran:?}");
        }
        for words in ["user list", "user list --json", "user show alice", "user show alice --json", "user show bob --json"] {
            let out = place.ok(&words.split(' ').collect::<Vec<_>>(), "");
            assert!(!out.contains(PASSWORD) && !out.contains("$argon2id$") && !out.contains("$7$"), "{words}: {out}");
        }
        match &place {
            Place::Embedded(directory) => check_files(&directory.path().join("store")),
            _ => check_stored(&place),
        }
    }
}

fn check_stored(place: &Place) {
    for (name, marks) in [("alice", "$argon2id$"), ("bob", "$7$")] {
        let key = format!("midge:user:{{{name}}}");
        let stored = place.cli(&["HGET", &key, "password"]);
        assert!(stored.starts_with(marks), "{stored}");
        assert!(StoredPassword::parse(&stored).unwrap().verify(PASSWORD.as_bytes()));
        assert!(!StoredPassword::parse(&stored).unwrap().verify(b"correct horse"));
        let scram: ScramCredential = place.cli(&["HGET", &key, "scram"]).parse().unwrap();
        assert!(scram.verify(PASSWORD.as_bytes()));
        assert!(!place.cli(&["HGETALL", &key]).contains(PASSWORD));
    }
}

fn check_files(directory: &std::path::Path) {
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(directory).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(contains(&bytes, "$argon2id$"), "the store's files hold the record");
    assert!(!contains(&bytes, PASSWORD));
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn only_the_end_of_line_is_taken_off() {
    let place = Place::redis();
    for (number, (input, password)) in
        [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), (" a \n", " a "), ("ä\tb\n", "ä\tb")].into_iter().enumerate()
    {
        let name = format!("u{number}");
        place.ok(&["user", "add", &name, "--password-stdin"], input);
        let stored = place.cli(&["HGET", &format!("midge:user:{{{name}}}"), "password"]);
        assert!(StoredPassword::parse(&stored).unwrap().verify(password.as_bytes()), "{input:?}");
    }
    let long = "x".repeat(65_536);
    for (input, expected) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("a\nb\n", "more than one line"),
        ("a\n\n", "more than one line"),
        (&long, "longer than"),
    ] {
        let ran = place.run(&["user", "add", "x", "--password-stdin"], input);
        assert_eq!(ran.code, 2, "{input:?}: {ran:?}");
        assert!(ran.err.contains(expected), "{input:?}: {ran:?}");
    }
}

#[test]
fn a_new_password_ends_the_old_one_everywhere() {
    let place = Place::redis();
    place.ok(&["user", "add", "alice", "--scram", "--password-stdin"], "old");
    place.ok(&["user", "set", "alice", "--password-stdin"], "new");
    let scram = || place.cli(&["HGET", "midge:user:{alice}", "scram"]);
    let credential: ScramCredential = scram().parse().unwrap();
    assert!(credential.verify(b"new") && !credential.verify(b"old"));
    let hash = place.cli(&["HGET", "midge:user:{alice}", "password"]);
    place.ok(&["user", "set", "alice", "--password-hash-stdin"], &hash);
    assert_eq!(scram(), "", "it can't be made from a hash, and the old one must not stay");
}

/// A terminal with the command behind it.
struct Terminal {
    screen: File,
    child: std::process::Child,
    seen: String,
}

impl Terminal {
    fn open(place: &Place, words: &[&str]) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let path = ptsname(&screen, Vec::new()).unwrap();
        let side = File::from(open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        // `setsid --ctty` of util-linux gives the command this terminal as its own, as a login does.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", MIDGE]).args(words).env("MIDGE_STORE", place.url());
        command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let child = command.spawn().expect("setsid is there: it comes with util-linux");
        Self { screen: File::from(screen), child, seen: String::new() }
    }

    /// Answers a prompt once it stands there and the terminal shows nothing of what is typed.
    fn answer(&mut self, prompt: &str, text: &str) {
        self.read_until(prompt);
        until("the end of echo", TIME, || Ok((!tcgetattr(&self.screen)?.local_modes.contains(LocalModes::ECHO)).then_some(())))
            .unwrap();
        self.screen.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn read_until(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            let count = self.screen.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "waiting for {text:?}, saw {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Returns the exit code and all that was seen.
    fn end(mut self) -> (i32, String) {
        let mut buffer = [0; 1024];
        // The terminal's end is an error on Linux.
        while let Ok(count @ 1..) = self.screen.read(&mut buffer) {
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let status = until("the end of midge", TIME, || Ok(self.child.try_wait()?)).unwrap();
        (status.code().unwrap(), self.seen)
    }
}

#[test]
fn a_password_is_asked_for_twice_and_not_echoed() {
    let place = Place::redis();
    let ask = |words: &[&str], first: &str, second: &str| {
        let mut terminal = Terminal::open(&place, words);
        terminal.answer("Password: ", first);
        terminal.answer("Password again: ", second);
        terminal.end()
    };
    let (code, seen) = ask(&["user", "add", "alice"], PASSWORD, PASSWORD);
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("user \"alice\" added") && !seen.contains(PASSWORD), "{seen}");
    let stored = || place.cli(&["HGET", "midge:user:{alice}", "password"]);
    assert!(StoredPassword::parse(&stored()).unwrap().verify(PASSWORD.as_bytes()));

    let before = stored();
    let (code, seen) = ask(&["user", "set", "alice", "--password"], "one", "two");
    assert_eq!(code, 2, "{seen}");
    assert!(seen.contains("not the same"), "{seen}");
    assert_eq!(stored(), before);

    let ran = place.run(&["user", "add", "bob"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("no terminal") && ran.err.contains("--password-stdin"), "{ran:?}");
}
