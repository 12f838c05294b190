//! One editor, one server of ours, one model, and the wire between the last two.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use model_server::{Answer, Hole, Listen, ModelServer, Route, Seen, Speak};
use pairwright::driver::{Answer as Reply, Client, PATIENCE};
use pairwright::session::document::uri_of;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

/// What the model says. Nobody types its first character, so that no key types along.
pub(crate) const SAID: &str = "~answer(first, second)";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    H2c,
    Http2Tls,
}

impl Wire {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::H2c => "h2c",
            Self::Http2Tls => "HTTP/2 over TLS",
        }
    }
}

pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) model: ModelServer,
    home: TempDir,
}

impl Stage {
    /// As [`Stage::begin`]; returns when all is learnt.
    pub(crate) fn new(
        wire: Wire,
        root: &Path,
        settings: &str,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let mut stage = Self::begin(wire, root, settings, script)?;
        learnt(&mut stage.client)?;
        Ok(stage)
    }

    /// Starts a model that follows `script` on `wire`, and our server on it with the workspace
    /// `root` and further `settings` (TOML, in which `{model}` is the model's address). Returns
    /// when the model is probed.
    pub(crate) fn begin(
        wire: Wire,
        root: &Path,
        settings: &str,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listen = Listen {
            tls: wire == Wire::Http2Tls,
            speak: match wire {
                Wire::Http1 => Speak::Http1,
                Wire::H2c | Wire::Http2Tls => Speak::Http2,
            },
            ..Listen::default()
        };
        let script = move |seen: &Seen| {
            if is_probe(seen) {
                Answer::honest(seen, "")
            } else {
                script(seen)
            }
        };
        let model = Handle::current().block_on(ModelServer::listen(listen, script))?;
        let home = tempfile::tempdir()?;
        let authority = home.path().join("authority.pem");
        fs::write(&authority, model.authority())?;
        let http = if wire == Wire::H2c { "h2c" } else { "auto" };
        write_settings(
            home.path(),
            &format!(
                "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\n\
                 http = '{http}'\n[network]\ncaCertificates = ['{}']\n{}",
                model.url(),
                authority.display(),
                settings.replace("{model}", &model.url()),
            ),
        )?;
        let mut client = start(home.path())?;
        initialize(&mut client, root)?;
        // What the user says once of a folder.
        let said = client.request("pairwright/trust/set", &json!({ "trusted": true }))?;
        let standing = said.result.map_err(|why| anyhow::anyhow!(why.message))?;
        anyhow::ensure!(standing["standing"] == "trusted", "{standing}");
        let probed = |log: &model_server::Log| {
            let completions = log.completions();
            let probe = completions.into_iter().find(|seen| is_probe(seen));
            probe.and_then(|seen| seen.ended)
        };
        Handle::current().block_on(model.wait("the probe", probed));
        Ok(Self {
            client,
            model,
            home,
        })
    }

    /// An empty folder to be the workspace of measurements that need none.
    pub(crate) fn empty() -> anyhow::Result<TempDir> {
        Ok(tempfile::tempdir()?)
    }

    /// The completion requests that the model saw, except probes.
    pub(crate) fn asked(&self) -> Vec<Seen> {
        let log = self.model.log();
        let completions = log.completions().into_iter();
        completions
            .filter(|seen| !is_probe(seen) && !is_turn(seen))
            .cloned()
            .collect()
    }

    /// The turns of conversations that the model was asked for.
    pub(crate) fn turns(&self) -> Vec<Seen> {
        let log = self.model.log();
        let turns = log.requests.iter().filter(|seen| is_turn(seen));
        turns.cloned().collect()
    }

    /// Asks our server for something; a refusal is an error.
    pub(crate) fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let answer = self.client.request(method, params)?;
        let refused = |why| anyhow::anyhow!("{method}: {why}");
        answer.result.map_err(refused)
    }

    /// Kills our server and starts another in its place, with the same state on disk.
    pub(crate) fn kill_and_restart(&mut self, root: &Path) -> anyhow::Result<()> {
        // What is dropped is killed.
        self.client = start(self.home.path())?;
        initialize(&mut self.client, root)?;
        Ok(())
    }

    /// The folder that holds the user's settings and the server's log.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }
}

/// Whether a request is for a turn of a conversation, and not for ghost text.
pub(crate) fn is_turn(seen: &Seen) -> bool {
    seen.route().is_some_and(Route::is_turn)
}

fn is_probe(seen: &Seen) -> bool {
    Hole::of(seen).prefix.ends_with("a = [1, 2, ")
}

/// Writes the user's settings of the home directory `home`.
pub(crate) fn write_settings(home: &Path, toml: &str) -> anyhow::Result<()> {
    let folder = home.join(".config/pairwright");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("config.toml"), toml)?)
}

/// Starts our server with nothing of the real user's environment.
pub(crate) fn start(home: &Path) -> anyhow::Result<Client> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the program under measurement, started as an editor starts it"
    )]
    let mut command = Command::new(env!("CARGO_BIN_EXE_pairwright"));
    command
        .arg("lsp")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .current_dir(home);
    Client::start(command)
}

/// Opens the session; returns how long the answer took.
pub(crate) fn initialize(client: &mut Client, root: &Path) -> anyhow::Result<Duration> {
    let answer = client.initialize(root)?;
    answer.result.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(answer.took)
}

/// Waits until the embedded engine has learnt the workspace.
pub(crate) fn learnt(client: &mut Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + 10 * PATIENCE;
    client.wait_for(
        "didChangeStatus",
        |status| status["busy"] == false,
        deadline,
    )?;
    indexed(client)
}

/// Waits until the index of every folder knows all files and has been written to the disk.
pub(crate) fn indexed(client: &mut Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + 10 * PATIENCE;
    loop {
        let answer = client.request("pairwright/index/status", &Value::Null)?;
        let folders = answer.result.map_err(|why| anyhow::anyhow!(why.message))?;
        let is_ready = |folder: &Value| {
            let is_on_disk = folder["generation"] != 0 || folder["nFiles"] == 0;
            folder["phase"] == "ready" && is_on_disk
        };
        // None is told of before it is open.
        if folders
            .as_array()
            .is_some_and(|folders| !folders.is_empty() && folders.iter().all(is_ready))
        {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "the index is not ready");
        wait_until(Instant::now() + Duration::from_millis(100));
    }
}

/// A document that is typed in at one place.
pub(crate) struct Page {
    pub(crate) uri: String,
    version: i32,
    line: usize,
    column: usize,
}

impl Page {
    /// Opens `text`, which must be ASCII, as the file `path`, with the cursor at byte `at`.
    pub(crate) fn open(
        client: &mut Client,
        path: &Path,
        text: &str,
        at: usize,
    ) -> anyhow::Result<Self> {
        let uri = uri_of(path);
        let language = match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => "rust",
            Some("py") => "python",
            _ => "plaintext",
        };
        let document = json!({ "uri": uri, "languageId": language, "version": 1, "text": text });
        client.notify("textDocument/didOpen", &json!({ "textDocument": document }))?;
        let before = &text[..at];
        Ok(Self {
            uri,
            version: 1,
            line: before.matches('\n').count(),
            column: before.len() - before.rfind('\n').map_or(0, |end| end + 1),
        })
    }

    pub(crate) fn close(&self, client: &mut Client) -> anyhow::Result<()> {
        let document = json!({ "uri": self.uri });
        client.notify(
            "textDocument/didClose",
            &json!({ "textDocument": document }),
        )
    }

    pub(crate) fn version(&self) -> i32 {
        self.version
    }

    /// Types a character at the cursor.
    pub(crate) fn key(&mut self, client: &mut Client, key: char) -> anyhow::Result<()> {
        let at = self.position();
        self.change(client, &json!({ "start": at, "end": at }), &key.to_string())?;
        if key == '\n' {
            (self.line, self.column) = (self.line + 1, 0);
        } else {
            self.column += 1;
        }
        Ok(())
    }

    /// Puts `text`, one line, in the place of the cursor's line up to the cursor.
    pub(crate) fn rewrite(&mut self, client: &mut Client, text: &str) -> anyhow::Result<()> {
        let start = json!({ "line": self.line, "character": 0 });
        let range = json!({ "start": start, "end": self.position() });
        self.column = text.len();
        self.change(client, &range, text)
    }

    fn change(&mut self, client: &mut Client, range: &Value, text: &str) -> anyhow::Result<()> {
        self.version += 1;
        let document = json!({ "uri": self.uri, "version": self.version });
        let change = json!({ "range": range, "text": text });
        let params = json!({ "textDocument": document, "contentChanges": [change] });
        client.notify("textDocument/didChange", &params)
    }

    /// Asks for ghost text at the cursor; returns the request's id.
    pub(crate) fn ask(&self, client: &mut Client) -> anyhow::Result<i64> {
        let params = json!({
            "textDocument": { "uri": self.uri },
            "position": self.position(),
            "context": { "triggerKind": 2 },
        });
        client.ask("textDocument/inlineCompletion", &params)
    }

    fn position(&self) -> Value {
        json!({ "line": self.line, "character": self.column })
    }
}

pub(crate) fn cancel(client: &mut Client, id: i64) -> anyhow::Result<()> {
    client.notify("$/cancelRequest", &json!({ "id": id }))
}

/// The text that an answer suggests to insert, if any.
pub(crate) fn suggested(reply: &Reply) -> Option<&str> {
    let result = reply.result.as_ref().ok()?;
    result["items"][0]["insertText"].as_str()
}

/// Waits until `time`: the rhythm of the keys is what is measured.
#[expect(
    clippy::disallowed_methods,
    reason = "keys come at given times, whatever happens"
)]
pub(crate) fn wait_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

/// A figure of `/proc/<process>/status`, as its first number.
pub(crate) fn proc_status(process: u32, name: &str) -> anyhow::Result<u64> {
    number_in(&format!("/proc/{process}/status"), name)
}

/// The number after `name:` in a file of `/proc`.
pub(crate) fn number_in(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("no {name} in {file}"))?;
    let number = line.split_whitespace().next().context("an empty line")?;
    Ok(number.parse()?)
}
