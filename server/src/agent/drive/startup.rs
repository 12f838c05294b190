//! What is looked up before the first turn.
//!
//! Holds: every part is bounded and may be missing, and one that must not be sent to the model is; git
//! runs in the sandbox, because a repository's settings can name programs. The user's own programs run
//! on this machine, where their keys are, and only in a trusted folder: they may read its settings.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, Flow};
use crate::agent::agents_file::{self, Wear};
use crate::agent::desk::Desk;
use crate::agent::prompt::{MAP, MAX_AGENTS, Startup};
use crate::agent::sandbox::TaskSandbox;
use crate::agent::withheld;
use crate::edit::disk::Root;
use crate::edit::path::RepoPath;
use crate::edit::tree::{Entry, Tree};
use crate::program::Run;
use crate::sandbox::Settings;
use crate::secret;
use crate::store::events::EventKind;

const GIT_TIME: Duration = Duration::from_secs(10);
const LOG: &str = "git -c safe.directory='*' --no-pager log --no-color -n 10 --format='%h %s'";
const STATUS: &str = "git -c safe.directory='*' --no-pager status --short | head -n 50";
/// Bytes of what git and each program of the user's say.
const MAX_SAID: usize = 4 << 10;
const PROGRAM_TIME: Duration = Duration::from_secs(10);
/// Programs of the user's that are asked.
const MAX_PROGRAMS: usize = 8;
const AGENTS: &str = "AGENTS.md of the repository, for information";
const WEAR: &str = "That file may be out of date";

impl Driver {
    pub(super) async fn startup(&mut self) -> Flow<Startup> {
        let programs = self.ask_programs();
        let agents = self.agents_file().await?;
        let (worn, mapped) = (
            wear(self.desk.clone(), agents.clone()),
            map(self.desk.clone()),
        );
        let (agents_wear, map) = self.hearing(join(worn, mapped)).await?;
        let (mut commits, mut status) = (None, None);
        if self.desk.root().join(".git").exists() {
            commits = self.git(LOG).await?;
            status = self.git(STATUS).await?;
        }
        let parts = [
            (AGENTS, agents),
            (WEAR, agents_wear),
            ("Latest commits", commits),
            ("Files with uncommitted changes", status),
            ("Definitions that matter most", map),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(title, text)| Some((title.to_owned(), text?)));
        let said = self.hearing(programs).await?.unwrap_or_default();
        let parts = parts
            .chain(said)
            .filter(|(_, text)| !text.trim().is_empty());
        self.sendable(parts.collect()).await
    }

    /// Leaves out what must not be sent to the model, with a notice for each part: it would hold up
    /// every turn of the task.
    async fn sendable(&mut self, parts: Startup) -> Flow<Startup> {
        let of = |(title, text): &(String, String)| format!("{title}\n{text}");
        let whole: Vec<String> = parts.iter().map(of).collect();
        if self.withheld(whole.join("\n\n")).await?.is_none() {
            return Ok(parts);
        }
        let (mut kept, mut notices) = (Startup::new(), Vec::new());
        for part in parts {
            match self.withheld(of(&part)).await? {
                Some(why) => notices.push(EventKind::Notice {
                    text: format!("The task begins without {:?}: {why}.", part.0),
                }),
                None => kept.push(part),
            }
        }
        if kept.iter().all(|(title, _)| title != AGENTS) {
            kept.retain(|(title, _)| title != WEAR);
        }
        self.record(notices).await?;
        Ok(kept)
    }

    /// Why a text must not be sent to the model.
    pub(super) async fn withheld(&mut self, text: String) -> Flow<Option<String>> {
        let model = self.setup.model.clone();
        self.hearing(async move { withheld(&model, &text).await })
            .await
    }

    /// What AGENTS.md says. The editor may be asked for it, which waits.
    async fn agents_file(&mut self) -> Flow<Option<String>> {
        let desk = self.desk.clone();
        let read = move || {
            let path = RepoPath::parse(agents_file::NAME).ok()?;
            desk.may_read(&path).ok()?;
            let Ok(Some(Entry::File { bytes, .. })) = desk.view_of_many().read(&path) else {
                return None;
            };
            let text = String::from_utf8_lossy(&bytes);
            let end = text.floor_char_boundary(MAX_AGENTS);
            (!secret::is_key_file(&text)).then(|| text[..end].to_owned())
        };
        let read = self.hearing(tokio::task::spawn_blocking(read)).await?;
        Ok(read.ok().flatten())
    }

    /// What the user's own programs say, by their titles. They run until the handle is dropped.
    fn ask_programs(&self) -> AbortOnDropHandle<Vec<(String, String)>> {
        let programs = self.setup.startup.clone().into_iter();
        let n_asked = if self.setup.is_trusted {
            MAX_PROGRAMS
        } else {
            0
        };
        let root = self.desk.root().to_owned();
        let asked = programs
            .take(n_asked)
            .map(move |(title, argv)| said_by(title, argv, root.clone()));
        AbortOnDropHandle::new(tokio::spawn(async move {
            join_all(asked).await.into_iter().flatten().collect()
        }))
    }

    async fn git(&mut self, line: &str) -> Flow<Option<String>> {
        let (opening, sandbox) = (self.opening(), self.sandbox.take());
        let asking = async move {
            let sandbox = opening.of(sandbox).await.ok()?;
            let ran = sandbox.run(line, GIT_TIME).await.ok();
            Some((sandbox, ran))
        };
        let Some((sandbox, ran)) = self.hearing(asking).await? else {
            return Ok(None);
        };
        self.sandbox = Some(sandbox);
        let ran = ran.filter(|ran| ran.end == sandbox_client::client::End::Exited(0));
        Ok(ran.map(|ran| ran.output.text().chars().take(MAX_SAID).collect()))
    }

    /// What the task's sandbox is made from when it is first needed.
    pub(super) fn opening(&self) -> Opening {
        let repository = self.setup.branch.as_ref().map(|b| b.repository.clone());
        Opening {
            settings: self.setup.sandbox.clone(),
            root: self.desk.root().to_owned(),
            reads: repository.into_iter().collect(),
            seconds: self.governor.ceilings().command,
        }
    }
}

/// What speaks against what AGENTS.md says.
async fn wear(desk: Desk, text: Option<String>) -> Option<String> {
    let text = text?;
    let look = move || Wear::of(&Root::open(desk.root(), None).ok()?, &text).in_words();
    let worn = tokio::task::spawn_blocking(look).await.ok().flatten()?;
    Some(format!("it {worn}"))
}

async fn map(desk: Desk) -> Option<String> {
    let look = move || desk.indexes()?.map(desk.indexed(), MAP);
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

/// What a sandbox is made from, apart from the driver, which hears its user meanwhile.
pub(super) struct Opening {
    settings: Settings,
    root: PathBuf,
    /// What it can read besides, on this machine.
    reads: Vec<PathBuf>,
    /// How long a command may take.
    seconds: u64,
}

impl Opening {
    /// The sandbox there is, or a new one.
    ///
    /// # Errors
    /// When there can be none, with the reason.
    pub(super) async fn of(&self, sandbox: Option<TaskSandbox>) -> anyhow::Result<TaskSandbox> {
        match sandbox {
            Some(sandbox) => Ok(sandbox),
            None => {
                let reads = self.reads.clone();
                TaskSandbox::open(&self.settings, &self.root, reads, self.seconds).await
            }
        }
    }
}

/// What a program of the user's says, behind its title; `None` when it fails.
async fn said_by(title: String, argv: Vec<String>, folder: PathBuf) -> Option<(String, String)> {
    let run = Run {
        argv: &argv,
        folder: Some(&folder),
        variables: &[],
        input: &[],
        most: MAX_SAID,
        patience: PROGRAM_TIME,
    };
    let said = run.said().await.and_then(|said| match said.status {
        Some(status) if !status.success() => Err(status.to_string()),
        _ => Ok(said),
    });
    match said {
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.output);
            let cut = if said.status.is_none() { "\n…" } else { "" };
            Some((title, format!("{}{cut}", text.trim_end())))
        }
        Err(why) => {
            tracing::warn!("{title:?} of `agent.startup` says nothing: {why}");
            None
        }
    }
}
