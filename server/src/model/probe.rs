//! What an endpoint really supports, found out by asking it.
//!
//! Servers refuse `suffix` (vLLM), or accept and ignore it (some builds of llama.cpp), so the
//! only proof is an answer that could not have been given without it: between
//! `a = [1, 2, ` and `, 9]\nassert a == [1, 2, 7, 9]` stands 7, while the prefix alone goes on
//! with 3. A server that was not told the suffix also counts too few prompt tokens.
//!
//! Not here: deciding when to ask (`Model::probe`) and keeping the result (`model::network`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::dialect::Dialect;
use super::endpoint::Api;
use super::exchange::{Finish, Target};
use super::failure::{Failure, ModelError};
use super::fim::Template;
use super::http::Protocol;
use super::request::FimRequest;
use crate::error::{Kind, UserError};

/// Fewer prompt tokens than this cannot hold the suffix of [`question`]: prefix and suffix are
/// about 30 tokens, the prefix alone about 9.
const TOKENS_WITH_SUFFIX: u64 = 15;

/// Time for the list of models, which is a nicety.
pub(super) const LIST_PATIENCE: Duration = Duration::from_secs(3);

/// Models kept of a list; aggregators offer thousands.
const MOST_LISTED: usize = 500;

/// What was found out about an endpoint.
#[derive(Debug, Clone)]
pub struct Probe {
    /// How completions are asked for, in words.
    pub way: String,
    pub fim: Fim,
    pub protocol: Option<Protocol>,
    /// To an open connection, when none was open before.
    pub connect: Option<Duration>,
    /// To the first text and to the end of a short answer over an open connection.
    pub first_text: Option<Duration>,
    pub answer: Option<Duration>,
    /// Names the server offers, if it says; at most [`MOST_LISTED`].
    pub models: Option<Vec<String>>,
    /// What could be better, with next steps.
    pub advice: Vec<UserError>,
    /// Why the endpoint cannot be used.
    pub error: Option<ModelError>,
    pub(super) dialect: Option<Dialect>,
}

/// Whether text after the cursor has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fim {
    /// Proven.
    Works,
    /// The server took it; the answer proves nothing.
    Unclear,
    /// The server took it and did not use it.
    Ignored,
    /// The server refused it.
    Refused,
    /// Not asked.
    Unknown,
}

impl Probe {
    fn nothing() -> Self {
        Self {
            way: "not known".to_owned(),
            fim: Fim::Unknown,
            protocol: None,
            connect: None,
            first_text: None,
            answer: None,
            models: None,
            advice: Vec::new(),
            error: None,
            dialect: None,
        }
    }

    /// A probe that came to nothing through `error`.
    pub(super) fn lost(error: ModelError) -> Self {
        Self {
            error: Some(error),
            ..Self::nothing()
        }
    }
}

/// What one way of asking led to.
struct Tried {
    dialect: Dialect,
    fim: Fim,
    finish: Option<Finish>,
    error: Option<ModelError>,
}

/// Asks the endpoint: connects, lists its models, and tries the ways of its dialect until one
/// is proven. At most three completions of eight tokens.
pub(super) async fn probe(target: &Target, template: Option<&Template>) -> Probe {
    let mut found = Probe::nothing();
    let started = Instant::now();
    match target.caller.origin.connected().await {
        Ok(protocol) => found.protocol = Some(protocol),
        Err(failure) => {
            found.error = Some(target.error(failure));
            return found;
        }
    }
    found.connect = Some(started.elapsed());
    let list = format!("{}{}", list_path(target), target.address.query);
    if let Ok(list) = target
        .caller
        .get(list, Instant::now() + LIST_PATIENCE)
        .await
    {
        found.models = listed(&list);
    }
    let mut tries: Vec<Tried> = Vec::new();
    for dialect in ways(
        target.endpoint.api,
        target.endpoint.template.is_some(),
        template,
    ) {
        let tried = attempt(target, dialect).await;
        let proven = tried.fim == Fim::Works;
        let hopeless = tried.error.is_some() && tried.fim != Fim::Refused;
        tries.push(tried);
        if proven || hopeless {
            break;
        }
    }
    choose(&mut found, tries);
    found.advice.extend(advice(target, &found));
    found
}

/// The ways to ask, the best first.
fn ways(api: Api, template_set: bool, template: Option<&Template>) -> Vec<Dialect> {
    let raw = template.cloned();
    let mut ways = match api {
        Api::OpenAi if template_set => Vec::new(),
        Api::OpenAi => vec![Dialect::Suffix],
        Api::Fim => Vec::new(),
        Api::LlamaCpp => vec![Dialect::Infill],
        Api::Ollama => vec![Dialect::Generate],
        Api::Mistral => vec![Dialect::Mistral],
        Api::DeepSeek => vec![Dialect::DeepSeek],
    };
    match api {
        Api::OpenAi | Api::Fim | Api::LlamaCpp => ways.extend(raw.map(Dialect::Raw)),
        Api::Ollama => ways.extend(raw.map(Dialect::GenerateRaw)),
        Api::Mistral | Api::DeepSeek => {}
    }
    if api == Api::OpenAi && !template_set {
        ways.push(Dialect::Raw(Template::prefix_only()));
    }
    ways
}

async fn attempt(target: &Target, dialect: Dialect) -> Tried {
    let mut text = String::new();
    let mut on_text = |piece: &str| text.push_str(piece);
    let asked = target.complete(&dialect, &question(), &mut on_text).await;
    match asked {
        Ok(finish) => {
            let blind = finish
                .usage
                .prompt_tokens
                .is_some_and(|tokens| tokens < TOKENS_WITH_SUFFIX);
            let fim = match text.trim_start().chars().next() {
                Some('7') => Fim::Works,
                Some('3') => Fim::Ignored,
                _ if blind => Fim::Ignored,
                _ => Fim::Unclear,
            };
            Tried {
                dialect,
                fim,
                finish: Some(finish),
                error: None,
            }
        }
        Err(error) => {
            let refused = match &error.failure {
                Failure::Rejected { .. } | Failure::NotFound { .. } => true,
                Failure::Faulted { status, .. } => matches!(status, 400 | 404 | 422 | 500 | 501),
                _ => false,
            };
            let fim = if refused { Fim::Refused } else { Fim::Unknown };
            Tried {
                dialect,
                fim,
                finish: None,
                error: Some(error),
            }
        }
    }
}

/// Takes the way that is proven, else one that may work, else the least bad.
fn choose(found: &mut Probe, mut tries: Vec<Tried>) {
    let best = [Fim::Works, Fim::Unclear]
        .into_iter()
        .find_map(|fim| tries.iter().position(|tried| tried.fim == fim));
    let best = best.or_else(|| tries.iter().rposition(|tried| tried.fim == Fim::Ignored));
    let Some(best) = best else {
        found.fim = tries.last().map_or(Fim::Unknown, |tried| tried.fim);
        // The first refusal is about the way the user chose.
        found.error = tries.into_iter().find_map(|tried| tried.error);
        return;
    };
    let chosen = tries.swap_remove(best);
    found.fim = match chosen.dialect {
        // Asked without the suffix: what matters is what became of it before.
        Dialect::Raw(ref template) if template.is_prefix_only() => {
            tries.first().map_or(Fim::Unknown, |tried| tried.fim)
        }
        _ => chosen.fim,
    };
    found.way = chosen.dialect.in_words();
    found.first_text = chosen.finish.as_ref().and_then(|finish| finish.first_text);
    found.answer = chosen.finish.as_ref().map(|finish| finish.total);
    found.dialect = Some(chosen.dialect);
}

fn advice(target: &Target, found: &Probe) -> Vec<UserError> {
    let mut advice = Vec::new();
    let (model, place) = (&target.endpoint.model, &target.caller.place);
    // llama.cpp has one model and answers to any name.
    if target.endpoint.api != Api::LlamaCpp
        && let Some(models) = &found.models
        && models.len() < MOST_LISTED
        && !models.is_empty()
        && !model.is_empty()
        && !models.iter().any(|offered| same_model(offered, model))
    {
        let some: Vec<&str> = models.iter().take(5).map(String::as_str).collect();
        let message = format!("The model endpoint {place} does not list a model \"{model}\".");
        let hint = format!(
            "Set `models.complete.model` to one it lists: {}.",
            some.join(", ")
        );
        advice.push(UserError::new(Kind::Settings, message).with_hint(hint));
    }
    if matches!(found.fim, Fim::Ignored | Fim::Refused) && found.error.is_none() {
        let does = if found.fim == Fim::Refused {
            "refuses"
        } else {
            "ignores"
        };
        let message = format!("The model endpoint {place} {does} the text after the cursor.");
        let hint = "Use a model trained to fill in the middle, and set `models.complete.template` to its family.";
        advice.push(UserError::new(Kind::Settings, message).with_hint(hint));
    }
    advice
}

/// Ollama lists `name:latest` for `name`; llama.cpp lists the path of the file.
fn same_model(offered: &str, wanted: &str) -> bool {
    offered == wanted
        || offered.strip_suffix(":latest") == Some(wanted)
        || offered.rsplit(['/', '\\']).next() == Some(wanted)
}

fn list_path(target: &Target) -> String {
    let base = &target.address.base;
    match target.endpoint.api {
        Api::OpenAi | Api::Fim | Api::Mistral => format!("{base}/models"),
        Api::DeepSeek => "/models".to_owned(),
        Api::LlamaCpp => format!("{base}/v1/models"),
        Api::Ollama => format!("{base}/api/tags"),
    }
}

/// Reads the names out of `{"data":[{"id":…}]}` or Ollama's `{"models":[{"name":…}]}`.
fn listed(list: &Value) -> Option<Vec<String>> {
    let entries = list
        .get("data")
        .or_else(|| list.get("models"))?
        .as_array()?;
    let name = |entry: &Value| {
        Some(
            entry
                .get("id")
                .or_else(|| entry.get("name"))?
                .as_str()?
                .to_owned(),
        )
    };
    Some(entries.iter().filter_map(name).take(MOST_LISTED).collect())
}

fn question() -> FimRequest {
    FimRequest {
        path: "probe.py".to_owned(),
        language: "python".to_owned(),
        prefix: "a = [1, 2, ".to_owned(),
        suffix: ", 9]\nassert a == [1, 2, 7, 9]\n".to_owned(),
        snippets: Vec::new(),
        max_tokens: 8,
        stop: vec!["\n".to_owned()],
        temperature: 0.0,
        seed: None,
        deadline: None,
    }
}

/// Keeps a failed probe from being repeated for every keystroke.
pub(super) const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// A probe and when it was made.
pub(super) type Dated = (Instant, Arc<Probe>);
