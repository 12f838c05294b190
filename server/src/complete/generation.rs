//! One suggestion in the making: a stream of text from a model, or a finished text, offered at a
//! place that is followed while the user types.
//!
//! Holds: the stream belongs to the generation alone; dropping the generation drops the stream,
//! which ends the request at the model.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Source;
use super::track::Track;
use super::trim::Extent;
use crate::error::UserError;

/// Longest text that is taken from a model for one suggestion, in bytes.
const MAX_TEXT: usize = 16 << 10;

/// What was written so far; lines end with `\n`.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub text: String,
    pub end: Option<End>,
}

/// How a text ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All of it is there, or all that is wanted.
    Finished,
    Failed(UserError),
}

/// A text offered at a place.
#[derive(Debug)]
pub struct Generation {
    pub source: Source,
    pub extent: Extent,
    /// Probability that the text is what the user wants, where the source knows.
    pub confidence: Option<f32>,
    pub track: Track,
    /// The request that started it.
    pub owner: u64,
    written: watch::Receiver<Written>,
    /// `None` once there is nothing more to come.
    _stream: Option<AbortOnDropHandle<()>>,
}

impl Generation {
    /// Starts to read `stream`, which goes on from `begun`. `is_complete` is asked after every
    /// piece whether more would change anything; the stream is dropped as soon as it would not.
    pub fn stream(
        stream: BoxStream<'static, Result<String, UserError>>,
        begun: &str,
        is_complete: impl Fn(&str) -> bool + Send + 'static,
        extent: Extent,
        track: Track,
        owner: u64,
    ) -> Self {
        let (sender, written) = watch::channel(Written {
            text: begun.to_owned(),
            end: None,
        });
        let task = tokio::spawn(read(stream, is_complete, sender));
        let _stream = Some(AbortOnDropHandle::new(task));
        Self {
            source: Source::Model,
            extent,
            confidence: None,
            track,
            owner,
            written,
            _stream,
        }
    }

    /// A text that is already there.
    pub fn finished(
        text: String,
        source: Source,
        confidence: Option<f32>,
        extent: Extent,
        track: Track,
    ) -> Self {
        let (_, written) = watch::channel(Written {
            text,
            end: Some(End::Finished),
        });
        Self {
            source,
            extent,
            confidence,
            track,
            owner: 0,
            written,
            _stream: None,
        }
    }

    /// The text so far, and how it ended if it has.
    pub fn written(&self) -> watch::Ref<'_, Written> {
        self.written.borrow()
    }

    /// A handle to wait for more text with, independent of the generation's life.
    pub fn watch(&self) -> watch::Receiver<Written> {
        self.written.clone()
    }

    pub fn is_streaming(&self) -> bool {
        self.written().end.is_none()
    }
}

async fn read(
    mut stream: BoxStream<'static, Result<String, UserError>>,
    is_complete: impl Fn(&str) -> bool,
    sender: watch::Sender<Written>,
) {
    while let Some(piece) = stream.next().await {
        let mut over = false;
        sender.send_modify(|written| {
            match piece {
                Ok(piece) => {
                    written.text.extend(piece.chars().filter(|c| *c != '\r'));
                    if written.text.len() >= MAX_TEXT || is_complete(&written.text) {
                        written.end = Some(End::Finished);
                    }
                }
                Err(error) => {
                    // The line that was being written may end anywhere; only whole lines count.
                    let whole = written.text.rfind('\n').unwrap_or(0);
                    written.text.truncate(whole);
                    written.end = Some(End::Failed(error));
                }
            }
            over = written.end.is_some();
        });
        if over {
            return;
        }
    }
    sender.send_modify(|written| written.end = Some(End::Finished));
}

/// Waits until `ready` says so of what is written, or the text has ended; returns what there is.
pub async fn wait_until(written: &mut watch::Receiver<Written>, ready: impl Fn(&str) -> bool) {
    // An error says that the generation was dropped: what it wrote last is all there will be.
    let _ = written
        .wait_for(|w| w.end.is_some() || ready(&w.text))
        .await;
}
