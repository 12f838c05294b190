//! What can go wrong between us and a model, and what a person can do about it.
//!
//! Holds: no message contains a key or prompt text; what a server said is quoted only after
//! redaction, on one line and cut short. Cancelled is not here: it is not a failure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Kind, UserError};

/// A failed request: what happened, and at which endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelError {
    pub failure: Failure,
    /// Scheme, host and port, as shown to people.
    pub place: Arc<str>,
    /// The settings the endpoint is configured by, named in next steps.
    pub section: &'static str,
}

/// What happened, as far as someone can act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The key could not be read; the text says from where and why.
    Key(String),
    /// A setting of the endpoint cannot work; message and next step.
    Settings { message: String, hint: String },
    /// Nothing listens at the address.
    Refused,
    /// The host name is unknown.
    Unresolved,
    /// The network has no way to the address.
    Unreachable,
    /// No connection within the time given.
    ConnectTimeout(Duration),
    /// The certificate or the handshake was not acceptable.
    Tls(String),
    /// The proxy on the way refused or failed.
    Proxy(String),
    /// The server does not speak HTTP/2 without TLS, or not HTTP at all.
    Protocol(String),
    /// 401 or 403.
    Unauthorized { status: u16, said: String },
    /// 404: no such route or model.
    NotFound { said: String },
    /// 429.
    RateLimited {
        retry_after: Option<Duration>,
        said: String,
    },
    /// The prompt is longer than what the model can read.
    TooLong { said: String },
    /// Another 4xx.
    Rejected { status: u16, said: String },
    /// 5xx, or an error reported inside the stream.
    Faulted { status: u16, said: String },
    /// The answer is of a type no model answers in.
    NotAStream { content_type: String },
    /// The answer cannot be understood.
    Garbage(String),
    /// The connection ended before the answer did.
    Cut,
    /// More text or bytes than was asked for: a server that does not stop.
    Endless,
    /// Nothing came within the time for the first piece of an answer.
    Silent(Duration),
    /// An answer began and then nothing more came.
    Stalled(Duration),
    /// The caller's own deadline passed.
    Late,
    /// Not asked: the endpoint failed before and is being left alone.
    Paused { reason: String, retry_in: Duration },
    /// Not sent: what looks at requests before does not let it go, and says why.
    Withheld(String),
    /// Not sent: it could not be looked at before, and why.
    Unchecked(String),
    /// A mistake of ours.
    Bug(String),
}

impl Failure {
    /// What happened, as a clause about a server that need not be a model's. Without its own words:
    /// they may repeat what it was sent.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Refused => "it refused the connection".into(),
            Self::Unresolved => "its host is unknown".into(),
            Self::Unreachable => "the network has no way to it".into(),
            Self::ConnectTimeout(_) => "it could not be connected to in time".into(),
            Self::Tls(why) => format!("its certificate or handshake cannot be accepted ({why})"),
            Self::Proxy(why) => format!("the proxy on the way failed ({why})"),
            Self::Protocol(_) => "it does not speak HTTP".into(),
            Self::Cut => "the connection ended before its answer did".into(),
            Self::Key(why) => why.clone(),
            Self::Unauthorized { status, .. }
            | Self::Rejected { status, .. }
            | Self::Faulted { status, .. } => format!("it answered {status}"),
            Self::NotFound { .. } => "it answered 404".into(),
            Self::RateLimited { .. } => "it answered 429".into(),
            Self::NotAStream { content_type } => format!("it answered with {content_type}"),
            other => format!("it could not be asked ({other:?})"),
        }
    }

    /// What a server said in its own words, if this has any of it.
    pub(crate) fn said_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Unauthorized { said, .. }
            | Self::NotFound { said }
            | Self::RateLimited { said, .. }
            | Self::TooLong { said }
            | Self::Rejected { said, .. }
            | Self::Faulted { said, .. }
            | Self::NotAStream { content_type: said } => Some(said),
            Self::Key(_)
            | Self::Settings { .. }
            | Self::Refused
            | Self::Unresolved
            | Self::Unreachable
            | Self::ConnectTimeout(_)
            | Self::Tls(_)
            | Self::Proxy(_)
            | Self::Protocol(_)
            | Self::Garbage(_)
            | Self::Cut
            | Self::Endless
            | Self::Silent(_)
            | Self::Stalled(_)
            | Self::Late
            | Self::Paused { .. }
            | Self::Withheld(_)
            | Self::Unchecked(_)
            | Self::Bug(_) => None,
        }
    }

    /// Whether the same request may well be answered a little later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Faulted { .. } | Self::Cut
        )
    }
}

impl ModelError {
    /// Whether another model may answer where this one did not. What only the settings can mend is
    /// to be seen instead.
    pub(crate) fn is_outage(&self) -> bool {
        match &self.failure {
            Failure::Refused
            | Failure::Unresolved
            | Failure::Unreachable
            | Failure::ConnectTimeout(_)
            | Failure::Proxy(_)
            | Failure::RateLimited { .. }
            | Failure::Faulted { .. }
            | Failure::Cut
            | Failure::Silent(_)
            | Failure::Stalled(_)
            | Failure::Paused { .. } => true,
            Failure::Key(_)
            | Failure::Settings { .. }
            | Failure::Tls(_)
            | Failure::Protocol(_)
            | Failure::Unauthorized { .. }
            | Failure::NotFound { .. }
            | Failure::TooLong { .. }
            | Failure::Rejected { .. }
            | Failure::NotAStream { .. }
            | Failure::Garbage(_)
            | Failure::Endless
            | Failure::Late
            | Failure::Withheld(_)
            | Failure::Unchecked(_)
            | Failure::Bug(_) => false,
        }
    }

    pub(crate) fn new(failure: Failure, place: &Arc<str>) -> Self {
        Self {
            failure,
            place: Arc::clone(place),
            section: "models.complete",
        }
    }

    /// The same of an endpoint configured by another section of the settings.
    #[must_use]
    pub(crate) fn of(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }

    /// Returns the message and next step for a person.
    pub fn user_error(&self) -> UserError {
        let error = UserError::new(self.kind(), self.to_string());
        match self.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn kind(&self) -> Kind {
        match &self.failure {
            Failure::Key(_) | Failure::Settings { .. } => Kind::Settings,
            Failure::Endless
            | Failure::Late
            | Failure::RateLimited { .. }
            | Failure::TooLong { .. } => Kind::Limit,
            Failure::Withheld(_) => Kind::Settings,
            Failure::Bug(_) => Kind::Bug,
            Failure::Refused
            | Failure::Unresolved
            | Failure::Unreachable
            | Failure::ConnectTimeout(_)
            | Failure::Tls(_)
            | Failure::Proxy(_)
            | Failure::Protocol(_)
            | Failure::Unauthorized { .. }
            | Failure::NotFound { .. }
            | Failure::Rejected { .. }
            | Failure::Faulted { .. }
            | Failure::NotAStream { .. }
            | Failure::Garbage(_)
            | Failure::Cut
            | Failure::Silent(_)
            | Failure::Stalled(_)
            | Failure::Paused { .. }
            | Failure::Unchecked(_) => Kind::Upstream,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.failure {
            Failure::Settings { hint, .. } => hint,
            Failure::Key(_) => "Check `models.complete.apiKeyEnv` or `apiKeyCommand`.",
            Failure::Refused => "Start it, or set `models.complete.url`.",
            Failure::Unresolved => "Check the host name in `models.complete.url` and the network.",
            Failure::Unreachable | Failure::ConnectTimeout(_) => {
                "Check the network, the proxy settings and the address."
            }
            Failure::Tls(_) => {
                "Add the server's certificate authority to `network.caCertificates`, or correct the address."
            }
            Failure::Proxy(_) => "Check `network.proxy` or the proxy variables in the environment.",
            Failure::Protocol(_) => {
                "Set `models.complete.http` to \"auto\" or \"1.1\", and check that this is a model server."
            }
            Failure::Unauthorized { .. } => {
                "Check the key named by `models.complete.apiKeyEnv` or `apiKeyCommand`."
            }
            Failure::NotFound { .. } => {
                "Check `models.complete.model`, `models.complete.api` and the path in the address."
            }
            Failure::RateLimited { .. } => "It will be asked again after the time it gave.",
            Failure::Rejected { .. } => {
                "Check `models.complete.api`, `model` and `template` against what the server supports."
            }
            Failure::TooLong { .. } => {
                "Ask about less, or set `models.complete.contextTokens` to what the model can read."
            }
            Failure::NotAStream { .. } => {
                "Check that the address is a model server and not a web page or a login."
            }
            Failure::Garbage(_) => {
                "Check `models.complete.api`: the server may speak another dialect."
            }
            Failure::Silent(_) | Failure::Stalled(_) => {
                "Check the load of the server, or choose a smaller model."
            }
            Failure::Withheld(_) => {
                "Leave out what must not go there; `outbound` in your settings says what is looked for."
            }
            Failure::Unchecked(_) => "Mend it, or correct `outbound` in your settings.",
            Failure::Endless => "The server ignores the token limit; check its settings.",
            Failure::Bug(_) => "Please report this.",
            Failure::Faulted { .. } | Failure::Cut | Failure::Late | Failure::Paused { .. } => {
                return None;
            }
        };
        Some(hint.replace("models.complete", self.section))
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match &self.failure {
            Failure::Key(why) => {
                write!(f, "Could not get the key for the model at {place}: {why}.")
            }
            Failure::Settings { message, .. } => f.write_str(message),
            Failure::Refused => write!(f, "The model endpoint {place} refused the connection."),
            Failure::Unresolved => write!(f, "The host of the model endpoint {place} is unknown."),
            Failure::Unreachable => {
                write!(f, "The network has no way to the model endpoint {place}.")
            }
            Failure::ConnectTimeout(after) => {
                write!(
                    f,
                    "The model endpoint {place} could not be reached within {after:?}."
                )
            }
            Failure::Tls(why) => write!(
                f,
                "No secure connection to the model endpoint {place}: {why}."
            ),
            Failure::Proxy(why) => write!(
                f,
                "The proxy did not connect to the model endpoint {place}: {why}."
            ),
            Failure::Protocol(why) => write!(
                f,
                "The model endpoint {place} does not speak the expected HTTP: {why}."
            ),
            Failure::Unauthorized { status, said } => {
                write!(
                    f,
                    "The model endpoint {place} did not accept the key ({status}{}).",
                    quoted(said)
                )
            }
            Failure::NotFound { said } => {
                write!(
                    f,
                    "The model endpoint {place} knows no such model or route (404{}).",
                    quoted(said)
                )
            }
            Failure::RateLimited { said, .. } => {
                write!(
                    f,
                    "The model endpoint {place} limits requests (429{}).",
                    quoted(said)
                )
            }
            Failure::Rejected { status, said } => {
                write!(
                    f,
                    "The model endpoint {place} rejected the request ({status}{}).",
                    quoted(said)
                )
            }
            Failure::TooLong { said } => {
                write!(
                    f,
                    "The model at {place} cannot read a prompt this long{}.",
                    quoted(said)
                )
            }
            Failure::Faulted { status, said } => {
                write!(
                    f,
                    "The model endpoint {place} failed ({status}{}).",
                    quoted(said)
                )
            }
            Failure::NotAStream { content_type } => {
                write!(
                    f,
                    "The model endpoint {place} answered with {content_type:?} instead of a stream."
                )
            }
            Failure::Garbage(what) => {
                write!(
                    f,
                    "The answer of the model endpoint {place} cannot be understood: {what}."
                )
            }
            Failure::Cut => write!(
                f,
                "The model endpoint {place} closed the connection in the middle of an answer."
            ),
            Failure::Endless => write!(
                f,
                "The model endpoint {place} sent more than it was asked for and was cut off."
            ),
            Failure::Silent(after) => write!(
                f,
                "The model endpoint {place} did not answer within {after:?}."
            ),
            Failure::Stalled(after) => {
                write!(
                    f,
                    "The model endpoint {place} began an answer and sent nothing more for {after:?}."
                )
            }
            Failure::Late => write!(f, "The model endpoint {place} did not answer in time."),
            Failure::Paused { reason, retry_in } => {
                write!(f, "{reason} It is asked again in {}.", seconds(*retry_in))
            }
            Failure::Withheld(why) => write!(f, "Not sent to {place}: {why}."),
            Failure::Unchecked(why) => write!(
                f,
                "Not sent to {place}, because it could not be looked at before: {why}."
            ),
            Failure::Bug(what) => write!(
                f,
                "A request to the model endpoint {place} failed inside Pairwright: {what}."
            ),
        }
    }
}

impl std::error::Error for ModelError {}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => "less than a second".to_owned(),
        1 => "a second".to_owned(),
        more => format!("{more} seconds"),
    }
}

/// Longest quote of what a server said, in characters.
const QUOTE: usize = 200;

/// Returns what a server said as one short line: the `message` of a JSON error if there is one,
/// control characters and markup left out. `text` must be redacted already.
pub(crate) fn quote(text: &str) -> String {
    let said = serde_json::from_str(text)
        .ok()
        .and_then(|json| json_message(&json));
    let said = said
        .as_deref()
        .unwrap_or(if text.trim_start().starts_with('<') {
            ""
        } else {
            text
        });
    let line: String = said
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .fold(String::new(), |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            line
        });
    match line.char_indices().nth(QUOTE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Finds the text of an error in the shapes servers use: `{"error":{"message":…}}`,
/// `{"error":"…"}`, `{"message":"…"}`, `{"detail":"…"}`.
pub(crate) fn json_message(json: &serde_json::Value) -> Option<String> {
    let error = json.get("error").unwrap_or(json);
    [error.get("message"), Some(error), json.get("detail")]
        .into_iter()
        .flatten()
        .find_map(|value| value.as_str())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_said_is_quoted_on_one_short_line() {
        let cases = [
            (
                r#"{"error":{"message":"no such model","code":404}}"#,
                "no such model",
            ),
            (
                r#"{"error":"model 'x' does not support insert"}"#,
                "model 'x' does not support insert",
            ),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"object":"error","message":"bad"}"#, "bad"),
            ("<html><body>nginx</body></html>", ""),
            ("two\nlines\u{7}\u{1b}[31m", "two lines [31m"),
        ];
        for (said, expected) in cases {
            assert_eq!(quote(said), expected);
        }
        assert_eq!(quote(&"x".repeat(5000)).chars().count(), QUOTE + 1);
    }

    #[test]
    fn every_message_names_the_endpoint_and_most_a_next_step() {
        let place: Arc<str> = "http://localhost:8012".into();
        let error = ModelError::new(Failure::Refused, &place).user_error();
        assert_eq!(
            error.message,
            "The model endpoint http://localhost:8012 refused the connection."
        );
        assert_eq!(
            error.hint.as_deref(),
            Some("Start it, or set `models.complete.url`.")
        );
        assert_eq!(error.kind, Kind::Upstream);
    }
}
