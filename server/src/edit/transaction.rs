//! Many files as one change: all of them are written, or none is.
//!
//! Holds: everything is in the journal before the first byte changes. Documents of the editor
//! change after the new files are on the disk under other names and before they get their own, so
//! that an editor that refuses leaves nothing to take back. Whatever fails, what was done so far
//! is taken back, and the error names the file; where even that fails, whoever has the lock next
//! finishes it before anything else.
//! Not here: what to write (`plan`, `hunks`, `rollback`).

use std::collections::BTreeSet;

use super::disk::{Content, Directories, DiskError, Place, Root, Spot};
use super::faults::{self, Step};
use super::journal::{self, Image, Note, Purpose, Record, Token, World};
use super::merge::{Adjacent, Side, diff, merge};
use super::path::RepoPath;
use super::spelling::decode;
use super::workspace::Workspace;
use super::worlds::{DocumentChange, DocumentFailure, Documents};
use crate::store::StoreError;

/// Files that are written to the disk at the same time.
const SYNCED_AT_ONCE: usize = 8;
/// How often a document that is typed into meanwhile is given its old text back.
const ATTEMPTS: usize = 5;

/// New content for a path, and what must be there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub path: RepoPath,
    pub moved_from: Option<RepoPath>,
    pub before: Option<Image>,
    pub after: Option<Image>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Document(#[from] DocumentFailure),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: has changes in the editor that are not saved")]
    Unsaved { path: RepoPath },
    #[error("{path}: is the same file as {other}")]
    SameFile { path: RepoPath, other: RepoPath },
    #[error("the journal cannot be written: {0}")]
    Journal(std::io::Error),
    /// What was done could not be taken back now; the journal has it, and the next edit or start
    /// will.
    #[error(
        "{why}; taking back what was done failed too ({again}), and will be finished before the next edit"
    )]
    HalfWay { why: Box<Failure>, again: String },
    /// What somebody else wrote over what was done cannot be told from it.
    #[error("{why}; {} was written by something else meanwhile and is left as it is", listed(.left))]
    Foreign {
        why: Box<Failure>,
        left: Vec<RepoPath>,
    },
}

fn listed(paths: &[RepoPath]) -> String {
    let paths: Vec<&str> = paths.iter().map(RepoPath::as_str).collect();
    paths.join(", ")
}

/// Does `wanted`, under a new token, and writes `notes` down in the same stroke.
///
/// The caller holds the workspace's lock since it read what is in `before`.
///
/// # Errors
/// [`Failure`]; then every file and document is as before, but for those it names as left.
pub(super) fn commit(
    workspace: &Workspace,
    documents: &dyn Documents,
    purpose: &Purpose,
    wanted: Vec<Wanted>,
    notes: &[Note<'_>],
) -> Result<Token, Failure> {
    let token = Token::new();
    let root = workspace.root();
    let (records, directories) = prepare(root, documents, wanted)?;
    faults::at(Step::Begin).map_err(Failure::Journal)?;
    let swept = workspace.take_swept();
    let store = workspace.store();
    journal::begin(store, &token, purpose, &records, &directories, &swept)?;
    let done = carry_out(root, documents, &token, &records).and_then(|()| {
        faults::at(Step::End).map_err(Failure::Journal)?;
        Ok(journal::finish(workspace.store(), &token, notes)?)
    });
    if let Err(why) = done {
        let taken_back = take_back(root, documents, &token, &records, &directories)
            .map_err(|again| again.to_string())
            .and_then(|left| {
                let undone = journal::undo(workspace.store(), &token);
                undone.map_err(|again| again.to_string()).map(|()| left)
            });
        return Err(match taken_back {
            Ok(left) if left.is_empty() => why,
            Ok(left) => Failure::Foreign {
                why: Box::new(why),
                left,
            },
            Err(again) => Failure::HalfWay {
                why: Box::new(why),
                again,
            },
        });
    }
    match sweep(root, &token, &records) {
        Ok(()) => workspace.was_swept(token.clone()),
        Err(why) => tracing::warn!(%why, "a temporary file is left until the next start"),
    }
    let images = records.iter().flat_map(|r| [&r.before, &r.after]).flatten();
    workspace.was_kept(images.map(|image| image.bytes.len()).sum());
    Ok(token)
}

/// Checks that everything is as it was read, and decides how each file is written.
fn prepare(
    root: &Root,
    documents: &dyn Documents,
    wanted: Vec<Wanted>,
) -> Result<(Vec<Record>, Vec<String>), Failure> {
    let mut records = Vec::with_capacity(wanted.len());
    let mut directories: BTreeSet<String> = BTreeSet::new();
    let mut seen: Vec<(super::disk::FileId, RepoPath)> = Vec::new();
    for Wanted {
        path,
        moved_from,
        before,
        after,
    } in wanted
    {
        let moved = || DiskError::Moved {
            path: path.to_string(),
        };
        let open = documents.open(&path);
        let mut world = World::Disk;
        match root.find(&path)? {
            Place::Directory => {
                return Err(DiskError::IsDirectory {
                    path: path.to_string(),
                }
                .into());
            }
            Place::Missing { missing } => {
                if before.is_some() && open.is_none() {
                    return Err(moved().into());
                }
                directories.extend(missing);
                if let (Some(open), None, Some(image)) = (&open, &before, &after) {
                    // Removed while it was open, and coming back.
                    if !reads_the_same(&open.text, &image.bytes) {
                        return Err(Failure::Unsaved { path });
                    }
                    records.push(Record {
                        path,
                        moved_from,
                        world,
                        before,
                        after,
                    });
                    continue;
                }
            }
            Place::File(spot) => {
                let now = spot.read()?;
                if let Some((_, other)) = seen.iter().find(|(id, _)| *id == now.id) {
                    let other = other.clone();
                    return Err(Failure::SameFile { path, other });
                }
                seen.push((now.id, path.clone()));
                match (&open, &after) {
                    (Some(open), None) if !reads_the_same(&open.text, &now.bytes) => {
                        return Err(Failure::Unsaved { path });
                    }
                    (Some(_), Some(_)) => {}
                    (Some(_) | None, _) => {
                        let expected = before.as_ref().map(|b| b.bytes.as_slice());
                        let is_expected = match &open {
                            Some(open) => expected == Some(open.text.as_bytes()),
                            None => expected == Some(&now.bytes[..]),
                        };
                        if !is_expected {
                            return Err(moved().into());
                        }
                        spot.check_writable()?;
                        if after.is_some() && !spot.can_be_replaced()? {
                            world = World::InPlace;
                        }
                    }
                }
                if open.is_some() && after.is_none() {
                    // On the disk it is removed as it is there.
                    let before = Some(Image {
                        bytes: now.bytes,
                        mode: now.mode,
                    });
                    records.push(Record {
                        path,
                        moved_from,
                        world,
                        before,
                        after,
                    });
                    continue;
                }
            }
        }
        if let (Some(open), Some(_)) = (&open, &after) {
            if before.as_ref().map(|b| &b.bytes[..]) != Some(open.text.as_bytes()) {
                return Err(moved().into());
            }
            world = World::Document;
        }
        records.push(Record {
            path,
            moved_from,
            world,
            before,
            after,
        });
    }
    Ok((records, directories.into_iter().collect()))
}

/// Whether the text of a document is what a file says.
fn reads_the_same(document: &str, file: &[u8]) -> bool {
    if document.as_bytes() == file {
        return true;
    }
    match (decode(document.as_bytes()), decode(file)) {
        (Some(document), Some(file)) => document.content() == file.content(),
        _ => false,
    }
}

/// Name of a transaction's temporary file number `idx` of a directory.
fn temp_name(token: &Token, idx: usize) -> String {
    format!(".pairwright-{token}-{idx}~")
}

fn carry_out(
    root: &Root,
    documents: &dyn Documents,
    token: &Token,
    records: &[Record],
) -> Result<(), Failure> {
    let mut spots: Vec<Option<Spot>> = Vec::with_capacity(records.len());
    for (idx, record) in records.iter().enumerate() {
        if record.world == World::Document {
            spots.push(None);
            continue;
        }
        let spot = root.spot(&record.path, Directories::Make)?;
        if let (Some(spot), Some(after), World::Disk) = (&spot, &record.after, record.world) {
            let like = match (&record.before, &record.moved_from) {
                (Some(_), _) => Some(spot.clone()),
                (None, Some(from)) => root.spot(from, Directories::Leave)?,
                (None, None) => None,
            };
            spot.stage(
                &temp_name(token, idx),
                &after.bytes,
                after.mode,
                like.as_ref(),
            )?;
        }
        spots.push(spot);
    }
    sync_all(token, records, &spots)?;
    let changes = document_changes(documents, records)?;
    if !changes.is_empty() {
        documents.change(&changes)?;
    }
    let mut directories: BTreeSet<Option<RepoPath>> = BTreeSet::new();
    for (idx, record) in records.iter().enumerate() {
        let Some(spot) = &spots[idx] else { continue };
        let temp = temp_name(token, idx);
        match (&record.before, &record.after) {
            (Some(before), Some(after)) if record.world == World::InPlace => {
                spot.write_in_place(&after.bytes, Some(&before.bytes), after.mode)?;
            }
            (Some(before), Some(_)) => spot.swap(&temp, &before.bytes)?,
            (None, Some(_)) => spot.place_new(&temp)?,
            (Some(before), None) => spot.take_away(&temp, &before.bytes)?,
            (None, None) => continue,
        }
        // A directory is written once, after the last of its files.
        let is_last = !records[idx + 1..]
            .iter()
            .any(|r| r.world != World::Document && r.path.parent() == record.path.parent());
        if is_last && directories.insert(record.path.parent()) {
            spot.sync_directory()?;
        }
    }
    Ok(())
}

/// Writes all staged files to the disk, several at a time: the disk does them in fewer rounds.
fn sync_all(token: &Token, records: &[Record], spots: &[Option<Spot>]) -> Result<(), DiskError> {
    let mut staged = Vec::new();
    for (idx, (record, spot)) in records.iter().zip(spots).enumerate() {
        if let (Some(spot), Some(_), World::Disk) = (spot, &record.after, record.world) {
            faults::at(Step::SyncTemp).map_err(|why| spot.failed("writing to the disk", why))?;
            staged.push((spot, temp_name(token, idx)));
        }
    }
    for group in staged.chunks(SYNCED_AT_ONCE) {
        std::thread::scope(|scope| {
            let syncing: Vec<_> = group
                .iter()
                .map(|(spot, temp)| scope.spawn(|| spot.sync_temp(temp)))
                .collect();
            syncing.into_iter().try_for_each(|done| {
                let done = done.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
    }
    Ok(())
}

fn document_changes(
    documents: &dyn Documents,
    records: &[Record],
) -> Result<Vec<DocumentChange>, Failure> {
    let text = |image: &Option<Image>| {
        image
            .as_ref()
            .and_then(|i| String::from_utf8(i.bytes.clone()).ok())
    };
    let mut changes = Vec::new();
    for record in records.iter().filter(|r| r.world == World::Document) {
        let failure = |why: &str| DocumentFailure {
            path: record.path.clone(),
            why: why.into(),
        };
        let now = documents.open(&record.path);
        let now = now.ok_or_else(|| failure("was closed in the editor"))?;
        let (Some(before), Some(after)) = (text(&record.before), text(&record.after)) else {
            return Err(failure("is no text that an editor could have").into());
        };
        changes.push(DocumentChange {
            path: record.path.clone(),
            version: now.version,
            before,
            after,
        });
    }
    Ok(changes)
}

/// Takes back whatever of a transaction was done, from the journal's rows alone: all that can be,
/// though some of it cannot.
///
/// Returns paths that something else has written by now; those are left as they are. Can be cut
/// off and run again.
pub(super) fn take_back(
    root: &Root,
    documents: &dyn Documents,
    token: &Token,
    records: &[Record],
    directories: &[String],
) -> Result<Vec<RepoPath>, Failure> {
    let mut foreign = Vec::new();
    let mut failed: Option<Failure> = None;
    for record in records.iter().filter(|r| r.world == World::Document) {
        match take_back_document(documents, record) {
            Ok(true) => {}
            Ok(false) => foreign.push(record.path.clone()),
            Err(why) => {
                failed.get_or_insert(why.into());
            }
        }
    }
    for (idx, record) in records.iter().enumerate().rev() {
        if record.world == World::Document {
            continue;
        }
        match restore(root, token, idx, record) {
            Ok(true) => {}
            // What is there by now is nothing that was written here, so somebody else did.
            Ok(false)
            | Err(
                DiskError::Denied { .. }
                | DiskError::Escapes { .. }
                | DiskError::Ours { .. }
                | DiskError::NotRegular { .. }
                | DiskError::NotADirectory { .. }
                | DiskError::IsDirectory { .. }
                | DiskError::ReadOnly { .. }
                | DiskError::TooLarge { .. }
                | DiskError::Moved { .. },
            ) => foreign.push(record.path.clone()),
            Err(why @ DiskError::Io { .. }) => {
                failed.get_or_insert(why.into());
            }
        }
    }
    for directory in directories.iter().rev() {
        root.remove_directory(directory);
    }
    match failed {
        None => Ok(foreign),
        Some(why) => Err(why),
    }
}

/// Brings one file back to what it was; `false` if something else has written it.
fn restore(root: &Root, token: &Token, idx: usize, record: &Record) -> Result<bool, DiskError> {
    let Some(spot) = root.spot(&record.path, Directories::Leave)? else {
        // Its directory is not there, so nothing was put into it.
        return Ok(true);
    };
    let temp = temp_name(token, idx);
    let now = match root.read(&record.path)? {
        Content::File(file) => Some(Image {
            bytes: file.bytes,
            mode: file.mode,
        }),
        Content::Missing | Content::Directory => None,
    };
    let is = |image: &Option<Image>| match (&now, image) {
        (Some(now), Some(image)) => now.bytes == image.bytes,
        (now, image) => now.is_none() && image.is_none(),
    };
    let is_restored = match &record.before {
        _ if is(&record.before) && has_mode(&now, &record.before) => true,
        None if is(&record.after) => {
            spot.unlink()?;
            true
        }
        Some(before) if record.world == World::InPlace => {
            let is_torn = is(&record.after)
                || is(&record.before)
                || now
                    .as_ref()
                    .is_some_and(|now| is_mix(&now.bytes, &before.bytes, record.after.as_ref()));
            if is_torn {
                spot.write_in_place(&before.bytes, None, before.mode)?;
            }
            is_torn
        }
        Some(before) if is(&record.after) || is(&record.before) => {
            put_back(&spot, &temp, before)?;
            true
        }
        Some(_) | None => false,
    };
    if is_restored {
        spot.sync_directory()?;
    }
    spot.unlink_temp(&temp)?;
    spot.unlink_temp(&again_name(&temp))?;
    Ok(is_restored)
}

/// Puts the old file back: itself, if it was only moved out of the way, or its bytes.
fn put_back(spot: &Spot, temp: &str, before: &Image) -> Result<(), DiskError> {
    let old = spot.beside(temp).read();
    if old.is_ok_and(|old| old.bytes == before.bytes && old.mode == before.mode) {
        return spot.replace_with(temp);
    }
    let again = again_name(temp);
    spot.unlink_temp(&again)?;
    let like = spot.read().is_ok().then_some(spot);
    spot.stage(&again, &before.bytes, before.mode, like)?;
    faults::at(Step::SyncTemp).map_err(|why| spot.failed("writing to the disk", why))?;
    spot.sync_temp(&again)?;
    spot.replace_with(&again)
}

fn again_name(temp: &str) -> String {
    format!("{}-again~", temp.trim_end_matches('~'))
}

fn has_mode(now: &Option<Image>, before: &Option<Image>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.mode == before.mode,
        _ => true,
    }
}

/// Whether `now` is what an interrupted write over `before` can leave: every block is of one or
/// the other, or was never written.
fn is_mix(now: &[u8], before: &[u8], after: Option<&Image>) -> bool {
    const BLOCK: usize = 512;
    let after = after.map_or(&[][..], |a| &a.bytes);
    let (short, long) = (before.len().min(after.len()), before.len().max(after.len()));
    let block = |bytes: &[u8], idx: usize| -> Vec<u8> {
        let start = (idx * BLOCK).min(bytes.len());
        bytes[start..(start + BLOCK).min(bytes.len())].to_vec()
    };
    let agrees = |a: &[u8], b: &[u8]| {
        let n = a.len().min(b.len());
        a[..n] == b[..n]
    };
    // The cut may be within a block: then its head is of one text and its tail of the other.
    let is_cut = |now: &[u8], start: usize| {
        let of = |text: &[u8], i: usize| text.get(start + i).copied();
        let head = (0..now.len())
            .take_while(|&i| Some(now[i]) == of(after, i))
            .count();
        (head..now.len()).all(|i| Some(now[i]) == of(before, i) || now[i] == 0)
    };
    (now.len() >= short && now.len() <= long)
        && (0..now.len().div_ceil(BLOCK)).all(|idx| {
            let here = block(now, idx);
            agrees(&here, &block(before, idx)) || is_cut(&here, idx * BLOCK)
        })
}

/// Gives a document its old text back, with what was typed in between left in; `false` if that
/// cannot be told apart.
fn take_back_document(documents: &dyn Documents, record: &Record) -> Result<bool, DocumentFailure> {
    let (Some(before), Some(after)) = (&record.before, &record.after) else {
        return Ok(true);
    };
    let mut attempt = 1;
    loop {
        let Some(now) = documents.open(&record.path) else {
            return Ok(true);
        };
        if now.text.as_bytes() == before.bytes {
            return Ok(true);
        }
        let Some(text) = without(before, after, &now.text) else {
            return Ok(false);
        };
        if text == now.text {
            return Ok(true);
        }
        let change = DocumentChange {
            path: record.path.clone(),
            version: now.version,
            before: now.text,
            after: text,
        };
        let Err(why) = documents.change_back(std::slice::from_ref(&change)) else {
            return Ok(true);
        };
        let now = documents.open(&record.path);
        let is_stale = now.is_none_or(|now| now.text != change.before);
        if !is_stale || attempt == ATTEMPTS {
            return Err(why);
        }
        attempt += 1;
    }
}

/// The text without what leads from `before` to `after`; `None` where somebody wrote in it.
fn without(before: &Image, after: &Image, now: &str) -> Option<String> {
    let (base, ours, theirs) = (
        decode(&after.bytes)?,
        decode(now.as_bytes())?,
        decode(&before.bytes)?,
    );
    let (base, our_lines, theirs) = (base.raw_lines(), ours.raw_lines(), theirs.raw_lines());
    let merged = merge(
        base.len(),
        Side {
            lines: &our_lines,
            changes: &diff(&base, &our_lines),
        },
        Side {
            lines: &theirs,
            changes: &diff(&base, &theirs),
        },
        Adjacent::Separate,
    );
    if !merged.conflicts.is_empty() {
        return None;
    }
    let text = String::from_utf8([ours.bom(), &merged.bytes].concat()).ok()?;
    (!text.is_empty() || before.bytes.is_empty()).then_some(text)
}

/// Removes what a finished transaction left under other names.
pub(super) fn sweep(root: &Root, token: &Token, records: &[Record]) -> Result<(), DiskError> {
    for (idx, record) in records.iter().enumerate() {
        if record.world == World::Document {
            continue;
        }
        if let Some(spot) = root.spot(&record.path, Directories::Leave)? {
            spot.unlink_temp(&temp_name(token, idx))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
