//! The tools, one file each: the arguments, what the model is told, and the work.

pub(super) mod ask_user;
pub(super) mod diagnostics;
pub(super) mod edit;
pub(super) mod finish;
pub(super) mod git_diff;
pub(super) mod git_log;
pub(super) mod grep;
pub(super) mod list;
pub(super) mod plan;
pub(super) mod read_file;
pub(super) mod run;
pub(super) mod search;
pub(super) mod symbols;
pub(super) mod tests;

use super::desk::Desk;
use super::proposed::View;
use crate::edit::path::RepoPath;
use crate::edit::tree::{Entry, Tree};
use crate::secret;

/// Bytes of one answer at most.
pub(super) const MAX_ANSWER: usize = 32 << 10;

/// Files larger than this are not looked through, in bytes.
const MAX_FILE: usize = 2 << 20;

/// What a tool says. `Err` is a failure that the model is told of.
pub(super) type Said = Result<String, String>;

/// Reads a path as a model writes it; the folder itself is `None`.
fn path(text: &str, root: &std::path::Path) -> Result<Option<RepoPath>, String> {
    let text = root
        .to_str()
        .and_then(|root| text.strip_prefix(root))
        .map_or(text, |rest| rest.trim_start_matches('/'));
    if matches!(text.trim_end_matches('/'), "" | "." | "./") {
        return Ok(None);
    }
    RepoPath::parse(text)
        .map(Some)
        .map_err(|why| format!("{text}: {why}"))
}

/// The text of a file as the task has it, of which lines may be shown; `None` for what is large, no
/// text or may not be read.
fn shown_text(desk: &Desk, view: &View<'_>, path: &RepoPath) -> Option<String> {
    desk.may_read(path).ok()?;
    let Ok(Some(Entry::File { bytes, .. })) = view.read(path) else {
        return None;
    };
    if bytes.len() > MAX_FILE || bytes[..bytes.len().min(8192)].contains(&0) {
        return None;
    }
    let text = String::from_utf8(bytes).ok()?;
    (!secret::is_key_file(&text)).then_some(text)
}

/// Cuts an answer that is too long, at the end of a line where there is one.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() <= MAX_ANSWER {
        return text;
    }
    let mut cut = MAX_ANSWER;
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let cut = text[..cut].rfind('\n').map_or(cut, |end| end + 1);
    let left_out = text.len() - cut;
    text.truncate(cut);
    text.push_str(&format!("[{left_out} bytes more are left out]\n"));
    text
}
