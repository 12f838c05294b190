//! The client against a service that follows a script of faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox_agent::frame;
use sandbox_client::changes::{self, Bounds};
use sandbox_client::client::{Address, Addressing, Client, ClientError, End, Endpoint, Sandbox};
use sandbox_client::copy::{self, Copied};
use sandbox_client::output::Cap;
use sandbox_client::protocol::Create;
use sandbox_client::tier::Tier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::shell;

/// Answers each request with the next answer, and keeps what was asked.
struct Faulty {
    client: Client,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    async fn start(addressing: Addressing, answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                kept.lock().unwrap().push(request);
                // The client may leave before it has read a hostile answer.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        let client = Client::new(Endpoint {
            address: Address::Url(format!("http://{address}")),
            key: "key".to_owned(),
            addressing,
        });
        Self {
            client: client.unwrap(),
            asked,
        }
    }

    /// A sandbox of a service whose further answers are these.
    async fn sandbox(answers: Vec<Vec<u8>>) -> Sandbox {
        let all = [vec![created("abc")], answers].concat();
        let faulty = Self::start(Addressing::Header, all).await;
        faulty.client.create(Create::default()).await.unwrap()
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.unwrap();
        request.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if n == 0 || body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                return text.into_owned();
            }
        }
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn ok(body: &Value) -> Vec<u8> {
    answer("200 OK", "", body.to_string().as_bytes())
}

fn created(id: &str) -> Vec<u8> {
    ok(&json!({ "sandboxID": id, "pairwright": { "tier": "namespace" }, "unknown": [1] }))
}

fn event(event: &Value) -> Vec<u8> {
    frame::message(&json!({ "event": event })).to_vec()
}

fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    answer("200 OK", "", &frames.concat())
}

fn start() -> Vec<u8> {
    event(&json!({ "start": { "pid": 7 } }))
}

fn end() -> Vec<u8> {
    event(&json!({ "end": { "exited": true } }))
}

fn last() -> Vec<u8> {
    frame::end(&json!({})).to_vec()
}

/// What becomes of a command whose stream is this.
async fn outcome(answer: Vec<u8>) -> Result<(End, String), ClientError> {
    let sandbox = Faulty::sandbox(vec![answer]).await;
    let finished = sandbox.run(shell("true"), Cap(1000)).await?;
    Ok((finished.end, finished.stdout.text()))
}

#[tokio::test]
async fn a_stream_that_is_cut_is_a_sandbox_that_is_gone() {
    let whole = stream(&[
        start(),
        event(&json!({"data": {"stdout": "aGk="}})),
        end(),
        last(),
    ]);
    assert_eq!(outcome(whole).await, Ok((End::Exited(0), "hi".to_owned())));
    let cut_short = [stream(&[start(), end(), last()]), Vec::new()].concat();
    for (what, answer) in [
        ("502", answer("502 Bad Gateway", "", b"{}")),
        ("no last frame", stream(&[start(), end()])),
        ("an end without its kind", stream(&[start(), last()])),
        (
            "in the middle of a frame",
            cut_short[..cut_short.len() - 3].to_vec(),
        ),
        ("half a frame", stream(&[start(), end()[..9].to_vec()])),
    ] {
        assert_eq!(outcome(answer).await, Err(ClientError::Gone), "{what}");
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_is_an_error_and_what_is_new_in_it_is_not() {
    let new = event(&json!({ "teleported": { "to": 1 } }));
    let keepalive = event(&json!({ "keepalive": {} }));
    let fine = stream(&[start(), new, keepalive, end(), last()]);
    assert_eq!(outcome(fine).await, Ok((End::Exited(0), String::new())));
    for (what, frames) in [
        ("endless frame", vec![vec![0, 0xff, 0xff, 0xff, 0xff, b'{']]),
        ("compressed", vec![start(), vec![1, 0, 0, 0, 1, 0]]),
        ("after the end", vec![start(), end(), last(), start()]),
        ("two ends", vec![start(), end(), last(), last()]),
        ("no JSON", vec![start(), vec![0, 0, 0, 0, 2, b'x', b'x']]),
        (
            "no base64",
            vec![start(), event(&json!({"data": {"stdout": "%"}}))],
        ),
        ("no start", vec![last()]),
    ] {
        let outcome = outcome(stream(&frames)).await;
        assert!(
            matches!(outcome, Err(ClientError::Protocol(_))),
            "{what}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_time_that_is_over_and_a_signal_are_told_apart_from_an_exit() {
    let late = json!({ "error": { "code": "deadline_exceeded", "message": "late" } });
    let late = stream(&[start(), frame::end(&late).to_vec()]);
    assert_eq!(outcome(late).await.unwrap().0, End::TimedOut);
    let killed = json!({ "end": { "exitCode": -1, "status": "signal: killed" } });
    let killed = stream(&[start(), event(&killed), last()]);
    assert_eq!(
        outcome(killed).await.unwrap().0,
        End::Killed("signal: killed".to_owned())
    );
}

#[tokio::test]
async fn what_a_service_says_in_words_is_short_and_nothing_a_terminal_obeys() {
    let hostile = format!("\u{1b}]52;c;eA==\u{7}no\r\n\u{202e}{}", "x".repeat(1 << 20));
    let is_harmless = |said: &str| {
        let is_obeyed = |c: char| c.is_control() || c == '\u{202e}';
        said.contains("52;c;eA==no") && said.len() < 1_000 && !said.contains(is_obeyed)
    };
    let error = json!({ "error": { "code": "internal", "message": hostile } });
    let error = outcome(stream(&[start(), frame::end(&error).to_vec()])).await;
    let error = error.unwrap_err().to_string();
    assert!(is_harmless(&error), "{error:.2000}");
    let killed = json!({ "end": { "exitCode": -1, "status": hostile } });
    let killed = outcome(stream(&[start(), event(&killed), last()])).await;
    let Ok((End::Killed(status), _)) = killed else {
        panic!("{killed:?}");
    };
    assert!(is_harmless(&status), "{status:.2000}");
    let unknown = json!({ "path": encode("a"), "kind": hostile });
    let listed = ok(&json!({ "entries": [unknown], "truncated": false }));
    let sandbox = Faulty::sandbox(vec![listed]).await;
    let workspace = tempfile::tempdir().unwrap();
    let wrong = changes::collect(&sandbox, workspace.path(), Bounds::default()).await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(is_harmless(&wrong), "{wrong:.2000}");
}

#[tokio::test]
async fn a_copy_that_is_not_made_in_time_says_so() {
    let late = json!({ "error": { "code": "deadline_exceeded", "message": "late" } });
    let late = stream(&[start(), frame::end(&late).to_vec()]);
    let sandbox = Faulty::sandbox(vec![late]).await;
    let workspace = tempfile::tempdir().unwrap();
    let bounds = copy::Bounds::default();
    let copied = Copied::bring(&sandbox, workspace.path(), |_| false, bounds).await;
    let why = copied.unwrap_err().to_string();
    assert!(
        why.ends_with("it was killed after 0 s, the time that a command has"),
        "{why}"
    );
}

#[tokio::test]
async fn creating_falls_back_to_the_newer_path_and_always_denies_the_network() {
    let answers = vec![answer("404 Not Found", "", b"{}"), created("abc")];
    let faulty = Faulty::start(Addressing::Header, answers).await;
    let sandbox = faulty.client.create(Create::default()).await.unwrap();
    assert_eq!(
        sandbox.tier(),
        Tier::Remote,
        "only a private socket is believed"
    );
    let asked = faulty.asked.lock().unwrap().clone();
    assert!(
        asked[0].starts_with("POST /sandboxes ") && asked[1].starts_with("POST /v2/sandboxes ")
    );
    let body: Value = serde_json::from_str(asked[1].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["allow_internet_access"], false);
    assert_eq!(body["network"]["denyOut"], json!(["0.0.0.0/0", "::/0"]));
    assert_eq!(body["secure"], true);
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again_when_it_says_so() {
    let busy = |retry: &str| {
        let headers = format!("should-retry: {retry}\r\nretry-after: 0\r\n");
        answer(
            "503 Service Unavailable",
            &headers,
            b"{\"message\":\"busy\"}",
        )
    };
    let again = Faulty::start(Addressing::Header, vec![busy("true"), created("abc")]).await;
    assert_eq!(
        again.client.create(Create::default()).await.unwrap().id(),
        "abc"
    );
    let never = Faulty::start(Addressing::Header, vec![busy("false"), created("abc")]).await;
    let message = "busy".to_owned();
    let refused = ClientError::Refused {
        status: 503,
        message,
    };
    assert_eq!(
        never.client.create(Create::default()).await.err(),
        Some(refused)
    );
    assert_eq!(never.asked.lock().unwrap().len(), 1);
}

/// A second one would run for nobody until its time is over.
#[tokio::test]
async fn a_sandbox_that_may_have_been_made_is_not_asked_for_again() {
    for status in ["502 Bad Gateway", "504 Gateway Timeout"] {
        let lost = answer(status, "retry-after: 0\r\n", b"{}");
        let faulty = Faulty::start(Addressing::Header, vec![lost, created("abc")]).await;
        let made = faulty.client.create(Create::default()).await.err();
        let is_refused = matches!(made, Some(ClientError::Refused { .. }));
        assert!(is_refused, "{status}: {made:?}");
        assert_eq!(faulty.asked.lock().unwrap().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn ids_that_are_not_the_one_asked_for_or_none_are_refused() {
    for id in [
        "",
        "../other",
        "a/b",
        "a.b",
        "x y",
        "\u{e9}",
        &"a".repeat(200),
    ] {
        let faulty = Faulty::start(Addressing::Header, vec![created(id)]).await;
        let made = faulty.client.create(Create::default()).await.err();
        assert!(
            matches!(made, Some(ClientError::Protocol(_))),
            "{id}: {made:?}"
        );
    }
    let faulty = Faulty::start(Addressing::Header, vec![created("other")]).await;
    let taken = faulty
        .client
        .connect("mine", Duration::from_secs(9))
        .await
        .err();
    assert!(matches!(taken, Some(ClientError::Protocol(_))), "{taken:?}");
}

#[tokio::test]
async fn the_path_names_the_sandbox_where_a_service_wants_it() {
    let answers = vec![created("abc"), answer("200 OK", "", b"text")];
    let faulty = Faulty::start(Addressing::Path, answers).await;
    let sandbox = faulty.client.create(Create::default()).await.unwrap();
    assert_eq!(sandbox.read_file("/a b", 10).await.unwrap(), "text");
    let asked = faulty.asked.lock().unwrap()[1].clone();
    assert!(
        asked.starts_with("GET /kruise/abc/49983/files?path=%2Fa%20b "),
        "{asked}"
    );
}

/// The changes of an empty workspace, as a service lists them at its top.
async fn changes(names: &[&[u8]], contents: &[u8]) -> Result<changes::Changes, ClientError> {
    use base64::Engine;
    let encode = |name: &[u8]| base64::engine::general_purpose::STANDARD.encode(name);
    let file = json!({ "file": { "size": 1, "mode": 0o7777 } });
    let entries: Vec<Value> = names
        .iter()
        .map(|name| json!({ "path": encode(name), "kind": file }))
        .collect();
    let listed = ok(&json!({ "entries": entries, "truncated": false }));
    let sandbox = Faulty::sandbox(vec![listed, answer("200 OK", "", contents)]).await;
    let workspace = tempfile::tempdir().unwrap();
    changes::collect(&sandbox, workspace.path(), Bounds::default()).await
}

#[tokio::test]
async fn hostile_names_never_become_paths() {
    let names: [&[u8]; 22] = [
        b"..",
        b".",
        b"",
        b"C:",
        b"a\\b",
        b"nul",
        b"COM1.txt",
        b"a\0b",
        b"a\nb",
        b"a\x1b[2J",
        b"end ",
        b"end.",
        b".git",
        b".GIT",
        b".git ",
        b"git~1",
        b".g\xe2\x80\x8bit",
        b"\xff\xfe",
        b"x\xe2\x80\xaetxt",
        b"a:b",
        b".git::$INDEX_ALLOCATION",
        &[b'n'; 300],
    ];
    for name in names {
        let changes = changes(&[name], &[]).await.unwrap();
        assert!(changes.files.is_empty(), "{name:?}");
        assert_eq!(changes.refused.len(), 1, "{name:?}");
    }
    for outside in [
        b"/etc/passwd".as_slice(),
        b"../x",
        b"a/../../b",
        b"deep/file",
    ] {
        let changes = changes(&[outside], &[]).await;
        assert!(
            matches!(changes, Err(ClientError::Protocol(_))),
            "{outside:?}: {changes:?}"
        );
    }
}

#[tokio::test]
async fn contents_of_another_length_are_not_believed() {
    let whole = [&1u64.to_be_bytes()[..], b"x"].concat();
    assert_eq!(changes(&[b"a"], &whole).await.unwrap().files.len(), 1);
    for contents in [
        vec![],
        vec![0; 7],
        9u64.to_be_bytes().to_vec(),
        vec![0x7f; 40],
    ] {
        let changes = changes(&[b"a"], &contents).await;
        assert!(
            matches!(changes, Err(ClientError::Protocol(_))),
            "{contents:?}: {changes:?}"
        );
    }
}

fn encode(path: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(path)
}

fn listed(entries: impl Iterator<Item = (String, Value)>) -> Vec<u8> {
    let entry = |(path, kind): (String, Value)| json!({ "path": encode(&path), "kind": kind });
    let entries: Vec<Value> = entries.map(entry).collect();
    ok(&json!({ "entries": entries, "truncated": false }))
}

#[tokio::test]
async fn a_million_changed_files_are_an_end_and_no_burden() {
    // As no kernel can tell of them at one time.
    let gone = (0..1_000_000).map(|n| (format!("{n}"), json!("deleted")));
    let sandbox = Faulty::sandbox(vec![listed(gone)]).await;
    let workspace = tempfile::tempdir().unwrap();
    let outcome = changes::collect(&sandbox, workspace.path(), Bounds::default()).await;
    assert!(
        matches!(&outcome, Err(ClientError::Protocol(why)) if why.contains("more than")),
        "{outcome:?}"
    );

    // As many as are told of, by directories that never end.
    let directory = json!({ "directory": { "opaque": false } });
    let name = "n".repeat(255);
    let mut answers = Vec::new();
    let mut path = name.clone();
    for _ in 0..40 {
        answers.push(listed(std::iter::once((path.clone(), directory.clone()))));
        path = format!("{path}/{name}");
    }
    let sandbox = Faulty::sandbox(answers).await;
    let changes = changes::collect(&sandbox, workspace.path(), Bounds::default()).await;
    let changes = changes.unwrap();
    assert!(changes.files.is_empty());
    assert_eq!(changes.refused.len(), 1);
}
