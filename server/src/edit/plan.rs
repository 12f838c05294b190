//! From an answer's edits to new contents of files, with nothing written yet.
//!
//! Holds: all edits of an answer can be done, or the plan is refused with what is wrong, as far as
//! it can be told in one go. Paths an answer names mean files of the workspace and nothing else.
//! Not here: writing (`transaction`), review (`hunks`).

mod paths;
mod rewrite;

use std::collections::BTreeMap;

use super::apply_set;
use super::elide::find_placeholder;
use super::locate::Level;
use super::merge::{Adjacent, Side, diff, merge};
use super::parse::{Edit, EditSet, Format, Op};
use super::path::RepoPath;
use super::text::{Breaks, Change, Text};
use super::tree::{Entry, Tree};
use super::{Kind, Refusal};

/// Longest new file, in bytes.
const MAX_NEW_FILE: usize = 16 << 20;

/// Tells what a file was when the model read it.
pub type Bases<'a> = dyn Fn(&RepoPath) -> Option<Vec<u8>> + 'a;

/// What is known beside the answer.
#[derive(Default)]
pub struct Options<'a> {
    /// The file that edits without a usable path are for.
    pub target: Option<RepoPath>,
    /// What a file was when the model read it, where that is known.
    pub base: Option<&'a Bases<'a>>,
}

/// New contents for some files. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub format: Format,
    pub files: Vec<FilePlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    pub path: RepoPath,
    /// Where the file was before, if it moves.
    pub moved_from: Option<RepoPath>,
    /// `None` for a file that is not there yet.
    pub before: Option<Vec<u8>>,
    /// `None` for a file that goes.
    pub after: Option<Vec<u8>>,
    /// The file's executable bit, before and after.
    pub executable: (bool, bool),
    /// The lines that change between `before` and `after`.
    pub changes: Vec<Change>,
    /// How the edits' places were found.
    pub levels: Vec<Level>,
}

/// Plans an answer's edits.
///
/// # Errors
/// What is wrong with each file's edits, one [`Refusal`] a file.
pub fn plan(edits: &EditSet, tree: &dyn Tree, options: &Options<'_>) -> Result<Plan, Vec<Refusal>> {
    let mut refused = Vec::new();
    let mut by_file: BTreeMap<RepoPath, Vec<&Edit>> = BTreeMap::new();
    let mut order: Vec<RepoPath> = Vec::new();
    for edit in &edits.edits {
        match paths::resolve(edit, tree, options) {
            Ok(path) => {
                let of_file = by_file.entry(path.clone()).or_default();
                if of_file.is_empty() {
                    order.push(path);
                }
                of_file.push(edit);
            }
            Err(why) => refused.push(why),
        }
    }
    let mut files = Vec::new();
    for path in order {
        match plan_file(&path, &by_file[&path], tree, options, edits.format) {
            Ok(file) => files.extend(file),
            Err(why) => refused.push(why.in_file(path.as_str())),
        }
    }
    if let Some(why) = clash(&files) {
        refused.push(why);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    if files.is_empty() {
        return Err(vec![Refusal::new(
            Kind::NoChange,
            "the edits change nothing",
        )]);
    }
    Ok(Plan {
        format: edits.format,
        files,
    })
}

fn plan_file(
    path: &RepoPath,
    edits: &[&Edit],
    tree: &dyn Tree,
    options: &Options<'_>,
    format: Format,
) -> Result<Option<FilePlan>, Refusal> {
    let (before, executable) = match tree.read(path)? {
        Some(Entry::File { bytes, executable }) => (Some(bytes), executable),
        Some(Entry::Directory) => return Err(Refusal::new(Kind::IsDirectory, "is a directory")),
        None => (None, false),
    };
    let mut file = FilePlan {
        path: path.clone(),
        moved_from: None,
        before,
        after: None,
        executable: (executable, executable),
        changes: Vec::new(),
        levels: Vec::new(),
    };
    let mut anchored: Vec<&Edit> = Vec::new();
    let mut whole: Option<&Edit> = None;
    for edit in edits {
        match &edit.op {
            Op::Lines { .. } | Op::Text { .. } | Op::Range { .. } => anchored.push(edit),
            Op::Create { .. } | Op::Write { .. } | Op::Delete { .. } => {
                if whole.replace(edit).is_some() {
                    return Err(Refusal::new(
                        Kind::OverlappingEdits,
                        "is written or removed twice",
                    ));
                }
            }
            Op::Rename { to } => {
                let to = paths::named(to, tree)?;
                if file.moved_from.replace(path.clone()).is_some() {
                    return Err(Refusal::new(Kind::OverlappingEdits, "is moved twice"));
                }
                paths::check_free(&to, tree)?;
                file.path = to;
            }
            Op::Mode { executable } => file.executable.1 = *executable,
        }
    }
    if whole.is_some() && (!anchored.is_empty() || file.moved_from.is_some()) {
        return Err(Refusal::new(
            Kind::OverlappingEdits,
            "is changed in parts and as a whole",
        ));
    }
    let base = options
        .base
        .and_then(|base| base(path))
        .filter(|b| Some(b) != file.before.as_ref());
    match whole.map(|edit| &edit.op) {
        Some(Op::Create { text, executable }) => {
            file.executable.1 |= *executable;
            create(&mut file, text, format)?;
        }
        Some(Op::Write { text, fenced }) => match file.before.clone() {
            Some(now) => {
                let change = |bytes: &[u8]| rewrite::rewrite(bytes, text, *fenced, is_python(path));
                with_base(&mut file, &now, base, change)?;
            }
            None => {
                paths::check_plausible(path, tree)?;
                create(&mut file, text, format)?;
            }
        },
        Some(Op::Delete { quoted }) => {
            let Some(now) = &file.before else {
                return Err(paths::not_found(path, tree));
            };
            check_quoted(now, quoted)?;
            if base.is_some_and(|base| base != *now) {
                return Err(Refusal::new(
                    Kind::Conflict,
                    "was changed since the model read it",
                ));
            }
        }
        Some(
            Op::Lines { .. }
            | Op::Text { .. }
            | Op::Range { .. }
            | Op::Rename { .. }
            | Op::Mode { .. },
        )
        | None => {
            let Some(now) = file.before.clone() else {
                return Err(paths::not_found(path, tree));
            };
            let change = |bytes: &[u8]| match anchored[..] {
                [] => Ok(apply_set::Done {
                    bytes: bytes.to_vec(),
                    changes: Vec::new(),
                    levels: Vec::new(),
                }),
                _ => apply_set::apply(bytes, &anchored, is_python(path)),
            };
            with_base(&mut file, &now, base, change)?;
        }
    }
    let is_same = file.before == file.after && file.executable.0 == file.executable.1;
    Ok((!is_same || file.moved_from.is_some()).then_some(file))
}

/// Changes the file, or what it was when the model read it, and then carries the change over.
fn with_base(
    file: &mut FilePlan,
    now: &[u8],
    base: Option<Vec<u8>>,
    change: impl Fn(&[u8]) -> Result<apply_set::Done, Refusal>,
) -> Result<(), Refusal> {
    let Some(base) = base else {
        let done = change(now)?;
        file.after = Some(done.bytes);
        (file.changes, file.levels) = (done.changes, done.levels);
        return Ok(());
    };
    let on_base = match change(&base) {
        Ok(done) => done,
        // The model may have seen the file as it is now.
        Err(why) if matches!(why.kind, Kind::NoMatch | Kind::AlreadyApplied) => {
            let done = change(now).map_err(|_| why)?;
            file.after = Some(done.bytes);
            (file.changes, file.levels) = (done.changes, done.levels);
            return Ok(());
        }
        Err(why) => return Err(why),
    };
    let text = |bytes: &[u8]| {
        Text::decode(bytes.to_vec(), Breaks::Lf)
            .map_err(|why| Refusal::new(Kind::Other, format!("the file {why}")))
    };
    let (base, ours, theirs) = (text(&base)?, text(now)?, text(&on_base.bytes)?);
    let (base_lines, our_lines, their_lines) =
        (base.raw_lines(), ours.raw_lines(), theirs.raw_lines());
    let our_changes = diff(&base_lines, &our_lines);
    let merged = merge(
        base_lines.len(),
        Side {
            lines: &our_lines,
            changes: &our_changes,
        },
        Side {
            lines: &their_lines,
            changes: &on_base.changes,
        },
        Adjacent::Conflict,
    );
    if let Some(conflict) = merged.conflicts.first() {
        return Err(Refusal::new(
            Kind::Conflict,
            format!(
                "lines {} to {} were changed since the model read the file, where the edit changes them too",
                conflict.ours.start + 1,
                conflict.ours.end.max(conflict.ours.start + 1),
            ),
        ));
    }
    if merged.changes.is_empty() && !on_base.changes.is_empty() {
        return Err(Refusal::new(
            Kind::AlreadyApplied,
            "the file has the new text already",
        ));
    }
    file.after = Some([ours.bom(), &merged.bytes].concat());
    (file.changes, file.levels) = (merged.changes, on_base.levels);
    Ok(())
}

fn create(file: &mut FilePlan, text: &str, format: Format) -> Result<(), Refusal> {
    if text.len() > MAX_NEW_FILE {
        return Err(Refusal::new(Kind::Other, "the new file is too large"));
    }
    match &file.before {
        Some(now) if now == text.as_bytes() && !now.is_empty() => {
            return Err(Refusal::new(
                Kind::AlreadyApplied,
                "the file has the new text already",
            ));
        }
        Some(now) if !now.is_empty() => {
            return Err(match format {
                Format::SearchReplace | Format::ToolCall => Refusal::new(
                    Kind::EmptySearch,
                    "the text to find is empty, but the file is not",
                ),
                Format::Auto | Format::UnifiedDiff | Format::ApplyPatch | Format::WholeFile => {
                    Refusal::new(Kind::Conflict, "is to be created, but is there already")
                }
            });
        }
        Some(_) | None => {}
    }
    if let Some(line) = find_placeholder(text.lines(), |_| false, is_python(&file.path)) {
        return Err(apply_set::placeholder(line));
    }
    let n_lines = Text::decode(text.as_bytes().to_vec(), Breaks::Lf).map_or(0, |t| t.n_lines());
    file.changes = vec![Change {
        before: 0..0,
        after: 0..n_lines,
    }];
    file.after = Some(text.as_bytes().to_vec());
    Ok(())
}

/// Checks that the lines a diff removes with a file are all the file has.
fn check_quoted(now: &[u8], quoted: &[String]) -> Result<(), Refusal> {
    let text = Text::decode(now.to_vec(), Breaks::Lf)
        .map_err(|why| Refusal::new(Kind::Other, format!("the file {why}")))?;
    let is_same = text.n_lines() == quoted.len()
        && text
            .lines()
            .zip(quoted)
            .all(|(a, b)| a.trim_end() == b.trim_end());
    if quoted.is_empty() || is_same {
        Ok(())
    } else {
        Err(Refusal::new(
            Kind::NoMatch,
            "the file to be removed does not have the lines the diff removes",
        ))
    }
}

/// Refuses two files that end up on one path, or one below the other.
fn clash(files: &[FilePlan]) -> Option<Refusal> {
    let mut paths: Vec<&RepoPath> = files
        .iter()
        .filter(|f| f.after.is_some())
        .map(|f| &f.path)
        .collect();
    paths.sort();
    let pair = paths.windows(2).find(|p| {
        p[0] == p[1]
            || p[1]
                .as_str()
                .strip_prefix(p[0].as_str())
                .is_some_and(|rest| rest.starts_with('/'))
    })?;
    Some(
        Refusal::new(Kind::OverlappingEdits, "two edits write to the same path")
            .in_file(pair[1].as_str()),
    )
}

fn is_python(path: &RepoPath) -> bool {
    matches!(path.extension().as_deref(), Some("py" | "pyi"))
}
