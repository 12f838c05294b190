//! Where a model is and how to speak to it: plain settings, checked once.
//!
//! Not here: where settings come from and who may set them (`config`), reading the key
//! (`model::key`), what the server really supports (`model::probe`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::secret::Secret;
use crate::error::{Kind, UserError};

/// A model endpoint as the user configured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The settings it is configured by, for messages: `models.complete`.
    pub section: &'static str,
    pub api: Api,
    /// Base address (`http://localhost:8012`, `https://host/v1`) or the full address of the
    /// route. The scheme `h2c://` means `http://` with [`HttpVersion::H2c`].
    pub url: String,
    /// Name of the model as the server knows it; may be empty for a server with one model.
    pub model: String,
    pub key: Option<KeySource>,
    pub http: HttpVersion,
    /// A family name (`"starcoder2"`) or a pattern with `{prefix}` and `{suffix}`; decides the
    /// raw prompt instead of the model's name.
    pub template: Option<String>,
    /// What ends a text besides the tokens of the model's family.
    pub stop: Vec<String>,
    /// Added to how likely each token is: −100 to 100, by the token's number as text.
    pub logit_bias: BTreeMap<String, f32>,
    /// Sent with every request. Values are treated as secrets.
    pub headers: BTreeMap<String, Secret>,
    pub timeouts: Timeouts,
}

impl Endpoint {
    /// An endpoint with nothing set but where it is and what it speaks.
    pub fn new(api: Api, url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            section: "models.complete",
            api,
            url: url.into(),
            model: model.into(),
            key: None,
            http: HttpVersion::Auto,
            template: None,
            stop: Vec::new(),
            logit_bias: BTreeMap::new(),
            headers: BTreeMap::new(),
            timeouts: Timeouts::default(),
        }
    }
}

/// The wire dialect of a completion endpoint.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    #[default]
    /// `POST /v1/completions` with `suffix`, where the server really uses it.
    OpenAi,
    /// `POST /v1/completions` with a raw fill-in-the-middle prompt of the model's family.
    Fim,
    /// llama.cpp `POST /infill`.
    LlamaCpp,
    /// Ollama `POST /api/generate`.
    Ollama,
    /// Mistral `POST /v1/fim/completions`.
    Mistral,
    /// DeepSeek `POST /beta/completions`.
    DeepSeek,
}

/// Which HTTP to speak.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum HttpVersion {
    /// Over TLS whatever the server offers, HTTP/2 first; HTTP/1.1 without TLS.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/2 without asking first.
    #[serde(rename = "h2c")]
    H2c,
    #[serde(rename = "1.1")]
    Http1,
}

/// Where the key of an endpoint comes from. Never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Name of an environment variable.
    Env(String),
    /// A program and its arguments, run without a shell; the key is what it prints.
    Command(Vec<String>),
}

/// How long each part of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From sending the request to the first piece of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// The whole answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            total: Duration::from_secs(60),
        }
    }
}

/// The address of an endpoint, taken apart: who to connect to and what its routes begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) site: Site,
    /// Path before the routes of the dialect, without a slash at the end: `""`, `"/v1"`.
    pub(crate) base: String,
    /// The query every route is asked with, with its question mark; usually empty.
    pub(crate) query: String,
}

/// One scheme, host and port: what connections are shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    pub(crate) tls: bool,
    /// As in a URL: IPv6 addresses keep their brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) http: HttpVersion,
}

impl Site {
    /// `host:port` as the `Host` header has it: without the port that is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// The address to show to a person. User names, paths and queries can hold secrets and are
    /// not part of it.
    pub(crate) fn shown(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.ends_with(".localhost")
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
}

/// What a dialect's addresses look like.
pub(crate) struct Routes {
    /// Routes that a user may have pasted with the address, longest first.
    pub(crate) known: &'static [&'static str],
    /// Path before the routes when the user gave only a host.
    pub(crate) base: &'static str,
}

/// Routes that a user may have pasted with the address, per dialect; longest first.
fn known_routes(api: Api) -> &'static [&'static str] {
    match api {
        Api::OpenAi | Api::Fim | Api::DeepSeek => &["/completions", "/chat", "/embeddings"],
        Api::LlamaCpp => &[
            "/infill",
            "/v1/completions",
            "/completions",
            "/completion",
            "/v1",
        ],
        Api::Ollama => &["/api/generate", "/api/chat", "/api", "/v1"],
        Api::Mistral => &["/fim/completions", "/chat/completions"],
    }
}

/// Path before the routes when the user gave only a host.
fn default_base(api: Api) -> &'static str {
    match api {
        Api::OpenAi | Api::Fim | Api::Mistral => "/v1",
        Api::DeepSeek => "/beta",
        Api::LlamaCpp | Api::Ollama => "",
    }
}

impl Address {
    /// Reads the address of `endpoint`.
    ///
    /// # Errors
    /// When it is not an `http`, `https` or `h2c` URL with a host, or carries a user name or
    /// password: those belong in a header or a key.
    pub(crate) fn of(endpoint: &Endpoint) -> Result<Self, UserError> {
        let routes = Routes {
            known: known_routes(endpoint.api),
            base: default_base(endpoint.api),
        };
        Self::read(&endpoint.url, endpoint.http, &routes)
    }

    /// Reads an address whose dialect has `routes`.
    ///
    /// # Errors
    /// As [`Address::of`].
    pub(crate) fn read(url: &str, http: HttpVersion, routes: &Routes) -> Result<Self, UserError> {
        let (text, asks_h2c) = match url.trim().strip_prefix("h2c://") {
            Some(rest) => (format!("http://{rest}"), true),
            None => (url.trim().to_owned(), false),
        };
        let url = Url::parse(&text).map_err(|error| {
            settings(format!("The address is not a URL ({error})."))
                .with_hint("Write it like \"http://localhost:8012\" or \"https://host/v1\".")
        })?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => {
                return Err(settings(format!("The address begins with \"{other}:\"."))
                    .with_hint("It must begin with http://, https:// or h2c://."));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(settings("The address contains a user name or password.")
                .with_hint("Set the key by environment variable or command instead."));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(settings("The address names no host."));
        };
        let http = if asks_h2c { HttpVersion::H2c } else { http };
        let site = Site {
            tls,
            host: host.to_owned(),
            port,
            http,
        };
        let query = url
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        Ok(Self {
            site,
            base: base_path(routes, url.path()),
            query,
        })
    }
}

fn base_path(routes: &Routes, path: &str) -> String {
    let mut base = path.trim_end_matches('/');
    for route in routes.known {
        if let Some(before) = base.strip_suffix(route) {
            base = before.trim_end_matches('/');
        }
    }
    if base.is_empty() {
        routes.base.to_owned()
    } else {
        base.to_owned()
    }
}

fn settings(message: impl Into<String>) -> UserError {
    UserError::new(Kind::Settings, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(api: Api, url: &str) -> String {
        match Address::of(&Endpoint::new(api, url, "")) {
            Ok(address) => format!(
                "{}{} {:?}",
                address.site.shown(),
                address.base,
                address.site.http
            ),
            Err(error) => format!("refused: {}", error.message),
        }
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let cases = [
            (
                Api::OpenAi,
                "http://localhost:8000",
                "http://localhost:8000/v1 Auto",
            ),
            (Api::OpenAi, "https://host/v1/", "https://host/v1 Auto"),
            (
                Api::OpenAi,
                "https://host/api/v1/completions",
                "https://host/api/v1 Auto",
            ),
            (Api::Fim, "h2c://127.0.0.1:9", "http://127.0.0.1:9/v1 H2c"),
            (
                Api::LlamaCpp,
                "http://[::1]:8012/infill",
                "http://[::1]:8012 Auto",
            ),
            (Api::LlamaCpp, "http://h:8012/v1", "http://h:8012 Auto"),
            (
                Api::Ollama,
                "http://localhost:11434/api/generate",
                "http://localhost:11434 Auto",
            ),
            (Api::Mistral, "https://host", "https://host/v1 Auto"),
            (
                Api::Mistral,
                "https://host/v1/fim/completions",
                "https://host/v1 Auto",
            ),
            (Api::DeepSeek, "https://host", "https://host/beta Auto"),
            (Api::DeepSeek, "https://host/beta", "https://host/beta Auto"),
        ];
        for (api, url, expected) in cases {
            assert_eq!(address(api, url), expected, "{url}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_right_are_refused_without_repeating_secrets() {
        for url in [
            "",
            "localhost:8000",
            "ftp://host",
            "https://user:hunter2@host/v1",
            "http://",
        ] {
            let refusal = address(Api::OpenAi, url);
            assert!(refusal.starts_with("refused: "), "{url}: {refusal}");
            assert!(!refusal.contains("hunter2"));
        }
    }
}
