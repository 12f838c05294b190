//! Asking for a turn: once, and again where nothing was answered yet.
//!
//! Holds: what was passed on is never passed on twice, and once something was, no other model is
//! asked. A limit of the server is waited out for
//! at most [`PATIENCE`], and the reader of the stream is told. Dropping the stream aborts the
//! task, which drops the body, which is RST_STREAM(CANCEL) on HTTP/2.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::draft::{Draft, USAGE_PATIENCE};
use super::endpoint::{TurnApi, TurnEndpoint};
use super::openai::Quirks;
use super::{TurnEvent, TurnRequest, anthropic, ollama, openai};
use crate::error::UserError;
use crate::model::Network;
use crate::model::breaker::{Breaker, Permit};
use crate::model::caller::{Caller, Credentials, KeyHeader};
use crate::model::dialect::{Said, said};
use crate::model::endpoint::Address;
use crate::model::events::Events;
use crate::model::failure::{Failure, ModelError};
use crate::model::http::Protocol;
use crate::model::secret::Secret;
use crate::model::sse::Framing;
use crate::model::stats::{Counters, Stats, average};

/// Events that may wait for their reader; the server waits beyond them.
const QUEUE: usize = 256;

/// Times a request is sent again that was not answered.
const RETRIES: u32 = 4;

/// First pause before that; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait, all in all, for a server that limits requests.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// Shortest wait beside others that wait for the same.
const BESIDE_OTHERS: Duration = Duration::from_millis(200);

/// Waits shorter than this are not worth telling.
const WORTH_TELLING: Duration = Duration::from_millis(500);

/// Longest answer, in bytes on the wire: a token takes some 300 in the wordiest dialect.
const LONGEST_ANSWER: usize = 64 << 20;

/// Longest text: more than this for each token asked for is a server that does not count.
const BYTES_PER_TOKEN: usize = 32;
const SLACK: usize = 16 << 10;

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
        };
        let caller = Caller::new(
            network.origin(&address.site, endpoint.timeouts.connect),
            address.site.shown(),
            &credentials,
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

    /// Asks for the next turn. Returns at once; everything comes through the stream.
    pub fn turn(&self, request: TurnRequest) -> TurnStream {
        let (tell, events) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(self.clone(), request, tell));
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

/// Carries a turn to its end; aborted when nobody reads any more.
async fn run(first: TurnModel, request: TurnRequest, tell: Tell) {
    let mut others = first.fallbacks.iter();
    let mut model = &first;
    loop {
        model.inner.counters.update(|stats| stats.requests += 1);
        let mut has_spoken = false;
        let asked = model
            .inner
            .try_until_answered(&request, &tell, &mut has_spoken);
        let Err(error) = asked.await else { return };
        tracing::debug!(%error, "a turn failed");
        let is_out = !has_spoken && error.is_outage();
        // The reader may be gone, which is how turns are cancelled.
        match others.next().filter(|_| is_out) {
            Some(next) => {
                let instead = TurnEvent::Fallback {
                    why: error.to_string(),
                    model: next.inner.endpoint.model.clone(),
                    place: next.place().to_owned(),
                };
                let _ = tell.send(Ok(instead)).await;
                model = next;
            }
            None => {
                let _ = tell.send(Err(error)).await;
                return;
            }
        }
    }
}

impl Inner {
    async fn try_until_answered(
        &self,
        request: &TurnRequest,
        tell: &Tell,
        has_spoken: &mut bool,
    ) -> Result<(), ModelError> {
        let mut waited = Duration::ZERO;
        let mut n_retries = 0;
        loop {
            let permit = match self.breaker.admit() {
                Ok(permit) => permit,
                Err(error) => {
                    let Failure::Paused { retry_in, .. } = &error.failure else {
                        return Err(error);
                    };
                    let pause = retry_in
                        .max(&BESIDE_OTHERS)
                        .mul_f64(1.0 + 0.2 * fastrand::f64());
                    waited += pause;
                    if !self.breaker.may_pass() || waited > PATIENCE {
                        self.counters.update(|stats| stats.paused += 1);
                        return Err(error);
                    }
                    self.wait(pause, &error, tell).await;
                    continue;
                }
            };
            let mut course = Course {
                inner: self,
                permit: Some(permit),
                started: Instant::now(),
                first_text: None,
                has_spoken: false,
            };
            let outcome = self.ask(request, tell, &mut course).await;
            course.end(&outcome);
            let Err(error) = outcome else { return Ok(()) };
            *has_spoken = course.has_spoken;
            n_retries += 1;
            if course.has_spoken || n_retries > RETRIES || !error.failure.may_pass() {
                return Err(error);
            }
            let pause = match &error.failure {
                Failure::RateLimited {
                    retry_after: Some(wish),
                    ..
                } => *wish,
                _ => FIRST_PAUSE * 2_u32.pow(n_retries - 1),
            };
            let pause = pause.mul_f64(1.0 + 0.2 * fastrand::f64());
            waited += pause;
            if waited > PATIENCE {
                return Err(error);
            }
            self.wait(pause, &error, tell).await;
        }
    }

    async fn wait(&self, pause: Duration, error: &ModelError, tell: &Tell) {
        if pause >= WORTH_TELLING {
            let retry = TurnEvent::Retry {
                why: error.to_string(),
                after: pause,
            };
            let _ = tell.send(Ok(retry)).await;
        }
        tokio::time::sleep(pause).await;
    }

    /// Asks once; a refusal of something that can be left out is not counted.
    async fn ask(
        &self,
        request: &TurnRequest,
        tell: &Tell,
        course: &mut Course<'_>,
    ) -> Result<(), ModelError> {
        loop {
            let quirks = *self.quirks();
            let error = match self.ask_as(request, quirks, tell, course).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let Failure::Rejected { said, .. } = &error.failure else {
                return Err(error);
            };
            if is_too_long(said) {
                let said = said.clone();
                return Err(self.caller.error(Failure::TooLong { said }));
            }
            match quirks.learn(said) {
                Some(learnt) if self.endpoint.api == TurnApi::OpenAi => *self.quirks() = learnt,
                _ => return Err(error),
            }
        }
    }

    async fn ask_as(
        &self,
        request: &TurnRequest,
        quirks: Quirks,
        tell: &Tell,
        course: &mut Course<'_>,
    ) -> Result<(), ModelError> {
        let route = self.endpoint.api.route();
        let path = format!("{}{route}{}", self.address.base, self.address.query);
        let body = Bytes::from(self.body(request, quirks).to_string());
        let times = &self.endpoint.timeouts;
        let started = Instant::now();
        let total = started + times.total;
        let first = total.min(started + times.first_byte);
        let answering = self.caller.send(Method::POST, path, body);
        let answer = match timeout_at(first, answering).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.caller.error(Failure::Silent(times.first_byte))),
        };
        let framing = match self.endpoint.api {
            TurnApi::OpenAi | TurnApi::Anthropic => Framing::Events,
            TurnApi::Ollama => Framing::Lines,
        };
        let mut answer = Events::new(answer, framing, LONGEST_ANSWER)
            .map_err(|failure| self.caller.error(failure))?;
        let most = usize::try_from(request.max_tokens)
            .unwrap_or(usize::MAX)
            .saturating_mul(BYTES_PER_TOKEN)
            .saturating_add(SLACK);
        let mut draft = Draft::default();
        let mut events = Vec::new();
        let mut next = first;
        loop {
            let has_ended = match timeout_at(next, answer.next(&mut events)).await {
                Ok(Ok(())) => self.take(&mut events, &mut draft, &answer),
                Ok(Err(failure)) => Err(failure),
                // All is said but the count of tokens.
                Err(_) if draft.end.is_some() => Ok(true),
                Err(_) if next == total => Err(Failure::Stalled(times.total)),
                Err(_) if next == first => Err(Failure::Silent(times.first_byte)),
                Err(_) => Err(Failure::Stalled(times.idle)),
            };
            // Counts grow until the end.
            if matches!(has_ended, Ok(true))
                && let Some(usage) = &mut draft.usage
                && usage.cost.is_none()
            {
                usage.cost = self.endpoint.prices.map(|prices| prices.cost(usage));
            }
            let too_long = answer.is_too_long() || draft.size > most;
            let has_ended = match has_ended {
                Ok(false) if too_long => Err(Failure::Endless),
                Ok(true) => draft.finish().map(|()| true),
                other => other,
            };
            course.has_spoken |= draft.has_spoken();
            if course.has_spoken {
                course.first_text.get_or_insert_with(|| started.elapsed());
            }
            for event in draft.out.drain(..) {
                course.counted(&event);
                if tell.send(Ok(event)).await.is_err() {
                    // Cancelled: the task is being aborted, and must not count as answered.
                    std::future::pending::<()>().await;
                }
            }
            if has_ended.map_err(|failure| self.caller.error(failure))? {
                break;
            }
            let wait = if draft.end.is_some() {
                USAGE_PATIENCE
            } else {
                times.idle
            };
            next = total.min(Instant::now() + wait);
        }
        answer.let_end();
        Ok(())
    }

    /// Takes the events that came; returns whether the answer has ended.
    fn take(
        &self,
        events: &mut Vec<crate::model::sse::Event>,
        draft: &mut Draft,
        answer: &Events,
    ) -> Result<bool, Failure> {
        for event in events.drain(..) {
            match said(&event)? {
                Said::Nothing => {}
                Said::Done => draft.last = true,
                Said::Json(json) => match self.endpoint.api {
                    TurnApi::OpenAi => openai::read(&json, draft)?,
                    TurnApi::Anthropic => anthropic::read(&json, draft)?,
                    TurnApi::Ollama => ollama::read(&json, draft)?,
                },
            }
        }
        Ok(draft.last || answer.at_end())
    }

    fn body(&self, request: &TurnRequest, quirks: Quirks) -> Value {
        let TurnEndpoint {
            model,
            context,
            thinking,
            ..
        } = &self.endpoint;
        match self.endpoint.api {
            TurnApi::OpenAi => openai::body(model, request, quirks),
            TurnApi::Anthropic => anthropic::body(model, request, *thinking),
            TurnApi::Ollama => ollama::body(model, request, *context, *thinking),
        }
    }

    fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server refused a prompt for its length; the words are those of OpenAI, vLLM,
/// Anthropic, llama.cpp and Mistral.
fn is_too_long(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    [
        "context length",
        "context_length",
        "context window",
        "context size",
        "prompt is too long",
        "too many tokens",
        "prompt contains",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// Reports what became of one request, also when it is dropped.
struct Course<'a> {
    inner: &'a Inner,
    permit: Option<Permit>,
    started: Instant,
    first_text: Option<Duration>,
    has_spoken: bool,
}

impl Course<'_> {
    fn counted(&self, event: &TurnEvent) {
        if let TurnEvent::Usage(usage) = event {
            self.inner.counters.update(|stats| {
                stats.tokens_in += usage.input;
                stats.tokens_out += usage.output;
            });
        }
    }

    fn end(&mut self, outcome: &Result<(), ModelError>) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        match outcome {
            Ok(()) => {
                permit.answered();
                let total = self.started.elapsed();
                self.inner.counters.update(|stats| {
                    stats.answered += 1;
                    average(&mut stats.first_text_ms, self.first_text.unwrap_or(total));
                    average(&mut stats.total_ms, total);
                });
            }
            Err(error) => {
                permit.failed(error);
                self.inner.counters.update(|stats| stats.failed += 1);
            }
        }
    }
}

impl Drop for Course<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        self.inner.counters.update(|stats| stats.cancelled += 1);
        if self.has_spoken {
            permit.answered();
        } else {
            permit.unanswered(&self.inner.caller.place);
        }
    }
}
