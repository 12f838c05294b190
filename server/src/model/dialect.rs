//! How to ask a server for a completion and read its answer, one file per dialect.
//!
//! Holds: every request streams (a server that answers whole notices too late that nobody
//! waits) and names at most [`MOST_STOPS`] stop strings (servers refuse more); the rest of them
//! are found by `model::stop`. An answer is read leniently: unknown fields are ignored, and a
//! server that does not stream after all is understood too.

mod completions;
mod deepseek;
mod llamacpp;
mod mistral;
mod ollama;

use serde::Serialize;
use serde_json::Value;

use super::endpoint::{Api, Endpoint};
use super::failure::{Failure, json_message, quote};
use super::fim::{ControlText, Template};
use super::request::FimRequest;
use super::sse::{Event, Framing};

/// Stop strings a server is told, at most: OpenAI, vLLM and others refuse more.
pub(super) const MOST_STOPS: usize = 4;

/// A way to ask, decided by the endpoint's settings and what the server was found to support.
#[derive(Debug, Clone)]
pub(super) enum Dialect {
    /// `/completions` with `suffix`.
    Suffix,
    /// `/completions` with a raw prompt.
    Raw(Template),
    /// llama.cpp `/infill`.
    Infill,
    /// Ollama `/api/generate` with `suffix`.
    Generate,
    /// Ollama `/api/generate` with a raw prompt.
    GenerateRaw(Template),
    Mistral,
    DeepSeek,
}

/// What a dialect needs to write a request.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) request: &'a FimRequest,
    /// Control tokens of the model's family, for dialects that do not write the prompt.
    pub(super) spoken: &'a ControlText,
}

/// What one event says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) finish: Option<FinishReason>,
    pub(super) usage: Usage,
    /// The server says that nothing more comes.
    pub(super) last: bool,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FinishReason {
    /// The model was done, or a stop string came.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The stream ended without a reason.
    Unsaid,
}

/// What a server counted and measured, where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    /// Prompt tokens that the server had in its cache.
    pub cached_tokens: Option<u64>,
}

impl Usage {
    /// Takes over what `newer` knows.
    pub(super) fn merge(&mut self, newer: Self) {
        self.prompt_tokens = newer.prompt_tokens.or(self.prompt_tokens);
        self.completion_tokens = newer.completion_tokens.or(self.completion_tokens);
        self.cached_tokens = newer.cached_tokens.or(self.cached_tokens);
    }
}

impl Dialect {
    /// Returns the path to post to, below `base`.
    pub(super) fn path(&self, base: &str, api: Api) -> String {
        match (self, api) {
            // A raw prompt to llama.cpp goes to its OpenAI-compatible route.
            (Self::Suffix | Self::Raw(_), Api::LlamaCpp) => format!("{base}/v1/completions"),
            (Self::Suffix | Self::Raw(_) | Self::DeepSeek, _) => format!("{base}/completions"),
            (Self::Infill, _) => format!("{base}/infill"),
            (Self::Generate | Self::GenerateRaw(_), _) => format!("{base}/api/generate"),
            (Self::Mistral, _) => format!("{base}/fim/completions"),
        }
    }

    /// Names the dialect to a person.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Suffix => "/completions with `suffix`".to_owned(),
            Self::Raw(template) => format!("/completions with the prompt of {}", template.name),
            Self::Infill => "llama.cpp /infill".to_owned(),
            Self::Generate => "Ollama /api/generate with `suffix`".to_owned(),
            Self::GenerateRaw(template) => {
                format!("Ollama /api/generate with the prompt of {}", template.name)
            }
            Self::Mistral => "Mistral /fim/completions".to_owned(),
            Self::DeepSeek => "DeepSeek /completions with `suffix`".to_owned(),
        }
    }

    /// Writes the body of a request. O(text).
    pub(super) fn body(&self, call: &Call<'_>) -> Value {
        match self {
            Self::Suffix => completions::with_suffix(call),
            Self::Raw(template) => completions::raw(call, template),
            Self::Infill => llamacpp::infill(call),
            Self::Generate => ollama::with_suffix(call),
            Self::GenerateRaw(template) => ollama::raw(call, template),
            Self::Mistral => mistral::body(call),
            Self::DeepSeek => deepseek::body(call),
        }
    }

    /// How the answer is framed when the server does not say.
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Generate | Self::GenerateRaw(_) => Framing::Lines,
            Self::Suffix | Self::Raw(_) | Self::Infill | Self::Mistral | Self::DeepSeek => {
                Framing::Events
            }
        }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`Failure::Garbage`] when it is no JSON object, [`Failure::Faulted`] when it is an error.
    pub(super) fn read(&self, event: &Event) -> Result<Piece, Failure> {
        let json = match said(event)? {
            Said::Nothing => return Ok(Piece::default()),
            Said::Done => {
                return Ok(Piece {
                    last: true,
                    ..Piece::default()
                });
            }
            Said::Json(json) => json,
        };
        let piece = match self {
            Self::Suffix | Self::Raw(_) | Self::DeepSeek | Self::Mistral => {
                completions::read(&json)
            }
            Self::Infill => llamacpp::read(&json),
            Self::Generate | Self::GenerateRaw(_) => ollama::read(&json),
        };
        piece.ok_or_else(|| {
            Failure::Garbage("an event has no text where its dialect puts it".to_owned())
        })
    }

    /// What ends the text, to be told to the server: the caller's stop strings first (they save
    /// the most tokens), then what the user says ends a text, then what ends one of this family.
    fn stops<'a>(call: &'a Call<'_>, ends: &'a [String]) -> Vec<&'a str> {
        let wanted = call.request.stop.iter().chain(&call.endpoint.stop);
        let wanted = wanted.chain(ends);
        let mut stops: Vec<&str> = Vec::with_capacity(MOST_STOPS);
        for stop in wanted.map(String::as_str).filter(|stop| !stop.is_empty()) {
            if stops.len() < MOST_STOPS && !stops.contains(&stop) {
                stops.push(stop);
            }
        }
        stops
    }
}

/// What an event holds, in any dialect.
pub(super) enum Said {
    Nothing,
    /// `[DONE]`
    Done,
    /// An object that is no error.
    Json(Value),
}

/// Reads an event as JSON.
///
/// # Errors
/// [`Failure::Garbage`] when it is no JSON object, [`Failure::Faulted`] when it is an error.
pub(super) fn said(event: &Event) -> Result<Said, Failure> {
    let data = event.data.trim_ascii();
    if data.is_empty() {
        return Ok(Said::Nothing);
    }
    if data == b"[DONE]" {
        return Ok(Said::Done);
    }
    let json: Value = serde_json::from_slice(data)
        .map_err(|_| Failure::Garbage("an event is not JSON".to_owned()))?;
    if !json.is_object() {
        return Err(Failure::Garbage("an event is not a JSON object".to_owned()));
    }
    if event.name == "error" || json.get("error").is_some_and(|error| !error.is_null()) {
        let status = json
            .pointer("/error/code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let said = json_message(&json).unwrap_or_default();
        return Err(Failure::Faulted {
            status: status.unwrap_or(200),
            said: quote(&said),
        });
    }
    Ok(Said::Json(json))
}

/// Sets `name` in a JSON object when there is something to set.
fn set(body: &mut Value, name: &str, value: impl Into<Value>) {
    body[name] = value.into();
}

fn finish_reason(said: Option<&str>) -> Option<FinishReason> {
    match said? {
        "" => None,
        "length" | "max_tokens" | "limit" | "model_length" => Some(FinishReason::Length),
        _ => Some(FinishReason::Stop),
    }
}

#[cfg(test)]
mod tests;
