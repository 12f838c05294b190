//! The part of the tour about chat and tasks, with a scripted model: a question is answered, a task
//! finds and mends a fault and runs the project's test in the sandbox, one of its commands wants a
//! host that nobody allowed, its hunk is accepted and taken back.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::script::{self, Turn};
use super::{Scratch, faint, this_server};
use crate::cli::style::{self, harmless, paint};
use crate::driver::{Client, PATIENCE};

const FILES: &[(&str, &str)] = &[
    ("README.md", "# Shapes\n\nAreas of squares.\n"),
    (
        "shapes.sh",
        "area_of_square() {\n    echo $(($1 + $1))\n}\n",
    ),
    (
        "test.sh",
        ". ./shapes.sh\nfound=$(area_of_square 3)\n[ \"$found\" = 9 ] && echo passed && exit\n\
         echo \"area_of_square 3: $found instead of 9\"\nexit 1\n",
    ),
];
const QUESTION: &str = "Where is the area of a square computed?";
const PROMPT: &str = "The test fails. Mend the fault.";

/// What the model says: first to the question, then in the task.
const TURNS: &[Turn] = &[
    Turn {
        text: "In shapes.sh:2, which adds the side to itself.",
        calls: &[],
    },
    Turn {
        text: "",
        calls: &[
            ("search", r#"{"query":"area of a square"}"#),
            ("run", r#"{"command":"sh test.sh"}"#),
        ],
    },
    Turn {
        text: "",
        calls: &[(
            "edit",
            r#"{"path":"shapes.sh","oldString":"$1 + $1","newString":"$1 * $1"}"#,
        )],
    },
    Turn {
        text: "",
        calls: &[("run", r#"{"command":"sh test.sh"}"#)],
    },
    Turn {
        text: "",
        calls: &[(
            "run",
            r#"{"command":"curl --silent --show-error https://statistics.example/"}"#,
        )],
    },
    Turn {
        text: "",
        calls: &[(
            "finish",
            r#"{"summary":"The area of a square is its side times itself.","succeeded":true}"#,
        )],
    },
];

/// Time for the sandbox to start and the test to run twice.
const TASK: Duration = Duration::from_secs(120);

/// Shows a question and a task in a folder of their own, with a server of their own.
pub(super) fn show(out: &mut impl Write) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    let root = scratch.0.join("shapes");
    fs::create_dir_all(&root).context("making a folder to show a task in")?;
    for (name, text) in FILES {
        fs::write(root.join(name), text)?;
    }
    let runtime = crate::cli::runtime()?;
    let url = runtime.block_on(script::serve(TURNS))?;
    let mut client = open(&scratch.0, &root, &url)?;
    ask(&mut client, out)?;
    let asked = work(&mut client, out)?;
    review(&mut client, out, &root)?;
    client.leave()?;
    let audit = format!("{asked}; `pairwright audit show` tells all of it for a task of yours");
    writeln!(out, "  {}\n", faint(audit))?;
    Ok(())
}

/// Starts a server that knows nothing of the user's settings and keeps its state in `home`.
fn open(home: &Path, root: &Path, url: &str) -> anyhow::Result<Client> {
    let mut command: Command = this_server()?;
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PAIRWRIGHT_") {
            command.env_remove(name);
        }
    }
    for (name, folder) in [
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_CACHE_HOME", "cache"),
    ] {
        command.env(name, home.join(folder));
    }
    for mode in ["CHAT", "AGENT"] {
        command.env(format!("PAIRWRIGHT_MODELS_{mode}_URL"), url);
        command.env(format!("PAIRWRIGHT_MODELS_{mode}_MODEL"), "scripted");
        command.env(format!("PAIRWRIGHT_MODELS_{mode}_HTTP"), "h2c");
    }
    let mut client = Client::start(command)?;
    client.on_request("window/showMessageRequest", |_| {
        (Vec::new(), Some(json!({ "title": "Trust" })))
    });
    client.on_request("pairwright/approval/request", |_| {
        (Vec::new(), Some(json!({ "decision": "yes" })))
    });
    let uri = crate::session::document::uri_of(root);
    let params = json!({
        "processId": std::process::id(),
        "rootUri": uri,
        "workspaceFolders": [{ "uri": uri, "name": "shapes" }],
        "capabilities": { "experimental": { "pairwright": {
            "events": true, "approvals": true, "hunks": true,
        } } },
    });
    let answer = client.initialize_with(&params)?;
    answer.result.map_err(|why| refused("initialize", &why))?;
    Ok(client)
}

fn ask(client: &mut Client, out: &mut impl Write) -> anyhow::Result<()> {
    let session = request(client, "pairwright/session/new", &json!({}))?;
    let params = json!({ "session": session["session"], "text": QUESTION });
    request(client, "pairwright/chat/send", &params)?;
    writeln!(out, "  you    {QUESTION}")?;
    let is_end = |event: &Value| event["kind"] == "done";
    client.wait_for("pairwright/event", is_end, Instant::now() + PATIENCE)?;
    let events = events(client, session["session"].as_str().unwrap_or_default());
    let said: String = events
        .iter()
        .filter_map(|e| e["text"].as_str().filter(|_| e["kind"] == "message"))
        .collect();
    writeln!(out, "  model  {}", harmless(&said))?;
    let places = events.iter().filter(|e| e["kind"] == "cited");
    for place in places.filter_map(|e| e["places"].as_array()).flatten() {
        let at = format!(
            "{}:{}",
            place["path"].as_str().unwrap_or_default(),
            place["firstLine"]
        );
        writeln!(out, "         {}", faint(format!("a link to {at}")))?;
    }
    writeln!(out)?;
    Ok(())
}

/// Runs the task and shows its steps. Returns how many events it left.
fn work(client: &mut Client, out: &mut impl Write) -> anyhow::Result<String> {
    let began = Instant::now();
    let started = request(
        client,
        "pairwright/task/start",
        &json!({ "prompt": PROMPT }),
    )?;
    writeln!(out, "  you    {PROMPT}")?;
    writeln!(out, "  asked  trust this folder? yes, once for all")?;
    let task = started["task"].as_str().unwrap_or_default().to_owned();
    let is_end = |event: &Value| event["session"] == task && event["kind"] == "done";
    let done = client.wait_for("pairwright/event", is_end, began + TASK)?;
    let events = events(client, &task);
    for event in &events {
        if let Some(line) = step(event) {
            writeln!(out, "  {line}")?;
        }
    }
    let summary = done["summary"].as_str().unwrap_or_default();
    let took = super::ms(began.elapsed());
    writeln!(out, "  model  {} {}", harmless(summary), faint(took))?;
    Ok(format!("{} events in the log of this task", events.len()))
}

/// What of an event a reader of the tour wants to see.
fn step(event: &Value) -> Option<String> {
    let text = |name: &str| harmless(event[name].as_str().unwrap_or_default());
    match event["kind"].as_str()? {
        "tool_call" => Some(format!(
            "task   {} {}",
            text("tool"),
            faint(text("arguments"))
        )),
        "approval" => {
            let command = event["subject"]["command"].as_str().unwrap_or_default();
            Some(format!("asked  run `{}`? yes", harmless(command)))
        }
        "denied" => {
            let instead = event["instead"].as_str().unwrap_or_default();
            let line = format!("denied {}: {}", text("what"), text("why"));
            let way = faint(format!("({})", harmless(instead)));
            Some(format!("{} {way}", paint(style::WARN, line)))
        }
        "tool_result" => {
            let text = text("text");
            let telling = text.lines().find(|line| {
                line.contains("passed") || line.contains("instead of") || line.contains("sandbox")
            })?;
            Some(format!("       {}", faint(telling.trim())))
        }
        _ => None,
    }
}

/// Accepts what the task proposes and takes it back.
fn review(client: &mut Client, out: &mut impl Write, root: &Path) -> anyhow::Result<()> {
    let listed = request(client, "pairwright/diff/list", &json!({}))?;
    let files = listed["files"].as_array().cloned().unwrap_or_default();
    let hunks: Vec<&Value> = files
        .iter()
        .filter_map(|file| file["hunks"].as_array())
        .flatten()
        .map(|hunk| &hunk["id"])
        .collect();
    let applied = request(client, "pairwright/diff/apply", &json!({ "hunks": hunks }))?;
    let mended = fs::read_to_string(root.join("shapes.sh"))?;
    let token = applied["rollbackToken"].as_str().unwrap_or_default();
    let line = mended.lines().nth(1).unwrap_or_default().trim();
    let accepted = paint(style::GOOD, format!("accepted {} hunk", hunks.len()));
    writeln!(out, "  {accepted} as {token}: {line}")?;
    let back = json!({ "rollbackToken": token });
    request(client, "pairwright/diff/rollback", &back)?;
    let verdict = match fs::read_to_string(root.join("shapes.sh"))? == FILES[1].1 {
        true => paint(style::GOOD, "rolled back"),
        false => paint(style::BAD, "the rollback left other text than expected"),
    };
    writeln!(out, "  {verdict}")?;
    Ok(())
}

fn events(client: &Client, session: &str) -> Vec<Value> {
    let notices = client.notices().iter();
    let events = notices.filter(|notice| notice.method == "pairwright/event");
    let of_session = events.filter(|notice| notice.params["session"] == session);
    of_session.map(|notice| notice.params.clone()).collect()
}

fn request(client: &mut Client, method: &str, params: &Value) -> anyhow::Result<Value> {
    let answer = client.request(method, params)?;
    answer.result.map_err(|why| refused(method, &why))
}

fn refused(method: &str, why: &tower_lsp_server::jsonrpc::Error) -> anyhow::Error {
    anyhow::anyhow!("{method}: {}", why.message)
}
