//! llama.cpp `POST /infill`: the server knows the model's control tokens and writes the prompt,
//! other files included. It encodes our texts as text: control tokens in them stay text.
//!
//! Traps (read in the server's source): prefix and suffix are cut three to one to the batch
//! size, not the context; `t_max_predict_ms` counts only after a line ended, so it is no
//! deadline; the last event repeats prompt and settings unless told which fields to send.

use serde_json::{Value, json};

use super::{Call, Dialect, Piece, Usage, finish_reason, set};

pub(super) fn infill(call: &Call<'_>) -> Value {
    let request = call.request;
    let extra: Vec<Value> = request
        .snippets
        .iter()
        .map(|snippet| json!({ "filename": snippet.path, "text": snippet.text }))
        .collect();
    let mut body = json!({
        "input_prefix": request.prefix,
        "input_suffix": request.suffix,
        "input_extra": extra,
        "prompt": "",
        "n_predict": request.max_tokens,
        "temperature": request.temperature,
        // `infill` weighs going on against ending; at temperature 0 the likeliest is taken.
        "samplers": ["top_k", "top_p", "infill", "temperature"],
        "top_k": 40,
        "top_p": 0.9,
        "cache_prompt": true,
        "stream": true,
        "response_fields": [
            "content", "stop", "stop_type", "truncated",
            "tokens_evaluated", "tokens_predicted", "timings/cache_n",
        ],
    });
    let stops = Dialect::stops(call, &[]);
    if !stops.is_empty() {
        set(&mut body, "stop", stops);
    }
    if let Some(seed) = request.seed {
        set(&mut body, "seed", seed);
    }
    let biases = &call.endpoint.logit_bias;
    if !biases.is_empty() {
        // A token's number, or text whose tokens are meant.
        let token = |token: &str| token.parse().map_or(Value::from(token), |n: u32| n.into());
        let pairs = biases.iter().map(|(name, bias)| json!([token(name), bias]));
        set(&mut body, "logit_bias", pairs.collect::<Vec<_>>());
    }
    let model = &*call.endpoint.model;
    if !model.is_empty() {
        set(&mut body, "model", model);
    }
    body
}

pub(super) fn read(event: &Value) -> Option<Piece> {
    let text = event.get("content")?.as_str()?;
    let count = |name| event.get(name).and_then(Value::as_u64);
    let last = event.get("stop").and_then(Value::as_bool).unwrap_or(false);
    let finish = if last {
        finish_reason(event.get("stop_type").and_then(Value::as_str))
    } else {
        None
    };
    // A chosen field of an object is answered under its whole path, as one name.
    let cached_tokens =
        count("timings/cache_n").or(event.pointer("/timings/cache_n").and_then(Value::as_u64));
    let usage = Usage {
        prompt_tokens: if last {
            count("tokens_evaluated")
        } else {
            None
        },
        completion_tokens: if last {
            count("tokens_predicted")
        } else {
            None
        },
        cached_tokens,
    };
    Some(Piece {
        text: text.to_owned(),
        finish,
        usage,
        last,
    })
}
