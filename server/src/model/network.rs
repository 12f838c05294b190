//! What all models share: proxies, certificate authorities, and one set of warm connections per
//! scheme, host and port, kept while settings change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Model;
use super::embeddings::Embedder;
use super::endpoint::{Api, Endpoint, Site};
use super::http::Origin;
use super::http::tls::TlsSetup;
use super::outbound::{Outbound, OutboundSettings};
use super::probe::Probe;
use super::turn::{TurnEndpoint, TurnModel};
use crate::error::{Kind, UserError};

/// How the machine reaches model servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSettings {
    pub proxy: Proxy,
    /// Hosts reached without the proxy, in the syntax of `NO_PROXY`. Added to loopback
    /// addresses, which never go through a proxy.
    pub no_proxy: Option<String>,
    /// PEM files of certificate authorities trusted besides those of the system.
    pub ca_files: Vec<PathBuf>,
    /// Who looks at requests before they are sent.
    pub outbound: Option<OutboundSettings>,
}

/// Which proxy to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, else the system's settings.
    #[default]
    Environment,
    None,
    /// `http://`, `https://` or `socks5://`, with user name and password if need be.
    Url(String),
}

/// The network as models see it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    outbound: Option<Arc<Outbound>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

struct Shared {
    proxies: Option<Matcher>,
    tls: Arc<TlsSetup>,
    origins: Mutex<HashMap<Site, Arc<Origin>>>,
    /// What endpoints were found to support, kept while settings change around them.
    probes: Mutex<HashMap<ProbeKey, Arc<Probe>>>,
}

/// What a probe is remembered by: address, model, dialect and template.
pub(crate) type ProbeKey = (String, String, Api, Option<String>);

impl Network {
    /// Reads the certificate files and the settings. Opens no connection.
    ///
    /// # Errors
    /// When a certificate file cannot be read or holds no certificate, the proxy's address is not
    /// a URL, or one who is to look at requests cannot.
    pub fn new(settings: &NetworkSettings) -> Result<Self, UserError> {
        let extra_roots = authorities(&settings.ca_files)?;
        let mut network = Self {
            shared: Arc::new(Shared {
                proxies: proxies(settings)?,
                tls: Arc::new(TlsSetup::new(extra_roots)),
                origins: Mutex::default(),
                probes: Mutex::default(),
            }),
            outbound: None,
        };
        let outbound = settings
            .outbound
            .as_ref()
            .map(|settings| Outbound::new(settings, |site| network.origin(site)));
        network.outbound = outbound.transpose()?.map(Arc::new);
        Ok(network)
    }

    /// Returns a client for `endpoint`. Opens no connection: see [`Model::warm`]. Endpoints on
    /// the same host share connections, also with models made earlier.
    ///
    /// # Errors
    /// When a setting of the endpoint cannot work, naming the setting.
    pub fn model(&self, endpoint: Endpoint) -> Result<Model, UserError> {
        Model::new(self.clone(), endpoint)
    }

    /// Returns a client that turns texts into vectors. Opens no connection.
    ///
    /// # Errors
    /// When a setting of the endpoint cannot work, naming the setting.
    pub fn embedder(&self, endpoint: Endpoint) -> Result<Embedder, UserError> {
        Embedder::new(self, endpoint)
    }

    /// Returns a client for a model that takes turns in a conversation. As [`Network::model`].
    ///
    /// # Errors
    /// When a setting of the endpoint cannot work, naming the setting.
    pub fn turn_model(&self, endpoint: TurnEndpoint) -> Result<TurnModel, UserError> {
        TurnModel::new(self, endpoint)
    }

    /// Returns the connections to `site`.
    pub(crate) fn origin(&self, site: &Site) -> Arc<Origin> {
        let origins = self.shared.origins.lock();
        let mut origins = origins.unwrap_or_else(PoisonError::into_inner);
        let origin = origins.entry(site.clone()).or_insert_with(|| {
            let proxy = self.proxy_for(site);
            Origin::new(site.clone(), proxy, Arc::clone(&self.shared.tls))
        });
        Arc::clone(origin)
    }

    /// Returns who looks at what is sent to `site`.
    pub(super) fn outbound(&self, site: &Site) -> Option<Arc<Outbound>> {
        self.outbound.clone().filter(|looks| looks.is_for(site))
    }

    fn proxy_for(&self, site: &Site) -> Option<Intercept> {
        if site.is_loopback() {
            return None;
        }
        let address = site.shown().parse().ok()?;
        self.shared.proxies.as_ref()?.intercept(&address)
    }

    pub(crate) fn known_probe(&self, key: &ProbeKey) -> Option<Arc<Probe>> {
        self.probes().get(key).cloned()
    }

    pub(crate) fn remember_probe(&self, key: ProbeKey, probe: Arc<Probe>) {
        self.probes().insert(key, probe);
    }

    pub(crate) fn forget_probe(&self, key: &ProbeKey) {
        self.probes().remove(key);
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, HashMap<ProbeKey, Arc<Probe>>> {
        self.shared
            .probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads certificate authorities from PEM files.
///
/// # Errors
/// When a file cannot be read or holds no certificate.
pub(crate) fn authorities(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, UserError> {
    let mut authorities = Vec::new();
    for file in files {
        authorities.extend(certificates(file)?);
    }
    Ok(authorities)
}

fn certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, UserError> {
    let refuse = |why: &str| {
        let message = format!("The certificate file {} {why}.", file.display());
        UserError::new(Kind::Settings, message).with_hint("Correct `network.caCertificates`.")
    };
    let pem = std::fs::read(file)
        .map_err(|error| refuse(&format!("cannot be read ({})", error.kind())))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => Err(refuse("holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(refuse("is not in PEM format")),
    }
}

fn proxies(settings: &NetworkSettings) -> Result<Option<Matcher>, UserError> {
    let except = settings.no_proxy.clone().unwrap_or_default();
    match &settings.proxy {
        Proxy::None => Ok(None),
        Proxy::Environment if except.is_empty() => Ok(Some(Matcher::from_system())),
        Proxy::Environment => {
            let variable = |upper: &str, lower: &str| {
                std::env::var(upper)
                    .or_else(|_| std::env::var(lower))
                    .unwrap_or_default()
            };
            let listed = variable("NO_PROXY", "no_proxy");
            let builder = Matcher::builder()
                .all(variable("ALL_PROXY", "all_proxy"))
                .http(variable("HTTP_PROXY", "http_proxy"))
                .https(variable("HTTPS_PROXY", "https_proxy"))
                .no(if listed.is_empty() {
                    except
                } else {
                    format!("{listed},{except}")
                });
            Ok(Some(builder.build()))
        }
        Proxy::Url(url) => {
            let scheme = url::Url::parse(url).ok().map(|url| url.scheme().to_owned());
            match scheme.as_deref() {
                Some("http" | "https" | "socks5" | "socks5h") => {
                    Ok(Some(Matcher::builder().all(url.clone()).no(except).build()))
                }
                _ => Err(UserError::new(
                    Kind::Settings,
                    "The proxy's address is not one Pairwright can use.",
                )
                .with_hint(
                    "Write `network.proxy` like \"http://proxy:3128\" or \"socks5://proxy:1080\".",
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(settings: &NetworkSettings, url: &str) -> String {
        let network = Network::new(settings).unwrap();
        let endpoint = Endpoint::new(Api::OpenAi, url, "");
        let site = super::super::endpoint::Address::of(&endpoint).unwrap().site;
        network
            .proxy_for(&site)
            .map_or_else(|| "direct".to_owned(), |proxy| proxy.uri().to_string())
    }

    #[test]
    fn a_proxy_is_used_except_for_loopback_and_listed_hosts() {
        let settings = NetworkSettings {
            proxy: Proxy::Url("http://proxy:3128".to_owned()),
            no_proxy: Some("example.org, 10.0.0.0/8".to_owned()),
            ..NetworkSettings::default()
        };
        let cases = [
            ("https://models.test/v1", "http://proxy:3128/"),
            ("http://models.test/v1", "http://proxy:3128/"),
            ("https://api.example.org", "direct"),
            ("http://10.1.2.3:8000", "direct"),
            ("http://localhost:11434", "direct"),
            ("http://127.0.0.1:11434", "direct"),
            ("http://[::1]:11434", "direct"),
        ];
        for (url, expected) in cases {
            assert_eq!(route(&settings, url), expected, "{url}");
        }
        let off = NetworkSettings {
            proxy: Proxy::None,
            ..settings
        };
        assert_eq!(route(&off, "https://models.test/v1"), "direct");
    }

    #[test]
    fn unusable_settings_are_refused_without_repeating_a_password() {
        let bad_proxy = NetworkSettings {
            proxy: Proxy::Url("gopher://me:hunter2@proxy".to_owned()),
            ..NetworkSettings::default()
        };
        let missing = NetworkSettings {
            ca_files: vec!["/no/such.pem".into()],
            ..NetworkSettings::default()
        };
        let empty = NetworkSettings {
            ca_files: vec!["/dev/null".into()],
            ..NetworkSettings::default()
        };
        for settings in [bad_proxy, missing, empty] {
            let Err(error) = Network::new(&settings) else {
                panic!("{settings:?} was accepted")
            };
            assert_eq!(error.kind, Kind::Settings);
            assert!(error.hint.is_some() && !error.to_string().contains("hunter2"));
        }
    }
}
