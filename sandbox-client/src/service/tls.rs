//! Encryption for callers from other machines.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// What a service shows its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those between it and an authority, in PEM form.
    pub chain: PathBuf,
    /// Its private key, in PEM form.
    pub key: PathBuf,
}

impl Certificate {
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let unusable = |path: &Path, why: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {why}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&self.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
            .map_err(|why| unusable(&self.chain, &why))?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|why| unusable(&self.key, &why))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|why| unusable(&self.chain, &why))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
