//! Asking again where nothing was answered yet: the same model after a pause, then the next one.

use std::time::Duration;

use super::once::Course;
use super::{Inner, Tell, TurnModel};
use crate::model::failure::{Failure, ModelError};
use crate::model::turn::{TurnEvent, TurnRequest};

/// Times a request is sent again that was not answered.
const RETRIES: u32 = 4;

/// First pause before that; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait, all in all, for a server that limits requests.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// Shortest wait beside others that wait for the same.
const BESIDE_OTHERS: Duration = Duration::from_millis(200);

/// Waits shorter than this are not worth telling.
const WORTH_TELLING: Duration = Duration::from_millis(500);
/// Carries a turn to its end; aborted when nobody reads any more.
pub(super) async fn run(first: TurnModel, request: TurnRequest, tell: Tell) {
    let mut others = first.fallbacks.iter();
    let mut model = &first;
    loop {
        model.inner.counters.update(|stats| stats.requests += 1);
        let mut has_spoken = false;
        let asked = model
            .inner
            .try_until_answered(&request, &tell, &mut has_spoken);
        let Err(error) = asked.await else { return };
        tracing::debug!(%error, "a turn failed");
        let is_out = !has_spoken && error.is_outage();
        // The reader may be gone, which is how turns are cancelled.
        match others.next().filter(|_| is_out) {
            Some(next) => {
                let instead = TurnEvent::Fallback {
                    why: error.to_string(),
                    model: next.inner.endpoint.model.clone(),
                    place: next.place().to_owned(),
                };
                let _ = tell.send(Ok(instead)).await;
                model = next;
            }
            None => {
                let _ = tell.send(Err(error)).await;
                return;
            }
        }
    }
}

impl Inner {
    async fn try_until_answered(
        &self,
        request: &TurnRequest,
        tell: &Tell,
        has_spoken: &mut bool,
    ) -> Result<(), ModelError> {
        let mut waited = Duration::ZERO;
        let mut n_retries = 0;
        loop {
            let permit = match self.breaker.admit() {
                Ok(permit) => permit,
                Err(error) => {
                    let Failure::Paused { retry_in, .. } = &error.failure else {
                        return Err(error);
                    };
                    let pause = retry_in
                        .max(&BESIDE_OTHERS)
                        .mul_f64(1.0 + 0.2 * fastrand::f64());
                    waited += pause;
                    if !self.breaker.may_pass() || waited > PATIENCE {
                        self.counters.update(|stats| stats.paused += 1);
                        return Err(error);
                    }
                    self.wait(pause, &error, tell).await;
                    continue;
                }
            };
            let mut course = Course::begin(self, permit);
            let outcome = self.ask(request, tell, &mut course).await;
            course.end(&outcome);
            let Err(error) = outcome else { return Ok(()) };
            *has_spoken = course.has_spoken;
            n_retries += 1;
            if course.has_spoken || n_retries > RETRIES || !error.failure.may_pass() {
                return Err(error);
            }
            let pause = match &error.failure {
                Failure::RateLimited {
                    retry_after: Some(wish),
                    ..
                } => *wish,
                _ => FIRST_PAUSE * 2_u32.pow(n_retries - 1),
            };
            let pause = pause.mul_f64(1.0 + 0.2 * fastrand::f64());
            waited += pause;
            if waited > PATIENCE {
                return Err(error);
            }
            self.wait(pause, &error, tell).await;
        }
    }

    async fn wait(&self, pause: Duration, error: &ModelError, tell: &Tell) {
        if pause >= WORTH_TELLING {
            let retry = TurnEvent::Retry {
                why: error.to_string(),
                after: pause,
            };
            let _ = tell.send(Ok(retry)).await;
        }
        tokio::time::sleep(pause).await;
    }
}
