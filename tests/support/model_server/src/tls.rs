//! A certificate authority of our own and a certificate for this machine.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::serve::Speak;

/// Returns a server configuration and the PEM of the authority that vouches for it.
pub(crate) fn config(speak: Speak) -> anyhow::Result<(Arc<ServerConfig>, String)> {
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
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .context("a certificate for this machine")?;
    config.alpn_protocols = match speak {
        Speak::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Speak::Http1 => vec![b"http/1.1".to_vec()],
        Speak::Http2 => vec![b"h2".to_vec()],
    };
    Ok((Arc::new(config), root.pem()))
}
