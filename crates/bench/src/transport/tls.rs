//! TLS as a client, with resumption as phones have it.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::{BenchError, Tls};

/// Returns the configuration that all connections of a process share.
///
/// # Errors
/// Files that can't be read or used.
pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, BenchError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let bad = |what: &std::path::Path| {
        let what = what.display().to_string();
        move |error: rustls::pki_types::pem::Error| BenchError::Plan(format!("{what}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    if let Some(path) = &tls.authorities {
        for certificate in CertificateDer::pem_file_iter(path).map_err(bad(path))? {
            roots.add(certificate.map_err(bad(path))?)?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).map_err(bad(certificate))?;
            let chain = chain.collect::<Result<Vec<_>, _>>().map_err(bad(certificate))?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).map_err(bad(key))?)?
        }
    };
    Ok(Arc::new(config))
}

/// Begins a handshake.
pub(super) fn begin(config: &Arc<ClientConfig>, host: &str) -> io::Result<Box<ClientConnection>> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    connection.set_buffer_limit(None);
    Ok(Box::new(connection))
}

/// Decrypts `raw` onto the end of `clear`.
pub(super) fn read(connection: &mut ClientConnection, mut raw: &[u8], clear: &mut Vec<u8>) -> io::Result<()> {
    while !raw.is_empty() {
        connection.read_tls(&mut raw)?;
        connection.process_new_packets().map_err(io::Error::other)?;
        match connection.reader().read_to_end(clear) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes any certificate, but not a broken handshake.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
