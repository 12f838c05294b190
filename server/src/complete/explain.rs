//! What was or would be sent, and why: the answer to "what does it know of my code?".

use serde::Serialize;
use serde_json::Value;

use super::engines;
use super::extent;
use super::surroundings::Surroundings;
use super::trim::Extent;
use super::{Ask, Completer, Source, Trigger};
use crate::context::{self, Context};
use crate::local;

/// What is or would be used to complete at a place.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The pieces of text a model is given; `null` when none leaves the editor.
    pub context: Option<Context>,
    /// One line or a block of at most so many lines.
    pub max_lines: usize,
    /// The request to the model endpoint, to the letter, without the key; `null` without one.
    pub request: Option<Sent>,
    /// Why nothing would be sent, when nothing would.
    pub silence: Option<String>,
    /// What the embedded engine says there. It runs in this process and sends nothing.
    pub local: Option<Guess>,
}

/// A request as it goes over the wire.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    pub url: String,
    /// How completions are asked for, in words.
    pub way: String,
    pub body: Value,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guess {
    pub text: String,
    pub confidence: f32,
    /// The part that is sure enough to be shown.
    pub shown: Option<String>,
}

impl Completer {
    /// Explains what a request at the place of `ask` is made of. Sends nothing.
    pub async fn explain(&self, ask: &Ask) -> Explanation {
        let engines = self.engines();
        let (before, after) = super::surroundings::windows(&ask.document.text, ask.offset);
        let around = Surroundings::new(&before, &after);
        let occasion = match ask.trigger {
            Trigger::Automatic => extent::Occasion::Typing,
            Trigger::Invoked => extent::Occasion::Invoked,
        };
        let extent = extent::extent(
            &around,
            engines.settings.complete.max_lines as usize,
            occasion,
        );
        let max_lines = match extent {
            Extent::Line => 1,
            Extent::Block { max_lines } => max_lines,
        };
        let silence = self.reason_for_silence(ask, &around);
        let sends = silence.is_none();
        let found = match engines.look_up(ask).filter(|_| sends) {
            Some(lookup) => lookup.take_late().await,
            None => Vec::new(),
        };
        let context = sends.then(|| {
            context::gather(
                &ask.snapshot,
                &ask.document,
                ask.offset,
                "",
                &self.inner.similar,
                found,
            )
        });
        let silence = match &context {
            Some(None) => Some("the cursor is in a secret; no model is asked there".into()),
            Some(Some(_)) | None => silence,
        };
        let context = context.flatten();
        let request = context
            .clone()
            .zip(engines.model())
            .map(|(context, model)| {
                let preview = model.preview(&engines::request(context, extent, 0));
                Sent {
                    url: preview.url,
                    way: preview.way,
                    body: preview.body,
                }
            });
        let local = engines.suggest(ask, &around).map(|suggestion| Guess {
            shown: suggestion.confident(local::GATE).map(str::to_owned),
            confidence: suggestion.confidence,
            text: suggestion.text,
        });
        Explanation {
            context: context.filter(|_| request.is_some()),
            max_lines,
            request,
            silence,
            local,
        }
    }

    fn reason_for_silence(&self, ask: &Ask, around: &Surroundings<'_>) -> Option<String> {
        if let Some(silence) = self.silence(Some(&ask.document.language)) {
            return Some(silence.to_string());
        }
        if context::is_secret(&ask.document) {
            return Some("the file looks like it holds secrets; its text is never sent".into());
        }
        if ask.document.text.len_bytes() > super::MAX_DOCUMENT {
            return Some("the document is too large".into());
        }
        if self.engines().model().is_none() {
            return Some("no model is set for completion; nothing is sent for ghost text".into());
        }
        let unasked = ask.trigger == Trigger::Automatic;
        (unasked && !extent::speaks_unasked(around.line_after))
            .then(|| "the cursor is in the middle of a line; ask explicitly".into())
    }
}

impl std::fmt::Display for super::Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disabled => f.write_str("ghost text is switched off (`complete.enabled`)"),
            Self::Language(language) => {
                write!(
                    f,
                    "ghost text is switched off for {language} (`complete.languages`)"
                )
            }
            Self::Snoozed(until) => {
                let left = until.saturating_duration_since(std::time::Instant::now());
                write!(f, "snoozed for another {} min", left.as_secs().div_ceil(60))
            }
        }
    }
}

impl Source {
    /// The word for it on the wire and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Local => "local",
        }
    }
}
