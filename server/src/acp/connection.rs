//! JSON-RPC 2.0, a message a line.
//!
//! Holds: a line is bounded; one that cannot be read is answered with an error and the next is
//! read. Messages are written whole and in the order in which they were handed over; a client that
//! does not read is not waited for beyond [`OUTBOX`] messages.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Longest line, in bytes.
const LONGEST: u64 = 64 << 20;

/// Messages that may wait for a client that does not read; then their senders wait.
const OUTBOX: usize = 4096;

/// How long the last messages may take to reach a client that has closed its stream.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a client sent.
pub(super) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    Response {
        id: Value,
        /// `None` for an error.
        result: Option<Value>,
    },
    Unreadable {
        id: Value,
        refusal: Refusal,
    },
}

/// Why a request is not done, as JSON-RPC says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: i64,
    message: String,
}

impl Refusal {
    pub(super) fn params(message: impl Into<String>) -> Self {
        Self {
            code: -32602,
            message: message.into(),
        }
    }

    pub(super) fn unknown(method: &str) -> Self {
        let shown: String = method.chars().take(100).collect();
        Self {
            code: -32601,
            message: format!("there is no method {shown:?}"),
        }
    }

    pub(super) fn failed(why: impl std::fmt::Display) -> Self {
        Self {
            code: -32603,
            message: why.to_string(),
        }
    }

    pub(super) fn bug() -> Self {
        Self::failed("Pairwright failed inside; its log has more")
    }
}

/// Reads messages until the stream ends.
pub(super) fn read(mut input: impl BufRead, mut take: impl FnMut(Incoming)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut input, LONGEST);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.len() as u64 == LONGEST => {
                tracing::warn!("a message of the client is too long; the connection ends");
                return;
            }
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => take(incoming(&line)),
            Err(why) => {
                tracing::warn!(%why, "the client's stream broke");
                return;
            }
        }
    }
}

fn incoming(line: &[u8]) -> Incoming {
    let unreadable = |id: Value, code, message: &str| Incoming::Unreadable {
        id,
        refusal: Refusal {
            code,
            message: message.to_owned(),
        },
    };
    let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
        return unreadable(Value::Null, -32700, "the line is not JSON");
    };
    let id = message.get("id").cloned();
    let method = message["method"].as_str().map(str::to_owned);
    match (method, id) {
        (Some(method), Some(id)) => Incoming::Request {
            id,
            method,
            params: message["params"].take(),
        },
        (Some(method), None) => Incoming::Notification {
            method,
            params: message["params"].take(),
        },
        (None, Some(id)) if message.get("result").is_some() || message.get("error").is_some() => {
            Incoming::Response {
                id,
                result: message.get_mut("result").map(Value::take),
            }
        }
        (None, id) => unreadable(id.unwrap_or_default(), -32600, "the message is no request"),
    }
}

/// The way to the client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    outbox: SyncSender<String>,
    asked: Arc<Mutex<HashMap<u64, oneshot::Sender<Option<Value>>>>>,
    n_asked: Arc<AtomicU64>,
}

/// The thread that writes.
pub(super) struct Writer {
    /// Disconnects when the thread ends.
    done: Receiver<()>,
}

impl Connection {
    pub(super) fn start(mut output: impl Write + Send + 'static) -> (Self, Writer) {
        let (outbox, messages) = sync_channel::<String>(OUTBOX);
        let (running, done) = sync_channel::<()>(0);
        std::thread::Builder::new()
            .name("acp-writer".into())
            .spawn(move || {
                let _running = running;
                for message in messages {
                    let written = output.write_all(message.as_bytes());
                    if let Err(why) = written.and_then(|()| output.flush()) {
                        tracing::warn!(%why, "cannot write to the client");
                        return;
                    }
                }
            })
            .expect("a thread can be started at start-up");
        let connection = Self {
            outbox,
            asked: Arc::default(),
            n_asked: Arc::default(),
        };
        (connection, Writer { done })
    }

    pub(super) fn respond(&self, id: &Value, answer: Result<Value, Refusal>) {
        self.send(&match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Refusal { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        });
    }

    /// Sends `session/update`.
    pub(super) fn update(&self, session: &str, update: &Value) {
        let params = json!({ "sessionId": session, "update": update });
        self.send(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }));
    }

    /// Asks the client; `None` when it answers with an error or leaves.
    pub(super) async fn ask(&self, method: &str, params: &Value) -> Option<Value> {
        let id = self.n_asked.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        self.asked().insert(id, tell);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        told.await.ok().flatten()
    }

    /// Takes the answer to something that was asked.
    pub(super) fn answered(&self, id: &Value, result: Option<Value>) {
        let tell = id.as_u64().and_then(|id| self.asked().remove(&id));
        if let Some(tell) = tell {
            // Who asked may have stopped waiting.
            let _ = tell.send(result);
        }
    }

    fn send(&self, message: &Value) {
        // Fails once the client is gone.
        let _ = self.outbox.send(format!("{message}\n"));
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Option<Value>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Waits until what was handed over is written.
    pub(super) fn finish(self) {
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}
