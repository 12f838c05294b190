//! One connection, in either protocol, and the answers that come over it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::dial::{ForwardingProxy, Io};
use super::{Answer, Ask, IDLE_HTTP2, Origin, Protocol};
use crate::model::failure::Failure;

/// Pings on an HTTP/2 connection with an answer under way find out within 25 s that a peer is gone,
/// within 5 s where nothing was heard for so long. Without one the kernel looks after the
/// connection (`dial`), so that an idle program is not woken.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// A server may send this much of an answer ahead of us.
const STREAM_WINDOW: u32 = 256 << 10;

/// h2 closes a connection on which too many small frames were never read, counts half this many
/// bytes as too many, and among them for ever those that were on their way when we reset their
/// stream: with its default a few thousand cancels of a fast server end the connection. What is
/// really held is bounded by the streams' own windows.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Frames for a stream that we reset and no longer remember are errors of the server to h2.
/// They must not add up to the end of the connection either.
const REMEMBERED_RESETS: usize = 4096;

/// What became of a request.
pub(super) enum Sent {
    Answered(Box<Answer>),
    /// The server cannot have begun to answer it: it may be sent again.
    NeverArrived,
    /// It was sent into a connection that the server seems to have closed before.
    HardlyArrived,
    Failed(Failure),
}

/// An HTTP/1.1 connection. Dropping it closes the socket.
pub(super) struct Http1Lane {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: AbortHandle,
    /// Cancelled when the connection has ended.
    ended: CancellationToken,
    proxy: Option<ForwardingProxy>,
    pub(super) unused_since: Instant,
    /// Whether it has carried an answer before; then the server may close it at any time.
    pub(super) reused: bool,
}

impl Drop for Http1Lane {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Http1Lane {
    pub(super) async fn start(
        io: Box<dyn Io>,
        proxy: Option<ForwardingProxy>,
    ) -> Result<Self, Failure> {
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|error| classify(&error))?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let connection = tokio::spawn(async move {
            let outcome = connection.await;
            drop(end);
            if let Err(error) = outcome {
                tracing::debug!(%error, "connection closed");
            }
        });
        Ok(Self {
            sender,
            connection: connection.abort_handle(),
            ended,
            proxy,
            unused_since: Instant::now(),
            reused: false,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn send(mut self, origin: &Arc<Origin>, ask: &Ask) -> Sent {
        let mut request = request(ask);
        // A spare that was never used can have been closed while it waited, too.
        let waited = self.reused || self.unused_since.elapsed() > Duration::from_millis(100);
        let host = origin.site.authority();
        request.headers_mut().insert(HOST, header(&host));
        let uri = match &self.proxy {
            Some(proxy) => {
                if let Some(authorization) = &proxy.authorization {
                    request
                        .headers_mut()
                        .insert(PROXY_AUTHORIZATION, authorization.clone());
                }
                format!("{}{}", origin.site.shown(), ask.path)
            }
            None => ask.path.clone(),
        };
        let Ok(uri) = uri.parse::<Uri>() else {
            return Sent::Failed(Failure::Bug(
                "the path of a request is not valid".to_owned(),
            ));
        };
        *request.uri_mut() = uri;
        if self.sender.ready().await.is_err() {
            return Sent::NeverArrived;
        }
        let sending = self.sender.try_send_request(request);
        // All that is known of an answer is known when the connection has ended.
        let Some(sent) = unless_lost(sending, &self.ended, || false).await else {
            return Sent::HardlyArrived;
        };
        match sent {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let rest = Rest::Http1 {
                    body,
                    lane: Some(self),
                    origin: Arc::clone(origin),
                };
                Sent::Answered(Box::new(Answer {
                    status: head.status,
                    headers: head.headers,
                    protocol: Protocol::Http1,
                    body: Body { rest },
                }))
            }
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                if unsent {
                    Sent::NeverArrived
                } else if waited && was_closed(&error) {
                    Sent::HardlyArrived
                } else {
                    Sent::Failed(classify(&error))
                }
            }
        }
    }
}

/// A handle on the one HTTP/2 connection of an origin.
#[derive(Clone)]
pub(super) struct Http2Lane {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Cancelled when the connection takes no more requests.
    ended: CancellationToken,
    in_flight: Arc<AtomicUsize>,
    used: Arc<std::sync::Mutex<Instant>>,
    /// Whether it has carried an answer before; then the server may close it at any time.
    reused: Arc<AtomicBool>,
}

impl Http2Lane {
    pub(super) async fn start(io: Box<dyn Io>) -> Result<Self, Failure> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(None)
            .handshake(io)
            .await
            .map_err(|error| classify(&error))?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let lane = Self {
            sender,
            ended,
            in_flight: Arc::default(),
            used: Arc::new(std::sync::Mutex::new(Instant::now())),
            reused: Arc::default(),
        };
        let (in_flight, used) = (Arc::clone(&lane.in_flight), Arc::clone(&lane.used));
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection closed");
                    }
                }
                () = unused(&in_flight, &used) => tracing::debug!("connection closed after long disuse"),
            }
            drop(end);
        });
        Ok(lane)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn send(mut self, origin: &Arc<Origin>, ask: &Ask) -> Sent {
        let mut request = request(ask);
        let Ok(uri) = format!("{}{}", origin.site.shown(), ask.path).parse::<Uri>() else {
            return Sent::Failed(Failure::Bug(
                "the path of a request is not valid".to_owned(),
            ));
        };
        *request.uri_mut() = uri;
        let used = Used::new(&self);
        let reused = self.reused.load(Ordering::Relaxed);
        if self.sender.ready().await.is_err() {
            return Sent::NeverArrived;
        }
        // Goes no further than hyper's queue: h2 drops what it does not send.
        let queued = Arc::new(());
        request.extensions_mut().insert(Arc::clone(&queued));
        let sending = self.sender.try_send_request(request);
        let is_sent = || Arc::strong_count(&queued) == 1;
        let Some(sent) = unless_lost(sending, &self.ended, is_sent).await else {
            return Sent::NeverArrived;
        };
        match sent {
            Ok(response) => {
                self.reused.store(true, Ordering::Relaxed);
                let (head, body) = response.into_parts();
                Sent::Answered(Box::new(Answer {
                    status: head.status,
                    headers: head.headers,
                    protocol: Protocol::Http2,
                    body: Body {
                        rest: Rest::Http2 { body, _used: used },
                    },
                }))
            }
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                if unsent || was_refused(&error) {
                    Sent::NeverArrived
                } else if reused && was_closed(&error) {
                    Sent::HardlyArrived
                } else {
                    Sent::Failed(classify(&error))
                }
            }
        }
    }
}

/// Waits for the answer to a request; `None` when nothing comes any more. A request that is given to
/// hyper in the moment in which the connection ends may stay in its queue, which nobody reads, until
/// the sender is dropped: tokio's channel gives it back to neither end. What `is_sent` on a connection
/// that takes no more requests (GOAWAY) may still be answered; where not, h2 says so.
async fn unless_lost<T>(
    sending: impl Future<Output = T>,
    ended: &CancellationToken,
    is_sent: impl FnOnce() -> bool,
) -> Option<T> {
    tokio::pin!(sending);
    tokio::select! {
        biased;
        sent = &mut sending => Some(sent),
        () = ended.cancelled() => match is_sent() {
            true => Some(sending.await),
            false => sending.now_or_never(),
        }
    }
}

/// Marks the connection as used for as long as a request or answer lives.
struct Used(Http2Lane);

impl Used {
    fn new(lane: &Http2Lane) -> Self {
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(lane.clone())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        *self
            .0
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends when the connection has not been used for [`IDLE_HTTP2`].
async fn unused(in_flight: &AtomicUsize, used: &std::sync::Mutex<Instant>) {
    loop {
        let last = *used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if in_flight.load(Ordering::Relaxed) > 0 {
            sleep_until(Instant::now() + IDLE_HTTP2).await;
        } else if last.elapsed() >= IDLE_HTTP2 {
            return;
        } else {
            sleep_until(last + IDLE_HTTP2).await;
        }
    }
}

/// The rest of an answer. Dropping it before its end cancels the request.
pub(crate) struct Body {
    rest: Rest,
}

enum Rest {
    Http1 {
        body: Incoming,
        lane: Option<Http1Lane>,
        origin: Arc<Origin>,
    },
    Http2 {
        body: Incoming,
        _used: Used,
    },
}

impl Body {
    /// Returns the next bytes, `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// [`Failure::Cut`] when the connection or the stream ends before the answer does.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let body = match &mut self.rest {
                Rest::Http1 { body, .. } | Rest::Http2 { body, .. } => body,
            };
            match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "answer cut");
                    return Err(Failure::Cut);
                }
                None => {
                    if let Rest::Http1 { lane, origin, .. } = &mut self.rest
                        && let Some(lane) = lane.take()
                        && lane.is_open()
                    {
                        origin.put_back(lane);
                    }
                    return Ok(None);
                }
            }
        }
    }
}

fn request(ask: &Ask) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = ask.method.clone();
    *request.headers_mut() = ask.headers.clone();
    request
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("invalid"))
}

/// Whether the peer closed the connection without a word.
fn was_closed(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_closed()
        || cause::<h2::Error>(error).is_some_and(h2::Error::is_io)
        || io_kind(error).is_some_and(|kind| {
            matches!(
                kind,
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
            )
        })
}

/// Whether an HTTP/2 server said that it did not process the request: it refused the stream, or
/// was shutting the connection down.
fn was_refused(error: &hyper::Error) -> bool {
    cause::<h2::Error>(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote())
    })
}

fn classify(error: &hyper::Error) -> Failure {
    if let Some(error) = cause::<h2::Error>(error) {
        return match error.reason() {
            Some(h2::Reason::HTTP_1_1_REQUIRED) => {
                Failure::Protocol("it asks for HTTP/1.1".to_owned())
            }
            Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR) => {
                Failure::Protocol("it does not speak HTTP/2".to_owned())
            }
            _ => Failure::Cut,
        };
    }
    if error.is_parse() {
        return Failure::Protocol("it does not speak HTTP".to_owned());
    }
    Failure::Cut
}

fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    cause::<io::Error>(error).map(io::Error::kind)
}

fn cause<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_as_unused_only_long_after_its_last_request() {
        let in_flight = AtomicUsize::new(1);
        let used = std::sync::Mutex::new(Instant::now());
        let began = Instant::now();
        let ending = unused(&in_flight, &used);
        tokio::pin!(ending);
        // In flight for long: in use, however long ago it began.
        let long = timeout(IDLE_HTTP2 * 3, ending.as_mut()).await;
        assert!(long.is_err());
        in_flight.store(0, Ordering::Relaxed);
        *used.lock().unwrap() = Instant::now();
        ending.await;
        let took = began.elapsed();
        assert!(took >= IDLE_HTTP2 * 4 && took <= IDLE_HTTP2 * 5, "{took:?}");
    }
}
