//! An editor in miniature: starts the server as a child and speaks LSP to it.

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::lsp::framing::{Frame, read_frame, write_frame};
use crate::session::document::uri_of;

/// No answer takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Client {
    child: Child,
    input: ChildStdin,
    frames: Receiver<Frame>,
    /// Notifications that came while an answer was waited for.
    notices: Vec<(String, Value)>,
    next_id: i64,
}

/// An answer and how long it took.
pub(super) struct Answer {
    pub(super) result: Result<Value, String>,
    pub(super) took: Duration,
}

impl Client {
    /// Starts the server that this program is.
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        #[expect(
            clippy::disallowed_methods,
            reason = "starts this very program as the server"
        )]
        let mut child = Command::new(program)
            .arg("lsp")
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
                if sender.send(frame).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input,
            frames,
            notices: Vec::new(),
            next_id: 1,
        })
    }

    /// Opens the session for a workspace folder.
    pub(super) fn initialize(&mut self, root: &Path) -> anyhow::Result<Answer> {
        let folder = json!({ "uri": uri_of(root), "name": "tour" });
        let answer = self.request(
            "initialize",
            &json!({
                "processId": std::process::id(),
                "clientInfo": { "name": "pairwright tour" },
                "rootUri": uri_of(root),
                "workspaceFolders": [folder],
                "capabilities": { "textDocument": { "inlineCompletion": {} } },
            }),
        )?;
        self.notify("initialized", &json!({}))?;
        Ok(answer)
    }

    pub(super) fn notify(&mut self, method: &str, params: &Value) -> anyhow::Result<()> {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
    }

    /// Sends a request without waiting for its answer; returns its id.
    pub(super) fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<i64> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        Ok(id)
    }

    pub(super) fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<Answer> {
        let asked = Instant::now();
        let id = self.ask(method, params)?;
        self.answer(id, asked)
    }

    /// Waits for the answer to request `id`, which was sent at `asked`.
    pub(super) fn answer(&mut self, id: i64, asked: Instant) -> anyhow::Result<Answer> {
        loop {
            match self.next(asked + PATIENCE)? {
                Frame::Response(response) if response.id() == &id.into() => {
                    let (_, result) = response.into_parts();
                    let result = result.map_err(|e| e.message.to_string());
                    return Ok(Answer {
                        result,
                        took: asked.elapsed(),
                    });
                }
                Frame::Request(notice) => self.keep(notice),
                Frame::Response(_) | Frame::Fault(_) => {}
            }
        }
    }

    /// Waits until the last notification `method` satisfies `wanted`; returns its parameters.
    pub(super) fn wait_for(
        &mut self,
        method: &str,
        wanted: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> anyhow::Result<Value> {
        loop {
            let last = self.notices.iter().rev().find(|(m, _)| m == method);
            if let Some((_, params)) = last.filter(|(_, params)| wanted(params)) {
                return Ok(params.clone());
            }
            if let Frame::Request(notice) = self.next(deadline)? {
                self.keep(notice);
            }
        }
    }

    /// Ends the session as the protocol asks.
    pub(super) fn leave(mut self) -> anyhow::Result<()> {
        self.request("shutdown", &Value::Null)?;
        self.notify("exit", &Value::Null)?;
        self.child.wait()?;
        Ok(())
    }

    fn keep(&mut self, notice: tower_lsp_server::jsonrpc::Request) {
        let (method, _, params) = notice.into_parts();
        self.notices
            .push((method.into_owned(), params.unwrap_or_default()));
    }

    fn next(&mut self, deadline: Instant) -> anyhow::Result<Frame> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.frames.recv_timeout(left) {
            Ok(frame) => Ok(frame),
            Err(RecvTimeoutError::Timeout) => bail!("the server does not answer"),
            Err(RecvTimeoutError::Disconnected) => bail!("the server has ended; its log says why"),
        }
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let body = serde_json::to_vec(message)?;
        write_frame(&mut self.input, &body).context("the server does not read")?;
        self.input.flush()?;
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // After `leave` it has ended already; otherwise the tour was broken off.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
