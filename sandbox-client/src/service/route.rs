//! Requests: to the control plane, or on to a sandbox's `envd`.
//!
//! A request that names a sandbox is for that sandbox, and shows its token, or does not name it and
//! shows a token nevertheless; every other is for the control plane, and shows the service's key.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::State;
use super::egress::Policy;
use super::restricted;
use super::sandbox::{Asked, LaunchError, Sandbox};
use crate::protocol::{
    Create, Created, ENVD_PORT, ENVD_VERSION, Info, KEY_HEADER, LocalCreated, Network, PORT_HEADER,
    Refused, SANDBOX_HEADER, SetTimeout, TOKEN_HEADER,
};
use crate::tier::Tier;

/// No request to the control plane is longer.
const REQUEST_BYTES: usize = 1 << 20;
/// A caller has this long to say what it wants, and a new one to show a key.
const HEADERS: Duration = Duration::from_secs(10);
/// Of callers that say nothing it is found out in this time, and as much again at most, whether they are
/// still there.
const PING_EVERY: Duration = Duration::from_secs(60);
/// Connections at one time.
const CONNECTIONS: usize = 1_024;
/// A connection that cannot be had, for want of descriptors or because its caller left, is no
/// reason to leave all others.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long a caller can wait for a denial in one request.
const LONGEST_LOOK: Duration = Duration::from_secs(20);
/// What `envd` needs of a request's headers.
const FORWARDED: [header::HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
];

/// A body on its way to a sandbox.
pub(super) type Forwarded = Incoming;
type Body = Either<Full<Bytes>, Incoming>;

pub(super) async fn serve_unix(state: Arc<State>, listener: UnixListener) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            // The kernel tells when the other process is gone.
            Ok((stream, _)) => connections.keep(&state, ready(Ok(stream)), None).await,
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

pub(super) async fn serve_tcp(state: Arc<State>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let ping = Some(PING_EVERY);
                match &tls {
                    Some(tls) => connections.keep(&state, tls.accept(stream), ping).await,
                    None => connections.keep(&state, ready(Ok(stream)), ping).await,
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// The connections of one listener.
#[derive(Default)]
struct Connections {
    all: JoinSet<()>,
    /// Those that had shown no key when they were last looked at, the oldest first.
    strangers: VecDeque<(AbortHandle, Caller)>,
}

/// Who is at the other end of a connection, as far as it has shown a key or a token.
#[derive(Debug, Clone, Default)]
struct Caller(Arc<AtomicBool>);

impl Caller {
    fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn has_shown(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connections {
    /// Serves a connection beside the others, once it stands. In a full house the stranger that has been
    /// there for longest leaves, who had the most time to say who it is; among callers who are all
    /// known a new one waits.
    async fn keep<S>(
        &mut self,
        state: &Arc<State>,
        stream: impl Future<Output = io::Result<S>> + Send + 'static,
        ping: Option<Duration>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        while self.all.try_join_next().is_some() {}
        if self.all.len().max(self.strangers.len()) >= CONNECTIONS {
            let is_one =
                |(task, caller): &(AbortHandle, Caller)| !task.is_finished() && !caller.is_known();
            self.strangers.retain(is_one);
        }
        if self.all.len() >= CONNECTIONS {
            if let Some((stranger, _)) = self.strangers.pop_front() {
                stranger.abort();
            }
            self.all.join_next().await;
        }
        let caller = Caller::default();
        let serving = serve(Arc::clone(state), caller.clone(), stream, ping);
        let task = self.all.spawn(serving);
        self.strangers.push_back((task, caller));
    }
}

/// Serves one connection, for [`HEADERS`] or until its caller is known and leaves.
async fn serve<S>(
    state: Arc<State>,
    caller: Caller,
    stream: impl Future<Output = io::Result<S>>,
    ping: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(Ok(stream)) = tokio::time::timeout(HEADERS, stream).await else {
        return;
    };
    let known = caller.clone();
    let service = service_fn(move |request| {
        let (state, caller) = (Arc::clone(&state), caller.clone());
        async move { Ok::<_, Infallible>(answer(&state, &caller, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ping);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // A connection that breaks is its caller's to notice.
    if tokio::time::timeout(HEADERS, &mut serving).await.is_err() && known.is_known() {
        let _ = serving.await;
    }
}

async fn answer(state: &Arc<State>, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
    let outcome = match target(&request).or_else(|| shown(state, &request)) {
        Some(target) => forward(state, caller, request, target).await,
        None => control(state, caller, request).await,
    };
    outcome.unwrap_or_else(|(status, message)| {
        let refused = Refused {
            code: status.as_u16(),
            message,
        };
        json(status, &refused)
    })
}

type Outcome = Result<Response<Body>, (StatusCode, String)>;

fn refuse<T>(status: StatusCode, message: impl Into<String>) -> Result<T, (StatusCode, String)> {
    Err((status, message.into()))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn empty(status: StatusCode) -> Outcome {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    Ok(response)
}

/// The sandbox a request is for, and the path there.
struct Target {
    id: String,
    port: u16,
    path: String,
}

/// Reads any of the three forms of address: headers, the host's first label, the path.
fn target(request: &Request<Incoming>) -> Option<Target> {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    // E2B's client 2.20 names the sandbox also to the control plane, whose paths no `envd` has.
    if is_control(path) {
        return None;
    }
    if let Some(id) = header(SANDBOX_HEADER) {
        let port = header(PORT_HEADER).and_then(|port| port.parse().ok());
        return Some(Target {
            id: id.to_owned(),
            port: port.unwrap_or(ENVD_PORT),
            path: path.to_owned(),
        });
    }
    if let Some(rest) = path.strip_prefix("/kruise/") {
        let (id, rest) = rest.split_once('/')?;
        let (port, rest) = rest.split_once('/').unwrap_or((rest, ""));
        return Some(Target {
            id: id.to_owned(),
            port: port.parse().ok()?,
            path: format!("/{rest}"),
        });
    }
    let host = request.uri().host().or_else(|| header("host"))?;
    let (port, id) = host.split('.').next()?.split_once('-')?;
    Some(Target {
        id: id.to_owned(),
        port: port.parse().ok()?,
        path: path.to_owned(),
    })
}

/// The sandbox whose token a request shows: E2B's client 2.20 does not name one that it connected to.
fn shown(state: &State, request: &Request<Incoming>) -> Option<Target> {
    let token = request.headers().get(TOKEN_HEADER)?.to_str().ok()?;
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if is_control(path) {
        return None;
    }
    let sandboxes = state.sandboxes();
    let found = sandboxes.values().find(|sandbox| sandbox.token.is(token));
    Some(Target {
        // No sandbox has an empty one: whose token this was is gone.
        id: found.map(|sandbox| sandbox.id.clone()).unwrap_or_default(),
        port: ENVD_PORT,
        path: path.to_owned(),
    })
}

fn is_control(path: &str) -> bool {
    let own = ["/sandboxes", "/v2/sandboxes"];
    own.iter().any(|own| path.starts_with(own))
}

/// Passes a request on to a sandbox, body and answer as they stream.
async fn forward(
    state: &Arc<State>,
    caller: &Caller,
    request: Request<Incoming>,
    to: Target,
) -> Outcome {
    const GONE: &str = "The sandbox was not found";
    let sandbox = state.sandboxes().get(&to.id).map(Arc::clone);
    let Some(sandbox) = sandbox.filter(|sandbox| !sandbox.is_over()) else {
        return refuse(StatusCode::BAD_GATEWAY, GONE);
    };
    if to.port != ENVD_PORT {
        let why = "The sandbox is running but port is not open";
        return refuse(StatusCode::BAD_GATEWAY, why);
    }
    if !shows(request.headers(), TOKEN_HEADER, |shown| {
        sandbox.token.is(shown)
    }) {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "the sandbox's token is missing or wrong",
        );
    }
    caller.has_shown();
    let (parts, body) = request.into_parts();
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = format!("http://sandbox{}", to.path)
        .parse::<Uri>()
        .or_else(|_| refuse(StatusCode::BAD_REQUEST, "the path cannot be"))?;
    for name in FORWARDED
        .iter()
        .map(header::HeaderName::as_str)
        .chain(["connect-timeout-ms", "connect-protocol-version"])
    {
        if let Some(value) = parts.headers.get(name)
            && let Ok(name) = header::HeaderName::from_bytes(name.as_bytes())
        {
            onward.headers_mut().insert(name, value.clone());
        }
    }
    match sandbox.envd(&to.path).ask(onward).await {
        Some(answer) => Ok(answer.map(Either::Right)),
        None => refuse(StatusCode::BAD_GATEWAY, GONE),
    }
}

fn shows(headers: &HeaderMap, name: &str, is_right: impl Fn(&str) -> bool) -> bool {
    let shown = headers.get(name).and_then(|value| value.to_str().ok());
    shown.is_some_and(is_right)
}

/// The control plane.
async fn control(state: &Arc<State>, caller: &Caller, request: Request<Incoming>) -> Outcome {
    if request.uri().path() == "/health" {
        return empty(StatusCode::NO_CONTENT);
    }
    let key = &state.options.key;
    if !shows(request.headers(), KEY_HEADER, |shown| key.is(shown)) {
        return refuse(StatusCode::UNAUTHORIZED, "the API key is missing or wrong");
    }
    caller.has_shown();
    let path = request.uri().path().to_owned();
    let path = path.strip_prefix("/v2").unwrap_or(&path);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    match (&method, segments.as_slice()) {
        (&Method::POST, ["sandboxes"]) => create(state, request).await,
        (&Method::GET, ["sandboxes"]) => {
            let all = state.sandboxes();
            let mut all: Vec<Info> = all.values().map(|sandbox| info(sandbox)).collect();
            all.sort_by(|a, b| a.started_at.cmp(&b.started_at));
            Ok(json(StatusCode::OK, &all))
        }
        (method, ["sandboxes", id, rest @ ..]) => {
            let found = state.sandboxes().get(*id).map(Arc::clone);
            let Some(sandbox) = found else {
                let id: String = id.chars().take(80).collect();
                return refuse(StatusCode::NOT_FOUND, format!("sandbox '{id}' not found"));
            };
            one(state, &sandbox, method, rest, request).await
        }
        _ => refuse(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

/// Requests about one sandbox.
async fn one(
    state: &Arc<State>,
    sandbox: &Arc<Sandbox>,
    method: &Method,
    rest: &[&str],
    request: Request<Incoming>,
) -> Outcome {
    match (method, rest) {
        (&Method::GET, []) => Ok(json(StatusCode::OK, &info(sandbox))),
        (&Method::DELETE, []) => {
            state.sandboxes().remove(&sandbox.id);
            sandbox.destroy().await;
            empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, ["timeout" | "refreshes"]) => {
            let asked: SetTimeout = read(request).await?;
            let Some(seconds) = asked.timeout.or(asked.duration) else {
                return refuse(StatusCode::BAD_REQUEST, "a timeout is needed");
            };
            sandbox.set_lifetime(Duration::from_secs(seconds));
            empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, ["connect"]) => {
            let asked: SetTimeout = read(request).await?;
            if let Some(seconds) = asked.timeout {
                sandbox.set_lifetime(Duration::from_secs(seconds));
            }
            Ok(json(StatusCode::OK, &created(sandbox)))
        }
        (&Method::PUT, ["network"]) => {
            let asked: Network = read(request).await?;
            let policy =
                Policy::read(&asked).or_else(|why| refuse(StatusCode::BAD_REQUEST, why))?;
            if sandbox.tier == Tier::Landlock && !policy.names().is_empty() {
                return refuse(StatusCode::BAD_REQUEST, restricted::NO_NETWORK);
            }
            sandbox.egress.set(policy);
            empty(StatusCode::NO_CONTENT)
        }
        (&Method::GET, ["denials"]) => {
            let number = |name: &str| query(request.uri(), name).unwrap_or_default();
            let patience = Duration::from_millis(number("wait")).min(LONGEST_LOOK);
            let denials = sandbox.egress.denials(number("after"), patience).await;
            Ok(json(StatusCode::OK, &denials))
        }
        _ => refuse(
            StatusCode::NOT_IMPLEMENTED,
            "this service does not offer that for its sandboxes",
        ),
    }
}

/// A number of the query.
fn query(uri: &Uri, name: &str) -> Option<u64> {
    let pairs = uri.query()?.split('&').filter_map(|p| p.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .find_map(|(_, value)| value.parse().ok())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, (StatusCode, String)> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES)
        .collect()
        .await
        .or_else(|_| {
            refuse(
                StatusCode::BAD_REQUEST,
                "the request is too long or was cut",
            )
        })?;
    serde_json::from_slice(&body.to_bytes())
        .or_else(|error| refuse(StatusCode::BAD_REQUEST, format!("not the request: {error}")))
}

async fn create(state: &Arc<State>, request: Request<Incoming>) -> Outcome {
    let asked: Create = read(request).await?;
    let asked = Asked::check(asked, &state.options).or_else(|error| launch_refused(&error))?;
    let Some(starting) = Starting::begin(state) else {
        let why = format!("{} sandboxes run already", state.options.sandboxes);
        return refuse(StatusCode::TOO_MANY_REQUESTS, why);
    };
    let sandbox = Sandbox::launch(&state.stock, &state.options, asked)
        .await
        .or_else(|error| launch_refused(&error))?;
    let sandbox = Arc::new(sandbox);
    state
        .sandboxes()
        .insert(sandbox.id.clone(), Arc::clone(&sandbox));
    drop(starting);
    let answer = json(StatusCode::CREATED, &created(&sandbox));
    let (owner, over) = (Arc::downgrade(state), sandbox.over());
    tokio::spawn(async move {
        let Some(sandbox) = over.await else {
            return;
        };
        if let Some(state) = owner.upgrade() {
            state.sandboxes().remove(&sandbox.id);
        }
        sandbox.destroy().await;
    });
    Ok(answer)
}

/// A sandbox that is being made counts as one that is there.
struct Starting<'s>(&'s State);

impl<'s> Starting<'s> {
    /// `None` when there are as many as may be.
    fn begin(state: &'s State) -> Option<Self> {
        let sandboxes = state.sandboxes();
        let n_starting = state.n_starting.load(Ordering::SeqCst);
        if sandboxes.len() + n_starting >= state.options.sandboxes {
            return None;
        }
        state.n_starting.fetch_add(1, Ordering::SeqCst);
        Some(Self(state))
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.n_starting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn launch_refused<T>(error: &LaunchError) -> Result<T, (StatusCode, String)> {
    let status = match error {
        LaunchError::Asked(_) => StatusCode::BAD_REQUEST,
        LaunchError::TooWeak { .. } => StatusCode::PRECONDITION_FAILED,
        LaunchError::Refused(_) | LaunchError::Machine { .. } | LaunchError::Unshown { .. } => {
            StatusCode::NOT_IMPLEMENTED
        }
        LaunchError::Start(_) | LaunchError::Silent(_) | LaunchError::Ended => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refuse(status, error.to_string())
}

fn created(sandbox: &Sandbox) -> Created {
    Created {
        template_id: sandbox.template.clone(),
        sandbox_id: sandbox.id.clone(),
        client_id: "pairwright".to_owned(),
        envd_version: ENVD_VERSION.to_owned(),
        envd_access_token: Some(sandbox.token.reveal().to_owned()),
        domain: None,
        pairwright: Some(LocalCreated {
            tier: sandbox.tier,
            notes: sandbox.notes().to_vec(),
            network: sandbox.egress.allowed(),
        }),
    }
}

fn info(sandbox: &Sandbox) -> Info {
    Info {
        template_id: sandbox.template.clone(),
        sandbox_id: sandbox.id.clone(),
        client_id: "pairwright".to_owned(),
        started_at: timestamp(sandbox.started),
        end_at: timestamp(SystemTime::now() + sandbox.ends_in()),
        state: "running".to_owned(),
        cpu_count: sandbox.limits.processors,
        memory_mb: sandbox.limits.memory_bytes >> 20,
        disk_size_mb: sandbox.limits.disk_bytes >> 20,
        envd_version: ENVD_VERSION.to_owned(),
        metadata: sandbox.metadata.clone(),
    }
}

fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    sandbox_agent::wire::timestamp(i64::try_from(since.as_secs()).unwrap_or_default())
}
