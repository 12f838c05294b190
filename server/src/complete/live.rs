//! What is going on for one document: the newest request, the texts being written or kept for it,
//! and the suggestion on screen.
//!
//! Holds: at most one request is the newest, and every older one has been told to stop. A stream
//! survives its request only while it has said something that the user's typing agrees with;
//! otherwise it is dropped at once, which resets it at the model. What is on screen is replaced
//! only by text that extends it, or after the user typed.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Source;
use super::generation::{Generation, Written};
use super::metrics::VISIBLE;
use super::rhythm::Rhythm;
use super::track::{Fate, Track};
use super::trim::Extent;
use crate::session::document::Edit;

/// Finished texts that are kept for a document, newest first.
const KEPT: usize = 16;
/// A suggestion of the embedded engine that is surer than this stays while its text is typed,
/// even when a model says something else.
const SURE: f32 = 0.75;

/// Where a suggestion is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub offset: usize,
    pub line: usize,
    pub version: i32,
    /// Text that the suggestion must start with: what a selected menu item would insert.
    pub required: &'a str,
}

/// The suggestion that was answered last.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: u64,
    /// Lines end with `\n`.
    pub text: String,
    pub source: Source,
    pub confidence: Option<f32>,
    pub extent: Extent,
    pub track: Track,
    pub at: Instant,
    /// The client said that it is on screen.
    pub confirmed: bool,
    pub accepted: bool,
}

impl Shown {
    /// Whether it was on screen long enough to be seen.
    pub fn was_seen(&self, now: Instant) -> bool {
        self.confirmed || self.accepted || now.saturating_duration_since(self.at) >= VISIBLE
    }

    /// What is left of it at `place`; `None` when it is gone there.
    pub fn left(&self, place: Place) -> Option<&str> {
        self.track.rest(&self.text, place.offset, place.version)
    }
}

/// What an edit did to the suggestion on screen.
#[derive(Debug)]
pub enum Event {
    /// All that was left of it was inserted at once.
    Accepted(Shown),
    /// It is no longer on screen.
    Ended(Shown),
}

/// A text that fits a place.
#[derive(Debug, Clone)]
pub struct Fitting {
    /// What is left of it at the place.
    pub rest: String,
    pub source: Source,
    pub confidence: Option<f32>,
    pub extent: Extent,
    /// Set when it is what is on screen.
    pub shown: Option<u64>,
}

/// What there is for a place without asking anyone.
#[derive(Debug)]
pub enum Found {
    /// A text that is all there.
    Text(Fitting),
    /// A stream that agrees so far; more of it is coming.
    Growing(watch::Receiver<Written>),
    Nothing,
}

#[derive(Debug, Default)]
pub struct Live {
    newest: u64,
    superseded: CancellationToken,
    generations: Vec<Generation>,
    shown: Option<Shown>,
    rhythm: Rhythm,
    /// The last edit took a whole suggestion.
    just_accepted: bool,
}

impl Live {
    /// Makes `request` the newest one at `place`: older ones are told to stop, and streams that
    /// the new one cannot use are dropped. Returns what tells `request` to stop in its turn.
    pub fn begin(&mut self, request: u64, place: Place) -> CancellationToken {
        self.superseded.cancel();
        self.superseded = CancellationToken::new();
        self.newest = request;
        for generation in &mut self.generations {
            if generation.is_streaming() && serves(generation, place) {
                generation.owner = request;
            }
        }
        self.generations
            .retain(|g| !g.is_streaming() || g.owner == request);
        self.superseded.clone()
    }

    /// Forgets a request that its client took back: its stream ends, unless what it said so far
    /// is just what the user has been typing since.
    pub fn cancelled(&mut self, request: u64) {
        self.generations.retain(|g| {
            let typed_on = !g.track.typed().is_empty() && !g.written().text.is_empty();
            g.owner != request || !g.is_streaming() || typed_on
        });
    }

    /// Follows the edits of one change to `version`. Answers to requests for the text before are
    /// stale from now on, so they are told to stop.
    pub fn edited(&mut self, edits: &[Edit], version: i32, now: Instant) -> Option<Event> {
        self.superseded.cancel();
        self.rhythm.edited(now);
        self.generations.retain_mut(|g| {
            if !follow(&mut g.track, edits, version) {
                return false;
            }
            let written = g.written();
            written.end.is_some() || g.track.agrees(&written.text)
        });
        self.just_accepted = false;
        let mut shown = self.shown.take()?;
        let left = shown.text.len() - shown.track.typed().len().min(shown.text.len());
        let alive = follow(&mut shown.track, edits, version);
        let whole = alive && shown.track.typed().starts_with(&shown.text);
        self.just_accepted = whole && left >= 2 && edits.len() == 1;
        if self.just_accepted {
            return Some(Event::Accepted(shown));
        }
        if alive && !whole && shown.track.agrees(&shown.text) {
            self.shown = Some(shown);
            return None;
        }
        Some(Event::Ended(shown))
    }

    /// How long the newest request should wait for another keystroke before a model is asked.
    pub fn delay(&self) -> Duration {
        self.rhythm.delay()
    }

    /// Whether the last edit was a moment ago.
    pub fn is_typing(&self, now: Instant) -> bool {
        self.rhythm.is_typing(now)
    }

    pub fn just_accepted(&self) -> bool {
        self.just_accepted
    }

    pub fn add(&mut self, generation: Generation) {
        self.generations.push(generation);
        while self
            .generations
            .iter()
            .filter(|g| !g.is_streaming())
            .count()
            > KEPT
        {
            let Some(oldest) = self.generations.iter().position(|g| !g.is_streaming()) else {
                break;
            };
            self.generations.remove(oldest);
        }
    }

    /// Finds the best text for `place` among what is there.
    pub fn find(&self, place: Place) -> Found {
        let shown = self.shown.as_ref().and_then(|shown| {
            let rest = rest(&shown.text, &shown.track, place)?;
            let Shown {
                source,
                confidence,
                extent,
                id,
                ..
            } = *shown;
            Some((
                Fitting {
                    rest,
                    source,
                    confidence,
                    extent,
                    shown: Some(id),
                },
                &shown.track,
            ))
        });
        let growing = self
            .generations
            .iter()
            .rev()
            .find(|g| g.is_streaming() && serves(g, place))
            .map(Generation::watch);
        // What the embedded engine said while a model was late does not hide what that said.
        let fitting = [Source::Model, Source::Local]
            .into_iter()
            .find_map(|source| self.newest(place, |g| g.source == source && !g.is_streaming()));
        match (shown, fitting, growing) {
            (Some((shown, track)), Some(fitting), _) if may_replace(&shown, track, &fitting) => {
                Found::Text(fitting)
            }
            (Some((shown, _)), _, None) => Found::Text(shown),
            (Some((shown, _)), _, Some(_)) if is_kept(&shown) => Found::Text(shown),
            (_, _, Some(growing)) => Found::Growing(growing),
            (None, Some(fitting), None) => Found::Text(fitting),
            (None, None, None) => Found::Nothing,
        }
    }

    /// The newest text of a model for `place`, as far as it is written.
    pub fn written_for(&self, place: Place) -> Option<Fitting> {
        self.newest(place, |g| g.source == Source::Model)
    }

    fn newest(&self, place: Place, is_wanted: impl Fn(&Generation) -> bool) -> Option<Fitting> {
        let mut wanted = self.generations.iter().rev().filter(|g| is_wanted(g));
        wanted.find_map(|g| {
            let rest = rest(&g.written().text, &g.track, place)?;
            Some(Fitting {
                rest,
                source: g.source,
                confidence: g.confidence,
                extent: g.extent,
                shown: None,
            })
        })
    }

    /// Puts a suggestion on screen; returns the one it takes the place of.
    pub fn show(&mut self, shown: Shown) -> Option<Shown> {
        self.shown.replace(shown)
    }

    pub fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    pub fn shown_mut(&mut self) -> Option<&mut Shown> {
        self.shown.as_mut()
    }

    /// Takes the suggestion off the screen.
    pub fn hide(&mut self) -> Option<Shown> {
        self.shown.take()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.superseded.cancel();
    }
}

/// Whether what is on screen stays even if a model, asked anew, said something else.
pub fn is_kept(shown: &Fitting) -> bool {
    shown.source == Source::Model || shown.confidence.is_some_and(|c| c >= SURE)
}

fn may_replace(shown: &Fitting, track: &Track, by: &Fitting) -> bool {
    let extends = by.rest.len() > shown.rest.len() && by.rest.starts_with(&shown.rest);
    let typed = !track.typed().is_empty();
    extends || (typed && by.source == Source::Model && !is_kept(shown))
}

/// Whether a stream is of use at `place`: it was started for just this place and text, or what it
/// said so far agrees with what was typed since.
fn serves(generation: &Generation, place: Place) -> bool {
    let Some(typed) = generation.track.typed_at(place.offset, place.version) else {
        return false;
    };
    let wanted = format!("{typed}{}", place.required);
    let written = generation.written();
    match &*written.text {
        "" => wanted.is_empty(),
        text => text.starts_with(&wanted) || wanted.starts_with(text),
    }
}

/// What is left of `text` at `place`; `None` when it does not fit or nothing is left.
fn rest(text: &str, track: &Track, place: Place) -> Option<String> {
    let rest = track.rest(text, place.offset, place.version)?;
    (rest.len() > place.required.len() && rest.starts_with(place.required)).then(|| rest.to_owned())
}

fn follow(track: &mut Track, edits: &[Edit], version: i32) -> bool {
    let alive = edits.iter().all(|edit| track.edited(edit) == Fate::Alive);
    track.reached(version);
    alive
}

#[cfg(test)]
mod tests;
