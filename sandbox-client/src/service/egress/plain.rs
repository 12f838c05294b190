//! Requests over plain HTTP: to the host they name, without what is only for the proxy.
//!
//! Where credentials are kept for a host, its requests get them here and go on over TLS, so that
//! neither the sandbox nor the network sees them. The sandbox sees the answer, whatever it says.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, Uri, header, uri};
use http_body_util::Either;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Shared;
use super::policy::Target;
use super::proxy::{Body, Connection, Refused, reach};
use crate::protocol::{DenialOp, DenialReason};

/// Headers that are between two ends of one connection.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes on a request and its answer.
pub(super) async fn pass_on(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let shared = &connection.shared;
    let target = target(request.uri())
        .ok_or_else(|| denied(shared, &request.uri().to_string(), DenialReason::Malformed))?;
    if !has_host(request.headers(), &target) {
        return Err(denied(
            shared,
            &target.to_string(),
            DenialReason::HostHeader,
        ));
    }
    let secured = match target.port() {
        80 => target.at(443),
        port => target.at(port),
    };
    let credentials = shared.policy().credentials(&secured);
    if credentials.is_empty() {
        let upstream = reach(shared, DenialOp::Request, &target).await?;
        let address = peer(&upstream)?;
        return exchange(connection, request, &target, address, upstream).await;
    }
    let upstream = reach(shared, DenialOp::Request, &secured).await?;
    let address = peer(&upstream)?;
    let upstream = encrypt(shared, &secured, upstream).await?;
    for (name, value) in credentials {
        request.headers_mut().insert(name, value);
    }
    exchange(connection, request, &secured, address, upstream).await
}

fn denied(shared: &Shared, what: &str, reason: DenialReason) -> Refused {
    Refused::denied(shared, DenialOp::Request, what, reason, None)
}

/// Whom an absolute address is for.
fn target(uri: &Uri) -> Option<Target> {
    let authority = uri.authority()?;
    let is_plain = uri.scheme() == Some(&uri::Scheme::HTTP);
    let is_whole = is_plain && !authority.as_str().contains('@');
    let port = match authority.port() {
        None => 80,
        Some(port) => port.as_str().parse().ok()?,
    };
    is_whole
        .then(|| Target::parse(authority.host(), port))
        .flatten()
}

/// Whether the one Host header names the target.
fn has_host(headers: &HeaderMap, target: &Target) -> bool {
    let mut all = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else {
        return false;
    };
    let host = host.to_str().ok().and_then(|host| {
        let authority: uri::Authority = host.parse().ok()?;
        let port = authority
            .port()
            .map_or(Some(80), |p| p.as_str().parse().ok())?;
        let is_bare = !authority.as_str().contains('@');
        is_bare
            .then(|| Target::parse(authority.host(), port))
            .flatten()
    });
    host.as_ref() == Some(target)
}

fn peer(upstream: &TcpStream) -> Result<IpAddr, Refused> {
    let address = upstream.peer_addr();
    address
        .map(|address| address.ip())
        .map_err(|why| Refused::failed(&why.to_string()))
}

/// Speaks TLS to a target, as itself.
async fn encrypt(
    shared: &Shared,
    target: &Target,
    upstream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Refused> {
    let failed = |why: String| Refused::failed(&why);
    let config = match &shared.options.tls {
        Some(config) => Arc::clone(config),
        None => {
            Arc::new(crate::client::tls_config(Vec::new()).map_err(|why| failed(why.to_string()))?)
        }
    };
    let name = match (target.name(), target.literal()) {
        (Some(name), _) => rustls::pki_types::ServerName::try_from(name.to_owned())
            .map_err(|why| failed(why.to_string()))?,
        (None, Some(address)) => address.into(),
        (None, None) => return Err(failed("it has no name".to_owned())),
    };
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, upstream);
    let patience = shared.options.caps.beginning;
    tokio::time::timeout(patience, handshake)
        .await
        .map_err(|_| failed("it did not begin TLS".to_owned()))?
        .map_err(|why| failed(why.to_string()))
}

/// Sends a request on a connection of its own and passes on the answer.
async fn exchange<S>(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
    target: &Target,
    address: IpAddr,
    upstream: S,
) -> Result<Response<Body>, Refused>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = &connection.shared;
    let failed = |why: hyper::Error| Refused::failed(&why.to_string());
    let refused = |reason| {
        connection.cut(&target.to_string(), reason);
        Refused::of(reason, None)
    };
    let (mut sender, sending) = http1::handshake(TokioIo::new(upstream))
        .await
        .map_err(failed)?;
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| uri::PathAndQuery::from_static("/")));
    strip(&mut head.headers);
    if !connection.count(head.uri.to_string().len() + size(&head.headers)) {
        return Err(refused(DenialReason::TooManyBytes));
    }
    let body = Metered::new(connection, target, address, body);
    // Ends with the request or its answer, whichever is dropped last.
    tokio::spawn(sending);
    let answer = tokio::select! {
        answer = sender.send_request(Request::from_parts(head, body)) => answer.map_err(failed)?,
        () = shared.forbidden(target, address) => return Err(refused(DenialReason::Revoked)),
        () = connection.stands_still(shared.options.caps.idle) => {
            return Err(Refused::failed("it did not answer"));
        }
    };
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    if !connection.count(size(&head.headers)) {
        return Err(refused(DenialReason::TooManyBytes));
    }
    let body = Metered::new(connection, target, address, body);
    Ok(Response::from_parts(head, Either::Right(body)))
}

/// Bytes of headers: they carry data as bodies do.
fn size(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}

/// Takes out what is between two ends of one connection, by name or by what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// A body that is counted, and cut when it is too long or no longer allowed.
pub(super) struct Metered {
    connection: Arc<Connection>,
    target: String,
    inner: Incoming,
    forbidden: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Metered {
    fn new(
        connection: &Arc<Connection>,
        target: &Target,
        address: IpAddr,
        inner: Incoming,
    ) -> Self {
        let (shared, of) = (Arc::clone(&connection.shared), target.clone());
        Self {
            connection: Arc::clone(connection),
            target: target.to_string(),
            inner,
            forbidden: Box::pin(async move { shared.forbidden(&of, address).await }),
        }
    }

    fn cut<T>(&self, reason: DenialReason) -> Poll<Option<std::io::Result<T>>> {
        self.connection.cut(&self.target, reason);
        Poll::Ready(Some(Err(std::io::Error::other(reason.in_words()))))
    }
}

impl hyper::body::Body for Metered {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.forbidden.as_mut().poll(cx).is_ready() {
            return self.cut(DenialReason::Revoked);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let n = frame.data_ref().map_or(0, Bytes::len);
                if !self.connection.count(n) {
                    return self.cut(DenialReason::TooManyBytes);
                }
                Some(Ok(frame))
            }
            Some(Err(why)) => Some(Err(std::io::Error::other(why))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
