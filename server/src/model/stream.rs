//! The text of one completion as it comes, for any number of readers.
//!
//! Holds: an upstream request runs as long as one reader is left; when the last one is dropped
//! it is cancelled at the server. A reader that joins late gets the text from its beginning.
//! Memory is the text itself, which `model::exchange` bounds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::exchange::Finish;
use super::failure::{Failure, ModelError};
use super::request::FimRequest;

/// Identical requests within this time share one upstream request: editors ask twice for one
/// keystroke (menu and ghost text).
const SHARED_WITHIN: Duration = Duration::from_millis(20);

/// A completion under way. Dropping it cancels, unless another reader shares it.
#[derive(Debug)]
pub struct CompletionStream {
    progress: watch::Receiver<Progress>,
    /// Bytes of text already returned.
    returned: usize,
    deadline: Option<Instant>,
    upstream: Option<Arc<Upstream>>,
    place: Arc<str>,
}

/// A whole completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    pub text: String,
    pub finish: Finish,
}

/// What is known of an upstream request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) text: String,
    pub(super) end: Option<Result<Finish, ModelError>>,
}

/// Cancels the upstream request when its last reader is gone.
#[derive(Debug)]
pub(super) struct Upstream {
    task: AbortHandle,
    progress: watch::Receiver<Progress>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub(super) fn new(task: AbortHandle, progress: watch::Receiver<Progress>) -> Arc<Self> {
        Arc::new(Self { task, progress })
    }
}

impl CompletionStream {
    pub(super) fn of(upstream: Arc<Upstream>, deadline: Option<Instant>, place: &Arc<str>) -> Self {
        let progress = upstream.progress.clone();
        Self {
            progress,
            returned: 0,
            deadline,
            upstream: Some(upstream),
            place: Arc::clone(place),
        }
    }

    /// A stream that has failed already.
    pub(super) fn failed(error: ModelError) -> Self {
        let place = Arc::clone(&error.place);
        let progress = Progress {
            text: String::new(),
            end: Some(Err(error)),
        };
        let (_, progress) = watch::channel(progress);
        Self {
            progress,
            returned: 0,
            deadline: None,
            upstream: None,
            place,
        }
    }

    /// Returns the next piece of text, `None` at the end. Cancel safe. Pieces that came together
    /// are returned together.
    ///
    /// # Errors
    /// Why the text ends early; what came before has been returned and can be used. After
    /// [`Failure::Late`] the request is cancelled unless others read it.
    pub async fn next(&mut self) -> Result<Option<String>, ModelError> {
        loop {
            {
                let progress = self.progress.borrow_and_update();
                if progress.text.len() > self.returned {
                    let piece = progress.text[self.returned..].to_owned();
                    self.returned = progress.text.len();
                    return Ok(Some(piece));
                }
                match &progress.end {
                    Some(Ok(_)) => return Ok(None),
                    Some(Err(error)) => return Err(error.clone()),
                    None => {}
                }
            }
            let changed = match self.deadline {
                Some(deadline) => timeout_at(deadline, self.progress.changed()).await,
                None => Ok(self.progress.changed().await),
            };
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) if self.progress.borrow().end.is_some() => {}
                Ok(Err(_)) => {
                    let lost = Failure::Bug("the request was lost".to_owned());
                    return Err(ModelError::new(lost, &self.place));
                }
                Err(_) => {
                    self.upstream = None;
                    return Err(ModelError::new(Failure::Late, &self.place));
                }
            }
        }
    }

    /// Returns all text that has come so far, without waiting.
    pub fn so_far(&self) -> String {
        self.progress.borrow().text.clone()
    }

    /// Returns how the text ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.progress.borrow().end.as_ref()?.as_ref().ok().cloned()
    }

    /// Waits for the whole text.
    ///
    /// # Errors
    /// As [`CompletionStream::next`]; the text before the error is lost.
    pub async fn whole(mut self) -> Result<Completion, ModelError> {
        while self.next().await?.is_some() {}
        let progress = self.progress.borrow();
        match &progress.end {
            Some(Ok(finish)) => Ok(Completion {
                text: progress.text.clone(),
                finish: finish.clone(),
            }),
            Some(Err(error)) => Err(error.clone()),
            None => Err(ModelError::new(
                Failure::Bug("a text without end".to_owned()),
                &self.place,
            )),
        }
    }
}

/// The requests of the last moment, for those who ask the same.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    at: Instant,
    request: Arc<FimRequest>,
    upstream: Weak<Upstream>,
}

impl Recent {
    /// Returns the upstream request that answers `request`, from `start` unless one that asks
    /// the same is a moment old. The flag says whether it is shared.
    pub(super) fn join_or(
        &self,
        request: &Arc<FimRequest>,
        start: impl FnOnce() -> Result<Arc<Upstream>, ModelError>,
    ) -> Result<(Arc<Upstream>, bool), ModelError> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.at.elapsed() < SHARED_WITHIN);
        let shared = entries
            .iter()
            .filter(|entry| entry.request.asks_the_same(request))
            .find_map(|entry| entry.upstream.upgrade());
        if let Some(upstream) = shared {
            return Ok((upstream, true));
        }
        let upstream = start()?;
        let entry = Entry {
            at: Instant::now(),
            request: Arc::clone(request),
            upstream: Arc::downgrade(&upstream),
        };
        entries.push(entry);
        Ok((upstream, false))
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
