//! `process.Process`: starts commands and streams what they say.
//!
//! Holds: a reader that is slow slows the command down, nothing piles up here; a reader that left
//! does not stop it. A command is over when its first process is; what it left behind is killed
//! then. No command outlives its time, and whoever reads it late still reads how it ended.

use std::collections::HashMap;
use std::convert::identity;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Limited};
use hyper::body::Incoming;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::tree::{Mark, Worn};
use super::{Body, Outcome, REQUEST_BYTES, Refusal};
use crate::frame::{self, Decoder, Frame};
use crate::jail::{Confinement, Marks};
use crate::spec::Spec;
use crate::wire::{
    Base64, Data, Empty, Ended, ProcessConfig, ProcessEvent, ProcessInfo, Processes, Selected,
    Selector, SendInput, SendSignal, Start, Started, StreamEnd, Streamed,
};

/// What is read from a command at once.
const CHUNK: usize = 32 << 10;
/// Chunks that wait for a slow reader.
const WAITING: usize = 4;
/// Output that comes after a command and all its processes are gone can only be in flight.
const DRAIN: Duration = Duration::from_secs(1);
/// So that proxies do not take a silent command for a dead connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Commands at one time.
const COMMANDS: usize = 256;

/// All commands of the sandbox.
pub(super) struct Commands {
    spec: Spec,
    confinement: Confinement,
    /// The thread that wears the first filters, and whose commands inherit them.
    begun: OnceLock<ThreadId>,
    marks: Marks,
    live: Mutex<HashMap<u32, Live>>,
}

/// A command that runs.
struct Live {
    config: ProcessConfig,
    tag: Option<String>,
    mark: Mark,
    exit: Option<oneshot::Sender<WaitStatus>>,
    input: Arc<tokio::sync::Mutex<Option<pipe::Sender>>>,
    readers: Readers,
}

/// Everyone who follows one command.
#[derive(Clone, Default)]
struct Readers(Arc<tokio::sync::Mutex<Vec<Sender<Bytes, io::Error>>>>);

impl Readers {
    async fn add(&self) -> Channel<Bytes, io::Error> {
        let (sender, channel) = Channel::new(WAITING);
        self.0.lock().await.push(sender);
        channel
    }

    /// Waits for all of them to take it; forgets who left. When this is dropped, those that are left
    /// have not got it.
    async fn send(&self, frame: Bytes) {
        let mut readers = self.0.lock().await;
        let mut n_sent = 0;
        while let Some(reader) = readers.get_mut(n_sent) {
            match reader.send_data(frame.clone()).await {
                Ok(()) => n_sent += 1,
                Err(_) => drop(readers.remove(n_sent)),
            }
        }
    }

    /// Gives it to those that wait for something. Who has not read what was sent before knows that the
    /// command lives.
    fn offer(&self, frame: &Bytes) {
        if let Ok(mut readers) = self.0.try_lock() {
            for reader in readers.iter_mut() {
                let _ = reader.try_send(hyper::body::Frame::data(frame.clone()));
            }
        }
    }

    /// Gives each of them the last frames, whenever it takes them, and lets it go.
    async fn finish(&self, last: Vec<Bytes>) {
        let readers = std::mem::take(&mut *self.0.lock().await);
        let tell = |mut reader: Sender<Bytes, io::Error>| {
            let last = last.clone();
            async move {
                for frame in last {
                    if reader.send_data(frame).await.is_err() {
                        return;
                    }
                }
            }
        };
        futures_util::future::join_all(readers.into_iter().map(tell)).await;
    }
}

fn event(event: ProcessEvent) -> Bytes {
    frame::message(&Streamed { event })
}

fn last(error: Option<Refusal>) -> Bytes {
    let error = error.map(Refusal::wire);
    frame::end(&StreamEnd { error })
}

impl Commands {
    /// Also starts waiting for every process that ends inside.
    pub(super) fn start(
        spec: Spec,
        confinement: Confinement,
        marks: Marks,
    ) -> io::Result<Arc<Self>> {
        let commands = Arc::new(Self {
            spec,
            confinement,
            begun: OnceLock::new(),
            marks,
            live: Mutex::default(),
        });
        let mut children = signal(SignalKind::child())?;
        let waiting = Arc::clone(&commands);
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                waiting.reap();
            }
        });
        Ok(commands)
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the exit of every process that ended, orphans' too.
    fn reap(&self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            let waiting = self.live().get_mut(&pid).and_then(|live| live.exit.take());
            if let Some(waiting) = waiting {
                let _ = waiting.send(status);
            }
        }
    }

    pub(super) fn list(&self) -> Processes {
        let live = self.live();
        let processes = live.iter().map(|(pid, live)| ProcessInfo {
            config: live.config.clone(),
            pid: *pid,
            tag: live.tag.clone(),
        });
        Processes {
            processes: processes.collect(),
        }
    }

    /// Looks at a running command.
    fn with<T>(&self, which: &Selector, look: impl FnOnce(u32, &Live) -> T) -> Outcome<T> {
        let live = self.live();
        let mut all = live.iter();
        let found = match (which.pid, which.tag.as_deref()) {
            (Some(pid), _) => live.get(&pid).map(|live| (pid, live)),
            (None, Some(tag)) => all
                .find(|(_, live)| live.tag.as_deref() == Some(tag))
                .map(|(pid, live)| (*pid, live)),
            (None, None) => None,
        };
        let (pid, live) = found.ok_or_else(|| {
            let name = which.pid.map(|pid| format!("with pid {pid}"));
            let name = name.unwrap_or_else(|| "of that tag".to_owned());
            Refusal::new("not_found", format!("process {name} not found"))
        })?;
        Ok(look(pid, live))
    }

    pub(super) async fn send_input(&self, asked: SendInput) -> Outcome<()> {
        let input = self.with(&asked.process, |_, live| Arc::clone(&live.input))?;
        let bytes = asked.input.stdin.unwrap_or_default().0;
        let mut input = input.lock().await;
        let input = input.as_mut().ok_or_else(|| {
            Refusal::new("failed_precondition", "the command's input is not open")
        })?;
        Ok(input.write_all(&bytes).await?)
    }

    pub(super) async fn close_input(&self, asked: &Selected) -> Outcome<()> {
        let input = self.with(&asked.process, |_, live| Arc::clone(&live.input))?;
        input.lock().await.take();
        Ok(())
    }

    /// Signals a command: asking goes to its first process, killing to all of them.
    pub(super) fn signal(&self, asked: &SendSignal) -> Outcome<()> {
        match asked.signal.as_str() {
            "SIGNAL_SIGTERM" => self.with(&asked.process, |pid, _| {
                if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                    let _ = kill_process(pid, Signal::TERM);
                }
            }),
            "SIGNAL_SIGKILL" => self.with(&asked.process, |_, live| live.mark.signal(Signal::KILL)),
            _ => Err(Refusal::new(
                "invalid_argument",
                "the signal must be SIGNAL_SIGTERM or SIGNAL_SIGKILL",
            )),
        }
    }

    /// Starts a command and the task that follows it to its end.
    async fn spawn(self: &Arc<Self>, asked: Start, limit: Duration) -> Outcome<Body> {
        if self.live().len() >= COMMANDS {
            let why = format!("{COMMANDS} commands run already");
            return Err(Refusal::new("resource_exhausted", why));
        }
        let mark = Mark::take(self.marks)?;
        let mut command = self.command(&asked, &mark)?;
        let mut child = command.spawn().map_err(|error| {
            let why = format!("{} could not be started: {error}", asked.process.cmd);
            Refusal::new("invalid_argument", why)
        })?;
        // The child's copies of the pipes' ends would keep the output open for ever.
        drop(command);
        let pid = child.id();
        let input = child.stdin.take().map(OwnedFd::from);
        let input = input.map(pipe::Sender::from_owned_fd).transpose()?;
        let output = child.stdout.take().map(OwnedFd::from);
        let errors = child.stderr.take().map(OwnedFd::from);
        let readers = Readers::default();
        let channel = readers.add().await;
        let (exited, exit) = oneshot::channel();
        let live = Live {
            config: asked.process,
            tag: asked.tag,
            mark: mark.clone(),
            exit: Some(exited),
            input: Arc::new(tokio::sync::Mutex::new(input)),
            readers: readers.clone(),
        };
        self.live().insert(pid, live);
        // It may have ended before anyone waited for it.
        self.reap();
        let commands = Arc::clone(self);
        let full = crate::restricted::full(&self.spec);
        tokio::spawn(async move {
            let start = ProcessEvent {
                start: Some(Started { pid }),
                ..ProcessEvent::default()
            };
            readers.send(event(start)).await;
            let ended = follow(&readers, &mark, exit, [output, errors], limit, full).await;
            commands.live().remove(&pid);
            let frames = match ended {
                Some(end) => {
                    let end = ProcessEvent {
                        end: Some(end),
                        ..ProcessEvent::default()
                    };
                    vec![event(end), last(None)]
                }
                None => {
                    let why = format!("the command took longer than {:.1} s", limit.as_secs_f64());
                    vec![last(Some(Refusal::new("deadline_exceeded", why)))]
                }
            };
            readers.finish(frames).await;
        });
        Ok(Either::Right(channel))
    }

    /// Whether commands of this thread inherit the first filters. Not of an agent without namespaces,
    /// which makes calls for its commands that they are refused.
    fn has_begun(&self) -> io::Result<bool> {
        if self.marks != Marks::Namespaces {
            return Ok(false);
        }
        let this = std::thread::current().id();
        if self.begun.get().is_none() {
            self.confinement.begin()?;
            let _ = self.begun.set(this);
        }
        Ok(self.begun.get() == Some(&this))
    }

    #[expect(unsafe_code, reason = "a command is confined between fork and exec")]
    fn command(&self, asked: &Start, mark: &Mark) -> Outcome<Command> {
        if asked.pty.is_some() {
            return Err(Refusal::new("unimplemented", "terminals are not offered"));
        }
        let config = &asked.process;
        let bad = |name: &String| name.is_empty() || name.contains(['=', '\0']);
        if config.envs.keys().any(bad) || config.envs.values().any(|v| v.contains('\0')) {
            let why = "an environment variable has a name or value that cannot be";
            return Err(Refusal::new("invalid_argument", why));
        }
        let home = self.spec.workspace.clone();
        let home = home.unwrap_or_else(|| self.spec.home());
        let directory: PathBuf = match config.cwd.as_deref() {
            None | Some("") => home,
            Some(path) => home.join(path),
        };
        if !directory.is_dir() {
            let why = format!("cwd '{}' does not exist", directory.display());
            return Err(Refusal::new("invalid_argument", why));
        }
        let piped = asked.stdin.is_some_and(identity);
        #[expect(
            clippy::disallowed_methods,
            reason = "running commands is what the agent is for"
        )]
        let mut command = Command::new(&config.cmd);
        command
            .args(&config.args)
            .env_clear()
            .envs(&self.spec.env)
            .envs(&config.envs)
            .current_dir(directory)
            .stdin(if piped { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (confinement, worn) = (self.confinement.clone(), mark.worn());
        let has_begun = self.has_begun()?;
        // SAFETY: system calls only; nothing is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                // gVisor's kernel answers 0 and not the session, which the library takes for impossible.
                if libc::setsid() < 0 {
                    return Err(io::Error::last_os_error());
                }
                match worn {
                    Worn::Nothing => {}
                    Worn::Group(group) => crate::gvisor::become_user(group)?,
                    Worn::Limit(limit) => crate::restricted::wear(limit)?,
                }
                match has_begun {
                    true => confinement.put_on_rest(),
                    false => confinement.put_on(),
                }
            });
        }
        Ok(command)
    }
}

/// Passes on output until the command is over. Returns how it ended, or `None` when its time did.
async fn follow(
    readers: &Readers,
    mark: &Mark,
    mut exit: oneshot::Receiver<WaitStatus>,
    [output, errors]: [Option<OwnedFd>; 2],
    limit: Duration,
    full: impl Future<Output = ()>,
) -> Option<Ended> {
    let output = pump(readers.clone(), output, |bytes| Data {
        stdout: Some(bytes),
        ..Data::default()
    });
    let errors = pump(readers.clone(), errors, |bytes| Data {
        stderr: Some(bytes),
        ..Data::default()
    });
    let mut pumps = tokio::spawn(async move { tokio::join!(output, errors) });
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline, full);
    let mut is_full = false;
    let mut keepalive = tokio::time::interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
    let status = loop {
        tokio::select! {
            biased;
            status = &mut exit => break status.ok(),
            () = &mut deadline => break None,
            () = &mut full, if !is_full => {
                is_full = true;
                mark.signal(Signal::KILL);
            }
            _ = keepalive.tick() => {
                let silent = ProcessEvent { keepalive: Some(Empty {}), ..ProcessEvent::default() };
                readers.offer(&event(silent));
            }
        }
    };
    mark.kill().await;
    // A reader that does not read would otherwise hold the end for ever. What it has not got by then is
    // lost, so it was not in time.
    let drained = Instant::now() + DRAIN;
    let rest = match status {
        Some(_) => deadline.deadline().max(drained),
        None => drained,
    };
    if tokio::time::timeout_at(rest, &mut pumps).await.is_err() {
        pumps.abort();
        return None;
    }
    let mut ended = status.map(ended)?;
    if is_full && !ended.exited {
        ended.status = "killed: more was written than the sandbox may have".to_owned();
        ended.error = Some(ended.status.clone());
    }
    Some(ended)
}

fn ended(status: WaitStatus) -> Ended {
    if let Some(code) = status.exit_status() {
        return Ended {
            exit_code: code,
            exited: true,
            status: format!("exit status {code}"),
            error: (code != 0).then(|| format!("exit status {code}")),
        };
    }
    let signal = status.terminating_signal().unwrap_or_default();
    let name = match signal {
        libc::SIGKILL => "killed".to_owned(),
        libc::SIGTERM => "terminated".to_owned(),
        libc::SIGSEGV => "segmentation fault".to_owned(),
        libc::SIGABRT => "aborted".to_owned(),
        libc::SIGSYS => "bad system call".to_owned(),
        libc::SIGXFSZ => "file size limit exceeded".to_owned(),
        other => format!("signal {other}"),
    };
    Ended {
        exit_code: -1,
        exited: false,
        status: format!("signal: {name}"),
        error: Some(format!("signal: {name}")),
    }
}

/// Reads one output of a command to its end.
async fn pump(readers: Readers, output: Option<OwnedFd>, data: fn(Base64) -> Data) {
    let Some(Ok(mut output)) = output.map(pipe::Receiver::from_owned_fd) else {
        return;
    };
    let mut chunk = vec![0; CHUNK];
    while let Ok(n @ 1..) = output.read(&mut chunk).await {
        let data = ProcessEvent {
            data: Some(data(Base64(chunk[..n].to_vec()))),
            ..ProcessEvent::default()
        };
        readers.send(event(data)).await;
    }
}

/// `Start`.
pub(super) async fn start(
    commands: &Arc<Commands>,
    request: Request<Incoming>,
) -> Outcome<Response<Body>> {
    let most = Duration::from_millis(commands.spec.limits.command_ms);
    let limit = timeout(request.headers()).map_or(most, |asked| asked.min(most));
    let asked = match first_message(request).await {
        Ok(asked) => asked,
        Err(refusal) => return Ok(refused(refusal)),
    };
    Ok(match commands.spawn(asked, limit).await {
        Ok(body) => stream(body),
        Err(refusal) => refused(refusal),
    })
}

/// `Connect`: follows a command that runs already, from now on.
pub(super) async fn attach(
    commands: &Arc<Commands>,
    request: Request<Incoming>,
) -> Outcome<Response<Body>> {
    let found = first_message::<Selected>(request)
        .await
        .and_then(|asked| commands.with(&asked.process, |pid, live| (pid, live.readers.clone())));
    let (pid, readers) = match found {
        Ok(found) => found,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let (mut sender, channel) = Channel::new(WAITING);
    let start = ProcessEvent {
        start: Some(Started { pid }),
        ..ProcessEvent::default()
    };
    let _ = sender.send_data(event(start)).await;
    readers.0.lock().await.push(sender);
    Ok(stream(Either::Right(channel)))
}

/// The time a caller gives, as Connect says it, less a little: the answer is to be there by then,
/// or callers that count themselves take it for a dead connection.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers.get("connect-timeout-ms")?.to_str().ok()?;
    let milliseconds: u64 = milliseconds.parse().ok().filter(|ms| *ms > 0)?;
    let on_the_way = (milliseconds / 20).min(50);
    Some(Duration::from_millis(milliseconds - on_the_way))
}

/// The one message of a request that is answered by a stream.
async fn first_message<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> Outcome<T> {
    let wrong = |why: &str| Refusal::new("invalid_argument", why);
    let body = Limited::new(request.into_body(), REQUEST_BYTES)
        .collect()
        .await
        .map_err(|_| wrong("the request is too long or was cut"))?;
    let mut decoder = Decoder::new(REQUEST_BYTES);
    decoder.feed(&body.to_bytes());
    match decoder.take() {
        Ok(Some(Frame::Message(message))) => serde_json::from_slice(&message)
            .map_err(|error| wrong(&format!("not the request: {error}"))),
        Ok(_) => Err(wrong("the request has no message")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

fn stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/connect+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A stream that says only why there is none: Connect streams always answer 200.
fn refused(refusal: Refusal) -> Response<Body> {
    let error = Some(refusal.wire());
    let end = frame::end(&StreamEnd { error });
    stream(Either::Left(http_body_util::Full::new(end)))
}
