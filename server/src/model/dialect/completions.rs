//! `POST /v1/completions` as OpenAI defined it and vLLM, SGLang, TGI, llama.cpp, LM Studio and
//! hosted services serve it: with `suffix` where that works, with a raw prompt everywhere else.

use serde_json::{Value, json};

use super::{Call, Dialect, Piece, Usage, finish_reason, set};
use crate::model::fim::{Template, prefix_with_comments};

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
    body(call, &template.prompt(call.request), &template.ends)
}

fn body(call: &Call<'_>, prompt: &str, ends: &[String]) -> Value {
    let request = call.request;
    let mut body = json!({
        "model": call.endpoint.model,
        "prompt": prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": true,
    });
    let stops = Dialect::stops(call, ends);
    if !stops.is_empty() {
        set(&mut body, "stop", stops);
    }
    let biases = &call.endpoint.logit_bias;
    if !biases.is_empty() {
        set(&mut body, "logit_bias", json!(biases));
    }
    if let Some(seed) = request.seed {
        set(&mut body, "seed", seed);
    }
    body
}

/// Reads `choices[0].text`, and the chat-shaped `delta.content` that Mistral and some gateways
/// answer with; `None` when there is neither, nor usage, nor a finish reason.
pub(super) fn read(event: &Value) -> Option<Piece> {
    let usage = event
        .get("usage")
        .filter(|usage| usage.is_object())
        .map(read_usage);
    let choice = event.pointer("/choices/0");
    let text = choice.and_then(|choice| {
        let places = ["/text", "/delta/content", "/message/content"];
        places
            .iter()
            .find_map(|place| choice.pointer(place))
            .and_then(Value::as_str)
    });
    let finish = finish_reason(choice.and_then(|choice| choice.get("finish_reason")?.as_str()));
    if choice.is_none() && usage.is_none() && event.get("choices").is_none() {
        return None;
    }
    Some(Piece {
        text: text.unwrap_or_default().to_owned(),
        finish,
        usage: usage.unwrap_or_default(),
        last: false,
    })
}

fn read_usage(usage: &Value) -> Usage {
    let count = |place: &str| usage.pointer(place).and_then(Value::as_u64);
    Usage {
        prompt_tokens: count("/prompt_tokens"),
        completion_tokens: count("/completion_tokens"),
        cached_tokens: count("/prompt_tokens_details/cached_tokens")
            .or(count("/prompt_cache_hit_tokens")),
    }
}
