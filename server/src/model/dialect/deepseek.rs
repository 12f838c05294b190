//! DeepSeek `POST /beta/completions`: the OpenAI shape with a `suffix` that works, answers of at
//! most 4,096 tokens, and neither `seed` nor `logit_bias`.

use serde_json::Value;

use super::{Call, completions, set};

/// DeepSeek's limit on a completion.
const MOST_TOKENS: u32 = 4096;

pub(super) fn body(call: &Call<'_>) -> Value {
    let mut body = completions::with_suffix(call);
    set(
        &mut body,
        "max_tokens",
        call.request.max_tokens.min(MOST_TOKENS),
    );
    if let Some(fields) = body.as_object_mut() {
        fields.remove("seed");
        fields.remove("logit_bias");
    }
    body
}
