//! Streams as servers send them, one file each: what is passed on must be what the file expects,
//! however the bytes are split.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::draft::Draft;
use super::*;
use crate::model::dialect::{Said, said};
use crate::model::failure::Failure;
use crate::model::sse::{Decoder, Framing};

struct Case {
    name: String,
    api: TurnApi,
    stream: String,
    expected: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/turns");
    let mut cases = Vec::new();
    for (name, api) in [
        ("openai", TurnApi::OpenAi),
        ("anthropic", TurnApi::Anthropic),
        ("ollama", TurnApi::Ollama),
    ] {
        let mut files: Vec<PathBuf> = fs::read_dir(folder.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let (stream, expected) = text.split_once("=== expected\n").unwrap();
            cases.push(Case {
                name: file.display().to_string(),
                api,
                stream: stream.to_owned(),
                expected: expected.to_owned(),
            });
        }
    }
    cases
}

/// Reads a stream that comes in `pieces` and shows what is passed on; neighbouring pieces of text
/// are shown as one.
fn shown<'a>(api: TurnApi, pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let framing = match api {
        TurnApi::OpenAi | TurnApi::Anthropic => Framing::Events,
        TurnApi::Ollama => Framing::Lines,
    };
    let (mut decoder, mut draft) = (Decoder::new(framing), Draft::default());
    let mut events = Vec::new();
    for piece in pieces {
        decoder.feed(piece, &mut events).unwrap();
    }
    decoder.finish(&mut events).unwrap();
    let mut read = |draft: &mut Draft| -> Result<(), Failure> {
        for event in events.drain(..) {
            match (said(&event)?, api) {
                (Said::Nothing, _) => {}
                (Said::Done, _) => draft.last = true,
                (Said::Json(json), TurnApi::OpenAi) => openai::read(&json, draft)?,
                (Said::Json(json), TurnApi::Anthropic) => anthropic::read(&json, draft)?,
                (Said::Json(json), TurnApi::Ollama) => ollama::read(&json, draft)?,
            }
        }
        draft.finish()
    };
    let outcome = read(&mut draft);
    check_pieces(&draft.out);
    let mut lines: Vec<String> = draft.out.iter().filter_map(line).collect();
    if let Err(failure) = outcome {
        lines.push(format!("failed {failure:?}"));
    }
    lines.join("\n") + "\n"
}

/// `None` for pieces of calls, which [`check_pieces`] looks at.
fn line(event: &TurnEvent) -> Option<String> {
    Some(match event {
        TurnEvent::Calling { .. } => return None,
        TurnEvent::Text(text) => format!("text {text:?}"),
        TurnEvent::Thinking(text) => format!("thinking {text:?}"),
        TurnEvent::Thought(Thinking {
            hidden: Some(hidden),
            ..
        }) => format!("thought hidden {hidden}"),
        TurnEvent::Thought(Thinking {
            text, signature, ..
        }) => match signature {
            Some(signature) => format!("thought {text:?} signed {signature}"),
            None => format!("thought {text:?}"),
        },
        TurnEvent::Call(call) => {
            let id = if call.id.starts_with("call_") && call.id.len() == 37 {
                "made-up"
            } else {
                &call.id
            };
            format!("call {id} {} {}", call.name, call.arguments)
        }
        TurnEvent::Usage(usage) => {
            let cost = usage
                .cost
                .map_or(String::new(), |cost| format!(" cost {cost}"));
            format!(
                "usage in {} out {} cached {} written {}{cost}",
                usage.input, usage.output, usage.cached, usage.written
            )
        }
        TurnEvent::Retry { why, .. } => format!("retry {why}"),
        TurnEvent::Fallback { model, .. } => format!("fallback {model}"),
        TurnEvent::End(end) => format!("end {end:?}"),
    })
}

/// Checks that the pieces of each call that became whole are that call's arguments.
fn check_pieces(events: &[TurnEvent]) {
    let mut n_calls = 0;
    let mut pieces: Vec<String> = Vec::new();
    for event in events {
        match event {
            TurnEvent::Calling { nth, piece, .. } => {
                pieces.resize(pieces.len().max(*nth), String::new());
                pieces[nth - 1].push_str(piece);
            }
            TurnEvent::Call(call) => {
                let piece = pieces.get(n_calls).map_or("", String::as_str);
                n_calls += 1;
                let is_none = piece.trim().is_empty() && call.arguments == "{}";
                assert!(is_none || piece == call.arguments, "{piece:?} of {call:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn every_stream_is_read_as_its_case_says() {
    let cases = cases();
    assert!(cases.len() >= 15);
    for case in cases {
        let whole = shown(case.api, std::iter::once(case.stream.as_bytes()));
        assert_eq!(whole, case.expected, "{}", case.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_a_stream_is_split_it_says_the_same(nth in any::<prop::sample::Index>(), size in 1_usize..200) {
        let cases = cases();
        let case = nth.get(&cases);
        prop_assert_eq!(shown(case.api, case.stream.as_bytes().chunks(size)), case.expected.as_str());
    }

    #[test]
    fn no_json_makes_a_reader_panic(text in "[ -~]{0,60}", field in "(choices|type|message|delta|usage|index)") {
        for value in [json!(text), json!([text]), json!({ &*field: text }), json!({ &*field: [{ "delta": { "tool_calls": [text] } }] })] {
            let event = json!({ &*field: value });
            let mut draft = Draft::default();
            let _ = openai::read(&event, &mut draft);
            let _ = anthropic::read(&event, &mut draft);
            let _ = ollama::read(&event, &mut draft);
            let _ = draft.finish();
        }
    }
}

fn conversation() -> TurnRequest {
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        name: "list".to_owned(),
        arguments: arguments.to_owned(),
    };
    let result = |id: &str, failed| Message::ToolResult {
        call: id.to_owned(),
        text: "a.rs".to_owned(),
        failed,
    };
    let signed = Thinking {
        text: "Hm.".to_owned(),
        signature: Some("sig".to_owned()),
        hidden: None,
    };
    TurnRequest {
        system: "You help.".to_owned(),
        messages: vec![
            Message::User {
                text: "What is here?".to_owned(),
            },
            Message::Assistant {
                text: String::new(),
                thinking: vec![signed],
                calls: vec![call("1", r#"{"path":"."}"#), call("2", "{oops")],
            },
            result("1", false),
            result("2", true),
            Message::User {
                text: "And above?".to_owned(),
            },
        ],
        tools: vec![ToolSpec {
            name: "list".to_owned(),
            description: "Lists files.".to_owned(),
            schema: json!({ "type": "object" }),
        }],
        max_tokens: 4096,
        temperature: Some(0.5),
    }
}

#[test]
fn a_conversation_is_written_as_each_dialect_wants_it() {
    let request = conversation();
    let messages = |body: &Value| serde_json::to_string_pretty(&body["messages"]).unwrap();
    let anthropic = anthropic::body("m", &request, None);
    insta::assert_snapshot!("anthropic", messages(&anthropic));
    insta::assert_snapshot!(
        "openai",
        messages(&openai::body("m", &request, openai::Quirks::default()))
    );
    insta::assert_snapshot!("ollama", messages(&ollama::body("m", &request, 8192, None)));
}

#[test]
fn thinking_leaves_room_for_the_answer_and_no_temperature() {
    let thinks = |tokens| anthropic::body("m", &conversation(), tokens);
    assert_eq!(thinks(Some(2000))["thinking"]["budget_tokens"], 2000);
    assert_eq!(thinks(Some(2000))["temperature"], Value::Null);
    assert_eq!(thinks(Some(100_000))["thinking"]["budget_tokens"], 3072);
    assert_eq!(thinks(Some(10))["thinking"], Value::Null);
    assert_eq!(thinks(None)["temperature"], 0.5);
}

#[test]
fn what_a_server_refuses_is_left_out_and_nothing_else() {
    let learn = |quirks: openai::Quirks, said| quirks.learn(said);
    let none = openai::Quirks::default();
    let limit = learn(
        none,
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
    );
    let body = openai::body("m", &conversation(), limit.unwrap());
    assert_eq!(
        (&body["max_completion_tokens"], &body["max_tokens"]),
        (&json!(4096), &Value::Null)
    );
    let both = learn(
        limit.unwrap(),
        "Unsupported value: 'temperature' does not support 0.5",
    )
    .unwrap();
    assert_eq!(
        openai::body("m", &conversation(), both)["temperature"],
        Value::Null
    );
    assert_eq!(
        learn(both, "'temperature' again"),
        None,
        "asking again would not end"
    );
    assert_eq!(
        learn(none, "messages: at least one message is required"),
        None
    );
}
