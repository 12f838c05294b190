//! True edits to damage: what the commits of a git repository did to single files.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One file before and after a commit, as text.
#[derive(Debug, Clone)]
pub(super) struct TrueEdit {
    pub(super) commit: String,
    pub(super) path: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// Largest file taken, in bytes.
const MAX_FILE: usize = 60_000;

/// The repository to damage: `PAIRWRIGHT_DAMAGE_REPO`, or the one this source is in.
pub(super) fn repository() -> PathBuf {
    std::env::var_os("PAIRWRIGHT_DAMAGE_REPO").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        PathBuf::from,
    )
}

/// Lists edits of text files, newest commits first; every `stride`th commit is looked at.
///
/// Empty when there is no repository (a source archive) or no git.
pub(super) fn edits(repository: &Path, most: usize, stride: usize) -> Vec<TrueEdit> {
    let Some(log) = git(repository, &["log", "--no-merges", "--format=%H"]) else {
        return Vec::new();
    };
    let log = String::from_utf8_lossy(&log).into_owned();
    let mut edits = Vec::new();
    for commit in log.lines().step_by(stride) {
        let names = [
            "diff-tree",
            "-r",
            "--no-renames",
            "--diff-filter=M",
            "--name-only",
            "--no-commit-id",
            commit,
        ];
        let Some(names) = git(repository, &names) else {
            continue;
        };
        for path in String::from_utf8_lossy(&names)
            .lines()
            .filter(|p| !p.starts_with('"'))
            .take(3)
        {
            let text = |revision: &str| -> Option<String> {
                let bytes = git(repository, &["show", &format!("{revision}:{path}")])?;
                (bytes.len() <= MAX_FILE).then(|| String::from_utf8(bytes).ok())?
            };
            let (Some(before), Some(after)) = (text(&format!("{commit}^")), text(commit)) else {
                continue;
            };
            let is_plain = |t: &str| t.ends_with('\n') && !t.contains('\r') && !t.contains('\0');
            if before != after && is_plain(&before) && is_plain(&after) {
                edits.push(TrueEdit {
                    commit: commit[..10].to_owned(),
                    path: path.to_owned(),
                    before,
                    after,
                });
            }
            if edits.len() == most {
                return edits;
            }
        }
    }
    edits
}

/// Runs git; `None` when it fails.
#[expect(
    clippy::disallowed_methods,
    reason = "git is the oracle and the source of true edits"
)]
pub(super) fn git(directory: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .ok()?;
    output.status.success().then_some(output.stdout)
}
