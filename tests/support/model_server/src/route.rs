//! The routes and the shapes they answer in.

use serde_json::{Value, json};

use crate::log::Seen;
use crate::turn;

/// A completion route, by dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Completions,
    Infill,
    Generate,
    MistralFim,
    /// OpenAI's `/chat/completions`.
    Chat,
    /// Anthropic's `/messages`.
    Messages,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// A list of models.
    Models,
    /// Ollama's list of models.
    Tags,
}

impl Route {
    pub fn of(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        Some(match path {
            _ if path.ends_with("/fim/completions") => Self::MistralFim,
            _ if path.ends_with("/chat/completions") => Self::Chat,
            _ if path.ends_with("/completions") => Self::Completions,
            _ if path.ends_with("/messages") => Self::Messages,
            "/api/chat" => Self::OllamaChat,
            "/infill" => Self::Infill,
            "/api/generate" => Self::Generate,
            "/api/tags" => Self::Tags,
            _ if path.ends_with("/models") => Self::Models,
            _ => return None,
        })
    }

    /// Whether it takes turns of a conversation.
    pub fn is_turn(self) -> bool {
        matches!(self, Self::Chat | Self::Messages | Self::OllamaChat)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Completions | Self::Infill | Self::MistralFim | Self::Chat | Self::Messages => {
                "text/event-stream"
            }
            Self::Generate | Self::OllamaChat => "application/x-ndjson",
            Self::Models | Self::Tags => "application/json",
        }
    }

    /// One piece of text as this route sends it.
    pub(crate) fn piece(self, text: &str) -> String {
        match self {
            Self::Completions => event(
                &json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": null}]}),
            ),
            Self::MistralFim => event(
                &json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}),
            ),
            Self::Infill => event(&json!({"index": 0, "content": text, "stop": false})),
            // Streamed as turns.
            Self::Chat | Self::Messages | Self::OllamaChat => String::new(),
            Self::Generate | Self::Models | Self::Tags => {
                format!("{}\n", json!({"response": text, "done": false}))
            }
        }
    }

    /// What ends an answer, with the reason and the number of tokens.
    pub(crate) fn end(self, reason: &str, prompt_tokens: u64, tokens: usize) -> String {
        let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": tokens});
        match self {
            Self::Completions => {
                let last = json!({"choices": [{"index": 0, "text": "", "finish_reason": reason}], "usage": usage});
                format!("{}data: [DONE]\n\n", event(&last))
            }
            Self::MistralFim => {
                let last = json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": reason}], "usage": usage});
                format!("{}data: [DONE]\n\n", event(&last))
            }
            Self::Infill => event(&json!({
                "content": "", "stop": true, "stop_type": if reason == "length" { "limit" } else { "eos" },
                "tokens_evaluated": prompt_tokens, "tokens_predicted": tokens, "timings/cache_n": 3,
            })),
            Self::Chat | Self::Messages | Self::OllamaChat => String::new(),
            Self::Generate | Self::Models | Self::Tags => format!(
                "{}\n",
                json!({"response": "", "done": true, "done_reason": reason, "prompt_eval_count": prompt_tokens, "eval_count": tokens})
            ),
        }
    }

    /// Refuses what the strictest real server would; `None` when the request is in order.
    pub(crate) fn fault(self, body: &Value) -> Option<String> {
        if matches!(self, Self::Models | Self::Tags) {
            return None;
        }
        if self.is_turn() {
            return turn::fault(self, body);
        }
        if body["stream"] != Value::Bool(true) {
            return Some("this server only streams".to_owned());
        }
        let stops = body.get("stop").or_else(|| body.pointer("/options/stop"));
        if stops
            .and_then(Value::as_array)
            .is_some_and(|stops| stops.len() > 4)
        {
            return Some("stop: at most 4 strings".to_owned());
        }
        let needed: &[&str] = match self {
            Self::Infill => &["input_prefix", "input_suffix", "n_predict"],
            Self::Generate => &["model", "prompt", "options"],
            Self::Completions | Self::MistralFim => &["model", "prompt", "max_tokens"],
            Self::Chat | Self::Messages | Self::OllamaChat | Self::Models | Self::Tags => &[],
        };
        let missing = needed.iter().find(|&&field| body.get(field).is_none());
        missing.map(|field| format!("{field} is missing"))
    }
}

fn event(json: &Value) -> String {
    format!("data: {json}\n\n")
}

/// The hole a request asks to fill, as a model would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub prefix: String,
    /// `None` when the request has no place for it.
    pub suffix: Option<String>,
}

/// Control tokens around prefix and suffix in raw prompts, by family.
const RAW: [(&str, &str, &str, bool); 7] = [
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", false),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", false),
    ("<PRE> ", " <SUF>", " <MID>", false),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", false),
    (
        "<|code_prefix|>",
        "<|code_suffix|>",
        "<|code_middle|>",
        false,
    ),
    ("[SUFFIX]", "[PREFIX]", "", true),
    ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>", true),
];

impl Hole {
    /// Reads prefix and suffix out of a request of any dialect.
    pub fn of(seen: &Seen) -> Self {
        let body = seen.json();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(prefix) = text("input_prefix") {
            return Self {
                prefix,
                suffix: text("input_suffix"),
            };
        }
        let prompt = text("prompt").unwrap_or_default();
        if let Some(suffix) = text("suffix") {
            return Self {
                prefix: prompt,
                suffix: Some(suffix),
            };
        }
        for (lead, between, tail, suffix_first) in RAW {
            let inside = prompt
                .split_once(lead)
                .map(|(_, rest)| rest.strip_suffix(tail).unwrap_or(rest));
            if let Some((first, second)) = inside.and_then(|inside| inside.split_once(between)) {
                let (prefix, suffix) = if suffix_first {
                    (second, first)
                } else {
                    (first, second)
                };
                return Self {
                    prefix: prefix.to_owned(),
                    suffix: Some(suffix.to_owned()),
                };
            }
        }
        Self {
            prefix: prompt,
            suffix: None,
        }
    }
}
