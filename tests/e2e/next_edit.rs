//! `textDocument/copilotInlineEdit` through the built binary.

use model_server::{Answer, End, Ending, Listen, ModelServer, Seen, Speak, Turn};
use pairwright::driver::Client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

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

/// A body that was rewritten, a use of it that nothing but a model could know, and a secret.
const SHOP: &str = "\
API_KEY = 'a1b2c3d4e5f6g7h8'

def total(prices):
    return sum(prices)

# Returns the sum.
print(total([1, 2]))
";
const FOLLOWS: &str = "\
a.py
<<<<<<< SEARCH
# Returns the sum.
=======
# Returns the mean.
>>>>>>> REPLACE
";

fn with_model(
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (World, ModelServer, Runtime) {
    let runtime = Runtime::new().unwrap();
    let listen = Listen {
        speak: Speak::Http2,
        ..Listen::default()
    };
    let server = ModelServer::listen(listen, script);
    let server = runtime.block_on(server).unwrap();
    let world = World::new(&[(".env", "API_KEY=hunter2hunter2hunter2\n")]);
    world.write_settings(&format!(
        "[models.edit]\nurl = '{}'\nmodel = 'scripted'\nhttp = 'h2c'\n",
        server.url()
    ));
    (world, server, runtime)
}

/// Writes another expression, which nothing else repeats.
fn rewrite(client: &mut Client, uri: &str, version: i32) {
    let change = json!({
        "range": { "start": { "line": 3, "character": 11 }, "end": { "line": 3, "character": 22 } },
        "text": "sum(prices) / len(prices)",
    });
    let params = json!({
        "textDocument": { "uri": uri, "version": version },
        "contentChanges": [change],
    });
    client.notify("textDocument/didChange", &params).unwrap();
}

#[test]
fn where_nothing_repeats_the_last_edit_a_model_says_what_follows() {
    let (world, server, runtime) = with_model(|_| Answer::turn(Turn::text(FOLLOWS)));
    let mut client = world.session();
    let uri = world.uri("a.py");
    client.open(
        &world.uri(".env"),
        "dotenv",
        "API_KEY=hunter2hunter2hunter2\n",
    );
    client.open(&uri, "python", SHOP);
    assert_eq!(ask(&mut client, &uri, 1, 0), json!({ "edits": [] }));
    rewrite(&mut client, &uri, 2);
    let answer = ask(&mut client, &uri, 2, 3);
    let edit = &answer["edits"][0];
    assert_eq!(edit["text"], "mean");
    let range = json!({
        "start": { "line": 5, "character": 14 },
        "end": { "line": 5, "character": 17 },
    });
    assert_eq!(edit["range"], range);
    let requests = runtime.block_on(server.wait("a question", |log| {
        let bodies = log
            .requests
            .iter()
            .map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
        Some(bodies.collect::<Vec<_>>())
    }));
    // Nothing was rewritten when it was asked first.
    let [request] = &requests[..] else {
        panic!("{} requests", requests.len());
    };
    assert!(
        request.contains("+    return sum(prices) / len(prices)"),
        "{request}"
    );
    assert!(request.contains("# Returns the sum."), "{request}");
    for secret in ["hunter2", "a1b2c3d4"] {
        assert!(!request.contains(secret), "{request}");
    }

    // What was turned down is not proposed again.
    let reject = json!({
        "command": "pairwright.didRejectEdit",
        "arguments": edit["command"]["arguments"],
    });
    client.request("workspace/executeCommand", &reject).unwrap();
    assert_eq!(ask(&mut client, &uri, 2, 3), json!({ "edits": [] }));
}

#[test]
fn a_key_ends_the_request_for_the_next_edit_at_the_model() {
    let (world, server, runtime) =
        with_model(|_| Answer::turn(Turn::text("a.py\n").ending(Ending::Hang)));
    let mut client = world.session();
    let uri = world.uri("a.py");
    client.open(&uri, "python", SHOP);
    rewrite(&mut client, &uri, 2);
    let params = json!({
        "textDocument": { "uri": uri, "version": 2 },
        "position": { "line": 3, "character": 0 },
    });
    let asked = client
        .ask("textDocument/copilotInlineEdit", &params)
        .unwrap();
    runtime.block_on(server.wait("a question", |log| (!log.requests.is_empty()).then_some(())));
    let key = json!({
        "textDocument": { "uri": uri, "version": 3 },
        "contentChanges": [{
            "range": { "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 0 } },
            "text": "#",
        }],
    });
    client.notify("textDocument/didChange", &key).unwrap();
    let answer = client.answer(asked).unwrap();
    assert_eq!(answer.result.unwrap(), json!({ "edits": [] }));
    let ended = runtime.block_on(server.wait("a reset", |log| log.requests[0].end()));
    assert_eq!(ended, End::Reset(8));
}
