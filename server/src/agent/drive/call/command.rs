//! Commands: allowed, run in the sandbox, told as they go; what they changed is kept if wanted.

use std::time::Duration;

use sandbox_client::client::End as CommandEnd;

use super::super::approve::Asked;
use super::super::{Driver, Flow};
use super::{Reported, brings_marks};
use crate::agent::policy::{Access, Ruling, grants_host};
use crate::agent::proposed::Row;
use crate::agent::sandbox::{Changed, Ran, TaskSandbox};
use crate::agent::tools::{run, tests};
use crate::model::ToolCall;
use crate::secret::Stream;
use crate::store::events::{EventKind, Outcome, Permission, Subject};

/// Output of a command that is told while it runs, in bytes; the rest is in the result.
const TOLD: usize = 64 << 10;
/// How often permissions are looked at while a command uses them.
const LOOK: Duration = Duration::from_millis(250);
/// How long git may take to show something.
const GIT_PATIENCE: Duration = Duration::from_secs(20);
/// What is said first of a command in a sandbox that began anew.
const ANEW: &str = "The sandbox is new: what earlier commands left in it is gone.\n";

/// A sandbox in which a command can run.
struct Ready {
    tier: String,
    /// What its command's result begins with.
    said: &'static str,
}

impl Driver {
    /// Runs a command of the model in the sandbox, where it is allowed.
    pub(super) async fn command(
        &mut self,
        call: &ToolCall,
        arguments: run::Arguments,
    ) -> Flow<Reported> {
        let line = arguments.command.trim().to_owned();
        let verdict = self.desk.policy().judge_line(&line, &self.grants);
        let remembered = verdict.remembered.clone();
        let asked = Asked {
            id: format!("{}.command.{}", self.id, call.id),
            call: Some(call.id.clone()),
            subject: Subject::Command {
                command: line.clone(),
                remembered: remembered
                    .as_ref()
                    .map_or_else(|| line.clone(), |w| w.join(" ")),
            },
            reason: verdict.why.clone(),
            remembered: remembered.map(Permission::Command),
        };
        if let Some(refused) = self.allowed(call, verdict, asked).await? {
            return Ok(refused);
        }
        let hosts = match self.hosts(call, &line, arguments.network).await? {
            Ok(hosts) => hosts,
            Err(refused) => return Ok(refused),
        };
        let Ready { tier, said } = match self.ready_sandbox(&hosts).await? {
            Ok(ready) => ready,
            Err(why) => {
                return Ok(Reported::failed(format!(
                    "no command can run, because there is no sandbox: {why:#}"
                )));
            }
        };
        let others = match call.name == tests::NAME {
            true => self.others().await?,
            false => None,
        };
        let most = self.governor.ceilings().command;
        let timeout = Duration::from_secs(arguments.seconds.unwrap_or(most).min(most).max(1));
        let began = EventKind::ToolStarted {
            call: call.id.clone(),
            sandbox: self.sandbox.as_ref().map(|s| s.id().to_owned()),
        };
        self.record(vec![began]).await?;
        let ran = match self.follow(call, &line, timeout, &hosts).await? {
            Ok(ran) => ran,
            Err(why) => {
                // Whatever ran in it is dead; the next command gets a new one.
                if let Some(sandbox) = self.sandbox.take() {
                    sandbox.close().await;
                }
                return Ok(Reported {
                    outcome: Outcome::Unknown,
                    tier: Some(tier),
                    ..Reported::failed(format!("the sandbox was lost: {why:#}"))
                });
            }
        };
        let how = match &ran.end {
            CommandEnd::Exited(code) => format!("exit code {code}"),
            CommandEnd::Killed(how) => format!("killed: {how}"),
            CommandEnd::TimedOut => format!("killed after {} s", timeout.as_secs()),
        };
        let mut text = format!("{said}{how}\n{}", ran.output.text());
        let mut result = Reported {
            is_data: true,
            tier: Some(tier),
            ..Reported::done("")
        };
        if ran.end != CommandEnd::Exited(0) {
            result.outcome = Outcome::Failed;
        }
        if let Some(others) = &others {
            text.push_str(&format!("\nthe tests ran with {others}\n"));
        }
        result.others = others;
        self.tell_denials(call, &mut text, &mut result.beside)
            .await?;
        if arguments.keep_changes {
            match self.keep_changes().await? {
                Ok((rows, said)) => {
                    text.push_str(&said);
                    if !rows.is_empty() {
                        result.beside.push(self.diff(&rows));
                    }
                    result.rows = rows;
                }
                Err(why) => text.push_str(&format!("\nthe changes could not be kept: {why:#}\n")),
            }
        }
        result.text = text;
        Ok(result)
    }

    /// Makes the sandbox have the files as the task has them, and reach these hosts. The user can
    /// stop it; a sandbox that is not ready is none.
    async fn ready_sandbox(&mut self, hosts: &[String]) -> Flow<anyhow::Result<Ready>> {
        let (desk, proposed) = (self.desk.clone(), self.desk.proposed().clone());
        let (opening, sandbox) = (self.opening(), self.sandbox.take());
        let readying = Box::pin(async move {
            let unsaved = tokio::task::spawn_blocking(move || desk.unsaved()).await?;
            let was_there = sandbox.is_some();
            let mut said = "";
            let mut sandbox = opening.of(sandbox).await?;
            // It may have come to the end of its life, or too much was saved.
            if let Err(why) = sandbox.bring(&proposed, unsaved.clone()).await {
                tracing::info!("the sandbox of a task begins anew: {why:#}");
                if was_there {
                    said = ANEW;
                }
                sandbox.close().await;
                sandbox = opening.of(None).await?;
                sandbox.bring(&proposed, unsaved).await?;
            }
            sandbox.set_network(hosts).await?;
            let tier = sandbox.label();
            anyhow::Ok((sandbox, Ready { tier, said }))
        });
        let readied = self.hearing(readying).await?;
        Ok(readied.map(|(sandbox, ready)| {
            self.sandbox = Some(sandbox);
            ready
        }))
    }

    /// Does something in the sandbox there is. The user can stop it.
    pub(super) async fn in_sandbox<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut TaskSandbox) -> anyhow::Result<T>,
    ) -> Flow<anyhow::Result<T>> {
        let Some(mut sandbox) = self.sandbox.take() else {
            return Ok(Err(anyhow::anyhow!("there is no sandbox")));
        };
        let done = self.hearing(work(&mut sandbox)).await;
        self.sandbox = Some(sandbox);
        done
    }

    /// What commands before left in the sandbox that is not among the task's changes. The user can
    /// stop it.
    async fn others(&mut self) -> Flow<Option<String>> {
        let others = self.in_sandbox(async |sandbox| sandbox.others().await);
        let unknown = |why: anyhow::Error| Some(format!("files that nobody knows: {why:#}"));
        Ok(others.await?.unwrap_or_else(unknown))
    }

    /// Runs a line to its end and tells its output as it comes. The user can stop it.
    async fn follow(
        &mut self,
        call: &ToolCall,
        line: &str,
        timeout: Duration,
        hosts: &[String],
    ) -> Flow<anyhow::Result<Ran>> {
        let starting = self.in_sandbox(async |sandbox| sandbox.start(line, timeout).await);
        let mut started = match starting.await? {
            Ok(started) => started,
            Err(why) => return Ok(Err(why)),
        };
        let mut n_told = 0;
        let mut pending = Vec::new();
        // Of a private key, the lines behind the first come later.
        let mut shown = Stream::default();
        let mut open = hosts.to_vec();
        let mut given = hosts.to_vec();
        given.retain(|host| grants_host(&self.grants, host));
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let next = tokio::select! {
                piece = started.next() => Ok(piece),
                control = self.controls.recv(), if !self.controls.is_closed() => Err(control),
                _ = looks.tick(), if !given.is_empty() => {
                    self.take_back(&mut open, &mut given).await?;
                    continue;
                }
            };
            match next {
                Ok(Err(why)) => return Ok(Err(why)),
                Ok(Ok(Some(bytes))) => {
                    if n_told >= TOLD {
                        continue;
                    }
                    pending.extend_from_slice(&bytes);
                    // Whole lines, so that no secret is told in two halves.
                    let Some(end) = pending.iter().rposition(|b| *b == b'\n') else {
                        if pending.len() > TOLD {
                            n_told = TOLD;
                        }
                        continue;
                    };
                    let rest = pending.split_off(end + 1);
                    let told = std::mem::replace(&mut pending, rest);
                    n_told += told.len();
                    let text = shown.take(&String::from_utf8_lossy(&told));
                    let call = call.id.clone();
                    if !text.is_empty() {
                        self.record_soon(vec![EventKind::ToolOutput { call, text }])
                            .await?;
                    }
                }
                Ok(Ok(None)) => return Ok(started.end()),
                Err(None) => self.controls.close(),
                // A pause waits for the command, a stop does not: dropping it kills it.
                Err(Some(control)) => self.mind(control).await?,
            }
        }
    }

    /// Takes what a command changed into the proposal. The user can stop it.
    async fn keep_changes(&mut self) -> Flow<anyhow::Result<(Vec<Row>, String)>> {
        let proposed = self.desk.proposed().clone();
        let changing = self.in_sandbox(async |sandbox| sandbox.changes(&proposed).await);
        let changed = changing.await?;
        Ok(changed.and_then(|changed| self.take_changes(changed)))
    }

    fn take_changes(&mut self, changed: Changed) -> anyhow::Result<(Vec<Row>, String)> {
        let Changed {
            plan,
            mut left_out,
            states,
        } = changed;
        let mut said = String::new();
        let mut rows = Vec::new();
        if let Some(mut plan) = plan {
            plan.files.retain(|file| {
                let verdict = self.desk.judge(Access::Write, &file.path, &self.grants);
                let why = match verdict.ruling {
                    Ruling::Allow if brings_marks(file) => "a secret in it is only a mark",
                    Ruling::Allow => return true,
                    Ruling::Ask | Ruling::Deny => &verdict.why,
                };
                left_out.push(format!("{}: {why}", file.path));
                false
            });
            for file in &plan.files {
                said.push_str(&format!("kept the changes of {}\n", file.path));
            }
            rows = self.desk.take(plan)?;
        }
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.settle(states);
        }
        for left in left_out {
            said.push_str(&format!("not kept: {left}\n"));
        }
        Ok((rows, said))
    }

    /// Runs a command of ours that only reads, in the sandbox. The user can stop it.
    pub(super) async fn git_command(&mut self, line: String) -> Flow<Reported> {
        let (said, ran) = match self.ready_sandbox(&[]).await? {
            Ok(Ready { said, .. }) => {
                let running =
                    self.in_sandbox(async |sandbox| sandbox.run(&line, GIT_PATIENCE).await);
                (said, running.await?)
            }
            Err(why) => ("", Err(why)),
        };
        let text = |ran: &Ran| format!("{said}{}", ran.output.text());
        Ok(match ran {
            Ok(ran) if ran.end == CommandEnd::Exited(0) => Reported::of(Ok(text(&ran))),
            Ok(ran) => Reported::of(Err(text(&ran))),
            Err(why) => Reported::failed(format!("git cannot be asked: {why:#}")),
        })
    }
}
