//! TLS for model servers: the system's certificate authorities plus the configured ones.
//!
//! Holds: the system's certificates are read once, and only when the first secure connection is
//! made. The cryptography is ring's: aws-lc-rs would add a C build of minutes to every checkout
//! for no difference a completion could show.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

/// Which protocols to offer in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Http2First,
    Http2Only,
    Http1Only,
}

/// Makes TLS configurations that share one set of trusted authorities.
pub(crate) struct TlsSetup {
    extra_roots: Vec<CertificateDer<'static>>,
    base: Mutex<Option<ClientConfig>>,
}

impl TlsSetup {
    pub(crate) fn new(extra_roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            extra_roots,
            base: Mutex::new(None),
        }
    }

    /// Returns a configuration that offers `offer`. The first call reads the system's
    /// certificates from disk (tens of milliseconds).
    ///
    /// # Errors
    /// When there is no certificate authority to trust, or a configured one is not valid.
    pub(super) fn config(&self, offer: Offer) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let base = match &*base {
            Some(config) => config,
            None => base.insert(self.read()?),
        };
        let mut config = base.clone();
        config.alpn_protocols = match offer {
            Offer::Http2First => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Offer::Http2Only => vec![b"h2".to_vec()],
            Offer::Http1Only => vec![b"http/1.1".to_vec()],
        };
        Ok(Arc::new(config))
    }

    fn read(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(
            self.extra_roots.iter().cloned(),
            Arc::clone(&provider),
        )?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(config)
    }
}
