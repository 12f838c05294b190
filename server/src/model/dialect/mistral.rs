//! Mistral `POST /v1/fim/completions`: prompt and suffix go in as in `/completions`, answers come
//! in the shape of chat, and the seed has a name of its own.
//!
//! Mistral's server encodes the two texts itself: control tokens in them stay text.

use serde_json::{Value, json};

use super::{Call, Dialect, set};
use crate::model::fim::{ControlText, prefix_with_comments};

pub(super) fn body(call: &Call<'_>) -> Value {
    let request = call.request;
    let mut body = json!({
        "model": call.endpoint.model,
        "prompt": prefix_with_comments(request, &ControlText::none()),
        "suffix": request.suffix,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": true,
    });
    let stops = Dialect::stops(call, &[]);
    if !stops.is_empty() {
        set(&mut body, "stop", stops);
    }
    if let Some(seed) = request.seed {
        set(&mut body, "random_seed", seed);
    }
    body
}
