//! Arguments of edit tools, as JSON: one call, a list of calls, or several texts in a row.
//!
//! Keys are those of the tools models were trained on: `old_string`/`new_string`/`replace_all`,
//! `old_str`/`new_str`/`file_text`, `edits` lists, line ranges, whole contents, and a patch or diff
//! in a string. Calls that are no edits are passed over.

use serde_json::{Map, Value};

use super::{AnswerLine, Edit, Format, Op};
use crate::edit::parse::fence::Fence;
use crate::edit::{Kind, Refusal};

const PATH: &[&str] = &[
    "path",
    "file_path",
    "filePath",
    "filename",
    "file",
    "target_file",
    "relative_path",
];
const OLD: &[&str] = &[
    "old_string",
    "oldString",
    "old_str",
    "old_text",
    "search",
    "find",
];
const NEW: &[&str] = &[
    "new_string",
    "newString",
    "new_str",
    "new_text",
    "replace",
    "replacement",
];
const ALL: &[&str] = &["replace_all", "replaceAll", "allow_multiple"];
const CONTENT: &[&str] = &["content", "contents", "file_text"];
const WRAPPERS: &[&str] = &["input", "arguments", "parameters", "args", "function"];
const PATCH: &[&str] = &["patch", "diff", "input"];
/// How deep calls may be wrapped: `{"function": {"arguments": "{…}"}}`.
const MAX_DEPTH: usize = 5;

/// Whether an answer with these first lines is JSON rather than text.
pub(super) fn may_be_json(lines: &[String]) -> bool {
    let first = lines.iter().map(|l| l.trim()).find(|l| !l.is_empty());
    first.is_some_and(|l| {
        matches!(l, "{" | "[" | "[{") || l.starts_with("{\"") || l.starts_with("[{\"")
    })
}

/// Reads an answer that is JSON, or that has JSON in fences and nothing else that is an edit.
/// `None` when no call in it is an edit.
pub(super) fn read(lines: &[&str]) -> Result<Option<Vec<Edit>>, Refusal> {
    let mut edits = Vec::new();
    let is_json = lines
        .iter()
        .find(|l| !l.trim().is_empty())
        .is_some_and(|l| {
            let l = l.trim();
            l == "[" || l.starts_with('{') || l.starts_with("[{")
        });
    if is_json {
        read_values(&lines.join("\n"), 1, &mut edits)?;
    } else {
        for (number, text) in fenced_json(lines) {
            read_values(&text, number, &mut edits)?;
        }
    }
    Ok((!edits.is_empty()).then_some(edits))
}

fn read_values(text: &str, line: usize, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
    let values: Vec<Value> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|why| {
            if why.is_eof() {
                Refusal::new(Kind::TruncatedOutput, "the answer ends inside a tool call")
            } else {
                Refusal::new(
                    Kind::Malformed,
                    format!("the tool call is not valid JSON: {why}"),
                )
            }
        })?;
    values
        .iter()
        .try_for_each(|value| read_value(value, None, line, 0, edits))
}

fn read_value(
    value: &Value,
    path: Option<&str>,
    line: usize,
    depth: usize,
    edits: &mut Vec<Edit>,
) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| read_value(item, path, line, depth + 1, edits)),
        Value::Object(call) => read_call(call, path, line, depth, edits),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => {
                read_value(&inner, path, line, depth + 1, edits)
            }
            _ => read_patch(text, edits),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn read_call(
    call: &Map<String, Value>,
    path: Option<&str>,
    line: usize,
    depth: usize,
    edits: &mut Vec<Edit>,
) -> Result<(), Refusal> {
    let path = text(call, PATH).or(path);
    let mut push = |op| {
        edits.push(Edit {
            path: path.map(str::to_owned),
            line,
            op,
        });
    };
    if let Some(Value::Array(items)) = call.get("edits") {
        return items
            .iter()
            .try_for_each(|item| read_value(item, path, line, depth + 1, edits));
    }
    let lines = (
        number(call, &["start_line", "startLine"]),
        number(call, &["end_line", "endLine"]),
    );
    let command = text(call, &["command"]);
    if let Some(old) = text(call, OLD) {
        let Some(new) = text(call, NEW) else {
            return Err(Refusal::new(
                Kind::Malformed,
                "the tool call has old text but no new text",
            ));
        };
        if number(call, &["expected_replacements"]).is_some_and(|n| n != 1) {
            return Err(Refusal::new(
                Kind::Malformed,
                "`expected_replacements` must be 1",
            ));
        }
        let all = ALL
            .iter()
            .any(|key| call.get(*key) == Some(&Value::Bool(true)));
        push(match old {
            "" => Op::Create {
                text: new.to_owned(),
                executable: false,
            },
            _ => Op::Text {
                old: old.to_owned(),
                new: new.to_owned(),
                all,
            },
        });
    } else if let (Some(first), Some(last)) = lines
        && let Some(new) = text(call, NEW).or_else(|| text(call, CONTENT))
    {
        push(Op::Range {
            first,
            last,
            new: new.to_owned(),
        });
    } else if command == Some("insert")
        && let Some(after) = number(call, &["insert_line"])
        && let Some(new) = text(call, &["insert_text", "new_str"])
    {
        push(Op::Range {
            first: after.saturating_add(1),
            last: after,
            new: new.to_owned(),
        });
    } else if let Some(content) = text(call, CONTENT)
        && path.is_some()
        && depth <= MAX_DEPTH
    {
        push(match command {
            Some("create") => Op::Create {
                text: content.to_owned(),
                executable: false,
            },
            _ => Op::Write {
                text: content.to_owned(),
                fenced: false,
            },
        });
    } else if let Some(patch) = text(call, PATCH).filter(|p| looks_like_patch(p)) {
        read_patch(patch, edits)?;
    } else {
        for wrapper in WRAPPERS {
            if let Some(inner) = call.get(*wrapper) {
                read_value(inner, path, line, depth + 1, edits)?;
            }
        }
        if let Some(calls @ Value::Array(_)) =
            call.get("tool_calls").or_else(|| call.get("content"))
        {
            read_value(calls, path, line, depth + 1, edits)?;
        }
    }
    Ok(())
}

fn looks_like_patch(text: &str) -> bool {
    text.lines().any(|line| {
        line.starts_with("*** Begin Patch")
            || line.starts_with("diff --git ")
            || line.starts_with("+++ ")
    })
}

fn read_patch(text: &str, edits: &mut Vec<Edit>) -> Result<(), Refusal> {
    if looks_like_patch(text) {
        let mut parser = super::Parser::new(if text.contains("*** Begin Patch") {
            Format::ApplyPatch
        } else {
            Format::UnifiedDiff
        });
        parser.push(text);
        edits.extend(parser.finish()?.edits);
    }
    Ok(())
}

fn text<'a>(call: &'a Map<String, Value>, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| call.get(*key)?.as_str())
}

fn number(call: &Map<String, Value>, keys: &[&str]) -> Option<usize> {
    let value = keys.iter().find_map(|key| call.get(*key))?;
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// The texts of `json` fences that hold a call, and the lines they begin on.
fn fenced_json(lines: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(Fence, usize)> = None;
    for (idx, &text) in lines.iter().enumerate() {
        let line = AnswerLine {
            text,
            number: idx + 1,
            ended: true,
        };
        match &open {
            None => open = Fence::open(line.text).map(|fence| (fence, line.number)),
            Some((fence, opener)) if fence.is_closed_by(line.text) => {
                let body = lines[*opener..idx].join("\n");
                let names_a_path = PATH.iter().any(|key| body.contains(&format!("\"{key}\"")));
                let has_old = OLD.iter().any(|key| body.contains(&format!("\"{key}\"")));
                if matches!(fence.info.as_str(), "json" | "tool_call" | "jsonl")
                    && names_a_path
                    && has_old
                {
                    found.push((*opener, body));
                }
                open = None;
            }
            Some(_) => {}
        }
    }
    found
}
