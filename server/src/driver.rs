//! An editor in miniature: starts a server as a child and speaks LSP to it.
//!
//! What the tour, the benchmarks and the end-to-end tests drive the real program with. It answers
//! what a server asks of an editor (settings, registrations, progress), keeps answers that come
//! out of order, and stamps every message with the time it arrived.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use tower_lsp_server::jsonrpc::{self, Id};

use crate::lsp::framing::{Frame, read_frame, write_frame};
use crate::session::document::uri_of;

/// No answer takes longer, unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One server and the session with it. Dropping it kills the server.
#[derive(Debug)]
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    frames: Receiver<(Instant, Frame)>,
    /// Notifications and requests of the server, as they came.
    notices: Vec<Notice>,
    /// Answers nobody has waited for yet.
    answers: HashMap<Id, Vec<Received>>,
    /// Replies to a null id: what the server says of a message it could not read.
    faults: Vec<jsonrpc::Error>,
    sent: HashMap<Id, Instant>,
    settings: Value,
    handlers: HashMap<&'static str, Handler>,
    next_id: i64,
}

/// What an editor does when the server asks for something: messages it sends, and then its answer,
/// if it gives one.
type Reaction = Box<dyn FnMut(&Value) -> (Vec<Value>, Option<Value>) + Send>;

struct Handler(Reaction);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// An answer and how long it took.
#[derive(Debug)]
pub struct Answer {
    pub result: Result<Value, jsonrpc::Error>,
    /// From sending the request to reading the whole answer.
    pub took: Duration,
}

/// A notification or a request of the server.
#[derive(Debug, Clone)]
pub struct Notice {
    pub method: String,
    pub params: Value,
    /// When it was read.
    pub at: Instant,
}

#[derive(Debug)]
struct Received {
    at: Instant,
    result: Result<Value, jsonrpc::Error>,
}

impl Client {
    /// Starts a server: `command` with streams of its own.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server cannot be started")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the server has no streams");
        };
        let (sender, frames) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(Some(frame)) = read_frame(&mut output) {
                if sender.send((Instant::now(), frame)).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input: Some(input),
            frames,
            notices: Vec::new(),
            answers: HashMap::new(),
            faults: Vec::new(),
            sent: HashMap::new(),
            settings: Value::Null,
            handlers: HashMap::new(),
            next_id: 1,
        })
    }

    /// Sets what the server is told when it asks for the section `pairwright` of the settings.
    pub fn set_settings(&mut self, settings: Value) {
        self.settings = settings;
    }

    /// Sets what happens when the server sends the request `method`: the messages that go out
    /// first, and the result it is answered with; `None` leaves it without an answer.
    pub fn on_request(
        &mut self,
        method: &'static str,
        reaction: impl FnMut(&Value) -> (Vec<Value>, Option<Value>) + Send + 'static,
    ) {
        self.handlers.insert(method, Handler(Box::new(reaction)));
    }

    /// Process id of the server.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Opens the session for a workspace folder, as a plain client of LSP 3.18.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn initialize(&mut self, root: &Path) -> anyhow::Result<Answer> {
        let folder = json!({ "uri": uri_of(root), "name": "workspace" });
        self.initialize_with(&json!({
            "processId": std::process::id(),
            "clientInfo": { "name": "pairwright driver" },
            "rootUri": uri_of(root),
            "workspaceFolders": [folder],
            "capabilities": {
                "textDocument": { "inlineCompletion": {} },
                "experimental": { "pairwright": { "status": true, "hunks": true, "events": true } },
            },
        }))
    }

    /// Opens the session with parameters of the caller's.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn initialize_with(&mut self, params: &Value) -> anyhow::Result<Answer> {
        let answer = self.request("initialize", params)?;
        self.notify("initialized", &json!({}))?;
        Ok(answer)
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// When the server does not read any more.
    pub fn notify(&mut self, method: &str, params: &Value) -> anyhow::Result<()> {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
    }

    /// Sends a request without waiting for its answer; returns its id.
    ///
    /// # Errors
    /// When the server does not read any more.
    pub fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<i64> {
        let id = self.next_id;
        self.next_id += 1;
        self.sent.insert(id.into(), Instant::now());
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        Ok(id)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the server has ended or does not answer in time.
    pub fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<Answer> {
        let id = self.ask(method, params)?;
        self.answer(id)
    }

    /// Waits for the answer to request `id`.
    ///
    /// # Errors
    /// When the server has ended or does not answer in time.
    pub fn answer(&mut self, id: impl Into<Id>) -> anyhow::Result<Answer> {
        let id = id.into();
        let sent = self.sent.get(&id).copied().unwrap_or_else(Instant::now);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(Received { at, result }) = self.answers.get_mut(&id).and_then(Vec::pop) {
                let took = at.saturating_duration_since(sent);
                return Ok(Answer { result, took });
            }
            self.next(deadline)?;
        }
    }

    /// Returns how many answers to `id` came that nobody has waited for.
    pub fn unclaimed(&self, id: impl Into<Id>) -> usize {
        self.answers.get(&id.into()).map_or(0, Vec::len)
    }

    /// Waits until the last notification `method` satisfies `wanted`; returns its parameters.
    ///
    /// # Errors
    /// When the server has ended or `deadline` passes.
    pub fn wait_for(
        &mut self,
        method: &str,
        wanted: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> anyhow::Result<Value> {
        loop {
            let last = self.notices.iter().rev().find(|n| n.method == method);
            if let Some(notice) = last.filter(|n| wanted(&n.params)) {
                return Ok(notice.params.clone());
            }
            self.next(deadline)
                .with_context(|| format!("waited for {method}"))?;
        }
    }

    /// Waits until some line that the server logs to its editor contains `part`; returns the line.
    ///
    /// # Errors
    /// When the server has ended or `deadline` passes.
    pub fn wait_for_message(&mut self, part: &str, deadline: Instant) -> anyhow::Result<String> {
        loop {
            let logged = self
                .notices
                .iter()
                .filter(|n| n.method == "window/logMessage");
            let mut lines = logged.filter_map(|n| n.params["message"].as_str());
            if let Some(line) = lines.find(|line| line.contains(part)) {
                return Ok(line.to_owned());
            }
            self.next(deadline)
                .with_context(|| format!("waited for a message about {part}"))?;
        }
    }

    /// Waits until the server complains about a message that it could not read.
    ///
    /// # Errors
    /// When the server has ended or does not complain in time.
    pub fn fault(&mut self) -> anyhow::Result<jsonrpc::Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.faults.is_empty() {
            self.next(deadline)?;
        }
        Ok(self.faults.remove(0))
    }

    /// Everything the server sent unasked so far.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Sends bytes as they are, frame or no frame.
    ///
    /// # Errors
    /// When the server does not read any more.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the stream is closed")?;
        let written = input.write_all(bytes).and_then(|()| input.flush());
        // Not its source: a pipe of the server's that broke is not one of the caller's.
        written
            .map_err(|why| anyhow!("the server does not read any more ({why}); its log says why"))
    }

    /// Sends one message, whatever it holds.
    ///
    /// # Errors
    /// When the server does not read any more.
    pub fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        write_frame(&mut frame, &serde_json::to_vec(message)?)?;
        self.send_bytes(&frame)
    }

    /// Ends the session as the protocol asks.
    ///
    /// # Errors
    /// When the server does not answer or does not end.
    pub fn leave(mut self) -> anyhow::Result<ExitStatus> {
        self.request("shutdown", &Value::Null)?;
        self.notify("exit", &Value::Null)?;
        self.ended()
    }

    /// Closes the stream without a word, as an editor that crashes, and waits for the end.
    ///
    /// # Errors
    /// When the server does not end in time.
    pub fn hang_up(mut self) -> anyhow::Result<ExitStatus> {
        self.input = None;
        self.ended()
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Ok((at, frame)) => self.keep(at, frame)?,
                Err(RecvTimeoutError::Timeout) => bail!("the server does not end"),
                Err(RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.frames.recv_timeout(left) {
            Ok((at, frame)) => self.keep(at, frame),
            Err(RecvTimeoutError::Timeout) => bail!("the server does not answer"),
            Err(RecvTimeoutError::Disconnected) => bail!("the server has ended; its log says why"),
        }
    }

    fn keep(&mut self, at: Instant, frame: Frame) -> anyhow::Result<()> {
        match frame {
            Frame::Response(response) | Frame::Fault(response) => {
                let (id, result) = response.into_parts();
                match (id, result) {
                    (Id::Null, Err(error)) => self.faults.push(error),
                    (id, result) => {
                        let received = Received { at, result };
                        self.answers.entry(id).or_default().push(received);
                    }
                }
            }
            Frame::Request(request) => {
                let (method, id, params) = request.into_parts();
                let params = params.unwrap_or_default();
                if let Some(id) = id {
                    let (messages, result) = self.reply(&method, &params);
                    messages.iter().try_for_each(|m| self.send(m))?;
                    if let Some(result) = result {
                        self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))?;
                    }
                }
                self.notices.push(Notice {
                    method: method.into_owned(),
                    params,
                    at,
                });
            }
        }
        Ok(())
    }

    /// What an editor says to a request of the server.
    fn reply(&mut self, method: &str, params: &Value) -> (Vec<Value>, Option<Value>) {
        if let Some(Handler(reaction)) = self.handlers.get_mut(method) {
            return reaction(params);
        }
        if method != "workspace/configuration" {
            return (Vec::new(), Some(Value::Null));
        }
        let items = params["items"].as_array().map_or(0, Vec::len);
        let settings = Value::Array(vec![self.settings.clone(); items]);
        (Vec::new(), Some(settings))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // After `leave` it has ended already; otherwise the session was broken off.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
