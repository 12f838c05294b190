//! Opening one connection to a model server: name lookup, proxy, TLS and protocol choice.
//!
//! Not here: when to open one and who gets it (`http`).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use tower_service::Service;

use super::tls::{Offer, TlsSetup};
use crate::model::endpoint::{HttpVersion, Site};
use crate::model::failure::Failure;

/// How long a silent TCP peer is trusted before the system asks it, how far apart and how often: one
/// that is gone is known after 45 s, without a wake-up of this program before.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_PROBES_APART: Duration = Duration::from_secs(5);
const TCP_PROBES: u32 = 3;

/// Name lookup, TCP, proxy and TLS together.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connected stream of bytes.
pub(super) trait Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin {}
impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin> Io for T {}

/// An open connection and what was agreed on it.
pub(super) struct Dialled {
    pub(super) io: Box<dyn Io>,
    pub(super) http2: bool,
}

/// Opens connections to one site.
pub(super) struct Dialler {
    site: Site,
    target: Uri,
    proxy: Option<Intercept>,
    tls: Arc<TlsSetup>,
}

impl Dialler {
    pub(super) fn new(site: &Site, proxy: Option<Intercept>, tls: Arc<TlsSetup>) -> Self {
        // With its port always: a tunnel cannot tell the default one from the scheme.
        let scheme = if site.tls { "https" } else { "http" };
        let target = format!("{scheme}://{}:{}", site.host, site.port)
            .parse()
            .unwrap_or_default();
        Self {
            site: site.clone(),
            target,
            proxy,
            tls,
        }
    }

    /// Returns what a plain-text HTTP proxy needs on every request: requests go to it whole,
    /// with the full address.
    pub(super) fn forwarding_proxy(&self) -> Option<ForwardingProxy> {
        let proxy = self.proxy.as_ref()?;
        let forwards = !self.site.tls && !is_socks(proxy) && self.site.http != HttpVersion::H2c;
        forwards.then(|| ForwardingProxy {
            authorization: proxy.basic_auth().cloned(),
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Failure`] of the connecting kinds; [`Failure::ConnectTimeout`] when everything together
    /// takes longer than [`PATIENCE`].
    pub(super) async fn dial(&self) -> Result<Dialled, Failure> {
        match tokio::time::timeout(PATIENCE, self.connect()).await {
            Ok(Ok(dialled)) => Ok(dialled),
            Ok(Err(error)) => Err(match (classify(&*error), &self.proxy) {
                (Failure::Refused, Some(_)) => {
                    Failure::Proxy("it refused the connection".to_owned())
                }
                (Failure::Unresolved, Some(_)) => Failure::Proxy("its host is unknown".to_owned()),
                (failure, _) => failure,
            }),
            Err(_) => Err(Failure::ConnectTimeout(PATIENCE)),
        }
    }

    async fn connect(&self) -> Result<Dialled, Box<dyn Error + Send + Sync>> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_PROBES_APART));
        tcp.set_keepalive_retries(Some(TCP_PROBES));
        let Some(proxy) = &self.proxy else {
            return self.secure(tcp).await;
        };
        if is_socks(proxy) {
            let socks = SocksV5::new(proxy.uri().clone(), tcp)
                .local_dns(proxy.uri().scheme_str() == Some("socks5"));
            return match proxy.raw_auth() {
                Some((user, password)) => {
                    self.secure(socks.with_auth(user.to_owned(), password.to_owned()))
                        .await
                }
                None => self.secure(socks).await,
            };
        }
        let to_proxy = HttpsConnector::from((tcp, self.tls.config(Offer::Http1Only)?));
        if self.forwarding_proxy().is_some() {
            let mut to_proxy = to_proxy;
            let io = Service::call(&mut to_proxy, proxy.uri().clone()).await?;
            return Ok(Dialled {
                io: Box::new(io),
                http2: false,
            });
        }
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        match proxy.basic_auth() {
            Some(authorization) => self.secure(tunnel.with_auth(authorization.clone())).await,
            None => self.secure(tunnel).await,
        }
    }

    /// Connects through `below` and puts TLS on top where the address asks for it.
    async fn secure<C>(&self, mut below: C) -> Result<Dialled, Box<dyn Error + Send + Sync>>
    where
        C: Service<Uri> + Send,
        C::Response: hyper::rt::Read + hyper::rt::Write + Connection + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if !self.site.tls {
            let io = below.call(self.target.clone()).await.map_err(Into::into)?;
            return Ok(Dialled {
                io: Box::new(io),
                http2: self.site.http == HttpVersion::H2c,
            });
        }
        let offer = match self.site.http {
            HttpVersion::Auto => Offer::Http2First,
            HttpVersion::H2c => Offer::Http2Only,
            HttpVersion::Http1 => Offer::Http1Only,
        };
        let tls = Arc::clone(&self.tls);
        let config = tokio::task::spawn_blocking(move || tls.config(offer)).await??;
        let mut secured = HttpsConnector::from((below, config));
        let io = secured.call(self.target.clone()).await?;
        let http2 = io.connected().is_negotiated_h2() || offer == Offer::Http2Only;
        Ok(Dialled {
            io: Box::new(io),
            http2,
        })
    }
}

/// A proxy that is given whole requests instead of a tunnel.
#[derive(Debug, Clone)]
pub(super) struct ForwardingProxy {
    pub(super) authorization: Option<HeaderValue>,
}

fn is_socks(proxy: &Intercept) -> bool {
    proxy
        .uri()
        .scheme_str()
        .is_some_and(|scheme| scheme.starts_with("socks"))
}

/// Finds the failure a person can act on in a chain of causes.
fn classify(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    let mut chain = Vec::new();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Failure::Tls(tls.to_string());
        }
        let io = error.downcast_ref::<io::Error>();
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Failure::Refused,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                return Failure::Unreachable;
            }
            _ => {}
        }
        chain.push(error.to_string());
        // What an io::Error wraps is skipped by its `source`.
        cause = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    let text = chain.join(": ");
    if text.contains("dns error") || text.contains("failed to lookup address") {
        return Failure::Unresolved;
    }
    if text.contains("tunnel")
        || text.contains("proxy")
        || text.to_ascii_lowercase().contains("socks")
    {
        return Failure::Proxy(chain.pop().unwrap_or(text));
    }
    Failure::Protocol(chain.pop().unwrap_or(text))
}
