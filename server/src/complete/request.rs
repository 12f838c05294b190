//! One request for ghost text, from the moment it is taken up to its answer.
//!
//! Holds: dropping a request takes it back; nothing is written down of one that was overtaken.
//! Not here: what becomes of suggestions that were shown (`Completer`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engines::Engines;
use super::extent::{self, Occasion};
use super::generation::{End, Generation, Written, wait_until};
use super::live::{self, Fitting, Found, Live, Place, Shown};
use super::metrics::Outcome;
use super::surroundings::{self, Surroundings};
use super::track::Track;
use super::trim::{self, Extent, Trimmed};
use super::{Ask, Inner, Item, MAX_DOCUMENT, Source, Trigger};
use crate::context::{self, Snippet};
use crate::index::Lookup;
use crate::secret;
use crate::session::document::with_lf;

/// Time before the deadline at which the embedded engine is asked: nearly all of its answers take
/// less than 5 ms, and a busy machine is slower.
const LOCAL_NEEDS: Duration = Duration::from_millis(15);
/// An explicit request may take longer than typing allows.
const INVOKED_DEADLINE: Duration = Duration::from_secs(3);
/// Suggestions to cycle through on an explicit request: of the model, and in all.
const MODEL_VARIANTS: usize = 3;
const MAX_ITEMS: usize = 5;

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

/// Returns what may be shown of a text: a line that is still being written may end anywhere, so of
/// one that has not ended in time only whole lines.
fn shown_of(mut text: String, waited: Waited) -> Option<String> {
    if waited == Waited::Late {
        text.truncate(text.rfind('\n')?);
    }
    Some(text)
}

/// How waiting for a stream's end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    InTime,
    Late,
    Failed,
}

/// Waits until a stream has ended, but not after `deadline`.
async fn wait_for_end(written: &mut watch::Receiver<Written>, deadline: Instant) -> Waited {
    let ended = wait_until(written, |_| false);
    let in_time = tokio::time::timeout_at(deadline.into(), ended).await;
    match &written.borrow().end {
        Some(End::Failed(error)) => {
            tracing::debug!(%error, "the model did not answer");
            Waited::Failed
        }
        _ if in_time.is_err() => Waited::Late,
        _ => Waited::InTime,
    }
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
    /// Makes it the newest of its document.
    pub(super) fn begin(inner: Arc<Inner>, ask: Ask) -> Self {
        let id = inner.id();
        let line = ask.document.text.byte_to_line(ask.offset);
        let required = required(&ask);
        let place = Place {
            offset: ask.offset,
            line,
            version: ask.document.version,
            required: required.as_deref().unwrap_or_default(),
        };
        let uri = Arc::clone(&ask.document.uri);
        let superseded = inner.live().entry(uri).or_default().begin(id, place);
        Self {
            inner,
            ask,
            id,
            line,
            required,
            superseded,
            asked: Instant::now(),
            settled: false,
        }
    }

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
        let Some(mut written) = self.ask_model(engines, around, lookup).await else {
            return kept.or_else(|| self.ask_local(engines, around));
        };
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
                let generation = self
                    .generation(engines, around, extent, variant, found.clone())
                    .await?;
                let mut written = generation.watch();
                let deadline = self.asked + INVOKED_DEADLINE;
                let waited = wait_for_end(&mut written, deadline).await;
                let rest = shown_of(written.borrow().text.clone(), waited);
                let fitting = rest.map(|rest| Fitting {
                    rest,
                    source: Source::Model,
                    confidence: None,
                    extent,
                    shown: None,
                });
                Some((fitting.and_then(|f| self.item(&f, around)), waited))
            });
            let written = join_all(variants).await;
            let written: Vec<(Option<Item>, Waited)> = written.into_iter().flatten().collect();
            if let Some((_, waited)) = written.first()
                && written.iter().all(|(item, _)| item.is_none())
            {
                self.count(*waited);
            }
            items.extend(written.into_iter().filter_map(|(item, _)| item));
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
        let generation = self.generation(engines, around, extent, 0, found).await?;
        let written = generation.watch();
        self.with_live(|live| live.add(generation));
        Some(written)
    }

    async fn generation(
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
        let similar = &self.inner.similar;
        let context = context::gather(snapshot, document, *offset, required, similar, found)?;
        let stream = engines.ask_model(context, extent, variant)?;
        // The question goes out before the text around is looked through for brackets.
        tokio::task::yield_now().await;
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
        let waited = wait_for_end(written, self.deadline(engines)).await;
        self.count(waited);
        let place = self.place();
        let mut fitting = self.with_live(|live| live.written_for(place))?;
        fitting.rest = shown_of(fitting.rest, waited)?;
        self.item(&fitting, around)
    }

    /// Counts what went wrong with the model's answer to this request.
    fn count(&self, waited: Waited) {
        match waited {
            Waited::InTime => {}
            Waited::Late => self.inner.metrics.count(|c| c.model_late += 1),
            Waited::Failed => self.inner.metrics.count(|c| c.model_failed += 1),
        }
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
        if text.contains(secret::MARK) {
            // What a model was given in the place of a secret is nothing to write down.
            return None;
        }
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

    /// Notes the first suggestion as the one on screen; `None` when the document has moved on. One
    /// that says what is on screen already is the same, whoever wrote it.
    fn show(&self, mut items: Vec<Item>) -> Option<Vec<Item>> {
        let document = &self.ask.document;
        let now = Instant::now();
        let mut all = self.inner.live();
        let live = all.get_mut(&document.uri)?;
        if self.superseded.is_cancelled() {
            return None;
        }
        if let Some(item) = items.first_mut()
            && let Some(shown) = live.shown_mut()
            && shown.left(self.place()) == Some(&*with_lf(&item.text[item.typed..]))
        {
            item.id = shown.id;
            (shown.source, shown.confidence) = (item.source, item.confidence);
        }
        let first = items.first();
        let stays = first.is_some_and(|item| live.shown().is_some_and(|shown| shown.id == item.id));
        let replaced = match first {
            _ if stays => None,
            None => live.hide(),
            Some(item) => live.show(Shown {
                id: item.id,
                text: with_lf(&item.text[item.typed..]).into_owned(),
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
        match self.inner.live().get_mut(&self.ask.document.uri) {
            Some(live) => read(live),
            // It was closed, and is not to come back to life by what was asked before.
            None => read(&mut Live::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Completer;
    use super::*;
    use crate::session::Session;
    use crate::session::document::{Change, Document, Position};

    fn opened() -> (Arc<Session>, Completer) {
        let session = Arc::new(Session::default());
        session.open(Document::new("untitled:a", "text", 1, "a = "));
        let completer = Completer::new(Arc::clone(&session), Engines::default());
        (session, completer)
    }

    fn begin(session: &Session, completer: &Completer) -> Request {
        let snapshot = session.snapshot();
        let document = Arc::clone(&snapshot.documents[0]);
        completer.begin(Ask {
            snapshot,
            offset: document.text.len_bytes(),
            document,
            trigger: Trigger::Automatic,
            selected: None,
        })
    }

    /// Answers with `text`, as a suggestion of this name; returns the name it has then.
    fn show(session: &Session, completer: &Completer, id: u64, text: &str) -> u64 {
        let request = begin(session, completer);
        let offset = request.ask.offset;
        let item = Item {
            id,
            range: 0..offset,
            text: text.into(),
            typed: offset,
            source: Source::Local,
            confidence: None,
            reused: false,
        };
        request.show(vec![item]).unwrap()[0].id
    }

    #[test]
    fn what_says_the_same_as_what_is_on_screen_is_the_same() {
        let (session, completer) = opened();
        assert_eq!(show(&session, &completer, 1, "a = f(x)"), 1);
        completer.was_shown(1);
        assert_eq!(show(&session, &completer, 2, "a = f(x)"), 1);
        let at = Position { line: 0, column: 4 };
        let typed = Change {
            range: Some(at..at),
            text: "f".into(),
        };
        completer.edited(&session.change("untitled:a", 2, &[typed]).unwrap());
        assert_eq!(show(&session, &completer, 3, "a = f(x)"), 1);
        let counts = completer.metrics().report().counts;
        assert_eq!((counts.shown, counts.rejected), (1, 0));
        assert_eq!(show(&session, &completer, 4, "a = f(y)"), 4);
        let counts = completer.metrics().report().counts;
        assert_eq!((counts.shown, counts.rejected), (1, 1));
    }

    #[test]
    fn a_document_that_was_closed_is_not_kept_for_a_request_from_before() {
        let (session, completer) = opened();
        let request = begin(&session, &completer);
        completer.closed(&request.ask.document);
        assert!(request.superseded.is_cancelled());
        assert!(!request.with_live(|live| live.just_accepted()));
        assert!(completer.inner.live().is_empty());
    }

    #[tokio::test]
    async fn a_suggestion_is_counted_once_by_the_best_that_became_of_it() {
        let (session, completer) = opened();
        show(&session, &completer, 1, "a = f(x)");
        // What is told, and what is counted then: in part, whole, turned down, characters.
        let all = "a = f(x)".len() as u64;
        let told: [(&dyn Fn(), [u64; 4]); 6] = [
            (&|| completer.was_partially_accepted(1, 6), [1, 0, 0, 2]),
            (&|| completer.was_partially_accepted(1, 7), [1, 0, 0, 3]),
            (&|| completer.was_partially_accepted(1, 7), [1, 0, 0, 3]),
            (&|| completer.was_partially_accepted(1, all), [0, 1, 0, 4]),
            (&|| completer.was_accepted(1), [0, 1, 0, 4]),
            (&|| completer.was_rejected(1), [0, 1, 0, 4]),
        ];
        for (n, (tell, expected)) in told.into_iter().enumerate() {
            tell();
            let report = completer.metrics().report();
            let counts = report.counts;
            let became = [
                counts.partially_accepted,
                counts.accepted,
                counts.rejected,
                counts.accepted_characters,
            ];
            assert_eq!(became, expected, "{n}");
            assert_eq!(report.accept_rate, Some(1.0), "{n}");
        }
    }
}
