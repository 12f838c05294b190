//! Learning in the background: from files and open buffers to snapshots.
//!
//! One thread owns everything that changes. It sleeps until something happened, turns changed
//! files into small segments, merges segments as they add up (each merge at least doubles a
//! segment, so every token is sorted a logarithmic number of times), and publishes.
//! Holds: no file is followed out of the roots, read past [`skip::MAX_BYTES`] or learnt past the
//! memory given; an unreadable file is counted and passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use globset::GlobSet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Status;
use super::open_text::OpenText;
use super::segment::{Segment, Span, Tokens};
use super::skip::{self, Skip};
use super::snapshot::{Language, OpenBuffer, Shard, Snapshot};
use super::vocabulary::{Frame, Vocabulary};

/// Share of the memory given that learnt files may take; the rest is for building, changes and readers.
const LEARNT_SHARE: f64 = 0.7;

/// Share past which changes are not learnt one by one any more, but everything anew: what they
/// replace is still held.
const CHANGED_SHARE: f64 = 0.8;

/// Share of the memory given that open buffers may take, out of that of learnt files once everything
/// is learnt anew; past it those that were edited least recently are forgotten.
const OPEN_SHARE: f64 = 0.2;

/// Changed files that are learnt one by one; more are learnt with everything else, anew.
const MOST_CHANGES: usize = 5_000;

/// Bytes that a byte of source takes once learnt, more than nearly every file needs.
const BYTES_HELD_PER_BYTE: usize = 6;

/// Words learnt since the last fold of the vocabulary, before it is folded again.
const MOST_NEW_WORDS: usize = 20_000;

/// Source bytes learnt before the first snapshot of a large tree.
const FIRST_STAGE: u64 = 2_000_000;

/// What the learner has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) skipped: BTreeMap<Skip, usize>,
    pub(crate) is_capped: bool,
}

/// The state that the learning thread owns.
pub(crate) struct Learner {
    roots: Vec<PathBuf>,
    exclude: GlobSet,
    memory: usize,
    vocabulary: Arc<Vocabulary>,
    unlearnt: Arc<Shard>,
    shards: FxHashMap<Language, Shard>,
    open: FxHashMap<Arc<Path>, OpenBuffer>,
    /// The open buffers, the one that was edited last at the end.
    recent: Vec<Arc<Path>>,
    pub(crate) tally: Tally,
}

/// A file that may be learnt.
struct Found {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Learner {
    pub(crate) fn new(roots: Vec<PathBuf>, exclude: GlobSet, memory: usize) -> Self {
        let mut vocabulary = Vocabulary::root();
        let frame = Frame::keywords(&mut vocabulary);
        Self {
            roots,
            exclude,
            memory,
            vocabulary: Arc::new(vocabulary),
            unlearnt: Arc::new(Shard::empty(Arc::new(frame))),
            shards: FxHashMap::default(),
            open: FxHashMap::default(),
            recent: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            vocabulary: Arc::clone(&self.vocabulary),
            shards: self
                .shards
                .iter()
                .map(|(language, shard)| (language.clone(), Arc::new(shard.clone())))
                .collect(),
            unlearnt: Arc::clone(&self.unlearnt),
            open: self.open.clone(),
        }
    }

    /// Forgets everything and learns the roots anew.
    ///
    /// `progress(bytes done, bytes in all)` returns whether to go on; `publish` is called with
    /// every state worth showing, at last with the final one.
    pub(crate) fn learn_all(
        &mut self,
        progress: &mut dyn FnMut(u64, u64) -> bool,
        publish: &mut dyn FnMut(&Self),
    ) {
        self.tally = Tally::default();
        let files = self.walk();
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let budget = (self.memory as f64 * LEARNT_SHARE) as usize;
        let budget = budget.saturating_sub(self.open_bytes());
        let before = self.bytes();
        let mut vocabulary = Vocabulary::root();
        let frame = Arc::new(Frame::keywords(&mut vocabulary));
        for open in self.open.values_mut() {
            open.text = open
                .text
                .translated(&self.vocabulary, &mut vocabulary, &frame);
        }
        self.unlearnt = Arc::new(Shard::empty(frame));
        self.shards.clear();
        // Readers keep what was learnt before until there is something new, if both fit.
        let after = budget.min(total as usize * BYTES_HELD_PER_BYTE);
        if before + after > self.memory {
            self.vocabulary = Arc::new(vocabulary.clone());
            publish(self);
        }
        let mut tokens: FxHashMap<Language, Tokens> = FxHashMap::default();
        let mut done = 0;
        let mut first_stage = total > 4 * FIRST_STAGE;
        for found in files {
            if !progress(done, total) {
                return;
            }
            done += found.bytes;
            let n_tokens: usize = tokens.values().map(|tokens| tokens.words.len()).sum();
            let used = vocabulary.bytes() + n_tokens * Segment::BYTES_PER_TOKEN;
            if used + found.bytes as usize * BYTES_HELD_PER_BYTE > budget {
                self.tally.is_capped = true;
                *self.tally.skipped.entry(Skip::OverMemory).or_default() += 1;
                continue;
            }
            let Some(text) = self.read(&found.path) else {
                continue;
            };
            let language = Language::of(&found.path);
            tokens
                .entry(language)
                .or_insert_with(Tokens::new)
                .push_file(found.path.into(), &text, &mut vocabulary);
            if first_stage && done > FIRST_STAGE {
                first_stage = false;
                self.vocabulary = Arc::new(vocabulary.clone());
                self.shards = tokens
                    .iter()
                    .map(|(language, tokens)| (language.clone(), self.shard(tokens.clone())))
                    .collect();
                publish(self);
            }
        }
        vocabulary.shrink();
        self.vocabulary = Arc::new(vocabulary);
        self.shards.clear();
        for (language, tokens) in tokens {
            let shard = self.shard(tokens);
            self.shards.insert(language, shard);
        }
        self.vocabulary = Arc::new(Vocabulary::over(Arc::clone(&self.vocabulary)));
        publish(self);
    }

    fn shard(&self, tokens: Tokens) -> Shard {
        let frame = Arc::new(tokens.frame(&self.unlearnt.frame, &self.vocabulary));
        let mut shard = Shard::empty(Arc::clone(&frame));
        shard.push(Segment::new(tokens, &frame, &self.vocabulary));
        shard
    }

    /// Learns what became of `paths`; a folder stands for everything in it. Returns whether they
    /// were few enough and there was memory for them; else everything is to be learnt anew, and
    /// what they were may be forgotten.
    #[must_use]
    pub(crate) fn learn_changed(&mut self, paths: &FxHashSet<PathBuf>) -> bool {
        let existing = self.existing(paths);
        if existing.len() > MOST_CHANGES {
            return false;
        }
        let budget = (self.memory as f64 * CHANGED_SHARE) as usize;
        let held = self.bytes() - self.vocabulary.bytes();
        let mut vocabulary = (*self.vocabulary).clone();
        let mut tokens: FxHashMap<Language, Tokens> = FxHashMap::default();
        for shard in self.shards.values_mut() {
            shard.forget(paths.iter().map(PathBuf::as_path));
        }
        for path in existing {
            let Some(text) = self.read(&path) else {
                continue;
            };
            let n_tokens: usize = tokens.values().map(|tokens| tokens.words.len()).sum();
            let used = held + vocabulary.bytes() + n_tokens * Segment::BYTES_PER_TOKEN;
            if used + text.len() * BYTES_HELD_PER_BYTE > budget {
                return false;
            }
            let language = Language::of(&path);
            tokens
                .entry(language)
                .or_insert_with(Tokens::new)
                .push_file(path.into(), &text, &mut vocabulary);
        }
        self.keep_words(vocabulary);
        for (language, tokens) in tokens {
            let keywords = Arc::clone(&self.unlearnt.frame);
            let vocabulary = Arc::clone(&self.vocabulary);
            let shard = self
                .shards
                .entry(language)
                .or_insert_with(|| Shard::empty(Arc::clone(&keywords)));
            shard.merge(tokens, &keywords, &vocabulary);
        }
        true
    }

    /// Learns the text of an open buffer, or with `None` that it was closed.
    pub(crate) fn learn_open(&mut self, path: &Path, text: Option<String>) {
        self.open.remove(path);
        self.recent.retain(|known| **known != *path);
        let Some(text) = text else {
            return;
        };
        if self.is_excluded(path) {
            return;
        }
        let Ok(text) = skip::worth_learning(self.relative(path), text.into_bytes()) else {
            return;
        };
        let language = Language::of(path);
        let frame = self
            .shards
            .get(&language)
            .map_or(&self.unlearnt.frame, |shard| &shard.frame);
        let mut vocabulary = (*self.vocabulary).clone();
        let text = OpenText::frozen(&text, &mut vocabulary, frame);
        let path: Arc<Path> = path.into();
        self.open
            .insert(Arc::clone(&path), OpenBuffer { language, text });
        self.recent.push(path);
        self.keep_words(vocabulary);
        let most = (self.memory as f64 * OPEN_SHARE) as usize;
        while self.open_bytes() > most {
            let oldest = self.recent.remove(0);
            self.open.remove(&oldest);
        }
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = Status {
            memory: self.bytes(),
            open: self.open.len(),
            ..Status::default()
        };
        status.is_capped = self.tally.is_capped;
        status.skipped = self.tally.skipped.clone();
        for shard in self.shards.values() {
            status.files += shard.files.len();
            for (segment, file) in shard.files.values() {
                let segment = &shard.segments[*segment];
                let span = segment.span(*file);
                status.bytes += u64::from(segment.files[*file].bytes);
                status.tokens += (span.end - span.start) as usize;
            }
        }
        status
    }

    /// Bytes held by everything learnt.
    fn bytes(&self) -> usize {
        let segments: usize = self
            .shards
            .values()
            .flat_map(|shard| &shard.segments)
            .map(|segment| segment.bytes())
            .sum();
        self.vocabulary.bytes() + segments + self.open_bytes()
    }

    /// Those of open buffers.
    fn open_bytes(&self) -> usize {
        self.open.values().map(|open| open.text.bytes()).sum()
    }

    fn keep_words(&mut self, vocabulary: Vocabulary) {
        let is_large = vocabulary.n_own() > MOST_NEW_WORDS;
        self.vocabulary = Arc::new(if is_large {
            Vocabulary::over(Arc::new(vocabulary.flattened()))
        } else {
            vocabulary
        });
    }

    /// Returns the path as the rules see it: within its root.
    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        let within = self
            .roots
            .iter()
            .filter_map(|root| path.strip_prefix(root).ok());
        within
            .min_by_key(|path| path.as_os_str().len())
            .unwrap_or(path)
    }

    fn is_excluded(&self, path: &Path) -> bool {
        !self.exclude.is_empty()
            && (self.exclude.is_match(self.relative(path)) || self.exclude.is_match(path))
    }

    /// Lists the files under the roots, most useful first.
    fn walk(&mut self) -> Vec<Found> {
        const MOST_FILES: usize = 200_000;
        let mut found = Vec::new();
        for root in self.roots.clone() {
            let root = root.as_path();
            let mut skipped: Vec<Skip> = Vec::new();
            for entry in walk_builder(root).build().flatten() {
                if found.len() >= MOST_FILES {
                    self.tally.is_capped = true;
                    break;
                }
                if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                    continue;
                }
                let path = entry.path();
                let reason = if self.is_excluded(path) {
                    Some(Skip::Excluded)
                } else {
                    skip::by_path(self.relative(path))
                };
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                match reason {
                    Some(reason) => skipped.push(reason),
                    None if metadata.len() > skip::MAX_BYTES => skipped.push(Skip::Oversized),
                    None => found.push(Found {
                        path: path.to_owned(),
                        bytes: metadata.len(),
                        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    }),
                }
            }
            for reason in skipped {
                *self.tally.skipped.entry(reason).or_default() += 1;
            }
        }
        let open_folders: FxHashSet<&Path> =
            self.open.keys().filter_map(|path| path.parent()).collect();
        let order = |file: &Found| {
            let near = file
                .path
                .parent()
                .is_some_and(|folder| open_folders.contains(folder));
            (
                !near,
                is_prose(&file.path),
                std::cmp::Reverse(file.modified),
            )
        };
        found.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.path.cmp(&b.path)));
        found.dedup_by(|a, b| a.path == b.path);
        found
    }

    /// Returns the files that `paths` stand for and that may be learnt.
    fn existing(&self, paths: &FxHashSet<PathBuf>) -> Vec<PathBuf> {
        if paths.is_empty() {
            // A walk reads the rules of every folder at the top, whether it enters it or not.
            return Vec::new();
        }
        let above: FxHashSet<PathBuf> = paths
            .iter()
            .flat_map(|path| path.ancestors().skip(1))
            .map(Path::to_owned)
            .collect();
        let mut existing: Vec<PathBuf> = Vec::new();
        for root in &self.roots {
            let (above, paths) = (above.clone(), paths.clone());
            let leads_there = move |entry: &ignore::DirEntry| {
                above.contains(entry.path())
                    || entry.path().ancestors().any(|path| paths.contains(path))
            };
            let entries = walk_builder(root)
                .filter_entry(leads_there)
                .build()
                .flatten();
            let files =
                entries.filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
            existing.extend(files.map(ignore::DirEntry::into_path));
        }
        existing
            .retain(|path| !self.is_excluded(path) && skip::by_path(self.relative(path)).is_none());
        existing.sort_unstable();
        existing.dedup();
        existing
    }

    /// Reads a file worth learning from; counts why another is not.
    fn read(&mut self, path: &Path) -> Option<String> {
        let text = read_bounded(path).and_then(skip::by_content);
        text.inspect_err(|reason| *self.tally.skipped.entry(*reason).or_default() += 1)
            .ok()
    }
}

fn walk_builder(root: &Path) -> ignore::WalkBuilder {
    let mut builder = ignore::WalkBuilder::new(root);
    builder
        .follow_links(false)
        .require_git(false)
        .sort_by_file_path(Path::cmp);
    builder
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Skip> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|_| Skip::Unreadable)?;
    file.take(skip::MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| Skip::Unreadable)?;
    Ok(bytes)
}

/// Returns whether a file is text for people rather than code; such files are learnt last.
fn is_prose(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|part| part.to_str())
        .unwrap_or_default();
    matches!(
        extension,
        "md" | "markdown" | "rst" | "txt" | "adoc" | "json" | "yaml" | "yml" | "xml" | "html"
    )
}

impl Shard {
    fn push(&mut self, segment: Segment) {
        let at = self.segments.len();
        self.files.extend(
            segment
                .files
                .iter()
                .enumerate()
                .map(|(file, learnt)| (Arc::clone(&learnt.path), (at, file))),
        );
        self.segments.push(Arc::new(segment));
        self.hidden.push(Arc::new([]));
    }

    /// Hides files, and every file of folders.
    fn forget<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) {
        let mut gone: Vec<Arc<Path>> = Vec::new();
        let mut folders: FxHashSet<&Path> = FxHashSet::default();
        for path in paths {
            match self.files.get_key_value(path) {
                Some((file, _)) => gone.push(Arc::clone(file)),
                None => _ = folders.insert(path),
            }
        }
        if !folders.is_empty() {
            let is_inside = |file: &&Arc<Path>| {
                let mut above = file.ancestors().skip(1);
                above.any(|folder| folders.contains(folder))
            };
            gone.extend(self.files.keys().filter(is_inside).cloned());
            gone.sort_unstable();
            gone.dedup();
        }
        self.hidden = self.hidden_without(gone.iter().map(|path| &**path));
        for path in gone {
            self.files.remove(&path);
        }
    }

    /// Adds changed files, together with every segment not much larger than what is added.
    fn merge(&mut self, mut tokens: Tokens, keywords: &Frame, vocabulary: &Vocabulary) {
        let is_small = |segment: &Segment, added: usize| segment.words.len() < 2 * added;
        let is_hollow = |segment: &Segment, hidden: &[Span]| {
            let n_hidden: u32 = hidden.iter().map(|span| span.end - span.start).sum();
            n_hidden as usize * 2 > segment.words.len()
        };
        self.forget(tokens.files.iter().map(|file| &*file.path));
        while let (Some(segment), Some(hidden)) = (self.segments.last(), self.hidden.last())
            && (is_small(segment, tokens.words.len()) || is_hollow(segment, hidden))
        {
            tokens.push_segment(segment, hidden);
            self.segments.pop();
            self.hidden.pop();
        }
        if self.segments.is_empty() {
            self.frame = Arc::new(tokens.frame(keywords, vocabulary));
        }
        let frame = Arc::clone(&self.frame);
        self.push(Segment::new(tokens, &frame, vocabulary));
    }
}
