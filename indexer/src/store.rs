//! The index on disk: one folder per workspace, safe to delete at any time.
//!
//! ```text
//! lock        held by the one process that writes
//! manifest    which file has which content (replaced whole, by rename)
//! units.log   what each content says, keyed by content; append-only
//! text/       the tantivy index, keyed by content
//! vectors/    one row per chunk, keyed by content
//! history     what the last commits changed
//! ```
//! Holds: every file is checked by checksum and version before it is believed; the parts do not
//! depend on the order they reached the disk in, because everything but the manifest is keyed by
//! content: a unit the manifest does not name is a cache entry, and one that is missing is parsed
//! again. So a kill at any moment leaves the old or the new index, and damage costs time only.

mod log;
mod manifest;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub(crate) use self::{
    log::{Location, UnitInfo, UnitLog, UnitReader, Uses, defined_names, read_exact_at},
    manifest::{FileEntry, Manifest},
};
use crate::{path::ContentHash, syntax::Language};

/// Changes whenever anything on disk would be read differently: formats, the analyser, queries.
pub(crate) const VERSION: u32 = 2;

/// An index that was not opened for so long is removed.
const UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);

/// What names a unit: its content in its language.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct UnitKey(pub(crate) u64);

impl UnitKey {
    pub(crate) fn new(hash: ContentHash, language: Language) -> Self {
        // The language is mixed in because the same bytes say different things in two grammars.
        Self(hash.prefix() ^ (language as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// Why the index cannot be kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {attempt} {path}")]
    Io {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} is damaged: {what}")]
    Damaged { path: PathBuf, what: String },
    #[error("could not {attempt} the text index")]
    Text {
        attempt: &'static str,
        source: Box<tantivy::TantivyError>,
    },
}

impl StoreError {
    pub(crate) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: &(impl ToString + ?Sized)) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

/// Makes a folder that nobody else may read: it holds the code, whoever may read that.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        builder.mode(0o700).create(dir)?;
        // One made by an earlier version is open to others.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(dir)
}

/// Where the parts of one workspace's index are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Names the folder for `root` below `cache_dir`; its name carries the format's version, so
    /// another version never sees it.
    pub(crate) fn of(cache_dir: &Path, root: &Path) -> Self {
        let name = ContentHash::of(root.as_os_str().as_encoded_bytes());
        Self {
            dir: cache_dir.join(format!("index-v{VERSION}-{name}")),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
    pub(crate) fn manifest(&self) -> PathBuf {
        self.dir.join("manifest")
    }
    pub(crate) fn units(&self) -> PathBuf {
        self.dir.join("units.log")
    }
    pub(crate) fn text(&self) -> PathBuf {
        self.dir.join("text")
    }
    pub(crate) fn vectors(&self) -> PathBuf {
        self.dir.join("vectors")
    }
    pub(crate) fn history(&self) -> PathBuf {
        self.dir.join("history")
    }

    /// Takes the right to write, or returns `None` when another process has it. Makes the folder
    /// if it is not there.
    pub(crate) fn lock(&self) -> Result<Option<WriteLock>, StoreError> {
        make_private(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // Says when it was used last.
                if let Err(error) = file.set_modified(SystemTime::now()) {
                    tracing::debug!(%error, "{} keeps its time", path.display());
                }
                Ok(Some(WriteLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Removes the indexes beside this one, of any version, that nobody has used for [`UNUSED`].
    /// What cannot be removed stays.
    pub(crate) fn sweep(&self) {
        let beside = self.dir.parent().and_then(|dir| fs::read_dir(dir).ok());
        for entry in beside.into_iter().flatten().flatten() {
            let dir = entry.path();
            let is_index = entry.file_name().to_string_lossy().starts_with("index-v");
            let lock = dir.join("lock");
            let used = fs::metadata(&lock).and_then(|lock| lock.modified());
            let is_old = used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > UNUSED));
            if !is_index || !is_old || dir == self.dir {
                continue;
            }
            // One that is in use since long is locked.
            let free = File::open(&lock).is_ok_and(|lock| {
                let index = Self { dir: dir.clone() };
                // The lock last: where this is cut off, the next sweep knows it by that.
                lock.try_lock().is_ok() && index.wipe().is_ok() && fs::remove_dir_all(&dir).is_ok()
            });
            if free {
                tracing::info!("removed {}, unused for long", dir.display());
            }
        }
    }

    /// Removes everything but the lock.
    pub(crate) fn wipe(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("read", &self.dir))? {
            let path = entry.map_err(StoreError::io("read", &self.dir))?.path();
            if path.file_name().is_some_and(|name| name == "lock") {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Returns the bytes all parts take.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        fn size(dir: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(dir) else {
                return 0;
            };
            entries
                .filter_map(Result::ok)
                .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
                .map(|(path, metadata)| {
                    if metadata.is_dir() {
                        size(&path)
                    } else {
                        metadata.len()
                    }
                })
                .sum()
        }
        size(&self.dir)
    }
}

/// The right to write; given back when dropped, also by a crash.
#[derive(Debug)]
pub(crate) struct WriteLock {
    _file: File,
}

/// Writes `payload` to `path` whole or not at all: a checksummed temporary file, synced, renamed.
pub(crate) fn write_sealed(path: &Path, payload: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(payload)?;
        file.write_all(blake3::hash(payload).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(StoreError::io("write", path))
}

/// Returns the payload of a file written by [`write_sealed`]; `None` when there is no file.
///
/// # Errors
/// `Damaged` when the version or the checksum is not what it must be.
pub(crate) fn read_sealed(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let Some(end) = bytes.len().checked_sub(32).filter(|&end| end >= 4) else {
        return Err(StoreError::damaged(path, "too short"));
    };
    if bytes[..4] != VERSION.to_le_bytes() {
        return Err(StoreError::damaged(path, "another version"));
    }
    if blake3::hash(&bytes[4..end]).as_bytes() != &bytes[end..] {
        return Err(StoreError::damaged(path, "checksum"));
    }
    bytes.truncate(end);
    bytes.drain(..4);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
