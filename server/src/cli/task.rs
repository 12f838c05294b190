//! `pairwright task`: a task in the terminal, with its progress, its questions and its hunks.

mod review;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::style::{self, paint};
use crate::agent::governor::Limits;
use crate::agent::{self, Ask, Attendance, Control, Handle, Mode, Place, Setup, Tasks};
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::edit::workspace::Workspace;
use crate::edit::worlds::NoDocuments;
use crate::error::{Kind, UserError};
use crate::index::{Indexes, cache_dir};
use crate::mcp::Servers;
use crate::models::Models;
use crate::shown::printable;
pub(super) use watch::line_of;

use crate::store::events::{Answer, Decision, EventKind, EventLog, Follow, GrantScope, TaskState};

/// How long indexing may take before the first turn.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tasks that are told of when another is started.
const UNFINISHED: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct TaskCommand {
    /// What is to be done
    #[arg(required_unless_present_any = ["resume", "stop", "review", "accept"])]
    prompt: Option<String>,
    /// Folder to work in
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// What the task may do
    #[arg(long, value_enum, default_value_t = Mode::Review, conflicts_with = "resume")]
    mode: Mode,
    /// Work on the new branch agent/TASK, in a git working tree of its own: your files stay as they
    /// are, and what it changes is committed there [default: the setting agent.worktree]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        conflicts_with = "resume"
    )]
    worktree: Option<bool>,
    /// Take up a task that was paused or killed
    #[arg(long, value_name = "TASK", conflicts_with = "prompt")]
    resume: Option<String>,
    /// End a task for good that was paused or killed; what it changed stays to be decided
    #[arg(long, value_name = "TASK", conflicts_with_all = ["prompt", "resume"])]
    stop: Option<String>,
    /// Decide the hunks of a task that has ended
    #[arg(long, value_name = "TASK", conflicts_with_all = ["prompt", "resume", "stop"])]
    review: Option<String>,
    /// Accept all undecided hunks of a task that has ended
    #[arg(long, value_name = "TASK", conflicts_with_all = ["prompt", "resume", "stop", "review"])]
    accept: Option<String>,
    /// Ask nothing: what the rules in FILE and those in force do not allow is denied, and a task
    /// that reaches a ceiling pauses
    #[arg(long, value_name = "FILE")]
    yes_policy: Option<PathBuf>,
    /// Turns of the model at most
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    steps: Option<u32>,
    /// Tokens at most
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    tokens: Option<u64>,
    /// Print events as JSON lines; answers to questions are read as JSON lines from stdin
    #[arg(long)]
    json: bool,
}

impl TaskCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Arc::new(super::apply::open(&self.root)?);
        if let Some(task) = &self.accept {
            return review::accept_all(&workspace, task);
        }
        if let Some(task) = &self.stop {
            return stop(&workspace, task);
        }
        if let Some(task) = &self.review {
            return review::by_hand(&workspace, task, &mut io::stdin().lock());
        }
        let runtime = super::runtime()?;
        let code = runtime.block_on(self.work(workspace));
        runtime.shutdown_timeout(Duration::from_secs(2));
        code
    }

    async fn work(&self, workspace: Arc<Workspace>) -> anyhow::Result<ExitCode> {
        let (setup, place) = self.setup(&workspace)?;
        let log = setup.log.clone();
        if self.resume.is_none() {
            tell_unfinished(&log)?;
        }
        let tasks = Tasks::default();
        let handle = match (&self.resume, &self.prompt) {
            (Some(id), _) => tasks.resume(setup, id)?,
            (None, Some(prompt)) => {
                agent::check_said(&setup.model, prompt).await?;
                let ask = Ask {
                    prompt: prompt.clone(),
                    besides: String::new(),
                    mode: self.mode,
                    place,
                    limits: Limits {
                        steps: self.steps,
                        tokens: self.tokens,
                        ..Limits::default()
                    },
                    request: None,
                };
                tasks.start(setup, ask)?
            }
            (None, None) => bail!("a task needs a prompt"),
        };
        let mut lines = match self.yes_policy {
            Some(_) => Lines::of_nobody(),
            None => Lines::start(),
        };
        let events = log.follow(&handle.id, 1);
        let state = self.follow(events, &handle, &mut lines).await?;
        match state {
            TaskState::Paused => {
                let hint = format!("go on with: pairwright task --resume {}", handle.id);
                writeln!(anstream::stderr(), "{}", paint(style::WARN, hint))?;
            }
            _ if self.json => {}
            _ if self.yes_policy.is_some() => review::only_show(&workspace, &handle.id)?,
            _ => review::at_the_end(&workspace, &handle.id, &mut lines).await?,
        }
        Ok(code_of(state))
    }

    /// What the task works with, and where a new one works.
    fn setup(&self, workspace: &Arc<Workspace>) -> anyhow::Result<(Setup, Place)> {
        let directories = Directories::find();
        let current = Current::load(directories.clone());
        let log = EventLog::new(Arc::clone(workspace.store())).of_folder(workspace.root().path());
        let mode = match &self.resume {
            Some(id) => log.task(id)?.and_then(|t| Mode::of_name(&t.intake.mode)),
            None => Some(self.mode),
        };
        if self.yes_policy.is_none() && !self.json && mode.is_some_and(Mode::changes) {
            super::trust::ask(&current, workspace.root().path())?;
        }
        let resolved = current.get();
        let is_trusted = resolved.trust.trusts(workspace.root().path());
        if let Some(mode) = mode {
            agent::check_trust(is_trusted, mode)?;
        }
        for problem in &resolved.problems {
            writeln!(anstream::stderr(), "settings: {problem}")?;
        }
        let settings = &resolved.settings;
        let (models, problems) = Models::default().with(settings);
        let model = match (models.agent, problems.into_iter().next()) {
            (Some(model), _) => model,
            (None, Some(problem)) => return Err(problem.into()),
            (None, None) => {
                return Err(UserError::new(Kind::Settings, "There is no model for tasks.")
                    .with_hint("Set `models.agent.url` and `models.agent.model` in ~/.config/pairwright/config.toml.")
                    .into());
            }
        };
        let indexes = match settings.index.enabled {
            true => Some(index(workspace.root().path(), &directories)?),
            false => None,
        };
        let place = Place::of(self.worktree, settings.agent.worktree, self.mode);
        let setup = Setup {
            log,
            workspace: Arc::clone(workspace),
            documents: Arc::new(NoDocuments),
            editor: None,
            indexes,
            model,
            servers: Servers::of(settings),
            sandbox: crate::sandbox::Settings::from(settings),
            startup: settings.agent.startup.clone(),
            is_trusted,
            config: directories.config,
            policy: self.yes_policy.clone(),
            attendance: match self.yes_policy {
                Some(_) => Attendance::Unattended,
                None => Attendance::Attended,
            },
            branch: None,
        };
        Ok((setup, place))
    }

    /// Shows what happens and passes on what the user says, until the task ends here.
    async fn follow(
        &self,
        mut events: Follow,
        handle: &Handle,
        lines: &mut Lines,
    ) -> anyhow::Result<TaskState> {
        let mut shown = watch::Shown::new(self.json);
        let mut n_interrupts = 0;
        let mut ended = Box::pin(handle.ended());
        let mut open: Option<crate::store::events::Approval> = None;
        loop {
            let state = tokio::select! {
                biased;
                event = events.next() => {
                    let event = event?;
                    shown.show(&event)?;
                    match event.kind {
                        EventKind::Approval(asked) => {
                            lines.forget_typed();
                            shown.ask(&asked)?;
                            open = Some(asked);
                        }
                        EventKind::Decided(_) => open = None,
                        _ => {}
                    }
                    None
                }
                line = lines.next(), if open.is_some() => {
                    if let Some(asked) = open.take() {
                        let answer = self.answer(&asked, line.as_deref());
                        match answer {
                            Some(answer) => drop(handle.send(Control::Answer(answer))),
                            None => {
                                shown.ask(&asked)?;
                                open = Some(asked);
                            }
                        }
                    }
                    None
                }
                _ = tokio::signal::ctrl_c() => {
                    n_interrupts += 1;
                    let (control, said) = match n_interrupts {
                        1 => (Control::Pause, "pausing; again to stop"),
                        _ => (Control::Stop, "stopping"),
                    };
                    handle.send(control);
                    writeln!(anstream::stderr(), "{}", paint(style::WARN, said))?;
                    None
                }
                state = &mut ended => Some(state),
            };
            if let Some(state) = state {
                for event in events.rest().await? {
                    shown.show(&event)?;
                }
                return Ok(state);
            }
        }
    }

    /// Reads an answer. `None` when it is not one; behind the end of a stream is nobody.
    fn answer(&self, asked: &crate::store::events::Approval, line: Option<&str>) -> Option<Answer> {
        let say = |decision, scope, text: Option<&str>| Answer {
            approval: asked.approval.clone(),
            decision,
            scope,
            text: text.map(str::to_owned),
            by: "user".into(),
        };
        let Some(line) = line.map(str::trim) else {
            return Some(Answer::of_nobody(&asked.approval));
        };
        if self.json {
            return match read_answer(line, &asked.approval) {
                Ok(answer) => Some(answer),
                Err(why) => {
                    // Events are on the other stream; a write that fails there ends the task.
                    let why = paint(style::WARN, format!("this answers nothing: {why}"));
                    let _ = writeln!(anstream::stderr(), "{why}");
                    None
                }
            };
        }
        if let crate::store::events::Subject::Question { options, .. } = &asked.subject {
            let chosen = line
                .parse::<usize>()
                .ok()
                .and_then(|n| options.get(n.checked_sub(1)?));
            let text = chosen.map_or(line, String::as_str);
            return Some(say(Decision::Yes, GrantScope::Once, Some(text)));
        }
        let has = |scope| asked.scopes.contains(&scope);
        match line.to_ascii_lowercase().as_str() {
            "y" | "yes" => Some(say(Decision::Yes, GrantScope::Once, None)),
            "t" if has(GrantScope::Task) => Some(say(Decision::Yes, GrantScope::Task, None)),
            "r" if has(GrantScope::Repository) => {
                Some(say(Decision::Yes, GrantScope::Repository, None))
            }
            "n" | "no" => Some(say(Decision::No, GrantScope::Once, None)),
            "" => None,
            _ => line
                .strip_prefix("n ")
                .map(|why| say(Decision::No, GrantScope::Once, Some(why))),
        }
    }
}

/// Reads an answer as programs give it, to the approval `asked`.
fn read_answer(line: &str, asked: &str) -> Result<Answer, String> {
    let mut answer: Answer = serde_json::from_str(line).map_err(|why| why.to_string())?;
    if answer.approval != asked {
        return Err(format!("what waits is {asked}"));
    }
    answer.by = "user".into();
    Ok(answer)
}

/// Ends a task that nobody works on, and shows what that came to.
fn stop(workspace: &Arc<Workspace>, task: &str) -> anyhow::Result<ExitCode> {
    let log = EventLog::new(Arc::clone(workspace.store())).of_folder(workspace.root().path());
    let known = log.session(task)?.map_or(0, |session| session.last);
    Tasks::default().stop(workspace, &log, task)?;
    for event in log.read_from(task, known + 1, usize::MAX)? {
        if let Some(line) = line_of(&event.kind) {
            writeln!(anstream::stdout(), "{line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says which tasks of the folder are not over and may be taken up.
fn tell_unfinished(log: &EventLog) -> anyhow::Result<()> {
    for task in log.unfinished()?.iter().take(UNFINISHED) {
        let title = printable(&task.title);
        let hint = format!(
            "not finished: {title}; go on with: pairwright task --resume {id}, or end it with: pairwright task --stop {id}",
            id = task.id
        );
        writeln!(anstream::stderr(), "{}", paint(style::WARN, hint))?;
    }
    Ok(())
}

fn index(root: &Path, directories: &Directories) -> anyhow::Result<Indexes> {
    let indexes = Indexes::new(&[root.to_owned()], cache_dir(directories)?);
    indexes.load();
    writeln!(
        anstream::stderr(),
        "{}",
        paint(style::FAINT, "bringing the index up to date")
    )?;
    indexes.settle(Instant::now() + PATIENCE);
    Ok(indexes)
}

fn code_of(state: TaskState) -> ExitCode {
    match state {
        TaskState::Succeeded => ExitCode::SUCCESS,
        TaskState::Planning
        | TaskState::Running
        | TaskState::Paused
        | TaskState::WaitingApproval
        | TaskState::Failed
        | TaskState::Cancelled => ExitCode::FAILURE,
    }
}

/// Lines the user types, read on a thread of their own: reading cannot be given up.
struct Lines {
    lines: mpsc::Receiver<String>,
    /// Somebody types them: what was typed before a question is no answer to it.
    is_typed: bool,
}

impl Lines {
    fn start() -> Self {
        let (tell, lines) = mpsc::channel(16);
        let is_typed = io::stdin().is_terminal();
        std::thread::spawn(move || {
            for line in io::stdin().lines() {
                let Ok(line) = line else { break };
                let is_heard = match is_typed {
                    // Full of what nobody asked for.
                    true => !matches!(tell.try_send(line), Err(TrySendError::Closed(_))),
                    false => tell.blocking_send(line).is_ok(),
                };
                if !is_heard {
                    break;
                }
            }
        });
        Self { lines, is_typed }
    }

    /// Where nobody is to be asked: standard input is the caller's, and is left alone.
    fn of_nobody() -> Self {
        let (_, lines) = mpsc::channel(1);
        Self {
            lines,
            is_typed: false,
        }
    }

    /// Forgets what was typed before the question that is asked now.
    fn forget_typed(&mut self) {
        while self.is_typed && self.lines.try_recv().is_ok() {}
    }

    /// The next line; `None` when there is none any more.
    async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }
}

/// Asks a question at the prompt.
fn prompt(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stderr();
    write!(out, "{} ", paint(style::TITLE, text))?;
    if !io::stdin().is_terminal() {
        writeln!(out)?;
    }
    out.flush().context("the question cannot be shown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_typed_before_a_question_answers_nothing_and_what_was_piped_does() {
        for (is_typed, heard) in [(true, "after"), (false, "before")] {
            let (tell, lines) = mpsc::channel(16);
            let mut lines = Lines { lines, is_typed };
            tell.send("before".to_owned()).await.unwrap();
            lines.forget_typed();
            tell.send("after".to_owned()).await.unwrap();
            assert_eq!(lines.next().await.as_deref(), Some(heard));
        }
    }
}
