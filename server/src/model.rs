//! What we ask of models, and the wire that carries it.
//!
//! Holds: dropping a stream ends the request at the server. Every wait has a bound. No key
//! leaves this module except in a request to the endpoint it is for. Nothing here knows LSP,
//! documents or settings files, and there is no prompt text except control tokens.
//!
//! [`Network`] is what all models share, [`Model`] is one endpoint, [`CompletionStream`] one
//! answer; [`TurnModel`] and [`TurnStream`] are the same for turns of a conversation; [`Embedder`]
//! turns texts into vectors. Below them: `exchange` asks once, `caller` knows key and headers,
//! `dialect` and `fim` write requests and read answers, `events` and `sse` frame them, `stop` ends
//! them, `http` holds the connections, `breaker` decides whether to ask at all, `outbound` what
//! may be sent, `probe` finds out how.

mod breaker;
mod caller;
mod dialect;
mod embeddings;
mod endpoint;
mod events;
mod exchange;
mod failure;
pub mod fim;
mod http;
mod key;
mod network;
mod outbound;
mod probe;
mod request;
mod secret;
mod sse;
mod stats;
mod stop;
mod stream;
mod turn;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::caller::read_some;
pub(crate) use self::endpoint::{Address, Routes};
pub(crate) use self::http::{Answer as HttpAnswer, Ask, Body, Origin, Twice};
pub(crate) use self::key::{read as read_key, variable as key_variable};
pub(crate) use self::network::authorities;
pub(crate) use self::sse::{Decoder, Event, Framing};

pub use self::breaker::Health;
pub use self::dialect::{FinishReason, Usage};
pub use self::embeddings::Embedder;
pub use self::endpoint::{Api, Endpoint, HttpVersion, KeySource, Timeouts};
pub use self::exchange::Finish;
pub use self::failure::{Failure, ModelError};
pub use self::fim::Family;
pub use self::http::Protocol;
pub use self::network::{Network, NetworkSettings, Proxy};
pub use self::outbound::OutboundSettings;
pub use self::probe::{Fim, Probe};
pub use self::request::{FimRequest, Snippet};
pub use self::secret::Secret;
pub use self::stats::Stats;
pub use self::stream::{Completion, CompletionStream};
pub use self::turn::{
    Message, Prices, Reply, Thinking, ToolCall, ToolSpec, TurnApi, TurnEnd, TurnEndpoint,
    TurnEvent, TurnModel, TurnRequest, TurnStream, TurnUsage,
};

use self::breaker::{Breaker, Permit};
use self::dialect::Dialect;
use self::exchange::Target;
use self::fim::Template;
use self::network::ProbeKey;
use self::stats::{Counters, average};
use self::stream::{Progress, Recent, Upstream};
use crate::error::{Kind, UserError};

/// Time between two probes made because of refused requests.
const DOUBT_EVERY: Duration = Duration::from_secs(60);

/// One endpoint, ready to be asked. Cheap to clone; clones are the same endpoint. Methods must
/// be called within a tokio runtime.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    network: Network,
    target: Target,
    /// The raw prompt of the setting, or of the family the model's name tells.
    template: Option<Template>,
    breaker: Arc<Breaker>,
    counters: Counters,
    recent: Recent,
    probed: Mutex<Option<probe::Dated>>,
    probing: tokio::sync::Mutex<()>,
}

/// What a probe that fails counts as: a failure by itself, or that of the request that needed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Probe,
    Request,
}

/// What a request would look like on the wire, without the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    pub url: String,
    /// How completions are asked for, in words.
    pub way: String,
    pub body: Value,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

impl Model {
    fn new(network: Network, endpoint: Endpoint) -> Result<Self, UserError> {
        let spoken: Vec<String> = Family::of_model(&endpoint.model)
            .map(|family| Template::of_family(family).tokens().to_vec())
            .unwrap_or_default();
        let target = Target::new(&network, endpoint, &spoken)?;
        let template = template(&target.endpoint)?;
        Ok(Self(Arc::new(Inner {
            network,
            target,
            template,
            breaker: Breaker::new(),
            counters: Counters::default(),
            recent: Recent::default(),
            probed: Mutex::default(),
            probing: tokio::sync::Mutex::default(),
        })))
    }

    /// Asks for a completion. Returns at once; text, end and errors come through the stream.
    /// A request that asks the same as another within 20 ms shares its answer.
    pub fn complete(&self, request: FimRequest) -> CompletionStream {
        let inner = &self.0;
        let deadline = request.deadline;
        let request = Arc::new(request);
        let joined = inner.recent.join_or(&request, || inner.start(&request));
        inner.counters.update(|stats| {
            stats.requests += 1;
            match &joined {
                Ok((_, true)) => stats.shared += 1,
                Ok((_, false)) => {}
                Err(_) => stats.paused += 1,
            }
        });
        match joined {
            Ok((upstream, _)) => {
                CompletionStream::of(upstream, deadline, &inner.target.caller.place)
            }
            Err(error) => CompletionStream::failed(error),
        }
    }

    /// Makes sure that a connection stands ready or is being opened. Returns at once and costs
    /// next to nothing: call it with every keystroke, so that a pause of the debouncer hides a
    /// handshake.
    pub fn warm(&self) {
        self.0.target.caller.origin.warm();
    }

    /// Returns what the endpoint supports, finding it out unless that is known. A probe that was
    /// begun goes on when the future is dropped.
    pub async fn probe(&self) -> Arc<Probe> {
        self.0.probe(Counts::Probe).await
    }

    /// Forgets what the endpoint supports and finds it out again.
    pub async fn probe_again(&self) -> Arc<Probe> {
        self.0.network.forget_probe(&self.0.probe_key());
        *self.0.probed() = None;
        self.0.probe(Counts::Probe).await
    }

    /// Returns the state of the endpoint, as it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.breaker.health()
    }

    /// Resolves as soon as the state of the endpoint is another than `told`.
    pub async fn health_unlike(&self, told: Option<&Health>) -> Health {
        let mut health = self.health();
        loop {
            let now = health.borrow_and_update().clone();
            if told != Some(&now) {
                return now;
            }
            if health.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Returns the counters of the endpoint.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.0.target.caller.origin.opened(),
            ..self.0.counters.snapshot()
        }
    }

    /// Returns the protocol spoken with the endpoint's host; `None` before the first connection.
    pub fn protocol(&self) -> Option<Protocol> {
        self.0.target.caller.origin.protocol()
    }

    /// Scheme, host and port, as shown to people.
    pub fn place(&self) -> &str {
        &self.0.target.caller.place
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0.target.endpoint
    }

    /// Returns exactly what would be sent for `request`, and where to.
    pub fn preview(&self, request: &FimRequest) -> Preview {
        let dialect = self.0.known_dialect().unwrap_or(Dialect::Suffix);
        let (path, body) = self.0.target.ask(&dialect, request);
        let path = path.split('?').next().unwrap_or_default();
        Preview {
            url: format!("{}{path}", self.place()),
            way: dialect.in_words(),
            body,
        }
    }
}

impl Inner {
    fn start(self: &Arc<Self>, request: &Arc<FimRequest>) -> Result<Arc<Upstream>, ModelError> {
        let permit = self.breaker.admit()?;
        let (tell, progress) = watch::channel(Progress::default());
        let task = tokio::spawn(Arc::clone(self).run(Arc::clone(request), permit, tell));
        Ok(Upstream::new(task.abort_handle(), progress))
    }

    /// Carries one upstream request to its end; aborted when nobody reads any more.
    async fn run(
        self: Arc<Self>,
        request: Arc<FimRequest>,
        permit: Permit,
        tell: watch::Sender<Progress>,
    ) {
        let mut course = Course {
            inner: Arc::clone(&self),
            permit: Some(permit),
            seen: false,
        };
        let outcome = match self.dialect().await {
            Ok(dialect) => {
                let mut on_text = |text: &str| {
                    course.seen();
                    if !text.is_empty() {
                        tell.send_modify(|progress| progress.text.push_str(text));
                    }
                };
                self.target.complete(&dialect, &request, &mut on_text).await
            }
            Err(error) => Err(error),
        };
        course.end(&outcome);
        if let Err(error) = &outcome {
            tracing::debug!(%error, "a completion failed");
            self.doubt(error);
        }
        tell.send_modify(|progress| progress.end = Some(outcome));
    }

    /// Returns the way to ask: what was found out, else what the settings say, else what is
    /// found out now.
    async fn dialect(self: &Arc<Self>) -> Result<Dialect, ModelError> {
        if let Some(dialect) = self.known_dialect() {
            return Ok(dialect);
        }
        let probe = self.probe(Counts::Request).await;
        match (&probe.dialect, &probe.error) {
            (Some(dialect), _) => Ok(dialect.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(self
                .target
                .error(Failure::Bug("a probe without result".to_owned()))),
        }
    }

    fn known_dialect(&self) -> Option<Dialect> {
        if let Some(probe) = self.network.known_probe(&self.probe_key()) {
            return probe.dialect.clone();
        }
        match self.target.endpoint.api {
            // Whether `suffix` has an effect must be found out before it is relied on.
            Api::OpenAi => {
                let template = self.template.clone();
                self.target
                    .endpoint
                    .template
                    .as_ref()
                    .and(template)
                    .map(Dialect::Raw)
            }
            Api::Fim => self.template.clone().map(Dialect::Raw),
            Api::LlamaCpp => Some(Dialect::Infill),
            Api::Ollama => Some(Dialect::Generate),
            Api::Mistral => Some(Dialect::Mistral),
            Api::DeepSeek => Some(Dialect::DeepSeek),
        }
    }

    async fn probe(self: &Arc<Self>, counts: Counts) -> Arc<Probe> {
        // A task of its own: what is found out serves every request after this one.
        let inner = Arc::clone(self);
        let probing = tokio::spawn(async move {
            let _one_probe = inner.probing.lock().await;
            let key = inner.probe_key();
            if let Some(known) = inner.network.known_probe(&key) {
                return known;
            }
            let recent = inner.probed().clone();
            if let Some((at, failed)) = recent
                && at.elapsed() < probe::FAILURE_KEPT
            {
                return failed;
            }
            let asked = Instant::now();
            let found = Arc::new(probe::probe(&inner.target, inner.template.as_ref()).await);
            // Dated before it is remembered: what is remembered must not look old to `doubt`.
            *inner.probed() = Some((Instant::now(), Arc::clone(&found)));
            match &found.error {
                None => {
                    inner.breaker.answered(asked);
                    inner.network.remember_probe(key, Arc::clone(&found));
                }
                Some(error) if counts == Counts::Probe => inner.breaker.failed(error),
                Some(_) => {}
            }
            found
        });
        match probing.await {
            Ok(found) => found,
            Err(_) => Arc::new(Probe::lost(
                self.target
                    .error(Failure::Bug("a probe was lost".to_owned())),
            )),
        }
    }

    /// Finds out anew what the endpoint supports when it refuses what it should understand: it
    /// may be another server than it was, or was never asked. Not more often than
    /// [`DOUBT_EVERY`].
    fn doubt(self: &Arc<Self>, error: &ModelError) {
        let refused = matches!(
            error.failure,
            Failure::Rejected { .. } | Failure::Garbage(_)
        );
        let lately = self
            .probed()
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < DOUBT_EVERY);
        if refused && !lately {
            self.network.forget_probe(&self.probe_key());
            let inner = Arc::clone(self);
            tokio::spawn(async move { inner.probe(Counts::Probe).await });
        }
    }

    fn probe_key(&self) -> ProbeKey {
        let endpoint = &self.target.endpoint;
        (
            endpoint.url.clone(),
            endpoint.model.clone(),
            endpoint.api,
            endpoint.template.clone(),
        )
    }

    fn probed(&self) -> MutexGuard<'_, Option<probe::Dated>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports what became of an upstream request, also when it is dropped.
struct Course {
    inner: Arc<Inner>,
    permit: Option<Permit>,
    /// Whether the server has begun to answer.
    seen: bool,
}

impl Course {
    fn seen(&mut self) {
        self.seen = true;
        if let Some(permit) = &mut self.permit {
            permit.begun();
        }
    }

    fn end(&mut self, outcome: &Result<Finish, ModelError>) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        match outcome {
            Ok(finish) => {
                permit.answered();
                self.inner.counters.update(|stats| {
                    stats.answered += 1;
                    stats.tokens_in += finish.usage.prompt_tokens.unwrap_or_default();
                    stats.tokens_out += finish.usage.completion_tokens.unwrap_or_default();
                    average(
                        &mut stats.first_text_ms,
                        finish.first_text.unwrap_or(finish.total),
                    );
                    average(&mut stats.total_ms, finish.total);
                });
            }
            Err(error) => {
                permit.failed(error);
                self.inner.counters.update(|stats| stats.failed += 1);
            }
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        self.inner.counters.update(|stats| stats.cancelled += 1);
        if self.seen {
            permit.answered();
        } else {
            permit.unanswered(&self.inner.target.caller.place);
        }
    }
}

/// Returns the raw prompt for `endpoint`.
fn template(endpoint: &Endpoint) -> Result<Option<Template>, UserError> {
    if let Some(setting) = &endpoint.template {
        let template = Template::of_setting(setting).map_err(|why| {
            UserError::new(
                Kind::Settings,
                format!("The prompt template cannot be used: {why}."),
            )
            .with_hint("Correct `models.complete.template`.")
        })?;
        return Ok(Some(template));
    }
    match Family::of_model(&endpoint.model) {
        Some(family) => Ok(Some(Template::of_family(family))),
        None if endpoint.api == Api::Fim => {
            let message = format!(
                "How to ask the model \"{}\" to fill in the middle is not known from its name.",
                endpoint.model
            );
            let hint = "Set `models.complete.template` to the name of its family or to a pattern with {prefix} and {suffix}.";
            Err(UserError::new(Kind::Settings, message).with_hint(hint))
        }
        None => Ok(None),
    }
}
