//! A server that is a program of this machine, spoken with over its standard streams.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::config::McpServer;
use crate::program::outside;
use crate::shown::plain;

/// Variables that a program is handed without being named: what a login has, and no keys.
#[cfg(unix)]
const USUAL: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];
#[cfg(not(unix))]
const USUAL: &[&str] = &[
    "APPDATA",
    "HOMEDRIVE",
    "HOMEPATH",
    "LOCALAPPDATA",
    "PATH",
    "PATHEXT",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
];

/// Bytes kept of the end of what a program says on its error stream.
const KEPT: usize = 2 << 10;
/// How long its last words are waited for once its connection has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How a program is started.
#[derive(Debug)]
pub(super) struct Start {
    command: String,
    arguments: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    /// Variables that are to be handed over and are not there.
    missing: Vec<String>,
}

/// A program that runs. Dropping it kills it and all it started.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    group: Option<u32>,
    said: Arc<Mutex<Vec<u8>>>,
    listening: Option<AbortOnDropHandle<()>>,
}

impl Start {
    pub(super) fn of(command: &str, server: &McpServer) -> Self {
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut missing = Vec::new();
        for name in USUAL {
            variables.extend(std::env::var(name).ok().map(|v| ((*name).to_owned(), v)));
        }
        for name in &server.pass_env {
            match std::env::var(name) {
                Ok(value) => variables.push((name.clone(), value)),
                Err(_) => missing.push(name.clone()),
            }
        }
        variables.extend(server.env.iter().map(|(n, v)| (n.clone(), v.clone())));
        Self {
            command: command.to_owned(),
            arguments: server.args.clone(),
            variables,
            missing,
        }
    }

    /// Starts it. Call it within a tokio runtime.
    ///
    /// # Errors
    /// Why it cannot be started, as a clause.
    pub(super) fn start(&self) -> Result<(Program, ChildStdout, ChildStdin), String> {
        if let Some(name) = self.missing.first() {
            return Err(format!("the environment variable {name} is not set"));
        }
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(n, v)| (n, v)))
            .current_dir(outside())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|why| format!("{:?} cannot be started: {why}", self.command))?;
        let streams = (child.stdout.take(), child.stdin.take(), child.stderr.take());
        let (Some(output), Some(input), Some(errors)) = streams else {
            return Err("its streams are not there".into());
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listening = tokio::spawn(listen(errors, Arc::clone(&said)));
        let program = Program {
            group: child.id(),
            child,
            said,
            listening: Some(AbortOnDropHandle::new(listening)),
        };
        Ok((program, output, input))
    }
}

async fn listen(mut errors: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = errors.read(&mut piece).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&piece[..n]);
        let n_over = said.len().saturating_sub(KEPT);
        said.drain(..n_over);
    }
}

impl Program {
    /// Adds to `why` what the program said last on its error stream, once it has ended.
    pub(super) async fn last_words(&mut self, why: String) -> String {
        let ended = async {
            if let Some(listening) = &mut self.listening {
                let _ = listening.await;
            }
            self.child.wait().await
        };
        let Ok(Ok(status)) = tokio::time::timeout(LAST_WORDS, ended).await else {
            return why;
        };
        self.listening = None;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        match said.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{why} ({status}: {})", plain(line.trim(), 200)),
            None => format!("{why} ({status})"),
        }
    }

    /// Asks it to end, and kills what is left after `patience`.
    pub(super) async fn end(mut self, patience: Duration) {
        self.signal(Signal::End);
        let _ = tokio::time::timeout(patience, self.child.wait()).await;
    }

    #[cfg(unix)]
    fn signal(&self, signal: Signal) {
        use rustix::process::{Pid, kill_process_group};
        let group = self.group.and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // It may be gone.
            let _ = kill_process_group(
                group,
                match signal {
                    Signal::End => rustix::process::Signal::TERM,
                    Signal::Kill => rustix::process::Signal::KILL,
                },
            );
        }
    }

    #[cfg(not(unix))]
    fn signal(&mut self, _: Signal) {
        let _ = self.child.start_kill();
    }
}

#[derive(Clone, Copy)]
enum Signal {
    End,
    Kill,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::Kill);
    }
}

/// A stream that fails when more comes than may.
pub(super) struct Metered<R> {
    stream: R,
    left: Arc<AtomicUsize>,
}

impl<R> Metered<R> {
    pub(super) fn new(stream: R, left: Arc<AtomicUsize>) -> Self {
        Self { stream, left }
    }
}

/// Takes `n` bytes off what may still come.
///
/// # Errors
/// When that is more than is left; then nothing is left.
pub(super) fn charge(left: &AtomicUsize, n: usize) -> io::Result<()> {
    let charged = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        Some(left.saturating_sub(n))
    });
    match charged {
        Ok(before) if before > n => Ok(()),
        Ok(_) | Err(_) => Err(io::Error::other("it sends without end")),
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let n = buf.filled().len() - before;
        Poll::Ready(match n {
            0 => Ok(()),
            n => charge(&self.left, n),
        })
    }
}
