//! Names of things: a file in the workspace, a piece of content, an amount of prompt.
//!
//! Holds: a [`RepoPath`] is relative, uses `/`, and never climbs out of the workspace. Names that
//! are not UTF-8 have no `RepoPath`; the walk reports them as faults.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A file's name relative to the workspace root, with `/` between its parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RepoPath(Arc<str>);

impl RepoPath {
    /// Returns the name of `path` below `root`, or `None` when it is outside, is the root itself,
    /// contains `..`, or is not UTF-8. A relative `path` is taken to be below the root already.
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        let relative = if path.is_absolute() {
            path.strip_prefix(root).ok()?
        } else {
            path
        };
        let mut name = String::with_capacity(relative.as_os_str().len());
        for part in relative.components() {
            match part {
                Component::Normal(part) => {
                    if !name.is_empty() {
                        name.push('/');
                    }
                    name.push_str(part.to_str()?);
                }
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        (!name.is_empty()).then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns where the file is on disk.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&*self.0)
    }

    /// Returns the last part: `c.rs` of `a/b/c.rs`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the last part up to its first dot after the first character: `c` of `a/c.test.ts`.
    pub fn stem(&self) -> &str {
        let name = self.file_name();
        match name.char_indices().skip(1).find(|&(_, c)| c == '.') {
            Some((at, _)) => &name[..at],
            None => name,
        }
    }

    /// Returns the folder, `""` at the root.
    pub fn parent(&self) -> &str {
        self.0.rfind('/').map_or("", |at| &self.0[..at])
    }
}

impl From<String> for RepoPath {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&str> for RepoPath {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<RepoPath> for String {
    fn from(path: RepoPath) -> Self {
        path.0.as_ref().to_owned()
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first 128 bits of the BLAKE3 hash of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self(hash)
    }

    pub(crate) fn prefix(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An amount of prompt in model tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Tokens(pub u32);

impl Tokens {
    /// Estimates the tokens of `text` without a tokenizer: one for every three bytes, rounded up.
    ///
    /// Code takes 3.0–4.2 bytes a token in the usual vocabularies, so this errs towards spending
    /// less than the budget.
    pub fn estimate(text: &str) -> Self {
        Self(u32::try_from(text.len().div_ceil(3)).unwrap_or(u32::MAX))
    }
}

/// Returns a hash of a name that stays the same between builds (FNV-1a, folded to 32 bits).
///
/// It is stored on disk, so it may not change without a new index version.
pub(crate) fn name_hash(name: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_inside_the_workspace_are_paths() {
        let root = Path::new("/ws");
        let below = |path: &str| RepoPath::below(root, Path::new(path)).map(String::from);
        assert_eq!(below("/ws/a/b.rs").as_deref(), Some("a/b.rs"));
        assert_eq!(below("./a/./b.rs").as_deref(), Some("a/b.rs"));
        assert_eq!(below("/ws/a\nb.rs").as_deref(), Some("a\nb.rs"));
        for outside in ["/ws", "/other/a.rs", "../a.rs", "a/../../b.rs", "/wsx/a.rs"] {
            assert_eq!(below(outside), None, "{outside}");
        }
    }

    #[test]
    fn stem_ends_at_the_first_dot_but_keeps_a_leading_one() {
        let stem = |path: &str| RepoPath::from(path).stem().to_owned();
        assert_eq!(stem("src/app.test.ts"), "app");
        assert_eq!(stem(".gitignore"), ".gitignore");
        assert_eq!(stem("Makefile"), "Makefile");
    }
}
