//! Which file of the workspace an answer means by a path.

use super::{Edit, Entry, Kind, Op, Options, Refusal, RepoPath, Tree};

/// Names listed in a refusal at most.
const LISTED: usize = 5;

/// Finds the file an edit is for.
///
/// A path that is there as written is taken as written. Otherwise an edit of lines may name the
/// end of a path, or have something in front of it, as long as only one file fits: the lines it
/// quotes are checked against that file anyway.
pub(super) fn resolve(
    edit: &Edit,
    tree: &dyn Tree,
    options: &Options<'_>,
) -> Result<RepoPath, Refusal> {
    let Some(name) = &edit.path else {
        return options.target.clone().ok_or_else(|| {
            Refusal::new(
                Kind::FileNotFound,
                format!("the edit of line {} names no file", edit.line),
            )
        });
    };
    let path = named(name, tree)?;
    if tree.read(&path)?.is_some() {
        return Ok(path);
    }
    match &edit.op {
        Op::Create { .. } | Op::Write { .. } => {
            check_free(&path, tree)?;
            Ok(path)
        }
        Op::Delete { .. } => Err(not_found(&path, tree)),
        Op::Lines { .. }
        | Op::Text { .. }
        | Op::Range { .. }
        | Op::Rename { .. }
        | Op::Mode { .. } => {
            let mut fitting = tree.ending_with(&path);
            if fitting.is_empty() {
                fitting = tails(&path)
                    .filter(|tail| matches!(tree.read(tail), Ok(Some(Entry::File { .. }))))
                    .collect();
            }
            match (&fitting[..], &options.target) {
                ([only], _) => Ok(only.clone()),
                ([], Some(target)) => Ok(target.clone()),
                _ => Err(not_found(&path, tree)),
            }
        }
    }
}

/// Reads a path as the answer writes it.
pub(super) fn named(name: &str, tree: &dyn Tree) -> Result<RepoPath, Refusal> {
    let inside = tree.relative(name).unwrap_or(name);
    RepoPath::parse(inside)
        .map_err(|why| Refusal::new(Kind::PathDenied, why.to_string()).in_file(name))
}

/// Checks that a new file can be made at `path`.
pub(super) fn check_free(path: &RepoPath, tree: &dyn Tree) -> Result<(), Refusal> {
    match tree.read(path)? {
        Some(Entry::Directory) => {
            return Err(Refusal::new(Kind::IsDirectory, "is a directory").in_file(path.as_str()));
        }
        Some(Entry::File { .. }) => {
            return Err(Refusal::new(Kind::Conflict, "is there already").in_file(path.as_str()));
        }
        None => {}
    }
    let mut above = path.parent();
    while let Some(directory) = above {
        if matches!(tree.read(&directory)?, Some(Entry::File { .. })) {
            return Err(Refusal::new(
                Kind::Other,
                format!("{directory} is a file, not a directory"),
            )
            .in_file(path.as_str()));
        }
        above = directory.parent();
    }
    Ok(())
}

/// Refuses a new file whose path looks like one that is there with a made-up directory in front,
/// or like a word rather than a path.
pub(super) fn check_plausible(path: &RepoPath, tree: &dyn Tree) -> Result<(), Refusal> {
    let has_parent = path
        .parent()
        .is_none_or(|p| matches!(tree.read(&p), Ok(Some(Entry::Directory))));
    let shadowed = tails(path).find(|tail| matches!(tree.read(tail), Ok(Some(Entry::File { .. }))));
    match shadowed {
        Some(existing) if !has_parent => Err(Refusal::new(
            Kind::FileNotFound,
            format!("is not there, and neither is its directory; is {existing} meant?"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn not_found(path: &RepoPath, tree: &dyn Tree) -> Refusal {
    let same_name = RepoPath::parse(path.file_name())
        .map(|name| tree.ending_with(&name))
        .unwrap_or_default();
    let mut message = String::from("is not there");
    if !same_name.is_empty() {
        let listed: Vec<&str> = same_name
            .iter()
            .take(LISTED)
            .map(RepoPath::as_str)
            .collect();
        message.push_str(&format!("; files of that name: {}", listed.join(", ")));
    }
    Refusal::new(Kind::FileNotFound, message).in_file(path.as_str())
}

/// The path without its first component, without its first two, and so on.
fn tails(path: &RepoPath) -> impl Iterator<Item = RepoPath> {
    path.as_str()
        .match_indices('/')
        .filter_map(|(at, _)| RepoPath::parse(&path.as_str()[at + 1..]).ok())
}
