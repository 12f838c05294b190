//! The models that the settings name, made once and kept while other settings change.
//!
//! Holds: what is unchanged goes on, so connections stay warm; a model that cannot be made is
//! left out and said why. Models on one host share connections.
//! Not here: what they are asked (`complete`, `chat`, `agent`).

use std::time::Duration;

use crate::config::{self, Settings};
use crate::error::UserError;
use crate::model::{
    Api, Embedder, Endpoint, KeySource, Model, Network, NetworkSettings, OutboundSettings, Proxy,
    Secret, TurnEndpoint, TurnModel,
};

/// The models in force. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Models {
    network: Option<(NetworkSettings, Network)>,
    /// Writes ghost text.
    pub complete: Option<Model>,
    /// Turns code and questions into vectors for the index.
    pub embed: Option<Embedder>,
    /// Answers questions.
    pub chat: Option<TurnModel>,
    /// Carries out tasks; the one of chat where no other is set.
    pub agent: Option<TurnModel>,
    /// Proposes the next edit.
    pub edit: Option<TurnModel>,
}

impl Models {
    /// Makes the models that `settings` name. Opens no connection.
    pub fn with(&self, settings: &Settings) -> (Self, Vec<UserError>) {
        let mut next = Self::default();
        let named = &settings.models;
        if *named == config::Models::default() {
            return (next, Vec::new());
        }
        let asked = network(settings);
        let known = self.network.as_ref().filter(|(known, _)| *known == asked);
        let network = match known {
            Some((_, network)) => network.clone(),
            None => match Network::new(&asked) {
                Ok(network) => network,
                Err(problem) => return (next, vec![problem]),
            },
        };
        let unchanged = known.map(|_| self);
        let mut problems = Vec::new();
        if let Some(model) = &named.complete {
            let endpoint = endpoint(model, "models.complete");
            let same = unchanged.and_then(|before| before.complete.clone());
            let same = same.filter(|model| *model.endpoint() == endpoint);
            let made = same.map_or_else(|| network.model(endpoint), Ok);
            next.complete = made.map_err(|problem| problems.push(problem)).ok();
        }
        if let Some(model) = &named.embed {
            let endpoint = Endpoint {
                api: Api::OpenAi,
                ..endpoint(model, "models.embed")
            };
            let same = unchanged.and_then(|before| before.embed.clone());
            let same = same.filter(|model| *model.endpoint() == endpoint);
            let made = same.map_or_else(|| network.embedder(endpoint), Ok);
            next.embed = made.map_err(|problem| problems.push(problem)).ok();
        }
        let mut turns = |model: &config::TurnModel, section, before: Option<&TurnModel>| {
            let endpoint = turn_endpoint(model, section);
            let same = before.filter(|model| *model.endpoint() == endpoint);
            let made = same.map_or_else(|| network.turn_model(endpoint), |same| Ok(same.clone()));
            made.map_err(|problem| problems.push(problem)).ok()
        };
        let chat_before = unchanged.and_then(|before| before.chat.as_ref());
        let agent_before = unchanged.and_then(|before| before.agent.as_ref());
        if let Some(model) = &named.chat {
            next.chat = turns(model, "models.chat", chat_before);
        }
        if let Some(model) = &named.edit {
            let before = unchanged.and_then(|before| before.edit.as_ref());
            next.edit = turns(model, "models.edit", before);
        }
        next.agent = match &named.agent {
            Some(model) => turns(model, "models.agent", agent_before),
            None => next.chat.clone(),
        };
        let mut others = |named: &[config::TurnModel], section, before: Option<&TurnModel>| {
            let before = before.map_or(&[][..], TurnModel::fallbacks);
            let made = named.iter().enumerate();
            made.filter_map(|(idx, model)| turns(model, section, before.get(idx)))
                .collect::<Vec<_>>()
        };
        let of_chat = others(&named.chat_fallbacks, "models.chatFallbacks", chat_before);
        let of_agent = others(
            &named.agent_fallbacks,
            "models.agentFallbacks",
            agent_before,
        );
        let of_agent = match (&named.agent, of_agent.is_empty()) {
            (None, true) => of_chat.clone(),
            _ => of_agent,
        };
        next.agent = next.agent.map(|model| model.with_fallbacks(of_agent));
        next.chat = next.chat.map(|model| model.with_fallbacks(of_chat));
        next.network = Some((asked, network));
        (next, problems)
    }
}

/// How the settings say that the network is reached.
pub fn network(settings: &Settings) -> NetworkSettings {
    let proxy = settings.network.proxy.clone();
    NetworkSettings {
        proxy: proxy.map_or(Proxy::Environment, Proxy::Url),
        no_proxy: None,
        ca_files: settings.network.ca_certificates.clone(),
        outbound: outbound(&settings.outbound),
    }
}

/// Who is to look at requests; `None` when nobody is.
fn outbound(settings: &config::Outbound) -> Option<OutboundSettings> {
    let somebody = settings.is_unread
        || !settings.patterns.is_empty()
        || settings.command.is_some()
        || settings.url.is_some();
    somebody.then(|| OutboundSettings {
        patterns: settings.patterns.clone(),
        command: settings.command.clone(),
        url: settings.url.clone(),
        key: key(
            settings.api_key_env.as_ref(),
            settings.api_key_command.as_ref(),
        ),
        patience: Duration::from_millis(settings.timeout_ms.into()),
        except: settings.except.clone(),
        is_unread: settings.is_unread,
    })
}

fn endpoint(model: &config::Model, section: &'static str) -> Endpoint {
    Endpoint {
        section,
        key: key(model.api_key_env.as_ref(), model.api_key_command.as_ref()),
        http: model.http,
        template: model.template.clone(),
        stop: model.stop.clone(),
        logit_bias: model.logit_bias.clone(),
        headers: secrets(&model.headers),
        ..Endpoint::new(model.api, &*model.url, &*model.model)
    }
}

fn turn_endpoint(model: &config::TurnModel, section: &'static str) -> TurnEndpoint {
    TurnEndpoint {
        key: key(model.api_key_env.as_ref(), model.api_key_command.as_ref()),
        http: model.http,
        headers: secrets(&model.headers),
        context: model
            .context_tokens
            .unwrap_or_else(|| model.api.usual_context()),
        thinking: model.thinking_tokens,
        prices: model.prices,
        section,
        ..TurnEndpoint::new(model.api, &*model.url, &*model.model)
    }
}

/// Where a key comes from, by the two settings of every endpoint.
pub(crate) fn key(variable: Option<&String>, command: Option<&Vec<String>>) -> Option<KeySource> {
    match (variable, command) {
        (Some(name), _) => Some(KeySource::Env(name.clone())),
        (None, Some(argv)) => Some(KeySource::Command(argv.clone())),
        (None, None) => None,
    }
}

fn secrets(
    headers: &std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, Secret> {
    headers
        .iter()
        .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(models: &serde_json::Value) -> Settings {
        serde_json::from_value(serde_json::json!({ "models": models })).unwrap()
    }

    #[tokio::test]
    async fn tasks_go_to_the_chat_model_unless_they_have_their_own() {
        let chat = serde_json::json!({ "url": "http://localhost:1", "model": "a" });
        let (models, problems) =
            Models::default().with(&settings(&serde_json::json!({ "chat": chat })));
        assert_eq!(problems, []);
        assert_eq!(models.agent.unwrap().endpoint().model, "a");

        let both = serde_json::json!({
            "chat": chat,
            "agent": { "api": "anthropic", "url": "http://localhost:2", "model": "b" },
        });
        let (models, problems) = Models::default().with(&settings(&both));
        assert_eq!(problems, []);
        let agent = models.agent.unwrap();
        assert_eq!(agent.endpoint().model, "b");
        assert_eq!(agent.endpoint().section, "models.agent");
        assert_eq!(models.chat.unwrap().endpoint().model, "a");
        assert!(models.complete.is_none());
    }

    #[tokio::test]
    async fn fallbacks_are_those_of_the_mode_and_stay_while_others_change() {
        let model = |name: &str| serde_json::json!({ "url": "http://localhost:1", "model": name });
        let names = |model: Option<&TurnModel>| -> Vec<String> {
            let all = model.unwrap().fallbacks().iter();
            all.map(|m| m.endpoint().model.clone()).collect()
        };
        let chat =
            serde_json::json!({ "chat": model("a"), "chatFallbacks": [model("b"), model("c")] });
        let (models, problems) = Models::default().with(&settings(&chat));
        assert_eq!(problems, []);
        assert_eq!(names(models.chat.as_ref()), ["b", "c"]);
        assert_eq!(names(models.agent.as_ref()), ["b", "c"]);

        let mut both = chat.clone();
        both["agent"] = model("d");
        let (alone, _) = models.with(&settings(&both));
        assert_eq!(names(alone.agent.as_ref()), [""; 0]);
        both["agentFallbacks"] = serde_json::json!([model("e")]);
        let (models, _) = alone.with(&settings(&both));
        assert_eq!(names(models.chat.as_ref()), ["b", "c"]);
        assert_eq!(names(models.agent.as_ref()), ["e"]);
    }

    #[tokio::test]
    async fn a_model_that_cannot_be_made_is_named_and_the_others_are_made() {
        let models = serde_json::json!({
            "complete": { "url": "ftp://x", "model": "c" },
            "chat": { "url": "http://localhost:1", "headers": { "a b": "1" } },
            "agent": { "url": "http://localhost:1" },
        });
        let (models, problems) = Models::default().with(&settings(&models));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(
            problems[1].hint.as_deref(),
            Some("Correct `models.chat.headers`.")
        );
        assert!(models.complete.is_none() && models.chat.is_none() && models.agent.is_some());
    }
}
