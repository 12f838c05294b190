//! Who writes suggestions: the model endpoint, when there is one, and the embedded engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::Ask;
use super::surroundings::Surroundings;
use super::trim::Extent;
use crate::config::Settings;
use crate::context::Context;
use crate::error::UserError;
use crate::index::{Indexes, Lookup};
use crate::local::{self, Engine};
use crate::model::{FimRequest, Model, Snippet};
use crate::models::Models;
use crate::session::document::Document;
use crate::session::language;

/// Tokens for one line and for each line of a block, with room for long ones: published figures
/// give 19 characters for the median line and 73 for the 95th percentile.
const TOKENS_LINE: u32 = 48;
const TOKENS_BLOCK_LINE: u32 = 16;
const MAX_TOKENS: u32 = 256;

/// The settings in force and the engines made by them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    pub settings: Arc<Settings>,
    pub local: Option<Engine>,
    pub models: Models,
    pub index: Option<Indexes>,
    learns: Option<local::Settings>,
}

impl Engines {
    /// How long an answer may take: the deadline, after the pause that the user has set.
    pub(super) fn patience(&self) -> Duration {
        let settings = &self.settings.complete;
        let ms = u64::from(settings.deadline_ms) + settings.debounce_ms.map_or(0, u64::from);
        Duration::from_millis(ms)
    }

    /// Makes the engines that `settings` ask for, learning the folders `roots` except `exclude`
    /// (globs). What is unchanged from `self` goes on: connections stay warm, nothing is learnt
    /// twice. An engine that cannot be made is left out and said why.
    pub fn with(
        &self,
        settings: Arc<Settings>,
        roots: &[PathBuf],
        exclude: &[String],
    ) -> (Self, Vec<UserError>) {
        let mut next = Self {
            settings,
            ..Self::default()
        };
        let (models, mut problems) = self.models.with(&next.settings);
        next.models = models;
        if next.settings.local.enabled {
            let learns = local::Settings {
                roots: roots.to_vec(),
                exclude: exclude.to_vec(),
                memory: (next.settings.local.memory_mb as usize) << 20,
            };
            match &self.local {
                Some(local) if self.learns.as_ref() == Some(&learns) => {
                    next.local = Some(local.clone());
                }
                _ => match Engine::start(learns.clone()) {
                    Ok(local) => next.local = Some(local),
                    Err(why) => problems.push(UserError::new(
                        crate::error::Kind::Settings,
                        format!("The embedded engine cannot start: {why:#}."),
                    )),
                },
            }
            next.learns = Some(learns);
        }
        (next, problems)
    }

    pub fn model(&self) -> Option<&Model> {
        self.models.complete.as_ref()
    }

    /// Returns the embedded engine if it is not the one of `before` and has to be told everything.
    pub fn local_unlike(&self, before: &Self) -> Option<&Engine> {
        let local = self.local.as_ref()?;
        (before.local.is_none() || self.learns != before.learns).then_some(local)
    }

    /// Adds the index of the folders `roots`, kept in `cache`; goes on with that of `before` when
    /// they are the same. It tells the embedded engine of files that other programs change. Returns
    /// the index when it is new and has to be loaded.
    pub fn add_index(
        &mut self,
        before: &Self,
        roots: &[PathBuf],
        cache: PathBuf,
    ) -> Option<Indexes> {
        if !self.settings.index.enabled || roots.is_empty() {
            return None;
        }
        let known = before.index.as_ref().filter(|index| index.roots() == roots);
        let index = known.cloned().unwrap_or_else(|| Indexes::new(roots, cache));
        index.tell(self.local.as_ref().map(Engine::learning));
        self.index = Some(index.clone());
        known.is_none().then_some(index)
    }

    /// Starts to look up what a completion may need of other files than those that are open.
    pub(super) fn look_up(&self, ask: &Ask) -> Option<Lookup> {
        let index = self.index.as_ref()?;
        self.model()?;
        Some(index.near(&ask.document, ask.offset))
    }

    /// Tells the embedded engine and the index the text of an open document.
    pub fn edited(&self, document: &Document) {
        if let Some(local) = &self.local {
            local.edited(&engine_path(document), document.text.clone());
        }
        if let Some(index) = &self.index {
            index.edited(document);
        }
    }

    pub fn closed(&self, document: &Document) {
        if let Some(local) = &self.local {
            local.closed(&engine_path(document));
        }
        if let Some(index) = &self.index {
            index.closed(document);
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
        let model = self.model()?;
        let completion = model.complete(request(context, extent, variant));
        let pieces = stream::unfold(Some(completion), async |completion| {
            let mut completion = completion?;
            match completion.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(completion))),
                Ok(None) => None,
                Err(error) => Some((Err(error.user_error()), None)),
            }
        });
        Some(pieces.boxed())
    }

    /// Asks the embedded engine for the rest of the line; only what it is sure enough of.
    pub(super) fn ask_local(&self, ask: &Ask, around: &Surroundings<'_>) -> Option<(String, f32)> {
        let suggestion = self.suggest(ask, around)?;
        let text = suggestion.confident(local::GATE)?;
        let confidence = suggestion
            .prefixes
            .iter()
            .find(|p| p.end == text.len())?
            .confidence;
        Some((text.to_owned(), confidence))
    }

    /// Returns the embedded engine's best guess, however unsure.
    pub fn suggest(&self, ask: &Ask, around: &Surroundings<'_>) -> Option<local::Suggestion> {
        let local = self.local.as_ref()?;
        let path = engine_path(&ask.document);
        let others = ask
            .snapshot
            .documents
            .iter()
            .filter(|d| d.uri != ask.document.uri);
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
            (
                lines
                    .saturating_mul(TOKENS_BLOCK_LINE)
                    .clamp(TOKENS_LINE, MAX_TOKENS),
                vec!["\n\n\n".to_owned()],
            )
        }
    };
    FimRequest {
        path: context.path,
        language: context.language,
        prefix: context.prefix,
        suffix: context.suffix,
        snippets: context
            .snippets
            .into_iter()
            .map(|s| Snippet {
                path: s.path,
                text: s.text,
            })
            .collect(),
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
    let ending = language::ending_of(&document.language);
    PathBuf::from(format!("{}.{ending}", document.uri))
}
