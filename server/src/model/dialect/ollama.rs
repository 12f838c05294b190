//! Ollama `POST /api/generate`: with `suffix` where the model's own template has a place for it
//! (the capability Ollama calls *insert*), with a raw prompt otherwise. Answers are JSON lines.
//!
//! Trap: thinking models think first unless told not to.

use serde_json::{Value, json};

use super::{Call, Dialect, Piece, Usage, finish_reason, set};
use crate::model::fim::{Template, prefix_with_comments};

/// Keeps the model loaded between pauses of thought; Ollama's own default is five minutes.
const KEEP_LOADED: &str = "30m";

pub(super) fn with_suffix(call: &Call<'_>) -> Value {
    let mut body = body(call, &prefix_with_comments(call.request, call.spoken), &[]);
    set(
        &mut body,
        "suffix",
        call.spoken.neutralise(&call.request.suffix),
    );
    body
}

pub(super) fn raw(call: &Call<'_>, template: &Template) -> Value {
    let mut body = body(call, &template.prompt(call.request), &template.ends);
    set(&mut body, "raw", true);
    body
}

fn body(call: &Call<'_>, prompt: &str, ends: &[String]) -> Value {
    let request = call.request;
    let mut options =
        json!({ "num_predict": request.max_tokens, "temperature": request.temperature });
    let stops = Dialect::stops(call, ends);
    if !stops.is_empty() {
        set(&mut options, "stop", stops);
    }
    if let Some(seed) = request.seed {
        set(&mut options, "seed", seed);
    }
    json!({
        "model": call.endpoint.model,
        "prompt": prompt,
        "stream": true,
        "think": false,
        "keep_alive": KEEP_LOADED,
        "options": options,
    })
}

pub(super) fn read(event: &Value) -> Option<Piece> {
    let text = event.get("response")?.as_str()?;
    let last = event.get("done").and_then(Value::as_bool).unwrap_or(false);
    let usage = Usage {
        prompt_tokens: event.get("prompt_eval_count").and_then(Value::as_u64),
        completion_tokens: event.get("eval_count").and_then(Value::as_u64),
        cached_tokens: None,
    };
    let finish = if last {
        finish_reason(event.get("done_reason").and_then(Value::as_str))
    } else {
        None
    };
    Some(Piece {
        text: text.to_owned(),
        finish,
        usage,
        last,
    })
}
