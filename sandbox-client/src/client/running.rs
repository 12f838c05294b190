//! A command that runs in a sandbox: its events, its input, its end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sandbox_agent::frame::{Decoder, Frame};
use sandbox_agent::wire::{
    Base64, Input, ProcessConfig, Selected, Selector, SendInput, SendSignal, Start, StreamEnd,
    Streamed,
};
use serde::Serialize;
use tokio::time::Instant;

use super::{ClientError, Outcome, Sandbox, encode, refusal, words, wrong};
use crate::output::{Cap, Capped};
use crate::tier::Tier;

/// A service sends output in pieces of at most this.
const FRAME_BYTES: usize = 4 << 20;
/// How much later than the command's own time its end may come.
const GRACE: Duration = Duration::from_secs(5);

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command {
    pub program: String,
    pub arguments: Vec<String>,
    /// Where it starts; the workspace, or the home directory, when not given.
    pub directory: Option<String>,
    pub env: BTreeMap<String, String>,
    pub input: Stdin,
    /// When it and all it started are killed.
    pub timeout: Duration,
}

/// What a command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    Nothing,
    /// What [`Running::write`] gives, until [`Running::close_input`].
    Piped,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last one.
    End(End),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    Exited(i32),
    /// By a signal; the service's words.
    Killed(String),
    /// Its time was over, and all of it was killed.
    TimedOut,
}

/// A command that ran, with its output as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub end: End,
    pub stdout: Capped,
    pub stderr: Capped,
    /// Where it ran.
    pub tier: Tier,
    pub took: Duration,
}

/// A command that runs. Dropping it kills the command and everything it started.
pub struct Running {
    sandbox: Sandbox,
    pid: u32,
    body: Incoming,
    decoder: Decoder,
    waiting: VecDeque<Event>,
    end: Option<End>,
    deadline: Instant,
    /// Since when nobody waits for more, which is not the service's fault.
    rests: Option<Instant>,
    limit: Duration,
    is_over: bool,
}

impl Sandbox {
    /// Starts a command.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the sandbox's reason when there is no such program or
    /// directory; [`ClientError::Gone`] when there is no sandbox.
    pub async fn start(&self, command: Command) -> Outcome<Running> {
        let limit = command.timeout;
        let start = Start {
            process: ProcessConfig {
                cmd: command.program,
                args: command.arguments,
                envs: command.env,
                cwd: command.directory,
            },
            pty: None,
            tag: None,
            stdin: Some(command.input == Stdin::Piped),
        };
        let body = sandbox_agent::frame::message(&start);
        let mut ask = self.ask(Method::POST, "/process.Process/Start", body);
        ask.kind = "application/connect+json";
        ask.headers
            .push(("connect-timeout-ms", limit.as_millis().to_string()));
        ask.headers
            .push(("connect-protocol-version", "1".to_owned()));
        let deadline = Instant::now() + limit + GRACE;
        let answer = tokio::time::timeout_at(deadline, self.client.http.ask(ask)).await;
        let answer = answer.map_err(|_| ClientError::Silent(limit + GRACE))??;
        if answer.status == StatusCode::BAD_GATEWAY {
            return Err(ClientError::Gone);
        }
        if !answer.status.is_success() {
            let status = answer.status;
            return Err(refusal(status, &answer.whole(FRAME_BYTES).await?));
        }
        let mut running = Running {
            sandbox: self.clone(),
            pid: 0,
            body: answer.body,
            decoder: Decoder::new(FRAME_BYTES),
            waiting: VecDeque::new(),
            end: None,
            deadline,
            rests: None,
            limit,
            is_over: false,
        };
        while running.pid == 0 && running.waiting.is_empty() {
            if !running.read().await? {
                return Err(ClientError::Protocol(
                    "a command without a start".to_owned(),
                ));
            }
        }
        Ok(running)
    }

    /// Runs a command to its end, keeping at most `cap` of each end of each output.
    ///
    /// # Errors
    /// As [`Sandbox::start`] and [`Running::next`].
    pub async fn run(&self, command: Command, cap: Cap) -> Outcome<Finished> {
        let started = Instant::now();
        let mut running = self.start(command).await?;
        let (mut stdout, mut stderr) = (Capped::new(cap), Capped::new(cap));
        loop {
            match running.next().await? {
                Event::Stdout(bytes) => stdout.push(&bytes),
                Event::Stderr(bytes) => stderr.push(&bytes),
                Event::End(end) => {
                    return Ok(Finished {
                        end,
                        stdout,
                        stderr,
                        tier: self.tier,
                        took: started.elapsed(),
                    });
                }
            }
        }
    }
}

impl Running {
    /// Its number inside.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the next event. After [`Event::End`] there is none, and this is an error.
    ///
    /// # Errors
    /// [`ClientError::Gone`] when the connection is lost; [`ClientError::Silent`] when the command
    /// should have been over long since: the sandbox is not to be used any more then.
    pub async fn next(&mut self) -> Outcome<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            if self.is_over {
                return Err(ClientError::Protocol("the command has ended".to_owned()));
            }
            if !self.read().await? {
                self.is_over = true;
                let end = self.end.take().ok_or(ClientError::Gone)?;
                return Ok(Event::End(end));
            }
        }
    }

    /// Reads a piece of the stream. Returns whether there is more.
    async fn read(&mut self) -> Outcome<bool> {
        if let Some(since) = self.rests.take() {
            self.deadline += since.elapsed();
        }
        let piece = tokio::time::timeout_at(self.deadline, self.body.frame()).await;
        self.rests = Some(Instant::now());
        let Ok(piece) = piece else {
            return Err(ClientError::Silent(self.limit + GRACE));
        };
        let Some(piece) = piece else {
            // Without its last frame a stream was cut: nobody knows what became of the command.
            return self
                .decoder
                .finish()
                .map_or(Err(ClientError::Gone), |()| Ok(false));
        };
        let Ok(data) = piece.map_err(|_| ClientError::Gone)?.into_data() else {
            return Ok(true);
        };
        self.decoder.feed(&data);
        while let Some(frame) = self.decoder.take().map_err(wrong)? {
            match frame {
                Frame::Message(message) => {
                    let Streamed { event } = serde_json::from_slice(&message).map_err(wrong)?;
                    if let Some(started) = event.start {
                        self.pid = started.pid;
                    }
                    if let Some(data) = event.data {
                        let Base64(stdout) = data.stdout.unwrap_or_default();
                        let Base64(stderr) = data.stderr.unwrap_or_default();
                        if !stdout.is_empty() {
                            self.waiting.push_back(Event::Stdout(stdout.into()));
                        }
                        if !stderr.is_empty() {
                            self.waiting.push_back(Event::Stderr(stderr.into()));
                        }
                    }
                    if let Some(end) = event.end {
                        self.end = Some(match end.exited {
                            true => End::Exited(end.exit_code),
                            false => End::Killed(words(&end.status)),
                        });
                    }
                }
                Frame::End(end) => {
                    let end: StreamEnd = match end.is_empty() {
                        true => StreamEnd::default(),
                        false => serde_json::from_slice(&end).map_err(wrong)?,
                    };
                    match end.error {
                        Some(error) if error.code == "deadline_exceeded" => {
                            self.end = Some(End::TimedOut);
                        }
                        Some(error) => {
                            self.is_over = true;
                            return Err(ClientError::Refused {
                                status: 200,
                                message: words(&error.message),
                            });
                        }
                        None => {}
                    }
                }
            }
        }
        Ok(true)
    }

    /// Gives it something to read.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when its input is closed.
    pub async fn write(&self, bytes: Vec<u8>) -> Outcome<()> {
        let stdin = Some(Base64(bytes));
        let asked = SendInput {
            process: self.selector(),
            input: Input { stdin },
        };
        self.call("SendInput", &asked).await
    }

    /// Lets it read an end of file.
    ///
    /// # Errors
    /// When there is no sandbox any more.
    pub async fn close_input(&self) -> Outcome<()> {
        let process = self.selector();
        self.call("CloseStdin", &Selected { process }).await
    }

    /// Kills it and everything it started; its end still comes as an event.
    ///
    /// # Errors
    /// When there is no sandbox any more.
    pub async fn kill(&self) -> Outcome<()> {
        kill(&self.sandbox, self.pid).await
    }

    fn selector(&self) -> Selector {
        Selector {
            pid: Some(self.pid),
            tag: None,
        }
    }

    async fn call(&self, method: &str, asked: &impl Serialize) -> Outcome<()> {
        let path = format!("/process.Process/{method}");
        let ask = self.sandbox.ask(Method::POST, &path, encode(asked));
        self.sandbox.answer(ask, FRAME_BYTES).await.map(drop)
    }
}

async fn kill(sandbox: &Sandbox, pid: u32) -> Outcome<()> {
    let process = Selector {
        pid: Some(pid),
        tag: None,
    };
    let signal = "SIGNAL_SIGKILL".to_owned();
    let body = encode(&SendSignal { process, signal });
    let ask = sandbox.ask(Method::POST, "/process.Process/SendSignal", body);
    match sandbox.answer(ask, FRAME_BYTES).await {
        // It ended by itself.
        Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over || self.end.is_some() || self.pid == 0 {
            return;
        }
        // Must finish, though nobody waits for it; the command's own time ends it otherwise.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (sandbox, pid) = (self.sandbox.clone(), self.pid);
            runtime.spawn(async move { kill(&sandbox, pid).await });
        }
    }
}
