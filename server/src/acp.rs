//! The Agent Client Protocol, version 1, over stdin and stdout: chat and tasks in the panels of
//! editors that speak it.
//!
//! Holds: a message a line, and exactly one response for each request. The reader never waits: what
//! takes time is a task. Everything shown is an event of the log first. Files are changed by
//! accepted hunks alone, which the client is asked about.
//! Not here: what is answered (`chat`), what tasks do (`agent`), how events look to the client
//! (`acp::update`), what MCP servers of a client may do (`agent::policy`, as for those of the
//! settings). Models, tools and sandboxes stay on this side, so no command runs in a terminal of the
//! client: what it prints is told as the call's content (`acp::output`).

mod connection;
mod documents;
mod live;
mod output;
mod prompt;
mod questions;
mod review;
mod servers;
mod session;
mod task;
mod update;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::connection::{Connection, Incoming, Refusal};
use self::documents::Files;
use self::session::{Mode, Sessions};
use crate::agent::Tasks;
use crate::config::current::Current;
use crate::models::Models;

/// The version of the protocol spoken here.
const VERSION: u64 = 1;

/// The server of one client.
struct Acp {
    connection: Connection,
    settings: Current,
    models: Models,
    sessions: Sessions,
    tasks: Tasks,
    /// What the client does with files, once it has said so.
    files: OnceLock<Files>,
}

/// Serves one client until it closes its stream. Blocks; call it outside the runtime.
pub fn serve(
    settings: Current,
    input: impl BufRead,
    output: impl Write + Send + 'static,
    runtime: &Handle,
) {
    let _entered = runtime.enter();
    let (models, problems) = Models::default().with(&settings.get().settings);
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    for model in models.chat.iter().chain(&models.agent) {
        model.warm();
    }
    let (connection, writer) = Connection::start(output);
    let acp = Arc::new(Acp {
        connection,
        settings,
        models,
        sessions: Sessions::default(),
        tasks: Tasks::default(),
        files: OnceLock::new(),
    });
    connection::read(input, |incoming| match incoming {
        Incoming::Response { id, result } => acp.connection.answered(&id, result),
        Incoming::Notification { method, params } => acp.notified(&method, &params),
        Incoming::Request { id, method, params } => {
            let acp = Arc::clone(&acp);
            // Here, so that what is read after a prompt can stop it.
            let stop = match method.as_str() {
                "session/prompt" => acp.begin_prompt(&params),
                _ => CancellationToken::new(),
            };
            tokio::spawn(async move {
                // A panic is one failed request.
                let answering = Arc::clone(&acp);
                let answer =
                    tokio::spawn(async move { answering.answer(&method, params, &stop).await });
                let answer = answer.await.unwrap_or_else(|_| Err(Refusal::bug()));
                acp.connection.respond(&id, answer);
            });
        }
        Incoming::Unreadable { id, refusal } => acp.connection.respond(&id, Err(refusal)),
    });
    acp.sessions.leave_all();
    drop(acp);
    writer.finish();
}

impl Acp {
    /// The token that stops a prompt, from now on in its session's hands.
    fn begin_prompt(&self, params: &Value) -> CancellationToken {
        let session = text(params, "sessionId").and_then(|id| self.sessions.get(&id));
        session.map_or_else(|_| CancellationToken::new(), |session| session.begin())
    }

    async fn answer(
        self: &Arc<Self>,
        method: &str,
        params: Value,
        stop: &CancellationToken,
    ) -> Result<Value, Refusal> {
        match method {
            "initialize" => {
                let _ = self.files.set(Files::of(&params));
                Ok(initialize())
            }
            // There is nothing to log in to.
            "authenticate" => Ok(json!({})),
            "session/new" => {
                let session = self.open(&params, None).await?;
                self.announce_commands(&session.id);
                self.tell_unfinished(&session).await?;
                Ok(json!({ "sessionId": session.id, "modes": session.modes() }))
            }
            "session/load" => {
                let id = text(&params, "sessionId")?;
                let session = self.open(&params, Some(id)).await?;
                self.replay(&session).await?;
                self.announce_commands(&session.id);
                Ok(json!({ "modes": session.modes() }))
            }
            "session/resume" => {
                let id = text(&params, "sessionId")?;
                let session = self.open(&params, Some(id)).await?;
                self.announce_commands(&session.id);
                Ok(json!({ "modes": session.modes() }))
            }
            "session/close" => {
                self.sessions.close(&text(&params, "sessionId")?)?;
                Ok(json!({}))
            }
            "session/list" => self.list(&params).await,
            "session/set_mode" => {
                let session = self.sessions.get(&text(&params, "sessionId")?)?;
                let wanted = text(&params, "modeId")?;
                let mode = Mode::of_name(&wanted)
                    .ok_or_else(|| Refusal::params(format!("there is no mode {wanted:?}")))?;
                session.set_mode(mode);
                Ok(json!({}))
            }
            "session/prompt" => {
                let session = self.sessions.get(&text(&params, "sessionId")?)?;
                self.prompt(&session, &params["prompt"], stop).await
            }
            other => Err(Refusal::unknown(other)),
        }
    }

    fn notified(&self, method: &str, params: &Value) {
        if method == "session/cancel"
            && let Ok(session) = text(params, "sessionId").and_then(|id| self.sessions.get(&id))
        {
            session.cancel();
        }
    }

    fn announce_commands(&self, session: &str) {
        let commands = json!([
            {
                "name": "search",
                "description": "List the best places of the repository, without a model",
                "input": { "hint": "what to look for" },
            },
            {
                "name": "resume",
                "description": "Take up a task that is not finished",
                "input": { "hint": "its id; the newest when not given" },
            },
            {
                "name": "stop",
                "description": "End a task for good that is not finished",
                "input": { "hint": "its id; the newest when not given" },
            },
            {
                "name": "rollback",
                "description": "Take back changes that were applied",
                "input": { "hint": "the token; the last that stand when not given" },
            },
        ]);
        let update = json!({
            "sessionUpdate": "available_commands_update", "availableCommands": commands,
        });
        self.connection.update(session, &update);
    }
}

fn initialize() -> Value {
    json!({
        // The one version there is here; a client that does not speak it closes the connection.
        "protocolVersion": VERSION,
        "agentCapabilities": {
            "loadSession": true,
            "promptCapabilities": { "image": false, "audio": false, "embeddedContext": true },
            "mcpCapabilities": { "http": true, "sse": false },
            "sessionCapabilities": { "list": {}, "resume": {}, "close": {} },
        },
        "agentInfo": {
            "name": "pairwright", "title": "Pairwright", "version": env!("CARGO_PKG_VERSION"),
        },
        "authMethods": [],
    })
}

fn text(params: &Value, name: &str) -> Result<String, Refusal> {
    let found = params[name].as_str();
    found
        .map(str::to_owned)
        .ok_or_else(|| Refusal::params(format!("`{name}` is missing")))
}

/// The folder of a session: an absolute path, links resolved.
fn folder(params: &Value) -> Result<PathBuf, Refusal> {
    let named = PathBuf::from(text(params, "cwd")?);
    let found = named.canonicalize().ok().filter(|path| path.is_dir());
    match found {
        Some(found) if named.is_absolute() => Ok(found),
        _ => Err(Refusal::params("`cwd` is no absolute path of a folder")),
    }
}
