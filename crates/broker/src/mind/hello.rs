//! What a client says about itself.

use std::net::IpAddr;

use midge_core::certificate::{CertificateField, identity_from_der};
use midge_core::gate::{Hello as Claim, Proof, Refusal, Stranger};
use midge_core::name::{ClientId, Username};
use midge_mqtt::Connect;

/// A client that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// Its CONNECT.
    pub connect: &'a Connect<'a>,
    /// Its client identifier: its own, or the one that it will be given.
    pub client_id: &'a str,
    /// Where it connects from; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// The certificate that it has proved to have, as DER.
    pub certificate: Option<&'a [u8]>,
    /// The number of its listener, as in [`super::Settings::doors`].
    pub door: usize,
}

impl Hello<'_> {
    /// Returns what the gate is asked; a certificate's name, where `identity` says which, stands for a password.
    pub(super) fn claim(&self, identity: Option<CertificateField>, stranger: Stranger) -> Result<Claim, Refusal> {
        let identity = identity.zip(self.certificate).map(|(field, der)| name_in(der, field)).transpose()?;
        let proof = match (&identity, self.connect.password) {
            (Some(_), _) => Proof::Verified,
            (None, Some(password)) => Proof::Password(password.to_vec().into()),
            (None, None) => Proof::None,
        };
        let user = match (identity, self.connect.username) {
            (Some(identity), _) => Some(identity),
            // An empty name with nothing behind it is what some clients send for no name.
            (None, None | Some("")) => None,
            (None, Some(name)) => Some(username(name)?),
        };
        Ok(Claim { user, client: self.client()?, address: self.address, proof, stranger })
    }

    pub(super) fn client(&self) -> Result<ClientId, Refusal> {
        self.client_id.parse().map_err(|error| Refusal::BadName(format!("client identifier: {error}")))
    }
}

pub(super) fn username(name: &str) -> Result<Username, Refusal> {
    name.parse().map_err(|error| Refusal::BadName(format!("username: {error}")))
}

fn name_in(der: &[u8], field: CertificateField) -> Result<Username, Refusal> {
    let name = identity_from_der(der, field).map_err(|error| Refusal::BadName(format!("certificate: {error}")))?;
    name.parse().map_err(|error| Refusal::BadName(format!("certificate: {error}")))
}
