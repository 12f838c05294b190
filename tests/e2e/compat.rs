//! Clients written for another completion server work with this one: its documented extras, and
//! the requests of before ghost text was part of the protocol.

use std::time::Instant;

use pairwright::driver::{Client, PATIENCE};
use serde_json::{Value, json};

use crate::world::{Edits, TYPED, WHOLE, World, inline_params};

/// A session in which a file is open and its beginning typed; returns its URI.
fn typing(world: &World, client: &mut Client) -> String {
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", &format!("{TYPED}\n"));
    uri
}

/// Returns a suggestion, which must go on as the workspace does; how far is the engine's choice.
#[track_caller]
fn suggested(text: &Value) -> &str {
    let text = text.as_str().unwrap();
    assert!(
        WHOLE.starts_with(text) && text.len() > TYPED.len(),
        "{text}"
    );
    text
}

fn result(client: &mut Client, method: &str, params: &Value) -> Value {
    client.request(method, params).unwrap().result.unwrap()
}

fn metrics(client: &mut Client) -> Value {
    result(client, "pairwright/metrics/get", &json!({}))
}

#[test]
fn an_account_is_never_missing() {
    let world = World::knowing();
    let mut client = world.session();
    let cases = [
        ("checkStatus", json!({ "status": "OK", "user": "local" })),
        (
            "signIn",
            json!({ "status": "AlreadySignedIn", "user": "local" }),
        ),
        (
            "signInInitiate",
            json!({ "status": "AlreadySignedIn", "user": "local" }),
        ),
        ("signOut", json!({ "status": "OK" })),
    ];
    for (method, expected) in cases {
        for params in [
            json!({}),
            json!([]),
            Value::Null,
            json!({ "options": { "localChecksOnly": true } }),
        ] {
            assert_eq!(
                result(&mut client, method, &params),
                expected,
                "{method} {params}"
            );
        }
    }
    client
        .send(&json!({ "jsonrpc": "2.0", "id": "5e0c-no-params", "method": "checkStatus" }))
        .unwrap();
    let answer = client.answer("5e0c-no-params".to_owned()).unwrap();
    assert_eq!(answer.result.unwrap()["status"], "OK");
}

#[test]
fn the_legacy_requests_give_ghost_text_and_count_what_became_of_it() {
    let world = World::knowing();
    let mut client = world.session();
    let info = json!({
        "editorInfo": { "name": "Neovim", "version": "0.12.4" },
        "editorPluginInfo": { "name": "copilot.lua", "version": "1.43.0" },
    });
    assert_eq!(result(&mut client, "setEditorInfo", &info), "OK");
    let version = result(&mut client, "getVersion", &json!({}));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let uri = typing(&world, &mut client);
    client
        .wait_for(
            "statusNotification",
            |s| s["status"] == "Normal" && s["busy"] == false,
            Instant::now() + PATIENCE,
        )
        .unwrap();

    let position = json!({ "line": 0, "character": TYPED.len() });
    let doc = json!({
        "doc": {
            "uri": uri,
            "version": 1,
            "position": position,
            "path": "/ignored",
            "relativePath": "ignored",
            "languageId": "python",
            "insertSpaces": true,
            "tabSize": 4,
            "indentSize": 4,
        },
    });
    for method in ["getCompletions", "getCompletionsCycling"] {
        let answer = result(&mut client, method, &doc);
        let mut first = answer["completions"][0].clone();
        first["uuid"].take();
        let text = suggested(&first["text"]);
        let expected = json!({
            "uuid": null,
            "text": text,
            "displayText": &text[TYPED.len()..],
            "position": position,
            "range": { "start": { "line": 0, "character": 0 }, "end": position },
            "docVersion": 1,
        });
        assert_eq!(first, expected, "{method}");
    }

    let answer = result(&mut client, "getCompletions", &doc);
    let completion = &answer["completions"][0];
    let uuid = &completion["uuid"];
    let length = completion["text"].as_str().unwrap().len();
    let told = [
        ("notifyShown", json!({ "uuid": uuid })),
        (
            "notifyAccepted",
            json!({ "uuid": uuid, "acceptedLength": TYPED.len() + 3 }),
        ),
        (
            "notifyAccepted",
            json!({ "uuid": uuid, "acceptedLength": length }),
        ),
        ("notifyAccepted", json!({ "uuid": uuid })),
        ("notifyRejected", json!({ "uuids": ["no such", "99"] })),
    ];
    for (method, params) in told {
        assert_eq!(
            result(&mut client, method, &params),
            "OK",
            "{method} {params}"
        );
    }
    let counts = metrics(&mut client);
    assert_eq!(counts["shown"], 1, "{counts}");
    assert_eq!(counts["partiallyAccepted"], 0, "{counts}");
    assert_eq!(counts["accepted"], 1, "{counts}");
    assert_eq!(counts["acceptedCharacters"], length - TYPED.len());
    assert_eq!(counts["acceptRate"], 1.0, "{counts}");
    assert_eq!(counts["rejected"], 0, "{counts}");
}

#[test]
fn a_rejected_suggestion_counts_as_one_in_both_dialects() {
    for reject in ["notifyRejected", "pairwright.didRejectCompletion"] {
        let world = World::knowing();
        let mut client = world.session();
        let uri = typing(&world, &mut client);
        let answer = client.inline(&uri, (0, TYPED.len() as u32)).result.unwrap();
        let id = &answer["items"][0]["command"]["arguments"][0];
        if reject.contains('.') {
            let command = json!({ "command": reject, "arguments": [id] });
            result(&mut client, "workspace/executeCommand", &command);
        } else {
            result(&mut client, reject, &json!({ "uuids": [id] }));
        }
        assert_eq!(metrics(&mut client)["rejected"], 1, "{reject}");
    }
}

#[test]
fn a_question_about_a_version_that_is_gone_has_no_completions() {
    let world = World::knowing();
    let mut client = world.session();
    let uri = typing(&world, &mut client);
    let position = json!({ "line": 0, "character": TYPED.len() });
    let doc = json!({ "doc": { "uri": uri, "version": 7, "position": position } });
    let answer = result(&mut client, "getCompletions", &doc);
    assert_eq!(answer, json!({ "completions": [] }));
}

#[test]
fn a_panel_gets_its_items_at_once_or_before_the_answer_when_it_names_a_token() {
    let world = World::knowing();
    let mut client = world.session();
    let uri = typing(&world, &mut client);
    let mut params = json!({
        "textDocument": { "uri": uri, "version": 1 },
        "position": { "line": 0, "character": TYPED.len() },
    });
    let method = "textDocument/copilotPanelCompletion";
    let at_once = result(&mut client, method, &params);
    suggested(&at_once["items"][0]["insertText"]);

    params["partialResultToken"] = "panel 1".into();
    let at_last = result(&mut client, method, &params);
    assert_eq!(at_last, json!({ "items": [] }));
    let parts: Vec<_> = client
        .notices()
        .iter()
        .filter(|n| n.method == "$/progress" && n.params["token"] == "panel 1")
        .flat_map(|n| n.params["value"]["items"].as_array().unwrap().clone())
        .map(|item| item["insertText"].clone())
        .collect();
    let whole = at_once["items"].as_array().unwrap().iter();
    let whole: Vec<_> = whole.map(|item| item["insertText"].clone()).collect();
    assert_eq!(parts, whole);
}

#[test]
fn a_legacy_panel_gets_every_solution_and_the_end() {
    let world = World::knowing();
    let mut client = world.session();
    let uri = typing(&world, &mut client);
    let position = json!({ "line": 0, "character": TYPED.len() });
    let params =
        json!({ "doc": { "uri": uri, "version": 1, "position": position }, "panelId": "p7" });
    let answer = result(&mut client, "getPanelCompletions", &params);
    let done = client
        .wait_for("PanelSolutionsDone", |_| true, Instant::now() + PATIENCE)
        .unwrap();
    assert_eq!(done, json!({ "panelId": "p7", "status": "OK" }));
    let solutions: Vec<_> = client
        .notices()
        .iter()
        .filter(|n| n.method == "PanelSolution")
        .collect();
    assert_eq!(json!(solutions.len()), answer["solutionCountTarget"]);
    assert_eq!(solutions[0].params["panelId"], "p7");
    suggested(&solutions[0].params["completionText"]);
}

#[test]
fn foreign_accept_commands_are_obeyed_but_not_advertised() {
    let world = World::knowing();
    let mut client = world.server();
    let answer = client.initialize(&world.root()).unwrap().result.unwrap();
    let advertised = answer["capabilities"]["executeCommandProvider"]["commands"].to_string();
    assert!(!advertised.contains("copilot"), "{advertised}");
    let uri = typing(&world, &mut client);
    let answer = client.inline(&uri, (0, TYPED.len() as u32)).result.unwrap();
    let accept = json!({
        "command": "github.copilot.didAcceptCompletionItem",
        "arguments": answer["items"][0]["command"]["arguments"],
    });
    result(&mut client, "workspace/executeCommand", &accept);
    assert_eq!(metrics(&mut client)["accepted"], 1);
}

/// A client that keeps its text on screen until it is told otherwise must be told.
#[test]
fn where_there_is_nothing_to_suggest_the_answer_is_an_empty_list_not_null() {
    let world = World::new(&[]);
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("empty.py");
    client.open(&uri, "python", "zyx");
    let params = inline_params(&uri, (0, 3));
    let answer = result(&mut client, "textDocument/inlineCompletion", &params);
    assert_eq!(answer, json!({ "items": [] }));
}
