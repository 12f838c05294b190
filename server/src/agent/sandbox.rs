//! The sandbox of one task: where its commands run, with its changes and without the user's
//! secrets.
//!
//! Holds: before each command the sandbox has the files as the task has them: its own changes over
//! the editor's unsaved texts over the disk, also of what the user saved since it was made. It
//! reaches the hosts that the running command was allowed and no other, sees secret files empty, and
//! is destroyed with the task. What a command changed comes back as data, but for files that were
//! saved while it ran: it did not see them. Where no sandbox can be made, no command runs.
//! Not here: whether a command may run (`policy`), how sandboxes are built (`sandbox-client`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt as _;
use sandbox_client::changes::{self, Bounds, Class, FileChange, Kind, Original};
use sandbox_client::client::{ClientError, Command, End, Event, Running, Stdin};
use sandbox_client::output::{Cap, Capped};
use sandbox_client::protocol::{Create, Denial, LimitsAsked, LocalCreate};

use super::proposed::Proposed;
use crate::edit::parse::Format;
use crate::edit::path::RepoPath;
use crate::edit::plan::{FilePlan, Plan};
use crate::sandbox::{Place, Settings};
use crate::secret;
use crate::shown::{count, printable};

/// Output kept of each end of each stream.
const KEPT: Cap = Cap(8 << 10);
/// A sandbox lives as long as a task may, and a little more.
const LIFETIME: u64 = 3_600;
/// Files of the folder that are looked at for what the user saved.
const FILES: usize = 200_000;
/// Files that are brought in one by one after the user saved them. With more, as after a change of
/// the branch, the sandbox begins anew.
const SAVED: usize = 500;
/// Files that are read at a time.
const READS: usize = 8;

/// The hash of a file's contents, and whether it is executable; `None` where there is none.
type State = Option<(blake3::Hash, bool)>;

/// Files that are named where commands left them otherwise.
const SHOWN: usize = 3;

/// A sandbox with a task's files in it.
pub struct TaskSandbox {
    root: PathBuf,
    place: Place,
    /// The folder's files as the sandbox has them, unless the task or a command changed them there.
    seen: HashMap<RepoPath, Stamp>,
    /// What else was last brought in, or is there and was not kept.
    brought: BTreeMap<RepoPath, State>,
    /// Texts of the editor that were last brought in.
    unsaved: BTreeMap<RepoPath, Vec<u8>>,
    /// The number of the last denial that was told of.
    n_denials: u64,
    /// Whether its notes were told.
    is_told: bool,
}

/// Which version of a file it is. The time is the kernel's, of the last change of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
    executable: bool,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            length: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
            executable: found.mode() & 0o100 != 0,
        }
    }
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
        // Before anything is copied: what is saved meanwhile is brought again.
        let seen = stamps(root).await?;
        Ok(Self {
            root: root.to_owned(),
            place: Place::open(settings, create, local).await?,
            seen,
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
        let now = stamps(&self.root).await?;
        let saved = self.saved(&now);
        if saved.len() > SAVED {
            bail!("more than {SAVED} files of the folder were changed since the sandbox was made");
        }
        let mut wanted: BTreeMap<RepoPath, Option<Original>> = BTreeMap::new();
        for (path, bytes) in &self.unsaved {
            let file = Original {
                contents: bytes.clone(),
                executable: now.get(path).is_some_and(|stamp| stamp.executable),
            };
            wanted.insert(path.clone(), Some(file));
        }
        for (path, file) in proposed.files() {
            let file = file.now.as_ref().map(|now| Original {
                contents: now.clone(),
                executable: file.executable,
            });
            wanted.insert(path.clone(), file);
        }
        // What the task has taken back, or the user has saved, is as outside again.
        for path in self.brought.keys().chain(&saved) {
            if wanted.contains_key(path) {
                continue;
            }
            let outside = match self.is_secret(path) {
                true => None,
                false => match outside(&self.root, path).await {
                    // Too large to be brought.
                    None if now.contains_key(path) => continue,
                    outside => outside,
                },
            };
            wanted.insert(path.clone(), outside);
        }
        self.look_again().await?;
        for (path, file) in wanted {
            let state = state_of(file.as_ref());
            let had = self.brought.remove(&path);
            let inside = self.place.inside(path.as_str());
            match file {
                _ if had == Some(state) => {}
                Some(file) => {
                    // Writing leaves the bit as it is.
                    let was_executable = match had {
                        Some(had) => had.is_some_and(|(_, executable)| executable),
                        None => self.seen.get(&path).is_some_and(|stamp| stamp.executable),
                    };
                    let contents = file.contents.into();
                    self.place.sandbox.write_file(&inside, contents).await?;
                    match (was_executable, file.executable) {
                        (false, true) => self.quick("chmod", &["+x", "--", &inside]).await?,
                        (true, false) => self.quick("chmod", &["-x", "--", &inside]).await?,
                        (true, true) | (false, false) => {}
                    }
                }
                None => self.quick("rm", &["-f", "--", &inside]).await?,
            }
            if self.unsaved.contains_key(&path) || proposed.get(&path).is_some() {
                self.brought.insert(path, state);
            }
        }
        self.seen = now;
        Ok(())
    }

    /// Files that the user saved or removed since the last look, which was `seen`. Secrets and what
    /// is too large to come back are not among them.
    fn saved(&self, now: &HashMap<RepoPath, Stamp>) -> Vec<RepoPath> {
        let most = Bounds::default().file_bytes;
        let is_new = |(path, stamp): &(&RepoPath, &Stamp)| {
            stamp.length <= most && self.seen.get(*path) != Some(*stamp)
        };
        let new = now.iter().filter(is_new).map(|(path, _)| path);
        let gone = self.seen.keys().filter(|path| !now.contains_key(*path));
        let saved = new.chain(gone).filter(|path| !self.is_secret(path));
        saved.cloned().collect()
    }

    fn is_secret(&self, path: &RepoPath) -> bool {
        secret::is_path(&path.under(&self.root).to_string_lossy())
    }

    /// Looks what a command left of what was brought in.
    async fn look_again(&mut self) -> anyhow::Result<()> {
        // Collected, so that what holds them over an await names no closure.
        let looks = self.brought.keys().map(|path| inside(&self.place, path));
        let looks: Vec<_> = looks.collect();
        let found: Vec<_> = futures_util::stream::iter(looks)
            .buffered(READS)
            .collect()
            .await;
        for (state, found) in self.brought.values_mut().zip(found) {
            let executable = state.is_some_and(|(_, executable)| executable);
            *state = found?.map(|hash| (hash, executable));
        }
        Ok(())
    }

    /// Runs a command of ours that is soon done, whatever it says.
    async fn quick(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let command = self.command(program, arguments, Duration::from_secs(10));
        self.place.sandbox.run(command, KEPT).await?;
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
        let mut listed = BTreeSet::new();
        if found.truncated {
            left_out.push("there are more changes than come back at one time".to_owned());
        }
        for change in found.files {
            let Ok(path) = RepoPath::parse(&change.path) else {
                continue;
            };
            listed.insert(path.clone());
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
            let state = after.as_deref().map(blake3::hash);
            let state = state.map(|hash| (hash, executable));
            if self.brought.get(&path) == Some(&state) {
                continue;
            }
            if change.class == Class::RunsOnYourMachine {
                left_out.push(format!("{path}: other programs do what it says"));
                continue;
            }
            self.brought.insert(path.clone(), state);
            let (before, was_executable) = match proposed.get(&path) {
                Some(file) => (file.now.clone(), file.executable),
                None => {
                    let saved = outside(&self.root, &path).await;
                    let unsaved = self.unsaved.get(&path).cloned();
                    if unsaved.is_none() && !self.is_as_seen(&path, saved.as_ref()) {
                        left_out.push(format!("{path}: it was changed outside meanwhile"));
                        continue;
                    }
                    let was_executable = saved.as_ref().is_some_and(|o| o.executable);
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
        files.extend(self.undone(proposed, &listed).await?);
        let plan = (!files.is_empty()).then_some(Plan {
            format: Format::ToolCall,
            files,
        });
        Ok((plan, left_out))
    }

    /// Whether the folder has at a path what the sandbox was given. `saved` is what it has.
    fn is_as_seen(&self, path: &RepoPath, saved: Option<&Original>) -> bool {
        let seen = self.seen.get(path).copied();
        match saved {
            Some(_) => {
                let now = fs::symlink_metadata(path.under(&self.root)).ok();
                seen.is_some() && seen == now.as_ref().map(Stamp::of)
            }
            None => seen.is_none(),
        }
    }

    /// The task's own changes that a command has undone: such a file is as outside, so it is none
    /// of the changes that are `listed`. What is ignored, or refused, is not listed either: only a
    /// look tells.
    async fn undone(
        &mut self,
        proposed: &Proposed,
        listed: &BTreeSet<RepoPath>,
    ) -> anyhow::Result<Vec<FilePlan>> {
        let mut files = Vec::new();
        for (path, file) in proposed.files() {
            if listed.contains(path) {
                continue;
            }
            let outside = outside(&self.root, path).await;
            let state = state_of(outside.as_ref());
            let inside = inside(&self.place, path).await?;
            let is_as_outside = inside == state.map(|(hash, _)| hash);
            if !is_as_outside || inside == file.now.as_deref().map(blake3::hash) {
                continue;
            }
            self.brought.insert(path.clone(), state);
            files.push(FilePlan {
                path: path.clone(),
                moved_from: None,
                before: file.now.clone(),
                executable: (file.executable, state.is_some_and(|(_, is)| is)),
                after: outside.map(|o| o.contents),
                changes: Vec::new(),
                levels: Vec::new(),
            });
        }
        Ok(files)
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

fn state_of(file: Option<&Original>) -> State {
    file.map(|file| (blake3::hash(&file.contents), file.executable))
}

/// The hash of what the sandbox has at a path; `None` where there is no file.
async fn inside(place: &Place, path: &RepoPath) -> Result<Option<blake3::Hash>, ClientError> {
    let most = usize::try_from(Bounds::default().total_bytes).unwrap_or(usize::MAX);
    let inside = place.inside(path.as_str());
    match place.sandbox.read_file(&inside, most).await {
        Ok(bytes) => Ok(Some(blake3::hash(&bytes))),
        Err(ClientError::Refused { .. }) => Ok(None),
        // It is longer than anything that was brought in.
        Err(ClientError::Protocol(_)) => Ok(Some(blake3::Hash::from_bytes([0; 32]))),
        Err(lost) => Err(lost),
    }
}

/// The files of a folder that git does not ignore, as they are on the disk.
async fn stamps(root: &Path) -> anyhow::Result<HashMap<RepoPath, Stamp>> {
    let root = root.to_owned();
    let look = move || {
        let walk = ignore::WalkBuilder::new(&root)
            .hidden(false)
            .require_git(false)
            .follow_links(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let stamp = |entry: ignore::DirEntry| {
            let found = entry.metadata().ok().filter(Metadata::is_file)?;
            let path = entry.path().strip_prefix(&root).ok()?.to_str()?;
            Some((RepoPath::parse(path).ok()?, Stamp::of(&found)))
        };
        let files = walk.filter_map(Result::ok).filter_map(stamp);
        files.take(FILES).collect()
    };
    Ok(tokio::task::spawn_blocking(look).await?)
}

/// What is in the folder itself.
async fn outside(root: &Path, path: &RepoPath) -> Option<Original> {
    let (root, path) = (root.to_owned(), path.to_string());
    let read = move || changes::original(&root, &path, Bounds::default().total_bytes);
    tokio::task::spawn_blocking(read).await.ok().flatten()
}
