//! Takes the username from a client certificate.
//!
//! The certificate must already have been verified against its authority; nothing here looks at signatures or dates.
//! Exactly one value must be there: none, several, an empty one and one that holds U+0000 are refused,
//! since each would leave it to chance or to the reader who is meant.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Which field of a certificate names the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateField {
    /// The common name of the subject.
    CommonName,
    /// The DNS name among the subject's alternative names.
    SanDns,
    /// The mail address among the subject's alternative names.
    SanEmail,
    /// The URI among the subject's alternative names.
    SanUri,
}

/// Why a certificate names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The bytes are no X.509 certificate in DER, or something follows it.
    #[error("the certificate is not X.509 in DER")]
    Malformed,
    /// The field isn't there.
    #[error("the certificate does not have the field that names the user")]
    Absent,
    /// The field is there more than once.
    #[error("the certificate has the field that names the user {0} times")]
    Several(usize),
    /// The field is empty.
    #[error("the field that names the user is empty")]
    Empty,
    /// The field holds U+0000.
    #[error("the field that names the user holds U+0000")]
    Nul,
    /// The field is of a type that isn't UTF-8 text, such as `BMPString`.
    #[error("the field that names the user is not UTF-8 text")]
    NotText,
}

/// Returns the name that `field` of a certificate in DER gives its bearer.
///
/// # Errors
/// The bytes are no certificate, or the field doesn't hold exactly one usable name.
pub fn identity_from_der(der: &[u8], field: CertificateField) -> Result<String, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed);
    }
    let mut names = match field {
        CertificateField::CommonName => common_names(&certificate),
        CertificateField::SanDns | CertificateField::SanEmail | CertificateField::SanUri => alternative_names(&certificate, field)?,
    };
    match (names.pop(), names.len()) {
        (None, _) => Err(CertificateError::Absent),
        (Some(name), 0) => checked(name?),
        (Some(_), others) => Err(CertificateError::Several(others + 1)),
    }
}

type Name<'a> = Result<&'a str, CertificateError>;

fn common_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<Name<'a>> {
    let names = certificate.subject().iter_common_name();
    names.map(|name| name.as_str().map_err(|_| CertificateError::NotText)).collect()
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'_>, field: CertificateField) -> Result<Vec<Name<'a>>, CertificateError> {
    // The context tags of RFC 5280, section 4.2.1.6, under which a name that is no text is kept.
    let tag = match field {
        CertificateField::SanEmail => 1,
        CertificateField::SanUri => 6,
        CertificateField::SanDns | CertificateField::CommonName => 2,
    };
    let extension = certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let wanted = names.iter().filter_map(|name| match (field, name) {
        (CertificateField::SanDns, GeneralName::DNSName(name))
        | (CertificateField::SanEmail, GeneralName::RFC822Name(name))
        | (CertificateField::SanUri, GeneralName::URI(name)) => Some(Ok(*name)),
        (_, GeneralName::Invalid(found, _)) if found.0 == tag => Some(Err(CertificateError::NotText)),
        _ => None,
    });
    Ok(wanted.collect())
}

fn checked(name: &str) -> Result<String, CertificateError> {
    match name {
        "" => Err(CertificateError::Empty),
        _ if name.contains('\0') => Err(CertificateError::Nul),
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Made by openssl; `tests/fixtures/make_tokens.py` has the commands.
    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/certificates/plain.der");
    const UTF8: &[u8] = include_bytes!("../tests/fixtures/certificates/utf8.der");
    const TWO_NAMES: &[u8] = include_bytes!("../tests/fixtures/certificates/two_names.der");
    const NO_NAME: &[u8] = include_bytes!("../tests/fixtures/certificates/no_name.der");
    const NUL: &[u8] = include_bytes!("../tests/fixtures/certificates/nul.der");
    const EMPTY: &[u8] = include_bytes!("../tests/fixtures/certificates/empty.der");
    const BMP: &[u8] = include_bytes!("../tests/fixtures/certificates/bmp.der");

    #[test]
    fn one_name_is_taken_and_everything_else_refused() {
        use CertificateField::{CommonName, SanDns, SanEmail, SanUri};
        let check = |der: &[u8], field: CertificateField, expected: Result<&str, CertificateError>| {
            assert_eq!(identity_from_der(der, field).as_deref(), expected.as_ref().map(|name| *name), "{field:?}");
        };
        check(PLAIN, CommonName, Ok("device-17"));
        check(PLAIN, SanDns, Ok("device-17.example"));
        check(PLAIN, SanEmail, Ok("dev@example.com"));
        check(PLAIN, SanUri, Ok("urn:dev:17"));
        check(UTF8, CommonName, Ok("gerät-ü"));
        for field in [SanDns, SanEmail, SanUri] {
            check(UTF8, field, Err(CertificateError::Absent));
        }
        check(TWO_NAMES, CommonName, Err(CertificateError::Several(2)));
        check(TWO_NAMES, SanDns, Err(CertificateError::Several(2)));
        check(TWO_NAMES, SanEmail, Err(CertificateError::Absent));
        check(NO_NAME, CommonName, Err(CertificateError::Absent));
        check(NUL, CommonName, Err(CertificateError::Nul));
        check(NUL, SanDns, Err(CertificateError::Nul));
        check(NUL, SanUri, Err(CertificateError::Nul));
        check(EMPTY, CommonName, Err(CertificateError::Empty));
        check(BMP, CommonName, Err(CertificateError::NotText));
        check(b"", CommonName, Err(CertificateError::Malformed));
        check(&PLAIN[..PLAIN.len() - 1], CommonName, Err(CertificateError::Malformed));
        check(&[PLAIN, b"x"].concat(), CommonName, Err(CertificateError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut changed = PLAIN.to_vec();
            changed[at.index(PLAIN.len())] = with;
            for field in [CertificateField::CommonName, CertificateField::SanDns, CertificateField::SanEmail, CertificateField::SanUri] {
                let _ = identity_from_der(&bytes, field);
                let _ = identity_from_der(&changed, field);
            }
        }
    }
}
