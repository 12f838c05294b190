//! Anthropic `POST /v1/messages`.
//!
//! Traps: roles must alternate, so results of tools and what the user adds share one message;
//! empty texts are refused; thinking must come back unchanged, with its signature, in the same
//! message as the calls it led to. A cache is used up to the marks (`cache_control`) of an earlier
//! request: the system text, which stands after the tools, and the last two messages are marked.

use serde_json::{Value, json};

use super::draft::Draft;
use super::{Message, TurnEnd, TurnRequest, TurnUsage};
use crate::model::failure::Failure;

/// The version of the API, sent as a header.
pub(super) const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// Fewest tokens a model may be told to think.
const LEAST_THINKING: u32 = 1024;

pub(super) fn body(model: &str, request: &TurnRequest, thinking: Option<u32>) -> Value {
    let mut messages = messages(&request.messages);
    let marked = messages.iter_mut().rev().filter(|m| m["role"] == "user");
    for message in marked.take(2) {
        if let Some(last) = message["content"]
            .as_array_mut()
            .and_then(|blocks| blocks.last_mut())
        {
            last["cache_control"] = json!({ "type": "ephemeral" });
        }
    }
    let mut body = json!({
        "model": model,
        "max_tokens": request.max_tokens,
        "stream": true,
        "messages": messages,
    });
    if !request.system.is_empty() {
        body["system"] = json!([{
            "type": "text", "text": request.system, "cache_control": { "type": "ephemeral" },
        }]);
    }
    if !request.tools.is_empty() {
        let tool = |tool: &super::ToolSpec| {
            json!({
                "name": tool.name, "description": tool.description, "input_schema": tool.schema,
            })
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    let room = request.max_tokens.saturating_sub(LEAST_THINKING);
    match thinking.map(|tokens| tokens.min(room)) {
        Some(tokens) if tokens >= LEAST_THINKING => {
            // A temperature is refused beside it.
            body["thinking"] = json!({ "type": "enabled", "budget_tokens": tokens });
        }
        Some(_) | None => {
            if let Some(temperature) = request.temperature {
                body["temperature"] = json!(temperature);
            }
        }
    }
    body
}

fn messages(messages: &[Message]) -> Vec<Value> {
    let mut written: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message {
            Message::User { text } => ("user", text_block(text).into_iter().collect()),
            Message::ToolResult { call, text, failed } => {
                let mut result = json!({
                    "type": "tool_result", "tool_use_id": call, "is_error": failed,
                });
                result["content"] = text_block(text).into_iter().collect();
                ("user", vec![result])
            }
            Message::Assistant {
                text,
                thinking,
                calls,
            } => {
                let mut blocks: Vec<Value> = thinking.iter().filter_map(thought).collect();
                blocks.extend(text_block(text));
                blocks.extend(calls.iter().map(|call| {
                    json!({
                        "type": "tool_use", "id": call.id, "name": call.name,
                        "input": arguments(&call.arguments),
                    })
                }));
                ("assistant", blocks)
            }
        };
        match written.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, known)) if *last == role => known.extend(blocks),
            _ => written.push((role, blocks)),
        }
    }
    let message = |(role, content)| json!({ "role": role, "content": Value::Array(content) });
    written.into_iter().map(message).collect()
}

fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "type": "text", "text": text }))
}

fn thought(block: &super::Thinking) -> Option<Value> {
    if let Some(hidden) = &block.hidden {
        return Some(json!({ "type": "redacted_thinking", "data": hidden }));
    }
    // Without a signature it is another server's, which this one would refuse.
    let signature = block.signature.as_ref()?;
    Some(json!({ "type": "thinking", "thinking": block.text, "signature": signature }))
}

/// Arguments as an object, which the server insists on; what is none is quoted.
pub(super) fn arguments(json: &str) -> Value {
    match serde_json::from_str(json) {
        Ok(object @ Value::Object(_)) => object,
        _ => json!({ "malformed": json }),
    }
}

/// Reads one event.
///
/// # Errors
/// [`Failure::Garbage`] when it is of no known shape.
pub(super) fn read(event: &Value, draft: &mut Draft) -> Result<(), Failure> {
    let text = |place: &str| event.pointer(place).and_then(Value::as_str);
    let place = event.get("index").and_then(Value::as_u64);
    match text("/type") {
        Some("message_start") => {
            let usage = event.pointer("/message/usage");
            draft.usage = usage.map(|usage| usage_of(usage, TurnUsage::default()));
        }
        Some("content_block_start") => match text("/content_block/type") {
            Some("tool_use") => {
                let name = text("/content_block/name").unwrap_or_default();
                let id = text("/content_block/id");
                draft.begin_call(place.unwrap_or_default(), id, name)?;
                // Complete already where the server does not stream arguments.
                if let Some(input) = event.pointer("/content_block/input")
                    && input.as_object().is_some_and(|input| !input.is_empty())
                {
                    draft.extend_call(&input.to_string());
                }
            }
            Some("redacted_thinking") => draft.end_thought(text("/content_block/data")),
            Some("thinking") => draft.thinking(text("/content_block/thinking").unwrap_or_default()),
            Some("text") => draft.text(text("/content_block/text").unwrap_or_default()),
            _ => {}
        },
        Some("content_block_delta") => match text("/delta/type") {
            Some("text_delta") => draft.text(text("/delta/text").unwrap_or_default()),
            Some("thinking_delta") => draft.thinking(text("/delta/thinking").unwrap_or_default()),
            Some("signature_delta") => draft.sign(text("/delta/signature").unwrap_or_default()),
            Some("input_json_delta") => {
                draft.extend_call(text("/delta/partial_json").unwrap_or_default());
            }
            _ => {}
        },
        // Whether the last call is whole is told by the reason that comes after it.
        Some("content_block_stop") => draft.end_thought(None),
        Some("message_delta") => {
            if let Some(usage) = event.get("usage") {
                draft.usage = Some(usage_of(usage, draft.usage.unwrap_or_default()));
            }
            if let Some(reason) = text("/delta/stop_reason") {
                draft.end = Some(end(reason));
            }
        }
        Some("message_stop") => draft.last = true,
        Some("message") => whole(event, draft)?,
        // `ping`, and what later versions add.
        Some(_) => {}
        None => {
            return Err(Failure::Garbage(
                "an event has no text where its dialect puts it".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Reads the answer of a server that does not stream.
fn whole(message: &Value, draft: &mut Draft) -> Result<(), Failure> {
    let blocks = message.get("content").and_then(Value::as_array);
    for (place, block) in (0..).zip(blocks.into_iter().flatten()) {
        let begin =
            json!({ "type": "content_block_start", "index": place, "content_block": block });
        read(&begin, draft)?;
        if let Some(signature) = block.get("signature").and_then(Value::as_str) {
            draft.sign(signature);
        }
        draft.end_thought(None);
    }
    let usage = message.get("usage");
    draft.usage = usage.map(|usage| usage_of(usage, TurnUsage::default()));
    draft.end = message.get("stop_reason").and_then(Value::as_str).map(end);
    draft.last = true;
    Ok(())
}

fn end(reason: &str) -> TurnEnd {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => TurnEnd::Length,
        "tool_use" => TurnEnd::ToolCalls,
        "refusal" => TurnEnd::Refused,
        _ => TurnEnd::Stop,
    }
}

/// Counts are repeated and grow; what an event leaves out stays as it was `before`.
fn usage_of(usage: &Value, before: TurnUsage) -> TurnUsage {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64);
    let cached = count("cache_read_input_tokens").unwrap_or(before.cached);
    let written = count("cache_creation_input_tokens").unwrap_or(before.written);
    let fresh = count("input_tokens")
        .unwrap_or_else(|| before.input.saturating_sub(before.cached + before.written));
    TurnUsage {
        input: fresh.saturating_add(cached).saturating_add(written),
        output: count("output_tokens").unwrap_or(before.output),
        cached,
        written,
        cost: before.cost,
    }
}
