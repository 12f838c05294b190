//! A working tree of its own, on a branch of its own, beside the user's.
//!
//! Holds: runs no program, so no hook, filter or alias of a repository is started: files are written
//! as git keeps them. Of the user's repository only the new branch and the entry that git keeps of
//! such a tree are written; the user's files, index, HEAD and other branches are not touched, and
//! nothing is pushed. Files are written before links, into directories that were made here, so that
//! no tree leads a write elsewhere.
//! Not here: what is changed in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use gix::{
    ObjectId, Repository,
    bstr::{BString, ByteSlice as _},
    objs::tree::EntryKind,
    refs::{Target, transaction::PreviousValue},
};

/// Most files of a tree.
const MAX_FILES: usize = 500_000;
/// Most bytes of all of them.
const MAX_BYTES: u64 = 8 << 30;
/// Most directories in each other.
const MAX_DEPTH: usize = 128;
/// The line of a commit's message that names the run it is of.
const RUN: &str = "Agent-Run: ";

/// Where a working tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktree {
    /// Its top.
    pub top: PathBuf,
    /// The folder in it that answers to the one it was made for.
    pub root: PathBuf,
    /// The short name of its branch.
    pub branch: String,
    /// The commit it begins at, in hexadecimal.
    pub base: String,
    /// The repository, which commands in it read.
    pub repository: PathBuf,
}

/// A file that is another in the commit to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Below the worktree's [`root`](Worktree::root), with `/`.
    pub path: String,
    /// What the branch has now.
    pub before: Option<Vec<u8>>,
    /// `None` removes it.
    pub after: Option<Vec<u8>>,
    pub executable: bool,
}

/// What a commit says.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The run it is of: it is committed once.
    pub run: &'a str,
    pub title: &'a str,
    pub body: &'a str,
    /// Lines at the end, names and values.
    pub trailers: &'a [(&'a str, &'a str)],
    /// Name of the author; the committer is who git's own settings of the user name.
    pub author: &'a str,
}

/// Why there is no working tree, or no commit.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    #[error("{} is in no git repository", .0.display())]
    NoRepository(PathBuf),
    #[error("the repository has no commit yet")]
    NoCommit,
    #[error("the repository is too large for a working tree of its own")]
    TooLarge,
    #[error("{0} is no name for a file")]
    BadName(String),
    #[error("{0} was changed on the branch meanwhile")]
    Moved(String),
    #[error("git: {0}")]
    Git(String),
    #[error("{}: {why}", path.display())]
    Io { path: PathBuf, why: io::Error },
}

type Result<T> = std::result::Result<T, WorktreeError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryKind,
    id: ObjectId,
}

/// The files of a tree, by their paths from its top.
type Files = BTreeMap<BString, Entry>;

impl Worktree {
    /// Makes a working tree at `at`, which must not be there, on the new branch `branch`, of the last
    /// commit of the repository that `root` is in. Takes as long as writing all its files.
    ///
    /// # Errors
    /// When there is no repository or commit, the branch or the folder is there already, or something
    /// cannot be written. What was made until then is removed.
    pub fn create(root: &Path, at: &Path, branch: &str) -> Result<Self> {
        let repository = open(root)?;
        let common = canonical(repository.common_dir())?;
        let top = repository.workdir().map(canonical).transpose()?;
        let outside = || WorktreeError::NoRepository(root.to_owned());
        let top = top.ok_or_else(outside)?;
        let root = canonical(root)?;
        let below = root.strip_prefix(top).map_err(|_| outside())?;
        let base = repository.head_id().map_err(|_| WorktreeError::NoCommit)?;
        let base = base.detach();
        let tree = tree_of(&repository, base)?;
        let files = list(&repository, tree)?;
        let name = branch.rsplit('/').next().unwrap_or(branch);
        let admin = common.join("worktrees").join(name);
        if at.exists() || admin.exists() {
            return Err(WorktreeError::Git(format!(
                "there is a working tree {name} already"
            )));
        }
        let message = "branch: made by Pairwright";
        repository
            .reference(full(branch), base, PreviousValue::MustNotExist, message)
            .map_err(git)?;
        let made = fill(&repository, &files, &admin, at, branch)
            .and_then(|()| write_index(&repository, tree, admin.join("index")));
        if let Err(why) = made {
            let _ = fs::remove_dir_all(at);
            let _ = fs::remove_dir_all(&admin);
            let _ = delete(&repository, branch, base);
            return Err(why);
        }
        let top = canonical(at)?;
        Ok(Self {
            root: top.join(below),
            top,
            branch: branch.to_owned(),
            base: base.to_string(),
            repository: common,
        })
    }

    /// Commits `changes` on the branch, on top of what it has; the files of the working tree must
    /// read so already. Committing a run again answers with the commit there is.
    ///
    /// # Errors
    /// When the branch is not checked out there any more, or has other contents of a changed file
    /// than it was said to; nothing is committed then.
    pub fn commit(&self, changes: &[Change], message: Message<'_>) -> Result<String> {
        let repository = open(&self.top)?;
        let head = repository.head_name().map_err(git)?;
        if head.is_none_or(|name| name.as_bstr() != full(&self.branch).as_bytes()) {
            return Err(WorktreeError::Moved(self.branch.clone()));
        }
        let tip = repository.head_id().map_err(git)?.detach();
        let run = format!("{RUN}{}", message.run);
        let last = repository.find_commit(tip).map_err(git)?;
        let last = last.message_raw_sloppy().to_str_lossy().into_owned();
        if last.lines().any(|line| line == run) {
            return Ok(tip.to_string());
        }
        let tree = tree_of(&repository, tip)?;
        let tree = repository.find_tree(tree).map_err(git)?;
        let mut edited = tree.edit().map_err(git)?;
        let below = self.root.strip_prefix(&self.top).ok();
        let below = below.and_then(Path::to_str).unwrap_or_default();
        for change in changes {
            let path = match below {
                "" => change.path.clone(),
                below => format!("{below}/{}", change.path),
            };
            let known = tree.lookup_entry_by_path(&path).map_err(git)?;
            let known = known.map(|entry| entry.object()).transpose();
            let known = known.map_err(git)?;
            if known.as_ref().map(|file| &file.data) != change.before.as_ref() {
                return Err(WorktreeError::Moved(path));
            }
            let kind = match change.executable {
                true => EntryKind::BlobExecutable,
                false => EntryKind::Blob,
            };
            match &change.after {
                Some(bytes) => {
                    let id = repository.write_blob(bytes).map_err(git)?;
                    edited.upsert(path, kind, id).map_err(git)?;
                }
                None => {
                    edited.remove(path).map_err(git)?;
                }
            }
        }
        let tree = edited.write().map_err(git)?.detach();
        let committer = repository.committer().and_then(std::result::Result::ok);
        let committer = committer.ok_or_else(|| WorktreeError::Git("nobody can commit".into()))?;
        let author = gix::actor::Signature {
            name: one_line(message.author).into(),
            email: "pairwright@localhost".into(),
            time: gix::date::Time::now_local_or_utc(),
        };
        let text = text_of(message, &run);
        let commit = repository
            .commit_as(
                committer,
                author.to_ref(&mut gix::date::parse::TimeBuf::default()),
                full(&self.branch),
                text,
                tree,
                [tip],
            )
            .map_err(git)?
            .detach();
        write_index(&repository, tree, repository.index_path())?;
        Ok(commit.to_string())
    }

    /// Removes the working tree and its branch, if nothing was committed on it.
    ///
    /// # Errors
    /// When something was, or it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let repository = open(&self.top)?;
        let base = ObjectId::from_hex(self.base.as_bytes()).map_err(git)?;
        let admin = repository.git_dir().to_owned();
        delete(&repository, &self.branch, base)?;
        fs::remove_dir_all(&self.top).map_err(|why| failed(&self.top, why))?;
        // Only ever what was made here.
        match admin
            .parent()
            .is_some_and(|parent| parent.ends_with("worktrees"))
        {
            true => fs::remove_dir_all(&admin).map_err(|why| failed(&admin, why)),
            false => Ok(()),
        }
    }
}

/// Opens a repository with who the user is, by the user's own settings, and nothing else of them.
fn open(root: &Path) -> Result<Repository> {
    use gix::open::permissions::{Config, Environment};
    let none = || WorktreeError::NoRepository(root.to_owned());
    let (git_dir, _) = gix::discover::upwards(root).map_err(|_| none())?;
    let (git_dir, _) = git_dir.into_repository_and_work_tree_directories();
    let permissions = gix::open::Permissions {
        config: Config {
            git: true,
            user: true,
            ..Config::isolated()
        },
        env: Environment {
            xdg_config_home: gix::sec::Permission::Allow,
            home: gix::sec::Permission::Allow,
            ..Environment::isolated()
        },
        ..gix::open::Permissions::isolated()
    };
    let options = gix::open::Options::isolated().permissions(permissions);
    let mut repository = gix::open_opts(git_dir, options).map_err(git)?;
    let user = std::env::var("USER").unwrap_or_else(|_| "nobody".into());
    let email = format!("{user}@localhost");
    repository
        .committer_or_set_fallback(user.as_str(), email.as_str())
        .map_err(git)?;
    Ok(repository)
}

fn delete(repository: &Repository, branch: &str, at: ObjectId) -> Result<()> {
    use gix::refs::transaction::{Change, RefEdit, RefLog};
    let name = gix::refs::FullName::try_from(full(branch)).map_err(git)?;
    let edit = RefEdit {
        change: Change::Delete {
            expected: PreviousValue::MustExistAndMatch(Target::Object(at)),
            log: RefLog::AndReference,
        },
        name,
        deref: false,
    };
    repository.edit_reference(edit).map(drop).map_err(git)
}

fn tree_of(repository: &Repository, commit: ObjectId) -> Result<ObjectId> {
    let commit = repository.find_commit(commit).map_err(git)?;
    commit.tree_id().map(gix::Id::detach).map_err(git)
}

/// Lists a tree. Names that would lead out of it, or into git's own files, are an error.
fn list(repository: &Repository, tree: ObjectId) -> Result<Files> {
    use gix::validate::path::component::{Mode as Symlink, Options};
    let careful = Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    let mut files = Files::new();
    let mut left: Vec<(BString, ObjectId, usize)> = vec![(BString::default(), tree, 0)];
    while let Some((above, tree, depth)) = left.pop() {
        if depth > MAX_DEPTH {
            return Err(WorktreeError::TooLarge);
        }
        let tree = repository.find_tree(tree).map_err(git)?;
        let mut seen = BTreeSet::new();
        for entry in tree.iter() {
            let entry = entry.map_err(git)?;
            let (kind, name) = (entry.mode().kind(), entry.filename());
            let symlink = (kind == EntryKind::Link).then_some(Symlink::Symlink);
            let is_name = gix::validate::path::component(name, symlink, careful).is_ok();
            if !is_name || !seen.insert(name.to_owned()) {
                return Err(WorktreeError::BadName(name.to_str_lossy().into_owned()));
            }
            let mut path = above.clone();
            path.extend_from_slice(name);
            let id = entry.object_id();
            if kind == EntryKind::Tree {
                path.push(b'/');
                left.push((path, id, depth + 1));
            } else {
                files.insert(path, Entry { kind, id });
            }
        }
        if files.len() + left.len() > MAX_FILES {
            return Err(WorktreeError::TooLarge);
        }
    }
    Ok(files)
}

/// Writes git's own entry of the working tree, and its files.
fn fill(
    repository: &Repository,
    files: &Files,
    admin: &Path,
    at: &Path,
    branch: &str,
) -> Result<()> {
    for folder in [admin, at] {
        let parent = folder.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|why| failed(parent, why))?;
        fs::create_dir(folder).map_err(|why| failed(folder, why))?;
    }
    let at = canonical(at)?;
    let text = |path: &Path| path.display().to_string();
    for (file, line) in [
        (admin.join("commondir"), "../..".to_owned()),
        (admin.join("gitdir"), text(&at.join(".git"))),
        (admin.join("HEAD"), format!("ref: {}", full(branch))),
        (at.join(".git"), format!("gitdir: {}", text(admin))),
    ] {
        fs::write(&file, line + "\n").map_err(|why| failed(&file, why))?;
    }
    let mut n_bytes = 0;
    let (links, others): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|(_, entry)| entry.kind == EntryKind::Link);
    for (path, entry) in others.into_iter().chain(links) {
        let path = at.join(path.to_path().map_err(git)?);
        let parent = path.parent().unwrap_or(&at);
        fs::create_dir_all(parent).map_err(|why| failed(parent, why))?;
        if entry.kind == EntryKind::Commit {
            // Another repository's place, which stays empty.
            fs::create_dir(&path).map_err(|why| failed(&path, why))?;
            continue;
        }
        let header = repository.find_header(entry.id).map_err(git)?;
        n_bytes += header.size();
        if n_bytes > MAX_BYTES {
            return Err(WorktreeError::TooLarge);
        }
        let object = repository.find_object(entry.id).map_err(git)?;
        write_file(&path, entry.kind, &object.data).map_err(|why| failed(&path, why))?;
    }
    Ok(())
}

fn write_file(path: &Path, kind: EntryKind, bytes: &[u8]) -> io::Result<()> {
    #[cfg(unix)]
    if kind == EntryKind::Link {
        use std::os::unix::ffi::OsStrExt as _;
        return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(bytes), path);
    }
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if kind == EntryKind::BlobExecutable {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o777);
    }
    #[cfg(not(unix))]
    let _ = kind;
    options.open(path)?.write_all(bytes)
}

/// Writes the index of a working tree whose files are as `tree` says. What the disk knows of them
/// git looks up when it is asked next.
fn write_index(repository: &Repository, tree: ObjectId, at: PathBuf) -> Result<()> {
    let mut index = repository.index_from_tree(&tree).map_err(git)?;
    index.set_path(at);
    index.write(Default::default()).map_err(git)
}

fn text_of(message: Message<'_>, run: &str) -> String {
    let mut text = format!("{}\n\n", one_line(message.title));
    let body = message.body.trim();
    if !body.is_empty() {
        // No line of it is taken for one of ours.
        let body = body.replace(RUN, "Agent-Run : ");
        text.push_str(&format!("{body}\n\n"));
    }
    text.push_str(run);
    for (name, value) in message.trailers {
        text.push_str(&format!("\n{name}: {}", one_line(value)));
    }
    text.push('\n');
    text
}

fn one_line(text: &str) -> String {
    let shown = |c: char| !c.is_control() && !matches!(c, '<' | '>');
    text.chars().filter(|c| shown(*c)).collect()
}

fn full(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|why| failed(path, why))
}

fn failed(path: &Path, why: io::Error) -> WorktreeError {
    WorktreeError::Io {
        path: path.to_owned(),
        why,
    }
}

fn git(why: impl std::fmt::Display) -> WorktreeError {
    WorktreeError::Git(why.to_string())
}

#[cfg(test)]
mod tests;
