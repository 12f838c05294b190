//! Every recorded client is welcome: its own `initialize` opens a session that gives ghost text.

use std::fs;
use std::path::Path;
use std::time::Instant;

use pairwright::driver::PATIENCE;
use pairwright::session::document::uri_of;
use serde_json::{Value, json};

use crate::world::{Edits, TYPED_ELSEWHERE, World, suggested};

/// Before the `😀` a UTF-16 client counts two, a UTF-8 client four, a UTF-32 client one.
const LINE: &str = "    😀; result = multiply(";

fn recorded() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let clients = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    clients
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// A recorded client that also takes the server's own notifications, by which tests learn when it
/// is ready.
fn listening(mut params: Value) -> Value {
    params["capabilities"]["experimental"] = json!({ "pairwright": { "status": true } });
    params
}

/// Puts the workspace of this test in the place of the recorded one, wherever it is named.
fn moved_to(params: &Value, root: &Path) -> Value {
    let text = params.to_string();
    let text = text.replace("file:///home/user/project", &uri_of(root));
    let text = text.replace("/home/user/project", &root.to_string_lossy());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_recorded_client_gets_ghost_text_in_its_own_units() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 11);
    for (name, params) in recorded {
        let world = World::knowing();
        let mut client = world.server();
        let params = listening(moved_to(&params, &world.root()));
        let answer = client.initialize_with(&params);
        let result = answer
            .unwrap()
            .result
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        let capabilities = &result["capabilities"];
        assert!(
            !capabilities["inlineCompletionProvider"].is_null(),
            "{name}"
        );

        let encoding = capabilities["positionEncoding"].as_str().unwrap();
        let offered = &params["capabilities"]["general"]["positionEncodings"];
        match offered.as_array().and_then(|all| all.first()) {
            Some(first) => assert_eq!(encoding, first, "{name}"),
            None => assert_eq!(encoding, "utf-16", "{name}"),
        }
        let column = match encoding {
            "utf-8" => LINE.len(),
            "utf-32" => LINE.chars().count(),
            _ => LINE.encode_utf16().count(),
        } as u32;

        client.learnt();
        let uri = world.uri("third.py");
        client.open(
            &uri,
            "python",
            &format!(
                "def third(radius):
{LINE}
"
            ),
        );
        let answer = client.inline(&uri, (1, column));
        let text = suggested(&answer).unwrap_or_else(|| panic!("{name}: no ghost text"));
        assert!(
            text.starts_with(&format!("{LINE}PI, square")),
            "{name}: {text}"
        );
        assert_eq!(
            answer.result.unwrap()["items"][0]["range"]["end"]["character"],
            column
        );

        let menu = json!({
            "textDocument": { "uri": uri },
            "position": { "line": 1, "character": column },
            "context": { "triggerKind": 1 },
        });
        let menu = client.request("textDocument/completion", &menu).unwrap();
        let item = &menu.result.unwrap()["items"][0];
        let menu = item["textEdit"]["newText"].as_str().unwrap();
        assert!(menu.starts_with("PI, square"), "{name}: {menu}");
        assert_eq!(client.leave().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn what_another_program_writes_is_learnt_also_where_the_client_watches_no_files() {
    let mut recorded = recorded().into_iter();
    let (_, params) = recorded.find(|(name, _)| name == "neovim-0.12.4").unwrap();
    let watching = &params["capabilities"]["workspace"]["didChangeWatchedFiles"];
    assert_eq!(watching["dynamicRegistration"], false);
    let world = World::knowing();
    let mut client = world.server();
    let params = listening(moved_to(&params, &world.root()));
    client.initialize_with(&params).unwrap().result.unwrap();
    client.learnt();
    let uri = world.uri("third.py");
    let text = format!("def third(radius):\n{TYPED_ELSEWHERE}\n");
    client.open(&uri, "python", &text);
    let end = (1, TYPED_ELSEWHERE.len() as u32);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Again and again: when watching began is not told.
        world.write_elsewhere();
        let answer = client.inline(&uri, end);
        if suggested(&answer).is_some_and(|text| text.contains("DEPTH, cube")) {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
    assert_eq!(client.leave().unwrap().code(), Some(0));
}

#[test]
fn clients_that_show_ghost_text_are_not_offered_the_same_as_menu_items() {
    for (name, params) in recorded() {
        let world = World::new(&[]);
        let mut client = world.server();
        let answer = client.initialize_with(&moved_to(&params, &world.root()));
        let shows = !params["capabilities"]["textDocument"]["inlineCompletion"].is_null();
        let offered = &answer.unwrap().result.unwrap()["capabilities"]["completionProvider"];
        assert_eq!(offered.is_null(), shows, "{name}");
    }
}

/// Some editors open a window about every message they do not know.
#[test]
fn clients_that_announced_nothing_hear_nothing_but_the_protocol() {
    for (name, params) in recorded() {
        let world = World::new(&[("a.txt", "one\n")]);
        let mut client = world.server();
        client
            .initialize_with(&moved_to(&params, &world.root()))
            .unwrap();
        let uri = world.uri("a.txt");
        client.open(&uri, "plaintext", "one\n");
        let answer = "<<<<<<< SEARCH\none\n=======\ntwo\n>>>>>>> REPLACE\n";
        let preview = json!({ "answer": answer, "textDocument": { "uri": uri } });
        let commands = [
            ("pairwright.diff.preview", json!([preview])),
            ("pairwright.rejectAll", json!([])),
            ("pairwright.snooze", json!([5])),
            ("pairwright.resume", json!([])),
            ("pairwright.showStatus", json!([])),
        ];
        for (command, arguments) in commands {
            let params = json!({ "command": command, "arguments": arguments });
            let answer = client.request("workspace/executeCommand", &params).unwrap();
            answer
                .result
                .unwrap_or_else(|why| panic!("{name}: {command}: {why}"));
        }
        let strange = client
            .notices()
            .iter()
            .map(|notice| notice.method.as_str())
            .find(|method| *method == "didChangeStatus" || method.starts_with("pairwright/"));
        assert_eq!(strange, None, "{name}");
    }
}
