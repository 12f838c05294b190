//! Vectors of the model of `models.embed`: for the code once, in the background, and for each
//! question as it is asked.
//!
//! Holds: nothing waits for the model longer than [`PATIENCE`], and without its answer everything
//! is as if there was no such model. One request at a time for the code; a text is sent once, the
//! index keeps its vector by content. Secrets are taken out before, and private keys are not sent.
//! What the model refuses is left without meaning, the rest goes on. Dropping [`Vectors`] ends what
//! is under way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use indexer::{ChunkId, Index, OutsideModel, Status};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::model::{Embedder, Failure, ModelError};
use crate::secret;

/// How long a question waits for its vector.
const PATIENCE: Duration = Duration::from_millis(400);
/// Texts of one request, and how much of each is sent: models read a few hundred tokens.
const BATCH: usize = 32;
const MAX_TEXT: usize = 6_000;
/// A text that every model takes.
const HARMLESS: &str = "fn main() {}";
/// Pauses after a failure; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Questions whose vectors are remembered.
const QUESTIONS: usize = 64;

/// The model's part in an index: of `pairwright/index/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VectorStatus {
    /// Scheme, host and port.
    pub place: String,
    pub model: String,
    /// Requests sent since the server started, and the tokens they cost, where the model tells.
    pub requests: u64,
    pub tokens: u64,
    /// Why there are none at the moment; it is tried again.
    pub problem: Option<String>,
}

/// What fetches vectors for the indexes of all folders.
pub(super) struct Vectors {
    embedder: Embedder,
    told: Arc<Told>,
    _feeding: Vec<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct Told {
    problem: Mutex<Option<String>>,
    /// The newest last.
    questions: Mutex<VecDeque<(String, Vec<f32>)>>,
}

impl Told {
    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn questions(&self) -> MutexGuard<'_, VecDeque<(String, Vec<f32>)>> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vectors {
    /// Starts to fetch vectors for the chunks of each index that has none yet. Must be called
    /// within a tokio runtime.
    pub(super) fn start(
        embedder: Embedder,
        indexes: impl Iterator<Item = (Weak<Index>, watch::Receiver<Status>)>,
    ) -> Self {
        let told = Arc::new(Told::default());
        let feed = |(index, status)| {
            let feeding = feed(index, status, embedder.clone(), told.clone());
            AbortOnDropHandle::new(tokio::spawn(feeding))
        };
        let feeding = indexes.map(feed).collect();
        Self {
            told,
            _feeding: feeding,
            embedder,
        }
    }

    pub(super) fn is_of(&self, embedder: &Embedder) -> bool {
        self.embedder.endpoint() == embedder.endpoint()
    }

    pub(super) fn status(&self) -> VectorStatus {
        let stats = self.embedder.stats();
        VectorStatus {
            place: self.embedder.place().to_owned(),
            model: self.embedder.endpoint().model.clone(),
            requests: stats.requests,
            tokens: stats.tokens_in,
            problem: self.told.problem().clone(),
        }
    }

    /// Returns what gives the vector of a question, without borrowing.
    pub(super) fn question(&self, text: &str) -> impl Future<Output = Option<Vec<f32>>> + use<> {
        let (embedder, told) = (self.embedder.clone(), self.told.clone());
        let text = cut(&secret::redact(text)).to_owned();
        async move {
            if let Some((_, vector)) = told.questions().iter().find(|(known, _)| *known == text) {
                return Some(vector.clone());
            }
            let texts = [text];
            let asked = tokio::time::timeout(PATIENCE, embedder.embed(&texts)).await;
            let vector = asked.ok()?.ok()?.pop()?;
            let [text] = texts;
            let mut questions = told.questions();
            if questions.len() == QUESTIONS {
                questions.pop_front();
            }
            questions.push_back((text, vector.clone()));
            Some(vector)
        }
    }
}

/// Hands an index the vectors it wants for as long as it lives.
async fn feed(
    index: Weak<Index>,
    mut status: watch::Receiver<Status>,
    embedder: Embedder,
    told: Arc<Told>,
) {
    // Only an answer tells how long the model's vectors are.
    let dimensions = loop {
        let answer = ask(&embedder, &told, &[HARMLESS.to_owned()]).await;
        if let Some(vector) = answer.first().and_then(Option::as_ref) {
            break vector.len();
        }
        tokio::time::sleep(LONGEST_PAUSE).await;
    };
    let Some(known) = index.upgrade() else { return };
    known.use_outside_model(OutsideModel {
        name: format!("{} {}", embedder.place(), embedder.endpoint().model),
        dimensions,
    });
    drop(known);
    loop {
        let Some(asked) = index.upgrade() else { return };
        // Reads the texts from disk.
        let wanted = tokio::task::spawn_blocking(move || asked.wanted_vectors(BATCH)).await;
        let wanted: Vec<(ChunkId, String)> = wanted.unwrap_or_default();
        if wanted.is_empty() {
            // Taking some changes the number as well, so a change may find nothing.
            if status.changed().await.is_err() {
                return;
            }
            continue;
        }
        let (kept_back, sent): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .partition(|(_, text)| secret::is_key_file(text));
        let (mut ids, texts): (Vec<ChunkId>, Vec<String>) = sent
            .into_iter()
            .map(|(id, text)| (id, cut(&secret::redact(&text)).to_owned()))
            .unzip();
        let mut vectors = match texts.is_empty() {
            true => Vec::new(),
            false => ask(&embedder, &told, &texts).await,
        };
        ids.extend(kept_back.iter().map(|(id, _)| *id));
        vectors.resize(ids.len(), None);
        let Some(index) = index.upgrade() else { return };
        // Nothing is near a vector of zeros, and with one a text is not asked for again.
        let vectors = vectors
            .into_iter()
            .map(|vector| vector.unwrap_or_else(|| vec![0.0; dimensions]));
        index.put_vectors(ids.into_iter().zip(vectors).collect());
    }
}

/// Asks for the vectors of `texts` until there is an answer, with longer and longer pauses;
/// `None` for a text that the model refuses by itself.
async fn ask(embedder: &Embedder, told: &Told, texts: &[String]) -> Vec<Option<Vec<f32>>> {
    let mut vectors = Vec::with_capacity(texts.len());
    let mut n_asked = texts.len();
    let mut pause = FIRST_PAUSE;
    while vectors.len() < texts.len() {
        let rest = &texts[vectors.len()..];
        let batch = &rest[..n_asked.min(rest.len())];
        let error = match embedder.embed(batch).await {
            Ok(answer) => {
                *told.problem() = None;
                pause = FIRST_PAUSE;
                vectors.extend(answer.into_iter().map(Some));
                continue;
            }
            Err(error) => error,
        };
        if is_about_the_text(&error) {
            if batch.len() > 1 {
                n_asked = batch.len() / 2;
                continue;
            }
            // An endpoint that refuses everything says nothing about this text.
            if embedder.embed(&[HARMLESS.to_owned()]).await.is_ok() {
                vectors.push(None);
                n_asked = texts.len();
                continue;
            }
        }
        let problem = error.user_error().to_string();
        tracing::warn!("no vectors for the index: {problem}");
        *told.problem() = Some(problem);
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    vectors
}

/// Whether another text may be answered where this one was not.
fn is_about_the_text(error: &ModelError) -> bool {
    matches!(
        error.failure,
        Failure::TooLong { .. } | Failure::Rejected { .. } | Failure::Withheld(_)
    )
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
