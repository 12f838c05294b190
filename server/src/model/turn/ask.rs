//! Asking for a turn: once, and again where nothing was answered yet.
//!
//! Holds: what was passed on is never passed on twice, and once something was, no other model is
//! asked. A limit of the server is waited out for a
//! bounded time (`again`), and the reader of the stream is told. Dropping the stream aborts the
//! task, which drops the body, which is RST_STREAM(CANCEL) on HTTP/2.

mod again;
mod once;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{TurnApi, TurnEndpoint};
use super::openai::Quirks;
use super::{TurnEvent, TurnRequest, anthropic};
use crate::error::UserError;
use crate::model::Network;
use crate::model::breaker::Breaker;
use crate::model::caller::{Caller, Credentials, KeyHeader};
use crate::model::endpoint::Address;
use crate::model::failure::{Failure, ModelError};
use crate::model::http::Protocol;
use crate::model::probe::LIST_PATIENCE;
use crate::model::secret::Secret;
use crate::model::stats::{Counters, Stats};

/// Events that may wait for their reader; the server waits beyond them.
const QUEUE: usize = 256;

/// One endpoint for turns, ready to be asked. Cheap to clone; clones are the same endpoint.
/// Methods must be called within a tokio runtime.
#[derive(Clone)]
pub struct TurnModel {
    inner: Arc<Inner>,
    /// Asked in turn when this one is out.
    fallbacks: Arc<[TurnModel]>,
}

struct Inner {
    endpoint: TurnEndpoint,
    address: Address,
    caller: Caller,
    breaker: Arc<Breaker>,
    counters: Counters,
    quirks: Mutex<Quirks>,
}

impl std::fmt::Debug for TurnModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnModel")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

impl TurnModel {
    pub(in crate::model) fn new(
        network: &Network,
        endpoint: TurnEndpoint,
    ) -> Result<Self, UserError> {
        let address = Address::read(&endpoint.url, endpoint.http, &endpoint.api.routes())?;
        let mut headers = endpoint.headers.clone();
        let shown_as = match endpoint.api {
            TurnApi::OpenAi | TurnApi::Ollama => KeyHeader::Bearer,
            TurnApi::Anthropic => {
                let (name, version) = anthropic::VERSION;
                if !headers.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                    headers.insert(name.to_owned(), Secret::new(version));
                }
                KeyHeader::ApiKey
            }
        };
        let credentials = Credentials {
            key: endpoint.key.as_ref(),
            shown_as,
            headers: &headers,
            section: endpoint.section,
            outbound: network.outbound(&address.site),
        };
        let caller = Caller::new(
            network.origin(&address.site),
            address.site.shown(),
            credentials,
        )?;
        let inner = Inner {
            endpoint,
            address,
            caller,
            breaker: Breaker::new(),
            counters: Counters::default(),
            quirks: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            fallbacks: Arc::default(),
        })
    }

    /// The same model, with others that are asked in turn when it is out.
    #[must_use]
    pub fn with_fallbacks(self, fallbacks: Vec<Self>) -> Self {
        Self {
            fallbacks: fallbacks.into(),
            ..self
        }
    }

    pub fn fallbacks(&self) -> &[Self] {
        &self.fallbacks
    }

    /// Tokens that every model which may answer can read and write in one request.
    pub fn context(&self) -> u32 {
        let others = self
            .fallbacks
            .iter()
            .map(|model| model.inner.endpoint.context);
        others.fold(self.inner.endpoint.context, u32::min)
    }

    /// Tokens of the window of the model with this name, the smallest of several; where none has
    /// it, what every one has.
    pub fn context_of(&self, name: &str) -> u32 {
        let all = std::iter::once(self).chain(self.fallbacks.iter());
        let named = all.filter(|model| model.inner.endpoint.model == name);
        let least = named.map(|model| model.inner.endpoint.context).min();
        least.unwrap_or_else(|| self.context())
    }

    /// Asks for the next turn. Returns at once; everything comes through the stream.
    pub fn turn(&self, request: TurnRequest) -> TurnStream {
        let (tell, events) = mpsc::channel(QUEUE);
        let task = tokio::spawn(again::run(self.clone(), request, tell));
        TurnStream {
            events,
            lost: self
                .inner
                .caller
                .error(Failure::Bug("the request was lost".to_owned())),
            ended: false,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Whether a text may go to this model, for one that is not to spoil the whole conversation.
    ///
    /// # Errors
    /// [`Failure::Withheld`] where it must not, [`Failure::Unchecked`] where nobody knows.
    pub async fn look(&self, text: &str) -> Result<(), ModelError> {
        self.inner
            .caller
            .look(&Bytes::from(Value::from(text).to_string()))
            .await
    }

    /// Whether somebody looks at what is sent.
    pub fn is_looked_at(&self) -> bool {
        self.inner.caller.outbound.is_some()
    }

    /// Makes sure that a connection stands ready or is being opened. Returns at once.
    pub fn warm(&self) {
        self.inner.caller.origin.warm();
    }

    /// Returns the counters of the endpoint.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.inner.caller.origin.opened(),
            ..self.inner.counters.snapshot()
        }
    }

    /// Waits until a connection stands ready.
    ///
    /// # Errors
    /// Why no connection could be made.
    pub async fn connect(&self) -> Result<Protocol, ModelError> {
        let connected = self.inner.caller.origin.connected().await;
        connected.map_err(|failure| self.inner.caller.error(failure))
    }

    /// Reads the key and shows it to the server, by asking which models it has: that costs nothing.
    /// A server that does not say which it has proves nothing and is no error.
    ///
    /// # Errors
    /// Why the key cannot be read, or what keeps every request from being answered.
    pub async fn try_key(&self) -> Result<(), ModelError> {
        let Inner {
            endpoint,
            address,
            caller,
            ..
        } = &*self.inner;
        // A person may have to confirm it, which is not the server's time.
        caller.key().await?;
        let path = format!("{}{}{}", address.base, endpoint.api.list(), address.query);
        let listed = caller.get(path, Instant::now() + LIST_PATIENCE).await;
        let is_of_all = |error: &ModelError| {
            matches!(
                error.failure,
                Failure::Unauthorized { .. } | Failure::Protocol(_) | Failure::Proxy(_)
            )
        };
        listed.err().filter(is_of_all).map_or(Ok(()), Err)
    }

    /// Scheme, host and port, as shown to people.
    pub fn place(&self) -> &str {
        &self.inner.caller.place
    }

    pub fn endpoint(&self) -> &TurnEndpoint {
        &self.inner.endpoint
    }
}

/// A turn under way. Dropping it cancels the request at the server.
#[derive(Debug)]
pub struct TurnStream {
    events: mpsc::Receiver<Result<TurnEvent, ModelError>>,
    lost: ModelError,
    ended: bool,
    _task: AbortOnDropHandle<()>,
}

impl TurnStream {
    /// Returns what happens next; `None` after [`TurnEvent::End`] or an error. Cancel safe.
    ///
    /// # Errors
    /// Why the turn ends early; what came before has been returned and can be used, except that
    /// a call which was being written is lost.
    pub async fn next(&mut self) -> Option<Result<TurnEvent, ModelError>> {
        if self.ended {
            return None;
        }
        let next = self.events.recv().await;
        self.ended = !matches!(&next, Some(Ok(event)) if !matches!(event, TurnEvent::End(_)));
        Some(next.unwrap_or_else(|| Err(self.lost.clone())))
    }
}

type Tell = mpsc::Sender<Result<TurnEvent, ModelError>>;
