//! Who writes suggestions: the model endpoint, when there is one, and the embedded engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::surroundings::Surroundings;
use super::trim::Extent;
use super::Ask;
use crate::config::Settings;
use crate::context::Context;
use crate::error::UserError;
use crate::local::{self, Engine};
use crate::model::{FimRequest, Model, Snippet};
use crate::session::document::Document;

/// Tokens for one line and for each line of a block, with room for long ones: published figures
/// give 19 characters for the median line and 73 for the 95th percentile.
const TOKENS_LINE: u32 = 48;
const TOKENS_BLOCK_LINE: u32 = 16;
const MAX_TOKENS: u32 = 256;

/// The settings in force and the engines made by them.
#[derive(Debug, Clone)]
pub struct Engines {
    pub settings: Arc<Settings>,
    pub local: Option<Engine>,
    pub model: Option<Arc<Model>>,
}

impl Engines {
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.model.as_ref()
    }

    /// Tells the embedded engine the text of an open document.
    pub fn edited(&self, document: &Document) {
        if let Some(local) = &self.local {
            local.edited(&engine_path(document), document.text.clone());
        }
    }

    pub fn closed(&self, document: &Document) {
        if let Some(local) = &self.local {
            local.closed(&engine_path(document));
        }
    }

    /// Asks the model for the text between the prefix and the suffix of `context`. The first
    /// `variant` is the likeliest text; further ones vary. `None` without a model.
    pub(super) fn ask_model(
        &self,
        context: Context,
        extent: Extent,
        variant: usize,
    ) -> Option<BoxStream<'static, Result<String, UserError>>> {
        let model = self.model.as_ref()?;
        let stream = model.complete(request(context, extent, variant));
        Some(stream.map_err(|error| error.user_error()).boxed())
    }

    /// Asks the embedded engine for the rest of the line; only what it is sure enough of.
    pub(super) fn ask_local(&self, ask: &Ask, around: &Surroundings<'_>) -> Option<(String, f32)> {
        let suggestion = self.suggest(ask, around)?;
        let text = suggestion.confident(local::GATE)?;
        let confidence = suggestion.prefixes.iter().find(|p| p.end == text.len())?.confidence;
        Some((text.to_owned(), confidence))
    }

    /// Returns the embedded engine's best guess, however unsure.
    pub fn suggest(&self, ask: &Ask, around: &Surroundings<'_>) -> Option<local::Suggestion> {
        let local = self.local.as_ref()?;
        let path = engine_path(&ask.document);
        let others = ask.snapshot.documents.iter().filter(|d| d.uri != ask.document.uri);
        let open: Vec<PathBuf> = others.map(|d| engine_path(d)).collect();
        let open: Vec<&Path> = open.iter().map(PathBuf::as_path).collect();
        local.suggest(&local::Request {
            path: &path,
            before: around.text_before,
            after: around.text_after,
            open: &open,
        })
    }
}

/// Builds what a model is asked, for [`Engines::ask_model`] and for showing it.
pub(super) fn request(context: Context, extent: Extent, variant: usize) -> FimRequest {
    let (max_tokens, stop) = match extent {
        Extent::Line => (TOKENS_LINE, vec!["\n".to_owned()]),
        Extent::Block { max_lines } => {
            let lines = u32::try_from(max_lines).unwrap_or(u32::MAX);
            (lines.saturating_mul(TOKENS_BLOCK_LINE).clamp(TOKENS_LINE, MAX_TOKENS), vec!["\n\n\n".to_owned()])
        }
    };
    FimRequest {
        path: context.path,
        language: context.language,
        prefix: context.prefix,
        suffix: context.suffix,
        snippets: context.snippets.into_iter().map(|s| Snippet { path: s.path, text: s.text }).collect(),
        max_tokens,
        stop,
        temperature: if variant == 0 { 0.0 } else { 0.5 },
        seed: (variant > 0).then_some(variant as u64),
        deadline: None,
    }
}

/// The path by which the embedded engine knows a document: its file, or for others a name with
/// the ending of their language.
fn engine_path(document: &Document) -> PathBuf {
    if let Some(path) = &document.path {
        return path.to_path_buf();
    }
    let ending = match &*document.language {
        "rust" => "rs",
        "python" => "py",
        "javascript" => "js",
        "javascriptreact" => "jsx",
        "typescript" => "ts",
        "typescriptreact" => "tsx",
        "csharp" => "cs",
        "ruby" => "rb",
        "kotlin" => "kt",
        "shellscript" | "shell" | "bash" => "sh",
        "markdown" => "md",
        "yaml" => "yml",
        other => other,
    };
    PathBuf::from(format!("{}.{ending}", document.uri))
}
