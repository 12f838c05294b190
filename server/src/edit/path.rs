//! Paths that an answer may name: relative, inside the workspace, and nothing of version control.
//!
//! Holds: a [`RepoPath`] has only plain components, so joining it to a root stays below the root as
//! far as names go. Links are another matter: the disk layer checks what it really opened.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const MAX_PATH: usize = 4096;
const MAX_COMPONENT: usize = 255;

/// A file in the workspace: components joined by `/`, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(String);

/// Why a path is not one an edit may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the path is empty")]
    Empty,
    #[error("the path is too long")]
    TooLong,
    #[error("the path is absolute and leads out of the workspace")]
    Absolute,
    #[error("the path goes up with `..`")]
    Upward,
    #[error("the path is inside a version control directory")]
    VersionControl,
    #[error("the path has characters that names of files do not have")]
    Characters,
}

impl RepoPath {
    /// Reads a path as a model writes it; a backslash separates too.
    ///
    /// # Errors
    /// [`Denied`], with the first rule that is broken.
    pub fn parse(path: &str) -> Result<Self, Denied> {
        if path.len() > MAX_PATH {
            return Err(Denied::TooLong);
        }
        if path.chars().any(|c| c.is_control() || is_direction_mark(c)) {
            return Err(Denied::Characters);
        }
        let path = path.replace('\\', "/");
        let is_drive =
            path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
        if path.starts_with('/') || is_drive || path == "~" || path.starts_with("~/") {
            return Err(Denied::Absolute);
        }
        let mut clean = String::with_capacity(path.len());
        for component in path.split('/').filter(|c| !c.is_empty() && *c != ".") {
            check_component(component)?;
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(component);
        }
        if clean.is_empty() {
            Err(Denied::Empty)
        } else {
            Ok(Self(clean))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The directory the file is in; `None` for one at the root.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.to_owned()))
    }

    /// What follows the last dot of the file's name, in lower case.
    pub fn extension(&self) -> Option<String> {
        self.file_name()
            .rsplit_once('.')
            .map(|(_, ext)| ext.to_ascii_lowercase())
    }

    /// Whether the last components of `self` are those of `tail`.
    pub fn ends_with(&self, tail: &Self) -> bool {
        self.0 == tail.0
            || (self.0.ends_with(&tail.0)
                && self.0.as_bytes()[self.0.len() - tail.0.len() - 1] == b'/')
    }

    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RepoPath {
    type Error = Denied;

    fn try_from(path: String) -> Result<Self, Denied> {
        Self::parse(&path)
    }
}

impl From<RepoPath> for String {
    fn from(path: RepoPath) -> Self {
        path.0
    }
}

/// Checks one component of a path, as a link may name it too.
pub(super) fn check_name(component: &str) -> Result<(), Denied> {
    if is_version_control(component) {
        return Err(Denied::VersionControl);
    }
    Ok(())
}

fn check_component(component: &str) -> Result<(), Denied> {
    if component == ".." {
        return Err(Denied::Upward);
    }
    if component.len() > MAX_COMPONENT {
        return Err(Denied::TooLong);
    }
    // `name::$DATA` and its kin are other names of a file on NTFS; there every colon is.
    if component.contains(":$") || (cfg!(windows) && component.contains(':')) {
        return Err(Denied::Characters);
    }
    check_name(component)
}

/// Whether some file system takes `component` for the directory of a version control system: in
/// any case, with trailing dots and blanks (Windows), as a short name (`git~1`), with a stream
/// name, or with characters that HFS+ does not look at. After git's `is_ntfs_dotgit` and
/// `is_hfs_dotgit`.
fn is_version_control(component: &str) -> bool {
    let name: String = component
        .chars()
        .filter(|c| !is_ignored_by_hfs(*c))
        .collect();
    let name = name.split(':').next().unwrap_or_default();
    let name = name.trim_end_matches(['.', ' ']).to_lowercase();
    matches!(name.as_str(), ".git" | ".hg" | ".svn" | ".jj")
        || name
            .strip_prefix("git~")
            .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Marks that make a path read differently from what it is.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
