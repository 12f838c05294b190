//! OpenAI-compatible `POST /chat/completions`, as OpenAI, llama.cpp, vLLM, OpenRouter and many
//! gateways speak it.
//!
//! Traps: a call comes in pieces that name it by `index`; some servers leave the index out or
//! number every call 0, some give no id, some send the whole call at once. The count of tokens
//! comes after the finish reason, in an event without choices. Newer models refuse `max_tokens`
//! and a temperature, older servers refuse `stream_options`: see [`Quirks`].

use std::borrow::Cow;

use serde_json::{Value, json};

use super::draft::Draft;
use super::{Message, TurnEnd, TurnRequest, TurnUsage, anthropic};
use crate::model::failure::Failure;

/// What a server was found to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Quirks {
    /// The limit is called `max_completion_tokens`.
    pub(super) new_limit: bool,
    pub(super) no_usage: bool,
    pub(super) no_temperature: bool,
}

impl Quirks {
    /// Learns from a refusal; `None` when it is about nothing we can leave out.
    pub(super) fn learn(self, said: &str) -> Option<Self> {
        let mut next = self;
        if said.contains("max_completion_tokens") {
            next.new_limit = true;
        } else if said.contains("stream_options") {
            next.no_usage = true;
        } else if said.contains("temperature") {
            next.no_temperature = true;
        }
        (next != self).then_some(next)
    }
}

pub(super) fn body(model: &str, request: &TurnRequest, quirks: Quirks) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    messages.extend(request.messages.iter().map(message));
    let limit = if quirks.new_limit {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        limit: request.max_tokens,
    });
    if !quirks.no_usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(temperature) = request.temperature.filter(|_| !quirks.no_temperature) {
        body["temperature"] = json!(temperature);
    }
    if !request.tools.is_empty() {
        body["tools"] = tools(request);
    }
    body
}

/// The tools in the shape that Ollama took over.
pub(super) fn tools(request: &TurnRequest) -> Value {
    let tool = |tool: &super::ToolSpec| {
        json!({
            "type": "function",
            "function": { "name": tool.name, "description": tool.description, "parameters": tool.schema },
        })
    };
    request.tools.iter().map(tool).collect()
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({ "role": "user", "content": text }),
        Message::ToolResult { call, text, .. } => {
            json!({ "role": "tool", "tool_call_id": call, "content": text })
        }
        Message::Assistant {
            text,
            thinking,
            calls,
        } => {
            let content = (!text.is_empty() || calls.is_empty()).then_some(text);
            let mut said = json!({ "role": "assistant", "content": content });
            if !calls.is_empty() {
                let calls = calls.iter().map(|call| {
                    json!({
                        "id": call.id,
                        "type": "function",
                        "function": { "name": call.name, "arguments": arguments(&call.arguments) },
                    })
                });
                said["tool_calls"] = calls.collect();
                // DeepSeek wants its thoughts back while it uses tools, and only then.
                let own = thinking.iter().filter(|block| block.signature.is_none());
                let thoughts: String = own.map(|block| block.text.as_str()).collect();
                if !thoughts.is_empty() {
                    said["reasoning_content"] = thoughts.into();
                }
            }
            said
        }
    }
}

/// Arguments as they were written; what is no object is quoted, because servers that write prompts
/// from it fail on malformed JSON.
fn arguments(json: &str) -> Cow<'_, str> {
    match anthropic::arguments(json) {
        object if object.get("malformed").is_some() => Cow::Owned(object.to_string()),
        _ => Cow::Borrowed(json),
    }
}

/// Reads one event.
///
/// # Errors
/// [`Failure::Garbage`] when it has neither choices nor usage.
pub(super) fn read(event: &Value, draft: &mut Draft) -> Result<(), Failure> {
    if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
        draft.usage = Some(usage_of(usage));
    }
    let Some(choice) = event.pointer("/choices/0") else {
        let known = event.get("choices").is_some() || event.get("usage").is_some();
        return if known {
            Ok(())
        } else {
            Err(Failure::Garbage(
                "an event has no text where its dialect puts it".to_owned(),
            ))
        };
    };
    // A server that does not stream puts the whole into `message`.
    let delta = choice.get("delta").or_else(|| choice.get("message"));
    if let Some(delta) = delta {
        let text = |name: &str| delta.get(name).and_then(Value::as_str);
        if let Some(thinking) = text("reasoning_content").or_else(|| text("reasoning")) {
            draft.thinking(thinking);
        }
        if let Some(text) = text("content").filter(|text| !text.is_empty()) {
            draft.text(text);
        }
        if let Some(refusal) = text("refusal").filter(|text| !text.is_empty()) {
            draft.text(refusal);
            draft.end = Some(TurnEnd::Refused);
        }
        for call in delta
            .get("tool_calls")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            read_call(call, draft)?;
        }
    }
    if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
        let end = match reason {
            "" => return Ok(()),
            "length" | "max_tokens" | "model_length" => TurnEnd::Length,
            "tool_calls" | "function_call" => TurnEnd::ToolCalls,
            "content_filter" => TurnEnd::Refused,
            _ => TurnEnd::Stop,
        };
        draft.end.get_or_insert(end);
    }
    Ok(())
}

fn read_call(call: &Value, draft: &mut Draft) -> Result<(), Failure> {
    let place = call.get("index").and_then(Value::as_u64);
    let id = call
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty());
    let name = call
        .pointer("/function/name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    let open = draft.open_call(place);
    let is_new = match (open, id) {
        (None, _) => true,
        (Some(open), Some(id)) => open != id && name.is_some(),
        // Without id and place, a name begins another call.
        (Some(_), None) => place.is_none() && name.is_some(),
    };
    if is_new {
        let Some(name) = name else {
            return Err(Failure::Garbage("a tool call has no name".to_owned()));
        };
        draft.begin_call(place.unwrap_or_default(), id, name)?;
    }
    match call.pointer("/function/arguments") {
        Some(Value::String(piece)) => draft.extend_call(piece),
        // Some servers write the arguments out instead of quoting them.
        Some(whole @ Value::Object(_)) => draft.extend_call(&whole.to_string()),
        Some(_) | None => {}
    }
    Ok(())
}

fn usage_of(usage: &Value) -> TurnUsage {
    let count = |place: &str| usage.pointer(place).and_then(Value::as_u64);
    TurnUsage {
        input: count("/prompt_tokens").unwrap_or_default(),
        output: count("/completion_tokens").unwrap_or_default(),
        cached: count("/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/prompt_cache_hit_tokens"))
            .unwrap_or_default(),
        written: 0,
        cost: usage.get("cost").and_then(Value::as_f64),
    }
}
