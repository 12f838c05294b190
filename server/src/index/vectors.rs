//! Vectors of the model of `models.embed`: for the code once, in the background, and for each
//! question as it is asked.
//!
//! Holds: nothing waits for the model longer than [`PATIENCE`], and without its answer everything
//! is as if there was no such model. One request at a time for the code; a text is sent once, the
//! index keeps its vector by content. Dropping [`Vectors`] ends what is under way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use indexer::{ChunkId, Index, OutsideModel, Status};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::model::Embedder;

/// How long a question waits for its vector.
const PATIENCE: Duration = Duration::from_millis(400);
/// Texts of one request, and how much of each is sent: models read a few hundred tokens.
const BATCH: usize = 32;
const MAX_TEXT: usize = 6_000;
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
        let text = cut(text).to_owned();
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
    let first = ask(&embedder, &told, &["fn main() {}".to_owned()]).await;
    let dimensions = first.first().map_or(0, Vec::len);
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
        let (ids, texts): (Vec<ChunkId>, Vec<String>) = wanted
            .into_iter()
            .map(|(id, text)| (id, cut(&text).to_owned()))
            .unzip();
        let vectors = ask(&embedder, &told, &texts).await;
        let Some(index) = index.upgrade() else { return };
        index.put_vectors(ids.into_iter().zip(vectors).collect());
    }
}

/// Asks until there is an answer, with longer and longer pauses.
async fn ask(embedder: &Embedder, told: &Told, texts: &[String]) -> Vec<Vec<f32>> {
    let mut pause = FIRST_PAUSE;
    loop {
        match embedder.embed(texts).await {
            Ok(vectors) => {
                *told.problem() = None;
                return vectors;
            }
            Err(error) => {
                let problem = error.user_error().to_string();
                tracing::warn!("no vectors for the index: {problem}");
                *told.problem() = Some(problem);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
