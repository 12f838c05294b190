//! Taking back what a token did, and nothing else.
//!
//! Holds: each file is merged: what is there now, less our own lines. Nothing that somebody else
//! wrote is reverted or removed; where they wrote in our lines it is a conflict, told hunk by
//! hunk, and by default then nothing is changed at all.
//! Not here: writing (`transaction`), what is kept for how long (`journal`).

use std::ops::Range;

use super::disk::{Content, DiskError, Root};
use super::hunks::{Conflict, carry_over};
use super::journal::{Image, Record, World};
use super::merge::diff;
use super::path::RepoPath;
use super::spelling;
use super::text::{Change, Inexpressible};
use super::transaction::Wanted;
use super::worlds::{Documents, NoDocuments};

/// What to do when part of a rollback is in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing.
    #[default]
    AllOrNothing,
    /// The rest.
    CleanOnly,
}

/// What takes the records back, and what stands against it.
pub(super) struct Undoing {
    pub(super) wanted: Vec<Wanted>,
    /// Each with its lines of the file as it was left by what is taken back.
    pub(super) conflicts: Vec<(Range<usize>, Conflict)>,
}

/// The lines of a conflict about a file as a whole.
const WHOLE: Range<usize> = 0..usize::MAX;

/// A file as it is, in whichever world.
struct Now {
    image: Option<Image>,
    is_document: bool,
}

pub(super) fn undoing(
    root: &Root,
    documents: &dyn Documents,
    records: &[Record],
) -> Result<Undoing, DiskError> {
    let mut undoing = Undoing {
        wanted: Vec::new(),
        conflicts: Vec::new(),
    };
    for record in records {
        let is_source = records
            .iter()
            .any(|r| r.moved_from.as_ref() == Some(&record.path));
        if is_source {
            continue;
        }
        match &record.moved_from {
            Some(from) => {
                let source = records.iter().find(|r| r.path == *from);
                let before = source.and_then(|r| r.before.as_ref());
                undo_move(root, record, from, before, &mut undoing)?;
            }
            // A removed file may still be open; on the disk is where it has to come back.
            None if record.after.is_none() => {
                let now = look(root, &NoDocuments, &record.path)?;
                undo_one(documents, record, now, &mut undoing);
            }
            None => {
                let now = look(root, documents, &record.path)?;
                undo_one(documents, record, now, &mut undoing);
            }
        }
    }
    Ok(undoing)
}

fn look(root: &Root, documents: &dyn Documents, path: &RepoPath) -> Result<Now, DiskError> {
    let on_disk = match root.read(path)? {
        Content::File(file) => Some(Image {
            bytes: file.bytes,
            mode: file.mode,
        }),
        Content::Missing => None,
        Content::Directory => {
            return Err(DiskError::IsDirectory {
                path: path.to_string(),
            });
        }
    };
    Ok(match documents.open(path) {
        Some(open) => Now {
            image: Some(Image {
                bytes: open.text.into_bytes(),
                mode: on_disk.map_or(0, |i| i.mode),
            }),
            is_document: true,
        },
        None => Now {
            image: on_disk,
            is_document: false,
        },
    })
}

fn undo_one(documents: &dyn Documents, record: &Record, now: Now, undoing: &mut Undoing) {
    let path = &record.path;
    let Now { image, is_document } = now;
    let spelled = |wanted: &Image| spelled_like(image.as_ref(), wanted, record.world, is_document);
    match (&record.before, &record.after, &image) {
        // What we made is gone, or what we removed is back: nothing is left to take back.
        (None, Some(_), None) => {}
        (Some(before), None, Some(now)) if now.bytes == before.bytes => {}
        (None, Some(after), Some(now)) if spelled(after).as_ref() == Ok(&now.bytes) => {
            undoing.wanted.push(Wanted {
                path: path.clone(),
                moved_from: None,
                before: image.clone(),
                after: None,
            });
        }
        (Some(before), None, None) => undoing.wanted.push(Wanted {
            path: path.clone(),
            moved_from: None,
            before: None,
            after: Some(before.clone()),
        }),
        (Some(before), Some(after), Some(now)) => {
            let (Ok(base), Ok(theirs)) = (spelled(after), spelled(before)) else {
                undoing.conflicts.push((WHOLE, whole(record, Some(now))));
                return;
            };
            let followed = std::str::from_utf8(&base)
                .ok()
                .and_then(|base| documents.followed(path, base));
            // Spelled anew, lines that stay may look as if they changed.
            let is_spelled_anew = (record.world == World::Document) != is_document;
            let changes = match is_spelled_anew {
                true => changed_lines(after, before),
                false => None,
            };
            let (bytes, conflicts) =
                carry_over(path, &base, &now.bytes, &theirs, changes, followed.as_ref());
            undoing.conflicts.extend(conflicts);
            let mode = if now.mode == after.mode {
                before.mode
            } else {
                now.mode
            };
            let mode = if is_document { now.mode } else { mode };
            if bytes != now.bytes || mode != now.mode {
                undoing.wanted.push(Wanted {
                    path: path.clone(),
                    moved_from: None,
                    before: image.clone(),
                    after: Some(Image { bytes, mode }),
                });
            }
        }
        (Some(_), Some(_), None) | (None, Some(_), Some(_)) | (Some(_), None, Some(_)) => {
            undoing
                .conflicts
                .push((WHOLE, whole(record, image.as_ref())));
        }
        (None, None, _) => {}
    }
}

/// Moves a file back, with what was written into it since left in. What an editor has not saved
/// is found out when it is written.
fn undo_move(
    root: &Root,
    record: &Record,
    from: &RepoPath,
    before: Option<&Image>,
    undoing: &mut Undoing,
) -> Result<(), DiskError> {
    let (Some(before), Some(after)) = (before, &record.after) else {
        return Ok(());
    };
    let at_source = look(root, &NoDocuments, from)?;
    let now = look(root, &NoDocuments, &record.path)?;
    let Some(image) = now.image.filter(|_| at_source.image.is_none()) else {
        let conflict = whole(record, at_source.image.as_ref());
        undoing.conflicts.push((WHOLE, conflict));
        return Ok(());
    };
    let (bytes, conflicts) = carry_over(
        &record.path,
        &after.bytes,
        &image.bytes,
        &before.bytes,
        None,
        None,
    );
    if !conflicts.is_empty() {
        // None of it is taken back then.
        let all = conflicts.into_iter().map(|(_, conflict)| (WHOLE, conflict));
        undoing.conflicts.extend(all);
        return Ok(());
    }
    let mode = if image.mode == after.mode {
        before.mode
    } else {
        image.mode
    };
    undoing.wanted.push(Wanted {
        path: from.clone(),
        moved_from: Some(record.path.clone()),
        before: None,
        after: Some(Image { bytes, mode }),
    });
    undoing.wanted.push(Wanted {
        path: record.path.clone(),
        moved_from: None,
        before: Some(image),
        after: None,
    });
    Ok(())
}

fn changed_lines(from: &Image, to: &Image) -> Option<Vec<Change>> {
    let (from, to) = (spelling::decode(&from.bytes)?, spelling::decode(&to.bytes)?);
    Some(diff(&from.raw_lines(), &to.raw_lines()))
}

/// A conflict about a file as a whole.
fn whole(record: &Record, now: Option<&Image>) -> Conflict {
    let text = |image: Option<&Image>| {
        let bytes = image.map(|i| &i.bytes[..i.bytes.len().min(4096)]);
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    };
    Conflict {
        path: record.path.clone(),
        hunks: Vec::new(),
        lines: 0..0,
        base: text(record.after.as_ref()),
        current: text(now),
        proposed: text(record.before.as_ref()),
    }
}

/// Spells an image that was taken in one world as the other one does, if the file is there now.
fn spelled_like(
    now: Option<&Image>,
    image: &Image,
    taken: World,
    is_document: bool,
) -> Result<Vec<u8>, Inexpressible> {
    match now {
        Some(now) if (taken == World::Document) != is_document => {
            spelling::like(&now.bytes, &image.bytes)
        }
        Some(_) | None => Ok(image.bytes.clone()),
    }
}
