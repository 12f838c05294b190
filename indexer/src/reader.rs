//! The index at one moment: what every question is asked of.
//!
//! Holds: a [`Reader`] never changes and never blocks the writer; it is cheap to clone and to
//! keep. It is a *base*, as of the last publishing, under an *overlay* of files that are newer:
//! open buffers per keystroke and saved files that are not published yet. A file has one *slot*
//! for as long as its base lives, and what the overlay says of a slot hides the base.
//! Questions live with their subject: `search`, `context`, `graph::map`.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    graph::{NameIndex, PathWords},
    path::{ContentHash, RepoPath, name_hash},
    repo::history::History,
    search::scores::Column,
    store::{FileEntry, Location, UnitKey, UnitReader, Uses, defined_names},
    syntax::{ChunkTerms, Language, Parsed, Unit},
    text::{
        paths::PathIndex,
        score::{Bags, TextBase},
    },
    vector::VectorBase,
    walk::class,
};

/// A file's place in a [`Reader`]: below the base's length it is the base's, above the overlay's.
pub(crate) type Slot = u32;

/// What is no file's slot.
pub(crate) const NO_SLOT: Slot = Slot::MAX;

/// An immutable view of the index.
#[derive(Clone)]
pub struct Reader {
    pub(crate) root: Arc<PathBuf>,
    pub(crate) base: Arc<Base>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) history: Arc<History>,
    /// The base's slot of each file of the history, [`NO_SLOT`] where it has none.
    pub(crate) past_slots: Arc<[Slot]>,
}

/// Everything as of the last publishing.
pub(crate) struct Base {
    /// In order of path; a file's place is its slot.
    pub(crate) files: Vec<FileEntry>,
    /// Where each file's unit is.
    pub(crate) locations: Vec<Option<Location>>,
    pub(crate) units: UnitReader,
    pub(crate) names: NameIndex,
    pub(crate) paths: PathIndex,
    pub(crate) text: TextBase,
    pub(crate) vectors: VectorBase,
    /// Those of the outside model, as far as it has come.
    pub(crate) outside: VectorBase,
    /// Slots whose content is the same as that of an earlier slot, by that slot.
    pub(crate) twins: FxHashMap<Slot, Vec<Slot>>,
    /// The share of each language among the files, square root taken.
    pub(crate) language_shares: [f32; Language::ALL.len()],
    /// What each file's name says, read once.
    pub(crate) kinds: Vec<PathKind>,
}

/// What a path alone says of its file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PathKind {
    pub(crate) words: PathWords,
    pub(crate) is_test: bool,
    /// Folders above it.
    pub(crate) depth: u8,
}

impl PathKind {
    pub(crate) fn of(path: &RepoPath) -> Self {
        let depth = path.as_str().matches('/').count();
        Self {
            words: PathWords::of(path),
            is_test: class::is_test(path.as_str()),
            depth: depth.try_into().unwrap_or(u8::MAX),
        }
    }
}

/// What is newer than the base.
#[derive(Default)]
pub(crate) struct Overlay {
    pub(crate) files: FxHashMap<Slot, Arc<OverlayFile>>,
    /// Base slots whose file is gone.
    pub(crate) gone: FxHashSet<Slot>,
    /// Slots of `files` and `gone`: where the base must not be believed.
    pub(crate) masked: FxHashSet<Slot>,
    /// Those of `masked` whose content, as the base knows it, no file has any more.
    pub(crate) hidden: FxHashSet<Slot>,
    /// The others → a file that still has that content.
    stand_ins: FxHashMap<Slot, Slot>,
    /// Files the base does not know, by path; slots from the base's length on.
    pub(crate) added: FxHashMap<RepoPath, Slot>,
    /// Name → slots of `files` that define it.
    pub(crate) definers: FxHashMap<u32, Vec<Slot>>,
    /// What changed recently and often, counted when first searched; every new history comes with
    /// an overlay of its own.
    pub(crate) recency: OnceLock<(Column, Column)>,
}

/// One file that is newer than the base.
pub(crate) struct OverlayFile {
    pub(crate) entry: FileEntry,
    pub(crate) kind: PathKind,
    pub(crate) unit: Arc<Unit>,
    pub(crate) terms: Vec<ChunkTerms>,
    pub(crate) uses: Uses,
    /// Counted when first searched: not every key that is typed is.
    bags: OnceLock<Bags>,
    pub(crate) names: Arc<[u32]>,
    /// The text of an open buffer; `None` for a saved file.
    pub(crate) buffer: Option<Arc<str>>,
}

impl OverlayFile {
    pub(crate) fn new(entry: FileEntry, parsed: Parsed, buffer: Option<Arc<str>>) -> Self {
        Self {
            kind: PathKind::of(&entry.path),
            bags: OnceLock::new(),
            names: defined_names(&parsed.unit),
            uses: Uses::of(&parsed.unit),
            unit: Arc::new(parsed.unit),
            terms: parsed.terms,
            entry,
            buffer,
        }
    }

    pub(crate) fn bags(&self) -> &Bags {
        self.bags.get_or_init(|| Bags::new(&self.terms))
    }
}

impl Overlay {
    /// Arranges `files` over `base`; `gone` are paths that no longer exist.
    pub(crate) fn new(
        base: &Base,
        files: impl Iterator<Item = Arc<OverlayFile>>,
        gone: impl Iterator<Item = RepoPath>,
    ) -> Self {
        let mut overlay = Self::default();
        for file in files {
            let slot = base.slot(&file.entry.path).unwrap_or_else(|| {
                let slot = (base.files.len() + overlay.added.len()) as Slot;
                overlay.added.insert(file.entry.path.clone(), slot);
                slot
            });
            for &name in file.names.iter() {
                overlay.definers.entry(name).or_default().push(slot);
            }
            overlay.masked.insert(slot);
            overlay.files.insert(slot, file);
        }
        for path in gone {
            if let Some(slot) = base.slot(&path) {
                overlay.gone.insert(slot);
                overlay.masked.insert(slot);
            }
        }
        for &slot in &overlay.masked {
            let twins = base.twins.get(&slot).into_iter().flatten();
            match twins.copied().find(|twin| !overlay.masked.contains(twin)) {
                Some(twin) => overlay.stand_ins.insert(slot, twin).is_none(),
                None => overlay.hidden.insert(slot),
            };
        }
        overlay
    }

    /// Returns the file to name for what the base says of the content of `slot`.
    pub(crate) fn stand_in(&self, slot: Slot) -> Slot {
        self.stand_ins.get(&slot).copied().unwrap_or(slot)
    }
}

/// The share of the chunks that must have an outside vector before questions are answered by
/// them: until then files that have one would beat those that wait for theirs.
const COVERED: f32 = 0.95;

impl Base {
    /// Returns the outside model's rows once they cover the workspace.
    pub(crate) fn outside(&self) -> Option<&VectorBase> {
        let wanted = COVERED * self.text.n_chunks() as f32;
        let n_live = self.outside.n_live();
        (n_live > 0 && n_live as f32 >= wanted).then_some(&self.outside)
    }

    pub(crate) fn n_indexed(&self) -> usize {
        self.locations.iter().flatten().count()
    }

    /// Finds the slots of the files of a history.
    pub(crate) fn past_slots(&self, history: &History) -> Arc<[Slot]> {
        let slot = |file| self.slot(history.path(file)).unwrap_or(NO_SLOT);
        (0..history.n_files()).map(slot).collect()
    }

    pub(crate) fn slot(&self, path: &RepoPath) -> Option<Slot> {
        self.files
            .binary_search_by(|file| file.path.cmp(path))
            .ok()
            .map(|at| at as Slot)
    }
}

impl Reader {
    /// Returns how many files there are, indexed for content or not.
    pub fn n_files(&self) -> usize {
        self.base.files.len() + self.overlay.added.len() - self.overlay.gone.len()
    }

    /// Returns all paths, in no particular order. New files whose content is not indexed (binary,
    /// secret, generated …) appear with the next publishing.
    pub fn paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.slots().map(|slot| &self.entry(slot).path)
    }

    /// Returns what the index knows of a file: its definitions, chunks and imports. `None` when
    /// its content is not indexed. Reads one record from disk unless the file is open.
    pub fn unit(&self, path: &RepoPath) -> Option<Arc<Unit>> {
        self.unit_at(self.slot(path)?)
    }

    /// Returns where a name is defined: (file, first line, one past the last line), zero-based.
    pub fn definitions_of(&self, name: &str) -> Vec<(RepoPath, u32, u32)> {
        let mut found = Vec::new();
        for slot in self.definers(name_hash(name.as_bytes()), usize::MAX) {
            let Some(unit) = self.unit_at(slot) else {
                continue;
            };
            for definition in unit.definitions.iter().filter(|d| d.name == name) {
                let path = self.entry(slot).path.clone();
                found.push((path, definition.first_line, definition.end_line));
            }
        }
        found
    }

    /// Returns the files whose code has a name, where it is defined among them; comments do not
    /// count. In order of path. Reads 3–10 µs from disk for each file there is.
    pub fn files_with(&self, name: &str) -> Vec<RepoPath> {
        let hash = name_hash(name.as_bytes());
        let has_it = |slot: &Slot| {
            let uses = self.uses_at(*slot);
            let found = uses.identifiers.binary_search_by_key(&hash, |i| i.hash);
            found.is_ok()
        };
        let slots = self.slots().filter(has_it);
        let mut paths: Vec<RepoPath> = slots.map(|slot| self.entry(slot).path.clone()).collect();
        paths.sort_unstable();
        paths
    }

    /// Returns the hash of the content that answers about `path` are based on.
    pub fn content_hash(&self, path: &RepoPath) -> Option<ContentHash> {
        let entry = self.entry(self.slot(path)?);
        entry.unit.map(|_| entry.hash)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.n_slots() as Slot).filter(|slot| !self.overlay.gone.contains(slot))
    }

    pub(crate) fn n_slots(&self) -> usize {
        self.base.files.len() + self.overlay.added.len()
    }

    pub(crate) fn slot(&self, path: &RepoPath) -> Option<Slot> {
        let slot = self
            .base
            .slot(path)
            .or_else(|| self.overlay.added.get(path).copied())?;
        (!self.overlay.gone.contains(&slot)).then_some(slot)
    }

    /// Returns the slot of a file of the history, if the file still exists.
    pub(crate) fn past_slot(&self, file: u32) -> Option<Slot> {
        match self.past_slots[file as usize] {
            NO_SLOT if self.overlay.added.is_empty() => None,
            NO_SLOT => self.overlay.added.get(self.history.path(file)).copied(),
            slot => (!self.overlay.gone.contains(&slot)).then_some(slot),
        }
    }

    pub(crate) fn entry(&self, slot: Slot) -> &FileEntry {
        match self.overlay.files.get(&slot) {
            Some(file) => &file.entry,
            None => &self.base.files[slot as usize],
        }
    }

    pub(crate) fn unit_at(&self, slot: Slot) -> Option<Arc<Unit>> {
        if let Some(file) = self.overlay.files.get(&slot) {
            return Some(file.unit.clone());
        }
        let (key, location) = self.location(slot)?;
        self.base.units.unit(key, location).ok().map(Arc::new)
    }

    /// Returns the names a file uses and what it imports; nothing when its content is not indexed.
    pub(crate) fn uses_at(&self, slot: Slot) -> Cow<'_, Uses> {
        if let Some(file) = self.overlay.files.get(&slot) {
            return Cow::Borrowed(&file.uses);
        }
        let uses = self
            .location(slot)
            .and_then(|(key, location)| self.base.units.uses(key, location).ok());
        Cow::Owned(uses.unwrap_or_default())
    }

    pub(crate) fn kind(&self, slot: Slot) -> PathKind {
        match self.base.kinds.get(slot as usize) {
            Some(&kind) => kind,
            None => self
                .overlay
                .files
                .get(&slot)
                .map_or_else(|| PathKind::of(&self.entry(slot).path), |file| file.kind),
        }
    }

    pub(crate) fn path_words(&self, slot: Slot) -> PathWords {
        self.kind(slot).words
    }

    /// Returns the files that define a name, none when there are more than `limit`.
    pub(crate) fn definers(&self, name: u32, limit: usize) -> Vec<Slot> {
        let mut slots = Vec::new();
        self.definers_into(name, limit, &mut slots);
        slots
    }

    /// Puts what [`definers`](Self::definers) returns in the place of what `slots` held.
    pub(crate) fn definers_into(&self, name: u32, limit: usize, slots: &mut Vec<Slot>) {
        slots.clear();
        let newer = self
            .overlay
            .definers
            .get(&name)
            .map_or(&[][..], Vec::as_slice);
        let stored = self.base.names.definers(name);
        if stored.len() > limit.saturating_add(self.overlay.masked.len()) {
            return;
        }
        slots.extend(
            stored
                .iter()
                .map(|&(_, slot)| slot)
                .filter(|slot| !self.overlay.masked.contains(slot))
                .chain(newer.iter().copied()),
        );
        if slots.len() > limit {
            slots.clear();
        }
    }

    fn location(&self, slot: Slot) -> Option<(UnitKey, Location)> {
        if self.overlay.masked.contains(&slot) {
            return None;
        }
        Some((
            self.base.files.get(slot as usize)?.unit?,
            self.base.locations[slot as usize]?,
        ))
    }

    /// Returns the text that the index describes: the buffer when it is open, else the file if it
    /// still is what was indexed.
    pub(crate) fn text(&self, slot: Slot) -> Option<Arc<str>> {
        if let Some(file) = self.overlay.files.get(&slot)
            && let Some(buffer) = &file.buffer
        {
            return Some(buffer.clone());
        }
        let entry = self.entry(slot);
        entry.unit?;
        let path = entry.path.under(&self.root);
        let (bytes, _) = crate::walk::read(&path, class::MAX_BYTES + 1).ok()?;
        (ContentHash::of(&bytes) == entry.hash)
            .then(|| Arc::from(String::from_utf8_lossy(&bytes).as_ref()))
    }
}
