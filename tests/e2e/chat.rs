//! Chat through the real program: with a scripted model behind HTTP/2, and without one.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use model_server::{Answer, End, Ending, Listen, ModelServer, Seen, Speak, Turn, broken_prefix};
use pairwright::driver::{Client, PATIENCE};
use pairwright::session::document::uri_of;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::{Edits, World};

const MATHS: &str = "\
def area_of_circle(radius):
    return 3 * radius * radius


def perimeter_of_square(side):
    return 4 * side
";

/// A workspace, and a model that follows a script.
struct Stage {
    world: World,
    server: ModelServer,
    runtime: Runtime,
}

impl Stage {
    fn new(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let listen = Listen {
            speak: Speak::Http2,
            ..Listen::default()
        };
        let server = runtime
            .block_on(ModelServer::listen(listen, script))
            .unwrap();
        let world = world();
        world.write_settings(&format!(
            "[models.chat]\nurl = '{}'\nmodel = 'scripted'\nhttp = 'h2c'\n",
            server.url()
        ));
        Self {
            world,
            server,
            runtime,
        }
    }

    fn client(&self) -> Chatting {
        Chatting::with(&self.world)
    }
}

fn world() -> World {
    World::new(&[
        ("src/maths.py", MATHS),
        (
            "src/io.py",
            "def read_all(path):\n    return open(path).read()\n",
        ),
        (".env", "API_KEY=hunter2hunter2hunter2\n"),
    ])
}

/// An editor that chats.
struct Chatting {
    client: Client,
    session: String,
}

impl Chatting {
    fn with(world: &World) -> Self {
        let mut client = world.session();
        wait_for_index(&mut client);
        let session = ask(&mut client, "pairwright/session/new", &json!({}));
        let session = session["session"].as_str().unwrap().to_owned();
        Self { client, session }
    }

    fn send(&mut self, text: &str, with: &Value) -> u64 {
        let mut params = json!({ "session": self.session, "text": text });
        params
            .as_object_mut()
            .unwrap()
            .extend(with.as_object().unwrap().clone());
        let answer = self
            .client
            .request("pairwright/chat/send", &params)
            .unwrap();
        answer.result.unwrap()["turn"].as_u64().unwrap()
    }

    /// Waits for the end of a turn; returns its events.
    fn events(&mut self, turn: u64) -> Vec<Value> {
        self.wait_for(turn, "done");
        self.events_of(turn)
    }

    fn wait_for(&mut self, turn: u64, kind: &str) -> Value {
        let is_it = |e: &Value| e["turn"] == turn && e["kind"] == kind;
        let deadline = Instant::now() + PATIENCE;
        self.client
            .wait_for("pairwright/event", is_it, deadline)
            .unwrap()
    }

    fn events_of(&self, turn: u64) -> Vec<Value> {
        let events = self
            .client
            .notices()
            .iter()
            .filter(|n| n.method == "pairwright/event");
        let events = events.map(|notice| notice.params.clone());
        events.filter(|event| event["turn"] == turn).collect()
    }
}

fn ask(client: &mut Client, method: &str, params: &Value) -> Value {
    client.request(method, params).unwrap().result.unwrap()
}

/// Asks until the index knows the files of the workspace.
fn wait_for_index(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = ask(client, "pairwright/index/status", &Value::Null);
        if status[0]["phase"] == "ready" && status[0]["nIndexed"].as_u64() >= Some(2) {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::yield_now();
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

fn said(events: &[Value]) -> String {
    let messages = events.iter().filter(|e| e["kind"] == "message");
    messages.map(|e| e["text"].as_str().unwrap()).collect()
}

/// The last message of a request, as the model reads it.
fn prompt(seen: &Seen) -> String {
    let body = seen.json();
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_question_is_answered_from_the_repository_and_places_can_be_opened() {
    let stage = Stage::new(|_| {
        Answer::turn(
            Turn::pieces(["See `src/maths.py:1`", " and src/gone.py:9."]).with_thinking(&["Hm."]),
        )
    });
    let mut chat = stage.client();
    let uri = stage.world.uri("src/io.py");
    chat.client.open(
        &uri,
        "python",
        "def read_all(path):\n    return NEW(path)\n",
    );
    let turn = chat.send("Where is the area of a circle computed?", &json!({
        "textDocument": { "uri": uri },
        "selection": { "start": { "line": 1, "character": 4 }, "end": { "line": 1, "character": 20 } },
    }));
    let events = chat.events(turn);
    assert_eq!(
        kinds(&events),
        [
            "question", "entry", "thought", "message", "entry", "usage", "cited", "done"
        ]
    );
    assert_eq!(said(&events), "See `src/maths.py:1` and src/gone.py:9.");
    let cited = events.iter().find(|e| e["kind"] == "cited").unwrap();
    let places = cited["places"].as_array().unwrap();
    assert_eq!(places.len(), 1, "what is not there is not cited");
    assert_eq!(
        (&places[0]["path"], &places[0]["firstLine"]),
        (&json!("src/maths.py"), &json!(1))
    );
    assert!(
        places[0]["uri"]
            .as_str()
            .unwrap()
            .ends_with("/src/maths.py#L1")
    );
    let seqs: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(
        seqs,
        (1..=seqs.len() as u64).collect::<Vec<_>>(),
        "positions without gaps"
    );

    let log = stage.server.log();
    assert_eq!(log.requests.len(), 1);
    let read = prompt(&log.requests[0]);
    assert!(
        read.starts_with("Where is the area of a circle computed?"),
        "{read}"
    );
    assert!(
        read.contains("def area_of_circle(radius):"),
        "the index found it: {read}"
    );
    assert!(
        read.contains("return NEW(path)"),
        "as it is in the editor: {read}"
    );
    assert!(!read.contains("hunter2"), "{read}");
    let shown = events[0]["shown"].as_array().unwrap();
    assert_eq!(shown[0]["reason"], "selected");
    assert!(
        shown.iter().any(|piece| piece["title"] == "src/maths.py"),
        "{shown:?}"
    );
}

#[test]
fn what_must_not_be_sent_is_left_out_and_does_not_spoil_the_conversation() {
    let stage = Stage::new(|_| Answer::turn(Turn::text("As it says.")));
    let mut settings = fs::read_to_string(stage.world.user_file()).unwrap();
    settings.push_str("[outbound]\npatterns = ['radius\\s+\\*', 'falcon']\n");
    stage.world.write_settings(&settings);
    let mut chat = stage.client();
    let question = "Where is the area of a circle computed, and where are all read?";
    let turn = chat.send(question, &json!({}));
    let events = chat.events(turn);
    assert_eq!(said(&events), "As it says.");
    let notice = events.iter().find(|e| e["kind"] == "notice").unwrap();
    assert_eq!(
        notice["text"],
        "src/maths.py is not sent: pattern 1 of `outbound.patterns` is in it."
    );
    let shown = events[0]["shown"].to_string();
    assert!(
        shown.contains("src/io.py") && !shown.contains("src/maths.py"),
        "{shown}"
    );

    let turn = chat.send("What is the falcon?", &json!({}));
    let events = chat.events(turn);
    assert_eq!(kinds(&events), ["question", "done"]);
    let why = events[1]["summary"].as_str().unwrap();
    assert!(why.contains("is not sent to http://127.0.0.1:"), "{why}");
    assert!(why.contains("pattern 2 of `outbound.patterns`"), "{why}");

    let turn = chat.send("And the sparrow?", &json!({}));
    assert_eq!(said(&chat.events(turn)), "As it says.");
    let log = stage.server.log();
    assert_eq!(log.requests.len(), 2);
    for seen in &log.requests {
        let body = String::from_utf8_lossy(&seen.body);
        assert!(
            !body.contains("falcon") && !body.contains("* radius"),
            "{body}"
        );
    }
}

#[test]
fn a_chat_goes_on_after_what_looks_at_requests_was_down_once() {
    // Down when the question is looked at, and when the request is, of which the question is kept.
    for down in [0, 1] {
        let stage = Stage::new(|_| Answer::turn(Turn::text("As it says.")));
        let listen = Listen {
            is_other: true,
            ..Listen::default()
        };
        let looking = ModelServer::listen(listen, move |seen| {
            let body = String::from_utf8_lossy(&seen.body);
            let said = match body.contains("falcon") {
                _ if seen.nth == down => return Answer::error(500, "down"),
                true if seen.nth > down => r#"{"allow": false, "reason": "no falcons"}"#,
                _ => r#"{"allow": true}"#,
            };
            Answer::bytes("application/json", [said])
        });
        let looking = stage.runtime.block_on(looking).unwrap();
        let mut settings = fs::read_to_string(stage.world.user_file()).unwrap();
        settings.push_str(&format!("[outbound]\nurl = '{}'\n", looking.url()));
        stage.world.write_settings(&settings);
        let mut chat = stage.client();
        let turn = chat.send("What is the falcon?", &json!({}));
        let events = chat.events(turn);
        assert_eq!(said(&events), "");
        let why = events.last().unwrap()["summary"].as_str().unwrap();
        assert!(why.contains("it answered 500"), "{why}");

        for question in ["And the sparrow?", "And the robin?"] {
            let turn = chat.send(question, &json!({}));
            assert_eq!(said(&chat.events(turn)), "As it says.", "{question}");
        }
        let log = stage.server.log();
        assert_eq!(log.requests.len(), 2);
        for seen in &log.requests {
            let body = String::from_utf8_lossy(&seen.body);
            assert!(!body.contains("falcon"), "{body}");
        }
    }
}

#[test]
fn a_conversation_only_grows_and_goes_on_after_a_restart() {
    let stage = Stage::new(|seen| {
        let n_messages = seen.json()["messages"].as_array().unwrap().len();
        Answer::turn(Turn::text(&format!("answer to {n_messages} messages")).with_usage(100, 80))
    });
    let mut chat = stage.client();
    for (nth, question) in ["First?", "Second?"].iter().enumerate() {
        let turn = chat.send(question, &json!({}));
        assert_eq!(turn, nth as u64 + 1);
        chat.events(turn);
    }
    let session = chat.session.clone();
    chat.client.leave().unwrap();

    let mut client = stage.world.session();
    let listed = ask(&mut client, "pairwright/session/list", &json!({}));
    assert_eq!(
        (
            &listed["sessions"][0]["id"],
            &listed["sessions"][0]["title"]
        ),
        (&json!(session), &json!("First?"))
    );
    assert_eq!(
        (
            &listed["sessions"][0]["input"],
            &listed["sessions"][0]["cached"]
        ),
        (&json!(200), &json!(160))
    );
    let loaded = ask(
        &mut client,
        "pairwright/session/load",
        &json!({ "session": session }),
    );
    assert_eq!(
        said(loaded["events"].as_array().unwrap()),
        "answer to 2 messagesanswer to 4 messages"
    );
    let last = loaded["session"]["last"].as_u64().unwrap();
    let attached = ask(
        &mut client,
        "pairwright/session/attach",
        &json!({ "session": session, "fromSeq": last }),
    );
    assert_eq!(attached["last"], last);
    let mut chat = Chatting { client, session };
    let turn = chat.send("Third?", &json!({}));
    assert_eq!(turn, 3);
    assert_eq!(said(&chat.events(turn)), "answer to 6 messages");
    let before: Vec<Value> = chat.events_of(2);
    assert_eq!(
        kinds(&before),
        ["done"],
        "attached from the last event before"
    );
    assert_eq!(broken_prefix(&stage.server.log()), None);
}

#[test]
fn stopping_a_turn_resets_it_at_the_model_and_the_session_goes_on() {
    let stage = Stage::new(|seen| {
        Answer::turn(match seen.nth {
            0 => Turn::text("Half of ").ending(Ending::Hang),
            _ => Turn::text("Whole."),
        })
    });
    let mut chat = stage.client();
    let turn = chat.send("Go on and on.", &json!({}));
    chat.wait_for(turn, "message");
    let busy = chat.client.request(
        "pairwright/chat/send",
        &json!({ "session": chat.session, "text": "And?" }),
    );
    assert!(
        busy.unwrap()
            .result
            .unwrap_err()
            .message
            .contains("still being answered")
    );
    let stopped = ask(
        &mut chat.client,
        "pairwright/turn/cancel",
        &json!({ "session": chat.session, "turn": turn }),
    );
    assert_eq!(stopped["cancelled"], true);
    let ended = stage
        .runtime
        .block_on(stage.server.wait("a reset", |log| log.requests[0].end()));
    assert_eq!(ended, End::Reset(8));
    let events = chat.events(turn);
    assert_eq!(
        (said(&events).as_str(), &events.last().unwrap()["reason"]),
        ("Half of ", &json!("stopped"))
    );
    let again = ask(
        &mut chat.client,
        "pairwright/turn/cancel",
        &json!({ "session": chat.session }),
    );
    assert_eq!(again["cancelled"], false);
    let turn = chat.send("Again.", &json!({}));
    assert_eq!(said(&chat.events(turn)), "Whole.");
    assert_eq!(broken_prefix(&stage.server.log()), None);
    assert_eq!(stage.server.log().connections.len(), 1);
}

#[test]
fn what_is_open_from_outside_the_folder_is_not_shown_to_the_model() {
    let stage = Stage::new(|_| Answer::turn(Turn::text("Nothing.")));
    let mut chat = stage.client();
    let diary = uri_of(&stage.world.home().join("diary.txt"));
    chat.client
        .open(&diary, "plaintext", "Dear diary, do not tell anybody.\n");
    let turn = chat.send("What is open?", &json!({}));
    assert_eq!(said(&chat.events(turn)), "Nothing.");
    let log = stage.server.log();
    let read = prompt(&log.requests[0]);
    assert!(!read.contains("Dear diary"), "{read}");
}

#[test]
fn what_the_user_looks_at_goes_with_a_question_unless_it_is_left_out() {
    let stage = Stage::new(|_| Answer::turn(Turn::text("Nothing.")));
    let mut chat = stage.client();
    let uri = stage.world.uri("src/io.py");
    chat.client.open(&uri, "python", "x = 1\n");
    for (with, is_shown) in [
        (json!({}), true),
        (json!({ "textDocument": { "uri": uri } }), true),
        (json!({ "withoutDocument": true }), false),
        (
            json!({ "withoutDocument": true, "textDocument": { "uri": uri } }),
            false,
        ),
    ] {
        let turn = chat.send("Anything?", &with);
        let events = chat.events(turn);
        let shown = events[0]["shown"].as_array();
        let is_open = |piece: &Value| piece["reason"] == "open in the editor";
        assert_eq!(
            shown.is_some_and(|shown| shown.iter().any(is_open)),
            is_shown,
            "{with}: {shown:?}"
        );
    }
}

#[test]
fn asking_twice_under_one_key_asks_once() {
    let stage = Stage::new(|_| Answer::turn(Turn::text("Once.")));
    let mut chat = stage.client();
    let first = chat.send("Once?", &json!({ "requestId": "k1" }));
    let second = chat.send("Once?", &json!({ "requestId": "k1" }));
    assert_eq!(first, second);
    chat.events(first);
    assert_eq!(chat.send("Once?", &json!({ "requestId": "k1" })), first);
    assert_eq!(stage.server.log().requests.len(), 1);
}

#[test]
fn edits_of_an_answer_are_offered_as_hunks_and_nothing_is_written_before_they_are_accepted() {
    let stage = Stage::new(|seen| {
        Answer::turn(Turn::text(match seen.nth {
            0 => {
                "Use pi:\n\nsrc/maths.py\n```python\n<<<<<<< SEARCH\n    return 3 * radius * radius\n=======\n    return math.pi * radius ** 2\n>>>>>>> REPLACE\n```\n"
            }
            1 => {
                "src/maths.py\n<<<<<<< SEARCH\n    no such line\n=======\n    x\n>>>>>>> REPLACE\n"
            }
            _ => {
                "../outside.py\n<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\n\nAn example:\n```python\nprint(1)\n```\n"
            }
        }))
    });
    let mut chat = stage.client();
    let turn = chat.send("Make it exact.", &json!({}));
    let events = chat.events(turn);
    let diff = events.iter().find(|e| e["kind"] == "diff").unwrap();
    assert_eq!(
        diff["files"],
        json!([{ "path": "src/maths.py", "added": 1, "removed": 1 }])
    );
    let file = stage.world.root().join("src/maths.py");
    assert_eq!(fs::read_to_string(&file).unwrap(), MATHS);
    let listed = ask(&mut chat.client, "pairwright/diff/list", &json!({}));
    assert_eq!(listed["files"][0]["hunks"][0]["proposal"], diff["proposal"]);
    assert_eq!(listed["files"][0]["hunks"][0]["author"], "chat");
    let accepted = ask(
        &mut chat.client,
        "pairwright/diff/apply",
        &json!({ "proposal": diff["proposal"] }),
    );
    assert_eq!(accepted["conflicts"], json!([]));
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("math.pi * radius ** 2")
    );

    for part in ["cannot be offered", "cannot be offered"] {
        let turn = chat.send("And again?", &json!({}));
        let events = chat.events(turn);
        let notice = events.iter().find(|e| e["kind"] == "notice").unwrap();
        assert!(notice["text"].as_str().unwrap().contains(part), "{notice}");
        assert!(!kinds(&events).contains(&"diff"));
    }
    assert!(!stage.world.root().join("../outside.py").exists());
}

#[test]
fn a_secret_that_comes_in_pieces_is_not_shown_before_it_is_whole() {
    let pieces = [
        "Use gh",
        "p_16C7e42F292c",
        "6912E7710c838347",
        "Ae178B4a ",
        "now.",
    ];
    let thoughts = ["password = hun", "ter2hunter2, I guess"];
    let stage = Stage::new(move |_| {
        let turn = Turn::pieces(pieces).with_thinking(&thoughts);
        Answer::turn(turn.with_gap(Duration::from_millis(20)))
    });
    let mut chat = stage.client();
    let turn = chat.send("How?", &json!({}));
    let events = chat.events(turn);
    let texts = |kind: &str| -> Vec<&str> {
        let told = events.iter().filter(|e| e["kind"] == kind);
        told.map(|e| e["text"].as_str().unwrap()).collect()
    };
    assert_eq!(
        texts("thought").concat(),
        "password = [redacted value], I guess"
    );
    assert_eq!(texts("message").concat(), "Use [redacted key] now.");
    stage.runtime.block_on(stage.server.stop());
}

#[test]
fn what_the_user_points_at_is_shown_and_what_may_not_be_read_is_said() {
    let stage = Stage::new(|_| Answer::turn(Turn::text("I see.")));
    let mut chat = stage.client();
    let uri = stage.world.uri("src/maths.py");
    let turn = chat.send("Why?", &json!({ "contextRefs": [
        { "type": "file", "path": uri, "firstLine": 5, "lastLine": 6 },
        { "type": "symbol", "name": "read_all" },
        { "type": "terminal", "text": "TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a\nTraceback\n" },
        { "type": "diagnostics", "items": [{ "path": "src/io.py", "line": 2, "message": "open is never closed" }] },
        { "type": "file", "path": ".env" },
        { "type": "file", "path": "/etc/passwd" },
    ] }));
    let events = chat.events(turn);
    let notices: Vec<&str> = events
        .iter()
        .filter(|e| e["kind"] == "notice")
        .map(|e| e["text"].as_str().unwrap())
        .collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    let read = prompt(&stage.server.log().requests[0]);
    for part in [
        "perimeter_of_square",
        "def read_all",
        "Traceback",
        "open is never closed",
        "[redacted",
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
    for part in ["ghp_", "hunter2", "root:"] {
        assert!(!read.contains(part), "{part}: {read}");
    }
}

#[test]
fn a_model_that_fails_is_explained_and_the_session_goes_on() {
    let stage = Stage::new(|seen| match seen.nth {
        0 => Answer::error(401, "no such key"),
        1 => Answer::turn(Turn::text("It begins").ending(Ending::Cut)),
        _ => Answer::turn(Turn::text("Well.")),
    });
    let mut chat = stage.client();
    let turn = chat.send("One?", &json!({}));
    let done = chat.events(turn).pop().unwrap();
    assert_eq!(done["reason"], "failed");
    let summary = done["summary"].as_str().unwrap();
    assert!(
        summary.contains("did not accept the key") && summary.contains("models.chat.apiKeyEnv"),
        "{summary}"
    );
    // A key that was refused is not tried again at once.
    let turn = chat.send("Two?", &json!({}));
    assert_eq!(chat.events(turn).pop().unwrap()["reason"], "failed");
}

#[test]
fn without_a_model_search_answers_and_says_so() {
    let world = world();
    let mut chat = Chatting::with(&world);
    let turn = chat.send("Where is the area of a circle computed?", &json!({}));
    let events = chat.events(turn);
    let text = said(&events);
    assert!(
        text.starts_with("*This is the result of a search, not a model's answer"),
        "{text}"
    );
    let first = text.lines().find(|line| line.starts_with("1. ")).unwrap();
    assert!(first.contains("[src/maths.py:1](file://"), "{text}");
    assert!(text.contains("models.chat"), "{text}");
    assert_eq!(events.last().unwrap()["reason"], "search");
    let turn = chat.send("zzzqqq xyzzy", &json!({}));
    assert_eq!(chat.events(turn).last().unwrap()["reason"], "search");
}

#[test]
fn pieces_that_come_close_behind_one_another_are_passed_on_together() {
    let n_pieces = 600;
    let stage = Stage::new(move |_| {
        let pieces = (0..n_pieces).map(|nth| format!("{nth} "));
        Answer::turn(Turn::pieces(pieces).with_gap(Duration::from_millis(1)))
    });
    let mut chat = stage.client();
    let turn = chat.send("Count.", &json!({}));
    let events = chat.events(turn);
    let expected: String = (0..n_pieces).map(|nth| format!("{nth} ")).collect();
    assert_eq!(said(&events), expected);
    let times: Vec<i64> = events
        .iter()
        .filter(|e| e["kind"] == "message")
        .map(|e| e["ts"].as_i64().unwrap())
        .collect();
    let took = times.last().unwrap() - times[0];
    assert!(
        times.len() as i64 <= took / 4 + 3,
        "{} events in {took} ms",
        times.len()
    );
    assert!(times.len() > 5, "they are not held back: {}", times.len());
}

fn run(world: &World, arguments: &[&str]) -> (Output, String, String) {
    let output = world.command(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn the_terminal_asks_goes_on_and_applies() {
    let stage = Stage::new(|seen| {
        Answer::turn(Turn::text(match seen.nth {
            0 => "It is in src/maths.py:1.\u{1b}[2J",
            _ => {
                "src/maths.py\n<<<<<<< SEARCH\n    return 4 * side\n=======\n    return side * 4\n>>>>>>> REPLACE\n"
            }
        }))
    });
    let (output, out, err) = run(
        &stage.world,
        &["chat", "Where", "is it?", "--file", "src/maths.py:1-2"],
    );
    assert!(output.status.success(), "{err}");
    assert!(
        out.starts_with("It is in src/maths.py:1.\\u{1b}[2J\n"),
        "{out:?}"
    );
    assert!(out.contains("named: src/maths.py:1"), "{out}");
    let session = err
        .split("--session ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();

    let (output, out, err) = run(
        &stage.world,
        &[
            "chat",
            "Turn it.",
            "--session",
            session,
            "--apply",
            "--json",
        ],
    );
    assert!(output.status.success(), "{err}");
    let events: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        events.iter().any(|e| e["kind"] == "diff" && e["turn"] == 2),
        "{out}"
    );
    assert!(events.last().unwrap()["rollbackToken"].is_string(), "{out}");
    let file = fs::read_to_string(stage.world.root().join("src/maths.py")).unwrap();
    assert_eq!(file, MATHS.replace("4 * side", "side * 4"));
    assert_eq!(
        broken_prefix(&stage.server.log()),
        None,
        "also over two processes"
    );
}

#[test]
fn the_terminal_is_answered_by_search_without_a_model_and_told_what_fails_with_one() {
    let world = world();
    let (output, out, _) = run(&world, &["chat", "area of a circle"]);
    assert!(output.status.success());
    assert!(
        out.contains("not a model's answer") && out.contains("src/maths.py:1"),
        "{out}"
    );

    world.write_settings("[models.chat]\nurl = 'http://127.0.0.1:9'\nmodel = 'none'\n");
    let (output, out, err) = run(&world, &["chat", "area of a circle"]);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(
        err.contains("refused the connection") && err.contains("models.chat.url"),
        "{err}"
    );
}
