//! A certificate authority of its own for every test.
//!
//! Made by the `openssl` command: an authority, a server for `localhost` and `127.0.0.1`, and clients by name.

use crate::process::Finished;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A certificate and its private key, both PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
}

/// An authority and what it has signed.
#[derive(Debug)]
pub struct Certs {
    dir: TempDir,
    /// The authority's certificate, a PEM file.
    pub ca: PathBuf,
    /// The server's identity.
    pub server: Identity,
}

impl Certs {
    /// Makes an authority and a server's identity.
    ///
    /// # Errors
    /// When `openssl` isn't there or fails.
    pub fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        openssl(
            dir.path(),
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-keyout",
                "ca.key",
                "-out",
                "ca.crt",
                "-subj",
                "/CN=Midge test authority",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ],
        )?;
        let ca = dir.path().join("ca.crt");
        let server = sign(dir.path(), "server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")?;
        Ok(Self { dir, ca, server })
    }

    /// Makes a client's identity with that common name.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn client(&self, common_name: &str) -> Result<Identity> {
        let file = format!("client-{}", std::fs::read_dir(self.dir.path())?.count());
        sign(self.dir.path(), &file, common_name, "extendedKeyUsage=clientAuth")
    }
}

fn sign(dir: &Path, file: &str, common_name: &str, extension: &str) -> Result<Identity> {
    let name = |kind: &str| format!("{file}.{kind}");
    openssl(
        dir,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &name("key"),
            "-out",
            &name("csr"),
            "-subj",
            &format!("/CN={common_name}"),
            "-addext",
            extension,
        ],
    )?;
    openssl(
        dir,
        &[
            "x509",
            "-req",
            "-in",
            &name("csr"),
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-copy_extensions",
            "copy",
            "-days",
            "30",
            "-out",
            &name("crt"),
        ],
    )?;
    Ok(Identity { cert: dir.join(name("crt")), key: dir.join(name("key")) })
}

fn openssl(dir: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(dir);
    let done = Finished::run(&mut command, Duration::from_secs(30)).context("the openssl command is needed: install openssl")?;
    done.success().map(drop)
}
