//! Edits where several folders are open.

use std::fs;

use pairwright::driver::Client;
use pairwright::session::document::uri_of;
use serde_json::{Value, json};

use crate::world::World;

/// A server with two folders, each with an `a.txt` of its own.
fn two_folders(world: &World) -> (Client, [String; 2]) {
    world.write("one/a.txt", "one\n");
    world.write("two/a.txt", "two\n");
    let mut client = world.server();
    let folders = ["one", "two"].map(|name| {
        let uri = uri_of(&world.root().join(name));
        json!({ "uri": uri, "name": name })
    });
    let answer = client.initialize_with(&json!({
        "processId": std::process::id(),
        "rootUri": null,
        "workspaceFolders": folders,
        "capabilities": {},
    }));
    answer.unwrap().result.unwrap();
    (
        client,
        ["one/a.txt", "two/a.txt"].map(|path| world.uri(path)),
    )
}

fn ask(client: &mut Client, method: &str, params: &Value) -> Value {
    let answer = client.request(method, params).unwrap();
    answer
        .result
        .unwrap_or_else(|why| panic!("{method}: {why}"))
}

fn run(client: &mut Client, command: &str, arguments: &Value) -> Value {
    let params = json!({ "command": command, "arguments": arguments });
    ask(client, "workspace/executeCommand", &params)
}

/// Proposes to write a word in capitals.
fn propose(client: &mut Client, uri: &str, word: &str) {
    let new = word.to_uppercase();
    let answer = format!("a.txt\n<<<<<<< SEARCH\n{word}\n=======\n{new}\n>>>>>>> REPLACE\n");
    let params = json!({ "answer": answer, "textDocument": { "uri": uri } });
    ask(client, "pairwright/diff/preview", &params);
}

fn texts(world: &World) -> [String; 2] {
    ["one/a.txt", "two/a.txt"].map(|path| fs::read_to_string(world.root().join(path)).unwrap())
}

#[test]
fn all_hunks_of_all_folders_are_decided_at_once() {
    let world = World::new(&[]);
    let (mut client, [one, two]) = two_folders(&world);
    propose(&mut client, &one, "one");
    propose(&mut client, &two, "two");
    let done = run(&mut client, "pairwright.acceptAll", &json!([]));
    assert_eq!(done["applied"].as_array().unwrap().len(), 2);
    assert_eq!(done["rollbackTokens"].as_array().unwrap().len(), 2);
    assert_eq!(texts(&world), ["ONE\n", "TWO\n"]);
    for expected in [["ONE\n", "two\n"], ["one\n", "two\n"]] {
        run(&mut client, "pairwright.undoLastEdit", &json!([]));
        assert_eq!(texts(&world), expected);
    }
}

#[test]
fn a_failure_in_one_folder_tells_how_to_take_back_what_another_was_given() {
    let world = World::new(&[]);
    let (mut client, [one, two]) = two_folders(&world);
    propose(&mut client, &one, "one");
    propose(&mut client, &two, "two");
    fs::remove_file(world.root().join("two/a.txt")).unwrap();
    fs::create_dir(world.root().join("two/a.txt")).unwrap();
    let params = json!({ "command": "pairwright.acceptAll", "arguments": [] });
    let answer = client.request("workspace/executeCommand", &params).unwrap();
    let why = answer.result.unwrap_err();
    let done = &why.data.unwrap()["done"];
    let token = done["rollbackToken"].as_str().unwrap();
    assert!(why.message.contains(token), "{}", why.message);
    assert_eq!(
        fs::read_to_string(world.root().join("one/a.txt")).unwrap(),
        "ONE\n"
    );
    let params = json!({ "rollbackToken": token });
    ask(&mut client, "pairwright/diff/rollback", &params);
    assert_eq!(
        fs::read_to_string(world.root().join("one/a.txt")).unwrap(),
        "one\n"
    );
}

#[test]
fn the_last_edit_of_any_folder_is_the_one_taken_back() {
    let world = World::new(&[]);
    let (mut client, [one, two]) = two_folders(&world);
    propose(&mut client, &one, "one");
    run(&mut client, "pairwright.acceptAll", &json!([one]));
    propose(&mut client, &two, "two");
    run(&mut client, "pairwright.acceptAll", &json!([two]));
    run(&mut client, "pairwright.undoLastEdit", &json!([]));
    assert_eq!(texts(&world), ["ONE\n", "two\n"]);
}

#[test]
fn an_id_that_no_folder_knows_keeps_all_of_them_undecided() {
    let world = World::new(&[]);
    let (mut client, [one, _]) = two_folders(&world);
    propose(&mut client, &one, "one");
    let listed = ask(&mut client, "pairwright/diff/list", &json!({}));
    let known = &listed["files"][0]["hunks"][0]["id"];
    let params = json!({ "hunks": [known, "h_unknown"] });
    let answer = client.request("pairwright/diff/apply", &params).unwrap();
    let why = answer.result.unwrap_err();
    assert!(why.message.contains("h_unknown"), "{why}");
    assert_eq!(texts(&world), ["one\n", "two\n"]);
}

#[test]
fn a_request_that_was_answered_before_a_restart_is_answered_the_same() {
    let world = World::new(&[]);
    let (mut client, [_, two]) = two_folders(&world);
    propose(&mut client, &two, "two");
    let listed = ask(&mut client, "pairwright/diff/list", &json!({}));
    let id = &listed["files"][0]["hunks"][0]["id"];
    let accept = json!({ "hunks": [id], "requestId": "accept" });
    let accepted = ask(&mut client, "pairwright/diff/apply", &accept);
    client.leave().unwrap();
    let (mut client, [one, two]) = two_folders(&world);
    let again = ask(&mut client, "pairwright/diff/apply", &accept);
    assert_eq!(again["rollbackToken"], accepted["rollbackToken"]);
    // The folders were made anew, and nothing was written to them.
    assert_eq!(texts(&world), ["one\n", "two\n"]);
    propose(&mut client, &one, "one");
    run(&mut client, "pairwright.acceptAll", &json!([one]));
    propose(&mut client, &two, "two");
    run(&mut client, "pairwright.acceptAll", &json!([two]));
    let undo = json!({ "requestId": "undo" });
    let undone = ask(&mut client, "pairwright/diff/rollback", &undo);
    let again = ask(&mut client, "pairwright/diff/rollback", &undo);
    assert_eq!(again["rollbackToken"], undone["rollbackToken"]);
    assert_eq!(texts(&world), ["ONE\n", "two\n"]);
}
