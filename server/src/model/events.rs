//! The body of an answer as events, whichever way the server frames it.
//!
//! Holds: memory is bounded by `model::sse` and by the bytes allowed. Not here: what the events
//! mean, and when the answer ends.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::caller::{ERROR_BODY, read_some};
use super::failure::Failure;
use super::http::{Answer, Body, Protocol};
use super::sse::{Decoder, Event, Framing};

/// After the text, the end of the answer is awaited this long to keep the connection.
const END_PATIENCE: Duration = Duration::from_millis(250);

/// How the body of an answer is cut into events.
enum Shape {
    Stream(Decoder),
    /// A server that does not stream: one JSON document.
    Whole(Vec<u8>),
}

/// An answer as it comes.
pub(super) struct Events {
    pub(super) protocol: Protocol,
    body: Body,
    shape: Shape,
    bytes: usize,
    /// The most bytes read.
    limit: usize,
    at_end: bool,
}

impl Events {
    /// Takes an answer that is framed as `usual` where the server does not say; at most `limit`
    /// bytes are read.
    ///
    /// # Errors
    /// [`Failure::NotAStream`] when its type is none a model answers in.
    pub(super) fn new(answer: Answer, usual: Framing, limit: usize) -> Result<Self, Failure> {
        let content_type = answer
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let shape = match (media.as_str(), usual) {
            ("text/event-stream", _) => Shape::Stream(Decoder::new(Framing::Events)),
            ("application/x-ndjson" | "application/jsonl" | "application/json-lines", _)
            | ("application/json", Framing::Lines) => Shape::Stream(Decoder::new(Framing::Lines)),
            ("application/json", Framing::Events) => Shape::Whole(Vec::new()),
            ("" | "text/plain" | "application/octet-stream", framing) => {
                Shape::Stream(Decoder::new(framing))
            }
            _ => {
                let content_type = media.chars().take(80).collect();
                return Err(Failure::NotAStream { content_type });
            }
        };
        Ok(Self {
            protocol: answer.protocol,
            body: answer.body,
            shape,
            bytes: 0,
            limit,
            at_end: false,
        })
    }

    /// Waits for the next piece of the body and appends the events it completes; look at
    /// [`at_end`](Self::at_end) after it. Cancel safe only between answers: a dropped wait ends
    /// the request.
    ///
    /// # Errors
    /// Why nothing more comes; [`Failure::Endless`] when there are more bytes than allowed.
    pub(super) async fn next(&mut self, events: &mut Vec<Event>) -> Result<(), Failure> {
        let chunk = self.body.chunk().await?;
        match (&mut self.shape, &chunk) {
            (Shape::Stream(decoder), Some(bytes)) => decoder.feed(bytes, events),
            (Shape::Stream(decoder), None) => decoder.finish(events),
            (Shape::Whole(document), Some(bytes)) => {
                document.extend_from_slice(bytes);
                Ok(())
            }
            (Shape::Whole(document), None) => {
                events.push(Event {
                    name: String::new(),
                    data: std::mem::take(document),
                });
                Ok(())
            }
        }
        .map_err(|_| Failure::Endless)?;
        self.bytes += chunk.as_ref().map_or(0, Bytes::len);
        self.at_end = chunk.is_none();
        Ok(())
    }

    /// Whether the body has ended.
    pub(super) fn at_end(&self) -> bool {
        self.at_end
    }

    /// Whether there were more bytes than allowed.
    pub(super) fn is_too_long(&self) -> bool {
        self.bytes > self.limit
    }

    /// Waits a moment for the end of the answer in the background, so that its connection can
    /// be used again.
    pub(super) fn let_end(self) {
        if self.at_end {
            return;
        }
        let mut body = self.body;
        tokio::spawn(async move {
            let ending = read_some(&mut body, ERROR_BODY);
            if tokio::time::timeout(END_PATIENCE, ending).await.is_err() {
                tracing::debug!("a model server did not end its answer");
            }
        });
    }
}
