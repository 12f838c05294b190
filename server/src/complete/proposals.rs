//! Next edits as they are proposed: found by rules, else by a model; and what became of them.
//!
//! Holds: what was turned down is not proposed again; a question to a model ends, at the model
//! too, when a document is edited, when the next is asked, and when it takes too long.
//! Not here: what follows from a rewrite (`next_edit`).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::next_edit::model::{MAX_ANSWER, Question};
use super::next_edit::{Change, NextEdit, next_edit};
use super::{Completer, Engines};
use crate::model::{Reply, TurnEnd, TurnEvent, TurnModel};
use crate::session::Snapshot;
use crate::session::document::Document;

/// Proposals that can still be told to have been taken or turned down, and changes that are not
/// wanted.
const REMEMBERED: usize = 64;
/// A model may take this long: the user reads meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was proposed, and questions that are under way.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    remembered: Mutex<Remembered>,
    moved_on: Notify,
}

impl Proposals {
    /// Ends the questions under way: what they are about is no longer the last. Cheap.
    pub(super) fn moved_on(&self) {
        self.moved_on.notify_waiters();
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Remembered {
    made: VecDeque<(u64, Change)>,
    unwanted: VecDeque<Change>,
}

impl Remembered {
    fn add(&mut self, id: u64, change: Change) {
        self.made.push_front((id, change));
        self.made.truncate(REMEMBERED);
    }

    /// Notes that a proposal was taken; `false` when it is not known, or was answered already.
    fn accepted(&mut self, id: u64) -> bool {
        self.take(id).is_some()
    }

    /// Notes that a proposal was turned down; `false` as for [`accepted`](Self::accepted).
    fn rejected(&mut self, id: u64) -> bool {
        let Some(change) = self.take(id) else {
            return false;
        };
        self.unwanted.push_front(change);
        self.unwanted.truncate(REMEMBERED);
        true
    }

    fn take(&mut self, id: u64) -> Option<Change> {
        let at = self.made.iter().position(|(made, _)| *made == id)?;
        Some(self.made.remove(at)?.1)
    }
}

impl Completer {
    /// Finds the edit that follows elsewhere from what was rewritten last, seen from byte `cursor`
    /// of `at`, and names it.
    pub async fn next_edit(
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
        let found = match self.by_rules(&engines, snapshot, at, cursor).await {
            Some(found) => found,
            None => self.by_model(&engines, snapshot, at, cursor).await?,
        };
        let id = self.inner.id();
        let proposals = &self.inner.next_edits;
        proposals.remembered().add(id, found.change.clone());
        self.inner.metrics.count(|c| c.next_edits_proposed += 1);
        Some((id, found))
    }

    async fn by_rules(
        &self,
        engines: &Arc<Engines>,
        snapshot: &Snapshot,
        at: &Arc<Document>,
        cursor: usize,
    ) -> Option<NextEdit> {
        let (inner, engines) = (Arc::clone(&self.inner), Arc::clone(engines));
        let (snapshot, at) = (snapshot.clone(), Arc::clone(at));
        let found = spawn_blocking(move || {
            let defines = |name: &str| {
                let index = engines.index.as_ref();
                index.is_some_and(|index| index.defines(&snapshot.roots, name))
            };
            // A copy: commands that tell what became of a proposal do not wait for the search.
            let unwanted = inner.next_edits.remembered().unwanted.clone();
            let is_unwanted = |change: &Change| unwanted.contains(change);
            next_edit(&snapshot, &at, cursor, defines, is_unwanted)
        });
        found.await.ok().flatten()
    }

    /// Asks the model of `models.edit`; `None` without one.
    async fn by_model(
        &self,
        engines: &Engines,
        snapshot: &Snapshot,
        at: &Arc<Document>,
        cursor: usize,
    ) -> Option<NextEdit> {
        let model = engines.models.edit.as_ref()?;
        let proposals = &self.inner.next_edits;
        proposals.moved_on();
        let mut moved_on = pin!(proposals.moved_on.notified());
        moved_on.as_mut().enable();
        // A key that came before this could not end it.
        let now = self.inner.session.snapshot();
        let is_current = |known: &Arc<Document>| {
            let now = now.document(&known.uri);
            now.is_some_and(|now| Arc::ptr_eq(now, known))
        };
        if !snapshot.documents.iter().all(is_current) {
            return None;
        }
        let (seen, place) = (snapshot.clone(), Arc::clone(at));
        let found = async {
            let question = spawn_blocking(move || Question::new(&seen, &place, cursor));
            let question = question.await.ok().flatten()?;
            let answer = answer(model, &question).await?;
            let read = spawn_blocking(move || question.read(&answer));
            read.await.ok().flatten()
        };
        let found = tokio::select! {
            () = moved_on => None,
            found = tokio::time::timeout(PATIENCE, found) => found.ok().flatten(),
        }?;
        let is_unwanted = proposals.remembered().unwanted.contains(&found.change);
        (!is_unwanted).then_some(found)
    }

    /// Notes that a next edit was made.
    pub fn next_edit_was_accepted(&self, id: u64) {
        if self.inner.next_edits.remembered().accepted(id) {
            self.inner.metrics.count(|c| c.next_edits_accepted += 1);
        }
    }

    /// Notes that a next edit is not wanted, wherever the same is left to be done.
    pub fn next_edit_was_rejected(&self, id: u64) {
        if self.inner.next_edits.remembered().rejected(id) {
            self.inner.metrics.count(|c| c.next_edits_rejected += 1);
        }
    }
}

/// Returns what a model answers to its end; `None` when it does not, or not at once: late is wrong.
async fn answer(model: &TurnModel, question: &Question) -> Option<String> {
    let mut stream = model.turn(question.request());
    let mut reply = Reply::default();
    while let Some(event) = stream.next().await {
        let event = event
            .inspect_err(|error| tracing::debug!(%error, "no next edit"))
            .ok()?;
        reply.take(&event);
        let is_late = matches!(event, TurnEvent::Retry { .. });
        if is_late || reply.text.len() > MAX_ANSWER {
            return None;
        }
    }
    (reply.end == Some(TurnEnd::Stop)).then_some(reply.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_turned_down_is_unwanted_once_and_for_all() {
        let change = Change::Name {
            old: "area".into(),
            new: "surface".into(),
        };
        let mut remembered = Remembered::default();
        remembered.add(7, change.clone());
        assert!(!remembered.unwanted.contains(&change));
        assert!(remembered.rejected(7) && !remembered.rejected(7) && !remembered.accepted(7));
        assert!(remembered.unwanted.contains(&change));
    }
}
