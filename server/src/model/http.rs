//! Warm connections to one scheme, host and port.
//!
//! Holds: over HTTP/2 everything shares one connection, and dropping a request resets its
//! stream and nothing else. Over HTTP/1.1 dropping a request closes its connection, and while a
//! request is in flight another connected, unused connection stands ready, so that the next
//! request pays for no handshake. Connecting is never undone by dropping the request that asked
//! for it. While the origin is unused nothing here wakes up, except for the pings of an HTTP/2
//! connection until it is closed after [`IDLE_HTTP2`].
//!
//! Why not a client with a pool of its own: such pools (hyper-util's, and reqwest's over it)
//! connect only as part of a request and cannot hold a connection that was never used. Below
//! the pool everything is hyper.

mod dial;
mod lane;
pub(crate) mod tls;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper_util::client::proxy::matcher::Intercept;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::dial::Dialler;
use self::lane::{Http1Lane, Http2Lane, Sent};
use self::tls::TlsSetup;
use super::endpoint::Site;
use super::failure::Failure;

pub(crate) use self::lane::Body;

/// An unused HTTP/2 connection is kept, with pings, for this long.
const IDLE_HTTP2: Duration = Duration::from_secs(5 * 60);

/// How long an unused HTTP/1.1 connection is trusted to be still open at the other end. Local
/// model servers close after five seconds; gateways in front of hosted ones after a minute.
const IDLE_PLAIN: Duration = Duration::from_secs(4);
const IDLE_SECURE: Duration = Duration::from_secs(55);

/// Connections being opened at the same time, at most.
const MOST_DIALS: usize = 8;

/// What two ends agreed to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Protocol {
    #[serde(rename = "HTTP/1.1")]
    Http1,
    #[serde(rename = "HTTP/2")]
    Http2,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// A request without its host: that is the origin's.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) twice: Twice,
}

/// What it would mean if a server got a request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twice {
    /// Nothing: a model is asked again.
    Harmless,
    /// Something could be done a second time.
    Harmful,
}

/// The head of an answer and the body still to come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: Protocol,
    pub(crate) body: Body,
}

/// Connections to one site. See the module's documentation for what holds.
pub(crate) struct Origin {
    site: Site,
    dialler: Dialler,
    state: Mutex<State>,
    opened: AtomicU64,
}

#[derive(Default)]
struct State {
    /// What the site speaks, once a connection was made.
    protocol: Option<Protocol>,
    http2: Option<Http2Lane>,
    /// Unused connections, the most recently used last.
    http1: Vec<Http1Lane>,
    dialling: usize,
    waiting: VecDeque<oneshot::Sender<Result<(), Failure>>>,
}

/// A connection a request may use now.
enum Lane {
    Http1(Http1Lane),
    Http2(Http2Lane),
}

impl Origin {
    pub(crate) fn new(site: Site, proxy: Option<Intercept>, tls: Arc<TlsSetup>) -> Arc<Self> {
        let dialler = Dialler::new(&site, proxy, tls);
        Arc::new(Self {
            site,
            dialler,
            state: Mutex::default(),
            opened: AtomicU64::new(0),
        })
    }

    /// Makes sure that a connection stands ready or is being opened. Returns at once; costs
    /// nothing when one is.
    pub(crate) fn warm(self: &Arc<Self>) {
        let mut state = self.state();
        state.drop_stale(self.idle());
        self.dial_for(&mut state, 1);
    }

    /// Waits until a connection stands ready.
    ///
    /// # Errors
    /// Why no connection could be made.
    pub(crate) async fn connected(self: &Arc<Self>) -> Result<Protocol, Failure> {
        Ok(match self.lane().await? {
            Lane::Http1(lane) => {
                self.put_back(lane);
                Protocol::Http1
            }
            Lane::Http2(_) => Protocol::Http2,
        })
    }

    /// What the site speaks; `None` before the first connection.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.state().protocol
    }

    /// Number of connections opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Sends `ask` and returns the head of the answer. Dropping the future or the body cancels.
    ///
    /// A request is sent again, once, when the connection it went to turns out to have been
    /// closed by the server before. Where it could have arrived all the same, that is done only
    /// if it is harmless.
    ///
    /// # Errors
    /// Why there is no answer; waiting is the caller's to bound.
    pub(crate) async fn send(self: &Arc<Self>, ask: &Ask) -> Result<Answer, Failure> {
        let mut again = true;
        loop {
            let sent = match self.lane().await? {
                Lane::Http1(lane) => lane.send(self, ask).await,
                Lane::Http2(lane) => lane.send(self, ask).await,
            };
            let sent = match sent {
                Sent::HardlyArrived if ask.twice == Twice::Harmless => Sent::NeverArrived,
                Sent::HardlyArrived => Sent::Failed(Failure::Cut),
                sent => sent,
            };
            match sent {
                Sent::Answered(answer) => return Ok(*answer),
                Sent::NeverArrived if again => {
                    again = false;
                    // Those that waited beside it are no younger.
                    self.state().http1.clear();
                }
                Sent::NeverArrived | Sent::HardlyArrived => return Err(Failure::Cut),
                Sent::Failed(failure) => return Err(failure),
            }
        }
    }

    /// Takes a connection, or waits for one that is being opened.
    async fn lane(self: &Arc<Self>) -> Result<Lane, Failure> {
        loop {
            let ready = {
                let mut state = self.state();
                state.drop_stale(self.idle());
                if let Some(lane) = &state.http2 {
                    return Ok(Lane::Http2(lane.clone()));
                }
                if let Some(lane) = state.http1.pop() {
                    self.dial_for(&mut state, self.spares());
                    return Ok(Lane::Http1(lane));
                }
                let (tell, ready) = oneshot::channel();
                state.waiting.push_back(tell);
                self.dial_for(&mut state, self.spares());
                ready
            };
            match ready.await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(Failure::Bug("a connection attempt was lost".to_owned())),
            }
        }
    }

    /// Starts as many connections as those who wait need, and `spare` more to stand ready.
    fn dial_for(self: &Arc<Self>, state: &mut State, spare: usize) {
        state.waiting.retain(|waiting| !waiting.is_closed());
        let wanted = match state.protocol {
            Some(Protocol::Http1) => {
                (state.waiting.len() + spare).saturating_sub(state.http1.len())
            }
            Some(Protocol::Http2) | None => {
                usize::from(state.http2.is_none() && state.http1.is_empty())
            }
        };
        for _ in state.dialling..wanted.min(MOST_DIALS) {
            state.dialling += 1;
            // A task of its own: the connection is wanted even if this keystroke is not.
            tokio::spawn(Arc::clone(self).dial());
        }
    }

    async fn dial(self: Arc<Self>) {
        let outcome = match self.dialler.dial().await {
            Ok(dialled) if dialled.http2 => Http2Lane::start(dialled.io).await.map(Lane::Http2),
            Ok(dialled) => Http1Lane::start(dialled.io, self.dialler.forwarding_proxy())
                .await
                .map(Lane::Http1),
            Err(failure) => Err(failure),
        };
        let mut state = self.state();
        state.dialling -= 1;
        match outcome {
            Ok(lane) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                match lane {
                    Lane::Http1(lane) => {
                        state.protocol = Some(Protocol::Http1);
                        state.http1.push(lane);
                        state.wake_next();
                    }
                    Lane::Http2(lane) => {
                        state.protocol = Some(Protocol::Http2);
                        state.http2 = Some(lane);
                        state.wake_all(&Ok(()));
                    }
                }
                // Now that the protocol is known, others may need a connection each.
                if !state.waiting.is_empty() {
                    self.dial_for(&mut state, self.spares());
                }
            }
            Err(failure) => {
                tracing::debug!(site = %self.site.shown(), ?failure, "could not connect");
                if state.dialling == 0 {
                    state.wake_all(&Err(failure));
                }
            }
        }
    }

    /// Takes back a connection whose answer was read to its end.
    fn put_back(&self, mut lane: Http1Lane) {
        lane.unused_since = Instant::now();
        lane.reused = true;
        let mut state = self.state();
        state.http1.push(lane);
        state.wake_next();
    }

    /// Unused connections to hold beside the one in use. A server on this machine is connected
    /// to in a fraction of a millisecond and may reserve a thread for each; one far away can be
    /// asked again before a handshake ends.
    fn spares(&self) -> usize {
        if self.site.is_loopback() { 1 } else { 2 }
    }

    fn idle(&self) -> Duration {
        if self.site.tls {
            IDLE_SECURE
        } else {
            IDLE_PLAIN
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_stale(&mut self, idle: Duration) {
        self.http1
            .retain(|lane| lane.is_open() && lane.unused_since.elapsed() < idle);
        if self.http2.as_ref().is_some_and(|lane| !lane.is_open()) {
            self.http2 = None;
        }
    }

    fn wake_next(&mut self) {
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.send(Ok(())).is_ok() {
                return;
            }
        }
    }

    fn wake_all(&mut self, outcome: &Result<(), Failure>) {
        for waiting in self.waiting.drain(..) {
            // One that is gone no longer needs to know.
            let _ = waiting.send(outcome.clone());
        }
    }
}
