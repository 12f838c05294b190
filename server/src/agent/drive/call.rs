//! One tool call: judged, asked for, run, written down.

mod network;

use std::time::{Duration, Instant};

use sandbox_client::client::End as CommandEnd;

use super::approve::Asked;
use super::{Driver, End, Flow, off_thread};
use crate::agent::governor::{Observed, Verdict as Circle};
use crate::agent::policy::{Access, Ruling, Verdict, grants_host};
use crate::agent::prompt;
use crate::agent::proposed::Row;
use crate::agent::sandbox::TaskSandbox;
use crate::agent::tool::{self, Call};
use crate::agent::tools::{
    edit, finish, git_diff, git_log, grep, list, plan, read_file, run, search, tests,
};
use crate::edit::path::RepoPath;
use crate::edit::plan::FilePlan;
use crate::model::ToolCall;
use crate::secret::MARK;
use crate::store::StoreError;
use crate::store::events::{
    Decision, Denial, Durability, Effect, Event, EventKind, Outcome, Permission, Subject,
};

/// Output of a command that is told while it runs, in bytes; the rest is in the result.
const TOLD: usize = 64 << 10;

/// What is said of a command and of a call that a killed process left.
const LOST_COMMAND: &str = "Pairwright was ended while this command ran. Nobody knows how far it came. Its sandbox is gone, with all it wrote; run it again if that is what you need.";
const LOST_CALL: &str = "Pairwright was ended while this call was under way. Nobody knows whether it took effect: look before you call it again.";
/// How often permissions are looked at while a command uses them.
const LOOK: Duration = Duration::from_millis(250);

/// What is said of a call that was written down without a secret.
const ALTERED: &str = "nothing was done: what looks like a secret (a key, a token, a password) is taken out of everything that is written down, and there was one in this call. Leave the value out: read it from the environment, or let the user put it in.";

/// What came of a call.
pub(super) struct Reported {
    outcome: Outcome,
    text: String,
    /// Whether the text is data from files or programs.
    is_data: bool,
    tier: Option<String>,
    rows: Vec<Row>,
    beside: Vec<EventKind>,
    /// The task ends with this call.
    end: Option<End>,
}

impl Reported {
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Done,
            text: text.into(),
            is_data: false,
            tier: None,
            rows: Vec::new(),
            beside: Vec::new(),
            end: None,
        }
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failed,
            ..Self::done(text)
        }
    }

    pub(super) fn of(said: Result<String, String>) -> Self {
        match said {
            Ok(text) => Self {
                is_data: true,
                ..Self::done(text)
            },
            // It may tell of names and lines of files.
            Err(why) => Self {
                is_data: true,
                ..Self::failed(why)
            },
        }
    }
}

/// The id of the nth call of a task, whatever the model's server calls it. Nine letters and
/// digits, which every server takes.
pub(super) fn id_of(n: usize) -> String {
    format!("c{n:08}")
}

fn unread(why: &StoreError) -> End {
    End::Failed(format!("what was written down cannot be read: {why}"))
}

/// Whether a file would have more marks of secrets that were taken out than before.
fn brings_marks(file: &FilePlan) -> bool {
    let count = |bytes: &Option<Vec<u8>>| {
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default());
        text.matches(MARK).count()
    };
    count(&file.after) > count(&file.before)
}

/// How the model finished, from the events of a task.
pub(super) fn finished(events: &[Event]) -> Option<End> {
    // What was said after it was heard in its last moment.
    let said = |e: &Event| matches!(e.kind, EventKind::Entry { .. } | EventKind::Steer { .. });
    let last = events.iter().rev().take_while(|e| !said(e));
    let id = last.into_iter().find_map(|e| match &e.kind {
        EventKind::ToolResult {
            call,
            tool,
            outcome: Outcome::Done,
            ..
        } if tool == finish::NAME => Some(call),
        _ => None,
    })?;
    let arguments = events.iter().find_map(|e| match &e.kind {
        EventKind::ToolCall {
            call, arguments, ..
        } if call == id => Some(arguments),
        _ => None,
    })?;
    let arguments: finish::Arguments = serde_json::from_str(arguments).ok()?;
    Some(End::Finished {
        summary: arguments.summary,
        succeeded: arguments.succeeded,
    })
}

impl Driver {
    /// The event that says that a call is wanted.
    pub(super) fn planned(&self, call: &ToolCall) -> EventKind {
        EventKind::ToolCall {
            call: call.id.clone(),
            tool: call.name.clone(),
            arguments: call.arguments.clone(),
            effect: tool::parse(call, self.mode, &self.servers)
                .map_or(Effect::Read, |c| c.effect()),
        }
    }

    /// Goes on with calls that a killed process left: those that began a command are unknown, all
    /// others run now.
    pub(super) async fn take_up_calls(&mut self) -> Flow<()> {
        let open = self.transcript.open_calls();
        if open.is_empty() {
            return Ok(());
        }
        let (log, id) = (self.setup.log.clone(), self.id.clone());
        let steps = off_thread(move || log.steps(&id))
            .await?
            .map_err(|why| unread(&why))?;
        for call in open {
            let began = steps
                .iter()
                .find(|s| s.call == call.id && s.state == "started");
            let lost = began.and_then(|step| match step.effect.as_str() {
                "command" => Some(LOST_COMMAND),
                "outside" => Some(LOST_CALL),
                _ => None,
            });
            if let Some(lost) = lost {
                let unknown = Reported {
                    outcome: Outcome::Unknown,
                    ..Reported::done(lost)
                };
                self.finish_call(&call, unknown, Duration::ZERO).await?;
            } else {
                // Whether the model wrote the mark itself nobody knows any more.
                if call.arguments.contains(MARK) {
                    self.altered.insert(call.id.clone());
                }
                self.step(&call).await?;
            }
        }
        Ok(())
    }

    /// Runs a call and writes down what came of it.
    pub(super) async fn step(&mut self, call: &ToolCall) -> Flow<()> {
        self.mind_controls().await?;
        let started = Instant::now();
        let (log, id) = (self.setup.log.clone(), self.id.clone());
        self.grants = off_thread(move || log.grants(Some(&id)))
            .await?
            .map_err(|why| unread(&why))?;
        let waited = self.governor.spent(started).wall;
        let result = match tool::parse(call, self.mode, &self.servers) {
            Err(why) => Reported::failed(why),
            Ok(Call::Edit(..) | Call::Run(_) | Call::Tests(_) | Call::Mcp(_))
                if self.altered.contains(&call.id) =>
            {
                Reported::failed(ALTERED)
            }
            Ok(parsed) => self.perform(call, parsed).await?,
        };
        // Waiting for the user is not the tool's time.
        let worked = self
            .governor
            .spent(Instant::now())
            .wall
            .saturating_sub(waited);
        let took = started.elapsed().min(Duration::from_millis(worked + 1));
        self.finish_call(call, result, took).await
    }

    async fn perform(&mut self, call: &ToolCall, parsed: Call) -> Flow<Reported> {
        Ok(match parsed {
            Call::ReadFile(arguments) => self.look(move |d| read_file::run(d, &arguments)).await?,
            Call::List(arguments) => self.look(move |d| list::run(d, &arguments)).await?,
            Call::Search(arguments) => self.look(move |d| search::run(d, &arguments)).await?,
            Call::Grep(arguments) => self.look(move |d| grep::run(d, &arguments)).await?,
            Call::GitDiff(arguments) if !arguments.uncommitted => {
                self.look(|desk| Ok(git_diff::of_task(desk))).await?
            }
            Call::GitDiff(_) => self.git_command(git_diff::COMMAND.to_owned()).await,
            Call::GitLog(arguments) => match git_log::command(&self.desk, &arguments) {
                Ok(line) => self.git_command(line).await,
                Err(why) => Reported::failed(why),
            },
            Call::Edit(arguments, text) => self.edit(call, arguments, text).await?,
            Call::Run(arguments) => self.command(call, arguments).await?,
            Call::Tests(arguments) => {
                let desk = self.desk.clone();
                match off_thread(move || tests::command(&desk, &arguments)).await? {
                    Ok(line) => {
                        let arguments = run::Arguments {
                            command: line,
                            keep_changes: false,
                            network: Vec::new(),
                            seconds: None,
                        };
                        self.command(call, arguments).await?
                    }
                    Err(why) => Reported::of(Err(why)),
                }
            }
            Call::AskUser(arguments) => {
                let asked = Asked {
                    id: format!("{}.question.{}", self.id, call.id),
                    call: Some(call.id.clone()),
                    reason: "the model asks".into(),
                    subject: Subject::Question {
                        text: arguments.question,
                        options: arguments.options,
                    },
                    remembered: None,
                };
                let answer = self.approve(asked).await?;
                let yes_or_no = match answer.decision {
                    Decision::Yes => "yes",
                    Decision::No => "no answer",
                };
                Reported::done(answer.text.unwrap_or_else(|| yes_or_no.into()))
            }
            Call::Plan(arguments) => {
                let mut items = arguments.items;
                items.truncate(plan::MOST);
                self.plan.clone_from(&items);
                Reported {
                    beside: vec![EventKind::Plan { items }],
                    ..Reported::done("the plan is set")
                }
            }
            Call::Mcp(arguments) => self.call_server(call, arguments).await?,
            Call::Finish(_) if !self.steers.is_empty() => {
                Reported::failed("the user has said something more, which comes next")
            }
            Call::Finish(arguments) => Reported {
                end: Some(End::Finished {
                    summary: arguments.summary,
                    succeeded: arguments.succeeded,
                }),
                ..Reported::done("the task ends")
            },
        })
    }

    /// Runs a tool that only looks, on a thread that may wait.
    async fn look(
        &mut self,
        work: impl FnOnce(&crate::agent::desk::Desk) -> Result<String, String> + Send + 'static,
    ) -> Flow<Reported> {
        let desk = self.desk.clone();
        let said = tokio::task::spawn_blocking(move || work(&desk)).await;
        Ok(match said {
            Ok(said) => Reported::of(said),
            Err(why) => Reported::failed(format!("the tool broke: {why}")),
        })
    }

    async fn edit(
        &mut self,
        call: &ToolCall,
        arguments: edit::Arguments,
        text: String,
    ) -> Flow<Reported> {
        let desk = self.desk.clone();
        let prepared =
            tokio::task::spawn_blocking(move || edit::prepare(&desk, &arguments, &text)).await;
        let plan = match prepared {
            Ok(Ok(plan)) => plan,
            Ok(Err(why)) => return Ok(Reported::of(Err(why))),
            Err(why) => return Ok(Reported::failed(format!("the tool broke: {why}"))),
        };
        if let Some(file) = plan.files.iter().find(|file| brings_marks(file)) {
            return Ok(Reported::failed(format!(
                "nothing was changed: {} would get the mark `{MARK}…]` where it has a value that you were not shown. Change only the lines around it.",
                file.path
            )));
        }
        let paths: Vec<RepoPath> = plan
            .files
            .iter()
            .flat_map(|f| f.moved_from.iter().chain([&f.path]))
            .cloned()
            .collect();
        for path in paths {
            let verdict = self.desk.judge(Access::Write, &path, &self.grants);
            let asked = Asked {
                id: format!("{}.edit.{}.{path}", self.id, call.id),
                call: Some(call.id.clone()),
                subject: Subject::Edit {
                    path: verdict.what.clone(),
                },
                reason: verdict.why.clone(),
                remembered: Some(Permission::Path(globset::escape(&verdict.what))),
            };
            if let Some(refused) = self.allowed(call, verdict, asked).await? {
                return Ok(refused);
            }
        }
        let mut desk = self.desk.clone();
        let taken = off_thread(move || edit::run(&mut desk, plan).map(|taken| (desk, taken)));
        Ok(match taken.await? {
            Ok((desk, (text, rows))) => {
                self.desk = desk;
                Reported {
                    rows,
                    beside: vec![self.diff()],
                    ..Reported::done(text)
                }
            }
            Err(why) => Reported::failed(why),
        })
    }

    fn diff(&self) -> EventKind {
        EventKind::Diff {
            files: self.desk.proposed().summary(),
            proposal: None,
            rollback_token: None,
        }
    }

    /// Lets a judgement take effect. `None` when the call may go on.
    pub(super) async fn allowed(
        &mut self,
        call: &ToolCall,
        verdict: Verdict,
        asked: Asked,
    ) -> Flow<Option<Reported>> {
        let mut said = None;
        let why = match verdict.ruling {
            Ruling::Allow => return Ok(None),
            Ruling::Deny => verdict.why,
            Ruling::Ask => {
                let answer = self.approve(asked).await?;
                if answer.decision == Decision::Yes {
                    return Ok(None);
                }
                said = answer.text;
                format!("{} said no", answer.by)
            }
        };
        let (rule, what, instead) = (verdict.rule, verdict.what, verdict.instead);
        let mut text = format!("denied: {what}\nwhy: {why}\nrule: {rule}");
        if let Some(instead) = &instead {
            text.push_str(&format!("\ninstead: {instead}"));
        }
        // A repository's rules are its text, too; what the user says is not.
        let mut text = prompt::data(&self.mark, &text);
        if let Some(said) = &said {
            text.push_str(&format!("\nthe user says: {said}"));
        }
        let denial = Denial {
            call: call.id.clone(),
            rule,
            what,
            why,
            instead: said.or(instead),
        };
        Ok(Some(Reported {
            outcome: Outcome::Denied,
            beside: vec![EventKind::Denied(denial)],
            ..Reported::done(text)
        }))
    }

    async fn command(&mut self, call: &ToolCall, arguments: run::Arguments) -> Flow<Reported> {
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
        let tier = match self.ready_sandbox(&hosts).await {
            Ok(tier) => tier,
            Err(why) => {
                return Ok(Reported::failed(format!(
                    "no command can run, because there is no sandbox: {why:#}"
                )));
            }
        };
        let most = self.governor.ceilings().command;
        let timeout = Duration::from_secs(arguments.seconds.unwrap_or(most).min(most).max(1));
        let began = EventKind::ToolStarted {
            call: call.id.clone(),
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
        let mut text = format!("{how}\n{}", ran.output.text());
        let mut result = Reported {
            is_data: true,
            tier: Some(tier),
            ..Reported::done("")
        };
        if ran.end != CommandEnd::Exited(0) {
            result.outcome = Outcome::Failed;
        }
        self.tell_denials(call, &mut text, &mut result.beside).await;
        if arguments.keep_changes {
            match self.keep_changes().await {
                Ok((rows, said)) => {
                    text.push_str(&said);
                    if !rows.is_empty() {
                        result.beside.push(self.diff());
                    }
                    result.rows = rows;
                }
                Err(why) => text.push_str(&format!("\nthe changes could not be kept: {why:#}\n")),
            }
        }
        result.text = text;
        Ok(result)
    }

    /// Makes the sandbox have the files as the task has them, and reach these hosts.
    async fn ready_sandbox(&mut self, hosts: &[String]) -> anyhow::Result<String> {
        let desk = self.desk.clone();
        let unsaved = tokio::task::spawn_blocking(move || desk.unsaved()).await?;
        let proposed = self.desk.proposed().clone();
        let sandbox = self.open_sandbox().await?;
        if sandbox.bring(&proposed, unsaved.clone()).await.is_err() {
            // It may have come to the end of its life.
            if let Some(sandbox) = self.sandbox.take() {
                sandbox.close().await;
            }
            self.open_sandbox().await?.bring(&proposed, unsaved).await?;
        }
        let sandbox = self.open_sandbox().await?;
        sandbox.set_network(hosts).await?;
        Ok(sandbox.label())
    }

    /// Runs a line to its end and tells its output as it comes. The user can stop it.
    async fn follow(
        &mut self,
        call: &ToolCall,
        line: &str,
        timeout: Duration,
        hosts: &[String],
    ) -> Flow<anyhow::Result<crate::agent::sandbox::Ran>> {
        let started = match self
            .sandbox
            .as_ref()
            .map(|s: &TaskSandbox| s.start(line, timeout))
        {
            Some(started) => started.await,
            None => return Ok(Err(anyhow::anyhow!("there is no sandbox"))),
        };
        let mut started = match started {
            Ok(started) => started,
            Err(why) => return Ok(Err(why)),
        };
        let mut n_told = 0;
        let mut pending = Vec::new();
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
                    let text = String::from_utf8_lossy(&told).into_owned();
                    let call = call.id.clone();
                    self.record_soon(vec![EventKind::ToolOutput { call, text }])
                        .await?;
                }
                Ok(Ok(None)) => return Ok(started.end()),
                Err(None) => self.controls.close(),
                // A pause waits for the command, a stop does not: dropping it kills it.
                Err(Some(control)) => self.mind(control).await?,
            }
        }
    }

    /// Takes what a command changed into the proposal.
    async fn keep_changes(&mut self) -> anyhow::Result<(Vec<Row>, String)> {
        let proposed = self.desk.proposed().clone();
        let (plan, mut left_out) = match self.sandbox.as_mut() {
            Some(sandbox) => sandbox.changes(&proposed).await?,
            None => return Ok((Vec::new(), String::new())),
        };
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
        for left in left_out {
            said.push_str(&format!("not kept: {left}\n"));
        }
        Ok((rows, said))
    }

    /// Runs a command of ours that only reads, in the sandbox.
    async fn git_command(&mut self, line: String) -> Reported {
        let ran = async {
            self.ready_sandbox(&[]).await?;
            let sandbox = self.open_sandbox().await?;
            sandbox.run(&line, Duration::from_secs(20)).await
        };
        match ran.await {
            Ok(ran) if ran.end == CommandEnd::Exited(0) => Reported::of(Ok(ran.output.text())),
            Ok(ran) => Reported::of(Err(ran.output.text())),
            Err(why) => Reported::failed(format!("git cannot be asked: {why:#}")),
        }
    }

    /// Writes down what came of a call, charges it and looks for circles.
    async fn finish_call(&mut self, call: &ToolCall, result: Reported, took: Duration) -> Flow<()> {
        self.governor.charge_tool(took, result.text.len());
        let circle = self.governor.observe(Observed {
            tool: &call.name,
            arguments: &tool::canonical(&call.arguments),
            state: self.desk.proposed().state(),
            output: &result.text,
            failed: result.outcome != Outcome::Done,
        });
        let mut text = match result.is_data {
            true => prompt::data(&self.mark, &result.text),
            false => result.text,
        };
        if let Circle::Nudge(why) = &circle {
            text.push_str(&format!("\n\n{why}"));
        }
        if let Some(warning) = self.governor.warning(Instant::now()) {
            text.push_str(&format!("\n\n{warning}"));
        }
        let mut kinds = result.beside;
        kinds.push(EventKind::ToolResult {
            call: call.id.clone(),
            tool: call.name.clone(),
            outcome: result.outcome,
            text,
            took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            tier: result.tier,
        });
        self.record_with(kinds, result.rows, Durability::Synced)
            .await?;
        if let Some(end) = result.end {
            return Err(end);
        }
        match circle {
            Circle::Halt(why) => Err(End::Halted(why)),
            Circle::Fine | Circle::Nudge(_) => Ok(()),
        }
    }
}
