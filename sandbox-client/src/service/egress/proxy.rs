//! The proxy's own side: connections from inside, what they ask for, and how they are refused.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::dial::{NoConnection, dial};
use super::plain::{self, Metered};
use super::policy::Target;
use super::tunnel::{self, Tunnel};
use crate::protocol::{DenialOp, DenialReason};

/// A request's line and headers together.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections of a machine that are told that there are too many, at one time.
const ALSO_REFUSED: u32 = 16;
const REFUSAL: Duration = Duration::from_secs(1);
/// A machine says nothing in the headers of a stream.
const MACHINE_HEADERS: u32 = 1 << 10;
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-sandbox-deny: too-many-connections\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

pub(super) type Body = Either<Full<Bytes>, Metered>;

/// Accepts until it is dropped, and drops all connections then.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        match Connection::admit(&shared, &mut connections) {
            Some(connection) => _ = connections.spawn(connection.serve(stream)),
            // Nobody is waited for who does not hear it.
            None => _ = stream.try_write(BUSY),
        }
    }
}

/// The same for connections that a machine carries here, each as a stream of HTTP/2.
pub(super) async fn serve_machine(shared: Arc<Shared>, port: UnixStream) {
    let (tell, mut told) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let mut answer = Response::new(Empty::<Bytes>::new());
            if *request.method() != Method::CONNECT {
                *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            } else if tell.send(hyper::upgrade::on(request)).await.is_err() {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let most = u32::try_from(shared.options.caps.connections).unwrap_or(u32::MAX);
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_header_list_size(MACHINE_HEADERS)
        .max_concurrent_streams(most.saturating_add(ALSO_REFUSED));
    let carried = server.serve_connection(TokioIo::new(port), service);
    tokio::pin!(carried);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            // What breaks the protocol has lost its way out.
            _ = &mut carried => return,
            Some(stream) = told.recv() => stream,
        };
        let connection = Connection::admit(&shared, &mut connections);
        connections.spawn(async move {
            let Ok(stream) = stream.await else { return };
            let mut stream = TokioIo::new(stream);
            match connection {
                Some(connection) => connection.serve(stream).await,
                None => {
                    // Nobody is waited for who does not hear it.
                    let told = stream.write_all(BUSY);
                    let _ = tokio::time::timeout(REFUSAL, told).await;
                }
            }
        });
    }
}

/// One connection from inside: one request, and the tunnel it may become.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// Bytes passed on so far.
    n_passed: AtomicU64,
    /// Whether it was told why what it carries ends.
    is_cut: AtomicBool,
    opened: Mutex<Option<Tunnel>>,
}

impl Connection {
    /// One more, unless there are too many.
    fn admit(shared: &Arc<Shared>, connections: &mut JoinSet<()>) -> Option<Arc<Self>> {
        while connections.try_join_next().is_some() {}
        if connections.len() >= shared.options.caps.connections {
            let reason = DenialReason::TooManyConnections;
            shared.deny(DenialOp::Connection, "", reason, None);
            return None;
        }
        Some(Arc::new(Self {
            shared: Arc::clone(shared),
            n_passed: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            opened: Mutex::default(),
        }))
    }

    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let caps = self.shared.options.caps;
        let service = service_fn(|request| {
            let own = Arc::clone(&self);
            async move { Ok::<_, Infallible>(answer(&own, request).await) }
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(caps.beginning)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .keep_alive(false);
        let served = server
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let reason = tokio::select! {
            served = served => match served {
                Err(why) if why.is_timeout() => Some(DenialReason::TooSlow),
                Err(why) if why.is_parse() => Some(DenialReason::Malformed),
                Ok(()) | Err(_) => None,
            },
            // Later than a host that does not answer, which can be told.
            () = self.stands_still(2 * caps.idle) => Some(DenialReason::TooSlow),
        };
        if let Some(reason) = reason {
            self.shared.deny(DenialOp::Connection, "", reason, None);
        }
        let opened = self.opened.lock();
        let opened = opened.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tunnel) = opened {
            tunnel::carry(&self, tunnel).await;
        }
    }

    /// Counts bytes that are passed on. `false` when the sandbox has had too many.
    pub(super) fn count(&self, n: usize) -> bool {
        self.n_passed.fetch_add(n as u64, Ordering::Relaxed);
        self.shared.count(n)
    }

    /// Writes down why a request and its answer end: once, though each of them finds it out.
    pub(super) fn cut(&self, target: &str, reason: DenialReason) {
        if !self.is_cut.swap(true, Ordering::Relaxed) {
            self.shared.deny(DenialOp::Request, target, reason, None);
        }
    }

    /// Waits until nothing was passed on for `patience`, or as long again.
    pub(super) async fn stands_still(&self, patience: Duration) {
        let mut before = None;
        loop {
            let now = self.n_passed.load(Ordering::Relaxed);
            if before == Some(now) {
                return;
            }
            before = Some(now);
            tokio::time::sleep(patience).await;
        }
    }
}

/// What is said instead of an answer from outside.
pub(super) struct Refused {
    status: StatusCode,
    reason: Option<DenialReason>,
    words: String,
}

impl Refused {
    /// Refuses, and writes it down.
    pub(super) fn denied(
        shared: &Shared,
        op: DenialOp,
        target: &str,
        reason: DenialReason,
        allowed_by: Option<String>,
    ) -> Self {
        let refused = Self::of(reason, allowed_by.as_deref());
        shared.deny(op, target, reason, allowed_by);
        refused
    }

    /// Refuses what is written down already.
    pub(super) fn of(reason: DenialReason, allowed_by: Option<&str>) -> Self {
        let allowed = match allowed_by {
            Some(rule) => format!(" The network rule {rule} would allow it."),
            None => String::new(),
        };
        let words = format!(
            "The sandbox does not let this through: {}.{allowed}\n",
            reason.in_words()
        );
        Self {
            status: match reason {
                DenialReason::Malformed | DenialReason::HostHeader => StatusCode::BAD_REQUEST,
                _ => StatusCode::FORBIDDEN,
            },
            reason: Some(reason),
            words,
        }
    }

    pub(super) fn failed(why: &str) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            reason: None,
            words: format!("The host is allowed and could not be reached: {why}\n"),
        }
    }

    fn response(self) -> Response<Body> {
        let mut response = Response::new(Either::Left(Full::new(self.words.into())));
        *response.status_mut() = self.status;
        if let Some(reason) = self.reason {
            let reason = HeaderValue::from_static(reason.name());
            response.headers_mut().insert("x-sandbox-deny", reason);
        }
        response
    }
}

async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let outcome = match *request.method() {
        Method::CONNECT => open(connection, request).await,
        _ => plain::pass_on(connection, request).await,
    };
    outcome.unwrap_or_else(Refused::response)
}

/// `CONNECT`: connects, answers, and leaves the rest to [`tunnel::carry`].
async fn open(
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let shared = &connection.shared;
    let authority = request.uri().authority();
    let target = authority
        .filter(|authority| !authority.as_str().contains('@'))
        .and_then(|a| Target::parse(a.host(), a.port_u16()?))
        .ok_or_else(|| {
            let (op, reason) = (DenialOp::Connect, DenialReason::Malformed);
            Refused::denied(shared, op, &request.uri().to_string(), reason, None)
        })?;
    let upstream = reach(shared, DenialOp::Connect, &target).await?;
    let tunnel = Tunnel {
        inside: hyper::upgrade::on(request),
        upstream,
        target,
    };
    let opened = connection.opened.lock();
    opened
        .unwrap_or_else(PoisonError::into_inner)
        .replace(tunnel);
    Ok(Response::new(Either::Left(Full::default())))
}

/// Connects to a target, or says why not.
pub(super) async fn reach(
    shared: &Shared,
    op: DenialOp,
    target: &Target,
) -> Result<TcpStream, Refused> {
    dial(shared, target).await.map_err(|why| match why {
        NoConnection::Failed(why) => Refused::failed(&why),
        NoConnection::Denied(reason) => {
            let can_be = matches!(reason, DenialReason::NotAllowed | DenialReason::Port);
            let allowed_by = can_be.then(|| target.rule());
            Refused::denied(shared, op, &target.to_string(), reason, allowed_by)
        }
    })
}
