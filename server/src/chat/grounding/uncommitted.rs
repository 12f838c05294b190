//! The changes that are not committed, as a unified diff.
//!
//! Holds: no program is run, whatever the repository's settings name; files are read through the
//! walk that edits are written by; files that are kept for secrets are left out.

use std::time::{Duration, Instant};

use indexer::{Content, Uncommitted};

use crate::edit::diff::unified;
use crate::edit::disk::{self, Root};
use crate::edit::path::RepoPath;
use crate::secret;

/// Time that looking for changes may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger texts are not compared: nobody reads the outcome.
const MAX_TEXT: usize = 256 << 10;

/// Returns what differs from HEAD below `root`, hardly more than `most` bytes of it; empty when
/// nothing does, `None` without git. Reads the disk.
pub(super) fn diff(root: &Root, most: usize) -> Option<String> {
    let mut read = |path: &indexer::RepoPath| {
        let path = RepoPath::parse(path.as_str()).ok()?;
        match root.read(&path) {
            Ok(disk::Content::Missing) => None,
            Ok(disk::Content::File(file)) => Some(Content::Bytes(file.bytes)),
            Ok(disk::Content::Directory) | Err(_) => Some(Content::Unread),
        }
    };
    let changed = indexer::uncommitted(root.path(), Instant::now() + PATIENCE, &mut read)?;
    let mut text = String::new();
    for file in changed.iter().filter(|f| !secret::is_path(f.path.as_str())) {
        if text.len() > most {
            break;
        }
        add(file, &mut text);
    }
    Some(text)
}

fn add(file: &Uncommitted, out: &mut String) {
    let name = |side: &str, content: &Option<Content>| match content {
        Some(_) => format!("{side}/{}", file.path.as_str()),
        None => "/dev/null".to_owned(),
    };
    out.push_str(&format!(
        "--- {}\n+++ {}\n",
        name("a", &file.before),
        name("b", &file.after)
    ));
    let (before, after) = match (text(file.before.as_ref()), text(file.after.as_ref())) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(why), _) | (_, Err(why)) => {
            out.push_str(&format!("[not shown: {why}]\n"));
            return;
        }
    };
    out.push_str(&unified(before, after));
}

fn text(content: Option<&Content>) -> Result<&str, &'static str> {
    match content {
        None => Ok(""),
        Some(Content::Unread) => Err("not read"),
        Some(Content::Bytes(bytes)) if bytes.len() > MAX_TEXT => Err("too long"),
        Some(Content::Bytes(bytes)) if bytes.contains(&0) => Err("not text"),
        Some(Content::Bytes(bytes)) => match str::from_utf8(bytes) {
            // A hunk may be lines of it, which do not show what they are.
            Ok(text) if secret::is_key_file(text) => Err("it holds a private key"),
            Ok(text) => Ok(text),
            Err(_) => Err("not text"),
        },
    }
}
