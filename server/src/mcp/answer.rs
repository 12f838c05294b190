//! What servers answer, as text, without the secrets they were given.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use rmcp::service::{ClientInitializeError, ServiceError};

use crate::model::Secret;
use crate::secret;

/// What stands where a secret stood.
const MASK: &str = "[redacted]";
/// Shorter values are words that stand anywhere.
const SHORTEST: usize = 6;

/// What a server was given and must not be repeated.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    pub(super) fn of(values: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<Secret> = Vec::new();
        for value in values {
            // `Bearer …` is said without its first word as well.
            let last = value.rsplit(' ').next().unwrap_or_default();
            for text in [value.as_str(), last] {
                if text.len() >= SHORTEST {
                    secrets.push(Secret::new(text));
                }
            }
        }
        Self(secrets)
    }

    /// Of a program's variables those that are secret by their name or by how they look.
    pub(super) fn of_variables(variables: &[(String, String)]) -> Self {
        let is_secret = |name: &str, value: &str| {
            let name = name.to_ascii_uppercase();
            let named = ["KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CREDENTIAL"];
            named.iter().any(|part| name.contains(part)) || secret::redact(value) != value
        };
        let secret = variables.iter().filter(|(n, v)| is_secret(n, v));
        Self::of(secret.map(|(_, value)| value.clone()))
    }

    pub(super) fn hide(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| text.replace(secret.expose(), MASK);
        self.0.iter().fold(text.to_owned(), hide)
    }
}

/// Makes one text of a result. What is no text is named.
///
/// # Errors
/// The text, when the tool says that it failed.
pub(super) fn of(result: CallToolResult) -> Result<String, String> {
    let mut parts: Vec<String> = result.content.into_iter().map(text_of).collect();
    // What is structured is the text again, where there is a text.
    if parts.is_empty()
        && let Some(value) = result.structured_content
    {
        parts.push(value.to_string());
    }
    let text = parts.join("\n");
    match result.is_error {
        Some(true) if text.is_empty() => Err("the tool says that it failed, and not why".into()),
        Some(true) => Err(text),
        _ if text.is_empty() => Ok("(no output)".into()),
        _ => Ok(text),
    }
}

fn text_of(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => format!("[an image ({}) is left out]", image.mime_type),
        ContentBlock::Audio(sound) => format!("[a sound ({}) is left out]", sound.mime_type),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}:\n{text}"),
            ResourceContents::BlobResourceContents { uri, .. } => {
                format!("[{uri} is no text and is left out]")
            }
            _ => "[something that is no text is left out]".into(),
        },
        ContentBlock::ResourceLink(link) => format!("[{}]", link.uri),
        _ => "[something that is no text is left out]".into(),
    }
}

/// Why a server does not speak with us.
pub(super) fn unstarted(why: &ClientInitializeError) -> String {
    match why {
        ClientInitializeError::ConnectionClosed(_) => "it ended before it said who it is".into(),
        ClientInitializeError::JsonRpcError(error) => format!("it refused: {}", error.message),
        // What the others quote is what the server wrote.
        ClientInitializeError::TransportError { error, .. } => chain(&*error.error),
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "it speaks another version of the protocol".into()
        }
        _ => "it does not speak the Model Context Protocol".into(),
    }
}

pub(super) fn failure(why: &ServiceError) -> String {
    match why {
        ServiceError::McpError(error) => error.message.to_string(),
        ServiceError::TransportSend(error) => chain(&*error.error),
        ServiceError::TransportClosed => "it is gone".into(),
        ServiceError::UnexpectedResponse => "its answer is none to what was asked".into(),
        other => other.to_string(),
    }
}

fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    // What the library puts before our own words.
    match text.strip_prefix("Client error: ") {
        Some(ours) => ours.to_owned(),
        None => text,
    }
}
