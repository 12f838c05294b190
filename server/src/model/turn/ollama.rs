//! Ollama `POST /api/chat`. Answers are JSON lines.
//!
//! Traps: without `num_ctx` a prompt longer than a few thousand tokens is cut at its beginning
//! without a word; calls come whole, without ids, their arguments as objects; results name their
//! tool, not their call; the end says "stop" although there are calls.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::anthropic::arguments;
use super::draft::Draft;
use super::{Message, TurnEnd, TurnRequest, TurnUsage, openai};
use crate::model::failure::Failure;

/// Keeps the model loaded between turns; Ollama's own default is five minutes.
const KEEP_LOADED: &str = "30m";

pub(super) fn body(
    model: &str,
    request: &TurnRequest,
    context: u32,
    thinking: Option<u32>,
) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    let mut names: HashMap<&str, &str> = HashMap::new();
    for message in &request.messages {
        messages.push(match message {
            Message::User { text } => json!({ "role": "user", "content": text }),
            Message::ToolResult { call, text, .. } => {
                let name = names.get(call.as_str()).copied().unwrap_or_default();
                json!({ "role": "tool", "content": text, "tool_name": name })
            }
            Message::Assistant {
                text,
                thinking,
                calls,
            } => {
                let mut said = json!({ "role": "assistant", "content": text });
                let thoughts: String = thinking.iter().map(|block| block.text.as_str()).collect();
                if !thoughts.is_empty() && !calls.is_empty() {
                    said["thinking"] = thoughts.into();
                }
                if !calls.is_empty() {
                    let call = |call: &super::ToolCall| {
                        json!({ "function": { "name": call.name, "arguments": arguments(&call.arguments) } })
                    };
                    said["tool_calls"] = calls.iter().map(call).collect();
                    names.extend(calls.iter().map(|call| (&*call.id, &*call.name)));
                }
                said
            }
        });
    }
    let mut options = json!({ "num_predict": request.max_tokens, "num_ctx": context });
    if let Some(temperature) = request.temperature {
        options["temperature"] = json!(temperature);
    }
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "keep_alive": KEEP_LOADED,
        "options": options,
    });
    if let Some(tokens) = thinking {
        body["think"] = (tokens > 0).into();
    }
    if !request.tools.is_empty() {
        body["tools"] = openai::tools(request);
    }
    body
}

/// Reads one line.
///
/// # Errors
/// [`Failure::Garbage`] when it is of no known shape.
pub(super) fn read(event: &Value, draft: &mut Draft) -> Result<(), Failure> {
    let Some(message) = event.get("message") else {
        return Err(Failure::Garbage(
            "an event has no text where its dialect puts it".to_owned(),
        ));
    };
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    draft.thinking(text("thinking").unwrap_or_default());
    if let Some(text) = text("content").filter(|text| !text.is_empty()) {
        draft.text(text);
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for call in calls.into_iter().flatten() {
        let name = call.pointer("/function/name").and_then(Value::as_str);
        let id = call.get("id").and_then(Value::as_str);
        draft.begin_call(0, id, name.unwrap_or_default())?;
        match call.pointer("/function/arguments") {
            Some(Value::String(quoted)) => draft.extend_call(quoted),
            Some(arguments) => draft.extend_call(&arguments.to_string()),
            None => {}
        }
        draft.end_call();
    }
    if event.get("done").and_then(Value::as_bool) == Some(true) {
        let count = |name: &str| event.get(name).and_then(Value::as_u64);
        draft.usage = count("eval_count").map(|output| TurnUsage {
            input: count("prompt_eval_count").unwrap_or_default(),
            output,
            ..TurnUsage::default()
        });
        let reason = event.get("done_reason").and_then(Value::as_str);
        draft.end = Some(match reason {
            Some("length") => TurnEnd::Length,
            _ => TurnEnd::Stop,
        });
        draft.last = true;
    }
    Ok(())
}
