//! A diff as git prints it, taken apart.

use std::fs;

use super::history::git;

/// One line of a hunk: its mark and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) mark: char,
    pub(super) text: String,
}

#[derive(Debug, Clone)]
pub(super) struct Hunk {
    pub(super) header: String,
    pub(super) lines: Vec<Line>,
}

impl Hunk {
    pub(super) fn side(&self, marks: &[char]) -> Vec<String> {
        self.lines
            .iter()
            .filter(|l| marks.contains(&l.mark))
            .map(|l| l.text.clone())
            .collect()
    }

    /// The lines to find.
    pub(super) fn old(&self) -> Vec<String> {
        self.side(&[' ', '-'])
    }

    pub(super) fn new_lines(&self) -> Vec<String> {
        self.side(&[' ', '+'])
    }
}

/// The hunks of an edit, with three lines of context and with none.
#[derive(Debug, Clone)]
pub(super) struct Diff {
    pub(super) hunks: Vec<Hunk>,
    pub(super) bare: Vec<Hunk>,
    /// Whether the old lines of every hunk are in the file once.
    pub(super) is_unique: bool,
}

impl Diff {
    /// `None` when there is nothing that could be damaged: no hunk, or far too many.
    pub(super) fn between(before: &str, after: &str) -> Option<Self> {
        let hunks = hunks(before, after, 3)?;
        let bare = hunks_with(before, after, 0)?;
        let lines: Vec<&str> = before.lines().collect();
        let is_unique = hunks.iter().all(|h| occurrences(&lines, &h.old()) == 1);
        ((1..=12).contains(&hunks.len())).then_some(Self {
            hunks,
            bare,
            is_unique,
        })
    }
}

fn hunks(before: &str, after: &str, context: usize) -> Option<Vec<Hunk>> {
    hunks_with(before, after, context)
}

fn hunks_with(before: &str, after: &str, context: usize) -> Option<Vec<Hunk>> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), before).unwrap();
    fs::write(directory.path().join("b"), after).unwrap();
    let unified = format!("-U{context}");
    // `git diff` says by its exit status that the files differ.
    let script = [
        "-c",
        "core.quotepath=off",
        "diff",
        "--no-index",
        "--no-color",
        &unified,
        "a",
        "b",
    ];
    let text = git_diff(directory.path(), &script)?;
    let mut hunks: Vec<Hunk> = Vec::new();
    for line in text.lines() {
        if line.starts_with("@@ ") {
            hunks.push(Hunk {
                header: line.to_owned(),
                lines: Vec::new(),
            });
        } else if let Some(hunk) = hunks.last_mut() {
            let mark = line.chars().next().unwrap_or(' ');
            if mark == '\\' {
                return None;
            }
            hunk.lines.push(Line {
                mark,
                text: line.get(1..).unwrap_or_default().to_owned(),
            });
        }
    }
    Some(hunks)
}

#[expect(clippy::disallowed_methods, reason = "git is the source of true diffs")]
fn git_diff(directory: &std::path::Path, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .ok()?;
    matches!(output.status.code(), Some(0 | 1)).then(|| String::from_utf8(output.stdout).ok())?
}

/// How often `block` stands in `lines`.
pub(super) fn occurrences(lines: &[&str], block: &[String]) -> usize {
    if block.is_empty() {
        return lines.len() + 1;
    }
    lines
        .windows(block.len())
        .filter(|w| w.iter().zip(block).all(|(a, b)| a == b))
        .count()
}

/// What `git merge-file` makes of two changes of one text; `None` for a conflict.
pub(super) fn merge_file(ours: &str, base: &str, theirs: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("ours", ours), ("base", base), ("theirs", theirs)] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let merged = git(
        directory.path(),
        &["merge-file", "-p", "ours", "base", "theirs"],
    )?;
    String::from_utf8(merged).ok()
}
