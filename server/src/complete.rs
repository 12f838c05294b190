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
pub mod rhythm;
pub mod surroundings;
pub mod track;
pub mod trim;

use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustc_hash::FxHashMap;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::context::{self, Similar, Snippet};
use crate::index::Lookup;
use crate::model::{Reply, TurnEnd, TurnEvent};
use crate::session::document::Document;
use crate::session::{Changed, Session, Snapshot};
use engines::Engines;
use extent::Occasion;
use generation::{End, Generation, Written, wait_until};
use live::{Event, Fitting, Found, Live, Place, Shown};
use metrics::{Metrics, Outcome};
use next_edit::{NextEdit, Proposals};
use surroundings::Surroundings;
use track::Track;
use trim::{Extent, Trimmed};

/// Larger documents get no ghost text: they are data.
const MAX_DOCUMENT: usize = 8 << 20;
/// Time before the deadline at which the embedded engine is asked: nearly all of its answers take
/// less than 5 ms, and a busy machine is slower.
const LOCAL_NEEDS: Duration = Duration::from_millis(15);
/// An explicit request may take longer than typing allows.
const INVOKED_DEADLINE: Duration = Duration::from_secs(3);
/// A model that proposes the next edit may take this long: the user reads meanwhile.
const MODEL_PATIENCE: Duration = Duration::from_secs(10);
/// Suggestions to cycle through on an explicit request: of the model, and in all.
const MODEL_VARIANTS: usize = 3;
const MAX_ITEMS: usize = 5;
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
    next_edits: Mutex<Proposals>,
    /// What a next edit would follow from is no longer the last.
    moved_on: Notify,
    metrics: Metrics,
    snoozed_until: Mutex<Option<Instant>>,
    next_id: AtomicU64,
}

#[derive(Debug, Clone)]
struct Answered {
    id: u64,
    uri: Arc<str>,
    text: String,
    shown: bool,
    accepted: bool,
}

impl Completer {
    pub fn new(session: Arc<Session>, engines: Engines) -> Self {
        let inner = Inner {
            session,
            engines: RwLock::new(Arc::new(engines)),
            live: Mutex::default(),
            answered: Mutex::default(),
            similar: Similar::default(),
            next_edits: Mutex::default(),
            moved_on: Notify::new(),
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

    pub fn opened(&self, document: &Document) {
        self.engines().edited(document);
    }

    /// Follows a change of a document.
    pub fn edited(&self, changed: &Changed) {
        let document = &changed.document;
        self.inner.moved_on.notify_waiters();
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

    /// Notes that the first `characters` (UTF-16 units) of a suggestion were taken.
    pub fn was_partially_accepted(&self, id: u64, characters: u64) {
        self.inner.tell(id, |answered, counts| {
            counts.shown += u64::from(!std::mem::replace(&mut answered.shown, true));
            counts.partially_accepted += 1;
            counts.accepted_characters += characters;
        });
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

    /// Finds the edit that follows elsewhere from what was rewritten last, and names it. Reads the
    /// open documents; call it off the reader's thread.
    pub fn next_edit(
        &self,
        snapshot: &Snapshot,
        at: &Arc<Document>,
        cursor: usize,
    ) -> Option<(u64, NextEdit)> {
        let engines = self.engines();
        let is_silent = self.silence(Some(&at.language)).is_some();
        if is_silent || !engines.settings.complete.next_edit {
            return None;
        }
        let defines = |name: &str| {
            let index = engines.index.as_ref();
            index.is_some_and(|index| index.defines(&snapshot.roots, name))
        };
        let found = {
            let proposals = self.inner.next_edits();
            next_edit::next_edit(snapshot, at, cursor, defines, |c| proposals.is_unwanted(c))?
        };
        Some((self.propose(&found), found))
    }

    /// Asks the model of `models.edit` what follows from what was rewritten last; `None` without
    /// one. Ends when a document is edited, when this is asked again, and when it takes too long;
    /// the request at the model ends with it.
    pub async fn next_edit_by_model(
        &self,
        snapshot: &Snapshot,
        at: &Arc<Document>,
        cursor: usize,
    ) -> Option<(u64, NextEdit)> {
        let engines = self.engines();
        let model = engines.models.edit.as_ref()?;
        let is_silent = self.silence(Some(&at.language)).is_some();
        if is_silent || !engines.settings.complete.next_edit {
            return None;
        }
        self.inner.moved_on.notify_waiters();
        let mut moved_on = pin!(self.inner.moved_on.notified());
        moved_on.as_mut().enable();
        let now = self.inner.session.snapshot();
        let is_current = |known: &Arc<Document>| {
            let now = now.document(&known.uri);
            now.is_some_and(|now| Arc::ptr_eq(now, known))
        };
        if !snapshot.documents.iter().all(is_current) {
            return None;
        }
        let question = next_edit::model::Question::new(snapshot, at, cursor)?;
        let answer = async {
            let mut stream = model.turn(question.request());
            let mut reply = Reply::default();
            while let Some(event) = stream.next().await {
                let event = event
                    .inspect_err(|error| tracing::debug!(%error, "no next edit"))
                    .ok()?;
                reply.take(&event);
                // Late is wrong, and a long answer is no edit.
                let is_late = matches!(event, TurnEvent::Retry { .. });
                if is_late || reply.text.len() > next_edit::model::MAX_ANSWER {
                    return None;
                }
            }
            (reply.end == Some(TurnEnd::Stop)).then_some(reply.text)
        };
        let answer = tokio::select! {
            () = moved_on => None,
            answer = tokio::time::timeout(MODEL_PATIENCE, answer) => answer.ok().flatten(),
        }?;
        let found = question.read(&answer)?;
        if self.inner.next_edits().is_unwanted(&found.change) {
            return None;
        }
        Some((self.propose(&found), found))
    }

    fn propose(&self, edit: &NextEdit) -> u64 {
        let id = self.inner.id();
        self.inner.next_edits().add(id, edit.change.clone());
        self.inner.metrics.count(|c| c.next_edits_proposed += 1);
        id
    }

    /// Notes that a next edit was made.
    pub fn next_edit_was_accepted(&self, id: u64) {
        if self.inner.next_edits().accepted(id) {
            self.inner.metrics.count(|c| c.next_edits_accepted += 1);
        }
    }

    /// Notes that a next edit is not wanted, wherever the same is left to be done.
    pub fn next_edit_was_rejected(&self, id: u64) {
        if self.inner.next_edits().rejected(id) {
            self.inner.metrics.count(|c| c.next_edits_rejected += 1);
        }
    }

    /// Takes up a request. Call it in the order of arrival: from here on the request is the newest
    /// of its document. The answer is computed by [`Request::answer`].
    pub fn begin(&self, ask: Ask) -> Request {
        let id = self.inner.id();
        let line = ask.document.text.byte_to_line(ask.offset);
        let required = required(&ask);
        let mut live = self.inner.live();
        let live = live.entry(Arc::clone(&ask.document.uri)).or_default();
        let place = Place {
            offset: ask.offset,
            line,
            version: ask.document.version,
            required: required.as_deref().unwrap_or_default(),
        };
        let superseded = live.begin(id, place);
        Request {
            inner: Arc::clone(&self.inner),
            ask,
            id,
            line,
            required,
            superseded,
            asked: Instant::now(),
            settled: false,
        }
    }
}

/// Returns the text that a selected menu item would put behind the cursor: empty when no item is
/// selected; `None` when the item would change what stands before the cursor, so that no
/// suggestion can extend it.
fn required(ask: &Ask) -> Option<String> {
    let Some((range, text)) = &ask.selected else {
        return Some(String::new());
    };
    let typed = ask.document.slice(range.start..ask.offset);
    text.strip_prefix(&typed).map(str::to_owned)
}

/// A request that was taken up. Dropping it takes it back.
#[derive(Debug)]
pub struct Request {
    inner: Arc<Inner>,
    ask: Ask,
    id: u64,
    line: usize,
    required: Option<String>,
    superseded: CancellationToken,
    asked: Instant,
    settled: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.settled {
            if let Some(live) = self.inner.live().get_mut(&self.ask.document.uri) {
                live.cancelled(self.id);
            }
            self.inner
                .metrics
                .finished(Outcome::Cancelled, self.asked.elapsed());
        }
    }
}

impl Request {
    /// Computes the suggestions, the best first; empty when there is nothing worth showing, `None`
    /// when the request was overtaken.
    pub async fn answer(mut self) -> Option<Vec<Item>> {
        let found = tokio::select! {
            biased;
            () = self.superseded.cancelled() => None,
            items = self.find() => Some(items),
        };
        self.settled = true;
        let items = found.and_then(|items| self.show(items));
        let outcome = match items.as_deref() {
            None => Outcome::Superseded,
            Some([]) => Outcome::Empty,
            Some([first, ..]) => Outcome::Answered {
                source: first.source,
                reused: first.reused,
            },
        };
        self.inner.metrics.finished(outcome, self.asked.elapsed());
        items
    }

    async fn find(&self) -> Vec<Item> {
        let engines = self.inner.engines();
        let document = &self.ask.document;
        let Some(required) = &self.required else {
            return Vec::new();
        };
        let too_large = document.text.len_bytes() > MAX_DOCUMENT;
        if too_large
            || self
                .inner
                .silence(&engines.settings, Some(&document.language))
                .is_some()
        {
            return Vec::new();
        }
        let (before, after) = self.windows(required);
        let around = Surroundings::new(&before, &after);
        match self.ask.trigger {
            Trigger::Automatic if !extent::speaks_unasked(around.line_after) => Vec::new(),
            Trigger::Automatic => self.find_one(&engines, &around).await.into_iter().collect(),
            Trigger::Invoked => self.find_several(&engines, &around).await,
        }
    }

    /// The text on both sides of the cursor, as if the selected menu item were taken.
    fn windows(&self, required: &str) -> (String, String) {
        let (mut before, mut after) =
            surroundings::windows(&self.ask.document.text, self.ask.offset);
        before.push_str(required);
        let replaced = self
            .ask
            .selected
            .as_ref()
            .map_or(0, |(range, _)| range.end.saturating_sub(self.ask.offset));
        after.replace_range(..after.floor_char_boundary(replaced.min(after.len())), "");
        (before, after)
    }

    async fn find_one(&self, engines: &Engines, around: &Surroundings<'_>) -> Option<Item> {
        let found = self.with_live(|live| live.find(self.place()));
        let kept = match found {
            Found::Text(fitting) => {
                let item = self.item(&fitting, around).map(|item| Item {
                    reused: true,
                    ..item
                });
                // An unsure suggestion stays on screen, but does not keep a model from being asked.
                if item.is_some() && (live::is_kept(&fitting) || engines.model().is_none()) {
                    return item;
                }
                item
            }
            Found::Growing(mut written) => {
                let item = self.wait_for_model(engines, around, &mut written).await;
                return item.or_else(|| self.ask_local(engines, around));
            }
            Found::Nothing => None,
        };
        if engines.model().is_none() || context::is_secret(&self.ask.document) {
            return kept.or_else(|| self.ask_local(engines, around));
        }
        // Looked up during the wait for the next keystroke.
        let lookup = engines.look_up(&self.ask);
        let delay = match engines.settings.complete.debounce_ms {
            Some(ms) => Duration::from_millis(ms.into()),
            None => self.with_live(|live| live.delay()),
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut written = self.ask_model(engines, around, lookup).await?;
        // The embedded engine is asked when the model is about to be late, or has nothing to say:
        // what it computed meanwhile would only keep the model's text from being shown.
        let standby_from = self.deadline(engines) - LOCAL_NEEDS;
        let ended = wait_until(&mut written, |_| false);
        let late = tokio::time::timeout_at(standby_from.into(), ended)
            .await
            .is_err();
        let standby = kept.or_else(|| late.then(|| self.ask_local(engines, around))?);
        let item = self.wait_for_model(engines, around, &mut written).await;
        match (item, standby) {
            (Some(item), Some(kept)) if kept.reused && !self.replaces_shown(&item, &kept) => {
                Some(kept)
            }
            (None, None) if !late => self.ask_local(engines, around),
            (item, standby) => item.or(standby),
        }
    }

    /// Several suggestions to cycle through: what is there, variants of the model, the embedded
    /// engine's.
    async fn find_several(&self, engines: &Engines, around: &Surroundings<'_>) -> Vec<Item> {
        let shown = match self.with_live(|live| live.find(self.place())) {
            Found::Text(fitting) => self.item(&fitting, around),
            Found::Growing(_) | Found::Nothing => None,
        };
        let mut items: Vec<Item> = shown.into_iter().collect();
        if engines.model().is_some() && !context::is_secret(&self.ask.document) {
            let extent = self.extent(engines, around);
            let found = match engines.look_up(&self.ask) {
                Some(lookup) => lookup.take().await,
                None => Vec::new(),
            };
            let variants = (0..MODEL_VARIANTS).map(async |variant| {
                let generation =
                    self.generation(engines, around, extent, variant, found.clone())?;
                let mut written = generation.watch();
                let _ = tokio::time::timeout(INVOKED_DEADLINE, wait_until(&mut written, |_| false))
                    .await;
                let rest = written.borrow().text.clone();
                let fitting = Fitting {
                    rest,
                    source: Source::Model,
                    confidence: None,
                    extent,
                    shown: None,
                };
                self.item(&fitting, around)
            });
            items.extend(join_all(variants).await.into_iter().flatten());
        }
        items.extend(self.ask_local(engines, around));
        let mut distinct: Vec<Item> = Vec::new();
        for item in items {
            if distinct.len() < MAX_ITEMS && !distinct.iter().any(|d| d.text == item.text) {
                distinct.push(item);
            }
        }
        distinct
    }

    /// Starts a stream of the model for this request and keeps it with the document.
    async fn ask_model(
        &self,
        engines: &Engines,
        around: &Surroundings<'_>,
        lookup: Option<Lookup>,
    ) -> Option<watch::Receiver<Written>> {
        let found = match lookup {
            Some(lookup) => lookup.take().await,
            None => Vec::new(),
        };
        let extent = self.extent(engines, around);
        let generation = self.generation(engines, around, extent, 0, found)?;
        let written = generation.watch();
        self.with_live(|live| live.add(generation));
        Some(written)
    }

    fn generation(
        &self,
        engines: &Engines,
        around: &Surroundings<'_>,
        extent: Extent,
        variant: usize,
        found: Vec<Snippet>,
    ) -> Option<Generation> {
        let required = self.required.as_deref()?;
        let Ask {
            snapshot,
            document,
            offset,
            ..
        } = &self.ask;
        let mut context = context::gather(snapshot, document, *offset, &self.inner.similar, found);
        context.prefix.push_str(required);
        let stream = engines.ask_model(context, extent, variant)?;
        let owned = around.to_owned();
        let skipped = required.len();
        let is_complete = move |text: &str| {
            text.get(skipped..)
                .is_some_and(|t| trim::is_complete(t, extent, &owned.borrow()))
        };
        let track = Track::new(*offset, self.line, document.version);
        Some(Generation::stream(
            stream,
            required,
            is_complete,
            extent,
            track,
            self.id,
        ))
    }

    /// Waits until a stream has written all that is wanted here, or the deadline; then takes the
    /// best of what is there.
    async fn wait_for_model(
        &self,
        engines: &Engines,
        around: &Surroundings<'_>,
        written: &mut watch::Receiver<Written>,
    ) -> Option<Item> {
        let deadline = self.deadline(engines).into();
        let in_time = tokio::time::timeout_at(deadline, wait_until(written, |_| false))
            .await
            .is_ok();
        match &written.borrow().end {
            Some(End::Failed(error)) => {
                tracing::debug!(%error, "the model did not answer");
                self.inner.metrics.count(|c| c.model_failed += 1);
            }
            _ if !in_time => self.inner.metrics.count(|c| c.model_late += 1),
            _ => {}
        }
        let place = self.place();
        let mut fitting = self.with_live(|live| live.written_for(place))?;
        if !in_time {
            // A line that is still being written may end anywhere; only whole lines are shown.
            let whole = fitting.rest.rfind('\n')?;
            fitting.rest.truncate(whole);
        }
        self.item(&fitting, around)
    }

    /// When the best answer there is must be given.
    fn deadline(&self, engines: &Engines) -> Instant {
        self.asked + engines.patience()
    }

    fn ask_local(&self, engines: &Engines, around: &Surroundings<'_>) -> Option<Item> {
        let required = self.required.as_deref()?;
        let (text, confidence) = engines.ask_local(&self.ask, around)?;
        let track = Track::new(self.ask.offset, self.line, self.ask.document.version);
        let rest = format!("{required}{text}");
        let fitting = Fitting {
            rest: rest.clone(),
            source: Source::Local,
            confidence: Some(confidence),
            extent: Extent::Line,
            shown: None,
        };
        let item = self.item(&fitting, around)?;
        self.with_live(|live| {
            live.add(Generation::finished(
                rest,
                Source::Local,
                Some(confidence),
                Extent::Line,
                track,
            ));
        });
        Some(item)
    }

    fn extent(&self, engines: &Engines, around: &Surroundings<'_>) -> Extent {
        let occasion = match self.ask.trigger {
            Trigger::Invoked => Occasion::Invoked,
            Trigger::Automatic if self.with_live(|live| live.just_accepted()) => {
                Occasion::AfterAccept
            }
            Trigger::Automatic => Occasion::Typing,
        };
        extent::extent(
            around,
            engines.settings.complete.max_lines as usize,
            occasion,
        )
    }

    /// Makes a suggestion of a text that fits, if there is one in it.
    fn item(&self, fitting: &Fitting, around: &Surroundings<'_>) -> Option<Item> {
        let required = self.required.as_deref()?;
        let Trimmed { text, replaces } =
            trim::trim(fitting.rest.strip_prefix(required)?, fitting.extent, around)?;
        let document = &self.ask.document;
        let line_start = document.text.line_to_byte(self.line);
        let selected_end = self
            .ask
            .selected
            .as_ref()
            .map_or(self.ask.offset, |(range, _)| range.end);
        let before = document.slice(line_start..self.ask.offset);
        let text = text.replace('\n', document.line_ending());
        Some(Item {
            id: fitting.shown.unwrap_or_else(|| self.inner.id()),
            range: line_start..selected_end.max(self.ask.offset) + replaces,
            typed: before.len(),
            text: format!("{before}{required}{text}"),
            source: fitting.source,
            confidence: fitting.confidence,
            reused: false,
        })
    }

    fn replaces_shown(&self, item: &Item, shown: &Item) -> bool {
        let typed_on = self.with_live(|l| l.shown().is_some_and(|s| !s.track.typed().is_empty()));
        item.text.starts_with(&shown.text) || typed_on
    }

    /// Notes the first suggestion as the one on screen; `None` when the document has moved on.
    fn show(&self, items: Vec<Item>) -> Option<Vec<Item>> {
        let document = &self.ask.document;
        let now = Instant::now();
        let mut all = self.inner.live();
        let live = all.get_mut(&document.uri)?;
        if self.superseded.is_cancelled() {
            return None;
        }
        let first = items.first();
        let stays = first.is_some_and(|item| live.shown().is_some_and(|shown| shown.id == item.id));
        let replaced = match first {
            _ if stays => None,
            None => live.hide(),
            Some(item) => live.show(Shown {
                id: item.id,
                text: item.text[item.typed..].to_owned(),
                source: item.source,
                confidence: item.confidence,
                extent: if item.text.contains('\n') {
                    Extent::Block {
                        max_lines: usize::MAX,
                    }
                } else {
                    Extent::Line
                },
                track: Track::new(self.ask.offset, self.line, document.version),
                at: now,
                confirmed: false,
                accepted: false,
            }),
        };
        drop(all);
        if let Some(replaced) = replaced {
            self.inner.ended(&replaced);
        }
        self.inner.remember(&items, &document.uri);
        Some(items)
    }

    fn place(&self) -> Place<'_> {
        Place {
            offset: self.ask.offset,
            line: self.line,
            version: self.ask.document.version,
            required: self.required.as_deref().unwrap_or_default(),
        }
    }

    fn with_live<T>(&self, read: impl FnOnce(&mut Live) -> T) -> T {
        let mut all = self.inner.live();
        read(all.entry(Arc::clone(&self.ask.document.uri)).or_default())
    }
}

impl Inner {
    fn engines(&self) -> Arc<Engines> {
        Arc::clone(&self.engines.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn live(&self) -> MutexGuard<'_, FxHashMap<Arc<str>, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_edits(&self) -> MutexGuard<'_, Proposals> {
        self.next_edits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
            let text = item.text[item.typed..].to_owned();
            answered.push(Answered {
                id: item.id,
                uri: Arc::clone(uri),
                text,
                shown: false,
                accepted: false,
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
            if std::mem::replace(&mut answered.accepted, true) {
                return;
            }
            counts.shown += u64::from(!std::mem::replace(&mut answered.shown, true));
            counts.accepted += 1;
            counts.accepted_characters += answered.text.encode_utf16().count() as u64;
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
            counts.shown += u64::from(!std::mem::replace(&mut answered.shown, true));
            counts.rejected += u64::from(!answered.accepted);
        });
    }
}
