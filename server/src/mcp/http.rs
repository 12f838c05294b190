//! A server at an address, spoken with by streamable HTTP over our own connections: proxies,
//! certificates and HTTP/2 are those of models.
//!
//! Holds: a request that could do something is never sent twice. The key and further headers go
//! into requests to the one address and nowhere else; redirects are not followed. Nothing that a
//! server would say unasked is listened to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;

use super::MAX_SAID;
use super::answer::Secrets;
use super::program::charge;
use crate::config::McpServer;
use crate::error::{Kind, UserError};
use crate::model::{
    Address, Ask, Body, Decoder, Event, Framing, HttpAnswer, HttpVersion, Network, Origin, Routes,
    Secret, Twice, key_variable, read_some,
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Bytes read of what a server says against a request.
const REFUSAL: usize = 4 << 10;

/// Where a server is, and what it is shown.
pub(super) struct Place {
    origin: Arc<Origin>,
    path: String,
    /// Scheme, host and port.
    shown: String,
    headers: BTreeMap<String, Secret>,
    key: Option<String>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

/// Speaks with one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct HttpClient {
    origin: Arc<Origin>,
    path: String,
    headers: HeaderMap,
    left: Arc<AtomicUsize>,
}

/// Why a server did not answer, as a clause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(String);

type Failed = StreamableHttpError<Unanswered>;

impl Place {
    /// # Errors
    /// When the address or a header cannot be used.
    pub(super) fn of(
        section: &str,
        url: &str,
        server: &McpServer,
        network: &Network,
    ) -> Result<(Self, Secrets), UserError> {
        let routes = Routes {
            known: &[],
            base: "/",
        };
        let address = Address::read(url, HttpVersion::Auto, &routes)
            .map_err(|why| why.with_hint(format!("Correct `{section}.url`.")))?;
        for (name, value) in &server.headers {
            let is_good = HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_str(value).is_ok();
            if !is_good {
                let message = format!("The header \"{name}\" cannot be sent.");
                return Err(UserError::new(Kind::Settings, message)
                    .with_hint(format!("Correct `{section}.headers`.")));
            }
        }
        let key = server.api_key_env.as_ref();
        let known = key.and_then(|name| std::env::var(name).ok());
        let secrets = Secrets::of(server.headers.values().cloned().chain(known));
        let headers = server.headers.iter();
        let place = Self {
            origin: network.origin(&address.site),
            path: format!("{}{}", address.base, address.query),
            shown: address.site.shown(),
            headers: headers
                .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
                .collect(),
            key: key.cloned(),
        };
        Ok((place, secrets))
    }

    pub(super) fn shown(&self) -> String {
        self.shown.clone()
    }

    /// # Errors
    /// When its key is not there, as a clause.
    pub(super) fn client(&self, left: Arc<AtomicUsize>) -> Result<HttpClient, String> {
        let mut headers = HeaderMap::new();
        let agent = concat!("pairwright/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(ACCEPT, accept);
        let mut insert = |name: HeaderName, text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| format!("the value of {name} cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok::<_, String>(())
        };
        if let Some(name) = &self.key {
            let key =
                std::env::var(name).map_err(|_| format!("{} is not set", key_variable(name)))?;
            insert(AUTHORIZATION, &format!("Bearer {}", key.trim()))?;
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|why| why.to_string())?;
            insert(name, value.expose())?;
        }
        Ok(HttpClient {
            origin: Arc::clone(&self.origin),
            path: self.path.clone(),
            headers,
            left,
        })
    }
}

impl HttpClient {
    fn ask(
        &self,
        method: Method,
        body: Vec<u8>,
        session: Option<&str>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Ask {
        let mut headers = self.headers.clone();
        for (name, value) in more {
            headers.insert(name, value);
        }
        if let Some(Ok(session)) = session.map(HeaderValue::from_str) {
            headers.insert(SESSION, session);
        }
        Ask {
            method,
            path: self.path.clone(),
            headers,
            body: Bytes::from(body),
            twice: Twice::Harmful,
        }
    }

    async fn send(&self, ask: &Ask) -> Result<HttpAnswer, Failed> {
        let sent = self.origin.send(ask).await;
        sent.map_err(|failure| Failed::Client(Unanswered(failure.in_words())))
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = Unanswered;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let body = serde_json::to_vec(&message)?;
        let ask = self.ask(Method::POST, body, session.as_deref(), headers);
        let mut answer = self.send(&ask).await?;
        let header = |name: &HeaderName| answer.headers.get(name).and_then(|v| v.to_str().ok());
        let kind = header(&CONTENT_TYPE).unwrap_or_default().to_owned();
        let now = header(&SESSION).map(str::to_owned);
        let is_empty = header(&CONTENT_LENGTH) == Some("0");
        let is_request = matches!(message, ClientJsonRpcMessage::Request(_));
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                return Ok(StreamableHttpPostResponse::Accepted);
            }
            StatusCode::NOT_FOUND if session.is_some() => return Err(Failed::SessionExpired),
            status if !status.is_success() => {
                let body = read_some(&mut answer.body, REFUSAL)
                    .await
                    .unwrap_or_default();
                let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                return match serde_json::from_slice(&body) {
                    Ok(said @ ServerJsonRpcMessage::Error(_)) if !is_refused => {
                        Ok(StreamableHttpPostResponse::Json(said, now))
                    }
                    _ => Err(Failed::Client(Unanswered(format!("it answered {status}")))),
                };
            }
            _ if !is_request && (is_empty || !kind.starts_with("text/event-stream")) => {
                return Ok(StreamableHttpPostResponse::Accepted);
            }
            _ => {}
        }
        if kind.starts_with("text/event-stream") {
            let events = events(answer.body, Arc::clone(&self.left));
            return Ok(StreamableHttpPostResponse::Sse(events, now));
        }
        if !kind.starts_with("application/json") {
            let shown = crate::shown::plain(&kind, 40);
            let why = format!("it answered with {shown:?} instead of JSON");
            return Err(Failed::Client(Unanswered(why)));
        }
        let body = read_some(&mut answer.body, MAX_SAID)
            .await
            .map_err(|failure| Failed::Client(Unanswered(failure.in_words())))?;
        charge(&self.left, body.len())?;
        let said = serde_json::from_slice(&body)
            .map_err(|_| Failed::Client(Unanswered("its answer is no message".into())))?;
        Ok(StreamableHttpPostResponse::Json(said, now))
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        let ask = self.ask(Method::DELETE, Vec::new(), Some(&session), headers);
        self.send(&ask).await.map(drop)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        _: Option<Arc<str>>,
        _: Option<String>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        Err(Failed::ServerDoesNotSupportSse)
    }
}

/// The events of an answer as they come.
fn events(body: Body, left: Arc<AtomicUsize>) -> BoxStream<'static, Result<Sse, SseError>> {
    struct Reading {
        body: Body,
        decoder: Decoder,
        read: VecDeque<Event>,
        is_over: bool,
        left: Arc<AtomicUsize>,
    }
    let start = Reading {
        body,
        decoder: Decoder::new(Framing::Events),
        read: VecDeque::new(),
        is_over: false,
        left,
    };
    let next = |mut reading: Reading| async move {
        loop {
            if let Some(event) = reading.read.pop_front() {
                let sse = Sse {
                    data: Some(String::from_utf8_lossy(&event.data).into_owned()),
                    ..Sse::default()
                };
                return Some((Ok(sse), reading));
            }
            if reading.is_over {
                return None;
            }
            let mut events = Vec::new();
            let broken = |why: String| SseError::Body(Box::new(Unanswered(why)));
            let read = match reading.body.chunk().await {
                Ok(Some(bytes)) => match charge(&reading.left, bytes.len()) {
                    Ok(()) => reading
                        .decoder
                        .feed(&bytes, &mut events)
                        .map_err(|_| broken("an event of it is too long".into())),
                    Err(why) => Err(broken(why.to_string())),
                },
                Ok(None) => {
                    reading.is_over = true;
                    let rest = reading.decoder.finish(&mut events);
                    rest.map_err(|_| broken("an event of it is too long".into()))
                }
                Err(failure) => Err(broken(failure.in_words())),
            };
            reading.read.extend(events);
            if let Err(why) = read {
                reading.is_over = true;
                return Some((Err(why), reading));
            }
        }
    };
    stream::unfold(start, next).boxed()
}
