//! Leaves a failing endpoint alone for a while, and says why.
//!
//! Holds: after [`FAILURES`] failures in a row, or one that will not heal by itself (a refused
//! key, an unknown model, a rate limit), requests are refused at once until a pause is over;
//! then one request is let through to find out, and the pause grows if it fails too. A pause
//! costs no timer. Cancelled requests are no failures, but when patient ones have waited for
//! [`SILENCE`] without any answer, that is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::failure::{Failure, ModelError};
use crate::error::UserError;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 3;

/// Waiting without an answer that counts as a failure: time during which any patient request
/// waited that was dropped in the end, however many did at once.
const SILENCE: Duration = Duration::from_secs(10);

/// A request that was dropped sooner says nothing of the server: the user typed on.
const PATIENT: Duration = Duration::from_secs(1);

/// First and longest pause. The first is short: most failures are a server being restarted.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// First pause after a failure that someone has to repair.
const REPAIR_PAUSE: Duration = Duration::from_secs(15);

/// A server's own wish (`Retry-After`) is followed up to this.
const LONGEST_WISH: Duration = Duration::from_secs(10 * 60);

/// The state of an endpoint, for status lines and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Not asked yet.
    #[default]
    Unknown,
    /// The last request was answered.
    Ready,
    /// The last request failed; the next is sent all the same.
    Failing { why: Arc<UserError> },
    /// Left alone until the time given.
    Paused { why: Arc<UserError>, until: Instant },
}

/// Decides whether an endpoint is asked.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    health: watch::Sender<Health>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When the last of them was.
    failed: Option<Instant>,
    pauses: u32,
    unanswered: Duration,
    /// End of what `unanswered` counts, so that no time counts twice.
    counted: Option<Instant>,
    /// Set while paused; also while the one request that finds out is under way.
    paused: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    why: ModelError,
    trying: bool,
}

/// The right to send one request. Report its first piece with [`Permit::begun`] and the outcome with
/// [`Permit::answered`] or [`Permit::failed`]; dropping it says that the request was cancelled before either.
#[derive(Debug)]
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    since: Instant,
    trial: bool,
    open: bool,
}

impl Breaker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            health: watch::Sender::new(Health::Unknown),
        })
    }

    /// Returns a permit to send a request now.
    ///
    /// # Errors
    /// [`Failure::Paused`] with the reason, at the endpoint's place.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Permit, ModelError> {
        let now = Instant::now();
        let mut state = self.state();
        let mut trial = false;
        if let Some(pause) = &mut state.paused {
            if pause.trying || now < pause.until {
                let retry_in = pause.until.saturating_duration_since(now);
                let reason = pause.why.to_string();
                let paused =
                    ModelError::new(Failure::Paused { reason, retry_in }, &pause.why.place);
                return Err(paused.of(pause.why.section));
            }
            pause.trying = true;
            trial = true;
        }
        Ok(Permit {
            breaker: Arc::clone(self),
            since: now,
            trial,
            open: true,
        })
    }

    /// Whether what the endpoint is left alone for can pass by itself, so that waiting helps.
    pub(super) fn may_pass(&self) -> bool {
        let state = self.state();
        state
            .paused
            .as_ref()
            .is_none_or(|pause| pause.why.failure.may_pass())
    }

    /// Takes note of an answer that came without a permit, to what was asked at `asked`. An
    /// answer says nothing against a failure that came after its question.
    pub(super) fn answered(&self, asked: Instant) {
        let mut state = self.state();
        if state.failed.is_some_and(|failed| failed > asked) {
            return;
        }
        *state = State::default();
        self.tell(Health::Ready);
    }

    /// Takes note of a failure that came without a permit.
    pub(super) fn failed(&self, error: &ModelError) {
        self.record(&mut self.state(), error);
    }

    /// Returns the state of the endpoint as it changes.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, health: Health) {
        self.health.send_if_modified(|known| {
            let changed = *known != health;
            *known = health;
            changed
        });
    }

    fn record(&self, state: &mut State, error: &ModelError) {
        let why = Arc::new(error.user_error());
        if matches!(error.failure, Failure::Withheld(_)) {
            // It was not asked.
            self.tell(Health::Failing { why });
            return;
        }
        let now = Instant::now();
        state.failed = Some(now);
        state.failures += 1;
        state.unanswered = Duration::ZERO;
        let Some(pause) = pause_after(&error.failure, state.failures, state.pauses) else {
            self.tell(Health::Failing { why });
            return;
        };
        state.pauses += 1;
        let until = now + pause;
        tracing::info!(place = %error.place, ?pause, "leaving a failing model endpoint alone");
        state.paused = Some(Pause {
            until,
            why: error.clone(),
            trying: false,
        });
        self.tell(Health::Paused { why, until });
    }
}

impl Permit {
    /// The endpoint answered: whatever was wrong is over.
    pub(super) fn answered(mut self) {
        self.open = false;
        self.breaker.answered(self.since);
    }

    /// The endpoint has begun to answer: a trial keeps nobody waiting for its end. What was counted
    /// against the endpoint is forgotten only with [`answered`](Self::answered).
    pub(super) fn begun(&mut self) {
        if !std::mem::take(&mut self.trial) {
            return;
        }
        let mut state = self.breaker.state();
        // A failure of another request that came later keeps its pause.
        if state.failed.is_none_or(|failed| failed <= self.since) {
            state.paused = None;
            self.breaker.tell(Health::Ready);
        }
    }

    /// The endpoint failed.
    pub(super) fn failed(mut self, error: &ModelError) {
        self.open = false;
        let mut state = self.breaker.state();
        self.give_up_trial(&mut state);
        self.breaker.record(&mut state, error);
    }

    /// The request was dropped before any answer: waiting is what it leaves behind.
    pub(super) fn unanswered(mut self, place: &Arc<str>) {
        self.open = false;
        let mut state = self.breaker.state();
        self.give_up_trial(&mut state);
        let now = Instant::now();
        if now.saturating_duration_since(self.since) >= PATIENT {
            let from = state
                .counted
                .map_or(self.since, |counted| counted.max(self.since));
            state.unanswered += now.saturating_duration_since(from);
            state.counted = Some(now);
        }
        if state.unanswered >= SILENCE {
            let error = ModelError::new(Failure::Silent(state.unanswered), place);
            // Several requests have waited: one silent one would be a failure of its own.
            state.failures = state.failures.max(FAILURES - 1);
            self.breaker.record(&mut state, &error);
        }
    }

    /// One request finds out how the endpoint is; where it did not, the next one may.
    fn give_up_trial(&self, state: &mut State) {
        if self.trial
            && let Some(pause) = &mut state.paused
        {
            pause.trying = false;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            self.give_up_trial(&mut self.breaker.state());
        }
    }
}

/// Returns how long to leave the endpoint alone after its `failures`-th failure in a row, of
/// which `pauses` led to a pause; `None` to ask again at once.
fn pause_after(failure: &Failure, failures: u32, pauses: u32) -> Option<Duration> {
    let grown = |first: Duration| (first * 2_u32.saturating_pow(pauses.min(10))).min(LONGEST_PAUSE);
    match failure {
        Failure::RateLimited {
            retry_after: Some(wish),
            ..
        } => Some((*wish).min(LONGEST_WISH)),
        Failure::RateLimited {
            retry_after: None, ..
        } => Some(jittered(grown(FIRST_PAUSE * 2))),
        Failure::Key(_)
        | Failure::Settings { .. }
        | Failure::Unauthorized { .. }
        | Failure::NotFound { .. }
        | Failure::NotAStream { .. }
        | Failure::Tls(_) => Some(jittered(grown(REPAIR_PAUSE))),
        Failure::Refused
        | Failure::Unresolved
        | Failure::Unreachable
        | Failure::ConnectTimeout(_)
        | Failure::Proxy(_)
        | Failure::Protocol(_)
        | Failure::Rejected { .. }
        | Failure::Faulted { .. }
        | Failure::Garbage(_)
        | Failure::Cut
        | Failure::Endless
        | Failure::Silent(_)
        | Failure::Stalled(_)
        | Failure::Unchecked(_)
        | Failure::Bug(_) => (failures >= FAILURES).then(|| jittered(grown(FIRST_PAUSE))),
        Failure::Late | Failure::Paused { .. } | Failure::TooLong { .. } | Failure::Withheld(_) => {
            None
        }
    }
}

/// Spreads a pause by up to a fifth either way, so that many editors do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(failure: Failure) -> ModelError {
        ModelError::new(failure, &"http://model".into())
    }

    fn fail(breaker: &Arc<Breaker>, failure: Failure) {
        breaker.admit().unwrap().failed(&error(failure));
    }

    fn pause(breaker: &Arc<Breaker>) -> Duration {
        match breaker.admit() {
            Err(ModelError {
                failure: Failure::Paused { retry_in, .. },
                ..
            }) => retry_in,
            other => panic!("not paused: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_sent_says_nothing_of_the_endpoint_and_stops_nothing() {
        let breaker = Breaker::new();
        for _ in 0..2 * FAILURES {
            fail(&breaker, Failure::Withheld("it is secret".into()));
        }
        assert!(matches!(
            &*breaker.health().borrow(),
            Health::Failing { .. }
        ));
        fail(&breaker, Failure::Refused);
        assert!(breaker.admit().is_ok(), "that was the first failure");

        // Of one that is paused, the next request finds out what these did not.
        fail(&breaker, Failure::Refused);
        fail(&breaker, Failure::Refused);
        tokio::time::advance(pause(&breaker)).await;
        for unasked in [
            Failure::Withheld("it is secret".into()),
            Failure::TooLong {
                said: String::new(),
            },
        ] {
            fail(&breaker, unasked);
        }
        breaker.admit().unwrap().answered();
        assert_eq!(*breaker.health().borrow(), Health::Ready);
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_pause_and_one_request_finds_out() {
        let breaker = Breaker::new();
        let health = breaker.health();
        fail(&breaker, Failure::Refused);
        assert!(matches!(&*health.borrow(), Health::Failing { .. }));
        fail(&breaker, Failure::Refused);
        fail(&breaker, Failure::Refused);
        let first = pause(&breaker);
        assert!((800..=1200).contains(&first.as_millis()), "{first:?}");
        let Health::Paused { why, .. } = health.borrow().clone() else {
            panic!("health says nothing")
        };
        assert_eq!(
            why.message,
            "The model endpoint http://model refused the connection."
        );

        tokio::time::advance(first).await;
        let trial = breaker.admit().unwrap();
        pause(&breaker);
        trial.failed(&error(Failure::Refused));
        let second = pause(&breaker);
        assert!((1600..=2400).contains(&second.as_millis()), "{second:?}");

        tokio::time::advance(second).await;
        breaker.admit().unwrap().answered();
        assert_eq!(*health.borrow(), Health::Ready);
        fail(&breaker, Failure::Refused);
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_asked_as_soon_as_a_trial_is_being_answered() {
        let breaker = Breaker::new();
        for _ in 0..FAILURES {
            fail(&breaker, Failure::Cut);
        }
        tokio::time::advance(pause(&breaker)).await;
        let mut trial = breaker.admit().unwrap();
        pause(&breaker);
        trial.begun();
        assert_eq!(*breaker.health().borrow(), Health::Ready);
        breaker.admit().unwrap();
        // One that breaks off after all is a failure in a row with those before.
        trial.failed(&error(Failure::Cut));
        let second = pause(&breaker);
        assert!((1600..=2400).contains(&second.as_millis()), "{second:?}");

        tokio::time::advance(second).await;
        let mut trial = breaker.admit().unwrap();
        trial.begun();
        trial.answered();
        fail(&breaker, Failure::Cut);
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_comes_during_a_trial_keeps_its_pause() {
        let breaker = Breaker::new();
        let older = breaker.admit().unwrap();
        for _ in 0..FAILURES {
            fail(&breaker, Failure::Cut);
        }
        tokio::time::advance(pause(&breaker)).await;
        let mut trial = breaker.admit().unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        older.failed(&error(Failure::Cut));
        trial.begun();
        pause(&breaker);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_between_starts_the_count_anew() {
        let breaker = Breaker::new();
        for _ in 0..10 {
            fail(&breaker, Failure::Cut);
            fail(&breaker, Failure::Cut);
            breaker.admit().unwrap().answered();
        }
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_will_not_heal_pauses_at_once_and_a_wish_is_followed() {
        let unauthorized = || Failure::Unauthorized {
            status: 401,
            said: String::new(),
        };
        let limited = |seconds| Failure::RateLimited {
            retry_after: Some(Duration::from_secs(seconds)),
            said: String::new(),
        };
        for (failure, shortest, longest) in [
            (unauthorized(), 12, 18),
            (limited(7), 7, 7),
            (limited(86_400), 600, 600),
        ] {
            let breaker = Breaker::new();
            fail(&breaker, failure);
            let pause = pause(&breaker);
            assert!(
                pause >= Duration::from_secs(shortest) && pause <= Duration::from_secs(longest),
                "{pause:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_requests_are_no_failures_until_patient_ones_have_waited_too_long() {
        let breaker = Breaker::new();
        let place: Arc<str> = "http://model".into();
        // Waits for `ms` with `at_once` requests, `times` over, and drops them.
        let wait = async |ms: u64, at_once: usize, times: usize| {
            for _ in 0..times {
                let permits: Vec<_> = (0..at_once).map(|_| breaker.admit().unwrap()).collect();
                tokio::time::advance(Duration::from_millis(ms)).await;
                for permit in permits {
                    permit.unanswered(&place);
                }
            }
        };
        // Typing on says nothing, and time in which many waited is not longer for it.
        wait(900, 64, 100).await;
        wait(4_900, 64, 2).await;
        assert!(breaker.admit().is_ok());
        wait(1_000, 1, 1).await;
        pause(&breaker);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_an_older_question_does_not_end_a_pause() {
        let breaker = Breaker::new();
        let (older, asked) = (breaker.admit().unwrap(), Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        fail(
            &breaker,
            Failure::RateLimited {
                retry_after: Some(Duration::from_secs(7)),
                said: String::new(),
            },
        );
        older.answered();
        breaker.answered(asked);
        assert_eq!(pause(&breaker), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_trial_lets_the_next_request_find_out() {
        let breaker = Breaker::new();
        fail(
            &breaker,
            Failure::NotFound {
                said: String::new(),
            },
        );
        tokio::time::advance(pause(&breaker)).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().is_ok());
    }
}
