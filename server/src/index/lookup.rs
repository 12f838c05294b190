//! What a completion is given of other files, found on a thread of its own.
//!
//! Holds: a request never waits longer than [`PATIENCE`], and not at all while the cursor stays
//! where snippets were found for a keystroke ago; those are shown again while new ones are looked
//! up for the next keystroke. This also keeps the start of the prompt the same, which the model's
//! cache likes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use crate::context::Snippet;

/// How long a completion waits for snippets of the repository.
const PATIENCE: Duration = Duration::from_millis(3);
/// Snippets found for a cursor so many lines away and so long ago still serve.
const NEAR_LINES: usize = 3;
const FRESH: Duration = Duration::from_secs(10);
/// Looked up on this line so short a time ago, they are not looked up again.
const NEW: Duration = Duration::from_millis(300);
/// What only the next keystroke will use is looked up this much later, when the request is on its
/// way to the model: at once, it would take the core that the request needs.
const AFTER_ASKING: Duration = Duration::from_millis(5);
/// Documents remembered; a lookup may end after its document was closed.
const MAX_PLACES: usize = 64;

/// The last lookup of each open document.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<FxHashMap<Arc<str>, Place>>>);

#[derive(Debug)]
struct Place {
    line: usize,
    looked_up: Instant,
    snippets: Arc<[Snippet]>,
}

impl Recent {
    /// Runs `find`, which gives up at the time it is handed, off this thread. Must be called
    /// within a tokio runtime.
    pub(super) fn look_up(
        &self,
        uri: &Arc<str>,
        line: usize,
        find: impl FnOnce(Instant) -> Vec<Snippet> + Send + 'static,
    ) -> Lookup {
        let now = Instant::now();
        let (tell, coming) = watch::channel(None);
        let (mut at_hand, mut is_new) = (None, false);
        if let Some(place) = self.places().get(uri) {
            let age = now.saturating_duration_since(place.looked_up);
            let serves = place.line.abs_diff(line) <= NEAR_LINES && age < FRESH;
            at_hand = serves.then(|| Arc::clone(&place.snippets));
            is_new = place.line == line && age < NEW;
        }
        if is_new {
            return Lookup { at_hand, coming };
        }
        let (recent, uri_found) = (self.clone(), Arc::clone(uri));
        let find = move || {
            let looked_up = Instant::now();
            let snippets: Arc<[Snippet]> = find(looked_up + PATIENCE).into();
            let place = Place {
                line,
                looked_up,
                snippets: Arc::clone(&snippets),
            };
            recent.keep(uri_found, place);
            tell.send_replace(Some(snippets));
        };
        if at_hand.is_some() {
            tokio::spawn(async move {
                tokio::time::sleep(AFTER_ASKING).await;
                tokio::task::spawn_blocking(find);
            });
        } else {
            tokio::task::spawn_blocking(find);
        }
        Lookup { at_hand, coming }
    }

    fn keep(&self, uri: Arc<str>, place: Place) {
        let mut places = self.places();
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        places.insert(uri, place);
    }

    pub(super) fn forget(&self, uri: &Arc<str>) {
        self.places().remove(uri);
    }

    fn places(&self) -> MutexGuard<'_, FxHashMap<Arc<str>, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Snippets at hand or on their way.
#[derive(Debug)]
pub struct Lookup {
    at_hand: Option<Arc<[Snippet]>>,
    coming: watch::Receiver<Option<Arc<[Snippet]>>>,
}

impl Lookup {
    pub(super) fn nothing() -> Self {
        Self {
            at_hand: Some(Arc::default()),
            coming: watch::channel(None).1,
        }
    }

    /// Returns what is at hand, or waits a little; late is nothing.
    pub async fn take(self) -> Vec<Snippet> {
        if let Some(snippets) = &self.at_hand {
            return snippets.to_vec();
        }
        tokio::time::timeout(PATIENCE, self.take_late())
            .await
            .unwrap_or_default()
    }

    /// Waits for what is found now, as long as it takes; for showing what would be sent.
    pub async fn take_late(mut self) -> Vec<Snippet> {
        let found = match self.coming.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            // Nothing is looked up: what is at hand is new.
            Err(_) => self.at_hand,
        };
        found.as_deref().map(<[_]>::to_vec).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::context::Reason;

    fn found(text: &str) -> Vec<Snippet> {
        vec![Snippet {
            path: "a.rs".into(),
            line: 0,
            text: text.into(),
            reason: Reason::Repository,
        }]
    }

    #[tokio::test]
    async fn what_was_found_close_by_is_there_at_once_and_elsewhere_late_is_nothing() {
        let (recent, uri) = (Recent::default(), Arc::from("file:///b.rs"));
        let first = recent.look_up(&uri, 10, |_| found("fn near() {}"));
        assert_eq!(first.take_late().await, found("fn near() {}"));
        let again = recent.look_up(&uri, 10, |_| panic!("it was looked up just now"));
        assert_eq!(again.take_late().await, found("fn near() {}"));
        for (line, wanted) in [
            (11, found("fn near() {}")),
            (10 + 3 * NEAR_LINES, Vec::new()),
        ] {
            let (go_on, may_go_on) = mpsc::channel();
            let lookup = recent.look_up(&uri, line, move |_| {
                may_go_on.recv().unwrap();
                found("fn near() {}")
            });
            assert_eq!(lookup.take().await, wanted, "line {line}");
            go_on.send(()).unwrap();
        }
    }
}
