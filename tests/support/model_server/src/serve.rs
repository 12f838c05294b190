//! Listening, and answering over both protocols.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::answer::{Answer, Body, Ending, Text};
use crate::log::{Book, End, Log, Protocol, Seen};
use crate::route::Route;
use crate::tls;
use crate::turn::{NOW, Turn};

/// Which protocols to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speak {
    #[default]
    Both,
    Http1,
    Http2,
}

/// How to listen.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// A free port of 127.0.0.1 when not given.
    pub address: Option<SocketAddr>,
    pub tls: bool,
    pub speak: Speak,
    /// Closes an HTTP/1.1 connection that has been unused for this long, as llama.cpp does
    /// after five seconds.
    pub close_idle: Option<Duration>,
    /// For every accepted connection, as a distant server would be.
    pub handshake_delay: Duration,
    /// Not a model but another service: the script answers whatever is asked.
    pub is_other: bool,
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// A running server. Dropping it closes everything.
pub struct ModelServer {
    address: SocketAddr,
    tls: bool,
    authority: String,
    book: Arc<Book>,
    task: JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// Listens on a free port, without TLS, in both protocols.
    ///
    /// # Panics
    /// When this machine has no free port.
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(Listen::default(), script)
            .await
            .expect("a free port")
    }

    /// Listens as told.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(
        listen: Listen,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let (config, authority) = tls::config(listen.speak)?;
        let listener =
            TcpListener::bind(listen.address.unwrap_or(([127, 0, 0, 1], 0).into())).await?;
        let address = listener.local_addr()?;
        let book = Arc::new(Book::default());
        let tls = listen.tls;
        let shop = Shop {
            script: Arc::new(script),
            book: Arc::clone(&book),
            acceptor: tls.then(|| TlsAcceptor::from(config)),
            listen,
        };
        let task = tokio::spawn(accept(listener, shop));
        Ok(Self {
            address,
            tls,
            authority,
            book,
            task,
        })
    }

    /// Closes everything and returns once it is closed: the address is free.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled, as it was told.
        let _ = (&mut self.task).await;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port` or `https://localhost:port`.
    pub fn url(&self) -> String {
        let (scheme, host) = if self.tls {
            ("https", "localhost")
        } else {
            ("http", "127.0.0.1")
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// The certificate authority of the server, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What was seen so far.
    pub fn log(&self) -> Log {
        self.book.read()
    }

    /// Waits until `found` finds something in the log.
    ///
    /// # Panics
    /// When it does not within 20 seconds; the message has `what` and the log.
    pub async fn wait<T>(&self, what: &str, found: impl FnMut(&Log) -> Option<T>) -> T {
        self.book.wait(what, found).await
    }
}

impl ModelServer {
    /// Waits, for as long as it takes, until the request after `nth` others has ended.
    pub async fn wait_for_end(&self, nth: usize) -> Seen {
        self.book
            .find(|log| {
                log.requests
                    .get(nth)
                    .filter(|seen| seen.ended.is_some())
                    .cloned()
            })
            .await
    }
}

#[derive(Clone)]
struct Shop {
    script: Arc<Script>,
    book: Arc<Book>,
    acceptor: Option<TlsAcceptor>,
    listen: Listen,
}

/// Everything below the accepting task ends with it.
async fn accept(listener: TcpListener, shop: Shop) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(shop.clone().connection(socket));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Says that a connection is gone, also when its task is dropped.
struct OpenConnection {
    book: Arc<Book>,
    id: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.book.disconnected(self.id);
    }
}

impl Shop {
    async fn connection(self, socket: TcpStream) {
        let open = OpenConnection {
            book: Arc::clone(&self.book),
            id: self.book.connected(),
        };
        let _ = socket.set_nodelay(true);
        tokio::time::sleep(self.listen.handshake_delay).await;
        match &self.acceptor {
            Some(acceptor) => {
                let Ok(stream) = acceptor.accept(socket).await else {
                    return;
                };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.speak(stream, http2, open.id).await;
            }
            None => {
                let http2 = match self.listen.speak {
                    Speak::Http1 => false,
                    Speak::Http2 => true,
                    // Prior knowledge shows in the first bytes.
                    Speak::Both => {
                        let mut first = [0; 3];
                        matches!(socket.peek(&mut first).await, Ok(3)) && &first == b"PRI"
                    }
                };
                self.speak(socket, http2, open.id).await;
            }
        }
    }

    async fn speak(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
        connection: usize,
    ) {
        self.book.ready(connection);
        if http2 {
            self.http2(io, connection).await;
        } else {
            self.http1(io, connection).await;
        }
    }

    async fn http1(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: usize,
    ) {
        let service = service_fn(move |request: http::Request<Incoming>| {
            let shop = self.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                let seen = shop.seen(
                    connection,
                    Protocol::Http1,
                    &head.method,
                    &head.uri,
                    &head.headers,
                    body,
                );
                let open = OpenRequest {
                    book: Arc::clone(&shop.book),
                    nth: seen.nth,
                };
                let answer = shop.answer(&seen);
                tokio::time::sleep(answer.delay).await;
                if matches!(answer.body, Body::Never) {
                    std::future::pending::<()>().await;
                }
                let (sink, frames) = mpsc::channel(1);
                let mut response = Response::new(StreamBody::new(Frames(frames)));
                shape_head(&mut response, &answer, seen.route());
                tokio::spawn(async move {
                    let end = play(&answer, seen.route(), Sink::Http1(sink)).await;
                    open.book.ended(open.nth, end);
                });
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        if let Some(idle) = self.listen.close_idle {
            builder.timer(TokioTimer::new()).header_read_timeout(idle);
        }
        // How a connection ends is told by its requests.
        let _ = builder.serve_connection(TokioIo::new(io), service).await;
    }

    async fn http2(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: usize,
    ) {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1024);
        let Ok(mut accepted) = builder.handshake::<_, Bytes>(io).await else {
            return;
        };
        let mut streams = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                next = accepted.accept() => {
                    let Some(Ok((request, respond))) = next else { return };
                    streams.spawn(self.clone().http2_stream(request, respond, connection));
                }
                Some(_) = streams.join_next() => {}
            }
        }
    }

    async fn http2_stream(
        self,
        request: http::Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<Bytes>,
        connection: usize,
    ) {
        let (head, mut stream) = request.into_parts();
        let mut body = Vec::new();
        while let Some(Ok(data)) = stream.data().await {
            let _ = stream.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
        }
        let seen = self.seen(
            connection,
            Protocol::Http2,
            &head.method,
            &head.uri,
            &head.headers,
            body.into(),
        );
        let open = OpenRequest {
            book: Arc::clone(&self.book),
            nth: seen.nth,
        };
        let answer = self.answer(&seen);
        let waiting = async {
            tokio::time::sleep(answer.delay).await;
            if matches!(answer.body, Body::Never) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            reset = poll_fn(|cx| respond.poll_reset(cx)) => {
                self.book.ended(open.nth, reset_end(&reset));
                return;
            }
            () = waiting => {}
        }
        let mut response = Response::new(());
        shape_head(&mut response, &answer, seen.route());
        let end = match respond.send_response(response, false) {
            Ok(stream) => play(&answer, seen.route(), Sink::Http2(stream)).await,
            Err(_) => {
                poll_fn(|cx| match respond.poll_reset(cx) {
                    Poll::Ready(reset) => Poll::Ready(reset_end(&reset)),
                    Poll::Pending => Poll::Ready(End::Closed),
                })
                .await
            }
        };
        self.book.ended(open.nth, end);
    }

    fn seen(
        &self,
        connection: usize,
        protocol: Protocol,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Seen {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        self.book.arrived(Seen {
            nth: 0,
            connection,
            protocol,
            method: method.to_string(),
            path: uri
                .path_and_query()
                .map_or_else(|| uri.to_string(), ToString::to_string),
            headers: headers.iter().map(header).collect(),
            body,
            arrived: Instant::now(),
            ended: None,
        })
    }

    fn answer(&self, seen: &Seen) -> Answer {
        match seen.route() {
            _ if self.listen.is_other => (self.script)(seen),
            None => Answer::error(404, "no such route"),
            Some(route) => match route.fault(&seen.json()) {
                Some(fault) => Answer::error(400, &fault),
                None => (self.script)(seen),
            },
        }
    }
}

/// Says that the client closed, when a request's task is dropped before it could say better.
struct OpenRequest {
    book: Arc<Book>,
    nth: usize,
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.book.ended(self.nth, End::Closed);
    }
}

fn shape_head<T>(response: &mut Response<T>, answer: &Answer, route: Option<Route>) {
    *response.status_mut() =
        http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    let mut headers = answer.headers.clone();
    if let (Body::Text(_) | Body::Turn(_), Some(route)) = (&answer.body, route) {
        headers.push(("content-type".to_owned(), route.content_type().to_owned()));
    }
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::try_from(name),
            http::HeaderValue::try_from(value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Where the body of an answer goes.
enum Sink {
    Http1(mpsc::Sender<Result<Frame<Bytes>, Broken>>),
    Http2(h2::SendStream<Bytes>),
}

/// Breaks a body off.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off by the script")
    }
}

impl std::error::Error for Broken {}

struct Frames(mpsc::Receiver<Result<Frame<Bytes>, Broken>>);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Sends the body of an answer; returns how it ended.
async fn play(answer: &Answer, route: Option<Route>, mut sink: Sink) -> End {
    let played = match (&answer.body, route) {
        (Body::Bytes(frames), _) => {
            let mut sent = Ok(());
            for frame in frames {
                sent = sink.send(frame.clone()).await;
                if sent.is_err() {
                    break;
                }
            }
            sent.map(|()| Ending::Proper)
        }
        (Body::Text(text), Some(route)) if route.is_turn() => {
            play_turn(&Turn::from(text), route, &mut sink).await
        }
        (Body::Text(text), Some(route)) => play_text(text, route, &mut sink).await,
        (Body::Turn(turn), Some(route)) => play_turn(turn, route, &mut sink).await,
        (Body::Text(_) | Body::Turn(_) | Body::Never, _) => Ok(Ending::Proper),
    };
    match played {
        Err(end) => end,
        Ok(Ending::Cut) => {
            sink.cut().await;
            End::Cut
        }
        Ok(_) => sink.finish().await,
    }
}

async fn play_text(text: &Text, route: Route, sink: &mut Sink) -> Result<Ending, End> {
    loop {
        for (nth, piece) in text.pieces.iter().enumerate() {
            if nth > 0 && !text.gap.is_zero() {
                tokio::select! {
                    end = sink.gone() => return Err(end),
                    () = tokio::time::sleep(text.gap) => {}
                }
            }
            sink.send(route.piece(piece).into()).await?;
        }
        if text.ending != Ending::Endless {
            break;
        }
    }
    let reason = match text.ending {
        Ending::Proper => "stop",
        Ending::Length => "length",
        Ending::Hang => return Err(sink.gone().await),
        Ending::Bare | Ending::Cut | Ending::Endless => return Ok(text.ending),
    };
    sink.send(
        route
            .end(reason, text.prompt_tokens, text.pieces.len())
            .into(),
    )
    .await?;
    Ok(text.ending)
}

/// Microseconds since the Unix epoch.
fn now() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros())
}

async fn play_turn(turn: &Turn, route: Route, sink: &mut Sink) -> Result<Ending, End> {
    loop {
        for (nth, frame) in turn.frames(route).into_iter().enumerate() {
            if nth > 0 && !turn.gap.is_zero() {
                tokio::select! {
                    end = sink.gone() => return Err(end),
                    () = tokio::time::sleep(turn.gap) => {}
                }
            }
            let frame = match frame.contains(NOW) {
                true => frame.replace(NOW, &now().to_string()),
                false => frame,
            };
            sink.send(frame.into()).await?;
        }
        if turn.ending != Ending::Endless {
            break;
        }
    }
    match turn.ending {
        Ending::Hang => Err(sink.gone().await),
        ending => Ok(ending),
    }
}

impl Sink {
    /// Sends a frame once the client has room for it.
    async fn send(&mut self, frame: Bytes) -> Result<(), End> {
        match self {
            Self::Http1(sink) => sink
                .send(Ok(Frame::data(frame)))
                .await
                .map_err(|_| End::Closed),
            Self::Http2(stream) => {
                let mut frame = frame;
                while !frame.is_empty() {
                    stream.reserve_capacity(frame.len());
                    let room = poll_fn(|cx| match stream.poll_reset(cx) {
                        Poll::Ready(reset) => Poll::Ready(Err(reset_end(&reset))),
                        Poll::Pending => stream.poll_capacity(cx).map(|room| match room {
                            Some(Ok(room)) => Ok(room),
                            Some(Err(_)) | None => Err(End::Closed),
                        }),
                    });
                    // The reset can also arrive after it was looked for.
                    let room = match room.await {
                        Err(End::Closed) => return Err(end_now(stream).await),
                        room => room?,
                    };
                    let part = frame.split_to(room.min(frame.len()));
                    if stream.send_data(part, false).is_err() {
                        return Err(end_now(stream).await);
                    }
                }
                Ok(())
            }
        }
    }

    /// Waits until the client is gone.
    async fn gone(&mut self) -> End {
        match self {
            Self::Http1(sink) => {
                sink.closed().await;
                End::Closed
            }
            Self::Http2(stream) => reset_end(&poll_fn(|cx| stream.poll_reset(cx)).await),
        }
    }

    async fn cut(self) {
        match self {
            // Fails when the client is gone, which is as good.
            Self::Http1(sink) => drop(sink.send(Err(Broken)).await),
            Self::Http2(mut stream) => {
                // A reset throws away what was not sent yet.
                tokio::time::sleep(Duration::from_millis(30)).await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    }

    async fn finish(self) -> End {
        match self {
            Self::Http1(_) => End::Answered,
            Self::Http2(mut stream) => match stream.send_data(Bytes::new(), true) {
                Ok(()) => End::Answered,
                Err(_) => reset_end(&poll_fn(|cx| stream.poll_reset(cx)).await),
            },
        }
    }
}

/// How a stream ended that takes nothing more.
async fn end_now(stream: &mut h2::SendStream<Bytes>) -> End {
    poll_fn(|cx| match stream.poll_reset(cx) {
        Poll::Ready(reset) => Poll::Ready(reset_end(&reset)),
        Poll::Pending => Poll::Ready(End::Closed),
    })
    .await
}

fn reset_end(reset: &Result<h2::Reason, h2::Error>) -> End {
    match reset {
        Ok(reason) => End::Reset((*reason).into()),
        Err(_) => End::Closed,
    }
}
