//! The sandbox of one task: where its commands run, with its changes and without the user's
//! secrets.
//!
//! Holds: before each command the sandbox has the files as the task has them: its own changes over
//! the editor's unsaved texts over the disk, also of what the user saved since it was made. It
//! reaches the hosts that the running command was allowed and no other, sees secret files empty, and
//! is destroyed with the task. What a command changed comes back as data, but for files that were
//! saved while it ran: it did not see them. Where no sandbox can be made, no command runs.
//! Not here: whether a command may run (`policy`), how sandboxes are built (`sandbox-client`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt as _;
use sandbox_client::changes::{self, Bounds, Changes, Class, FileChange, Kind, Original, Reason};
use sandbox_client::client::{ClientError, Command, End, Event, Running, Stdin};
use sandbox_client::ignored;
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
/// Files that one program is given: a command line has room for as many of the longest paths.
const GROUP: usize = 100;

/// The hash of a file's contents, and whether it is executable; `None` where there is none.
pub type State = Option<(blake3::Hash, bool)>;

/// Files that are named where commands left them otherwise.
const SHOWN: usize = 3;

/// A sandbox with a task's files in it.
pub struct TaskSandbox {
    root: PathBuf,
    place: Place,
    /// The folder's files as the sandbox was given them.
    seen: HashMap<RepoPath, Stamp>,
    /// What the sandbox has where it may be otherwise than the folder: brought in for the task, or made
    /// by a command and offered. What was not kept is put back from this.
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

/// What commands changed beyond what the task brought in.
pub struct Changed {
    /// `None` where there is nothing that could be kept.
    pub plan: Option<Plan>,
    /// What is not in the plan, in words.
    pub left_out: Vec<String>,
    /// What the sandbox has of all that.
    pub states: BTreeMap<RepoPath, State>,
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
        let mut wanted = self.wanted(proposed, &now);
        let mut paths: BTreeSet<RepoPath> = wanted.keys().cloned().collect();
        // What the task has taken back, or the user has saved, is as outside again.
        paths.extend(self.brought.keys().cloned().chain(saved));
        let inside = self.look_again().await?;
        let states = wanted.iter().map(|(p, file)| (p, state_of(file.as_ref())));
        self.brought = states.map(|(p, state)| (p.clone(), state)).collect();
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for path in paths {
            let is_gone = match wanted.get(&path) {
                Some(file) => file.is_none(),
                None if self.is_secret(&path) => true,
                // What git ignores has no stamp.
                None => !now.contains_key(&path) && outside(&self.root, &path).await.is_none(),
            };
            match is_gone {
                true => gone.push(path),
                false => there.push(path),
            }
        }
        gone.retain(|path| inside.get(path) != Some(&None));
        // First, because a directory may come where a file was.
        self.on_all("rm", "-f", &gone).await?;
        let (mut programs, mut others) = (Vec::new(), Vec::new());
        for path in there {
            // All of them together may be too much for the memory.
            let file = match wanted.remove(&path) {
                Some(file) => file,
                None => outside(&self.root, &path).await,
            };
            // Too large to be brought.
            let Some(file) = file else {
                continue;
            };
            if inside.get(&path) != Some(&Some(blake3::hash(&file.contents))) {
                let at = self.place.inside(path.as_str());
                let contents = file.contents.into();
                self.place.sandbox.write_file(&at, contents).await?;
            }
            match file.executable {
                true => programs.push(path),
                false => others.push(path),
            }
        }
        // Writing leaves the bit as it is, and a look does not tell it.
        self.on_all("chmod", "+x", &programs).await?;
        self.on_all("chmod", "-x", &others).await?;
        self.seen = self.given(now);
        Ok(())
    }

    /// The files that are otherwise for the task than in the folder; `None` for what is not there.
    fn wanted(
        &self,
        proposed: &Proposed,
        now: &HashMap<RepoPath, Stamp>,
    ) -> BTreeMap<RepoPath, Option<Original>> {
        let unsaved = self.unsaved.iter().map(|(path, bytes)| {
            let file = Original {
                contents: bytes.clone(),
                executable: now.get(path).is_some_and(|stamp| stamp.executable),
            };
            (path.clone(), Some(file))
        });
        let proposed = proposed.files().map(|(path, file)| {
            let file = file.now.as_ref().map(|now| Original {
                contents: now.clone(),
                executable: file.executable,
            });
            (path.clone(), file)
        });
        unsaved.chain(proposed).collect()
    }

    /// The folder's files as the sandbox has been given them.
    fn given(&self, now: HashMap<RepoPath, Stamp>) -> HashMap<RepoPath, Stamp> {
        let most = Bounds::default().file_bytes;
        let given = now.into_iter().filter_map(|(path, stamp)| {
            let stamp = match stamp.length <= most {
                true => stamp,
                // What was too large to be brought is there as it was, so nothing made of it is kept.
                false => *self.seen.get(&path)?,
            };
            Some((path, stamp))
        });
        given.collect()
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

    /// Looks what commands left of what was brought in.
    async fn look_again(&self) -> anyhow::Result<BTreeMap<RepoPath, Option<blake3::Hash>>> {
        // Collected, so that what holds them over an await names no closure.
        let looks = self.brought.keys().map(|path| inside(&self.place, path));
        let looks: Vec<_> = looks.collect();
        let found: Vec<_> = futures_util::stream::iter(looks)
            .buffered(READS)
            .collect()
            .await;
        let found = self.brought.keys().cloned().zip(found);
        found.map(|(path, hash)| Ok((path, hash?))).collect()
    }

    /// Runs a program of ours with an option on files, whatever it says.
    async fn on_all(&self, program: &str, option: &str, paths: &[RepoPath]) -> anyhow::Result<()> {
        for group in paths.chunks(GROUP) {
            let files = group.iter().map(|path| self.place.inside(path.as_str()));
            let arguments = [option.to_owned(), "--".to_owned()];
            let arguments = arguments.into_iter().chain(files).collect();
            let command = self.command(program, arguments, Duration::from_secs(10));
            self.place.sandbox.run(command, KEPT).await?;
        }
        Ok(())
    }

    /// Starts a shell line.
    ///
    /// # Errors
    /// When the sandbox is gone or has no shell.
    pub async fn start(&self, line: &str, timeout: Duration) -> anyhow::Result<Started> {
        let arguments = ["-c", line].map(str::to_owned).into();
        let command = self.command(self.place.shell(), arguments, timeout);
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

    /// What commands changed beyond what the task brought in, but for what is [settled](Self::settle).
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn changes(&self, proposed: &Proposed) -> anyhow::Result<Changed> {
        let found = self.place.changes(Bounds::default()).await?;
        let mut left_out: Vec<String> = found
            .refused
            .iter()
            .map(|r| format!("{}: {}", r.path, r.reason))
            .collect();
        if found.truncated {
            left_out.push("there are more changes than come back at one time".to_owned());
        }
        let undone = self.undone(proposed, &found).await?;
        let mut files = Vec::new();
        let mut states = BTreeMap::new();
        for change in found.files {
            let Ok(path) = RepoPath::parse(&change.path) else {
                continue;
            };
            let Some(state) = state_in(&change.kind) else {
                left_out.push(format!("{path}: it is a link"));
                continue;
            };
            if self.brought.get(&path) == Some(&state) {
                continue;
            }
            if change.class == Class::RunsOnYourMachine {
                left_out.push(format!("{path}: other programs do what it says"));
                continue;
            }
            states.insert(path.clone(), state);
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
                after: match change.kind {
                    Kind::Written { contents, .. } => Some(contents.to_vec()),
                    Kind::Deleted | Kind::Link { .. } => None,
                },
                executable: (was_executable, is_executable(state)),
                changes: Vec::new(),
                levels: Vec::new(),
            });
        }
        for (file, state) in undone {
            states.insert(file.path.clone(), state);
            files.push(file);
        }
        let plan = (!files.is_empty()).then_some(Plan {
            format: Format::ToolCall,
            files,
        });
        Ok(Changed {
            plan,
            left_out,
            states,
        })
    }

    /// Takes changes for offered: they are not told again, and what of them the task has not kept is
    /// put back by the next [`bring`](Self::bring).
    pub fn settle(&mut self, states: BTreeMap<RepoPath, State>) {
        self.brought.extend(states);
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
    /// of the changes that were found. What is ignored, or refused, is not among them either: only a
    /// look tells, and not of the bit.
    async fn undone(
        &self,
        proposed: &Proposed,
        found: &Changes,
    ) -> anyhow::Result<Vec<(FilePlan, State)>> {
        let listed: HashSet<&str> = found.files.iter().map(|c| c.path.as_str()).collect();
        let refused: HashSet<&str> = found.refused.iter().map(|r| r.path.as_str()).collect();
        let mut undone = Vec::new();
        for (path, file) in proposed.files() {
            if listed.contains(path.as_str()) {
                continue;
            }
            let outside = outside(&self.root, path).await;
            let state = state_of(outside.as_ref());
            let inside = inside(&self.place, path).await?;
            let is_as_outside = inside == state.map(|(hash, _)| hash);
            let is_known = !found.truncated
                && !refused.contains(path.as_str())
                && self.seen.contains_key(path);
            let is_as_proposed = inside == file.now.as_deref().map(blake3::hash)
                && (!is_known || is_executable(state) == file.executable);
            if !is_as_outside || is_as_proposed {
                continue;
            }
            let plan = FilePlan {
                path: path.clone(),
                moved_from: None,
                before: file.now.clone(),
                executable: (file.executable, is_executable(state)),
                after: outside.map(|o| o.contents),
                changes: Vec::new(),
                levels: Vec::new(),
            };
            undone.push((plan, state));
        }
        Ok(undone)
    }

    /// Files that are in it otherwise than they were just [brought](Self::bring), because commands changed
    /// them there, in words; `None` when there are none.
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn others(&self) -> anyhow::Result<Option<String>> {
        let found = self.place.changes(Bounds::default()).await?;
        let is_as_brought = |change: &FileChange| {
            let (path, state) = (RepoPath::parse(&change.path).ok(), state_in(&change.kind));
            let brought = path.and_then(|path| self.brought.get(&path));
            state.is_some() && brought == state.as_ref()
        };
        let others = found.files.iter().filter(|change| !is_as_brought(change));
        // Git's own files change whenever it looks.
        let refused = found.refused.iter().filter(|r| r.reason != Reason::Git);
        let names = others.map(|change| &change.path);
        let names: Vec<String> = names
            .chain(refused.map(|r| &r.path))
            .map(|path| printable(path))
            .collect();
        if names.is_empty() && !found.truncated {
            return Ok(None);
        }
        let n_files = match found.truncated {
            true => "more files than are counted".to_owned(),
            false => count(names.len(), "file"),
        };
        let mut shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
        if names.len() > SHOWN || found.truncated {
            shown.push("…");
        }
        let shown = shown.join(", ");
        let said = format!("{n_files} that commands changed in the sandbox alone ({shown})");
        Ok(Some(said))
    }

    /// Destroys it.
    pub async fn close(self) {
        self.place.close().await;
    }

    fn command(&self, program: &str, arguments: Vec<String>, timeout: Duration) -> Command {
        Command {
            program: program.to_owned(),
            arguments,
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

fn is_executable(state: State) -> bool {
    state.is_some_and(|(_, is_executable)| is_executable)
}

/// What a change leaves there; `None` for a link, which nobody brings in.
fn state_in(kind: &Kind) -> Option<State> {
    match kind {
        Kind::Written {
            contents,
            executable,
        } => Some(Some((blake3::hash(contents), *executable))),
        Kind::Deleted => Some(None),
        Kind::Link { .. } => None,
    }
}

/// The hash of what the sandbox has at a path; `None` where there is no file.
async fn inside(place: &Place, path: &RepoPath) -> Result<Option<blake3::Hash>, ClientError> {
    let most = usize::try_from(Bounds::default().total_bytes).unwrap_or(usize::MAX);
    let inside = place.inside(path.as_str());
    match place.sandbox.read_file(&inside, most).await {
        Ok(bytes) => Ok(Some(blake3::hash(&bytes))),
        // Nothing, or something else.
        Err(ClientError::Refused {
            status: 400 | 404, ..
        }) => Ok(None),
        // It may not be read, or is longer than anything that was brought in.
        Err(ClientError::Refused { status: 403, .. } | ClientError::Protocol(_)) => {
            Ok(Some(blake3::Hash::from_bytes([0; 32])))
        }
        Err(lost) => Err(lost),
    }
}

/// The files of a folder that git does not ignore, as they are on the disk.
async fn stamps(root: &Path) -> anyhow::Result<HashMap<RepoPath, Stamp>> {
    let root = root.to_owned();
    let look = move || {
        let stamp = |entry: ignore::DirEntry| {
            let found = entry.metadata().ok().filter(Metadata::is_file)?;
            let path = entry.path().strip_prefix(&root).ok()?.to_str()?;
            Some((RepoPath::parse(path).ok()?, Stamp::of(&found)))
        };
        let walk = ignored::walk(&root).build();
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
