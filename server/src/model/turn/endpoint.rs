//! Where a model for turns is, what it speaks and what it costs: plain settings.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TurnUsage;
use crate::model::endpoint::{HttpVersion, KeySource, Routes, Timeouts};
use crate::model::secret::Secret;

/// A model for turns, as the user configured it.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEndpoint {
    pub api: TurnApi,
    /// Base address (`http://localhost:11434`, `https://host/v1`) or the full address of the
    /// route.
    pub url: String,
    pub model: String,
    pub key: Option<KeySource>,
    pub http: HttpVersion,
    /// Sent with every request. Values are treated as secrets.
    pub headers: BTreeMap<String, Secret>,
    /// Tokens the model can read and write in one request.
    pub context: u32,
    /// Tokens the model may think before it answers; `None` leaves it to the server.
    pub thinking: Option<u32>,
    pub prices: Option<Prices>,
    pub timeouts: Timeouts,
    /// The settings all this comes from, to be named in errors: `models.chat`.
    pub section: &'static str,
}

impl TurnEndpoint {
    /// An endpoint with nothing set but where it is and what it speaks.
    pub fn new(api: TurnApi, url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            api,
            url: url.into(),
            model: model.into(),
            key: None,
            http: HttpVersion::Auto,
            headers: BTreeMap::new(),
            context: api.usual_context(),
            thinking: None,
            prices: None,
            timeouts: Timeouts {
                // Local servers read a long prompt, and models think, before the first piece.
                first_byte: Duration::from_secs(180),
                idle: Duration::from_secs(90),
                total: Duration::from_secs(15 * 60),
            },
            section: "models.chat",
        }
    }
}

/// The wire dialect of turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnApi {
    #[default]
    /// `POST /v1/chat/completions`, as most servers have it.
    OpenAi,
    /// Anthropic `POST /v1/messages`.
    Anthropic,
    /// Ollama `POST /api/chat`.
    Ollama,
}

impl TurnApi {
    /// Tokens a model of today can read where nothing is set. Ollama loads a model with the
    /// window it is told, and memory for it.
    pub fn usual_context(self) -> u32 {
        match self {
            Self::OpenAi => 128_000,
            Self::Anthropic => 200_000,
            Self::Ollama => 16_384,
        }
    }

    pub(super) fn routes(self) -> Routes {
        match self {
            Self::OpenAi => Routes {
                known: &["/chat/completions", "/completions", "/chat"],
                base: "/v1",
            },
            Self::Anthropic => Routes {
                known: &["/messages"],
                base: "/v1",
            },
            Self::Ollama => Routes {
                known: &["/api/chat", "/api/generate", "/api", "/v1"],
                base: "",
            },
        }
    }

    /// The route to post to, below the base of the address.
    pub(super) fn route(self) -> &'static str {
        match self {
            Self::OpenAi => "/chat/completions",
            Self::Anthropic => "/messages",
            Self::Ollama => "/api/chat",
        }
    }

    /// Where the server lists its models, below the base of the address.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "/models",
            Self::Ollama => "/api/tags",
        }
    }

    /// Names the dialect to a person.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI-compatible /chat/completions",
            Self::Anthropic => "Anthropic /messages",
            Self::Ollama => "Ollama /api/chat",
        }
    }
}

/// What a model costs, in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Prices {
    /// Tokens read.
    pub input: f64,
    /// Tokens written.
    pub output: f64,
    /// Tokens read from the server's cache. Unset: a tenth of `input`.
    pub cached: Option<f64>,
}

/// Putting a token into a cache costs this much more than reading it (Anthropic's price).
const WRITTEN_TO_CACHE: f64 = 1.25;

impl Prices {
    /// Returns what `usage` costs.
    pub fn cost(&self, usage: &TurnUsage) -> f64 {
        let fresh = usage
            .input
            .saturating_sub(usage.cached)
            .saturating_sub(usage.written);
        let cached = self.cached.unwrap_or(self.input / 10.0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of tokens are far below 2^52"
        )]
        let parts = [
            fresh as f64 * self.input,
            usage.written as f64 * self.input * WRITTEN_TO_CACHE,
            usage.cached as f64 * cached,
            usage.output as f64 * self.output,
        ];
        parts.iter().sum::<f64>() / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_cost_less_and_tokens_put_into_the_cache_more() {
        let prices = Prices {
            input: 3.0,
            output: 15.0,
            cached: None,
        };
        let usage = TurnUsage {
            input: 10_000,
            output: 1_000,
            cached: 6_000,
            written: 2_000,
            cost: None,
        };
        let cost = prices.cost(&usage);
        assert!(
            (cost - (0.006 + 0.0075 + 0.0018 + 0.015)).abs() < 1e-9,
            "{cost}"
        );
    }
}
