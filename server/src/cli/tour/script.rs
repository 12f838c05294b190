//! A model that follows a script, so that the tour can show chat and tasks without a key: OpenAI's
//! chat completions over HTTP/2, on this machine.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// What the model says in one turn, and the tools that it calls with their arguments in JSON.
pub(super) struct Turn {
    pub(super) text: &'static str,
    pub(super) calls: &'static [(&'static str, &'static str)],
}

/// Serves `turns`, one for each question, and the last for every further one. Returns the address.
/// Goes on for as long as the runtime does.
pub(super) async fn serve(turns: &'static [Turn]) -> anyhow::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("listening for the tour's own client")?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, turns, Arc::clone(&asked)));
        }
    });
    Ok(url)
}

async fn connection(stream: TcpStream, turns: &'static [Turn], asked: Arc<AtomicUsize>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            // Read to the end, as a model does.
            let _ = request.into_body().collect().await;
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            let said = turns
                .get(nth)
                .or(turns.last())
                .map_or_else(String::new, events);
            let mut response = Response::new(Full::new(Bytes::from(said)));
            let kind = http::HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok::<_, Infallible>(response)
        }
    });
    // A client that leaves early is no concern of a script.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A turn as server-sent events.
fn events(turn: &Turn) -> String {
    let mut said = String::new();
    let mut say = |delta: Value, reason: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        said.push_str(&format!("data: {}\n\n", json!({ "choices": [choice] })));
    };
    say(json!({ "content": turn.text }), None);
    for (nth, (name, arguments)) in turn.calls.iter().enumerate() {
        let call = json!({
            "index": nth, "id": format!("call_{nth}"), "type": "function",
            "function": { "name": name, "arguments": arguments },
        });
        say(json!({ "tool_calls": [call] }), None);
    }
    let reason = match turn.calls {
        [] => "stop",
        _ => "tool_calls",
    };
    say(json!({}), Some(reason));
    said.push_str("data: [DONE]\n\n");
    said
}
