//! One question to a model server: key, request, answer, and what each of them can fail with.
//!
//! Holds: an answer is bounded in time, bytes and text; what a server says in an error is
//! redacted before it is quoted. Dropping the future cancels the request at the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::dialect::{Call, Dialect, FinishReason, Usage};
use super::endpoint::{Address, Endpoint, KeySource};
use super::failure::{Failure, ModelError, quote};
use super::fim::{CONTROL_TOKENS, ControlText};
use super::http::{Answer, Ask, Body, Origin, Protocol};
use super::key::KeyRing;
use super::network::Network;
use super::request::FimRequest;
use super::secret::{Redactor, Secret};
use super::sse::{Decoder, Event, Framing};
use super::stop::{Marker, StopFilter};
use crate::error::{Kind, UserError};

/// Longest answer, in bytes on the wire.
const LONGEST_ANSWER: usize = 4 << 20;

/// Longest text: more than this for each token asked for is a server that does not count.
const BYTES_PER_TOKEN: usize = 32;
const SLACK: usize = 4096;

/// How much of an error's body is read, and for how long.
const ERROR_BODY: usize = 16 << 10;
const ERROR_PATIENCE: Duration = Duration::from_secs(2);

/// After the text, the end of the answer is awaited this long to keep the connection.
const END_PATIENCE: Duration = Duration::from_millis(250);

/// How a text ended and what it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finish {
    pub reason: FinishReason,
    pub usage: Usage,
    /// From sending the request to the first text; `None` when there was none.
    pub first_text: Option<Duration>,
    pub total: Duration,
    pub protocol: Protocol,
}

/// Where and how to ask; everything about an endpoint that does not change.
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) address: Address,
    pub(super) origin: Arc<Origin>,
    pub(super) place: Arc<str>,
    pub(super) keys: Option<Arc<KeyRing>>,
    pub(super) headers: HeaderMap,
    /// Control tokens of the model's family.
    pub(super) spoken: ControlText,
}

/// What the caller learns while the answer comes: text that may be shown, possibly empty.
pub(super) type OnText<'a> = dyn FnMut(&str) + Send + 'a;

impl Target {
    /// Prepares what does not change; opens no connection. `spoken` are the control tokens of the
    /// model's family.
    ///
    /// # Errors
    /// When the address or a header cannot be used.
    pub(super) fn new(
        network: &Network,
        endpoint: Endpoint,
        spoken: &[String],
    ) -> Result<Self, UserError> {
        let address = Address::of(&endpoint)?;
        let headers = headers(&endpoint).map_err(|name| {
            UserError::new(
                Kind::Settings,
                format!("The header \"{name}\" cannot be sent to a model."),
            )
            .with_hint(format!("Correct `{}.headers`.", endpoint.setting))
        })?;
        Ok(Self {
            origin: network.origin(&address.site, endpoint.timeouts.connect),
            place: address.site.shown().into(),
            keys: endpoint.key.clone().map(KeyRing::new),
            headers,
            spoken: ControlText::new(spoken),
            address,
            endpoint,
        })
    }

    pub(super) fn error(&self, failure: Failure) -> ModelError {
        ModelError::new(failure, &self.place).about(self.endpoint.setting)
    }

    /// Path and body of a completion request.
    pub(super) fn ask(&self, dialect: &Dialect, request: &FimRequest) -> (String, Value) {
        let call = Call {
            model: &self.endpoint.model,
            request,
            spoken: &self.spoken,
        };
        let path = dialect.path(&self.address.base, self.endpoint.api);
        (format!("{path}{}", self.address.query), dialect.body(&call))
    }

    /// Asks for a completion; `on_text` is told of every event.
    ///
    /// # Errors
    /// Every [`Failure`] but `Late` and `Paused`.
    pub(super) async fn complete(
        &self,
        dialect: &Dialect,
        request: &FimRequest,
        on_text: &mut OnText<'_>,
    ) -> Result<Finish, ModelError> {
        let (path, body) = self.ask(dialect, request);
        let body = Bytes::from(body.to_string());
        let started = Instant::now();
        let times = &self.endpoint.timeouts;
        let total = started + times.total;
        let first = total.min(started + times.first_byte);
        let answering = self.send(Method::POST, path, body);
        let answer = match timeout_at(first, answering).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.error(Failure::Silent(times.first_byte))),
        };
        let mut reader = Reader::new(self, dialect, request, answer)?;
        let mut first_text = None;
        let mut next = first;
        let reason = loop {
            match timeout_at(next, reader.step()).await {
                Ok(step) => match step.map_err(|failure| self.error(failure))? {
                    Step::More => {}
                    Step::End(reason) => break reason,
                },
                Err(_) if next == total => return Err(self.error(Failure::Stalled(times.total))),
                Err(_) if reader.events == 0 => {
                    return Err(self.error(Failure::Silent(times.first_byte)));
                }
                Err(_) => return Err(self.error(Failure::Stalled(times.idle))),
            }
            if !reader.out.is_empty() && first_text.is_none() {
                first_text = Some(started.elapsed());
            }
            on_text(&reader.out);
            reader.out.clear();
            next = total.min(Instant::now() + times.idle);
        };
        if !reader.out.is_empty() && first_text.is_none() {
            first_text = Some(started.elapsed());
        }
        on_text(&reader.out);
        let finish = Finish {
            reason,
            usage: reader.usage,
            first_text,
            total: started.elapsed(),
            protocol: reader.protocol,
        };
        reader.let_end();
        Ok(finish)
    }

    /// Reads a small JSON document, such as the list of models.
    ///
    /// # Errors
    /// As for a completion.
    pub(super) async fn get(&self, path: String, deadline: Instant) -> Result<Value, ModelError> {
        let reading = async {
            let mut answer = self.send(Method::GET, path, Bytes::new()).await?;
            let body = read_some(&mut answer.body, LONGEST_ANSWER)
                .await
                .map_err(|failure| self.error(failure))?;
            serde_json::from_slice(&body)
                .map_err(|_| self.error(Failure::Garbage("it is not JSON".to_owned())))
        };
        match timeout_at(deadline, reading).await {
            Ok(read) => read,
            Err(_) => Err(self.error(Failure::Silent(
                deadline.saturating_duration_since(Instant::now()),
            ))),
        }
    }

    /// Sends a request with the key and returns the head of a good answer. A key from a command
    /// that is refused is read anew, once.
    pub(super) async fn send(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<Answer, ModelError> {
        let mut ask = Ask {
            method,
            path,
            headers: self.headers.clone(),
            body,
        };
        let mut key = self.key().await?;
        loop {
            self.authorize(&mut ask.headers, key.as_ref());
            let answer = self
                .origin
                .send(&ask)
                .await
                .map_err(|failure| self.error(failure))?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            let refused = matches!(answer.status.as_u16(), 401 | 403);
            let error = self.refusal(answer, key.as_ref()).await;
            match (&self.keys, key.take()) {
                (Some(keys), Some(used)) if refused => {
                    keys.forget(&used);
                    if !matches!(self.endpoint.key, Some(KeySource::Command(_))) {
                        return Err(error);
                    }
                    let newer = self.key().await?;
                    if newer.as_ref() == Some(&used) {
                        return Err(error);
                    }
                    key = newer;
                }
                _ => return Err(error),
            }
        }
    }

    async fn key(&self) -> Result<Option<Secret>, ModelError> {
        match &self.keys {
            Some(keys) => keys
                .key()
                .await
                .map(Some)
                .map_err(|why| self.error(Failure::Key(why))),
            None => Ok(None),
        }
    }

    fn authorize(&self, headers: &mut HeaderMap, key: Option<&Secret>) {
        if let Some(key) = key
            && !self
                .endpoint
                .headers
                .keys()
                .any(|name| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()))
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    async fn refusal(&self, mut answer: Answer, key: Option<&Secret>) -> ModelError {
        let reading = read_some(&mut answer.body, ERROR_BODY);
        let body = match tokio::time::timeout(ERROR_PATIENCE, reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let secrets = key
            .into_iter()
            .chain(self.endpoint.headers.values())
            .cloned();
        let said = quote(&Redactor::new(secrets).redact(&String::from_utf8_lossy(&body)));
        let status = answer.status.as_u16();
        self.error(match status {
            401 | 403 => Failure::Unauthorized { status, said },
            404 => Failure::NotFound { said },
            407 => Failure::Proxy("it asks for a user name and password".to_owned()),
            429 => Failure::RateLimited {
                retry_after: retry_after(&answer.headers),
                said,
            },
            // 501 is llama.cpp's answer for a model that cannot fill in.
            400..=499 | 501 => Failure::Rejected { status, said },
            500..=599 => Failure::Faulted { status, said },
            _ => Failure::NotAStream {
                content_type: format!("status {status}"),
            },
        })
    }
}

/// The headers every request carries. Values of extra headers are marked sensitive.
///
/// # Errors
/// The name of a header that cannot be sent.
fn headers(endpoint: &Endpoint) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("text/event-stream, application/x-ndjson, application/json"),
    );
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("pairwright/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in &endpoint.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| name.clone())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| name.clone())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// `Retry-After` in seconds. Its form as a date is rare and left to our own pause.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse::<f64>()
        .ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads at most `most` bytes of a body.
pub(super) async fn read_some(body: &mut Body, most: usize) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        read.extend_from_slice(&chunk[..chunk.len().min(most - read.len())]);
        if read.len() == most {
            break;
        }
    }
    Ok(read)
}

enum Step {
    More,
    End(FinishReason),
}

/// How the body of an answer is cut into events.
enum Shape {
    Stream(Decoder),
    /// A server that does not stream: one JSON document.
    Whole(Vec<u8>),
}

/// Reads an answer chunk by chunk.
struct Reader<'a> {
    dialect: &'a Dialect,
    protocol: Protocol,
    body: Body,
    shape: Shape,
    filter: StopFilter,
    /// Text that may be passed on.
    out: String,
    usage: Usage,
    bytes: usize,
    text: usize,
    longest_text: usize,
    events: usize,
    at_end: bool,
}

impl<'a> Reader<'a> {
    fn new(
        target: &'a Target,
        dialect: &'a Dialect,
        request: &'a FimRequest,
        answer: Answer,
    ) -> Result<Self, ModelError> {
        let content_type = answer
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let shape = match (media.as_str(), dialect.framing()) {
            ("text/event-stream", _) => Shape::Stream(Decoder::new(Framing::Events)),
            ("application/x-ndjson" | "application/jsonl" | "application/json-lines", _)
            | ("application/json", Framing::Lines) => Shape::Stream(Decoder::new(Framing::Lines)),
            ("application/json", Framing::Events) => Shape::Whole(Vec::new()),
            ("" | "text/plain" | "application/octet-stream", framing) => {
                Shape::Stream(Decoder::new(framing))
            }
            _ => {
                let content_type = media.chars().take(80).collect();
                return Err(target.error(Failure::NotAStream { content_type }));
            }
        };
        let control = CONTROL_TOKENS.into_iter().chain(target.spoken.own());
        let ends = match dialect {
            Dialect::Raw(template) | Dialect::GenerateRaw(template) => template.tokens(),
            Dialect::Suffix
            | Dialect::Infill
            | Dialect::Generate
            | Dialect::Mistral
            | Dialect::DeepSeek => &[],
        };
        let control = control.chain(ends.iter().map(String::as_str));
        let tokens = usize::try_from(request.max_tokens).unwrap_or(usize::MAX);
        Ok(Self {
            dialect,
            protocol: answer.protocol,
            body: answer.body,
            shape,
            filter: StopFilter::new(control, request.stop.iter().map(String::as_str)),
            out: String::new(),
            usage: Usage::default(),
            bytes: 0,
            text: 0,
            longest_text: tokens.saturating_mul(BYTES_PER_TOKEN).saturating_add(SLACK),
            events: 0,
            at_end: false,
        })
    }

    /// Reads the next chunk into `out`. Cancel safe only between answers: a dropped step ends
    /// the request.
    async fn step(&mut self) -> Result<Step, Failure> {
        let chunk = self.body.chunk().await?;
        let mut events = Vec::new();
        match (&mut self.shape, &chunk) {
            (Shape::Stream(decoder), Some(bytes)) => decoder.feed(bytes, &mut events),
            (Shape::Stream(decoder), None) => decoder.finish(&mut events),
            (Shape::Whole(document), Some(bytes)) => {
                document.extend_from_slice(bytes);
                Ok(())
            }
            (Shape::Whole(document), None) => {
                events.push(Event {
                    name: String::new(),
                    data: std::mem::take(document),
                });
                Ok(())
            }
        }
        .map_err(|_| Failure::Endless)?;
        self.bytes += chunk.as_ref().map_or(0, Bytes::len);
        self.at_end = chunk.is_none();
        for event in &events {
            if let Some(reason) = self.take(event)? {
                return Ok(Step::End(reason));
            }
        }
        if self.bytes > LONGEST_ANSWER || self.text > self.longest_text {
            return Err(Failure::Endless);
        }
        if !self.at_end {
            return Ok(Step::More);
        }
        if self.events == 0 {
            return Err(Failure::Garbage("it is empty".to_owned()));
        }
        self.filter.finish(&mut self.out);
        Ok(Step::End(FinishReason::Unsaid))
    }

    /// Takes one event; returns the reason when the text has ended.
    fn take(&mut self, event: &Event) -> Result<Option<FinishReason>, Failure> {
        let piece = self.dialect.read(event)?;
        self.events += 1;
        self.usage.merge(piece.usage);
        self.text += piece.text.len();
        if let Some(Marker::Control | Marker::Stop) = self.filter.push(&piece.text, &mut self.out) {
            return Ok(Some(FinishReason::Stop));
        }
        let reason = piece.finish.or(piece.last.then_some(FinishReason::Unsaid));
        if reason.is_some() {
            self.filter.finish(&mut self.out);
        }
        Ok(reason)
    }

    /// Waits a moment for the end of the answer in the background, so that its connection can
    /// be used again. A text that was cut short by us is cancelled instead.
    fn let_end(self) {
        if self.at_end || self.filter.ended() {
            return;
        }
        let mut body = self.body;
        tokio::spawn(async move {
            let ending = read_some(&mut body, ERROR_BODY);
            if tokio::time::timeout(END_PATIENCE, ending).await.is_err() {
                tracing::debug!("a model server did not end its answer");
            }
        });
    }
}
