//! The bodies of the completions endpoint: OpenAI's completions, and the `/infill` of llama.cpp's
//! server.
//!
//! Fields that are not named here (temperature, sampling, caches) say how a model should draw
//! words, and are ignored: which engine answers, and how, is for the settings to say.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::{NoContext, Timestamp, Uuid};

use super::answer;
use crate::model::fim;

/// The one model there is, whatever a client calls it.
const MODEL: &str = "pairwright";
/// Bytes taken for a token where a client limits tokens.
const TOKEN: usize = 4;

/// What is asked, whatever the shape it came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) question: Question,
    /// What the client calls the model.
    model: String,
    pub(super) max_tokens: Option<usize>,
    stop: Vec<String>,
    stream: bool,
}

/// The text on both sides of the cursor, as far as the client tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) prefix: String,
    pub(super) suffix: String,
}

/// Why a text is as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stop,
    Length,
}

impl Asked {
    /// Cuts `text` before what the client wants to stop at, and to its tokens.
    pub(super) fn cut(&self, mut text: String) -> (String, Ended) {
        let stops = self.stop.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(at);
        }
        let most = self
            .max_tokens
            .map_or(usize::MAX, |n| n.saturating_mul(TOKEN));
        if text.len() <= most {
            return (text, Ended::Stop);
        }
        text.truncate(text.floor_char_boundary(most));
        (text, Ended::Length)
    }
}

/// The body of `/v1/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    #[serde(default)]
    model: Option<String>,
    prompt: OneOrMore,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    stop: Option<OneOrMore>,
    #[serde(default)]
    stream: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

impl Completion {
    /// # Errors
    /// When there is more than one prompt.
    pub(super) fn asked(self) -> Result<Asked, Refusal> {
        let Ok([prompt]) = <[String; 1]>::try_from(self.prompt.into_vec()) else {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "one prompt is answered at a time",
            ));
        };
        // Clients that know how their model was trained write both sides into the prompt.
        let question = match (self.suffix.filter(|s| !s.is_empty()), fim::read(&prompt)) {
            (None, Some((prefix, suffix))) => Question {
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
            },
            (suffix, _) => Question {
                prefix: prompt,
                suffix: suffix.unwrap_or_default(),
            },
        };
        Ok(Asked {
            question,
            model: self.model.unwrap_or_else(|| MODEL.to_owned()),
            max_tokens: self.max_tokens.map(|n| n as usize),
            stop: self.stop.map_or_else(Vec::new, OneOrMore::into_vec),
            stream: self.stream.unwrap_or_default(),
        })
    }
}

/// The body of `/infill`. `prompt` is what stands between `input_prefix` and the cursor. The other
/// texts of `input_extra` are not read: Pairwright finds its own.
#[derive(Debug, Deserialize)]
pub(super) struct Infill {
    #[serde(default)]
    input_prefix: String,
    #[serde(default)]
    input_suffix: String,
    #[serde(default)]
    prompt: String,
    /// Negative for no limit.
    #[serde(default)]
    n_predict: Option<i64>,
    #[serde(default)]
    stop: Option<OneOrMore>,
    #[serde(default)]
    stream: Option<bool>,
}

impl Infill {
    pub(super) fn asked(self) -> Asked {
        Asked {
            question: Question {
                prefix: self.input_prefix + &self.prompt,
                suffix: self.input_suffix,
            },
            model: MODEL.to_owned(),
            max_tokens: self.n_predict.and_then(|n| n.try_into().ok()),
            stop: self.stop.map_or_else(Vec::new, OneOrMore::into_vec),
            stream: self.stream.unwrap_or_default(),
        }
    }
}

/// Why a request is not answered, without a word of what was in it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn body(&self) -> String {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "code": self.status.as_u16() } })
            .to_string()
    }
}

/// The answer to `/v1/completions`, in one piece or as a stream of one.
pub(super) fn completion(asked: &Asked, text: &str, ended: Ended) -> Response<Full<Bytes>> {
    let now = Timestamp::now(NoContext);
    let reason = match ended {
        Ended::Stop => "stop",
        Ended::Length => "length",
    };
    let mut body = json!({
        "id": format!("cmpl-{}", Uuid::new_v7(now).simple()),
        "object": "text_completion",
        "created": now.to_unix().0,
        "model": asked.model,
        "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": reason }],
    });
    if asked.stream {
        return events(&[body.to_string(), "[DONE]".to_owned()]);
    }
    let (asked_for, said) = (tokens_of(&asked.question), tokens(text));
    body["usage"] = json!({
        "prompt_tokens": asked_for,
        "completion_tokens": said,
        "total_tokens": asked_for + said,
    });
    answer(StatusCode::OK, "application/json", body.to_string())
}

/// The answer to `/infill`, in one piece or as a stream of one.
pub(super) fn infill(asked: &Asked, text: &str, ended: Ended) -> Response<Full<Bytes>> {
    let end = |content: &str| {
        json!({
            "content": content,
            "model": MODEL,
            "stop": true,
            "stop_type": match ended { Ended::Stop => "eos", Ended::Length => "limit" },
            "tokens_predicted": tokens(text),
            "tokens_evaluated": tokens_of(&asked.question),
            "truncated": false,
        })
        .to_string()
    };
    if asked.stream {
        let piece = json!({ "content": text, "stop": false });
        return events(&[piece.to_string(), end("")]);
    }
    answer(StatusCode::OK, "application/json", end(text))
}

/// The answer to `/v1/models`.
pub(super) fn models() -> Response<Full<Bytes>> {
    let model = json!({ "id": MODEL, "object": "model", "created": 0, "owned_by": MODEL });
    let body: Value = json!({ "object": "list", "data": [model] });
    answer(StatusCode::OK, "application/json", body.to_string())
}

fn events(data: &[String]) -> Response<Full<Bytes>> {
    let body = data.iter().map(|data| format!("data: {data}\n\n"));
    answer(StatusCode::OK, "text/event-stream", body.collect())
}

fn tokens(text: &str) -> usize {
    text.len().div_ceil(TOKEN)
}

fn tokens_of(question: &Question) -> usize {
    tokens(&question.prefix) + tokens(&question.suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &Value) -> Asked {
        let body: Completion = serde_json::from_value(body.clone()).unwrap();
        body.asked().unwrap()
    }

    #[test]
    fn both_sides_of_the_cursor_are_found_in_every_shape() {
        let shapes = [
            json!({ "prompt": "let a = |;", "suffix": null }),
            json!({ "prompt": ["let a = "], "suffix": "\nlet b;" }),
            json!({ "prompt": "<|fim_prefix|>let a = <|fim_suffix|>\nlet b;<|fim_middle|>" }),
            json!({ "prompt": "[SUFFIX]\nlet b;[PREFIX]let a = " }),
        ];
        let sides = shapes.map(|body| {
            let Question { prefix, suffix } = asked(&body).question;
            (prefix, suffix)
        });
        let both = ("let a = ".to_owned(), "\nlet b;".to_owned());
        let alone = ("let a = |;".to_owned(), String::new());
        assert_eq!(sides, [alone, both.clone(), both.clone(), both]);
        let infill: Infill = serde_json::from_value(json!({
            "input_prefix": "fn f() {\n", "prompt": "    let", "input_suffix": "\n}", "n_predict": -1,
        }))
        .unwrap();
        let infill = infill.asked();
        assert_eq!(infill.question.prefix, "fn f() {\n    let");
        assert_eq!(infill.max_tokens, None);
    }

    #[test]
    fn a_text_ends_where_the_client_wants_it_to() {
        let cases = [
            (json!({ "prompt": "x" }), "one\ntwo", Ended::Stop),
            (json!({ "prompt": "x", "stop": "\n" }), "one", Ended::Stop),
            (
                json!({ "prompt": "x", "stop": ["two", "\nt", ""] }),
                "one",
                Ended::Stop,
            ),
            (
                json!({ "prompt": "x", "max_tokens": 1 }),
                "one\n",
                Ended::Length,
            ),
        ];
        for (body, text, ended) in cases {
            let cut = asked(&body).cut("one\ntwo".to_owned());
            assert_eq!(cut, (text.to_owned(), ended), "{body}");
        }
        let wide = asked(&json!({ "prompt": "x", "max_tokens": 1 })).cut("漢字".to_owned());
        assert_eq!(wide.0, "漢");
    }
}
