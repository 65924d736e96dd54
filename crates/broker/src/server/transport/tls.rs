//! TLS by rustls, between the socket and MQTT.
//!
//! Certificates lie in files that can be read again while connections go on with what they began with.

use std::io::{self, BufRead, ErrorKind, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::{Broken, Socket};

/// Where a listener's certificates lie, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, with those between it and the authority.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign certificates of clients; without, none is asked for.
    pub client_authorities: Option<PathBuf>,
    /// Whether a client must have a certificate, where one is asked for.
    pub client_certificate_required: bool,
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read, or isn't PEM.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file has no certificate.
    #[error("no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// The authorities' certificates can't be used.
    #[error("cannot use the authorities in {}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key don't go together, or can't be used.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let refused = |reason: String| TlsError::Authorities { path: path.clone(), reason };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.client_certificate_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(error.to_string()))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File { path: self.key.clone(), source })?;
        let mut config = builder.with_single_cert(certificates(&self.certificates)?, key)?;
        // A client that comes back brings its ticket; nothing is kept here for it.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |source| TlsError::File { path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

/// The TLS of one connection.
#[derive(Debug)]
pub(super) struct Tls(Box<ServerConnection>);

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is written is bounded by what is offered at once.
        connection.set_buffer_limit(None);
        Ok(Self(Box::new(connection)))
    }

    /// Appends what `raw` says once decrypted; returns whether the client has ended its stream.
    ///
    /// # Errors
    /// It isn't TLS, or not such as is accepted; an alert is ready to be written.
    pub(super) fn open(&mut self, mut raw: &[u8], clear: &mut Vec<u8>) -> Result<bool, Broken> {
        let mut ended = false;
        while !raw.is_empty() && !ended {
            if self.0.read_tls(&mut raw)? == 0 {
                break;
            }
            ended = self.0.process_new_packets()?.peer_has_closed();
            let mut reader = self.0.reader();
            // Without plaintext it says that it would block, or that the stream has ended.
            while let Ok(bytes) = reader.fill_buf() {
                if bytes.is_empty() {
                    break;
                }
                clear.extend_from_slice(bytes);
                let length = bytes.len();
                reader.consume(length);
            }
        }
        Ok(ended)
    }

    /// Encrypts everything in `slices`.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.writer().write_vectored(slices)
    }

    /// Writes what is encrypted; returns whether all of it is written.
    pub(super) fn push(&mut self, socket: &mut Socket) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    pub(super) fn close(&mut self) {
        self.0.send_close_notify();
    }

    pub(super) fn certificate(&self) -> Option<Box<[u8]>> {
        let certificate = self.0.peer_certificates()?.first()?;
        Some(certificate.as_ref().into())
    }
}
