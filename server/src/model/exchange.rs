//! One question to a completion model: request, answer, and what each of them can fail with.
//!
//! Holds: an answer is bounded in time, bytes and text. Dropping the future cancels the request
//! at the server.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::caller::{Caller, Credentials, KeyHeader};
use super::dialect::{Call, Dialect, FinishReason, Usage};
use super::endpoint::{Address, Endpoint};
use super::events::Events;
use super::failure::{Failure, ModelError};
use super::fim::{CONTROL_TOKENS, ControlText};
use super::http::{Answer, Protocol};
use super::network::Network;
use super::request::FimRequest;
use super::sse::Event;
use super::stop::{Marker, StopFilter};
use crate::error::UserError;

/// Longest answer, in bytes on the wire.
const LONGEST_ANSWER: usize = 4 << 20;

/// Longest text: more than this for each token asked for is a server that does not count.
const BYTES_PER_TOKEN: usize = 32;
const SLACK: usize = 4096;

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
    pub(super) caller: Caller,
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
        let credentials = Credentials {
            key: endpoint.key.as_ref(),
            shown_as: KeyHeader::Bearer,
            headers: &endpoint.headers,
            section: endpoint.section,
            outbound: network.outbound(&address.site),
        };
        let caller = Caller::new(
            network.origin(&address.site),
            address.site.shown(),
            credentials,
        )?;
        Ok(Self {
            caller,
            spoken: ControlText::new(spoken),
            address,
            endpoint,
        })
    }

    pub(super) fn error(&self, failure: Failure) -> ModelError {
        self.caller.error(failure)
    }

    /// Path and body of a completion request.
    pub(super) fn ask(&self, dialect: &Dialect, request: &FimRequest) -> (String, Value) {
        let call = Call {
            endpoint: &self.endpoint,
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
        let answering = self.caller.send(Method::POST, path, body);
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
            protocol: reader.answer.protocol,
        };
        reader.let_end();
        Ok(finish)
    }
}

enum Step {
    More,
    End(FinishReason),
}

/// Reads an answer chunk by chunk.
struct Reader<'a> {
    dialect: &'a Dialect,
    answer: Events,
    filter: StopFilter,
    /// Text that may be passed on.
    out: String,
    usage: Usage,
    text: usize,
    longest_text: usize,
    events: usize,
}

impl<'a> Reader<'a> {
    fn new(
        target: &'a Target,
        dialect: &'a Dialect,
        request: &'a FimRequest,
        answer: Answer,
    ) -> Result<Self, ModelError> {
        let answer = Events::new(answer, dialect.framing(), LONGEST_ANSWER)
            .map_err(|failure| target.error(failure))?;
        let control = CONTROL_TOKENS.into_iter().chain(target.spoken.own());
        let ends = match dialect {
            Dialect::Raw(template) | Dialect::GenerateRaw(template) => template.tokens(),
            Dialect::Suffix
            | Dialect::Infill
            | Dialect::Generate
            | Dialect::Mistral
            | Dialect::DeepSeek => &[],
        };
        let ends = ends.iter().chain(&target.endpoint.stop);
        let control = control.chain(ends.map(String::as_str));
        let tokens = usize::try_from(request.max_tokens).unwrap_or(usize::MAX);
        Ok(Self {
            dialect,
            answer,
            filter: StopFilter::new(control, request.stop.iter().map(String::as_str)),
            out: String::new(),
            usage: Usage::default(),
            text: 0,
            longest_text: tokens.saturating_mul(BYTES_PER_TOKEN).saturating_add(SLACK),
            events: 0,
        })
    }

    /// Reads the next chunk into `out`. Cancel safe only between answers: a dropped step ends
    /// the request.
    async fn step(&mut self) -> Result<Step, Failure> {
        let mut events = Vec::new();
        self.answer.next(&mut events).await?;
        for event in &events {
            if let Some(reason) = self.take(event)? {
                return Ok(Step::End(reason));
            }
        }
        if self.answer.is_too_long() || self.text > self.longest_text {
            return Err(Failure::Endless);
        }
        if !self.answer.at_end() {
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

    /// Lets the end of the answer come, so that its connection can be used again. A text that was
    /// cut short by us is cancelled instead.
    fn let_end(self) {
        if !self.filter.ended() {
            self.answer.let_end();
        }
    }
}
