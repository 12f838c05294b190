//! The message loop: frames in, handlers called in order, exactly one response per request.
//!
//! Five rules keep a language server correct on top of tower-lsp-server's router, and all of them
//! live here:
//! 1. Nothing waits for a slot: a request that cannot answer at once becomes a task of its own,
//!    so `$/cancelRequest` is never queued behind slow work.
//! 2. A handler runs up to its first await before the next message is read; handlers change the
//!    session there and nowhere else, so edits and requests keep the client's order.
//! 3. From [`off_the_reader`] on, a handler runs on the runtime: it cannot hold up the reader, a
//!    panic becomes one error reply, and a cancelled request drops its future and all it owns.
//! 4. The reader never awaits a client's reply; replies are routed while handlers wait for them.
//! 5. What a handler sends to the client before it answers reaches the client before the answer.
//!
//! Not here: what any message means.

use std::any::Any;
use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_lsp_server::jsonrpc::{Error, ErrorCode, Id, Request, Response};
use tower_lsp_server::{ClientSocket, ExitedError, LanguageServer, LspService};

use super::framing::{Frame, read_frame, write_frame};

/// Requests that may be unanswered at one time; more are refused at once with an error.
const MAX_IN_FLIGHT: usize = 4096;
/// Messages that may wait for a client that does not read; then senders wait.
const OUTBOX: usize = 4096;

/// How long answers may take to reach a client that has said it is leaving.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client sent `exit`.
    Exit,
    /// The client closed the stream, or the stream broke.
    Closed,
}

/// Leaves the reader's thread: the rest of the handler runs as a task on the runtime.
pub async fn off_the_reader() {
    tokio::task::yield_now().await;
}

/// Reads messages from `input` and answers on `output` until the client leaves.
///
/// Runs on the calling thread, which must not belong to the runtime; returns when the stream ends
/// or `exit` arrives, after the messages already queued were written.
pub fn serve<S: LanguageServer>(
    mut input: impl BufRead,
    output: impl Write + Send + 'static,
    service: LspService<S>,
    socket: ClientSocket,
    runtime: &Handle,
) -> Ending {
    let _entered = runtime.enter();
    let (outbox, writer) = Outbox::start(output);
    let (to_client, from_client) = socket.split();
    let (answers, answers_out) = mpsc::channel(OUTBOX);
    let leaving = CancellationToken::new();
    runtime.spawn(forward(
        to_client,
        answers_out,
        outbox.clone(),
        leaving.clone(),
    ));
    let mut reader = Reader {
        service,
        from_client,
        outbox,
        answers,
        in_flight: Arc::default(),
    };
    let ending = loop {
        match read_frame(&mut input) {
            Ok(Some(Frame::Request(request))) => {
                let exit = request.method() == "exit";
                reader.request(request);
                if exit {
                    break Ending::Exit;
                }
            }
            Ok(Some(Frame::Response(response))) => {
                // Routing a reply is a map lookup; it is ready at once.
                let _ = reader.from_client.send(response).now_or_never();
            }
            Ok(Some(Frame::Fault(response))) => {
                tracing::warn!(error = ?response.error(), "unreadable message from the client");
                reader.outbox.blocking_send(&response);
            }
            Ok(None) => break Ending::Closed,
            Err(why) => {
                tracing::warn!(%why, "the client's stream broke");
                break Ending::Closed;
            }
        }
    };
    leaving.cancel();
    drop(reader);
    writer.finish();
    ending
}

struct Reader<S, R> {
    service: LspService<S>,
    from_client: R,
    outbox: Outbox,
    /// For answers of requests that took more than one step.
    answers: mpsc::Sender<Response>,
    in_flight: Arc<AtomicUsize>,
}

impl<S: LanguageServer, R> Reader<S, R> {
    fn request(&mut self, request: Request) {
        let request = with_params(request);
        let id = request.id().cloned();
        if let Some(id) = &id
            && self.in_flight.load(Ordering::Relaxed) >= MAX_IN_FLIGHT
        {
            let why = format!("{MAX_IN_FLIGHT} requests are unanswered; ask again later");
            self.outbox.blocking_send(&error_reply(
                id.clone(),
                ErrorCode::ServerError(-32001),
                why,
            ));
            return;
        }
        let method = request.method().to_owned();
        let call = AssertUnwindSafe(self.service.call(request))
            .catch_unwind()
            .boxed();
        match poll_once(call) {
            Ok(done) => {
                if let Some(response) = settle(done, id, &method) {
                    self.outbox.blocking_send(&response);
                }
            }
            Err(call) => {
                let in_flight = Slot::take(&self.in_flight);
                let answers = self.answers.clone();
                tokio::spawn(async move {
                    let response = settle(call.await, id, &method);
                    drop(in_flight);
                    if let Some(response) = response {
                        let _ = answers.send(response).await;
                    }
                });
            }
        }
    }
}

/// Counts one unanswered request for as long as it lives.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Settled = Result<Result<Option<Response>, ExitedError>, Box<dyn Any + Send>>;

/// Runs a future up to its first await; gives it back when it has more to do.
fn poll_once(
    mut future: BoxFuture<'static, Settled>,
) -> Result<Settled, BoxFuture<'static, Settled>> {
    match future.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Err(future),
    }
}

fn settle(done: Settled, id: Option<Id>, method: &str) -> Option<Response> {
    match done {
        Ok(Ok(response)) => response,
        Ok(Err(exited)) => Some(error_reply(
            id?,
            ErrorCode::InvalidRequest,
            exited.to_string(),
        )),
        Err(panic) => {
            let what = panic_message(&*panic);
            tracing::error!(method, what, "a handler panicked");
            let why = format!("Pairwright failed inside on {method}: {what}; the log has more");
            Some(error_reply(id?, ErrorCode::InternalError, why))
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

fn error_reply(id: Id, code: ErrorCode, message: String) -> Response {
    Response::from_error(
        id,
        Error {
            code,
            message: message.into(),
            data: None,
        },
    )
}

/// Gives a message without parameters null ones, which every handler reads as none.
fn with_params(request: Request) -> Request {
    if request.params().is_some() {
        return request;
    }
    let (method, id, _) = request.into_parts();
    let request = Request::build(method).params(serde_json::Value::Null);
    match id {
        Some(id) => request.id(id).finish(),
        None => request.finish(),
    }
}

/// Sends what handlers send and what they answer, the former first; from `leaving` on, only the
/// answers of those that are still at work.
async fn forward(
    mut requests: impl futures_util::Stream<Item = Request> + Unpin,
    mut answers: mpsc::Receiver<Response>,
    outbox: Outbox,
    leaving: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = leaving.cancelled() => break,
            Some(request) = requests.next() => outbox.send(&request).await,
            Some(answer) = answers.recv() => outbox.send(&answer).await,
            else => return,
        }
    }
    while let Some(answer) = answers.recv().await {
        outbox.send(&answer).await;
    }
}

/// The queue to the one thread that writes to the client.
#[derive(Clone)]
struct Outbox(mpsc::Sender<Vec<u8>>);

struct Writer {
    /// Disconnects when the writing thread ends.
    done: std::sync::mpsc::Receiver<()>,
}

impl Outbox {
    fn start(mut output: impl Write + Send + 'static) -> (Self, Writer) {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(OUTBOX);
        let (running, done) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("lsp-writer".into())
            .spawn(move || {
                let _running: std::sync::mpsc::Sender<()> = running;
                while let Some(body) = receiver.blocking_recv() {
                    if let Err(why) = write_frame(&mut output, &body) {
                        tracing::warn!(%why, "cannot write to the client");
                        return;
                    }
                }
            })
            .expect("a thread can be started at start-up");
        (Self(sender), Writer { done })
    }

    async fn send(&self, message: &impl Serialize) {
        if let Some(body) = encode(message) {
            let _ = self.0.send(body).await;
        }
    }

    fn blocking_send(&self, message: &impl Serialize) {
        if let Some(body) = encode(message) {
            let _ = self.0.blocking_send(body);
        }
    }
}

impl Writer {
    /// Waits until all answers are written: the work in flight may finish, a client that has
    /// stopped reading is not waited for longer than [`LAST_WORDS`].
    fn finish(self) {
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}

fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(message)
        .inspect_err(|why| tracing::error!(%why, "a message cannot be encoded"))
        .ok()
}
