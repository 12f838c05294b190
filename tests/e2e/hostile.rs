//! Whatever a client sends: a clear answer, the server alive, the next request served.

use serde_json::{Value, json};

use crate::world::{END, Edits, TYPED, WHOLE, World, inline_params, suggested};

/// The server still gives ghost text.
fn serves(client: &mut pairwright::driver::Client, world: &World) {
    let uri = world.uri("probe.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
    let document = json!({ "textDocument": { "uri": uri } });
    client.notify("textDocument/didClose", &document).unwrap();
}

fn frame(body: &str) -> Vec<u8> {
    format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn unreadable_messages_are_complained_of_and_the_next_one_is_served() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let cases: &[(&str, Vec<u8>, i64)] = &[
        ("no JSON", frame("{\"jsonrpc\": "), -32700),
        (
            "bytes that are no UTF-8",
            [frame("{\"jsonrpc\":\"2.0\",\"method\":\"").as_slice(), &[]].concat(),
            -32700,
        ),
        ("an array", frame("[]"), -32600),
        ("a number", frame("17"), -32600),
        (
            "another version",
            frame(r#"{"jsonrpc":"1.0","method":"x"}"#),
            -32600,
        ),
        (
            "a length that is no number",
            b"Content-Length: many\r\n\r\n".to_vec(),
            -32700,
        ),
        ("deep nesting", frame(&"[".repeat(100_000)), -32700),
    ];
    for (what, bytes, code) in cases {
        client.send_bytes(bytes).unwrap();
        let fault = client.fault().unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(i64::from(fault.code), *code, "{what}: {fault:?}");
        assert!(fault.message.len() > 10, "{what}: {fault:?}");
    }
    serves(&mut client, &world);
}

#[test]
fn wrong_requests_get_an_error_that_names_the_cause() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("never-opened.py");
    let cases = [
        (
            "textDocument/nonsense",
            json!({}),
            -32601,
            "textDocument/nonsense",
        ),
        (
            "textDocument/inlineCompletion",
            json!({}),
            -32602,
            "textDocument",
        ),
        ("textDocument/inlineCompletion", json!([1, 2]), -32602, ""),
        (
            "textDocument/inlineCompletion",
            json!({ "textDocument": { "uri": 7 } }),
            -32602,
            "expected a string",
        ),
        (
            "textDocument/inlineCompletion",
            inline_params(&uri, (0, 0)),
            -32602,
            "not open",
        ),
        (
            "textDocument/completion",
            json!({ "position": "here" }),
            -32602,
            "",
        ),
        (
            "workspace/executeCommand",
            json!({ "command": "rm" }),
            -32602,
            "rm is not a command",
        ),
        ("pairwright/context/explain", json!(null), -32602, ""),
    ];
    for (method, params, code, names) in cases {
        let answer = client.request(method, &params).unwrap();
        let error = answer.result.unwrap_err();
        assert_eq!(i64::from(error.code), code, "{method} {params}: {error:?}");
        assert!(
            format!("{error:?}").contains(names),
            "{method} {params}: {error:?}"
        );
    }
    serves(&mut client, &world);
}

#[test]
fn notifications_of_the_wrong_shape_are_passed_over() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("a.py");
    let unknown = json!({ "textDocument": { "uri": world.uri("unknown.py"), "version": 3 }, "contentChanges": [{ "text": "x" }] });
    for (method, params) in [
        ("textDocument/didOpen", json!({ "textDocument": 3 })),
        (
            "textDocument/didChange",
            json!({ "textDocument": { "uri": uri } }),
        ),
        ("textDocument/didChange", unknown),
        (
            "textDocument/didClose",
            json!({ "textDocument": { "uri": world.uri("unknown.py") } }),
        ),
        ("textDocument/didFocus", json!("there")),
        (
            "workspace/didChangeConfiguration",
            json!({ "settings": [1] }),
        ),
        ("workspace/didChangeWatchedFiles", json!({ "changes": {} })),
        ("workspace/didChangeWorkspaceFolders", json!({})),
        ("$/cancelRequest", json!({ "id": { "a": 1 } })),
        ("$/unheardOf", Value::Null),
        ("unheardOf", Value::Null),
    ] {
        client.notify(method, &params).unwrap();
    }
    serves(&mut client, &world);
}

#[test]
fn edits_out_of_range_and_versions_going_back_leave_a_document_that_works() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", &format!("# 😀\n{TYPED}"));
    // Behind the end of the line, behind the last line, inside a surrogate pair, start behind end.
    client.type_at(&uri, 7, (0, 900), "!");
    client.type_at(&uri, 6, (4_000_000_000, 4_000_000_000), "");
    client.type_at(&uri, 5, (0, 3), "");
    let at = |line: u32, character: u32| json!({ "line": line, "character": character });
    let backwards = json!({ "range": { "start": at(1, 5), "end": at(0, 0) }, "text": "" });
    let params =
        json!({ "textDocument": { "uri": uri, "version": 2 }, "contentChanges": [backwards] });
    client.notify("textDocument/didChange", &params).unwrap();
    for place in [(0, 3), (0, 4_000_000_000), (77, 0)] {
        client.inline(&uri, place).result.unwrap();
    }
    client.replace(&uri, 3, TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
}

#[test]
fn lone_surrogates_crlf_and_untitled_buffers_are_ordinary() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = "untitled:Untitled-1";
    let body = format!(
        r#"{{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{{"textDocument":{{"uri":"{uri}","languageId":"python","version":1,"text":"half = '\ud83d'\r\n{TYPED}"}}}}}}"#
    );
    client.send_bytes(&frame(&body)).unwrap();
    let answer = client.inline(uri, (1, END.1));
    assert!(
        suggested(&answer)
            .unwrap()
            .starts_with("    result = multiply(PI")
    );
}

#[test]
fn a_huge_document_and_a_binary_one_are_survived_in_silence() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("huge.py");
    let huge = format!("{TYPED}\n").repeat((50 << 20) / (TYPED.len() + 1));
    client.open(&uri, "python", &huge);
    client.inline(&uri, (1_000_000, END.1)).result.unwrap();
    let binary: String = (0..=255_u8).cycle().take(200_000).map(char::from).collect();
    let blob = world.uri("blob.bin");
    client.open(&blob, "plaintext", &binary);
    client.inline(&blob, (3, 10)).result.unwrap();
    serves(&mut client, &world);
}
