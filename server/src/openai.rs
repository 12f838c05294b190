//! Ghost text for editors that ask an OpenAI-compatible server instead of a language server.
//!
//! Holds: only this machine can reach it, and only with the token; nothing is answered, and no
//! body is read, before the token was shown. What is asked goes the way of every other completion
//! (`complete`): the same engines, the same rules about secrets and silence, the same deadline. A
//! client that hangs up takes its request back.
//! Not here: which buffer a prompt comes from (`files`, `buffers`), the shapes of bodies (`wire`).

mod buffers;
mod files;
mod token;
mod wire;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::complete::engines::Engines;
use buffers::Buffers;
pub use token::Token;
use wire::{Asked, Completion, Infill, Refusal};

/// Largest body: a prompt with the whole of a large file on both sides.
const MAX_BODY: usize = 4 << 20;
/// Connections served at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Time for a client to send the head of a request, and then its body.
const READ: Duration = Duration::from_secs(10);

/// A completions endpoint that listens.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    serves: Arc<Serves>,
}

#[derive(Debug)]
struct Serves {
    buffers: Arc<Buffers>,
    token: Token,
}

impl Endpoint {
    /// Listens on `port` of 127.0.0.1 (any free one for 0) for the folders `roots`. Reads their
    /// files once, so that prompts can be told where they come from; blocks for about a second
    /// for 10,000 of them.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(
        port: u16,
        roots: Vec<PathBuf>,
        engines: Engines,
        token: Token,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let buffers = Arc::new(Buffers::new(roots, engines));
        Ok(Self {
            listener,
            serves: Arc::new(Serves { buffers, token }),
        })
    }

    /// Where it can be reached.
    ///
    /// # Errors
    /// When the socket is no more.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers by other engines from now on.
    pub fn set_engines(&self, engines: Engines) {
        self.serves.buffers.set_engines(engines);
    }

    /// Serves until the future is dropped.
    pub async fn serve(&self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let serves = Arc::clone(&self.serves);
                    tokio::spawn(async move {
                        serves.connection(stream).await;
                        drop(place);
                    });
                }
                Err(why) => {
                    // Out of descriptors, mostly: those in use are given back in time.
                    tracing::warn!("a connection could not be accepted: {why}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Serves {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let serves = Arc::clone(&self);
            async move { Ok::<_, Infallible>(serves.respond(request).await) }
        });
        // When the client hangs up, hyper drops the service's future, and with it the request.
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(why) = served {
            tracing::debug!("a connection ended: {why}");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.route(request).await {
            Ok(response) => response,
            Err(refusal) => {
                let mut response = answer(refusal.status, "application/json", refusal.body());
                if refusal.status == StatusCode::UNAUTHORIZED {
                    let headers = response.headers_mut();
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                response
            }
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        let shown = shown_token(request.headers());
        if !shown.is_some_and(|shown| self.token.is(shown)) {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "show the token of `pairwright serve-completions --show-token` as the API key",
            ));
        }
        let method = request.method().clone();
        let path = request.uri().path().trim_end_matches('/').to_owned();
        match (method, &*path) {
            (Method::POST, "/v1/completions") => {
                let asked = read::<Completion>(request).await?.asked()?;
                let (text, ended) = self.text(&asked).await;
                Ok(wire::completion(&asked, &text, ended))
            }
            (Method::POST, "/infill") => {
                let asked = read::<Infill>(request).await?.asked();
                let (text, ended) = self.text(&asked).await;
                Ok(wire::infill(&asked, &text, ended))
            }
            (Method::GET, "/v1/models") => Ok(wire::models()),
            (_, "/v1/completions" | "/infill" | "/v1/models") => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "completions are asked for by POST, models by GET",
            )),
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "there are /v1/completions, /infill and /v1/models",
            )),
        }
    }

    /// What goes between the two sides of the cursor, and why it ends; empty when there is nothing
    /// worth showing.
    async fn text(&self, asked: &Asked) -> (String, wire::Ended) {
        if asked.max_tokens == Some(0) {
            return (String::new(), wire::Ended::Length);
        }
        let (buffers, question) = (Arc::clone(&self.buffers), asked.question.clone());
        // Looking up where the prompt comes from reads a file.
        let begun = tokio::task::spawn_blocking(move || buffers.begin(&question)).await;
        let text = match begun {
            Ok(Some(begun)) => begun.insertion().await.unwrap_or_default(),
            Ok(None) => String::new(),
            Err(why) => {
                tracing::error!("a completion failed: {why}");
                String::new()
            }
        };
        asked.cut(text)
    }
}

/// The token as OpenAI's clients show it, or as llama.cpp's do.
fn shown_token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim());
    }
    headers.get("x-api-key")?.to_str().ok()
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = timeout(READ, Limited::new(request.into_body(), MAX_BODY).collect()).await;
    let bytes = match body {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 4 MiB, or broke off",
            ));
        }
        Err(_) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come",
            ));
        }
    };
    // What is wrong with it is told without a word of what is in it.
    serde_json::from_slice(&bytes).map_err(|why| {
        let place = format!("line {}, column {}", why.line(), why.column());
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not what is read here ({place})"),
        )
    })
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
