//! One file: what it is now, compared with what the index knows.

use std::{
    cell::RefCell,
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    path::{ContentHash, RepoPath},
    store::{FileEntry, UnitInfo, UnitKey},
    syntax::{ChunkTerms, Language, ParseOutcome, Parsed, Parser},
    vector::{ChunkId, Row, embed},
    walk::{
        Fault, Stat,
        class::{self, FileClass, MAX_BYTES},
        is_behind_link, read,
    },
};

/// What looking at a file gave.
pub(super) enum Outcome {
    /// Nothing is known; what was known before stays.
    Unknown,
    Gone,
    /// The entry is all there is to know: content not indexed, or known already.
    Entry(FileEntry),
    Parsed(Box<(FileEntry, Parsed, Vec<Row>)>),
}

/// What the examination may reuse.
pub(super) struct Known<'k> {
    /// Returns what is stored of a unit, if all of it is.
    pub(super) unit: &'k (dyn Fn(UnitKey) -> Option<UnitInfo> + Sync),
}

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::default();
}

/// Looks at the file `path`; `before` is its entry so far.
///
/// The content is read once and hashed as read; if the file changes meanwhile, its time is too
/// close to now to be trusted and the next look hashes it again.
pub(super) fn examine(
    root: &Path,
    path: &RepoPath,
    before: Option<&FileEntry>,
    known: &Known<'_>,
) -> (Outcome, Option<Fault>) {
    let class = FileClass::of_path(path.as_str());
    let on_disk = path.under(root);
    if is_behind_link(root, &on_disk) {
        return (Outcome::Gone, None);
    }
    let seen = now();
    let stat = match std::fs::symlink_metadata(&on_disk) {
        Ok(metadata) if metadata.is_file() => Stat::of(&metadata),
        Ok(_) => return (Outcome::Gone, None),
        Err(error) if is_gone(&error) => return (Outcome::Gone, None),
        Err(error) => {
            let fault = Fault::new(path.clone(), &error);
            let entry = unread(path, Stat::default(), seen, FileClass::Unreadable);
            return (Outcome::Entry(entry), Some(fault));
        }
    };
    if class != FileClass::Content {
        return (Outcome::Entry(unread(path, stat, seen, class)), None);
    }
    if stat.size > MAX_BYTES {
        return (
            Outcome::Entry(unread(path, stat, seen, FileClass::Oversized)),
            None,
        );
    }
    let (bytes, stat) = match read(&on_disk, MAX_BYTES + 1) {
        Ok(read) => read,
        Err(error) if is_gone(&error) => return (Outcome::Gone, None),
        Err(error) => {
            let fault = Fault::new(path.clone(), &error);
            return (
                Outcome::Entry(unread(path, stat, seen, FileClass::Unreadable)),
                Some(fault),
            );
        }
    };
    if bytes.len() as u64 > MAX_BYTES {
        return (
            Outcome::Entry(unread(path, stat, seen, FileClass::Oversized)),
            None,
        );
    }
    let hash = ContentHash::of(&bytes);
    if let Some(before) = before
        && before.hash == hash
        && before.unit.is_some_and(|unit| (known.unit)(unit).is_some())
    {
        return (
            Outcome::Entry(FileEntry {
                stat,
                seen,
                ..before.clone()
            }),
            None,
        );
    }
    let class = class::by_content(path.as_str(), &bytes);
    if class != FileClass::Content {
        let entry = FileEntry {
            hash,
            ..unread(path, stat, seen, class)
        };
        return (Outcome::Entry(entry), None);
    }
    let text = String::from_utf8_lossy(&bytes);
    let head = &text[..text.floor_char_boundary(4_096)];
    let language = Language::detect(path.file_name(), head);
    let key = UnitKey::new(hash, language);
    let mut entry = FileEntry {
        hash,
        language,
        unit: Some(key),
        ..unread(path, stat, seen, FileClass::Content)
    };
    if let Some(info) = (known.unit)(key) {
        (entry.n_lines, entry.n_definitions) = (info.n_lines, info.n_definitions);
        return (Outcome::Entry(entry), None);
    }
    let parsed = PARSER.with_borrow_mut(|parser| parser.parse(language, &text));
    entry.n_lines = parsed.unit.n_lines;
    entry.n_definitions = parsed.unit.definitions.len() as u32;
    let fault = (parsed.outcome == ParseOutcome::TimedOut)
        .then(|| Fault::new(path.clone(), "parsing took too long; indexed as text"));
    let rows = rows(key, &parsed.terms);
    (Outcome::Parsed(Box::new((entry, parsed, rows))), fault)
}

/// Returns the embedded vectors of a unit's chunks.
pub(super) fn rows(unit: UnitKey, terms: &[ChunkTerms]) -> Vec<Row> {
    let row = |(at, terms)| {
        Row::new(
            ChunkId {
                unit,
                chunk: at as u32,
                text: 0,
            },
            &embed::chunk(terms),
        )
    };
    terms.iter().enumerate().map(row).collect()
}

/// Returns the time in nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn unread(path: &RepoPath, stat: Stat, seen: i64, class: FileClass) -> FileEntry {
    FileEntry {
        path: path.clone(),
        stat,
        seen,
        class,
        language: Language::Text,
        hash: ContentHash::default(),
        unit: None,
        n_lines: 0,
        n_definitions: 0,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidData
    )
}
