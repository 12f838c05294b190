//! The connections: HTTP/2 over a socket of this machine, HTTP/1.1 or 2 over TCP or TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use sandbox_agent::wire::{CONNECTION_WINDOW, STREAM_WINDOW};

use super::{Address, Addressing, ClientError, Endpoint, Outcome};
use crate::protocol::{ENVD_PORT, KEY_HEADER, PORT_HEADER, SANDBOX_HEADER};

type Pool<C> = legacy::Client<C, Full<Bytes>>;

/// Connections to one service.
pub(super) struct Http {
    endpoint: Endpoint,
    connections: Connections,
}

enum Connections {
    #[cfg(unix)]
    Unix(Pool<UnixConnector>),
    Tcp(Pool<HttpsConnector<HttpConnector>>),
}

/// A request.
pub(super) struct Ask {
    method: Method,
    path: String,
    body: Bytes,
    pub(super) kind: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The sandbox it is for, and the domain the service gave for it; none is the control plane.
    sandbox: Option<(String, Option<String>)>,
}

impl Ask {
    pub(super) fn control(method: Method, path: &str, body: Bytes) -> Self {
        Self {
            method,
            path: path.to_owned(),
            body,
            kind: "application/json",
            headers: Vec::new(),
            sandbox: None,
        }
    }

    /// Of the body.
    pub(super) fn n_bytes(&self) -> usize {
        self.body.len()
    }

    pub(super) fn data(
        id: &str,
        domain: Option<&str>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Self {
        Self {
            sandbox: Some((id.to_owned(), domain.map(str::to_owned))),
            ..Self::control(method, path, body)
        }
    }
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Incoming,
}

impl Answer {
    /// Reads all of the body.
    pub(super) async fn whole(self, cap: usize) -> Outcome<Bytes> {
        let body = Limited::new(self.body, cap).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(
                |error| match error.is::<http_body_util::LengthLimitError>() {
                    true => ClientError::Protocol(format!("more than {cap} bytes")),
                    false => ClientError::Gone,
                },
            )
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether trying again may help: the service's word, else the status.
    pub(super) fn asks_to_repeat(&self) -> bool {
        match self.header("should-retry") {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(self.status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// How long to wait before, in whole seconds. Dates are not read.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

impl Http {
    pub(super) fn new(
        endpoint: Endpoint,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Outcome<Self> {
        let mut pool = legacy::Client::builder(TokioExecutor::new());
        pool.timer(TokioTimer::new())
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        let connections = match &endpoint.address {
            #[cfg(unix)]
            Address::Unix(path) => {
                let connector = UnixConnector(path.clone());
                Connections::Unix(pool.http2_only(true).build(connector))
            }
            Address::Url(_) => Connections::Tcp(pool.build(tls(authorities)?)),
        };
        Ok(Self {
            endpoint,
            connections,
        })
    }

    /// Whether the service can only be one of this machine's user.
    pub(super) fn is_local(&self) -> bool {
        match &self.endpoint.address {
            #[cfg(unix)]
            Address::Unix(_) => true,
            Address::Url(_) => false,
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(&self, ask: Ask) -> Outcome<Answer> {
        let mut base = match &self.endpoint.address {
            #[cfg(unix)]
            Address::Unix(_) => "http://sandboxd".to_owned(),
            Address::Url(url) => url.trim_end_matches('/').to_owned(),
        };
        let mut headers = ask.headers;
        let mut path = ask.path;
        match (&ask.sandbox, &self.endpoint.addressing) {
            (None, _) => headers.push((KEY_HEADER, self.endpoint.key.clone())),
            (Some((id, _)), Addressing::Header) => {
                headers.push((SANDBOX_HEADER, id.clone()));
                headers.push((PORT_HEADER, ENVD_PORT.to_string()));
            }
            (Some((id, _)), Addressing::Path) => path = format!("/kruise/{id}/{ENVD_PORT}{path}"),
            (Some((id, domain)), Addressing::Subdomain(own)) => {
                let domain = domain.as_deref().unwrap_or(own);
                base = format!("https://{ENVD_PORT}-{id}.{domain}");
            }
        }
        let uri: Uri = format!("{base}{path}")
            .parse()
            .map_err(|_| ClientError::Protocol("an address that cannot be".to_owned()))?;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(uri)
            .header("content-type", ask.kind);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(ask.body))
            .map_err(|_| ClientError::Protocol("a key that cannot be sent".to_owned()))?;
        let answer = match &self.connections {
            #[cfg(unix)]
            Connections::Unix(pool) => pool.request(request).await,
            Connections::Tcp(pool) => pool.request(request).await,
        };
        let answer = answer.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            ClientError::Unreachable(cause.to_string())
        })?;
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

/// TLS as everybody, believing whom this machine believes, and `authorities`.
pub(crate) fn tls_config(
    authorities: Vec<CertificateDer<'static>>,
) -> Outcome<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error: rustls::Error| ClientError::Unreachable(error.to_string());
    let verifier = Verifier::new_with_extra_roots(authorities, Arc::clone(&provider));
    let verifier = Arc::new(verifier.map_err(unusable)?);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn tls(authorities: Vec<CertificateDer<'static>>) -> Outcome<HttpsConnector<HttpConnector>> {
    let config = tls_config(authorities)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp))
}

/// Connects to one socket of this machine, whatever the address says.
#[cfg(unix)]
#[derive(Clone)]
struct UnixConnector(std::path::PathBuf);

#[cfg(unix)]
struct UnixConnection(TokioIo<tokio::net::UnixStream>);

#[cfg(unix)]
impl tower_service::Service<Uri> for UnixConnector {
    type Response = UnixConnection;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<UnixConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok(UnixConnection(TokioIo::new(stream)))
        })
    }
}

#[cfg(unix)]
impl legacy::connect::Connection for UnixConnection {
    fn connected(&self) -> legacy::connect::Connected {
        legacy::connect::Connected::new()
    }
}

#[cfg(unix)]
impl hyper::rt::Read for UnixConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

#[cfg(unix)]
impl hyper::rt::Write for UnixConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
