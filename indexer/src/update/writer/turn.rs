//! From memory to disk and to readers; and what a process does that has not its turn to write.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        Phase,
        examine::rows,
        line::Order,
        publish::{Published, Stores, read_published},
    },
    FIRST_PUBLISH, MAX_IN_MEMORY, MAX_RETRY, MAX_WANTED, Part, QUIET, RETRY, VECTORS_SHOWN, Writer,
};
use crate::{
    path::RepoPath,
    reader::{Base, Overlay, Reader},
    store::{Manifest, StoreError, WriteLock},
    vector::{ChunkId, OutsideModel, Row},
    walk::Stat,
};

impl Writer {
    /// Starts to keep vectors of an outside model.
    pub(super) fn use_outside(&mut self, model: OutsideModel) {
        if let Some(stores) = &mut self.stores
            && let Err(error) = stores.use_outside(&model)
        {
            self.trouble(Part::Vectors, &error);
            return;
        }
        self.forgive(Part::Vectors);
        if self.outside.as_ref() != Some(&model) {
            // What another model gave says nothing of this one.
            self.forget_vectors();
        }
        self.outside = Some(model);
        self.want_vectors();
        self.has_new_vectors = true;
    }

    fn forget_vectors(&mut self) {
        self.has_vectors.clear();
        self.shared.lock().known_texts.clear();
    }

    pub(super) fn keep_vectors(&mut self, vectors: Vec<(ChunkId, Option<Vec<f32>>)>) {
        let Some(dimensions) = self.outside.as_ref().map(|model| model.dimensions) else {
            return;
        };
        let Some(log) = self
            .stores
            .as_mut()
            .and_then(|stores| stores.outside.as_mut())
        else {
            return;
        };
        let mut keep = |id: ChunkId, vector: Option<Vec<f32>>| match vector {
            None => log.append_same(id).map(|_| ()),
            Some(vector) if vector.len() == dimensions && vector.iter().all(|x| x.is_finite()) => {
                log.append(&[Row::new(id, &vector)])
            }
            Some(_) => Ok(()),
        };
        let texts: Vec<u64> = vectors.iter().map(|(id, _)| id.text).collect();
        let kept: Result<(), StoreError> = vectors
            .into_iter()
            .try_for_each(|(id, vector)| keep(id, vector));
        match kept {
            Ok(()) => {
                self.forgive(Part::Vectors);
                self.shared.lock().known_texts.extend(texts);
            }
            Err(error) => self.trouble(Part::Vectors, &error),
        }
        self.has_new_vectors = true;
        let has_all = self.shared.lock().wanted.is_empty();
        if has_all {
            self.want_vectors();
        }
    }

    /// Makes a base with the vectors that came in: once all are there, now and then before.
    pub(super) fn show_vectors_if_due(&mut self) {
        let is_complete = self.shared.lock().wanted.is_empty();
        if !self.has_new_vectors
            || self.has_more()
            || !is_complete && self.last_publish.elapsed() < VECTORS_SHOWN
        {
            return;
        }
        self.has_new_vectors = false;
        self.last_publish = Instant::now();
        let Some(stores) = &mut self.stores else {
            return;
        };
        // The files of the base, not those since: they are in memory over it.
        match stores.base(self.base.files.clone()) {
            Ok(base) => {
                self.forgive(Part::Vectors);
                self.base = Arc::new(base);
                self.show();
            }
            Err(error) => self.trouble(Part::Vectors, &error),
        }
    }

    pub(super) fn publish_if_due(&mut self) {
        if self.stores.is_none() {
            return;
        }
        if !self.is_dirty {
            // Whoever waits for everything to be on disk has it.
            self.must_settle &= self.has_more();
            return;
        }
        let is_quiet = self.last_change.elapsed() >= QUIET;
        // Whoever opens a folder waits for the first index of it.
        let is_first = self.generation == 0;
        let is_due = if !self.has_more() {
            is_quiet
                || self.must_settle
                || self.has_unshown
                || is_first
                || self.fresh.len() > MAX_IN_MEMORY
        } else {
            self.last_publish.elapsed() >= self.publish_interval && self.fresh.len() < MAX_IN_MEMORY
                || self.fresh.len() >= MAX_IN_MEMORY
        };
        if is_due {
            self.publish();
        }
    }

    /// Puts everything on disk and makes it the base. On failure what is shown stays as it was, and
    /// what is on disk is opened anew in a while.
    pub(super) fn publish(&mut self) {
        let started = Instant::now();
        let Some(stores) = &mut self.stores else {
            return;
        };
        let mut publish = || -> Result<Published, StoreError> {
            for file in self.fresh.values() {
                let Some(unit) = file.entry.unit else {
                    continue;
                };
                if stores.known(unit).is_none() {
                    let rows = rows(unit, &file.terms);
                    stores.add(unit, &file.unit, file.terms.clone(), &rows)?;
                }
            }
            let manifest = Manifest {
                files: self.files.values().cloned().collect(),
                commit: self.indexed_commit.clone(),
                generation: self.generation + 1,
            };
            stores.publish(&manifest, self.options.disk_cap)
        };
        match publish() {
            Ok(Published {
                base,
                has_compacted,
            }) => {
                self.generation += 1;
                self.base = Arc::new(base);
                self.fresh.clear();
                self.gone.clear();
                self.is_dirty = false;
                self.has_unshown = false;
                self.must_settle = false;
                self.forgive_disk();
                if has_compacted {
                    self.forget_vectors();
                }
                if !self.has_more() && self.phase == Phase::Indexing {
                    self.indexed_commit.clone_from(&self.head.commit);
                    self.phase = Phase::Ready;
                }
                self.show();
                self.want_vectors();
            }
            Err(error) => self.let_go(&error),
        }
        self.last_publish = Instant::now();
        // Publishing stays a small part of a long build.
        self.publish_interval = (3 * self.publish_interval)
            .min(Duration::from_secs(120))
            .max(8 * started.elapsed());
        if !self.has_more() {
            self.publish_interval = FIRST_PUBLISH;
        }
    }

    /// Gives up what is on disk, which is not what was written there, until it is opened anew.
    pub(super) fn let_go(&mut self, error: &StoreError) {
        tracing::warn!(%error, "the index cannot be kept on disk");
        self.trouble(Part::Publish, &error);
        self.stores = None;
        self.retry_at = Some(Instant::now() + self.retry_after);
        self.retry_after = MAX_RETRY.min(2 * self.retry_after);
    }

    /// The disk took all there was for it, or another process writes.
    fn forgive_disk(&mut self) {
        self.forgive(Part::Publish);
        self.retry_after = RETRY;
    }

    /// Writes what is known of the past to disk, if this process has its turn.
    pub(super) fn keep_history(&mut self) {
        if self.stores.is_none() {
            return;
        }
        match self.history.write(&self.layout.history()) {
            Ok(()) => self.forgive(Part::History),
            Err(error) => self.trouble(Part::History, &error),
        }
    }

    /// Publishes a reader of the present state, in memory.
    pub(super) fn show(&self) {
        let files = self
            .fresh
            .iter()
            .filter(|(path, _)| !self.buffers.contains_key(*path))
            .map(|(_, file)| file.clone())
            .chain(self.buffers.values().map(|buffer| buffer.file.clone()));
        let gone = self
            .gone
            .iter()
            .filter(|path| !self.buffers.contains_key(*path))
            .cloned();
        let overlay = Overlay::new(&self.base, files, gone);
        let mut state = self.shared.lock();
        let shown = &state.reader;
        let is_known =
            Arc::ptr_eq(&shown.base, &self.base) && Arc::ptr_eq(&shown.history, &self.history);
        let past_slots = if is_known {
            shown.past_slots.clone()
        } else {
            self.base.past_slots(&self.history)
        };
        state.reader = Reader {
            past_slots,
            root: state.reader.root.clone(),
            base: self.base.clone(),
            overlay: Arc::new(overlay),
            history: self.history.clone(),
        };
    }

    /// Lists chunks that the outside model has not seen, the first [`MAX_WANTED`].
    pub(super) fn want_vectors(&mut self) {
        let Some(log) = self
            .stores
            .as_ref()
            .and_then(|stores| stores.outside.as_ref())
        else {
            return;
        };
        let base = &self.base;
        let mut wanted = Vec::new();
        for (file, location) in base.files.iter().zip(&base.locations) {
            let (Some(unit), Some(location)) = (file.unit, location) else {
                continue;
            };
            if self.has_vectors.contains(&unit) {
                continue;
            }
            let Ok(stored) = base.units.unit(unit, *location) else {
                continue;
            };
            let n_before = wanted.len();
            for (at, chunk) in stored.chunks.iter().enumerate() {
                let id = ChunkId {
                    unit,
                    chunk: at as u32,
                    text: 0,
                };
                if !log.has_chunk(unit, id.chunk) {
                    wanted.push((id, file.path.clone(), chunk.first_line, chunk.end_line));
                }
            }
            if wanted.len() == n_before {
                self.has_vectors.insert(unit);
            } else if wanted.len() >= MAX_WANTED {
                break;
            }
        }
        // Taken from the end.
        wanted.reverse();
        let mut state = self.shared.lock();
        state.wanted = wanted;
        if state.known_texts.is_empty() {
            state.known_texts = log.texts().collect();
        }
    }

    /// As a follower: takes over when the other process is gone, else reads what it published.
    pub(super) fn ask_for_turn(&mut self) {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        match self.layout.lock() {
            Ok(Some(lock)) => {
                if let Err(error) = self.take_turn(lock) {
                    self.let_go(&error);
                }
            }
            Ok(None) => {
                self.retry_at = None;
                self.forgive_disk();
                self.follow();
            }
            Err(error) => self.let_go(&error),
        }
    }

    /// Opens what is on disk to write there.
    fn take_turn(&mut self, lock: WriteLock) -> Result<(), StoreError> {
        let (mut stores, opened) = Stores::open(&self.layout, lock)?;
        for fault in opened.faults {
            tracing::warn!("{}", fault.message);
        }
        if let Some(model) = &self.outside
            && let Err(error) = stores.use_outside(model)
        {
            self.trouble(Part::Vectors, &error);
        }
        let base = stores.base(opened.manifest.files)?;
        self.stores = Some(stores);
        self.generation = opened.manifest.generation;
        self.retry_at = None;
        // Else it is what waits to be written that the disk must take.
        if !self.is_dirty {
            self.forgive_disk();
        }
        self.forget_vectors();
        self.keep_history();
        self.adopt(base);
        Ok(())
    }

    /// Reads what the process that writes has published since.
    fn follow(&mut self) {
        let path = self.layout.manifest();
        let stat = fs::metadata(&path).ok().map(|found| Stat::of(&found));
        // Replaced at each publishing, so its time tells.
        if stat.is_some() && stat == self.seen_manifest {
            return;
        }
        match Manifest::read(&path) {
            Ok(Some(manifest)) if manifest.generation != self.generation => {
                match read_published(&self.layout) {
                    Ok(Some((base, manifest))) => {
                        self.generation = manifest.generation;
                        self.adopt(base);
                        self.seen_manifest = stat;
                    }
                    Ok(None) => {}
                    Err(error) => self.trouble(Part::Turn, &error),
                }
            }
            Ok(_) => self.seen_manifest = stat,
            Err(error) => self.trouble(Part::Turn, &error),
        }
    }

    /// Takes a base that was read from disk and looks at everything once more against it.
    fn adopt(&mut self, base: Base) {
        let files = base
            .files
            .iter()
            .map(|file| (file.path.clone(), file.clone()))
            .collect();
        let before = std::mem::replace(&mut self.files, files);
        self.base = Arc::new(base);
        // What waits was told of when it was noticed: the list of all files does not tell it anew.
        for (path, entry) in before {
            if self
                .files
                .get(&path)
                .is_none_or(|now| now.stat != entry.stat)
            {
                self.await_file(path, Order::Last);
            }
        }
        let newer: Vec<RepoPath> = self.fresh.drain().map(|(path, _)| path).collect();
        for path in newer.into_iter().chain(std::mem::take(&mut self.gone)) {
            self.await_file(path, Order::First);
        }
        self.forgive(Part::Turn);
        self.must_walk = true;
        self.show();
    }
}
