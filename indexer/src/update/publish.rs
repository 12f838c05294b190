//! From what the writer knows to what readers see, and to disk.

use std::{fs, path::Path};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    graph::NameIndex,
    reader::{Base, PathKind, Slot},
    store::{
        FileEntry, Layout, Manifest, StoreError, UnitInfo, UnitKey, UnitLog, UnitReader, WriteLock,
    },
    syntax::{ChunkTerms, Language, Unit},
    text::{self, TextIndex, paths::PathIndex, score::TextBase},
    vector::{OutsideModel, Row, Source, VectorBase, VectorLog},
    walk::{Fault, FileClass, Stat},
};

/// Units kept beyond those in use, so that switching back to a branch costs nothing.
const MIN_SPARE_UNITS: usize = 2_000;

/// The parts on disk, held by the one process that writes.
pub(super) struct Stores {
    pub(super) log: UnitLog,
    pub(super) text: TextIndex,
    pub(super) vectors: VectorLog,
    pub(super) outside: Option<VectorLog>,
    layout: Layout,
    _lock: WriteLock,
}

/// What was found on disk.
pub(super) struct Opened {
    pub(super) manifest: Manifest,
    pub(super) faults: Vec<Fault>,
}

/// What publishing made.
pub(super) struct Published {
    pub(super) base: Base,
    /// What nobody uses was dropped.
    pub(super) has_compacted: bool,
}

impl Stores {
    /// Opens the parts, replacing those that are damaged by empty ones.
    pub(super) fn open(layout: &Layout, lock: WriteLock) -> Result<(Self, Opened), StoreError> {
        let mut faults = Vec::new();
        let (log, n_lost) = UnitLog::open(&layout.units())?;
        if n_lost > 0 {
            faults.push(Fault::new(
                "",
                &format!("units.log was damaged: {n_lost} bytes dropped"),
            ));
        }
        let text = match TextIndex::open(&layout.text()) {
            Ok(text) => text,
            Err(error) => {
                faults.push(Fault::new(
                    "",
                    &format!("rebuilding the text index: {error}"),
                ));
                remove(&layout.text())?;
                TextIndex::open(&layout.text())?
            }
        };
        let vectors = VectorLog::open(&layout.vectors(), Source::Embedded)?;
        let mut manifest = match Manifest::read(&layout.manifest()) {
            Ok(manifest) => manifest.unwrap_or_default(),
            Err(error) => {
                faults.push(Fault::new("", &format!("starting afresh: {error}")));
                Manifest::default()
            }
        };
        let stores = Self {
            log,
            text,
            vectors,
            outside: None,
            layout: layout.clone(),
            _lock: lock,
        };
        doubt(&mut manifest, |unit| stores.known(unit).is_some());
        Ok((stores, Opened { manifest, faults }))
    }

    /// Returns what is stored of a unit, if all its parts are.
    pub(super) fn known(&self, unit: UnitKey) -> Option<UnitInfo> {
        let info = self.log.get(unit)?;
        // A unit without chunks has no documents and no rows anywhere.
        let has_all = info.n_lines == 0 || self.text.contains(unit) && self.vectors.contains(unit);
        has_all.then(|| info.clone())
    }

    /// Opens the rows of an outside model; those of the one before stay on disk.
    pub(super) fn use_outside(&mut self, model: &OutsideModel) -> Result<(), StoreError> {
        let log = VectorLog::open(&self.layout.vectors(), Source::Outside(model))?;
        self.outside = Some(log);
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        key: UnitKey,
        unit: &Unit,
        terms: Vec<ChunkTerms>,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        if self.log.get(key).is_none() {
            self.log.append(key, unit)?;
        }
        if !self.vectors.contains(key) {
            self.vectors.append(rows)?;
        }
        self.text.add(key, &unit.chunks, terms)
    }

    /// Makes everything added readable and safe, and writes the manifest last. After an error what
    /// is on disk is not what is known here: the parts must be opened anew.
    pub(super) fn publish(
        &mut self,
        manifest: &Manifest,
        disk_cap: u64,
    ) -> Result<Published, StoreError> {
        let live: FxHashSet<UnitKey> = manifest.files.iter().filter_map(|file| file.unit).collect();
        let n_spare = self.log.units().len().saturating_sub(live.len());
        let is_full = n_spare > 0 && self.layout.bytes_on_disk() > disk_cap;
        let has_compacted = n_spare > live.len().max(MIN_SPARE_UNITS) || is_full;
        if has_compacted {
            self.log.compact(|unit| live.contains(&unit))?;
            self.text.compact(|unit| live.contains(&unit))?;
            for vectors in std::iter::once(&mut self.vectors).chain(&mut self.outside) {
                vectors.compact(|unit| live.contains(&unit))?;
            }
        }
        self.log.flush()?;
        self.text.commit()?;
        manifest.write(&self.layout.manifest())?;
        let base = self.base(manifest.files.clone())?;
        Ok(Published {
            base,
            has_compacted,
        })
    }

    pub(super) fn base(&mut self, files: Vec<FileEntry>) -> Result<Base, StoreError> {
        let slots = Slots::new(&files);
        let vectors = self.vectors.base(|unit| slots.of(unit))?;
        let outside = match &mut self.outside {
            Some(outside) => outside.base(|unit| slots.of(unit))?,
            None => VectorBase::default(),
        };
        let searcher = self.text.searcher();
        build(
            files,
            slots,
            self.log.units(),
            self.log.reader(),
            searcher,
            (vectors, outside),
        )
    }
}

/// Returns what another process has published, and its generation.
pub(super) fn read_published(layout: &Layout) -> Result<Option<(Base, Manifest)>, StoreError> {
    let Some(mut manifest) = Manifest::read(&layout.manifest())? else {
        return Ok(None);
    };
    let (reader, units) = UnitLog::open_read_only(&layout.units())?;
    doubt(&mut manifest, |unit| units.contains_key(&unit));
    let searcher = text::open_read_only(&layout.text())?;
    let files = manifest.files.clone();
    let slots = Slots::new(&files);
    let base = build(files, slots, &units, reader, searcher, Default::default())?;
    Ok(Some((base, manifest)))
}

/// Marks files of which not everything is stored, so that they are looked at again.
fn doubt(manifest: &mut Manifest, is_stored: impl Fn(UnitKey) -> bool) {
    for file in &mut manifest.files {
        file.unit = file.unit.filter(|&unit| is_stored(unit));
        if file.unit.is_none() && file.class == FileClass::Content {
            file.stat = Stat::default();
        }
    }
}

/// Returns a base without files, for a follower that came before the first publishing.
pub(super) fn empty() -> Result<Base, StoreError> {
    let searcher = text::in_memory()?;
    let reader = UnitReader::default();
    build(
        Vec::new(),
        Slots::new(&[]),
        &FxHashMap::default(),
        reader,
        searcher,
        Default::default(),
    )
}

/// Which file stands for each unit.
struct Slots {
    first: FxHashMap<UnitKey, Slot>,
    twins: FxHashMap<Slot, Vec<Slot>>,
}

impl Slots {
    fn new(files: &[FileEntry]) -> Self {
        let mut first = FxHashMap::default();
        let mut twins: FxHashMap<Slot, Vec<Slot>> = FxHashMap::default();
        for (slot, file) in files.iter().enumerate() {
            let slot = slot as Slot;
            let Some(unit) = file.unit else { continue };
            let first_slot = *first.entry(unit).or_insert(slot);
            if first_slot != slot {
                twins.entry(first_slot).or_default().push(slot);
            }
        }
        Self { first, twins }
    }

    fn of(&self, unit: UnitKey) -> Option<Slot> {
        self.first.get(&unit).copied()
    }
}

fn build(
    files: Vec<FileEntry>,
    slots: Slots,
    units: &FxHashMap<UnitKey, UnitInfo>,
    reader: UnitReader,
    searcher: (tantivy::Searcher, text::Fields),
    (vectors, outside): (VectorBase, VectorBase),
) -> Result<Base, StoreError> {
    let mut names = Vec::new();
    let mut locations = Vec::with_capacity(files.len());
    let mut language_shares = [0.0_f32; Language::ALL.len()];
    for (slot, file) in files.iter().enumerate() {
        let info = file.unit.and_then(|unit| units.get(&unit));
        locations.push(info.map(|info| info.location));
        if let Some(info) = info {
            names.extend(info.names.iter().map(|&name| (name, slot as Slot)));
            language_shares[file.language as usize] += 1.0;
        }
    }
    let total = language_shares.iter().sum::<f32>().max(1.0);
    for share in &mut language_shares {
        *share = (*share / total).sqrt();
    }
    let text = TextBase::new(searcher, files.len(), |unit| slots.of(unit)).map_err(|source| {
        StoreError::Text {
            attempt: "read",
            source: Box::new(source),
        }
    })?;
    Ok(Base {
        kinds: files.iter().map(|file| PathKind::of(&file.path)).collect(),
        paths: PathIndex::new(files.iter().map(|file| &file.path)),
        names: NameIndex::new(names),
        files,
        locations,
        units: reader,
        text,
        vectors,
        outside,
        twins: slots.twins,
        language_shares,
    })
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", dir)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
