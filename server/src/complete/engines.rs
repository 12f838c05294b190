//! Who writes suggestions: the model endpoint, when there is one, and the embedded engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::Ask;
use super::surroundings::Surroundings;
use super::trim::Extent;
use crate::config::{self, Settings};
use crate::context::Context;
use crate::error::UserError;
use crate::index::{Indexes, Lookup};
use crate::local::{self, Engine};
use crate::model::{
    Api, Embedder, Endpoint, FimRequest, KeySource, Model, Network, NetworkSettings, Proxy, Secret,
    Snippet,
};
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
    pub model: Option<Model>,
    pub index: Option<Indexes>,
    /// Turns code and questions into vectors for the index.
    pub embedder: Option<Embedder>,
    network: Option<(NetworkSettings, Network)>,
    learns: Option<local::Settings>,
}

impl Engines {
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
        let mut problems = Vec::new();
        let models = &next.settings.models;
        if models.complete.is_some() || models.embed.is_some() {
            match self.network_for(&next.settings.network) {
                Ok(network) => next.network = Some(network),
                Err(problem) => problems.push(problem),
            }
        }
        if let Some((_, network)) = &next.network {
            let is_same_network = |before: &Self| {
                let settings = |engines: &Self| engines.network.as_ref().map(|n| n.0.clone());
                settings(before) == settings(&next)
            };
            let before = Some(self).filter(|before| is_same_network(before));
            if let Some(model) = &models.complete {
                let endpoint = endpoint("models.complete", model);
                let known = before.and_then(|before| before.model.as_ref());
                let known = known.filter(|known| *known.endpoint() == endpoint);
                match known.map_or_else(|| network.model(endpoint), |known| Ok(known.clone())) {
                    Ok(model) => next.model = Some(model),
                    Err(problem) => problems.push(problem),
                }
            }
            if let Some(model) = &models.embed {
                let endpoint = Endpoint {
                    api: Api::OpenAi,
                    ..endpoint("models.embed", model)
                };
                let known = before.and_then(|before| before.embedder.as_ref());
                let known = known.filter(|known| *known.endpoint() == endpoint);
                match known.map_or_else(|| network.embedder(endpoint), |known| Ok(known.clone())) {
                    Ok(embedder) => next.embedder = Some(embedder),
                    Err(problem) => problems.push(problem),
                }
            }
        }
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

    /// Returns the network by the settings, the one so far when they are the same.
    fn network_for(
        &self,
        network: &config::Network,
    ) -> Result<(NetworkSettings, Network), UserError> {
        let asked = NetworkSettings {
            proxy: network.proxy.clone().map_or(Proxy::Environment, Proxy::Url),
            no_proxy: None,
            ca_files: network.ca_certificates.clone(),
        };
        let network = match &self.network {
            Some((settings, network)) if *settings == asked => network.clone(),
            _ => Network::new(&asked)?,
        };
        Ok((asked, network))
    }

    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// Returns the embedded engine if it is not the one of `before` and has to be told everything.
    pub fn local_unlike(&self, before: &Self) -> Option<&Engine> {
        let local = self.local.as_ref()?;
        (before.local.is_none() || self.learns != before.learns).then_some(local)
    }

    /// Adds the index of the folders `roots`, kept in `cache`; goes on with that of `before` when
    /// they are the same. Returns the index when it is new and has to be loaded.
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
        self.index = Some(index.clone());
        known.is_none().then_some(index)
    }

    /// Starts to look up what a completion may need of other files than those that are open.
    pub(super) fn look_up(&self, ask: &Ask) -> Option<Lookup> {
        let index = self.index.as_ref()?;
        self.model.as_ref()?;
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
        let model = self.model.as_ref()?;
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

fn endpoint(setting: &'static str, model: &config::Model) -> Endpoint {
    let key = match (&model.api_key_env, &model.api_key_command) {
        (Some(name), _) => Some(KeySource::Env(name.clone())),
        (None, Some(argv)) => Some(KeySource::Command(argv.clone())),
        (None, None) => None,
    };
    let headers = model
        .headers
        .iter()
        .map(|(k, v)| (k.clone(), Secret::new(v.clone())))
        .collect();
    Endpoint {
        setting,
        key,
        http: model.http,
        template: model.template.clone(),
        headers,
        ..Endpoint::new(model.api, &*model.url, &*model.model)
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
