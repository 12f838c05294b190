//! A client of any E2B service, near or far.
//!
//! Holds: a sandbox whose connection is lost is gone, never "perhaps alive"; a command is waited
//! for no longer than its time and a little more, whatever the service does; dropping a command
//! kills it. What a service says is checked and capped before it is believed.

mod http;
mod running;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use sandbox_agent::wire::{Base64, Changes, ListChanges};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_os = "linux")]
pub(crate) use self::http::tls_config;
use self::http::{Ask, Http};
pub use self::running::{Command, End, Event, Finished, Running, Stdin};
use crate::protocol::{Create, Created, Denial, Info, Network, Refused, SetTimeout, TOKEN_HEADER};
use crate::tier::Tier;

/// Answers to requests that are not streams are no longer.
const ANSWER_BYTES: usize = 16 << 20;
/// Requests that are not commands are answered in this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is sent arrives at least so fast: 2 Mbit a second.
const BYTES_A_SECOND: usize = 256 << 10;
/// The same for making a sandbox, which may be a machine that starts.
const MAKING: Duration = Duration::from_secs(120);
/// Tries of a request that the service asks to repeat.
const TRIES: u32 = 4;
/// No wait between tries is longer, whatever the service asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Characters of what a service says in words.
const WORDS: usize = 500;
/// Hosts that a label names.
const SHOWN_HOSTS: usize = 4;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    #[cfg(unix)]
    Unix(PathBuf),
    /// `http://` or `https://`, without a path.
    Url(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// How requests name the sandbox they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// By headers; one address serves all.
    Header,
    /// By the host's first label: `https://<port>-<id>.<domain>`. The domain is the service's
    /// answer, or this.
    Subdomain(String),
    /// By the path: `/kruise/<id>/<port>`.
    Path,
}

/// A service and how to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub key: String,
    pub addressing: Addressing,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("addressing", &self.addressing)
            .finish_non_exhaustive()
    }
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The service cannot be reached.
    #[error("the sandbox service could not be reached: {0}")]
    Unreachable(String),
    /// The service refused, with its reason.
    #[error("the sandbox service refused ({status}): {message}")]
    Refused { status: u16, message: String },
    /// The sandbox is no more; whatever ran in it is dead.
    #[error("the sandbox is gone")]
    Gone,
    /// What came back is not the protocol.
    #[error("the sandbox service answered what it must not: {0}")]
    Protocol(String),
    #[error("the sandbox service did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The sandbox is weaker than what was asked for.
    #[error("the service has sandboxes of the tier {has}, at least {wanted} was asked for", has = .has.name(), wanted = .wanted.name())]
    TooWeak { has: Tier, wanted: Tier },
}

type Outcome<T> = Result<T, ClientError>;

/// A connection to a service. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: Arc<Http>,
}

impl Client {
    /// # Errors
    /// [`ClientError::Unreachable`] when the address cannot be one.
    pub fn new(endpoint: Endpoint) -> Outcome<Self> {
        Self::believing(endpoint, Vec::new())
    }

    /// The same, believing these authorities of certificates besides those that this machine does.
    ///
    /// # Errors
    /// As [`Client::new`], also when an authority's certificate is none.
    pub fn believing(
        endpoint: Endpoint,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Outcome<Self> {
        Ok(Self {
            http: Arc::new(Http::new(endpoint, authorities)?),
        })
    }

    /// Creates a sandbox. What it may reach is always said in full: nothing, if `create` names
    /// nothing, so that no service's default can open it.
    ///
    /// # Errors
    /// [`ClientError::TooWeak`] when it is not of the tier asked for; it is destroyed then.
    pub async fn create(&self, mut create: Create) -> Outcome<Sandbox> {
        let network = create.network.take().unwrap_or_default();
        create.allow_internet_access = Some(!network.allow_out.is_empty());
        create.network = Some(Network {
            deny_out: Network::none().deny_out,
            ..network
        });
        create.secure = true;
        let wanted = create.pairwright.as_ref().and_then(|p| p.min_isolation);
        let old = self
            .control(Method::POST, "/sandboxes", Some(&create))
            .await;
        let made: Created = match old {
            Err(ClientError::Refused {
                status: 404 | 405 | 410,
                ..
            }) => {
                self.control(Method::POST, "/v2/sandboxes", Some(&create))
                    .await?
            }
            made => made?,
        };
        let sandbox = self.sandbox(made)?;
        match wanted {
            Some(wanted) if sandbox.tier < wanted => {
                let has = sandbox.tier;
                sandbox.kill().await?;
                Err(ClientError::TooWeak { has, wanted })
            }
            _ => Ok(sandbox),
        }
    }

    /// Takes up a sandbox that runs already, for `lifetime` from now.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the service does not know it.
    pub async fn connect(&self, id: &str, lifetime: Duration) -> Outcome<Sandbox> {
        let path = format!("/sandboxes/{}/connect", checked_id(id)?);
        let asked = SetTimeout {
            timeout: Some(lifetime.as_secs()),
            duration: None,
        };
        let made: Created = self.control(Method::POST, &path, Some(&asked)).await?;
        if made.sandbox_id != id {
            let why = "another sandbox than the one asked for";
            return Err(ClientError::Protocol(why.to_owned()));
        }
        self.sandbox(made)
    }

    /// Lists the sandboxes that run.
    ///
    /// # Errors
    /// When the service does not answer or refuses.
    pub async fn list(&self) -> Outcome<Vec<Info>> {
        self.control(Method::GET, "/v2/sandboxes", None::<&()>)
            .await
    }

    fn sandbox(&self, made: Created) -> Outcome<Sandbox> {
        checked_id(&made.sandbox_id)?;
        // A service far away may say what it likes of itself; only a socket here is ours.
        let (tier, notes, network) = match (made.pairwright, self.http.is_local()) {
            (Some(local), true) => (local.tier, local.notes, Some(local.network)),
            _ => (Tier::Remote, Vec::new(), None),
        };
        Ok(Sandbox {
            client: self.clone(),
            id: made.sandbox_id,
            token: made.envd_access_token,
            domain: made.domain,
            tier,
            notes,
            network: Arc::new(Mutex::new(network)),
        })
    }

    /// One request to the control plane, repeated while the service asks for it.
    async fn control<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Outcome<T> {
        let body = body.map(encode).unwrap_or_default();
        let makes = method == Method::POST && path.ends_with("/sandboxes");
        let patience = if makes { MAKING } else { PATIENCE };
        let mut wait = Duration::from_millis(200);
        for attempt in 1.. {
            let ask = Ask::control(method.clone(), path, body.clone());
            let answer = tokio::time::timeout(patience, self.http.ask(ask)).await;
            let answer = answer.map_err(|_| ClientError::Silent(patience))??;
            if answer.status.is_success() {
                return decode(&answer.whole(ANSWER_BYTES).await?);
            }
            // A gateway does not know whether the service made one, which nobody could end.
            let is_lost = makes && matches!(answer.status.as_u16(), 502 | 504);
            let again = answer.asks_to_repeat() && !is_lost;
            let asked_wait = answer.retry_after();
            let refusal = refusal(answer.status, &answer.whole(ANSWER_BYTES).await?);
            if attempt == TRIES || !again {
                return Err(refusal);
            }
            tokio::time::sleep(asked_wait.unwrap_or(wait).min(LONGEST_WAIT)).await;
            wait *= 2;
        }
        Err(ClientError::Silent(patience))
    }
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}

/// An empty answer is one that says nothing, and so has every default.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Outcome<T> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(wrong)
}

/// Not the protocol, in the words of who reads it, which may be the service's.
fn wrong(error: impl fmt::Display) -> ClientError {
    ClientError::Protocol(words(&error.to_string()))
}

/// What a service says in words, as far as a terminal or a model may be given it: a part, on one line,
/// without what is obeyed or not seen.
pub(crate) fn words(said: &str) -> String {
    let is_seen = |c: &char| !c.is_control() && !is_unseen(*c);
    said.chars().filter(is_seen).take(WORDS).collect()
}

/// Characters that are not seen, or change in which order others are.
pub(crate) fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let said: Refused = serde_json::from_slice(body).unwrap_or_default();
    ClientError::Refused {
        status: status.as_u16(),
        message: words(&said.message),
    }
}

/// An id goes into paths and host names.
fn checked_id(id: &str) -> Outcome<&str> {
    let fine = !id.is_empty()
        && id.len() <= 128
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match fine {
        true => Ok(id),
        false => Err(ClientError::Protocol("an id that cannot be one".to_owned())),
    }
}

/// A sandbox that was created or connected to. Dropping it leaves it running until its time ends;
/// [`Sandbox::kill`] destroys it.
#[derive(Clone)]
pub struct Sandbox {
    client: Client,
    id: String,
    token: Option<String>,
    domain: Option<String>,
    tier: Tier,
    notes: Vec<String>,
    /// What it may reach, as far as that is known.
    network: Arc<Mutex<Option<Vec<String>>>>,
}

impl Sandbox {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it really is.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Where it is weaker, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tier, what it may reach and its notes, as users see them.
    pub fn label(&self) -> String {
        self.labelled(&self.notes)
    }

    /// The same without its notes, for who has read them.
    pub fn short_label(&self) -> String {
        self.labelled(&[])
    }

    fn labelled(&self, notes: &[String]) -> String {
        let network = self.network().map(|allowed| match allowed.as_slice() {
            [] => "no network".to_owned(),
            hosts if hosts.len() > SHOWN_HOSTS => format!("network: {} hosts", hosts.len()),
            hosts => format!("network: {}", hosts.join(", ")),
        });
        let notes: Vec<_> = network.iter().chain(notes).cloned().collect();
        match notes.is_empty() {
            true => self.tier.label().to_owned(),
            false => format!("{} ({})", self.tier.label(), notes.join("; ")),
        }
    }

    /// What it may reach and nothing else; `None` when a service far away has not said.
    pub fn network(&self) -> Option<Vec<String>> {
        let network = self.network.lock();
        network.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Destroys it and everything in it. One that is gone already is fine.
    ///
    /// # Errors
    /// When the service does not answer or refuses: it may still run until its time is over.
    pub async fn kill(&self) -> Outcome<()> {
        let path = format!("/sandboxes/{}", self.id);
        let gone = self
            .client
            .control::<(), Option<serde_json::Value>>(Method::DELETE, &path, None)
            .await;
        match gone {
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets it live for `lifetime` from now.
    ///
    /// # Errors
    /// When the service does not answer or refuses.
    pub async fn set_lifetime(&self, lifetime: Duration) -> Outcome<()> {
        self.change(
            "timeout",
            &SetTimeout {
                timeout: Some(lifetime.as_secs()),
                duration: None,
            },
        )
        .await
    }

    /// Stops it where it is, to be taken up by [`Client::connect`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] by services that cannot, ours among them.
    pub async fn pause(&self) -> Outcome<()> {
        self.change("pause", &serde_json::json!({})).await
    }

    async fn change(&self, what: &str, body: &impl Serialize) -> Outcome<()> {
        let path = format!("/sandboxes/{}/{what}", self.id);
        self.client
            .control::<_, Option<serde_json::Value>>(Method::POST, &path, Some(body))
            .await
            .map(drop)
    }

    /// Replaces what it may reach by `allowed`, and denies the rest in words.
    ///
    /// # Errors
    /// [`ClientError::Refused`] by a service that cannot allow it.
    pub async fn set_network(&self, allowed: Vec<String>) -> Outcome<()> {
        let path = format!("/sandboxes/{}/network", self.id);
        let network = Network {
            allow_out: allowed,
            ..Network::none()
        };
        self.client
            .control::<_, Option<serde_json::Value>>(Method::PUT, &path, Some(&network))
            .await?;
        let known = self.network.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = Some(network.allow_out);
        Ok(())
    }

    /// What it wanted of the network and did not get, after number `after`; waits for one, but no
    /// longer than `patience`. Services far away do not tell, so theirs is always empty.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn denials(&self, after: u64, patience: Duration) -> Outcome<Vec<Denial>> {
        if self.tier == Tier::Remote {
            tokio::time::sleep(patience).await;
            return Ok(Vec::new());
        }
        let wait = patience.as_millis();
        let path = format!("/sandboxes/{}/denials?after={after}&wait={wait}", self.id);
        self.client.control(Method::GET, &path, None::<&()>).await
    }

    /// Writes a file inside; directories are made.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it cannot be written, with the sandbox's reason.
    pub async fn write_file(&self, path: &str, contents: Bytes) -> Outcome<()> {
        let mut ask = self.ask(Method::POST, &files(path), contents);
        ask.kind = "application/octet-stream";
        self.answer(ask, ANSWER_BYTES).await.map(drop)
    }

    /// Reads a file inside, of at most `cap` bytes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is none; [`ClientError::Protocol`] when it is longer.
    pub async fn read_file(&self, path: &str, cap: usize) -> Outcome<Bytes> {
        let ask = self.ask(Method::GET, &files(path), Bytes::new());
        self.answer(ask, cap).await
    }

    /// What changed directly in these directories of the workspace.
    pub(crate) async fn changes_in(&self, directories: Vec<Base64>) -> Outcome<Changes> {
        let ask = self.ask(
            Method::POST,
            "/x/changes",
            encode(&ListChanges { directories }),
        );
        decode(&self.answer(ask, ANSWER_BYTES).await?)
    }

    /// The contents of changed files, in one stream, of at most `cap` bytes.
    pub(crate) async fn contents_of(&self, paths: Vec<Base64>, cap: usize) -> Outcome<Bytes> {
        let asked = ListChanges { directories: paths };
        let ask = self.ask(Method::POST, "/x/contents", encode(&asked));
        self.answer(ask, cap).await
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Ask {
        let mut ask = Ask::data(&self.id, self.domain.as_deref(), method, path, body);
        if let Some(token) = &self.token {
            ask.headers.push((TOKEN_HEADER, token.clone()));
        }
        ask
    }

    async fn answer(&self, ask: Ask, cap: usize) -> Outcome<Bytes> {
        let patience = patience(ask.n_bytes());
        let whole = async {
            let answer = self.client.http.ask(ask).await?;
            if answer.status == StatusCode::BAD_GATEWAY {
                return Err(ClientError::Gone);
            }
            let status = answer.status;
            let body = answer.whole(cap).await?;
            match status.is_success() {
                true => Ok(body),
                false => Err(refusal(status, &body)),
            }
        };
        let whole = tokio::time::timeout(patience, whole).await;
        whole.map_err(|_| ClientError::Silent(patience))?
    }
}

/// How long a request with so many bytes may take.
fn patience(n_bytes: usize) -> Duration {
    PATIENCE + Duration::from_secs((n_bytes / BYTES_A_SECOND) as u64)
}

fn files(path: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    format!(
        "/files?path={}",
        utf8_percent_encode(path, NON_ALPHANUMERIC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_may_take_long_to_arrive() {
        assert_eq!(patience(0), Duration::from_secs(30));
        assert_eq!(patience(100), Duration::from_secs(30));
        assert_eq!(patience(48 << 20), Duration::from_secs(30 + 192));
    }
}
