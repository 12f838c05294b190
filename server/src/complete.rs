//! Ghost text: from a cursor position to a suggestion.
//!
//! Holds: one request per document is the newest; asking again, or editing, answers the older one
//! with nothing and ends work it alone needed. An answer is computed from the very version that
//! was asked about, or it is nothing. Nothing here reads the disk or waits for anything but the
//! model; late is wrong, so at the deadline the best answer there is is given.
//! Not here: LSP types (`lsp::convert`), prompts (`model`), how the embedded engine learns
//! (`local`).

pub mod engines;
pub mod explain;
pub mod extent;
pub mod generation;
pub mod live;
pub mod metrics;
pub mod next_edit;
mod proposals;
mod request;
pub mod rhythm;
pub mod surroundings;
pub mod track;
pub mod trim;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::config::Settings;
use crate::context::Similar;
use crate::session::document::Document;
use crate::session::{Changed, Session, Snapshot};
use engines::Engines;
use live::{Event, Live, Shown};
use metrics::Metrics;
use proposals::Proposals;
pub use request::Request;
use surroundings::Surroundings;

/// Larger documents get no ghost text: they are data.
const MAX_DOCUMENT: usize = 8 << 20;
/// Suggestions that can still be told to have been shown or accepted.
const REMEMBERED: usize = 64;
/// How long after an acceptance it is looked whether the text is still there.
const RETAINED_AFTER: Duration = Duration::from_secs(30);

/// Who wrote a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The model endpoint.
    Model,
    /// The embedded engine.
    Local,
}

/// Why a suggestion is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Automatic,
    Invoked,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub snapshot: Snapshot,
    pub document: Arc<Document>,
    /// The cursor.
    pub offset: usize,
    pub trigger: Trigger,
    /// The selected item of an open completion menu: the bytes it replaces, up to the cursor or
    /// beyond, and its text. A suggestion must extend it.
    pub selected: Option<(Range<usize>, String)>,
}

/// One suggestion.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub id: u64,
    /// The bytes to replace: from the start of the cursor's line, so that a client can follow
    /// what is typed, to the cursor or to what the text repeats after it.
    pub range: Range<usize>,
    /// The text to put there, with the document's line ends.
    pub text: String,
    /// How much of `text`, in bytes, stands before the cursor already.
    pub typed: usize,
    pub source: Source,
    /// Probability that the text is what the user wants, where the source knows.
    pub confidence: Option<f32>,
    /// Whether it was there already, from an earlier request.
    pub reused: bool,
}

impl Item {
    /// Returns what of it is new where it can only be inserted at byte `cursor` of `document`:
    /// what it repeats of the text behind the cursor stands there already.
    pub fn insertion(&self, document: &Document, cursor: usize) -> Option<&str> {
        let replaced = document.slice(cursor..self.range.end.max(cursor));
        let (before, text) = self.text.split_at_checked(self.typed)?;
        trim::insertion(text, replaced.len(), &Surroundings::new(before, &replaced))
    }
}

/// Why ghost text is silent, when it is by choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    Disabled,
    Language(Arc<str>),
    Snoozed(Instant),
}

/// Ghost text for all open documents.
#[derive(Debug, Clone)]
pub struct Completer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Arc<Session>,
    engines: RwLock<Arc<Engines>>,
    live: Mutex<FxHashMap<Arc<str>, Live>>,
    /// Suggestions answered lately, newest last, for what clients tell about them.
    answered: Mutex<Vec<Answered>>,
    similar: Similar,
    next_edits: Proposals,
    metrics: Metrics,
    snoozed_until: Mutex<Option<Instant>>,
    next_id: AtomicU64,
}

#[derive(Debug, Clone)]
struct Answered {
    id: u64,
    uri: Arc<str>,
    /// What was new of it when it was answered first.
    text: String,
    /// UTF-16 units of the whole item, and how many of them stood there then or were taken since.
    length: u64,
    taken: u64,
    shown: bool,
    became: Became,
}

/// What became of a suggestion; what is told later counts if it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    Open,
    Rejected,
    PartiallyAccepted,
    Accepted,
}

impl Answered {
    /// Counts what became of it, each suggestion once; `false` when that was counted already.
    fn count_as(&mut self, end: Became, counts: &mut metrics::Counts) -> bool {
        if end <= self.became {
            return false;
        }
        counts.shown += u64::from(!std::mem::replace(&mut self.shown, true));
        if let Some(before) = self.became.count(counts) {
            *before -= 1;
        }
        if let Some(count) = end.count(counts) {
            *count += 1;
        }
        self.became = end;
        true
    }

    /// Counts the characters up to `length` that were not there before.
    fn take(&mut self, length: u64, counts: &mut metrics::Counts) {
        let length = length.min(self.length);
        counts.accepted_characters += length.saturating_sub(self.taken);
        self.taken = self.taken.max(length);
    }
}

impl Became {
    fn count(self, counts: &mut metrics::Counts) -> Option<&mut u64> {
        match self {
            Self::Open => None,
            Self::Rejected => Some(&mut counts.rejected),
            Self::PartiallyAccepted => Some(&mut counts.partially_accepted),
            Self::Accepted => Some(&mut counts.accepted),
        }
    }
}

fn utf16_len(text: &str) -> u64 {
    text.encode_utf16().count() as u64
}

impl Completer {
    pub fn new(session: Arc<Session>, engines: Engines) -> Self {
        let inner = Inner {
            session,
            engines: RwLock::new(Arc::new(engines)),
            live: Mutex::default(),
            answered: Mutex::default(),
            similar: Similar::default(),
            next_edits: Proposals::default(),
            metrics: Metrics::default(),
            snoozed_until: Mutex::default(),
            next_id: AtomicU64::new(1),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub fn engines(&self) -> Arc<Engines> {
        self.inner.engines()
    }

    /// Puts other settings or engines in force. Requests under way end with what they have.
    pub fn set_engines(&self, engines: Engines) {
        *self
            .inner
            .engines
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(engines);
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Offers nothing until `until`; `None` ends it.
    pub fn snooze(&self, until: Option<Instant>) {
        *self
            .inner
            .snoozed_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Returns why ghost text is silent for `language`, when it is by choice.
    pub fn silence(&self, language: Option<&Arc<str>>) -> Option<Silence> {
        self.inner.silence(&self.engines().settings, language)
    }

    /// Takes in a document that was opened, maybe anew with another text: then nothing that is known
    /// of the one before is true of it.
    pub fn opened(&self, document: &Document) {
        self.engines().edited(document);
        self.forget(document);
    }

    /// Follows a change of a document.
    pub fn edited(&self, changed: &Changed) {
        let document = &changed.document;
        self.inner.next_edits.moved_on();
        self.engines().edited(document);
        if let Some(live) = self.inner.live().get_mut(&document.uri) {
            match live.edited(&changed.edits, document.version, Instant::now()) {
                None => {}
                Some(Event::Accepted(shown)) => self.inner.accepted(shown.id),
                Some(Event::Ended(shown)) => self.inner.ended(&shown),
            }
        }
    }

    pub fn closed(&self, document: &Document) {
        self.engines().closed(document);
        self.forget(document);
    }

    fn forget(&self, document: &Document) {
        self.inner.similar.closed(&document.uri);
        let live = self.inner.live().remove(&document.uri);
        if let Some(shown) = live.and_then(|mut l| l.hide()) {
            self.inner.ended(&shown);
        }
    }

    /// Whether a document was edited a moment ago.
    pub fn is_typing(&self, uri: &str) -> bool {
        self.inner
            .live()
            .get(uri)
            .is_some_and(|live| live.is_typing(Instant::now()))
    }

    /// Notes that a client put a suggestion on screen.
    pub fn was_shown(&self, id: u64) {
        self.inner.tell(id, |answered, counts| {
            counts.shown += u64::from(!std::mem::replace(&mut answered.shown, true));
        });
        for live in self.inner.live().values_mut() {
            if let Some(shown) = live.shown_mut().filter(|s| s.id == id) {
                shown.confirmed = true;
            }
        }
    }

    /// Notes that all of a suggestion was taken.
    pub fn was_accepted(&self, id: u64) {
        self.inner.accepted(id);
    }

    /// Notes that the first `length` UTF-16 units of an item's text stand in the document now: a
    /// part of the suggestion was taken, or all of it.
    pub fn was_partially_accepted(&self, id: u64, length: u64) {
        let mut is_whole = false;
        self.inner.tell(id, |answered, counts| {
            is_whole = length >= answered.length;
            if !is_whole {
                answered.count_as(Became::PartiallyAccepted, counts);
                answered.take(length, counts);
            }
        });
        if is_whole {
            self.inner.accepted(id);
        }
    }

    /// Notes that a suggestion was turned down.
    pub fn was_rejected(&self, id: u64) {
        let hidden = self.inner.live().values_mut().find_map(|live| {
            live.shown()
                .is_some_and(|s| s.id == id)
                .then(|| live.hide())
                .flatten()
        });
        if let Some(mut shown) = hidden {
            shown.confirmed = true;
            self.inner.ended(&shown);
        }
    }

    /// Takes up a request. Call it in the order of arrival: from here on the request is the newest
    /// of its document. The answer is computed by [`Request::answer`].
    pub fn begin(&self, ask: Ask) -> Request {
        Request::begin(Arc::clone(&self.inner), ask)
    }
}

impl Inner {
    fn engines(&self) -> Arc<Engines> {
        Arc::clone(&self.engines.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn live(&self) -> MutexGuard<'_, FxHashMap<Arc<str>, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn silence(&self, settings: &Settings, language: Option<&Arc<str>>) -> Option<Silence> {
        if !settings.complete.enabled {
            return Some(Silence::Disabled);
        }
        let mut snoozed = self
            .snoozed_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match *snoozed {
            Some(until) if Instant::now() < until => return Some(Silence::Snoozed(until)),
            Some(_) => *snoozed = None,
            None => {}
        }
        let language = language.filter(|l| !settings.complete.wants(l))?;
        Some(Silence::Language(Arc::clone(language)))
    }

    fn remember(&self, items: &[Item], uri: &Arc<str>) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            if answered.iter().any(|a| a.id == item.id) {
                continue;
            }
            let (typed, text) = item.text.split_at(item.typed);
            answered.push(Answered {
                id: item.id,
                uri: Arc::clone(uri),
                text: text.to_owned(),
                length: utf16_len(&item.text),
                taken: utf16_len(typed),
                shown: false,
                became: Became::Open,
            });
        }
        let surplus = answered.len().saturating_sub(REMEMBERED);
        answered.drain(..surplus);
    }

    /// Changes the counts by what is told about a suggestion that is still remembered.
    fn tell(&self, id: u64, change: impl FnOnce(&mut Answered, &mut metrics::Counts)) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answered) = answered.iter_mut().find(|a| a.id == id) {
            self.metrics.count(|counts| change(answered, counts));
        }
    }

    fn accepted(self: &Arc<Self>, id: u64) {
        let mut taken = None;
        self.tell(id, |answered, counts| {
            if !answered.count_as(Became::Accepted, counts) {
                return;
            }
            answered.take(u64::MAX, counts);
            taken = Some(answered.clone());
        });
        if let Some(taken) = taken {
            tokio::spawn(Arc::clone(self).watch_retention(taken));
        }
    }

    /// Looks, a while after an acceptance, whether the text is still there.
    async fn watch_retention(self: Arc<Self>, taken: Answered) {
        tokio::time::sleep(RETAINED_AFTER).await;
        let snapshot = self.session.snapshot();
        // A document that was closed keeps its counts as they are.
        let Some(document) = snapshot.document(&taken.uri) else {
            return;
        };
        let there = document.text.to_string().contains(taken.text.trim());
        self.metrics.count(|c| {
            if there {
                c.retained += 1;
            } else {
                c.reverted += 1;
            }
        });
    }

    /// Counts a suggestion that left the screen.
    fn ended(&self, shown: &Shown) {
        if !shown.was_seen(Instant::now()) {
            return;
        }
        self.tell(shown.id, |answered, counts| {
            answered.count_as(Became::Rejected, counts);
        });
    }
}
