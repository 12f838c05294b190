//! The sandbox of one task: where its commands run, with its changes and without the user's
//! secrets.
//!
//! Holds: before each command the sandbox has the files as the task has them: its own changes over
//! the editor's unsaved texts over the disk. It reaches the hosts that the running command was
//! allowed and no other, sees secret files empty, and is destroyed with the task. What a command
//! changed comes back as data. Where no sandbox can be made, no command runs.
//! Not here: whether a command may run (`policy`), how sandboxes are built (`sandbox-client`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sandbox_client::changes::{self, Bounds, Class, FileChange, Kind, Original};
use sandbox_client::client::{Command, End, Event, Running, Stdin};
use sandbox_client::output::{Cap, Capped};
use sandbox_client::protocol::{Create, Denial, LimitsAsked, LocalCreate};

use super::proposed::Proposed;
use crate::edit::parse::Format;
use crate::edit::path::RepoPath;
use crate::edit::plan::{FilePlan, Plan};
use crate::sandbox::{Place, Settings};
use crate::shown::{count, printable};

/// Output kept of each end of each stream.
const KEPT: Cap = Cap(8 << 10);
/// A sandbox lives as long as a task may, and a little more.
const LIFETIME: u64 = 3_600;

/// Files that are named where commands left them otherwise.
const SHOWN: usize = 3;

/// A sandbox with a task's files in it.
pub struct TaskSandbox {
    root: PathBuf,
    place: Place,
    /// What was last brought in, by the hash of its contents; `None` where it was removed.
    brought: BTreeMap<RepoPath, Option<blake3::Hash>>,
    /// Texts of the editor that were last brought in.
    unsaved: BTreeMap<RepoPath, Vec<u8>>,
    /// The number of the last denial that was told of.
    n_denials: u64,
    /// Whether its notes were told.
    is_told: bool,
}

/// A command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub end: End,
    /// Both streams in one, as they came.
    pub output: Capped,
}

/// A command that runs. Dropping it kills the command.
pub struct Started {
    running: Running,
    output: Capped,
    end: Option<End>,
}

impl TaskSandbox {
    /// Makes a sandbox over `root` as the settings say. One of this machine can read `reads`, too.
    ///
    /// # Errors
    /// When there can be none, with the reason.
    pub async fn open(
        settings: &Settings,
        root: &Path,
        reads: Vec<PathBuf>,
        command_seconds: u64,
    ) -> anyhow::Result<Self> {
        let create = Create {
            template_id: "base".to_owned(),
            timeout: Some(LIFETIME),
            ..Create::default()
        };
        let local = LocalCreate {
            workspace: Some(root.to_owned()),
            read_roots: reads,
            limits: Some(LimitsAsked {
                command_seconds: Some(command_seconds),
                ..LimitsAsked::default()
            }),
            ..LocalCreate::default()
        };
        Ok(Self {
            root: root.to_owned(),
            place: Place::open(settings, create, local).await?,
            brought: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            n_denials: 0,
            is_told: false,
        })
    }

    /// What its service calls it.
    pub fn id(&self) -> &str {
        self.place.sandbox.id()
    }

    /// Sets the hosts it may reach, also for a command that runs.
    ///
    /// # Errors
    /// When a host is none, with the reason.
    pub async fn set_network(&self, hosts: &[String]) -> anyhow::Result<()> {
        if self.place.sandbox.network().as_deref() != Some(hosts) {
            self.place.sandbox.set_network(hosts.to_vec()).await?;
        }
        Ok(())
    }

    /// What commands wanted of the network and did not get since the last call.
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn denials(&mut self) -> anyhow::Result<Vec<Denial>> {
        let denials = self
            .place
            .sandbox
            .denials(self.n_denials, Duration::ZERO)
            .await?;
        self.n_denials = denials.last().map_or(self.n_denials, |last| last.seq);
        Ok(denials)
    }

    /// What separates commands from the machine, in the words users see; in what it is weaker only
    /// the first time.
    pub fn label(&mut self) -> String {
        match std::mem::replace(&mut self.is_told, true) {
            false => self.place.label(),
            true => self.place.sandbox.short_label(),
        }
    }

    /// Brings the files inside to what the task has. `unsaved` are the texts of the editor that
    /// are not on the disk.
    ///
    /// # Errors
    /// When the sandbox does not take them, or is gone.
    pub async fn bring(
        &mut self,
        proposed: &Proposed,
        unsaved: Vec<(RepoPath, Vec<u8>)>,
    ) -> anyhow::Result<()> {
        let lifetime = Duration::from_secs(LIFETIME);
        self.place.sandbox.set_lifetime(lifetime).await?;
        self.unsaved = unsaved.into_iter().collect();
        let mut wanted: BTreeMap<RepoPath, Option<Vec<u8>>> = self
            .unsaved
            .iter()
            .map(|(path, bytes)| (path.clone(), Some(bytes.clone())))
            .collect();
        wanted.extend(proposed.files().map(|(p, f)| (p.clone(), f.now.clone())));
        // What the task has taken back, or the user has saved, is as outside again.
        for path in self.brought.keys() {
            if !wanted.contains_key(path) {
                let outside = outside(&self.root, path).await;
                wanted.insert(path.clone(), outside.map(|o| o.contents));
            }
        }
        for (path, bytes) in wanted {
            let hash = bytes.as_deref().map(blake3::hash);
            if self.brought.get(&path) == Some(&hash) {
                continue;
            }
            let inside = self.place.inside(path.as_str());
            match bytes {
                Some(bytes) => self.place.sandbox.write_file(&inside, bytes.into()).await?,
                None => {
                    let patience = Duration::from_secs(10);
                    let remove = self.command("rm", &["-f", "--", &inside], patience);
                    self.place.sandbox.run(remove, KEPT).await?;
                }
            }
            self.brought.insert(path, hash);
        }
        Ok(())
    }

    /// Starts a shell line.
    ///
    /// # Errors
    /// When the sandbox is gone or has no shell.
    pub async fn start(&self, line: &str, timeout: Duration) -> anyhow::Result<Started> {
        let command = self.command(self.place.shell(), &["-c", line], timeout);
        let running = self.place.sandbox.start(command).await?;
        Ok(Started {
            running,
            output: Capped::new(KEPT),
            end: None,
        })
    }

    /// Runs a shell line to its end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn run(&self, line: &str, timeout: Duration) -> anyhow::Result<Ran> {
        let mut started = self.start(line, timeout).await?;
        while started.next().await?.is_some() {}
        started.end()
    }

    /// What commands changed beyond what the task brought in, as a plan, and what of it was left
    /// out, in words.
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn changes(
        &mut self,
        proposed: &Proposed,
    ) -> anyhow::Result<(Option<Plan>, Vec<String>)> {
        let found = self.place.changes(Bounds::default()).await?;
        let mut left_out: Vec<String> = found
            .refused
            .iter()
            .map(|r| format!("{}: {}", r.path, r.reason))
            .collect();
        let mut files = Vec::new();
        if found.truncated {
            left_out.push("there are more changes than come back at one time".to_owned());
        }
        for change in found.files {
            let Ok(path) = RepoPath::parse(&change.path) else {
                continue;
            };
            let (after, executable) = match change.kind {
                Kind::Written {
                    contents,
                    executable,
                } => (Some(contents.to_vec()), executable),
                Kind::Deleted => (None, false),
                Kind::Link { .. } => {
                    left_out.push(format!("{path}: it is a link"));
                    continue;
                }
            };
            let hash = after.as_deref().map(blake3::hash);
            if self.brought.get(&path) == Some(&hash) {
                continue;
            }
            if change.class == Class::RunsOnYourMachine {
                left_out.push(format!("{path}: other programs do what it says"));
                continue;
            }
            self.brought.insert(path.clone(), hash);
            let (before, was_executable) = match proposed.get(&path) {
                Some(file) => (file.now.clone(), file.executable),
                None => {
                    let saved = outside(&self.root, &path).await;
                    let was_executable = saved.as_ref().is_some_and(|o| o.executable);
                    let unsaved = self.unsaved.get(&path).cloned();
                    (unsaved.or(saved.map(|o| o.contents)), was_executable)
                }
            };
            files.push(FilePlan {
                path,
                moved_from: None,
                before,
                after,
                executable: (was_executable, executable),
                changes: Vec::new(),
                levels: Vec::new(),
            });
        }
        let plan = (!files.is_empty()).then_some(Plan {
            format: Format::ToolCall,
            files,
        });
        Ok((plan, left_out))
    }

    /// Files that are in it otherwise than the task and the folder have them, because commands changed
    /// them there, in words; `None` when there are none.
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn others(&self, proposed: &Proposed) -> anyhow::Result<Option<String>> {
        let found = self.place.changes(Bounds::default()).await?;
        let is_as_told = |change: &FileChange| {
            let Ok(path) = RepoPath::parse(&change.path) else {
                return false;
            };
            let wanted = match proposed.get(&path) {
                Some(file) => file.now.as_deref(),
                None => self.unsaved.get(&path).map(Vec::as_slice),
            };
            match &change.kind {
                Kind::Written { contents, .. } => wanted == Some(&contents[..]),
                Kind::Deleted => wanted.is_none() && proposed.get(&path).is_some(),
                Kind::Link { .. } => false,
            }
        };
        let others = found.files.iter().filter(|change| !is_as_told(change));
        let names: Vec<String> = others.map(|change| printable(&change.path)).collect();
        let more = if names.len() > SHOWN { ", …" } else { "" };
        let shown = names[..names.len().min(SHOWN)].join(", ");
        let n_files = count(names.len(), "file");
        let said = format!("{n_files} that commands changed in the sandbox alone ({shown}{more})");
        Ok((!names.is_empty()).then_some(said))
    }

    /// Destroys it.
    pub async fn close(self) {
        self.place.close().await;
    }

    fn command(&self, program: &str, arguments: &[&str], timeout: Duration) -> Command {
        Command {
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            directory: self.place.directory().map(str::to_owned),
            env: BTreeMap::from([
                ("CI".to_owned(), "1".to_owned()),
                ("NO_COLOR".to_owned(), "1".to_owned()),
                // A file edited twice within a second would be run as it was before.
                ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
            ]),
            input: Stdin::Nothing,
            timeout,
        }
    }
}

impl Started {
    /// Waits for the next piece of output; `None` when the command has ended.
    ///
    /// # Errors
    /// When the sandbox is gone.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self.running.next().await? {
            Event::Stdout(bytes) | Event::Stderr(bytes) => {
                self.output.push(&bytes);
                Ok(Some(bytes.to_vec()))
            }
            Event::End(end) => {
                self.end = Some(end);
                Ok(None)
            }
        }
    }

    /// How it ended, once [`next`](Self::next) said so.
    ///
    /// # Errors
    /// When it still runs.
    pub fn end(self) -> anyhow::Result<Ran> {
        Ok(Ran {
            end: self.end.context("the command still runs")?,
            output: self.output,
        })
    }
}

/// What is in the folder itself.
async fn outside(root: &Path, path: &RepoPath) -> Option<Original> {
    let (root, path) = (root.to_owned(), path.to_string());
    let read = move || changes::original(&root, &path, Bounds::default().total_bytes);
    tokio::task::spawn_blocking(read).await.ok().flatten()
}
