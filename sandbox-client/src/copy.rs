//! A workspace in a sandbox that cannot see this machine: copied there, and later asked what became
//! of the copy.
//!
//! Holds: what git ignores, git's own files and what the caller hides never leave this machine. A
//! file counts as changed by the time the sandbox's kernel gave its last change, which programs
//! there cannot set. Needs a shell, tar and GNU find there, which images of Linux distributions
//! have.
//!
//! Not here: what of it may come back (`changes`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sandbox_agent::wire::{Base64, Change, ChangeKind};
use tokio::sync::mpsc;

use crate::changes::stays_inside;
use crate::client::{ClientError, Command, End, Sandbox, Stdin, words};
use crate::ignored;
use crate::output::Cap;

/// How much may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub files: usize,
    /// A larger file is left out, and told of.
    pub file_bytes: u64,
    pub total_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            files: 100_000,
            file_bytes: 32 << 20,
            total_bytes: 1 << 30,
        }
    }
}

/// Bytes of files in one archive, but for the last file in it: so much is in memory at a time.
const ARCHIVE_BYTES: u64 = 16 << 20;
/// Archives that wait to be sent.
const WAITING: usize = 1;
/// Bytes of a listing: about 100 for each file.
const LISTING_BYTES: usize = 16 << 20;
/// Time to unpack an archive, and to list.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the folder `$1` of the home directory, and says where it is and what runs lines there.
const PREPARE: &str = r#"mkdir -p "$1" && cd "$1" && pwd && if test -x /bin/bash; then echo /bin/bash; else echo /bin/sh; fi"#;
const UNPACK: &str = r#"tar -xzof "$1" && rm -f "$1""#;
/// Kind, mode, size, time of the last change, path and target of all there is.
/// A directory that cannot be looked into is of the kind [`CLOSED`].
const LIST: &str = r"find . -name .git -prune -o ! -name . -type d ! \( -readable -executable \) -prune -printf '- %m %s %C@\0%P\0%l\0' -o ! -name . -printf '%y %m %s %C@\0%P\0%l\0'";
const CLOSED: u8 = b'-';

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{path}: {why}", path = path.display())]
    Io { path: PathBuf, why: io::Error },
    #[error("the folder has more than {} files, or {} MiB, that git does not ignore", .0.files, .0.total_bytes >> 20)]
    TooLarge(Bounds),
    #[error("in the sandbox, {what} failed: {why}")]
    Inside { what: &'static str, why: String },
}

/// A workspace that was copied into a sandbox.
#[derive(Debug)]
pub struct Copied {
    directory: String,
    shell: String,
    /// What it was when it had been brought in.
    before: Listing,
    left_out: Vec<String>,
}

/// All below a directory, by path.
type Listing = BTreeMap<Vec<u8>, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: u8,
    mode: u32,
    size: u64,
    changed: String,
    target: Vec<u8>,
}

/// What changed, by the directory it is in.
pub(crate) type ByDirectory = HashMap<Vec<u8>, Vec<Change>>;

impl Copied {
    /// Copies `workspace` into a folder of the sandbox's home directory, without the files that
    /// `is_hidden` says, by their paths here.
    ///
    /// # Errors
    /// When a file cannot be read, there is more than `bounds` allow, or the sandbox does not take it.
    pub async fn bring(
        sandbox: &Sandbox,
        workspace: &Path,
        is_hidden: fn(&Path) -> bool,
        bounds: Bounds,
    ) -> Result<Self, CopyError> {
        let said = inside(sandbox, None, PREPARE, &folder(workspace)).await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let mut lines = said.lines();
        let is_plain = |at: &str| at.starts_with('/') && words(at) == at;
        let (directory, shell) = match (lines.next(), lines.next()) {
            (Some(at), Some(shell @ ("/bin/bash" | "/bin/sh"))) if is_plain(at) => {
                (at.to_owned(), shell.to_owned())
            }
            _ => return Err(failed("making a folder", "it does not say where it is")),
        };
        let (archives, mut packed) = mpsc::channel(WAITING);
        let root = workspace.to_owned();
        let packing =
            tokio::task::spawn_blocking(move || pack(&root, is_hidden, bounds, &archives));
        while let Some(archive) = packed.recv().await {
            let at = format!("{directory}.tar.gz");
            sandbox.write_file(&at, archive).await?;
            inside(sandbox, Some(&directory), UNPACK, &at).await?;
        }
        let left_out = packing
            .await
            .map_err(|error| failed("packing", &error.to_string()))??;
        Ok(Self {
            before: list(sandbox, &directory).await?,
            directory,
            shell,
            left_out,
        })
    }

    /// Where it is inside.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// What runs lines there: bash, where there is one.
    pub fn shell(&self) -> &str {
        &self.shell
    }

    /// What was too large to be copied, by path.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What is not as it was brought in.
    pub(crate) async fn changes(&self, sandbox: &Sandbox) -> Result<ByDirectory, ClientError> {
        let now = list(sandbox, &self.directory)
            .await
            .map_err(|error| match error {
                CopyError::Client(error) => error,
                other => ClientError::Protocol(other.to_string()),
            })?;
        Ok(compare(&self.before, &now))
    }

    /// The contents of a file of it.
    pub(crate) async fn read(
        &self,
        sandbox: &Sandbox,
        path: &str,
        cap: usize,
    ) -> Result<Bytes, ClientError> {
        let path = format!("{}/{path}", self.directory);
        sandbox.read_file(&path, cap).await
    }
}

/// The name of the copy: the workspace's, as far as it is one everywhere.
fn folder(workspace: &Path) -> String {
    let name = workspace.file_name().unwrap_or_default().to_string_lossy();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = name.chars().filter(is_plain).take(64).collect();
    match name.trim_start_matches('-') {
        "" => "workspace".to_owned(),
        name => name.to_owned(),
    }
}

fn failed(what: &'static str, why: &str) -> CopyError {
    let why = words(why);
    CopyError::Inside { what, why }
}

/// Runs a shell line of ours, with one argument: what it prints.
async fn inside(
    sandbox: &Sandbox,
    directory: Option<&str>,
    line: &'static str,
    argument: &str,
) -> Result<Vec<u8>, CopyError> {
    let arguments = ["-c", line, "sh", argument];
    let command = Command {
        program: "/bin/sh".to_owned(),
        arguments: arguments.map(str::to_owned).into(),
        directory: directory.map(str::to_owned),
        env: BTreeMap::new(),
        input: Stdin::Nothing,
        timeout: PATIENCE,
    };
    let ran = sandbox.run(command, Cap(LISTING_BYTES)).await?;
    match (ran.end, ran.stdout.whole()) {
        (End::Exited(0), Some(said)) => Ok(said),
        (End::Exited(0), None) => Err(failed(line, "there are too many files")),
        (End::Exited(_), _) => Err(failed(line, &ran.stderr.text())),
        (End::Killed(how), _) => Err(failed(line, &how)),
        (End::TimedOut, _) => {
            let seconds = ran.took.as_secs_f64();
            let why = format!("it was killed after {seconds:.0} s, the time that a command has");
            Err(failed(line, &why))
        }
    }
}

async fn list(sandbox: &Sandbox, directory: &str) -> Result<Listing, CopyError> {
    let listed = inside(sandbox, Some(directory), LIST, "").await?;
    read(&listed).ok_or_else(|| failed(LIST, "it answers what cannot be read"))
}

/// Reads what [`LIST`] prints.
fn read(listed: &[u8]) -> Option<Listing> {
    let mut listing = Listing::new();
    let mut fields = listed.split(|byte| *byte == 0);
    loop {
        let about = str::from_utf8(fields.next()?).ok()?;
        if about.is_empty() {
            return fields.next().is_none().then_some(listing);
        }
        let (path, target) = (fields.next()?, fields.next()?);
        let mut about = about.split(' ');
        let entry = Entry {
            kind: *about.next()?.as_bytes().first()?,
            mode: u32::from_str_radix(about.next()?, 8).ok()?,
            size: about.next()?.parse().ok()?,
            changed: about.next()?.to_owned(),
            target: target.to_owned(),
        };
        listing.insert(path.to_owned(), entry);
    }
}

fn compare(before: &Listing, now: &Listing) -> ByDirectory {
    let is_directory = |entry: &Entry| entry.kind == b'd';
    let is_closed = |path: &[u8]| now.get(path).is_some_and(|entry| entry.kind == CLOSED);
    // What is in a directory that cannot be looked into may be as it was.
    let is_hidden = |path: &[u8]| {
        let above = std::iter::successors(Some(parent(path)), |path| Some(parent(path)));
        let mut above = above.take_while(|path| !path.is_empty());
        above.any(is_closed)
    };
    let deleted = before
        .iter()
        .filter(|(path, entry)| !is_directory(entry) && now.get(*path).is_none_or(is_directory))
        .filter(|(path, _)| !is_hidden(path))
        .map(|(path, _)| (path, ChangeKind::Deleted));
    let written = now
        .iter()
        .filter(|(path, entry)| !is_directory(entry) && before.get(*path) != Some(entry))
        .map(|(path, entry)| (path, entry.written()));
    let mut changes = ByDirectory::new();
    let mut directories = HashSet::new();
    for (path, kind) in deleted.chain(written) {
        tell(&mut changes, path, kind);
        let mut above = parent(path);
        // Each directory on the way is one with a change in it.
        while !above.is_empty() && directories.insert(above) {
            tell(&mut changes, above, ChangeKind::Directory { opaque: false });
            above = parent(above);
        }
    }
    changes
}

impl Entry {
    fn written(&self) -> ChangeKind {
        match self.kind {
            b'f' => ChangeKind::File {
                size: self.size,
                mode: self.mode,
            },
            b'l' => ChangeKind::Symlink {
                target: Base64(self.target.clone()),
            },
            CLOSED => ChangeKind::Closed,
            _ => ChangeKind::Special,
        }
    }
}

fn tell(changes: &mut ByDirectory, path: &[u8], kind: ChangeKind) {
    let path = path.to_owned();
    changes
        .entry(parent(&path).to_owned())
        .or_default()
        .push(Change {
            path: Base64(path),
            kind,
        });
}

/// The directory that a path is in, `""` at the top.
fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/');
    &path[..end.unwrap_or(0)]
}

/// Packs a workspace into archives of some size. Returns what is too large to be in one.
fn pack(
    workspace: &Path,
    is_hidden: fn(&Path) -> bool,
    bounds: Bounds,
    archives: &mpsc::Sender<Bytes>,
) -> Result<Vec<String>, CopyError> {
    let mut left_out = Vec::new();
    let (mut n_files, mut n_bytes, mut in_archive) = (0, 0, 0);
    let mut archive = begin();
    let mut files = ignored::walk(workspace);
    for found in files.sort_by_file_name(Ord::cmp).build().flatten() {
        let Ok(path) = found.path().strip_prefix(workspace) else {
            continue;
        };
        let Some(name) = path.to_str().filter(|name| !name.is_empty()) else {
            continue;
        };
        let kind = found.file_type();
        let io = |why| CopyError::Io {
            path: found.path().to_owned(),
            why,
        };
        if kind.is_some_and(|kind| kind.is_dir()) {
            archive.append_dir(path, found.path()).map_err(io)?;
            continue;
        }
        if kind.is_some_and(|kind| kind.is_symlink()) {
            let target = fs::read_link(found.path()).map_err(io)?;
            if target.to_str().is_some_and(|to| stays_inside(name, to)) {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, path, target).map_err(io)?;
            }
            continue;
        }
        if !kind.is_some_and(|kind| kind.is_file()) || is_hidden(found.path()) {
            continue;
        }
        // It may have been removed since, or be one that this user cannot read.
        let Ok(file) = fs::File::open(found.path()) else {
            left_out.push(name.to_owned());
            continue;
        };
        let about = file.metadata().map_err(io)?;
        if about.len() > bounds.file_bytes {
            left_out.push(name.to_owned());
            continue;
        }
        (n_files, n_bytes) = (n_files + 1, n_bytes + about.len());
        if n_files > bounds.files || n_bytes > bounds.total_bytes {
            return Err(CopyError::TooLarge(bounds));
        }
        append(&mut archive, path, file, &about).map_err(io)?;
        in_archive += about.len();
        if in_archive >= ARCHIVE_BYTES {
            in_archive = 0;
            let whole = finish(std::mem::replace(&mut archive, begin()));
            if archives.blocking_send(whole.map_err(io)?).is_err() {
                return Ok(left_out);
            }
        }
    }
    let whole = finish(archive).map_err(|why| CopyError::Io {
        path: workspace.to_owned(),
        why,
    })?;
    // Nobody waits for it where sending the one before has failed.
    let _ = archives.blocking_send(whole);
    Ok(left_out)
}

type Archive = tar::Builder<GzEncoder<Vec<u8>>>;

fn begin() -> Archive {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.follow_symlinks(false);
    archive
}

/// Packs a file with the length that it had when it was looked at: one that has grown since is cut, and
/// one that has shrunk ends in zeros.
fn append(
    archive: &mut Archive,
    path: &Path,
    file: impl Read,
    about: &fs::Metadata,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(about);
    let whole = file.chain(io::repeat(0)).take(about.len());
    archive.append_data(&mut header, path, whole)
}

fn finish(archive: Archive) -> io::Result<Bytes> {
    archive.into_inner()?.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests;
