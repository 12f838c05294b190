//! Whole files in fences, each below (or with) its path.
//!
//! A fence without a path is an example, not an edit. A fence whose end is open to doubt is
//! refused: cut short it would still look like a file.

use super::fence::Fence;
use super::heading::{has_shape_of_path, path_line};
use super::{Edit, Op};
use crate::edit::{Kind, Refusal};

/// Files whose names do not look like a file's.
const WELL_KNOWN: &[&str] = &[
    "Makefile",
    "Dockerfile",
    "Containerfile",
    "Gemfile",
    "Rakefile",
    "Procfile",
    "Justfile",
    "justfile",
    "Vagrantfile",
    "Jenkinsfile",
    "BUILD",
    "WORKSPACE",
    "README",
    "LICENSE",
    "COPYING",
    "AUTHORS",
    "CHANGELOG",
    "NOTICE",
];

/// Reads all fences of an answer that have a path. When none has, but the answer is one single
/// fence, that one is returned without a path.
pub(super) fn read(lines: &[&str]) -> Result<Vec<Edit>, Refusal> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut nameless: Vec<Edit> = Vec::new();
    let mut n_nameless_after = 0;
    let mut next = 0;
    while next < lines.len() {
        let Some(fence) = Fence::open(lines[next]) else {
            next += 1;
            continue;
        };
        let path = path_in_info(&fence.info).or_else(|| path_before(&lines[..next]));
        let is_diff = matches!(fence.info.as_str(), "diff" | "patch" | "udiff");
        let Some(end) = close(&fence, lines, next + 1) else {
            if path.is_none() && edits.is_empty() {
                break;
            }
            return Err(Refusal::new(
                Kind::TruncatedOutput,
                format!("the fence that begins on line {} is not closed", next + 1),
            ));
        };
        let body = &lines[next + 1..end];
        next = end + 1;
        if is_diff {
            continue;
        }
        let mut text = body.join("\n");
        if !body.is_empty() {
            text.push('\n');
        }
        let edit = Edit {
            path,
            line: end - body.len(),
            op: Op::Write { text, fenced: true },
        };
        if edit.path.is_some() {
            edits.push(edit);
        } else {
            n_nameless_after +=
                usize::from(!edits.is_empty() && fence.info.is_empty() && fence.len() == 3);
            nameless.push(edit);
        }
    }
    if edits.is_empty() {
        let is_whole_answer = nameless.len() == 1
            && lines
                .iter()
                .find(|l| !l.trim().is_empty())
                .is_some_and(|l| Fence::open(l).is_some())
            && lines
                .iter()
                .rfind(|l| !l.trim().is_empty())
                .is_some_and(|l| l.trim().starts_with("```"));
        return Ok(if is_whole_answer {
            nameless
        } else {
            Vec::new()
        });
    }
    // What looks like a second fence may be the rest of a file that has fences of its own.
    let may_have_fences = |edit: &Edit| match &edit.op {
        Op::Write { text, .. } => {
            let path = edit
                .path
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            [".md", ".mdx", ".markdown", ".rst", ".txt"]
                .iter()
                .any(|ext| path.ends_with(ext))
                || text.lines().any(|line| line.starts_with("```"))
        }
        _ => false,
    };
    if n_nameless_after > 0 && edits.iter().any(may_have_fences) {
        return Err(Refusal::new(
            Kind::Malformed,
            "it is not clear where the file ends, as it has fences itself; put a longer fence around it",
        ));
    }
    Ok(edits)
}

/// Finds the line that closes `fence`; fences with an info string nest.
fn close(fence: &Fence, lines: &[&str], start: usize) -> Option<usize> {
    let mut depth = 0;
    for (idx, line) in lines.iter().enumerate().skip(start) {
        if fence.is_closed_by(line) {
            if depth == 0 {
                return Some(idx);
            }
            depth -= 1;
        } else if fence.is_reopened_by(line) {
            depth += 1;
        }
    }
    None
}

/// Reads the line above a fence; one blank line may be between.
fn path_before(above: &[&str]) -> Option<String> {
    let (last, rest) = above.split_last()?;
    let line = if last.trim().is_empty() {
        rest.last()?
    } else {
        last
    };
    path_line(line).filter(|path| has_shape_of_path(path) || WELL_KNOWN.contains(&path.as_str()))
}

/// Reads the path of `rust:src/lib.rs`, `py title="a.py"`, `src/lib.rs`.
fn path_in_info(info: &str) -> Option<String> {
    for word in info.split_whitespace() {
        let value = ["title=", "file=", "path=", "filename="]
            .iter()
            .find_map(|key| word.strip_prefix(key));
        let colon = word.split_once(':').map(|(_, path)| path);
        let path = value.map(|v| v.trim_matches('"')).or(colon).unwrap_or(word);
        if has_shape_of_path(path) && !path.contains("://") {
            return Some(path.to_owned());
        }
    }
    None
}
