//! What is looked at before it leaves for a model: by patterns, a program and a service of the
//! user's settings.
//!
//! Holds: what one of them does not let go, or what could not be looked at, is not sent. What was
//! found is never part of a message.
//! Not here: secrets that are known by their form (`secret`), which are taken out before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use regex::RegexSet;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::caller::{Caller, Credentials, KeyHeader, read_some};
use super::endpoint::{Address, HttpVersion, KeySource, Routes, Site};
use super::failure::Failure;
use super::http::Origin;
use crate::error::{Kind, UserError};
use crate::program::{Run, outside};
use crate::shown::plain;

/// The header and the variable that say where a request is to go.
const TO_HEADER: HeaderName = HeaderName::from_static("pairwright-destination");
const TO_VARIABLE: &str = "PAIRWRIGHT_DESTINATION";

/// Bytes read of an answer, and characters shown of a reason.
const ANSWER: usize = 16 << 10;
const REASON: usize = 200;

/// Who looks at what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundSettings {
    /// A request with a text in which one of these regular expressions is found is not sent.
    pub patterns: Vec<String>,
    /// A program and its arguments.
    pub command: Option<Vec<String>>,
    pub url: Option<String>,
    pub key: Option<KeySource>,
    /// For the program, and for the service.
    pub patience: Duration,
    /// Hosts that are sent requests unseen.
    pub except: Vec<String>,
    /// Whether some of the settings could not be read, so that nobody knows who was meant to look.
    pub is_unread: bool,
}

/// Looks at requests before they are sent.
pub(crate) struct Outbound {
    patterns: RegexSet,
    command: Option<Vec<String>>,
    service: Option<Service>,
    patience: Duration,
    except: Vec<String>,
}

struct Service {
    caller: Caller,
    path: String,
}

/// What a service answers.
#[derive(Deserialize)]
struct Answer {
    allow: bool,
    reason: Option<String>,
}

impl Outbound {
    /// Opens no connection; `origin` gives those to the service.
    ///
    /// # Errors
    /// When a pattern or the address cannot be used.
    pub(super) fn new(
        settings: &OutboundSettings,
        origin: impl FnOnce(&Site) -> Arc<Origin>,
    ) -> Result<Self, UserError> {
        let refuse = |message: String, hint: &str| {
            UserError::new(Kind::Settings, message)
                .with_hint(format!("{hint} Until then nothing is sent to a model."))
        };
        if settings.is_unread {
            let message =
                "What must look at requests before they are sent cannot be read from the settings.";
            return Err(refuse(
                message.to_owned(),
                "Correct `outbound`, or the file of your settings as a whole.",
            ));
        }
        let patterns = RegexSet::new(&settings.patterns).map_err(|why| {
            // Its other lines show the pattern and where.
            let why = why.to_string();
            let why = why.lines().last().unwrap_or_default().trim();
            refuse(
                format!("A pattern of `outbound.patterns` cannot be used ({why})."),
                "Correct `outbound.patterns`.",
            )
        })?;
        let service = settings.url.as_ref().map(|url| {
            let routes = Routes {
                known: &[],
                base: "/",
            };
            let address = Address::read(url, HttpVersion::Auto, &routes)
                .map_err(|why| refuse(why.message, "Correct `outbound.url`."))?;
            let credentials = Credentials {
                key: settings.key.as_ref(),
                shown_as: KeyHeader::Bearer,
                headers: &BTreeMap::new(),
                section: "outbound",
                outbound: None,
            };
            Ok(Service {
                caller: Caller::new(origin(&address.site), address.site.shown(), credentials)?,
                path: format!("{}{}", address.base, address.query),
            })
        });
        Ok(Self {
            patterns,
            command: settings.command.clone(),
            service: service.transpose()?,
            patience: settings.patience,
            except: settings.except.clone(),
        })
    }

    /// Whether what goes to `site` is looked at.
    pub(super) fn is_for(&self, site: &Site) -> bool {
        let mut except = self.except.iter();
        !except.any(|host| host.eq_ignore_ascii_case(&site.host))
    }

    /// Looks at the body of a request, which is JSON, to the model at `place`.
    ///
    /// # Errors
    /// [`Failure::Withheld`] where it must not be sent, [`Failure::Unchecked`] where nobody knows.
    pub(super) async fn look(&self, place: &str, body: &Bytes) -> Result<(), Failure> {
        if let Some(nth) = self.found(body) {
            let why = format!("pattern {nth} of `outbound.patterns` is in it");
            return Err(Failure::Withheld(why));
        }
        if let Some(argv) = &self.command {
            self.look_by_command(argv, place, body).await?;
        }
        if let Some(service) = &self.service {
            let looking = service.look(place, body);
            match timeout(self.patience, looking).await {
                Ok(looked) => looked?,
                Err(_) => {
                    let (at, patience) = (&service.caller.place, self.patience);
                    let why = format!("the service at {at} did not answer within {patience:?}");
                    return Err(Failure::Unchecked(why));
                }
            }
        }
        Ok(())
    }

    /// The first pattern that is found, numbered from 1.
    fn found(&self, body: &[u8]) -> Option<usize> {
        if self.patterns.is_empty() {
            return None;
        }
        let mut first = None;
        let mut look = |text: &str| {
            let nth = self.patterns.matches(text).iter().next();
            first = [first, nth].into_iter().flatten().min();
        };
        // As it is read: JSON writes some signs otherwise.
        match serde_json::from_slice(body) {
            Ok(body) => each_text(&body, &mut look),
            Err(_) => look(&String::from_utf8_lossy(body)),
        }
        Some(first? + 1)
    }

    async fn look_by_command(
        &self,
        argv: &[String],
        place: &str,
        body: &[u8],
    ) -> Result<(), Failure> {
        let run = Run {
            argv,
            // A workspace can hold programs and settings that are taken up.
            folder: Some(&outside()),
            variables: &[(TO_VARIABLE, place)],
            input: body,
            most: ANSWER,
            patience: self.patience,
        };
        let said = run.said().await.map_err(Failure::Unchecked)?;
        let program = argv.first().map_or("", String::as_str);
        match said.status {
            Some(status) if status.success() => Ok(()),
            Some(status) if status.code().is_some() => {
                let output = String::from_utf8_lossy(&said.output);
                let first = output.lines().find(|line| !line.trim().is_empty());
                Err(Failure::Withheld(match first {
                    Some(line) => format!("{program:?} says: {}", plain(line.trim(), REASON)),
                    None => format!("{program:?} does not let it go ({status})"),
                }))
            }
            Some(_) | None => {
                let why = format!("the command {program:?} was killed or said too much");
                Err(Failure::Unchecked(why))
            }
        }
    }
}

impl Service {
    async fn look(&self, place: &str, body: &Bytes) -> Result<(), Failure> {
        let Self { caller, path } = self;
        let at = &caller.place;
        let failed = |why: String| Failure::Unchecked(format!("the service at {at}: {why}"));
        let mut ask = caller.ask(Method::POST, path.clone(), body.clone());
        if let Ok(place) = HeaderValue::from_str(place) {
            ask.headers.insert(TO_HEADER, place);
        }
        let answer = caller.exchange(ask).await;
        let mut answer = answer.map_err(|error| failed(error.failure.in_words()))?;
        let said = read_some(&mut answer.body, ANSWER).await;
        let said = said.map_err(|failure| failed(failure.in_words()))?;
        let Ok(Answer { allow, reason }) = serde_json::from_slice(&said) else {
            return Err(failed("its answer has no `allow`".to_owned()));
        };
        match (allow, reason) {
            (true, _) => Ok(()),
            (false, Some(reason)) => {
                let reason = plain(reason.trim(), REASON);
                Err(Failure::Withheld(format!("{at} says: {reason}")))
            }
            (false, None) => Err(Failure::Withheld(format!("{at} does not let it go"))),
        }
    }
}

/// Calls `look` with every text and every key in `json`.
fn each_text(json: &Value, look: &mut impl FnMut(&str)) {
    match json {
        Value::String(text) => look(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, look)),
        Value::Object(fields) => {
            for (key, value) in fields {
                look(key);
                each_text(value, look);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
