//! One tool call: judged, asked for, run, written down.

mod command;
mod network;

use std::time::{Duration, Instant};

use super::approve::Asked;
use super::{Driver, End, Flow, off_thread};
use crate::agent::governor::{Ended, Governor, Observed, Verdict as Circle};
use crate::agent::policy::{Access, Ruling, Verdict};
use crate::agent::prompt;
use crate::agent::proposed::Row;
use crate::agent::tool::{self, Call};
use crate::agent::tools::{
    diagnostics, edit, finish, git_diff, git_log, grep, list, plan, read_file, run, search,
    symbols, tests,
};
use crate::edit::path::RepoPath;
use crate::edit::plan::FilePlan;
use crate::model::ToolCall;
use crate::secret::{MARK, redact};
use crate::store::StoreError;
use crate::store::events::{
    Decision, Denial, Durability, Effect, Event, EventKind, Outcome, Permission, Subject,
};

/// What is said of a command and of a call that a killed process left.
const LOST_COMMAND: &str = "Pairwright was ended while this command ran. Nobody knows how far it came. Its sandbox is gone, with all it wrote; run it again if that is what you need.";
const LOST_CALL: &str = "Pairwright was ended while this call was under way. Nobody knows whether it took effect: look before you call it again.";

/// What is said of a call that was written down without a secret.
const ALTERED: &str = "nothing was done: what looks like a secret (a key, a token, a password) is taken out of everything that is written down, and there was one in this call. Leave the value out: read it from the environment, or let the user put it in.";

/// What is said of a result that must not be sent.
const WITHHELD: &str = "What this came to stays on the user's machine: there is something in it that must not be sent to you. Do without it, look at less, or ask the user.";

/// What came of a call.
pub(super) struct Reported {
    outcome: Outcome,
    text: String,
    /// Whether the text is data from files or programs.
    is_data: bool,
    tier: Option<String>,
    /// What tests ran with that is not among the task's changes.
    others: Option<String>,
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
            others: None,
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
            effect: self
                .tools()
                .parse(call)
                .map_or(Effect::Read, |parsed| parsed.effect()),
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
        if tool::works(&call.name) {
            self.check_budget(Governor::reached_by_calls).await?;
        }
        let started = Instant::now();
        let (log, id) = (self.setup.log.clone(), self.id.clone());
        self.grants = off_thread(move || log.grants(Some(&id)))
            .await?
            .map_err(|why| unread(&why))?;
        let waited = self.governor.spent(started).wall;
        let changes = tool::changes(&call.name);
        let result = match self.tools().parse(call) {
            Err(why) => Reported::failed(why),
            Ok(_) if changes && self.altered.contains(&call.id) => Reported::failed(ALTERED),
            Ok(parsed) => {
                let calls = self.governor.calls();
                match self.desk.policy().judge_quota(&call.name, calls) {
                    Some(verdict) => self.denied(call, verdict, None),
                    None if changes => match self.still_restricted(call).await? {
                        Some(refused) => refused,
                        None => self.perform(call, parsed).await?,
                    },
                    None => self.perform(call, parsed).await?,
                }
            }
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
            Call::Symbols(arguments) => self.look(move |d| symbols::run(d, &arguments)).await?,
            Call::Diagnostics(arguments) => self.ask_editor(&arguments).await?,
            Call::GitDiff(arguments) if !arguments.uncommitted => {
                self.look(|desk| Ok(git_diff::of_task(desk))).await?
            }
            Call::GitDiff(_) => self.git_command(git_diff::COMMAND.to_owned()).await?,
            Call::GitLog(arguments) => match git_log::command(&self.desk, &arguments) {
                Ok(line) => self.git_command(line).await?,
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
                    Decision::No if answer.is_of_nobody() => "nobody is there to be asked",
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

    /// Runs a tool that only looks, on a thread that may wait. The user can stop it.
    async fn look(
        &mut self,
        work: impl FnOnce(&crate::agent::desk::Desk) -> Result<String, String> + Send + 'static,
    ) -> Flow<Reported> {
        let desk = self.desk.clone();
        let looking = tokio::task::spawn_blocking(move || work(&desk));
        Ok(match self.hearing(looking).await? {
            Ok(said) => Reported::of(said),
            Err(why) => Reported::failed(format!("the tool broke: {why}")),
        })
    }

    async fn ask_editor(&mut self, arguments: &diagnostics::Arguments) -> Flow<Reported> {
        let file = diagnostics::file(&self.desk, arguments);
        let (file, editor) = match (file, &self.setup.editor) {
            (Ok(file), Some(editor)) => (file, editor),
            (Err(why), _) => return Ok(Reported::of(Err(why))),
            (_, None) => return Ok(Reported::failed("there is no editor to ask")),
        };
        let asking = tokio::time::timeout(diagnostics::PATIENCE, editor(file));
        let told = match self.hearing(asking).await? {
            Ok(told) => told.map_err(|why| format!("the editor does not tell: {why}")),
            Err(_) => Err("the editor did not answer in time".into()),
        };
        match told {
            Ok(found) => self.look(move |d| diagnostics::told(d, found)).await,
            Err(why) => Ok(Reported::of(Err(why))),
        }
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
            Ok(Err(edit::Refused::Said(why))) => return Ok(Reported::of(Err(why))),
            Ok(Err(edit::Refused::Denied(verdict))) => {
                return Ok(self.denied(call, *verdict, None));
            }
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
                    beside: vec![self.diff(&rows)],
                    rows,
                    ..Reported::done(text)
                }
            }
            Err(why) => Reported::failed(why),
        })
    }

    /// Tells what is proposed so far; of the files that `rows` change, the hunks too.
    fn diff(&self, rows: &[Row]) -> EventKind {
        EventKind::Diff {
            files: self.desk.proposed().progress(rows),
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
            Ruling::Deny => verdict.why.clone(),
            Ruling::Ask => {
                let answer = self.approve(asked).await?;
                if answer.decision == Decision::Yes {
                    return Ok(None);
                }
                match answer.is_of_nobody() {
                    true => "nobody is there to be asked".to_owned(),
                    false => {
                        said = answer.text;
                        format!("{} said no", answer.by)
                    }
                }
            }
        };
        Ok(Some(self.denied(call, Verdict { why, ..verdict }, said)))
    }

    /// What is told of a call that is not allowed, with what the user says to it.
    pub(super) fn denied(
        &self,
        call: &ToolCall,
        verdict: Verdict,
        said: Option<String>,
    ) -> Reported {
        let Verdict {
            rule,
            what,
            why,
            instead,
            ..
        } = verdict;
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
        Reported {
            outcome: Outcome::Denied,
            beside: vec![EventKind::Denied(denial)],
            ..Reported::done(text)
        }
    }

    /// What a call came to, without what must not be sent to the model: it would stay in the
    /// conversation, and no turn would be sent any more. What the user answers and what rules say is
    /// looked at, too.
    async fn let_go(&mut self, call: &ToolCall, result: Reported) -> Flow<Reported> {
        let Some(why) = self.withheld(result.text.clone()).await? else {
            return Ok(result);
        };
        let mut beside = result.beside;
        beside.push(EventKind::Denied(Denial {
            call: call.id.clone(),
            rule: "outbound".into(),
            what: format!("to send what {} came to", call.name),
            why,
            instead: None,
        }));
        Ok(Reported {
            text: WITHHELD.into(),
            is_data: false,
            beside,
            ..result
        })
    }

    /// Writes down what came of a call, charges it and looks for circles.
    async fn finish_call(&mut self, call: &ToolCall, result: Reported, took: Duration) -> Flow<()> {
        let result = self.let_go(call, result).await?;
        self.governor
            .charge_tool(&call.name, took, result.text.len());
        let observed = Observed {
            tool: &call.name,
            arguments: &tool::canonical(&call.arguments),
            state: self.desk.proposed().state(),
            // A hash of a secret may tell it.
            output: &redact(&result.text),
            failed: result.outcome != Outcome::Done,
        };
        let footprint = observed.footprint();
        let circle = self.governor.observe(footprint);
        let failing = self.governor.look_after(Ended {
            tool: &call.name,
            arguments: &tool::canonical(&redact(&call.arguments)),
            outcome: result.outcome,
            has_run: result.tier.is_some(),
            state: footprint.state,
        });
        let restricted = failing.and_then(|failing| self.restrict(failing));
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
        let nth = call.id.trim_start_matches('c').parse().unwrap_or(0);
        if let Some(reminder) = prompt::reminder(nth, &self.prompt, &self.plan) {
            text.push_str(&format!("\n\n{reminder}"));
        }
        let mut kinds = result.beside;
        if let Some((kind, told)) = restricted {
            text.push_str(&format!("\n\n{told}"));
            kinds.push(kind);
        }
        kinds.push(EventKind::ToolResult {
            call: call.id.clone(),
            tool: call.name.clone(),
            outcome: result.outcome,
            text,
            took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            tier: result.tier,
            footprint: Some(footprint),
            others: result.others,
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
