//! The inside half of the E2B protocol: commands, files, and what changed, over HTTP/2.
//!
//! Semantics follow `envd` of e2b-dev/infra, with two differences: when a command ends or is
//! killed, everything it started ends too, and terminals and watching directories are refused.
//! Not here: who may ask. The service lets requests through; nothing inside can reach the socket.

mod changes;
mod files;
mod process;
mod tree;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::changes::Layer;
use self::process::Commands;
use crate::jail::Jail;
use crate::wire::ConnectError;

/// No unary request is longer; file uploads are streamed.
const REQUEST_BYTES: usize = 8 << 20;

pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// What is served.
struct Envd {
    /// `None` where something else runs them.
    commands: Option<Arc<Commands>>,
    layer: Option<Layer>,
    home: PathBuf,
}

/// Serves until the socket closes. Ending process 1 ends everything in the sandbox.
pub(crate) fn serve(jail: Jail) -> io::Result<()> {
    let nothing = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    serve_on(jail.channel, move || {
        Ok(Envd {
            home: jail.spec.home(),
            commands: Some(Commands::start(jail.spec, jail.confinement, jail.marks)?),
            layer: jail.upper.map(Layer::new),
        })
    })
}

/// Serves what was changed in the workspace, and nothing else.
pub(crate) fn serve_layer(channel: UnixStream, upper: Option<OwnedFd>) -> io::Result<()> {
    serve_on(channel, move || {
        Ok(Envd {
            commands: None,
            layer: upper.map(Layer::new),
            home: PathBuf::new(),
        })
    })
}

fn serve_on(channel: UnixStream, start: impl FnOnce() -> io::Result<Envd>) -> io::Result<()> {
    channel.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    runtime.block_on(async {
        let channel = tokio::net::UnixStream::from_std(channel)?;
        let envd = Arc::new(start()?);
        let service = service_fn(move |request| {
            let envd = Arc::clone(&envd);
            async move { Ok::<_, Infallible>(answer(&envd, request).await) }
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(channel), service)
            .await
            .map_err(io::Error::other)
    })
}

/// Why a request is refused, as a Connect code and words.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn status(&self) -> StatusCode {
        match self.code {
            "invalid_argument" | "failed_precondition" => StatusCode::BAD_REQUEST,
            "permission_denied" => StatusCode::FORBIDDEN,
            "not_found" => StatusCode::NOT_FOUND,
            "already_exists" => StatusCode::CONFLICT,
            "resource_exhausted" => StatusCode::TOO_MANY_REQUESTS,
            "unimplemented" => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn wire(self) -> ConnectError {
        ConnectError {
            code: self.code.to_owned(),
            message: self.message,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => "not_found",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "permission_denied"
            }
            io::ErrorKind::AlreadyExists => "already_exists",
            io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => "resource_exhausted",
            io::ErrorKind::InvalidInput
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => "invalid_argument",
            _ => "internal",
        };
        Self::new(code, error.to_string())
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

type Outcome<T> = Result<T, Refusal>;

async fn answer(envd: &Envd, request: Request<Incoming>) -> Response<Body> {
    match route(envd, request).await {
        Ok(response) => response,
        Err(refusal) => {
            let status = refusal.status();
            let mut response = json(&refusal.wire());
            *response.status_mut() = status;
            response
        }
    }
}

async fn route(envd: &Envd, request: Request<Incoming>) -> Outcome<Response<Body>> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/x/changes") => {
            let asked = unary(request).await?;
            return Ok(json(&layer(envd)?.list(&asked)?));
        }
        (&Method::POST, "/x/contents") => {
            let asked = unary(request).await?;
            return Ok(layer(envd)?.contents(asked));
        }
        _ => {}
    }
    let home = envd.home.as_path();
    let commands = envd.commands.as_ref();
    let commands = commands.ok_or_else(|| Refusal::new("unimplemented", "no commands run here"))?;
    match (request.method(), path.as_str()) {
        (&Method::GET, "/health") => Ok(status(StatusCode::NO_CONTENT)),
        (&Method::GET, "/files") => files::download(home, &request).await,
        (&Method::POST, "/files") => files::upload(home, request).await,
        (&Method::POST, "/process.Process/Start") => process::start(commands, request).await,
        (&Method::POST, "/process.Process/Connect") => process::attach(commands, request).await,
        (&Method::POST, "/process.Process/List") => Ok(json(&commands.list())),
        (&Method::POST, "/process.Process/SendInput") => {
            let asked = unary(request).await?;
            commands.send_input(asked).await?;
            Ok(nothing())
        }
        (&Method::POST, "/process.Process/CloseStdin") => {
            let asked = unary(request).await?;
            commands.close_input(&asked).await?;
            Ok(nothing())
        }
        (&Method::POST, "/process.Process/SendSignal") => {
            let asked = unary(request).await?;
            commands.signal(&asked)?;
            Ok(nothing())
        }
        (&Method::POST, "/filesystem.Filesystem/Stat") => files::stat(home, &unary(request).await?),
        (&Method::POST, "/filesystem.Filesystem/ListDir") => {
            files::list(home, &unary(request).await?)
        }
        (&Method::POST, "/filesystem.Filesystem/MakeDir") => {
            files::make_directory(home, &unary(request).await?)
        }
        (&Method::POST, "/filesystem.Filesystem/Move") => {
            files::rename(home, &unary(request).await?)
        }
        (&Method::POST, "/filesystem.Filesystem/Remove") => {
            files::remove(home, &unary(request).await?)
        }
        _ => Err(Refusal::new(
            "unimplemented",
            format!("{path} is not offered by this sandbox"),
        )),
    }
}

fn layer(envd: &Envd) -> Outcome<&Layer> {
    envd.layer
        .as_ref()
        .ok_or_else(|| Refusal::new("failed_precondition", "this sandbox has no workspace"))
}

/// Reads a whole JSON request.
async fn unary<T: DeserializeOwned>(request: Request<Incoming>) -> Outcome<T> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES)
        .collect()
        .await
        .map_err(|_| Refusal::new("invalid_argument", "the request is too long or was cut"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Refusal::new("invalid_argument", format!("not the request: {error}")))
}

fn json(body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn nothing() -> Response<Body> {
    json(&crate::wire::Empty {})
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}
