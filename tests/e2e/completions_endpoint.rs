//! Editors that ask an OpenAI-compatible server: the real program, and requests as they send them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model_server::{Answer, Hole, Listen, ModelServer, Seen};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{TYPED_ELSEWHERE, World};

const PATIENCE: Duration = Duration::from_secs(30);

/// `pairwright serve-completions`, killed when it is dropped.
struct Endpoint {
    child: Child,
    authority: String,
    token: String,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Endpoint {
    fn start(world: &World) -> Self {
        let shown = world
            .command(&["serve-completions", "--show-token"])
            .output()
            .unwrap();
        let token = String::from_utf8(shown.stdout).unwrap().trim().to_owned();
        let mut command: Command = world.command(&["serve-completions", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.strip_prefix("http://").expect(&line);
        let authority = address.split('/').next().unwrap().to_owned();
        assert!(authority.starts_with("127.0.0.1:"), "{line}");
        assert!(
            !line.contains(&token),
            "the token is not shown to the terminal"
        );
        Self {
            child,
            authority,
            token,
        }
    }

    /// Sends `head` (a request line and headers) and `body`; returns status, type and body.
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let (head, body) = timeout(PATIENCE, async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        })
        .await
        .unwrap();
        Said {
            status: head.status.as_u16(),
            kind: head.headers["content-type"].to_str().unwrap().to_owned(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Posts as Zed does: these headers and no others besides the length.
    async fn post(&self, path: &str, body: &Value) -> Said {
        let token = format!("Bearer {}", self.token);
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", &*token),
        ];
        self.send("POST", path, &headers, &body.to_string()).await
    }
}

#[derive(Debug)]
struct Said {
    status: u16,
    kind: String,
    body: String,
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(
            (self.status, &*self.kind),
            (200, "application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap()
    }

    #[track_caller]
    fn events(&self) -> Vec<&str> {
        assert_eq!(
            (self.status, &*self.kind),
            (200, "text/event-stream"),
            "{self:?}"
        );
        self.body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect()
    }
}

/// A workspace with two files, and a model that follows `script`.
async fn with_model(
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (ModelServer, World) {
    let model = ModelServer::listen(Listen::default(), script)
        .await
        .unwrap();
    let world = World::new(&[("shapes/circle.py", CIRCLE), ("other.py", OTHER)]);
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         [local]\nenabled = false\n[index]\nenabled = false\n[complete]\ndeadlineMs = 5000\n",
        model.url()
    ));
    (model, world)
}

const CIRCLE: &str = "\
import math  # the head of the file, far above the cursor

def area_of_circle(radius):
    return math.pi * radius ** 2

def length_of_circle(radius):
    return 2 * math.pi * radius
";
const OTHER: &str = "def nothing_of_this(matters):\n    return matters or not\n";

/// What Zed sends for a cursor in the middle of `CIRCLE`: the lines near it alone, and no name.
fn of_zed(typed: &str) -> Value {
    let prefix =
        format!("def area_of_circle(radius):\n    return math.pi * radius ** 2\n\n{typed}");
    let suffix = "\n\ndef length_of_circle(radius):\n    return 2 * math.pi * radius\n";
    json!({
        "model": "qwen2.5-coder",
        "prompt": format!("<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"),
        "max_tokens": 64,
        "stop": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn zed_is_answered_with_the_context_that_it_left_out() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "area_of_circle(1)")).await;
    let endpoint = Endpoint::start(&world);
    let said = endpoint
        .post("/v1/completions", &of_zed("unit = "))
        .await
        .json();
    // All that Zed reads must be there, or it refuses the whole answer.
    assert!(said["id"].as_str().unwrap().starts_with("cmpl-"), "{said}");
    assert!(
        said["created"].is_u64() && said["usage"]["prompt_tokens"].is_u64(),
        "{said}"
    );
    assert!(said["usage"]["completion_tokens"].is_u64() && said["usage"]["total_tokens"].is_u64());
    assert_eq!(said["object"], "text_completion");
    assert_eq!(said["model"], "qwen2.5-coder");
    assert_eq!(said["choices"][0]["text"], "area_of_circle(1)");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");

    let asked = questions(&model);
    let hole = asked.last().unwrap();
    assert!(hole.prefix.contains("the head of the file"), "{hole:?}");
    assert!(hole.prefix.ends_with("unit = "), "{hole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_from_a_file_of_secrets_is_neither_sent_nor_answered() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "text")).await;
    let env = "# where it is\nDATABASE_HOST=db.internal.example\n";
    std::fs::write(world.root().join(".env"), env).unwrap();
    let endpoint = Endpoint::start(&world);
    let asked = json!({ "prompt": format!("{env}DATABASE_USER="), "suffix": "\n" });
    let said = endpoint.post("/v1/completions", &asked).await.json();
    assert_eq!(said["choices"][0]["text"], "");
    assert_eq!(questions(&model), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_what_was_suggested_asks_no_model() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "area_of_circle(1)")).await;
    let endpoint = Endpoint::start(&world);
    endpoint
        .post("/v1/completions", &of_zed("unit = "))
        .await
        .json();
    let before = questions(&model).len();
    let said = endpoint
        .post("/v1/completions", &of_zed("unit = area_of"))
        .await
        .json();
    assert_eq!(said["choices"][0]["text"], "_circle(1)");
    assert_eq!(questions(&model).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_is_answered_in_its_own() {
    let (_model, world) = with_model(|seen| Answer::honest(seen, "one(two)")).await;
    let endpoint = Endpoint::start(&world);
    let plain = json!({ "prompt": "value = ", "suffix": "\n", "temperature": 0.1, "n": 1 });
    let said = endpoint.post("/v1/completions", &plain).await.json();
    assert_eq!(said["choices"][0]["text"], "one(two)");

    let streamed = json!({ "prompt": "name = ", "suffix": "\n", "stream": true });
    let said = endpoint.post("/v1/completions", &streamed).await;
    let events = said.events();
    assert_eq!(events.len(), 2, "{events:?}");
    let first: Value = serde_json::from_str(events[0]).unwrap();
    assert_eq!(first["choices"][0]["text"], "one(two)");
    assert_eq!(events[1], "[DONE]");

    // As llama.vim sends it: the line up to the cursor apart, sampling settings, other texts.
    let infill = json!({
        "input_prefix": "import os\n", "prompt": "place = ", "input_suffix": "\n",
        "input_extra": [{ "text": "x = 1", "filename": "x.py" }],
        "n_predict": 128, "n_indent": 0, "top_k": 40, "top_p": 0.9, "samplers": ["top_k"],
        "stream": false, "cache_prompt": true, "t_max_prompt_ms": 500, "stop": [],
    });
    let said = endpoint.post("/infill", &infill).await.json();
    assert_eq!(said["content"], "one(two)");
    assert_eq!(said["stop"], true);
    let mut streamed = infill.clone();
    streamed["stream"] = json!(true);
    let said = endpoint.post("/infill", &streamed).await;
    let pieces = said
        .events()
        .into_iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap());
    let text: String = pieces
        .map(|p| p["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(text, "one(two)");

    // A client that warms caches wants no text.
    let mut warming = infill;
    warming["n_predict"] = json!(0);
    assert_eq!(
        endpoint.post("/infill", &warming).await.json()["content"],
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_brackets_behind_the_cursor_none_is_lost_and_none_is_said_twice() {
    let (_model, world) = with_model(|seen| {
        let prefix = Hole::of(seen).prefix;
        let text = match prefix.lines().last() {
            Some("print(") => "len(x)",
            Some("show(") => "len(x))",
            _ => "value",
        };
        Answer::honest(seen, text)
    })
    .await;
    let endpoint = Endpoint::start(&world);
    for (prompt, suffix, expected) in [
        ("print(", ")\n", "len(x)"),
        ("show(", ")\n", "len(x)"),
        ("name = ", "   \n", "value"),
    ] {
        let asked = json!({ "prompt": prompt, "suffix": suffix });
        let said = endpoint.post("/v1/completions", &asked).await.json();
        assert_eq!(said["choices"][0]["text"], expected, "{prompt}");
        let asked = json!({
            "input_prefix": "", "prompt": prompt, "input_suffix": suffix, "n_predict": 64,
        });
        let said = endpoint.post("/infill", &asked).await.json();
        assert_eq!(said["content"], expected, "{prompt}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_without_the_token() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "text")).await;
    let endpoint = Endpoint::start(&world);
    let body = of_zed("unit = ").to_string();
    let almost = format!("Bearer {}", &endpoint.token[1..]);
    let basic = format!("Basic {}", endpoint.token);
    for headers in [
        vec![],
        vec![("Authorization", "")],
        vec![("Authorization", "Bearer ")],
        vec![("Authorization", &*almost)],
        vec![("Authorization", &*basic)],
        vec![("X-Api-Key", "guess")],
    ] {
        for path in ["/v1/completions", "/infill", "/v1/models", "/"] {
            let said = endpoint.send("POST", path, &headers, &body).await;
            assert_eq!(said.status, 401, "{path} {headers:?}");
            assert!(!said.body.contains(&endpoint.token));
        }
    }
    assert_eq!(questions(&model), []);
    let key = [("X-Api-Key", &*endpoint.token)];
    let models = endpoint.send("GET", "/v1/models", &key, "").await.json();
    assert_eq!(models["data"][0]["id"], "pairwright");
}

/// What the model was asked, without the questions of probes.
fn questions(model: &ModelServer) -> Vec<Hole> {
    let log = model.log();
    let asked = log.completions().into_iter().filter(|seen| !is_probe(seen));
    asked.map(Hole::of).collect()
}

fn is_probe(seen: &Seen) -> bool {
    Hole::of(seen).prefix.ends_with("a = [1, 2, ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_without_repeating_it() {
    let (_model, world) = with_model(|seen| Answer::honest(seen, "text")).await;
    let endpoint = Endpoint::start(&world);
    let token = format!("Bearer {}", endpoint.token);
    let headers = [("Authorization", &*token)];
    let huge = format!("{{\"prompt\": \"{}\"}}", "x".repeat(5 << 20));
    for (method, path, body, status) in [
        ("POST", "/v1/completions", "{\"prompt\": \"hunter2", 400),
        (
            "POST",
            "/v1/completions",
            "{\"prompt\": 7, \"x\": \"hunter2\"}",
            400,
        ),
        (
            "POST",
            "/v1/completions",
            "{\"prompt\": [\"hunter2\", \"b\"]}",
            400,
        ),
        ("POST", "/infill", "{\"prompt\": [\"hunter2\"]}", 400),
        ("POST", "/v1/completions", &*huge, 413),
        ("GET", "/v1/completions", "", 405),
        ("POST", "/v1/chat/completions", "{}", 404),
    ] {
        let said = endpoint.send(method, path, &headers, body).await;
        assert_eq!(said.status, status, "{path} {said:?}");
        assert!(!said.body.contains("hunter2"), "{said:?}");
        let error: Value = serde_json::from_str(&said.body).unwrap();
        assert!(error["error"]["message"].is_string(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_its_question_back() {
    let (model, world) = with_model(|seen| {
        if is_probe(seen) {
            return Answer::honest(seen, "");
        }
        Answer::never()
    })
    .await;
    let endpoint = Arc::new(Endpoint::start(&world));
    let asking = tokio::spawn({
        let endpoint = Arc::clone(&endpoint);
        async move { endpoint.post("/v1/completions", &of_zed("unit = ")).await }
    });
    let nth = model
        .wait("the question", |log| {
            let asked = log.completions().into_iter().find(|seen| !is_probe(seen));
            asked.map(|seen| seen.nth)
        })
        .await;
    asking.abort();
    let seen = timeout(PATIENCE, model.wait_for_end(nth)).await.unwrap();
    assert_eq!(seen.end(), Some(model_server::End::Reset(8)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_answers_where_there_is_no_model() {
    let world = World::knowing();
    let endpoint = Endpoint::start(&world);
    // Learning goes on while it listens.
    let deadline = std::time::Instant::now() + PATIENCE;
    let ask = async |prompt: &str| {
        let asked = json!({ "prompt": prompt });
        let said = endpoint.post("/v1/completions", &asked).await.json();
        assert!(
            std::time::Instant::now() < deadline,
            "nothing was suggested"
        );
        said["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let prompt = "PI = 3\n\n\ndef area_of_thing(radius):\n    result = multiply(";
    loop {
        let text = ask(prompt).await;
        if !text.is_empty() {
            assert!("PI, square(radius))".starts_with(&*text), "{text}");
            break;
        }
    }
    // No editor tells of what another program writes.
    let prompt = format!("PI = 3\n\n\ndef volume_of_thing(radius):\n{TYPED_ELSEWHERE}");
    loop {
        world.write_elsewhere();
        if ask(&prompt).await.contains("DEPTH, cube") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_settings_is_in_force_without_a_restart() {
    let (_model, world) = with_model(|seen| Answer::honest(seen, "one(two)")).await;
    let world = world.trusted();
    let endpoint = Endpoint::start(&world);
    let ask = async |prompt: &str| {
        let asked = json!({ "prompt": prompt, "suffix": "\n" });
        let said = endpoint.post("/v1/completions", &asked).await.json();
        said["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("value = ").await, "one(two)");
    let other = ModelServer::listen(Listen::default(), |seen| {
        Answer::honest(seen, "three(four)")
    })
    .await
    .unwrap();
    let before = std::fs::read_to_string(world.user_file()).unwrap();
    let (_, rest) = before.split_once("model =").unwrap();
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel ={rest}",
        other.url()
    ));
    let deadline = std::time::Instant::now() + PATIENCE;
    // Another text each time: what is known already is not asked for.
    let mut names = (0..).map(|n| format!("name_{n} = "));
    while ask(&names.next().unwrap()).await != "three(four)" {
        assert!(
            std::time::Instant::now() < deadline,
            "the old model answers"
        );
    }
    // A folder has its say too.
    world.write(".pairwright.toml", "[complete]\nenabled = false\n");
    while !ask(&names.next().unwrap()).await.is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "the folder is not heard"
        );
    }
}
