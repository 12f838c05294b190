//! One endpoint to send requests to: its connections, its key, its headers, its refusals.
//!
//! Holds: a key goes into a request and nowhere else; what a server says in an error is
//! redacted before it is quoted. Dropping a future cancels its request at the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::endpoint::KeySource;
use super::failure::{Failure, ModelError, quote};
use super::http::{Answer, Ask, Body, Origin, Twice};
use super::key::KeyRing;
use super::outbound::Outbound;
use super::secret::{Redactor, Secret};
use crate::error::{Kind, UserError};

/// Longest JSON document, in bytes.
const LONGEST_DOCUMENT: usize = 4 << 20;

/// How much of an error's body is read, and for how long.
pub(super) const ERROR_BODY: usize = 16 << 10;
const ERROR_PATIENCE: Duration = Duration::from_secs(2);

/// Longer wishes to be left alone are told as this: nobody waits for their end.
const LONGEST_WISH: Duration = Duration::from_secs(24 * 60 * 60);

/// How a server wants to be shown the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    ApiKey,
}

/// What a caller shows and who looks at what it sends.
pub(super) struct Credentials<'a> {
    pub(super) key: Option<&'a KeySource>,
    pub(super) shown_as: KeyHeader,
    /// Further headers; their values are treated as secrets.
    pub(super) headers: &'a BTreeMap<String, Secret>,
    /// The settings the endpoint is configured by, to be named in errors: `models.chat`.
    pub(super) section: &'static str,
    pub(super) outbound: Option<Arc<Outbound>>,
}

/// Sends requests to one endpoint.
pub(super) struct Caller {
    pub(super) origin: Arc<Origin>,
    /// Scheme, host and port, as shown to people.
    pub(super) place: Arc<str>,
    pub(super) section: &'static str,
    keys: Option<Arc<KeyRing>>,
    /// Whether the key comes from a command, which may print a newer one.
    renewable: bool,
    shown_as: KeyHeader,
    headers: HeaderMap,
    extra: Vec<(String, Secret)>,
    pub(super) outbound: Option<Arc<Outbound>>,
}

impl Caller {
    /// # Errors
    /// When one of the headers cannot be sent.
    pub(super) fn new(
        origin: Arc<Origin>,
        place: String,
        credentials: Credentials<'_>,
    ) -> Result<Self, UserError> {
        let section = credentials.section;
        let headers = headers(credentials.headers).map_err(|name| {
            UserError::new(
                Kind::Settings,
                format!("The header \"{name}\" cannot be sent to a model."),
            )
            .with_hint(format!("Correct `{section}.headers`."))
        })?;
        Ok(Self {
            origin,
            place: place.into(),
            section,
            keys: credentials.key.cloned().map(KeyRing::new),
            renewable: matches!(credentials.key, Some(KeySource::Command(_))),
            shown_as: credentials.shown_as,
            headers,
            extra: credentials
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            outbound: credentials.outbound,
        })
    }

    /// Gives a failure its place, without the key and further headers in what the server said.
    pub(super) fn error(&self, mut failure: Failure) -> ModelError {
        if let Some(said) = failure.said_mut() {
            let keys = self.keys.iter().flat_map(|keys| keys.shown());
            *said = self.redactor(keys).redact(said);
        }
        ModelError::new(failure, &self.place).of(self.section)
    }

    fn redactor(&self, keys: impl Iterator<Item = Secret>) -> Redactor {
        Redactor::new(keys.chain(self.extra.iter().map(|(_, value)| value.clone())))
    }

    /// Reads a small JSON document, such as the list of models.
    ///
    /// # Errors
    /// As for a completion.
    pub(super) async fn get(&self, path: String, deadline: Instant) -> Result<Value, ModelError> {
        let reading = async {
            let mut answer = self.send(Method::GET, path, Bytes::new()).await?;
            let body = read_some(&mut answer.body, LONGEST_DOCUMENT)
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
        self.look(&body).await?;
        self.exchange(self.ask(method, path, body)).await
    }

    /// Returns a request to the endpoint, as yet without the key.
    pub(super) fn ask(&self, method: Method, path: String, body: Bytes) -> Ask {
        Ask {
            method,
            path,
            headers: self.headers.clone(),
            body,
            twice: Twice::Harmless,
        }
    }

    /// As [`Caller::send`], but nobody looks at the request.
    pub(super) async fn exchange(&self, mut ask: Ask) -> Result<Answer, ModelError> {
        let mut key = self.key().await?;
        let mut is_renewed = false;
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
                    if !self.renewable || is_renewed {
                        return Err(error);
                    }
                    is_renewed = true;
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

    /// Has the body of a request looked at.
    ///
    /// # Errors
    /// `Withheld` where it must not be sent, `Unchecked` where nobody knows.
    pub(super) async fn look(&self, body: &Bytes) -> Result<(), ModelError> {
        let looked = match &self.outbound {
            Some(outbound) if !body.is_empty() => outbound.look(&self.place, body).await,
            Some(_) | None => Ok(()),
        };
        looked.map_err(|failure| self.error(failure))
    }

    pub(super) async fn key(&self) -> Result<Option<Secret>, ModelError> {
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
        let Some(key) = key else { return };
        let (header, text) = match self.shown_as {
            KeyHeader::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
            KeyHeader::ApiKey => (
                HeaderName::from_static("x-api-key"),
                key.expose().to_owned(),
            ),
        };
        let own = |(name, _): &(String, Secret)| name.eq_ignore_ascii_case(header.as_str());
        if !self.extra.iter().any(own)
            && let Ok(mut value) = HeaderValue::from_str(&text)
        {
            value.set_sensitive(true);
            headers.insert(header, value);
        }
    }

    async fn refusal(&self, mut answer: Answer, key: Option<&Secret>) -> ModelError {
        let reading = read_some(&mut answer.body, ERROR_BODY);
        let body = match tokio::time::timeout(ERROR_PATIENCE, reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let redactor = self.redactor(key.into_iter().cloned());
        let said = quote(&redactor.redact(&String::from_utf8_lossy(&body)));
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
fn headers(extra: &BTreeMap<String, Secret>) -> Result<HeaderMap, String> {
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
    for (name, value) in extra {
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
    let wish = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wish.min(LONGEST_WISH))
}

/// Reads at most `most` bytes of a body.
pub(crate) async fn read_some(body: &mut Body, most: usize) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        read.extend_from_slice(&chunk[..chunk.len().min(most - read.len())]);
        if read.len() == most {
            break;
        }
    }
    Ok(read)
}
