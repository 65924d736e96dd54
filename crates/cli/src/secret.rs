//! Takes new passwords from a terminal or standard input.
//!
//! They are wiped from memory after use.
//! Nothing here reads a password from an argument or an environment variable.

use std::io::{IsTerminal, Read, stdin};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use midge_core::password::{HashPolicy, StoredPassword};
use midge_core::scram::ScramCredential;
use zeroize::Zeroizing;

/// The longest password in bytes: MQTT has a 16 bit length for it.
const MAX_BYTES: usize = 65_535;

/// How a new password is stored.
#[derive(Debug, Args)]
pub(crate) struct PasswordOptions {
    /// Read the password from standard input: one line, without the end of line.
    #[arg(long, group = "password_source")]
    password_stdin: bool,

    /// Read an already encoded password from standard input, such as one of mosquitto_passwd.
    #[arg(long, group = "password_source", conflicts_with_all = ["scram", "hash"])]
    password_hash_stdin: bool,

    /// Store no password: nobody can log in with one.
    #[arg(long, group = "password_source", conflicts_with_all = ["scram", "hash"])]
    no_password: bool,

    /// Also store what the SCRAM-SHA-256 authentication of MQTT 5 needs.
    #[arg(long)]
    scram: bool,

    /// How the password is encoded: argon2id, the default, or pbkdf2 in the form $7$ that Mosquitto's own tools read.
    #[arg(long, value_enum)]
    hash: Option<Encoding>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoding {
    Argon2id,
    Pbkdf2,
}

/// What a record says about its password.
pub(crate) struct NewPassword {
    /// The encoded password; `None` is no password.
    pub(crate) password: Option<String>,
    /// The SCRAM credential of the same password; `None` is none.
    pub(crate) scram: Option<String>,
}

impl PasswordOptions {
    /// Returns whether the options say where the password comes from.
    pub(crate) fn names_source(&self) -> bool {
        self.password_stdin || self.password_hash_stdin || self.no_password
    }

    /// Returns an option that means nothing without a new password, if one is given.
    pub(crate) fn about_password(&self) -> Option<&'static str> {
        if self.scram { Some("--scram") } else { self.hash.map(|_| "--hash") }
    }

    /// Returns the password to store, asking on the terminal where the options name no other source.
    pub(crate) fn read(&self, with_scram: bool) -> Result<NewPassword> {
        if self.no_password {
            return Ok(NewPassword { password: None, scram: None });
        }
        if self.password_hash_stdin {
            let text =
                String::from_utf8(from_stdin("the encoded password")?.to_vec()).ok().context("standard input is not UTF-8")?;
            StoredPassword::parse(&text)?;
            return Ok(NewPassword { password: Some(text), scram: None });
        }
        let password = if self.password_stdin { from_stdin("the password")? } else { from_terminal()? };
        let policy = match self.hash {
            None | Some(Encoding::Argon2id) => HashPolicy::default(),
            Some(Encoding::Pbkdf2) => HashPolicy::mosquitto7(HashPolicy::MOSQUITTO7_ITERATIONS)?,
        };
        let scram = (self.scram || with_scram).then(|| ScramCredential::derive(&password, ScramCredential::DEFAULT_ITERATIONS));
        Ok(NewPassword { password: Some(policy.hash(&password)?), scram: scram.transpose()?.map(|scram| scram.to_string()) })
    }
}

fn from_stdin(what: &str) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 3));
    stdin().take(MAX_BYTES as u64 + 3).read_to_end(&mut bytes).context("standard input can't be read")?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    check(&bytes, what)?;
    ensure!(!bytes.contains(&b'\n'), "standard input has more than one line; {what} has to be one line");
    Ok(bytes)
}

fn from_terminal() -> Result<Zeroizing<Vec<u8>>> {
    ensure!(
        stdin().is_terminal(),
        "standard input is no terminal to ask for the password on; allowed are also --password-stdin, --password-hash-stdin \
         and --no-password"
    );
    let ask = |prompt: &str| -> Result<Zeroizing<String>> {
        Ok(Zeroizing::new(rpassword::prompt_password(prompt).context("the terminal can't be read")?))
    };
    let first = ask("Password: ")?;
    check(first.as_bytes(), "the password")?;
    if *ask("Password again: ")? != *first {
        bail!("the two passwords are not the same; nothing was changed");
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

fn check(bytes: &[u8], what: &str) -> Result<()> {
    ensure!(!bytes.is_empty(), "{what} is empty");
    ensure!(bytes.len() <= MAX_BYTES, "{what} is longer than {MAX_BYTES} bytes");
    Ok(())
}
