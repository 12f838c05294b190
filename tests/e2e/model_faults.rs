//! A model that misbehaves, as the user of an editor meets it: every request is answered once and
//! in time, by the embedded engine where the model fails; the status says what is wrong and what
//! to do; nothing says the key; and when the model is well again its text is back.

mod outbound;

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model_server::{Answer, End, Ending, Hole, Listen, ModelServer, Route, Seen};
use pairwright::driver::{Client, PATIENCE};
use serde_json::Value;

use crate::world::{Edits, TYPED, WHOLE, World, suggested};

/// What the model says after [`TYPED`] when it is well.
const WELL: &str = "    result = multiply(first, second)";

const KEY: &str = "sk-very-secret-0123456789";
const DEADLINE: Duration = Duration::from_millis(400);
/// For a busy machine to schedule two processes, beyond the deadline.
const SLACK: Duration = Duration::from_secs(2);

/// A session of the real program with a model, a key and a workspace that can be learnt from.
struct Session {
    world: World,
    client: Client,
    uri: String,
    version: i32,
}

impl Session {
    /// Opens a session with the model at `url` and waits until the embedded engine has learnt.
    fn with(url: &str) -> Self {
        Self::under(url, "")
    }

    /// The same under further settings.
    fn under(url: &str, settings: &str) -> Self {
        let world = World::knowing().with_variable("SHOP_KEY", KEY);
        world.write_settings(&format!(
            "[models.complete]\napi = 'fim'\nurl = '{url}'\nmodel = 'qwen2.5-coder'\n\
             http = 'h2c'\napiKeyEnv = 'SHOP_KEY'\n\
             [complete]\ndeadlineMs = {}\n[log]\nlevel = 'trace'\n{settings}",
            DEADLINE.as_millis()
        ));
        let mut command = world.command(&["lsp"]);
        command.stderr(File::create(world.home().join("stderr")).unwrap());
        let mut client = Client::start(command).unwrap();
        client.initialize(&world.root()).unwrap().result.unwrap();
        client.learnt();
        let uri = world.uri("open.py");
        client.open(&uri, "python", "\n");
        Self {
            world,
            client,
            uri,
            version: 1,
        }
    }

    /// Writes `line` as the whole document and asks at its end; the answer must be the only one,
    /// and in time.
    fn ask(&mut self, line: &str) -> Option<String> {
        self.version += 1;
        self.client.replace(&self.uri, self.version, line);
        let column = u32::try_from(line.len()).unwrap();
        let id = self.client.ask_inline(&self.uri, (0, column));
        let answer = self.client.answer(id).unwrap();
        assert!(answer.took < DEADLINE + SLACK, "{:?}", answer.took);
        // Answered after it: a second answer to the request would have come before.
        self.status();
        assert_eq!(self.client.unclaimed(id), 0, "one answer for each request");
        suggested(&answer).map(str::to_owned)
    }

    fn status(&mut self) -> Value {
        let answer = self.client.request("pairwright/status/get", &Value::Null);
        answer.unwrap().result.unwrap()
    }

    /// Waits until the editor was told of a status with all of `words` in its message.
    fn told(&mut self, words: &[&str]) -> Value {
        let says = |status: &Value| {
            let message = status["message"].as_str().unwrap_or_default();
            words.iter().all(|word| message.contains(word))
        };
        let deadline = Instant::now() + PATIENCE;
        match self.client.wait_for("didChangeStatus", says, deadline) {
            Ok(status) => status,
            Err(why) => panic!("no status with {words:?}, but {}: {why}", self.status()),
        }
    }

    /// Ends the session; nothing that a person or an editor can see holds the key.
    fn ends_without_telling_the_key(self) {
        let Self { world, client, .. } = self;
        for notice in client.notices() {
            assert!(!notice.params.to_string().contains(KEY), "{notice:?}");
        }
        assert!(client.leave().unwrap().success());
        for file in [world.log_file(), world.home().join("stderr")] {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains(KEY), "{} has the key", file.display());
        }
    }
}

/// A model that proves itself when it is probed and then does what `script` says.
async fn model(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> ModelServer {
    let script = move |seen: &Seen| {
        if Hole::of(seen).prefix.ends_with("a = [1, 2, ") {
            Answer::honest(seen, "")
        } else {
            script(seen)
        }
    };
    ModelServer::start(script).await
}

fn refuses(status: u16) -> impl Fn() -> Answer + Send + Sync + 'static {
    // Servers like to quote the key they do not accept.
    move || Answer::error(status, &format!("because of {KEY}")).with_header("retry-after", "60")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_model_does_the_embedded_engine_answers_and_the_status_says_why() {
    type Fault = Box<dyn Fn() -> Answer + Send + Sync>;
    let page = || Answer::bytes("text/html", ["<html>please log in</html>"]);
    let garbage = || Answer::bytes("text/event-stream", ["data: {\"choices\":\n\n"]);
    let binary = || Answer::bytes("text/event-stream", [vec![0xff, 0, 0xfe, b'\n', b'\n']]);
    let endless = || Answer::text(" - epsilon").ending(Ending::Endless);
    let cut = || Answer::pieces([" - eps", "il"]).ending(Ending::Cut);
    let hang = || Answer::text(" - eps").ending(Ending::Hang);
    let faults: Vec<(Fault, [&str; 2])> = vec![
        (
            Box::new(refuses(401)),
            ["did not accept the key (401", "apiKeyEnv"],
        ),
        (
            Box::new(refuses(403)),
            ["did not accept the key (403", "apiKeyEnv"],
        ),
        (
            Box::new(refuses(404)),
            ["no such model or route", "models.complete.model"],
        ),
        (
            Box::new(refuses(429)),
            ["limits requests (429", "asked again after"],
        ),
        (
            Box::new(refuses(400)),
            ["rejected the request (400", "models.complete.api"],
        ),
        (Box::new(refuses(500)), ["failed (500", "because of"]),
        (Box::new(refuses(503)), ["failed (503", "because of"]),
        (Box::new(page), ["text/html", "not a web page"]),
        (
            Box::new(garbage),
            ["cannot be understood", "another dialect"],
        ),
        (
            Box::new(binary),
            ["cannot be understood", "another dialect"],
        ),
        (
            Box::new(endless),
            ["more than it was asked for", "token limit"],
        ),
        (
            Box::new(cut),
            ["closed the connection", "middle of an answer"],
        ),
        (Box::new(hang), ["sent nothing more", "smaller model"]),
        (
            Box::new(Answer::never),
            ["did not answer within", "smaller model"],
        ),
    ];
    // Two faults last as long as a model is waited for; all of them together take no longer.
    let sessions = faults.into_iter().map(|(fault, words)| async move {
        let model = model(move |_| fault()).await;
        tokio::task::spawn_blocking(move || {
            let mut session = Session::with(&model.url());
            assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE), "{words:?}");
            let status = session.told(&words);
            assert_eq!(status["kind"], "Warning", "{status}");
            let message = status["message"].to_string();
            assert!(message.contains("using the embedded engine"), "{message}");
            assert!(!message.contains(KEY), "{message}");
            assert_eq!(
                session.ask("    result = multiply").as_deref(),
                Some(WHOLE),
                "{words:?}"
            );
            session.ends_without_telling_the_key();
        })
        .await
        .unwrap();
    });
    futures_util::future::join_all(sessions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_breaks_off_is_not_shown_as_if_it_were_whole() {
    let model = model(|_| Answer::pieces([" - eps", "il"]).ending(Ending::Cut)).await;
    let mut session = Session::with(&model.url());
    assert_eq!(session.ask("omega = 1").as_deref(), None);
    assert_eq!(session.ask("omega = 1 ").as_deref(), None, "nor kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_is_ended_at_the_server() {
    let model = model(|_| Answer::text(" - epsilon").ending(Ending::Endless)).await;
    let mut session = Session::with(&model.url());
    session.ask(TYPED);
    let ends = |log: &model_server::Log| {
        let endless = log.completions().into_iter();
        let mut endless = endless.filter(|seen| Hole::of(seen).prefix.ends_with(TYPED));
        endless.find_map(Seen::end)
    };
    assert_eq!(model.wait("its end", ends).await, End::Reset(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_tokens_that_a_model_leaks_end_its_text() {
    let leaks: [&[&str]; 5] = [
        &["first, second)<|fim_middle|>import os"],
        &["first, second)<|fi", "m_pad|>", "import os"],
        &["first, second)", "<", "|", "endoftext", "|>"],
        &["first, second)<|file_sep|>other.py\nimport os"],
        &["first, second)<|im_end|>"],
    ];
    for leak in leaks {
        let model = model(move |_| Answer::pieces(leak.iter().copied())).await;
        let mut session = Session::with(&model.url());
        assert_eq!(session.ask(TYPED).as_deref(), Some(WELL), "{leak:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_started_later_is_found_and_one_that_is_restarted_found_again() {
    let well = |seen: &Seen| Answer::honest(seen, "first, second)");
    let model = ModelServer::start(well).await;
    let (address, url) = (model.address(), model.url());
    model.stop().await;
    let mut session = Session::with(&url);
    assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE));
    let status = session.told(&["refused the connection", "Start it"]);
    assert_eq!(status["kind"], "Warning");

    for _ in 0..2 {
        let listen = Listen {
            address: Some(address),
            ..Listen::default()
        };
        let model = ModelServer::listen(listen, well).await.unwrap();
        // The pause after a failure is over at some time; until then the other engine answers.
        let deadline = Instant::now() + PATIENCE;
        while session.ask(TYPED).as_deref() != Some(WELL) {
            assert!(Instant::now() < deadline, "{}", session.status());
            session.ask("    result");
        }
        assert_eq!(session.told(&["Model at"])["kind"], "Normal");
        model.stop().await;
        session.ask("    result");
        assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE));
        session.told(&["refused the connection"]);
    }
    session.ends_without_telling_the_key();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_model_is_asked_again_after_the_time_it_gave_and_not_before() {
    let first = AtomicBool::new(true);
    let model = model(move |seen| {
        if seen.route() == Some(Route::Completions) && first.swap(false, Ordering::Relaxed) {
            Answer::error(429, "slow down").with_header("retry-after", "2")
        } else {
            Answer::text("first, second)")
        }
    })
    .await;
    let mut session = Session::with(&model.url());
    let completions = || {
        let log = model.log();
        let asked = log.completions().into_iter();
        let asked = asked.filter(|seen| !Hole::of(seen).prefix.ends_with("[1, 2, "));
        asked.map(|seen| seen.arrived).collect::<Vec<_>>()
    };
    assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE));
    session.told(&["limits requests (429: slow down)"]);
    let deadline = Instant::now() + PATIENCE;
    while session.ask(TYPED).as_deref() != Some(WELL) {
        assert!(Instant::now() < deadline, "{}", session.status());
        session.ask("    result");
    }
    let asked = completions();
    let gap = asked[1].duration_since(asked[0]);
    assert!(
        gap >= Duration::from_millis(1900),
        "asked again after {gap:?}"
    );
}
