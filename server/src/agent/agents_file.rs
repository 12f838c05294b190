//! AGENTS.md: what a repository tells agents, and whether that is still true.
//!
//! Holds: it informs, and allows nothing. What it names is looked for below the folder alone.
//! Not here: how a model is told (`prompt`).

use crate::edit::disk::{Place, Root};
use crate::edit::path::RepoPath;
use crate::store::now;

pub const NAME: &str = "AGENTS.md";

/// A file that nobody has changed for a quarter, while others were, is due for a review.
const DUE_DAYS: i64 = 92;
/// Paths told of that are gone.
const MAX_GONE: usize = 10;
const DAY: i64 = 24 * 3_600;

/// What speaks for nobody having looked at it lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wear {
    /// Days and commits since it was changed, where it is due.
    pub since: Option<(i64, usize)>,
    /// Paths that it names and that are not there, with their lines from 1.
    pub gone: Vec<(usize, RepoPath)>,
}

impl Wear {
    /// Looks at the file of a folder; `text` is what it says. Reads the disk and git.
    pub fn of(root: &Root, text: &str) -> Self {
        let age = indexer::age(root.path(), &indexer::RepoPath::from(NAME));
        let since = age.map(|age| ((now() / 1_000 - age.seconds) / DAY, age.n_commits));
        let is_gone = |(_, path): &(usize, RepoPath)| {
            let top = path.components().next().unwrap_or_default();
            // Else it may be a name of something else, or be made by a build.
            let is_below_something = RepoPath::parse(top)
                .is_ok_and(|top| matches!(root.find(&top), Ok(Place::Directory)));
            is_below_something && matches!(root.find(path), Ok(Place::Missing { .. }))
        };
        Self {
            since: since.filter(|(days, n_commits)| *days > DUE_DAYS && *n_commits > 0),
            gone: paths(text).filter(is_gone).take(MAX_GONE).collect(),
        }
    }

    /// Says it in one sentence; `None` when there is nothing to say.
    pub fn in_words(&self) -> Option<String> {
        let since = self.since.map(|(days, n_commits)| {
            format!("was not changed for {days} days and {n_commits} commits")
        });
        let gone: Vec<String> = self
            .gone
            .iter()
            .map(|(line, path)| format!("{path} (line {line})"))
            .collect();
        let gone =
            (!gone.is_empty()).then(|| format!("names what is not there: {}", gone.join(", ")));
        let both: Vec<String> = since.into_iter().chain(gone).collect();
        (!both.is_empty()).then(|| both.join(" and "))
    }
}

/// The paths between backticks, with their lines.
fn paths(text: &str) -> impl Iterator<Item = (usize, RepoPath)> {
    let of_line = |(at, line): (usize, &str)| {
        let quoted: Vec<_> = line
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        quoted.into_iter().map(move |word| (at + 1, word))
    };
    let is_path = |word: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        word.contains('/') && !word.contains("..") && word.bytes().all(plain)
    };
    let words = text.lines().enumerate().flat_map(of_line);
    words.filter_map(move |(line, word)| {
        let path = RepoPath::parse(&word).ok().filter(|_| is_path(&word))?;
        Some((line, path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn nothing_is_told_of_what_lies_outside() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
        let root = Root::open(folder.path(), None).unwrap();
        assert_eq!(Wear::of(&root, "`out/there`"), Wear::default());
    }

    #[test]
    fn paths_that_are_gone_are_told_with_their_lines_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("src/parse")).unwrap();
        fs::write(folder.path().join("src/main.rs"), "").unwrap();
        let text = "# Agents\nStart at `src/main.rs`, then `src/gone.rs` and `src/parse/`.\n\
            `cargo test -p src/x`, `and/or`, src/unquoted.rs, `../src/a`, `/src/b`, `src/*.rs`,\n\
            `src/parse/old.rs`, `target/debug/x`, `https://src/c`.\n";
        let root = Root::open(folder.path(), None).unwrap();
        let wear = Wear::of(&root, text);
        let gone: Vec<(usize, &str)> = wear.gone.iter().map(|(at, p)| (*at, p.as_str())).collect();
        assert_eq!(gone, [(2, "src/gone.rs"), (4, "src/parse/old.rs")]);
        assert_eq!(
            wear.in_words().unwrap(),
            "names what is not there: src/gone.rs (line 2), src/parse/old.rs (line 4)"
        );
        assert_eq!(Wear::of(&root, "`src/main.rs`"), Wear::default());
        assert_eq!(Wear::default().in_words(), None);
    }
}
