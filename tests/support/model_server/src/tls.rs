//! A certificate authority of our own and a certificate for this machine.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::serve::Speak;

/// What a server on this machine needs, and its clients; all in PEM form.
pub struct Issued {
    /// The authority that vouches for the certificate.
    pub authority: String,
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
}

/// Makes a certificate for this machine, and an authority for it.
pub fn issue() -> anyhow::Result<Issued> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    // Its own name, or clients would take one server's authority for another's.
    let name = format!("model-server {:x?}", &authority_key.public_key_raw()[..8]);
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1", "models.test"].map(str::to_owned);
    let certificate = CertificateParams::new(names.to_vec())?.signed_by(&key, &issuer)?;
    Ok(Issued {
        authority: root.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Returns a server configuration and the PEM of the authority that vouches for it.
pub(crate) fn config(speak: Speak) -> anyhow::Result<(Arc<ServerConfig>, String)> {
    let issued = issue()?;
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())?;
    let private = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .context("a certificate for this machine")?;
    config.alpn_protocols = match speak {
        Speak::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Speak::Http1 => vec![b"http/1.1".to_vec()],
        Speak::Http2 => vec![b"h2".to_vec()],
    };
    Ok((Arc::new(config), issued.authority))
}
