//! The embedded completion engine: ghost text with no model, learnt from the user's own code.
//!
//! A background thread learns the files under the roots and the open buffers and publishes frozen
//! snapshots; a suggestion reads one snapshot and the text around the cursor. Places whose context
//! ends like the cursor's, word for word or by shape, propose what comes next; a small network
//! weighs them; a search finds the most probable rest of the line; a second network says how much
//! to trust it.
//! Holds: nothing here waits for the learning thread, reads the disk while suggesting, or writes
//! anywhere. Memory stays under the cap given. The same state and request give the same answer.
//! Not here: when to ask and what to show (`complete`), the editor's protocol, models.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::time::Instant;

use globset::{Glob, GlobSet, GlobSetBuilder};
use ropey::Rope;

mod confidence;
mod context_array;
mod decode;
mod evidence;
mod features;
pub mod fit;
mod learn;
mod lex;
mod near;
mod net;
mod open_text;
mod reading;
mod segment;
mod skip;
mod snapshot;
mod vocabulary;
mod worker;

pub use net::{HIDDEN, Net};
pub use reading::{WINDOW_ABOVE, WINDOW_BELOW};
pub(crate) use skip::worth_learning;
pub use skip::{MAX_BYTES, Skip};
pub use worker::Learning;

use decode::Draft;
use evidence::{Learnt, Sources};
use learn::Learner;
use reading::{Cursor, Reading};
use segment::{Segment, Span};
use snapshot::{Language, Shard, Snapshot};
use worker::Worker;

/// Confidence from which a suggestion is worth showing: of whole lines in packages never fitted
/// on, about a quarter reach it and four of five of those are exactly right (benches/RESULTS.md).
pub const GATE: f32 = 0.55;

/// Memory an engine may hold when nothing else is said: 256 MiB.
pub const DEFAULT_MEMORY: usize = 256 << 20;

/// What an engine learns, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folders whose files are learnt.
    pub roots: Vec<PathBuf>,
    /// Globs of files that are not, matched against the path within its root and the whole path.
    pub exclude: Vec<String>,
    /// Bytes that everything learnt may take, the building of it included.
    pub memory: usize,
}

/// A place where text is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The file, which tells the language; what was learnt of it from disk is not used.
    pub path: &'r Path,
    /// All text before the cursor; the last [`WINDOW_ABOVE`] bytes are read.
    pub before: &'r str,
    /// All text after the cursor; the first [`WINDOW_BELOW`] bytes are read.
    pub after: &'r str,
    /// Other open buffers, most recently used first; their texts are those given to [`Engine::edited`].
    pub open: &'r [&'r Path],
}

/// Text for the rest of the cursor's line.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// What to insert at the cursor; never empty, never with a line end.
    pub text: String,
    /// Probability that the line is meant to read exactly so, 0 to 1.
    pub confidence: f32,
    /// Every prefix of `text` that ends with a token, shortest first, the whole text last.
    pub prefixes: Vec<Prefix>,
}

/// A beginning of a suggestion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prefix {
    /// Length in bytes.
    pub end: usize,
    /// Probability that the line goes on exactly so up to here, 0 to 1.
    pub confidence: f32,
}

impl Suggestion {
    /// Returns the longest beginning whose confidence reaches `gate`.
    pub fn confident(&self, gate: f32) -> Option<&str> {
        let prefix = self
            .prefixes
            .iter()
            .rev()
            .find(|prefix| prefix.confidence >= gate)?;
        Some(&self.text[..prefix.end]).filter(|text| !text.trim().is_empty())
    }
}

/// What an engine has learnt and is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub state: State,
    /// Files learnt, and their size.
    pub files: usize,
    pub bytes: u64,
    pub tokens: usize,
    /// Open buffers learnt.
    pub open: usize,
    /// Bytes held.
    pub memory: usize,
    /// Whether files were left out because the memory given was used up.
    pub is_capped: bool,
    /// Files not learnt, by reason.
    pub skipped: BTreeMap<Skip, usize>,
}

/// What the learning thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Learning `done` of `total` bytes.
    Learning { done: u64, total: u64 },
    #[default]
    Idle,
}

/// Weights of both networks.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Weighs candidates for the next token.
    pub mixing: Net,
    /// Weighs finished lines.
    pub confidence: Net,
}

impl Weights {
    /// Returns networks that know nothing, to start a fit from.
    pub fn zero() -> Self {
        Self {
            mixing: Net::zero(features::N_ROWS),
            confidence: Net::zero(confidence::N_ROWS),
        }
    }

    /// Reads both networks from the bytes of their files.
    ///
    /// # Errors
    /// When the bytes are not networks of this version's size.
    pub fn decode(mixing: &[u8], confidence: &[u8]) -> anyhow::Result<Self> {
        let mixing = Net::decode(mixing, features::N_ROWS)?;
        Ok(Self {
            mixing,
            confidence: Net::decode(confidence, confidence::N_ROWS)?,
        })
    }

    fn shipped() -> Arc<Self> {
        static SHIPPED: LazyLock<Arc<Weights>> = LazyLock::new(|| {
            let weights = Weights::decode(
                include_bytes!("local/mixing.bin"),
                include_bytes!("local/confidence.bin"),
            );
            Arc::new(weights.expect("a test reads the shipped weights"))
        });
        Arc::clone(&SHIPPED)
    }
}

/// A completion engine; clones share one state, and its thread ends with the last of them.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
}

struct Shared {
    weights: Arc<Weights>,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Readings of the files asked about last, most recent first.
    readings: Mutex<Vec<Reading>>,
}

impl Debug for Engine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.status())
            .finish()
    }
}

impl Engine {
    /// Starts an engine that learns the roots in the background.
    ///
    /// # Errors
    /// When a glob to exclude is malformed, or no thread can be started.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        Self::with_weights(settings, Weights::shipped())
    }

    /// Starts an engine with other weights than the shipped ones.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn with_weights(settings: Settings, weights: Arc<Weights>) -> anyhow::Result<Self> {
        let exclude = glob_set(&settings.exclude)?;
        let learner = Learner::new(settings.roots, exclude, settings.memory);
        let snapshot = RwLock::new(Arc::new(learner.snapshot()));
        let shared = Arc::new(Shared {
            weights,
            snapshot,
            readings: Mutex::new(Vec::new()),
        });
        let worker = Arc::new(Worker::start(learner, Arc::clone(&shared))?);
        Ok(Self { shared, worker })
    }

    /// Tells the present text of an open buffer.
    ///
    /// A rope is taken because a clone of one is cheap; it is read in the background, together
    /// with what else is typed within a moment.
    pub fn edited(&self, path: &Path, text: Rope) {
        self.worker.edited(path, Some(text));
    }

    /// Tells that a buffer was closed; the file on disk counts again.
    pub fn closed(&self, path: &Path) {
        self.worker.edited(path, None);
    }

    /// Tells that files or folders were created, changed or deleted on disk.
    pub fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.worker.learning.changed(paths);
    }

    /// Forgets everything and learns the roots anew.
    pub fn relearn(&self) {
        self.worker.relearn();
    }

    /// Returns what can be waited for and told of without keeping the engine at work.
    pub fn learning(&self) -> Learning {
        self.worker.learning.clone()
    }

    pub fn status(&self) -> Status {
        self.worker.learning.status()
    }

    /// Waits until everything told so far is learnt; returns whether that was before `deadline`.
    pub fn wait_learnt(&self, deadline: Instant) -> bool {
        self.worker.learning.wait_learnt(deadline)
    }

    /// Returns the most probable rest of the cursor's line, however unsure.
    ///
    /// `None` inside a word, where nothing is known that could follow, or where the line seems
    /// complete. The caller decides by confidence what to show; [`GATE`] is recommended. Takes
    /// no lock that learning holds for longer than a pointer takes to copy, and a bounded time.
    pub fn suggest(&self, request: &Request<'_>) -> Option<Suggestion> {
        let weights = &self.shared.weights;
        self.with_sources(request, |task, cursor, sources| {
            let stem = cursor.stem.chars().count();
            let drafts = decode::decode(task, sources, &weights.mixing);
            let suggestions = drafts.iter().filter_map(|draft| {
                let confidences =
                    confidence::confidences(draft, stem, sources.vocabulary, &weights.confidence);
                render(draft, &confidences, cursor, sources)
            });
            suggestions.reduce(|best, other| {
                if other.confidence > best.confidence {
                    other
                } else {
                    best
                }
            })
        })
    }

    fn with_sources<R>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&decode::Task<'_>, &Cursor<'_>, &Sources<'_>) -> Option<R>,
    ) -> Option<R> {
        let cursor = Cursor::new(request.before, request.after)?;
        let snapshot = Arc::clone(
            &self
                .shared
                .snapshot
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let language = Language::of(request.path);
        let shard: &Shard = snapshot.shards.get(&language).unwrap_or(&snapshot.unlearnt);
        let mut reading = self
            .shared
            .take_reading(request.path)
            .unwrap_or_else(|| Reading::new(request.path, &snapshot, shard));
        let task = reading.sync(&cursor, &snapshot, shard);
        let answer = {
            let open: Vec<(&Path, _)> = recent_buffers(request, &snapshot, &language);
            let read_otherwise = open.iter().map(|(path, _)| *path).chain([request.path]);
            let hidden = shard.hidden_without(read_otherwise);
            let texts: Vec<_> = open.iter().map(|(_, text)| *text).collect();
            let segments: Vec<(&Segment, &[Span])> = shard
                .segments
                .iter()
                .map(|segment| &**segment)
                .zip(hidden.iter().map(|spans| &**spans))
                .collect();
            let near = near::near_files(&reading.above, &segments, &reading.vocabulary);
            let learnt = segments
                .iter()
                .zip(&near)
                .map(|((segment, hidden), near)| Learnt {
                    segment,
                    hidden,
                    near,
                });
            let learnt: Vec<Learnt<'_>> = learnt.collect();
            let sources = Sources {
                language: language.number(),
                in_scope: evidence::names_in_scope(&reading.above, &reading.vocabulary),
                vocabulary: &reading.vocabulary,
                frame: &shard.frame,
                above: &reading.above,
                below: &reading.below,
                open: &texts,
                learnt: &learnt,
            };
            read(&task, &cursor, &sources)
        };
        self.shared.keep_reading(reading);
        answer
    }
}

/// Returns the texts of the other open buffers of this language that are used, most recent first.
fn recent_buffers<'s>(
    request: &Request<'_>,
    snapshot: &'s Snapshot,
    language: &Language,
) -> Vec<(&'s Path, &'s open_text::OpenText)> {
    const MOST_BUFFERS: usize = 6;
    let known = request
        .open
        .iter()
        .filter(|path| **path != request.path)
        .filter_map(|path| snapshot.open.get_key_value(*path));
    let alike = known
        .filter(|(_, open)| open.language == *language)
        .map(|(path, open)| (&**path, &*open.text));
    alike.take(MOST_BUFFERS).collect()
}

impl Shared {
    fn take_reading(&self, path: &Path) -> Option<Reading> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let at = readings.iter().position(|reading| reading.path == path)?;
        Some(readings.remove(at))
    }

    fn keep_reading(&self, reading: Reading) {
        const MOST_READINGS: usize = 4;
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.insert(0, reading);
        readings.truncate(MOST_READINGS);
    }

    fn publish(&self, snapshot: Snapshot) {
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    fn reading_bytes(&self) -> usize {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.iter().map(Reading::bytes).sum()
    }
}

fn render(
    draft: &Draft,
    confidences: &[f32],
    cursor: &Cursor<'_>,
    sources: &Sources<'_>,
) -> Option<Suggestion> {
    let mut text = String::new();
    let mut prefixes = Vec::new();
    for (at, (token, confidence)) in draft.tokens.iter().zip(confidences).enumerate() {
        let written = sources.vocabulary.text(token.word);
        if at == 0 && !matches!(cursor.constraint(), evidence::Constraint::Free) {
            text.push_str(written.get(cursor.stem.len()..)?);
        } else {
            token.blanks.push_to(&mut text);
            text.push_str(written);
        }
        prefixes.push(Prefix {
            end: text.len(),
            confidence: *confidence,
        });
    }
    let confidence = if draft.finished {
        *confidences.last()?
    } else {
        0.0
    };
    if text.trim().is_empty() {
        return None;
    }
    Some(Suggestion {
        text,
        confidence,
        prefixes,
    })
}

fn glob_set(globs: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob)?);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests;
