//! Review, apply and undo through the language server, with editors honest and not.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};

use pairwright::driver::Client;
use pairwright::session::document::uri_of;
use serde_json::{Value, json};

use crate::world::{Edits, World};

/// How an editor treats the edits it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    Refuses,
    /// Says it did, and did not.
    Lies,
    /// Says it did, and did the first document only.
    Partial,
    /// Does it, and the user types a line before it says so.
    TypesOn,
}

/// Texts and versions of open documents, as the editor has them.
type Documents = Arc<Mutex<HashMap<String, (i32, String)>>>;

struct Editor {
    client: Client,
    documents: Documents,
}

impl Editor {
    fn start(world: &World, manner: Manner) -> Self {
        let mut client = world.server();
        let documents = Documents::default();
        let known = Arc::clone(&documents);
        client.on_request("workspace/applyEdit", move |params| {
            react(manner, &known, params)
        });
        let root = uri_of(&world.root());
        let answer = client.initialize_with(&json!({
            "processId": std::process::id(),
            "rootUri": root,
            "workspaceFolders": [{ "uri": root, "name": "workspace" }],
            "capabilities": { "workspace": { "applyEdit": true, "workspaceEdit": { "documentChanges": true } } },
        }));
        let result = answer.unwrap().result.unwrap();
        let commands = &result["capabilities"]["executeCommandProvider"]["commands"];
        let offers = |name: &str| commands.as_array().unwrap().contains(&json!(name));
        assert!(offers("pairwright.acceptHunk") && offers("pairwright.undoLastEdit"));
        Self { client, documents }
    }

    fn open(&mut self, uri: &str, text: &str) {
        self.client.open(uri, "plaintext", text);
        let document = (1, text.to_owned());
        self.documents.lock().unwrap().insert(uri.into(), document);
    }

    /// The user types whole lines above line `line`.
    fn type_lines(&mut self, uri: &str, line: u32, text: &str) {
        let mut documents = self.documents.lock().unwrap();
        let (version, now) = documents.get_mut(uri).unwrap();
        *version += 1;
        let at = now
            .split_inclusive('\n')
            .take(line as usize)
            .map(str::len)
            .sum();
        now.insert_str(at, text);
        self.client.type_at(uri, *version, (line, 0), text);
    }

    fn text(&self, uri: &str) -> String {
        self.documents.lock().unwrap()[uri].1.clone()
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.client.request(method, params).unwrap();
        answer
            .result
            .unwrap_or_else(|why| panic!("{method}: {why}"))
    }

    fn run(&mut self, command: &str, arguments: &Value) -> Value {
        let params = json!({ "command": command, "arguments": arguments });
        self.ask("workspace/executeCommand", &params)
    }

    fn preview(&mut self, answer: &str) -> Value {
        self.ask("pairwright/diff/preview", &json!({ "answer": answer }))
    }
}

/// Applies a workspace edit as VS Code does: versions are checked, whole lines replaced.
fn react(manner: Manner, documents: &Documents, params: &Value) -> (Vec<Value>, Option<Value>) {
    let done = |applied: bool| Some(json!({ "applied": applied }));
    let mut messages = Vec::new();
    let changes = params["edit"]["documentChanges"].as_array().unwrap();
    let mut documents = documents.lock().unwrap();
    for change in changes {
        let uri = change["textDocument"]["uri"].as_str().unwrap();
        let (version, text) = documents.get_mut(uri).unwrap();
        if change["textDocument"]["version"] != json!(*version) {
            return (Vec::new(), done(false));
        }
        match manner {
            Manner::Refuses => return (Vec::new(), done(false)),
            Manner::Lies => return (Vec::new(), done(true)),
            Manner::Partial if !messages.is_empty() => continue,
            Manner::Honest | Manner::Partial | Manner::TypesOn => {}
        }
        let mut edits = change["edits"].as_array().unwrap().clone();
        edits.reverse();
        for edit in edits {
            let offset = |position: &Value| -> usize {
                let line = position["line"].as_u64().unwrap() as usize;
                let lines = text.split_inclusive('\n').take(line);
                lines.map(str::len).sum::<usize>()
                    + position["character"].as_u64().unwrap() as usize
            };
            let range = offset(&edit["range"]["start"])..offset(&edit["range"]["end"]);
            text.replace_range(range, edit["newText"].as_str().unwrap());
        }
        let mut tell = |text: &str| {
            *version += 1;
            messages.push(json!({
                "jsonrpc": "2.0",
                "method": "textDocument/didChange",
                "params": {
                    "textDocument": { "uri": uri, "version": *version },
                    "contentChanges": [{ "text": text }],
                },
            }));
        };
        tell(text);
        if manner == Manner::TypesOn {
            text.push_str("typed\n");
            tell(text);
        }
    }
    (messages, done(true))
}

fn block(path: &str, old: &str, new: &str) -> String {
    format!("{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n\n")
}

/// Ids of the hunks of a preview, in its order.
fn ids(preview: &Value) -> Vec<Value> {
    let files = preview["files"].as_array().unwrap();
    let hunks = files.iter().flat_map(|f| f["hunks"].as_array().unwrap());
    hunks.map(|h| h["id"].clone()).collect()
}

#[test]
fn the_history_tells_whether_each_edit_stands_and_what_turns_it_round() {
    let world = World::new(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let history = |editor: &mut Editor| {
        let answer = editor.ask("pairwright/diff/history", &json!({}));
        let edits = answer["edits"].as_array().unwrap().clone();
        let short = |edit: &Value| format!("{} {}", edit["paths"][0], edit["standing"]);
        (edits.iter().map(short).collect::<Vec<_>>(), edits)
    };
    assert!(history(&mut editor).0.is_empty());
    for (path, old, new) in [("a.txt", "a\n", "A\n"), ("b.txt", "b\n", "B\n")] {
        editor.preview(&block(path, old, new));
        editor.run("pairwright.acceptAll", &json!([]));
    }
    let both = ["\"b.txt\" \"applied\"", "\"a.txt\" \"applied\""];
    assert_eq!(history(&mut editor).0, both);
    // Taken back, done again, and taken back once more; the other one stays as it is.
    for (text, standing) in [
        ("a\n", "taken_back"),
        ("A\n", "applied"),
        ("a\n", "taken_back"),
    ] {
        let (_, edits) = history(&mut editor);
        let turn = json!({ "rollbackToken": edits[1]["rollbackToken"] });
        editor.ask("pairwright/diff/rollback", &turn);
        let now = fs::read_to_string(world.root().join("a.txt")).unwrap();
        assert_eq!(now, text);
        let first = format!("\"a.txt\" \"{standing}\"");
        assert_eq!(history(&mut editor).0, [both[0], &first]);
    }
    let answer = editor.run("pairwright.diff.history", &json!([{ "limit": 1 }]));
    assert_eq!(answer["edits"].as_array().unwrap().len(), 1);
    let edit = &answer["edits"][0];
    assert_eq!(edit["folder"], uri_of(&world.root()));
    assert_eq!(edit["token"], edit["rollbackToken"]);
    assert_eq!(edit["author"], "editor");
}

#[test]
fn three_files_are_reviewed_applied_typed_in_and_rolled_back() {
    let world = World::new(&[
        ("a.txt", "a\n"),
        ("b.txt", "1\n2\n3\n4\n"),
        ("c.txt", "c\n"),
    ]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let (a, b) = (world.uri("a.txt"), world.uri("b.txt"));
    editor.open(&b, "unsaved\n1\n2\n3\n4\n");
    editor.open(&a, "a\n");
    let answer = block("a.txt", "a\n", "A\n")
        + &block("b.txt", "1\n", "one\n")
        + &block("b.txt", "4\n", "four\n")
        + &block("c.txt", "c\n", "C\n");
    let preview = editor.preview(&answer);
    let hunks = ids(&preview);
    assert_eq!(hunks.len(), 4);
    let actions = editor.ask(
        "textDocument/codeAction",
        &json!({
            "textDocument": { "uri": b },
            "range": { "start": { "line": 1, "character": 0 }, "end": { "line": 1, "character": 0 } },
            "context": { "diagnostics": [] },
        }),
    );
    let titles: Vec<&str> = actions
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        titles,
        [
            "Accept hunk",
            "Reject hunk",
            "Accept all hunks of this file",
            "Reject all hunks of this file",
            "Accept all"
        ]
    );
    let lenses = editor.ask(
        "textDocument/codeLens",
        &json!({ "textDocument": { "uri": b } }),
    );
    let lines: Vec<u64> = lenses
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["range"]["start"]["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [1, 1, 4, 4]);
    // The user goes on typing; the hunks move with the text.
    editor.type_lines(&b, 0, "typed\n");
    let listed = editor.ask(
        "pairwright/diff/list",
        &json!({ "textDocument": { "uri": b } }),
    );
    assert_eq!(listed["files"][0]["hunks"][0]["range"]["start"]["line"], 2);

    editor.run("pairwright.rejectHunk", &json!([hunks[2]]));
    let applied = editor.ask(
        "pairwright/diff/apply",
        &json!({ "proposal": preview["proposal"], "requestId": "once" }),
    );
    assert_eq!(applied["conflicts"], json!([]));
    assert_eq!(applied["applied"].as_array().unwrap().len(), 3);
    assert_eq!(editor.text(&a), "A\n");
    assert_eq!(editor.text(&b), "typed\nunsaved\none\n2\n3\n4\n");
    let on_disk = |path: &str| fs::read_to_string(world.root().join(path)).unwrap();
    assert_eq!(
        on_disk("a.txt"),
        "a\n",
        "an open file is the editor's to save"
    );
    assert_eq!(on_disk("c.txt"), "C\n");

    editor.type_lines(&b, 4, "more\n");
    let undone = editor.run("pairwright.undoLastEdit", &json!([]));
    assert!(undone["rollbackToken"].is_string());
    assert_eq!(editor.text(&a), "a\n");
    assert_eq!(editor.text(&b), "typed\nunsaved\n1\n2\nmore\n3\n4\n");
    assert_eq!(on_disk("c.txt"), "c\n");

    let again = editor.ask(
        "pairwright/diff/rollback",
        &json!({ "rollbackToken": undone["rollbackToken"] }),
    );
    assert!(again["rollbackToken"].is_string());
    assert_eq!(editor.text(&b), "typed\nunsaved\none\n2\nmore\n3\n4\n");
    assert_eq!(on_disk("c.txt"), "C\n");
}

#[test]
fn an_editor_that_does_not_do_as_it_says_changes_nothing() {
    for manner in [Manner::Refuses, Manner::Lies, Manner::Partial] {
        let world = World::new(&[("a.txt", "a\n"), ("b.txt", "b\n"), ("c.txt", "c\n")]);
        let mut editor = Editor::start(&world, manner);
        let (a, b) = (world.uri("a.txt"), world.uri("b.txt"));
        editor.open(&a, "a\n");
        editor.open(&b, "b\n");
        let answer = block("a.txt", "a\n", "A\n")
            + &block("b.txt", "b\n", "B\n")
            + &block("c.txt", "c\n", "C\n");
        let preview = editor.preview(&answer);
        let params = json!({ "proposal": preview["proposal"] });
        let answer = editor
            .client
            .request("pairwright/diff/apply", &params)
            .unwrap();
        let why = answer.result.unwrap_err();
        assert!(why.message.contains(".txt"), "{manner:?}: {why}");
        assert_eq!(editor.text(&a), "a\n", "{manner:?}");
        assert_eq!(editor.text(&b), "b\n", "{manner:?}");
        assert_eq!(
            fs::read_to_string(world.root().join("c.txt")).unwrap(),
            "c\n"
        );
        let left = fs::read_dir(world.root()).unwrap().count();
        assert_eq!(left, 3, "{manner:?} leaves no file behind");
    }
}

#[test]
fn a_key_right_after_an_edit_does_not_undo_the_edit() {
    let world = World::new(&[("a.txt", "1\n2\n3\n")]);
    let mut editor = Editor::start(&world, Manner::TypesOn);
    let a = world.uri("a.txt");
    editor.open(&a, "1\n2\n3\n");
    let preview = editor.preview(&block("a.txt", "2\n", "two\n"));
    let params = json!({ "proposal": preview["proposal"] });
    let answer = editor.ask("pairwright/diff/apply", &params);
    assert_eq!(editor.text(&a), "1\ntwo\n3\ntyped\n");
    let params = json!({ "rollbackToken": answer["rollbackToken"] });
    editor.ask("pairwright/diff/rollback", &params);
    assert_eq!(editor.text(&a), "1\n2\n3\ntyped\ntyped\n");
}

#[test]
fn hunks_of_a_file_to_be_moved_are_seen_where_it_is() {
    let world = World::new(&[("old.txt", "1\n2\n3\n")]);
    let mut editor = Editor::start(&world, Manner::Honest);
    editor.preview("*** Begin Patch\n*** Update File: old.txt\n*** Move to: new.txt\n@@\n 1\n-2\n+two\n 3\n*** End Patch\n");
    for path in ["old.txt", "new.txt"] {
        let params = json!({ "textDocument": { "uri": world.uri(path) } });
        let listed = editor.ask("pairwright/diff/list", &params);
        let files = listed["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{path}");
        assert_eq!(files[0]["uri"], world.uri("old.txt"));
        assert_eq!(files[0]["hunks"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_file_is_compared_with_what_all_its_hunks_would_make_of_it() {
    let world = World::new(&[
        ("a.txt", "1\n2\n3\n4\n"),
        ("gone.txt", "x\n"),
        ("old.txt", "1\n2\n"),
        ("same.txt", "same\r\n"),
    ]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let compare = |editor: &mut Editor, path: &str| {
        let params = json!({ "textDocument": { "uri": world.uri(path) } });
        let answer = editor.ask("pairwright/diff/compare", &params);
        (answer["before"].clone(), answer["after"].clone())
    };
    let a = world.uri("a.txt");
    editor.open(&a, "1\n2\n3\n4\n");
    editor.preview(&block("a.txt", "1\n", "one\n"));
    let preview = editor.preview(&block("a.txt", "3\n", "three\n"));
    editor.preview(
        "*** Begin Patch\n*** Add File: new.txt\n+new\n*** Delete File: gone.txt\n\
         *** Update File: old.txt\n*** Move to: moved.txt\n@@\n 1\n-2\n+two\n*** End Patch\n",
    );
    // Hunks of two proposals, and a line that the user types and does not save.
    editor.type_lines(&a, 1, "typed\n");
    for (path, before, after) in [
        (
            "a.txt",
            json!("1\ntyped\n2\n3\n4\n"),
            json!("one\ntyped\n2\nthree\n4\n"),
        ),
        ("new.txt", Value::Null, json!("new\n")),
        ("gone.txt", json!("x\n"), Value::Null),
        ("old.txt", json!("1\n2\n"), json!("1\ntwo\n")),
        ("same.txt", json!("same\n"), json!("same\n")),
    ] {
        assert_eq!(compare(&mut editor, path), (before, after), "{path}");
    }
    let params = json!({ "proposal": preview["proposal"], "action": "reject" });
    editor.ask("pairwright/diff/resolve", &params);
    let (_, after) = compare(&mut editor, "a.txt");
    assert_eq!(after, "one\ntyped\n2\n3\n4\n");
    assert_eq!(editor.text(&a), "1\ntyped\n2\n3\n4\n", "nothing is written");
}

#[test]
fn an_edit_in_the_users_way_is_a_conflict_and_nothing_is_lost() {
    let world = World::new(&[("a.txt", "1\n2\n3\n")]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let a = world.uri("a.txt");
    editor.open(&a, "1\n2\n3\n");
    let preview = editor.preview(&block("a.txt", "1\n2\n3\n", "1\ntwo\nthree\n"));
    editor.type_lines(&a, 2, "mine\n");
    let params = json!({ "proposal": preview["proposal"] });
    let answer = editor.ask("pairwright/diff/apply", &params);
    assert_eq!(answer["rollbackToken"], Value::Null);
    assert_eq!(answer["conflicts"][0]["current"], "2\nmine\n3");
    assert_eq!(editor.text(&a), "1\n2\nmine\n3\n");
}

#[test]
fn an_answer_about_an_older_text_is_merged_into_the_newer() {
    let world = World::new(&[("a.txt", "1\n2\n3\n4\n")]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let a = world.uri("a.txt");
    editor.open(&a, "1\n2\n3\n4\n");
    editor.type_lines(&a, 4, "mine\n");
    let params = json!({
        "answer": "a.txt\n```\n1\ntwo\n3\n4\n```\n",
        "format": "whole-file",
        "bases": { "a.txt": "1\n2\n3\n4\n" },
    });
    let preview = editor.ask("pairwright/diff/preview", &params);
    let params = json!({ "proposal": preview["proposal"] });
    editor.ask("pairwright/diff/apply", &params);
    assert_eq!(editor.text(&a), "1\ntwo\n3\n4\nmine\n");
}

#[test]
fn an_answer_is_previewed_while_it_is_written() {
    let world = World::new(&[("a.txt", "a\nb\n")]);
    let mut editor = Editor::start(&world, Manner::Honest);
    let answer = block("a.txt", "a\n", "A\n") + &block("a.txt", "b\n", "B\n");
    let mut seen = Vec::new();
    for end in 0..=answer.len() {
        let params = json!({ "answer": answer[..end], "partial": true });
        let preview = editor.ask("pairwright/diff/preview", &params);
        let n_hunks = ids(&preview).len();
        if seen.last() != Some(&n_hunks) {
            seen.push(n_hunks);
        }
        assert_eq!(preview["proposal"], Value::Null);
    }
    // Two neighbouring lines are one hunk once both are there.
    assert_eq!(seen.first(), Some(&0));
    assert_eq!(seen.last(), Some(&1));
    let listed = editor.ask("pairwright/diff/list", &json!({}));
    assert_eq!(listed["files"], json!([]), "nothing is kept");
}
