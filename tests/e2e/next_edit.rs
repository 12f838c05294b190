//! `textDocument/copilotInlineEdit` through the built binary.

use pairwright::driver::Client;
use serde_json::{Value, json};

use crate::world::{Edits, World};

const TEXT: &str = "def area(side):\n    return side\n\nprint(area(2))\n";

fn ask(client: &mut Client, uri: &str, version: i32, line: u32) -> Value {
    let params = json!({
        "textDocument": { "uri": uri, "version": version },
        "position": { "line": line, "character": 0 },
    });
    let answer = client.request("textDocument/copilotInlineEdit", &params);
    answer.unwrap().result.unwrap()
}

/// Renames the function where it is defined.
fn rename(client: &mut Client, uri: &str) {
    let change = json!({
        "range": { "start": { "line": 0, "character": 4 }, "end": { "line": 0, "character": 8 } },
        "text": "surface",
    });
    let params = json!({
        "textDocument": { "uri": uri, "version": 2 },
        "contentChanges": [change],
    });
    client.notify("textDocument/didChange", &params).unwrap();
}

fn metrics(client: &mut Client) -> Value {
    let metrics = client.request("pairwright/metrics/get", &json!({}));
    metrics.unwrap().result.unwrap()
}

#[test]
fn a_rename_is_proposed_at_its_use_and_what_became_of_it_is_counted() {
    let world = World::new(&[]);
    let mut client = world.session();
    let uri = world.uri("a.py");
    client.open(&uri, "python", TEXT);
    assert_eq!(ask(&mut client, &uri, 1, 0), json!({ "edits": [] }));
    rename(&mut client, &uri);
    let answer = ask(&mut client, &uri, 2, 0);
    let edit = &answer["edits"][0];
    assert_eq!(edit["text"], "surface");
    assert_eq!(edit["textDocument"], json!({ "uri": uri, "version": 2 }));
    let range = json!({
        "start": { "line": 3, "character": 6 },
        "end": { "line": 3, "character": 10 },
    });
    assert_eq!(edit["range"], range);
    // About a text that is no more there is nothing to say.
    assert_eq!(ask(&mut client, &uri, 1, 0), json!({ "edits": [] }));

    let command = json!({
        "command": edit["command"]["command"],
        "arguments": edit["command"]["arguments"],
    });
    client
        .request("workspace/executeCommand", &command)
        .unwrap();
    client
        .request("workspace/executeCommand", &command)
        .unwrap();
    let counts = metrics(&mut client);
    assert_eq!(
        (&counts["nextEditsProposed"], &counts["nextEditsAccepted"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn what_was_turned_down_is_not_proposed_again_and_a_setting_switches_all_off() {
    let world = World::new(&[]);
    let mut client = world.session();
    let uri = world.uri("a.py");
    client.open(&uri, "python", TEXT);
    rename(&mut client, &uri);
    let answer = ask(&mut client, &uri, 2, 0);
    let reject = json!({
        "command": "pairwright.didRejectEdit",
        "arguments": answer["edits"][0]["command"]["arguments"],
    });
    client.request("workspace/executeCommand", &reject).unwrap();
    assert_eq!(ask(&mut client, &uri, 2, 0), json!({ "edits": [] }));

    let off = World::new(&[]);
    off.write_settings("[complete]\nnextEdit = false\n");
    let mut client = off.session();
    let uri = off.uri("a.py");
    client.open(&uri, "python", TEXT);
    rename(&mut client, &uri);
    assert_eq!(ask(&mut client, &uri, 2, 0), json!({ "edits": [] }));
}
