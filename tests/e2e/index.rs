//! The index at work: at a prompt, in what a model is shown, and when its process is killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use model_server::{Answer, Listen, ModelServer};
use pairwright::driver::Client;
use serde_json::{Value, json};

use crate::world::{Edits, World};

const FILES: &[(&str, &str)] = &[
    (
        "src/retry.py",
        "def backoff_delay(attempt, ceiling):\n    \"\"\"Seconds to wait before the next attempt.\"\"\"\n    \
         return min(2 ** attempt, ceiling)\n",
    ),
    (
        "src/client.py",
        "from retry import backoff_delay\n\ndef fetch(url):\n    return backoff_delay(1, 9)\n",
    ),
    (
        "src/colour.py",
        "def blend(left, right):\n    return left\n",
    ),
    (".env", "PASSWORD=backoff_delay_hunter2\n"),
];

fn run(world: &World, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut child = world
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_ref()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn stdout(world: &World, arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let output = run(world, arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn search_names_the_file_the_lines_and_the_reasons() {
    let world = World::new(FILES);
    let question = ["search", "seconds", "before", "next", "attempt"];
    let text = stdout(&world, &question, "");
    assert!(
        text.starts_with("src/retry.py\n     1-3     backoff_delay\n"),
        "{text}"
    );
    let explained = stdout(&world, &["search", "--explain", "attempt backoff"], "");
    assert!(explained.contains("words in"), "{explained}");
    let found = lines(&stdout(
        &world,
        &["search", "--json", "--limit", "1", "PASSWORD backoff"],
        "",
    ));
    let files = found[0]["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0]["path"].as_str().unwrap().ends_with(".py"));
    assert!(!found[0].to_string().contains("hunter2"));
}

#[test]
fn a_batch_of_questions_is_answered_line_by_line() {
    let world = World::new(FILES);
    let input = [
        json!({ "id": 1, "query": "blend colours" }).to_string(),
        "not json".to_owned(),
        json!({ "id": "x", "query": "delay", "open": ["src/client.py", "../.."], "mentioned": ["backoff_delay"] })
            .to_string(),
        json!({ "id": 3, "query": "" }).to_string(),
    ]
    .join("\n");
    // A line that is not UTF-8 is a line like others.
    let input = [b"\xff\n", input.as_bytes()].concat();
    let answers = lines(&stdout(&world, &["search", "--batch"], &input));
    assert_eq!(answers.len(), 5);
    assert!(answers[0]["error"].as_str().unwrap().contains("line 1"));
    let answers = &answers[1..];
    assert_eq!(answers[0]["files"][0]["path"], "src/colour.py");
    assert!(answers[0]["files"][0]["signals"].is_object() && answers[0]["ms"].is_f64());
    assert!(answers[1]["error"].as_str().unwrap().contains("line 3"));
    assert_eq!(
        (&answers[2]["id"], &answers[2]["files"][0]["path"]),
        (&json!("x"), &json!("src/retry.py"))
    );
    assert_eq!(answers[3]["id"], 3);
}

#[test]
fn the_map_shows_signatures_of_what_is_used_and_no_bodies() {
    let world = World::new(FILES);
    let map = stdout(&world, &["map", "--focus", "src/client.py"], "");
    assert!(
        map.contains("src/retry.py") && map.contains("def backoff_delay(attempt, ceiling)"),
        "{map}"
    );
    assert!(!map.contains("min(2") && !map.contains("hunter2"), "{map}");
    let small = lines(&stdout(&world, &["map", "--budget", "8", "--json"], ""));
    assert!(small[0]["tokens"].as_u64().unwrap() <= 8);
}

#[test]
fn the_index_says_what_is_in_it_and_can_be_removed() {
    let world = World::new(FILES);
    let built = lines(&stdout(&world, &["index", "--json"], ""));
    assert_eq!(
        (&built[0]["nFiles"], &built[0]["nIndexed"]),
        (&json!(4), &json!(3))
    );
    assert!(
        built[0]["dir"]
            .as_str()
            .unwrap()
            .starts_with(world.home().to_str().unwrap())
    );
    let told = stdout(&world, &["index", "--stats"], "");
    assert!(told.contains("4 known, 3 indexed"), "{told}");
    let cleaned = lines(&stdout(&world, &["index", "--clean", "--json"], ""));
    assert!(cleaned[0]["freedBytes"].as_u64().unwrap() > 0);
    let nothing = stdout(&world, &["index", "--stats"], "");
    assert!(nothing.contains("0 known"), "{nothing}");
    let outside = run(&world, &["search", "--root", "/nowhere/at/all", "x"], "");
    assert_eq!(outside.status.code(), Some(1));
}

#[test]
fn killed_at_any_moment_it_answers_as_if_nothing_had_happened() {
    let world = World::new(FILES);
    for n in 0..400 {
        let text = format!("def number_{n}(value):\n    return blend(value, {n})\n");
        world.write(&format!("many/part_{}/file_{n}.py", n % 20), &text);
    }
    let question = ["search", "--json", "--limit", "1", "number_77 value blend"];
    let answers_well = |round: u32| {
        let found = lines(&stdout(&world, &question, ""));
        let path = &found[0]["files"][0]["path"];
        assert_eq!(path, "many/part_17/file_77.py", "round {round}");
        let told = lines(&stdout(&world, &["index", "--json"], ""));
        let told = (&told[0]["nIndexed"], &told[0]["nFaults"]);
        assert_eq!(told, (&json!(404), &json!(0)), "round {round}");
    };
    for round in 0..12_u32 {
        if round % 3 == 0 {
            stdout(&world, &["index", "--clean"], "");
        }
        world.write(
            "many/changed.py",
            &format!("def changed_{round}():\n    pass\n"),
        );
        let mut child = world
            .command(&["search", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The answer comes once all is published; each round is cut a little later on the way.
        let (tell, told) = std::sync::mpsc::channel();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        writeln!(
            child.stdin.as_ref().unwrap(),
            "{}",
            json!({ "id": 1, "query": "blend" })
        )
        .unwrap();
        let listener = std::thread::spawn(move || {
            let mut line = String::new();
            let _ = answers.read_line(&mut line);
            let _ = tell.send(());
        });
        let _ = told.recv_timeout(Duration::from_millis(u64::from(15 * round)));
        child.kill().unwrap();
        child.wait().unwrap();
        listener.join().unwrap();
        answers_well(round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_shown_the_definition_of_what_is_called_in_a_file_that_is_not_open() {
    let model = ModelServer::listen(Listen::default(), |seen| Answer::honest(seen, "1, 9)"))
        .await
        .unwrap();
    let world = World::new(FILES);
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         [local]\nenabled = false\n[complete]\ndeadlineMs = 5000\n",
        model.url()
    ));
    let mut client = world.session();
    let uri = world.uri("src/new.py");
    let text = "def again(url):\n    wait = backoff_delay(\n";
    client.open(&uri, "python", text);
    let place =
        json!({ "textDocument": { "uri": uri }, "position": { "line": 1, "character": 25 } });
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = client
            .request("pairwright/index/status", &Value::Null)
            .unwrap()
            .result
            .unwrap();
        if status[0]["phase"] == "ready" && status[0]["nIndexed"].as_u64() >= Some(3) {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
    let explained = client
        .request("pairwright/context/explain", &place)
        .unwrap()
        .result
        .unwrap();
    let snippets = explained["context"]["snippets"].as_array().unwrap();
    let found = snippets
        .iter()
        .find(|s| s["path"] == "src/retry.py")
        .unwrap();
    assert_eq!(found["reason"], "repository");
    assert!(
        found["text"]
            .as_str()
            .unwrap()
            .contains("def backoff_delay(attempt, ceiling)")
    );
    assert!(!explained.to_string().contains("hunter2"));
    assert!(
        explained["request"]["body"]
            .to_string()
            .contains("def backoff_delay(attempt, ceiling)")
    );

    let search = json!({ "query": "backoff attempt" });
    let hits = client
        .request("pairwright/index/search", &search)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(hits[0]["path"], "src/retry.py");

    // A look-up that takes longer than a few milliseconds is left out of that one prompt.
    let is_shown = |client: &mut Client, column: u32| {
        client.inline(&uri, (1, column));
        model.log().completions().into_iter().any(|seen| {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            body.contains("def backoff_delay(attempt, ceiling)")
        })
    };
    let mut column = 25;
    while !is_shown(&mut client, column) {
        assert!(
            Instant::now() < deadline,
            "the prompt on the wire never held the definition"
        );
        client.type_at(&uri, column as i32, (1, column), " ");
        column += 1;
    }
}

/// What a model of meaning might say: whether a text is about waiting, about colours, or neither.
fn meaning(text: &str) -> Vec<f32> {
    let is_about = |words: &[&str]| f32::from(u8::from(words.iter().any(|w| text.contains(w))));
    vec![
        is_about(&["backoff", "patience"]),
        is_about(&["blend", "mixing paint"]),
        0.1,
    ]
}

fn embedding_settings(model: &ModelServer) -> String {
    format!(
        "[models.embed]\nurl = '{}'\nmodel = 'meaning-1'\n[local]\nenabled = false\n",
        model.url()
    )
}

/// Waits until the index's status is as `wanted`; returns it.
fn status_when(client: &mut Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let told = client.request("pairwright/index/status", &Value::Null);
        let mut told = told.unwrap().result.unwrap();
        // Nothing is told of folders whose index is not open yet.
        let status = told.get_mut(0).map(Value::take).unwrap_or_default();
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
}

fn share_of_meaning(client: &mut Client, query: &str, path: &str) -> Option<f64> {
    let hits = client.request("pairwright/index/search", &json!({ "query": query }));
    let hits = hits.unwrap().result.unwrap();
    let hit = hits.as_array()?.iter().find(|hit| hit["path"] == path)?;
    let reasons = hit["reasons"].as_array()?.iter();
    let reason = |reason: &Value| {
        reason["signal"]
            .as_str()
            .is_some_and(|s| s.starts_with("meaning"))
    };
    reasons
        .filter(|r| reason(r))
        .map(|r| r["value"].as_f64())
        .next()?
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_embedded_once_and_questions_are_answered_by_its_vectors() {
    let model = ModelServer::listen(Listen::default(), |seen| Answer::vectors(seen, meaning))
        .await
        .unwrap();
    let world = World::new(FILES);
    world.write_settings(&embedding_settings(&model));
    let sent = |model: &ModelServer| -> Vec<String> {
        let log = model.log();
        let texts = log.completions().into_iter().flat_map(|seen| {
            let texts = seen.json()["input"].as_array().cloned();
            texts.unwrap_or_default()
        });
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };

    let mut client = world.session();
    let status = status_when(&mut client, |s| s["nVectors"] == 3);
    assert_eq!(status["vectors"]["model"], "meaning-1");
    assert!(status["vectors"]["tokens"].as_u64() > Some(20), "{status}");
    assert_eq!(status["vectors"]["problem"], Value::Null);
    let code = |model: &ModelServer| {
        let texts = sent(model).into_iter();
        let mut code: Vec<String> = texts.filter(|text| text.contains("def ")).collect();
        code.sort();
        code
    };
    assert_eq!(code(&model).len(), 3);
    assert!(!sent(&model).iter().any(|text| text.contains("hunter2")));
    // No word of the question is in the file.
    assert!(share_of_meaning(&mut client, "mixing paint", "src/colour.py") > Some(0.9));
    assert!(sent(&model).contains(&"mixing paint".to_owned()));
    let question = "mixing paint password=hunter2hunter2";
    assert!(share_of_meaning(&mut client, question, "src/colour.py") > Some(0.9));
    assert!(!sent(&model).iter().any(|text| text.contains("hunter2")));
    drop(client);

    // A copy of known code, and a new session: nothing is sent again.
    world.write("src/copy.py", FILES[2].1);
    let mut client = world.session();
    status_when(&mut client, |s| {
        s["nVectors"].as_u64() >= Some(3) && s["nIndexed"] == 4
    });
    assert!(share_of_meaning(&mut client, "mixing paint", "src/colour.py") > Some(0.9));
    assert_eq!(code(&model).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_embedding_model_search_is_as_ever() {
    let model = ModelServer::listen(Listen::default(), |_| Answer::error(503, "busy hunter3"))
        .await
        .unwrap();
    let world = World::new(FILES);
    let answers = |client: &mut Client| {
        status_when(client, |s| s["phase"] == "ready" && s["nIndexed"] == 3);
        let search = json!({ "query": "seconds before the next attempt" });
        let hits = client.request("pairwright/index/search", &search);
        hits.unwrap().result.unwrap()
    };
    let plain = answers(&mut world.session());
    world.write_settings(&embedding_settings(&model));
    let mut client = world.session();
    let status = status_when(&mut client, |s| s["vectors"]["problem"].is_string());
    assert!(
        status["vectors"]["problem"]
            .as_str()
            .unwrap()
            .contains("503"),
        "{status}"
    );
    assert_eq!(answers(&mut client), plain);
}

/// A repository with a key in a file of a harmless name, and a password among code.
const CARELESS: &[(&str, &str)] = &[
    (
        "notes.txt",
        "the key of the gate\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n\
         -----END PRIVATE KEY-----\n",
    ),
    (
        "connect.py",
        "def connect():\n    password = \"hunter2hunter2\"\n    return open(password)\n",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_code_are_not_sent_to_the_embedding_model() {
    let model = ModelServer::listen(Listen::default(), |seen| Answer::vectors(seen, meaning))
        .await
        .unwrap();
    let world = World::new(CARELESS);
    world.write_settings(&embedding_settings(&model));
    let mut client = world.session();
    status_when(&mut client, |s| {
        s["nVectors"] == 2 && s["nWantedVectors"] == 0
    });
    let sent: String = model
        .log()
        .completions()
        .iter()
        .map(|seen| seen.json().to_string())
        .collect();
    assert!(sent.contains("def connect"), "{sent}");
    assert!(!sent.contains("hunter2"), "{sent}");
    assert!(!sent.contains("MIIEvQ"), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_text_that_the_embedding_model_refuses_does_not_keep_the_others_back() {
    let model = ModelServer::listen(Listen::default(), |seen| {
        match seen.json().to_string().contains("cannot be embedded") {
            true => Answer::error(400, "input is too long"),
            false => Answer::vectors(seen, meaning),
        }
    })
    .await
    .unwrap();
    let mut files = FILES.to_vec();
    files.push((
        "src/refused.py",
        "def refused():\n    return \"cannot be embedded\"\n",
    ));
    let world = World::new(&files);
    world.write_settings(&embedding_settings(&model));
    let mut client = world.session();
    let status = status_when(&mut client, |s| {
        s["nVectors"] == 4 && s["nWantedVectors"] == 0
    });
    assert_eq!(status["vectors"]["problem"], Value::Null);
    assert!(share_of_meaning(&mut client, "mixing paint", "src/colour.py") > Some(0.9));
}
