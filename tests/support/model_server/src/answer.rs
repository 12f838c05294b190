//! What the script says about one request.

use std::time::Duration;

use bytes::Bytes;

use crate::log::Seen;
use crate::route::Hole;
use crate::turn::Turn;

/// An answer and how it is given.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Before the head of the answer.
    pub(crate) delay: Duration,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Text(Text),
    Turn(Turn),
    /// Exactly these bytes, one frame each.
    Bytes(Vec<Bytes>),
    /// Not even a head.
    Never,
}

/// Text in the shape of the dialect that was asked in.
#[derive(Debug, Clone)]
pub struct Text {
    pub pieces: Vec<String>,
    /// Before each piece but the first.
    pub gap: Duration,
    pub ending: Ending,
    pub prompt_tokens: u64,
}

/// How a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Proper,
    /// Because of the token limit.
    Length,
    /// The last piece is the last byte: no reason, no `[DONE]`.
    Bare,
    /// The connection or stream breaks after the last piece.
    Cut,
    /// Nothing more comes after the last piece, and no end.
    Hang,
    /// The pieces come again and again.
    Endless,
}

impl Answer {
    /// Text in one piece.
    pub fn text(text: &str) -> Self {
        Self::pieces([text])
    }

    pub fn pieces<S: Into<String>>(pieces: impl IntoIterator<Item = S>) -> Self {
        let pieces = pieces.into_iter().map(Into::into).collect();
        let text = Text {
            pieces,
            gap: Duration::ZERO,
            ending: Ending::Proper,
            prompt_tokens: 40,
        };
        Self {
            status: 200,
            headers: Vec::new(),
            delay: Duration::ZERO,
            body: Body::Text(text),
        }
    }

    /// An error with a JSON message, as most servers give it.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({"error": {"message": message}}).to_string();
        Self::bytes("application/json", [body]).with_status(status)
    }

    /// Exactly these bytes, one frame each.
    pub fn bytes<B: Into<Bytes>>(content_type: &str, frames: impl IntoIterator<Item = B>) -> Self {
        let body = Body::Bytes(frames.into_iter().map(Into::into).collect());
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self {
            status: 200,
            headers,
            delay: Duration::ZERO,
            body,
        }
    }

    /// A vector for each text of a request for embeddings, numbered from the last to the first.
    pub fn vectors(seen: &Seen, vector: impl Fn(&str) -> Vec<f32>) -> Self {
        let body = seen.json();
        let texts = body["input"].as_array().map_or(&[][..], Vec::as_slice);
        let texts = texts.iter().map(|text| text.as_str().unwrap_or_default());
        let items: Vec<_> = texts
            .clone()
            .enumerate()
            .map(|(at, text)| serde_json::json!({"index": at, "embedding": vector(text)}))
            .rev()
            .collect();
        let n_tokens: usize = texts.map(|text| text.len() / 4).sum();
        let usage = serde_json::json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens});
        let body = serde_json::json!({"object": "list", "data": items, "usage": usage});
        Self::bytes("application/json", [body.to_string()])
    }

    /// A turn of a conversation, in the shape of the dialect that was asked in.
    pub fn turn(turn: Turn) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            delay: Duration::ZERO,
            body: Body::Turn(turn),
        }
    }

    /// No answer at all.
    pub fn never() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            delay: Duration::ZERO,
            body: Body::Never,
        }
    }

    /// What a model trained to fill in answers to the question Pairwright probes with, if it can
    /// see the text after the cursor; `otherwise` to any other question.
    pub fn honest(seen: &Seen, otherwise: &str) -> Self {
        let hole = Hole::of(seen);
        if !hole.prefix.ends_with("a = [1, 2, ") {
            return Self::text(otherwise);
        }
        match hole.suffix {
            Some(suffix) if suffix.contains("[1, 2, 7, 9]") => Self::text("7"),
            _ => Self::blind(seen),
        }
    }

    /// What a server answers that takes the text after the cursor and does not use it.
    pub fn blind(_seen: &Seen) -> Self {
        Self::text("3, 4, 5").with_prompt_tokens(9)
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        self.change(|text| text.ending = ending)
    }

    #[must_use]
    pub fn with_gap(self, gap: Duration) -> Self {
        self.change(|text| text.gap = gap)
    }

    #[must_use]
    pub fn with_prompt_tokens(self, tokens: u64) -> Self {
        self.change(|text| text.prompt_tokens = tokens)
    }

    fn change(mut self, change: impl FnOnce(&mut Text)) -> Self {
        if let Body::Text(text) = &mut self.body {
            change(text);
        }
        self
    }
}
