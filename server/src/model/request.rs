//! What is asked of a completion model: the text around a cursor.

use tokio::time::Instant;

/// Fill in the middle: the text between `prefix` and `suffix`.
#[derive(Debug, Clone, PartialEq)]
pub struct FimRequest {
    /// Path to show to the model, relative to the workspace, with `/`.
    pub path: String,
    /// LSP language identifier (`"rust"`, `"python"`); decides the form of comments.
    pub language: String,
    /// Text before the cursor, already cut to a window.
    pub prefix: String,
    /// Text after the cursor, already cut to a window.
    pub suffix: String,
    /// Pieces of other files, the least relevant first, already cut to a budget.
    pub snippets: Vec<Snippet>,
    /// The most tokens the model may generate.
    pub max_tokens: u32,
    /// The text ends before the first of these. Any number; servers are told the first few.
    pub stop: Vec<String>,
    /// 0 for the most likely text, more for variety.
    pub temperature: f32,
    /// Tells requests for variety apart.
    pub seed: Option<u64>,
    /// When to stop waiting. Not part of what is asked: requests that differ only in it share
    /// an answer.
    pub deadline: Option<Instant>,
}

impl FimRequest {
    /// Whether `other` asks for the same text.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let Self {
            path,
            language,
            prefix,
            suffix,
            snippets,
            max_tokens,
            stop,
            temperature,
            seed,
            deadline: _,
        } = self;
        // The prefix first: while someone types it is what differs.
        *prefix == other.prefix
            && *suffix == other.suffix
            && *path == other.path
            && *language == other.language
            && *snippets == other.snippets
            && *max_tokens == other.max_tokens
            && *stop == other.stop
            && *temperature == other.temperature
            && *seed == other.seed
    }
}

/// A piece of another file that may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub text: String,
}
