//! One request for a turn: sent, read piece by piece, and counted.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Inner, Tell};
use crate::model::breaker::Permit;
use crate::model::dialect::{Said, said};
use crate::model::events::Events;
use crate::model::failure::{Failure, ModelError};
use crate::model::sse::Framing;
use crate::model::stats::average;
use crate::model::turn::draft::{Draft, USAGE_PATIENCE};
use crate::model::turn::endpoint::{TurnApi, TurnEndpoint};
use crate::model::turn::openai::Quirks;
use crate::model::turn::{TurnEvent, TurnRequest, anthropic, ollama, openai};

/// Longest answer, in bytes on the wire: a token takes some 300 in the wordiest dialect.
const LONGEST_ANSWER: usize = 64 << 20;

/// Longest text: more than this for each token asked for is a server that does not count.
const BYTES_PER_TOKEN: usize = 32;
const SLACK: usize = 16 << 10;
impl Inner {
    /// Asks once; a refusal of something that can be left out is not counted.
    pub(super) async fn ask(
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
                // All is said but the count of tokens.
                Ok(Err(Failure::Cut)) | Err(_) if draft.end.is_some() => Ok(true),
                Ok(Err(failure)) => Err(failure),
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
            if draft.has_spoken() {
                course.speaks(started.elapsed());
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
pub(super) struct Course<'a> {
    inner: &'a Inner,
    permit: Option<Permit>,
    started: Instant,
    first_text: Option<Duration>,
    pub(super) has_spoken: bool,
}

impl<'a> Course<'a> {
    pub(super) fn begin(inner: &'a Inner, permit: Permit) -> Self {
        Self {
            inner,
            permit: Some(permit),
            started: Instant::now(),
            first_text: None,
            has_spoken: false,
        }
    }

    /// A piece of the answer came, this long after it was asked for.
    fn speaks(&mut self, after: Duration) {
        self.has_spoken = true;
        self.first_text.get_or_insert(after);
        if let Some(permit) = &mut self.permit {
            permit.begun();
        }
    }

    fn counted(&self, event: &TurnEvent) {
        if let TurnEvent::Usage(usage) = event {
            self.inner.counters.update(|stats| {
                stats.tokens_in += usage.input;
                stats.tokens_out += usage.output;
            });
        }
    }

    pub(super) fn end(&mut self, outcome: &Result<(), ModelError>) {
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
